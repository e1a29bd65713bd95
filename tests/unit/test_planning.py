"""plan and build make the same choice from the same checks, and none in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from build_matrix.catalog import llama_releases, toolkits
from build_matrix.cli.options import parse_defines, parse_request
from build_matrix.cli.plan import print_plan
from build_matrix.compile.flags import FIXED, definitions, gencodes
from build_matrix.errors import BuildMatrixError, ConfigurationError, MissingPrerequisiteError, NoCompatibleChoiceError
from build_matrix.locks import locked_llama_releases, locked_options
from build_matrix.model import (
    COMPILERS,
    Architecture,
    BuildInputs,
    Driver,
    DriverEvidence,
    Finding,
    Gpu,
    HostEnvironment,
    Machine,
    PciGpu,
    Plan,
    Request,
)
from build_matrix.pipeline.matrix import read_matrix
from build_matrix.pipeline.planning import (
    check_request_defines,
    make_checked_plan,
    require_requested_cuda,
    visible_machine,
)
from build_matrix.platforms import find_platform
from build_matrix.resolve import make_plan, parse_architectures, predict, require_cell
from build_matrix.resolve.rules import sources_compile, toolkit_targets

ALL = tuple(toolkits())


def with_gpus(machine: Machine, capabilities: str, cuda: str, version: str, **environment: str) -> Machine:
    gpus = tuple(
        Gpu(name=f"GPU {word}", uuid=f"GPU-{word}", compute_capability=word) for word in capabilities.split(",") if word
    )
    return msgspec.structs.replace(
        machine,
        driver=Driver(version=version, cuda=cuda),
        driver_problem="",
        gpus=gpus,
        evidence=DriverEvidence(init_error=0),
        environment=HostEnvironment(**environment),  # type: ignore[arg-type]
    )


def plan_of(machine: Machine, **wishes: object) -> Plan:
    return make_plan(Request(**wishes), machine, locked_llama_releases(), ALL)  # type: ignore[arg-type]


def refused(machine: Machine, **wishes: object) -> BuildMatrixError:
    with pytest.raises(BuildMatrixError) as caught:
        require_cell(plan_of(machine, **wishes), machine, ALL)
    return caught.value


# --- runs here -----------------------------------------------------------------------------------------


def test_without_a_driver_no_row_says_that_it_runs_here(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(machine)
    assert {candidate.answer("run") for candidate in plan.candidates} == {"not known"}
    assert plan.cell is not None
    print_plan(plan)
    printed = capsys.readouterr().out
    assert printed.count("not known") >= len(ALL)
    assert printed.count("It is not known which CUDA version the driver supports: no NVIDIA driver.") == 1
    assert "not known: It" not in printed


def test_a_claimed_driver_and_gpu_are_known(machine: Machine) -> None:
    claims = {"BUILD_MATRIX_DRIVER_CUDA": "12.9", "BUILD_MATRIX_COMPUTE_CAPABILITIES": "8.9"}
    claimed = msgspec.structs.replace(with_gpus(machine, "8.9", "12.9", "claimed"), overrides=claims)
    answers = {candidate.cuda: candidate.answer("run") for candidate in plan_of(claimed).candidates}
    assert answers["12.9"] == answers["11.8"] == "yes"
    assert answers["13.0"] == "no"


def test_a_driver_without_a_gpu_leaves_open_whether_the_code_fits(machine: Machine) -> None:
    here = with_gpus(machine, "", "12.9", "576.52")
    plan = plan_of(here, architectures=("89",))
    answers = {candidate.cuda: candidate.answer("run") for candidate in plan.candidates}
    assert answers["12.9"] == "not known"
    assert answers["13.0"] == "no"


def test_the_plans_json_says_what_is_not_known(machine: Machine) -> None:
    decoded = msgspec.json.decode(msgspec.json.encode(plan_of(machine)), type=Plan)
    assert decoded == plan_of(machine)
    findings = msgspec.to_builtins(decoded)["candidates"][0]["findings"]
    assert {"known", "passed", "fact"} <= set(findings[0])
    assert any(not finding["known"] for finding in findings)
    assert "known" in str(msgspec.json.schema(Plan))


# --- the architecture ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "evidence", "why"),
    [
        ("Driver/library version mismatch", {"nvml_problem": "Driver/library version mismatch"}, "version mismatch"),
        ("no answer within 10 s", {"cuda_problem": "no answer within 10 s"}, "within 10 s"),
        ("the GPU uses nouveau", {"pci": (PciGpu(address="0000:01:00.0"),)}, "nouveau"),
        ("no NVIDIA driver", {"pci": (PciGpu(address="0000:01:00.0"),)}, "0000:01:00.0"),
        ("", {"modules": ("nvidia",)}, "o NVIDIA driver"),
        ("it is closed", {"nodes": {"nvidiactl": "EACCES"}}, "closed"),
        ("it is broken", {"library_error": "libcuda.so.1: file too short"}, "broken"),
    ],
)
def test_a_gpu_that_cannot_be_read_is_not_taken_for_none(
    machine: Machine, problem: str, evidence: dict[str, Any], why: str
) -> None:
    here = msgspec.structs.replace(machine, driver_problem=problem, evidence=DriverEvidence(**evidence))
    with pytest.raises(ConfigurationError) as caught:
        plan_of(here)
    assert why in caught.value.problem
    assert "--arch" in caught.value.remedy
    assert plan_of(here, architectures=("90",)).cell is not None


def test_a_driver_without_a_gpu_asks_for_the_architecture_with_what_is_wrong(machine: Machine) -> None:
    here = with_gpus(machine, "", "12.8", "570.1")
    lost = msgspec.structs.replace(here, gpu_problems=("GPU 0: GPU is lost", "GPU 1: it is odd."))
    broken = msgspec.structs.replace(here, driver_problem="cuInit answers error 803")
    for machine_, why in (
        (here, "no GPU responds"),
        (lost, r"^GPU 0: GPU is lost; GPU 1: it is odd\. "),
        (broken, "error 803"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            plan_of(machine_)


@pytest.mark.parametrize(
    ("environment", "where"),
    [({}, ""), ({"container": "docker"}, " in this container"), ({"container": "lxc"}, " in this container")],
)
@pytest.mark.parametrize(
    "problem", ["", "no NVIDIA driver", "Windows gives this WSL distribution no NVIDIA driver and no GPU"]
)
def test_where_nothing_hints_at_a_gpu_the_default_is_taken_and_the_note_is_true(
    machine: Machine, problem: str, environment: dict[str, Any], where: str
) -> None:
    missing = "libcuda.so.1: cannot open shared object file: No such file or directory"
    evidence = DriverEvidence(library_error=missing, nodes={"nvidiactl": "missing", "dxg": "ok"}, pci=())
    here = msgspec.structs.replace(
        machine, driver_problem=problem, evidence=evidence, environment=HostEnvironment(**environment)
    )
    plan = plan_of(here, cuda="13")
    assert plan.cell is not None
    assert plan.cell.label == "cu130.sm89"
    note = f"architecture 89: the default, because there is no NVIDIA driver{where} (--arch changes it)"
    assert plan.notes == (note,)


def test_for_a_claimed_driver_without_a_gpu_the_note_says_that_none_is_claimed(machine: Machine) -> None:
    claimed = with_gpus(machine, "", "12.9", "claimed")
    claimed = msgspec.structs.replace(claimed, overrides={"BUILD_MATRIX_DRIVER_CUDA": "12.9"})
    plan = plan_of(claimed)
    assert "because no GPU is claimed" in plan.notes[0]
    assert plan.cell is not None
    assert plan.cell.label == "cu129.sm89"


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        (["8.9"], "89-real"), (["sm_89"], "89-real"), (["SM89"], "89-real"), (["compute_90"], "90-virtual"),
        (["89,89-real", "sm_89"], "89-real"), (["90;80"], "90-real 80-real"), (["9.0+PTX"], "90-real 90-virtual"),
        (["12.0a"], "120a-real"), (["120a"], "120a-real"), (["ptx90"], "90-virtual"),
        ([" 89 , 90-virtual"], "89-real 90-virtual"),
        (["100f-virtual"], "100f-virtual"), (["native"], "75-real 86-real"), (["native,90"], "75-real 86-real 90-real"),
        (["10.0"], "100-real"), (["compute_90a"], "90a-virtual"),
    ],
)  # fmt: skip
def test_an_architecture_may_be_spelled_as_cmake_nvcc_or_pytorch_do(spelled: list[str], expected: str) -> None:
    own = (Architecture(number=75), Architecture(number=86))
    assert [one.cmake for one in parse_architectures(spelled, own)] == expected.split()


@pytest.mark.parametrize(
    ("spelled", "problem", "remedy"),
    [
        ("all", "'all' is not a CUDA architecture", "build -- --all"), ("native", "'native'", "No GPU of this machine"),
        ("", "''", "--arch 89"), ("banana", "'banana'", "--arch 89"), ("89-banana", "'89-banana'", "--arch 89"),
        ("sm_90-virtual", "both machine code and PTX", "89-virtual"), ("compute_89-real", "both", "89-virtual"),
        ("90-virtual+PTX", "both", "89-virtual"), ("ada", "'ada'", "--arch 89"), ("089", "'089'", "--arch 89"),
        ("8.10", "'8.10'", "--arch 89"), ("-89", "'-89'", "--arch 89"), ("sm_", "'sm_'", "--arch 89"),
        ("1000", "'1000'", "--arch 89"),
        ("8", "'8'", "--arch 89"), ("8\u0669", "'8\u0669'", "--arch 89"),
    ],
)  # fmt: skip
def test_any_other_spelling_is_one_sentence(spelled: str, problem: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_architectures([spelled])
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_the_order_of_architectures_does_not_change_what_is_built(machine: Machine) -> None:
    cells = [plan_of(machine, architectures=words).cell for words in (("90", "8.0"), ("sm_80,90,80",), ("80;90",))]
    assert cells[0] == cells[1] == cells[2] != plan_of(machine, architectures=("80",)).cell


# --- GPUs that are hidden ------------------------------------------------------------------------------


def test_the_plan_is_for_the_gpus_that_a_program_may_use(machine: Machine) -> None:
    two = with_gpus(machine, "8.9,7.5", "13.0", "580.65.06", visible_devices="GPU-7.5")
    plan = make_checked_plan(Request(), two, ALL)
    assert plan.cell is not None
    assert plan.cell.label == "cu130.sm75"
    assert "CUDA_VISIBLE_DEVICES='GPU-7.5' leaves 1 of 2 GPUs: planned for GPU 7.5" in plan.notes
    everything = with_gpus(machine, "8.9,7.5", "13.0", "580.65.06")
    assert visible_machine(everything) == (everything, "")


def test_where_every_gpu_is_hidden_the_plan_is_for_all_and_says_so(machine: Machine) -> None:
    hidden = with_gpus(machine, "8.9,7.5", "13.0", "580.65.06", visible_devices="")
    same, note = visible_machine(hidden)
    assert same is hidden
    assert "hides every GPU; this plan is for all of them" in note


def test_claimed_gpus_are_not_hidden(machine: Machine) -> None:
    two = with_gpus(machine, "8.9,7.5", "13.0", "claimed", visible_devices="0")
    claimed = msgspec.structs.replace(two, overrides={"BUILD_MATRIX_COMPUTE_CAPABILITIES": "8.9,7.5"})
    assert visible_machine(claimed) == (claimed, "")


# --- what cannot be built ------------------------------------------------------------------------------


def test_hopper_with_a_driver_of_11_8_gets_no_wheel_that_cannot_be_compiled(machine: Machine) -> None:
    gcc_11 = msgspec.structs.replace(machine.compilers[0], version="11.4")
    hopper = with_gpus(msgspec.structs.replace(machine, compilers=(gcc_11,)), "9.0", "11.8", "520.61.05")
    error = refused(hopper)
    assert isinstance(error, NoCompatibleChoiceError)
    assert (
        "A CUDA 11 wheel is not an option: CUDA 11.8 cannot compile llama-cpp-python 0.3.36 for sm_90" in error.remedy
    )
    assert "build-cuda11" not in error.remedy
    assert "--llama 0.3.16" in error.remedy
    older = plan_of(hopper, llama="0.3.16")
    assert older.cell is not None
    assert older.cell.label == "cu118.sm90"
    assert "cannot compile llama-cpp-python 0.3.36" in refused(hopper, cuda="11").problem


def test_no_plan_ends_in_a_cell_that_the_catalog_excludes(machine: Machine) -> None:
    gcc_11 = msgspec.structs.replace(
        machine, compilers=(msgspec.structs.replace(machine.compilers[0], version="11.4"),)
    )
    for cuda in ALL:
        for llama in llama_releases():
            for codes in (("80",), ("90",), ("90-virtual",), ("90a",), ("100f",), ("120",), ("70", "90")):
                cell = plan_of(gcc_11, cuda=cuda, llama=llama, architectures=codes, ignore_driver=True).cell
                if cell:
                    row = llama_releases()[llama]
                    assert sources_compile(toolkits()[cuda], row, cell.architectures).passed
                    assert toolkit_targets(toolkits()[cuda], cell.architectures).passed


def test_every_cell_of_the_matrix_can_be_compiled() -> None:
    for row in read_matrix(Path(__file__).parents[2] / "matrix.toml").cell:
        toolkit, release = toolkits()[row.cuda], llama_releases()[row.llama]
        for finding in (toolkit_targets(toolkit, row.compiled), sources_compile(toolkit, release, row.compiled)):
            assert finding.passed, f"{row.name}: {finding.fact}"


def test_a_matrix_with_a_cell_that_cannot_be_compiled_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "matrix.toml"
    path.write_text('[[cell]]\nllama = "0.3.36"\ncuda = "11.8"\narchitectures = ["90"]\n')
    with pytest.raises(ConfigurationError, match=r"0\.3\.36\+cu118\.sm90.*cudaGridDependencySynchronize") as caught:
        read_matrix(path)
    assert "--llama 0.3.16" in caught.value.remedy
    path.write_text('[[cell]]\nllama = "0.3.36"\ncuda = "12.7"\narchitectures = ["90"]\n')
    with pytest.raises(ConfigurationError, match=r"CUDA 12\.7 is not in the catalog"):
        read_matrix(path)


def test_a_driver_that_is_older_than_every_toolkit_has_no_way_out(machine: Machine) -> None:
    error = refused(with_gpus(machine, "6.1", "10.2", "440.33"), cuda="12")
    assert "Driver 440.33 supports CUDA up to 10.2" in error.problem
    assert "build-cuda" not in error.remedy


def test_a_gpu_that_is_newer_than_every_toolkit_is_offered_ptx(machine: Machine) -> None:
    newest = with_gpus(machine, "15.0", "14.0", "700.1")
    error = refused(newest)
    assert error.problem == "CUDA 13.5 cannot compile for architecture 150 (sm_150)."
    assert "--arch 110-virtual" in error.remedy
    cell = plan_of(newest, architectures=("110-virtual",)).cell
    assert cell is not None
    assert cell.cuda == "13.5"


def test_a_way_out_is_named_only_where_it_can_be_built(machine: Machine) -> None:
    old = with_gpus(machine, "8.9", "11.8", "520.61.05")
    assert "not an option: CUDA 11.8 and llama-cpp-python 0.3.36 accept gcc 11" in refused(old, cuda="13").remedy
    gcc_11 = msgspec.structs.replace(old, compilers=(msgspec.structs.replace(old.compilers[0], version="11.4"),))
    assert "Or build a wheel that runs on this driver: nox -s build-cuda11." in refused(gcc_11, cuda="13").remedy


def test_a_compiler_that_was_refused_is_why_there_is_none(machine: Machine) -> None:
    problem = Finding(rule="r", kind="build", passed=False, fact="CXX names 'gcc'.", remedy="Set CXX to g++.")
    here = msgspec.structs.replace(machine, compilers=(), compiler_problems=(problem,))
    error = refused(here)
    assert isinstance(error, MissingPrerequisiteError)
    assert (error.problem, error.remedy) == (problem.fact, problem.remedy)
    assert problem.fact in [finding.fact for finding in plan_of(here).candidates[0].failed("build")]
    assert "no C++ compiler" in refused(msgspec.structs.replace(machine, compilers=())).problem


def test_what_rules_out_every_toolkit_is_printed_once(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(plan_of(msgspec.structs.replace(machine, compilers=())))
    printed = capsys.readouterr().out
    assert printed.count("There is no C++ compiler on this machine.") == 1
    assert "none of them: There is no C++ compiler" in printed


def test_what_of_cxx_is_left_out_is_a_note_of_the_plan(machine: Machine) -> None:
    here = msgspec.structs.replace(machine, compiler_notes=("CXX: ccache is ignored",))
    assert "CXX: ccache is ignored" in plan_of(here).notes


def test_compilers_that_could_not_be_examined_are_not_called_missing(machine: Machine) -> None:
    error = refused(msgspec.structs.replace(machine, compilers=(), problems=(f"{COMPILERS} (MemoryError: )",)))
    assert isinstance(error, MissingPrerequisiteError)
    assert error.problem == "The C++ compilers of this machine could not be examined."
    assert "doctor" in error.remedy


def test_of_two_accepted_compilers_the_first_is_taken(machine: Machine) -> None:
    first = machine.compilers[0]
    second = msgspec.structs.replace(first, name="clang", version="15.0", cxx="/usr/bin/clang++")
    plan = plan_of(msgspec.structs.replace(machine, compilers=(first, second)), cuda="13.0")
    assert plan.compiler == first


def test_an_installed_toolkit_must_be_what_cuda_asks_for() -> None:
    for wanted in ("", "12", "12.8", " 12 "):
        require_requested_cuda(wanted, "12.8", Path("/opt/cuda"))
    for wanted in ("13", "12.80", "1", "12.9"):
        with pytest.raises(ConfigurationError, match=r"is CUDA 12\.8, but --cuda"):
            require_requested_cuda(wanted, "12.8", Path("/opt/cuda"))


@pytest.mark.parametrize("llama", ["0.3.16", "0.3.36"])
def test_89_is_not_compiled_from_the_ptx_of_80_where_the_sources_tell_them_apart(llama: str) -> None:
    """mmvq.cu of 0.3.36 has other code for 89 than for 80; tests/integration/test_same_ptx.py compiles both."""
    codes = gencodes(llama_releases()[llama], [Architecture(number=80), Architecture(number=89)])
    oldest = {"0.3.16": 80, "0.3.36": 89}[llama]
    assert codes == ("arch=compute_80,code=sm_80", f"arch=compute_{oldest},code=sm_89")


# --- --define ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("define", "problem"),
    [
        ("FOO=1", "has no option FOO"), ("LLAMA_CUBLAS=ON", "has no option LLAMA_CUBLAS"),
        ("LLAMA_BUILD_NUMBER=7", "LLAMA_BUILD_NUMBER is an option"), ("LLAMA_BUILD_COMMIT=x", "sets itself"),
        ("CMAKE_PLATFORM_NO_VERSIONED_SONAME=OFF", "sets itself"), ("GGML_CUDA=OFF", "sets itself"),
        ("GGML_CUDA_FA=banana", "is a switch"), ("CMAKE_CUDA_FLAGS=-O3 -arch=sm_90", "contains -arch"),
        ("CMAKE_CUDA_FLAGS=--generate-code=arch=compute_90,code=sm_90", "contains --generate-code"),
        ("CMAKE_CUDA_FLAGS_RELEASE=-ccbin g++-9", "contains -ccbin"),
    ],
)  # fmt: skip
def test_plan_refuses_what_build_refuses(machine: Machine, define: str, problem: str) -> None:
    request = parse_request("13", "", None, [define], ignore_driver=False)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        make_checked_plan(request, machine, ALL)
    assert caught.value.exit_code == 2
    assert caught.value.remedy


@pytest.mark.parametrize(
    "define",
    ["GGML_CUDA_FA=off", "GGML_CUDA_FA=1", "GGML_CUDA_COMPRESSION_MODE=none", "CMAKE_CUDA_FLAGS=-lineinfo",
     "CMAKE_CXX_FLAGS=-march=x86-64-v3", "CMAKE_CUDA_FLAGS=-diag-suppress 1 --codebook"],
)  # fmt: skip
@pytest.mark.parametrize("llama", ["0.3.16", "0.3.36"])
def test_what_the_sources_know_is_taken(llama: str, define: str) -> None:
    check_request_defines(parse_request("", llama, None, [define], ignore_driver=False), llama)


@pytest.mark.parametrize(
    "defines",
    [["A"], ["=1"], ["A="], [""], ["="], ["GGML_CUDA_FA:BOOL=ON"], ["-DGGML_CUDA_FA=ON"], ["A B=1"], ["\xc9=1"],
     ["1A=1"],     ["A=1\n2"], ["A=\udcff"], ["A=\x1b[0m"], ["A=1", "A=2"]],
)  # fmt: skip
def test_a_define_that_is_not_one_name_and_one_value_is_one_sentence(defines: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_defines(defines)
    assert str(caught.value).encode()


def test_a_define_may_be_repeated_and_hold_what_lists_and_paths_hold() -> None:
    assert parse_defines(["A=1", "B=x;y z=\xe9", "A=1"]) == {"A": "1", "B": "x;y z=\xe9"}


def test_every_definition_that_the_build_sets_itself_is_refused(inputs: BuildInputs) -> None:
    """Flags are joined with those of the user; the release's options may be changed; all else is fixed."""
    given = msgspec.structs.replace(inputs.cell, defines=dict.fromkeys(FIXED, "user"))
    values = definitions(msgspec.structs.replace(inputs, cell=given), Path("/work"), ["nvidia/lib"])
    plain = definitions(inputs, Path("/work"), ["nvidia/lib"])
    free = {*inputs.release.options, *find_platform(inputs.cell.platform).options}
    own = {name for name in plain if name not in free and "_FLAGS" not in name}
    assert own <= FIXED
    assert {name: values[name] for name in own} == {name: plain[name] for name in own}


@pytest.mark.parametrize("llama", locked_llama_releases())
def test_the_locked_options_hold_what_the_catalog_sets(llama: str) -> None:
    options = locked_options(llama)
    assert set(llama_releases()[llama].options) <= set(options.names)
    assert set(find_platform("linux-x86_64").options) <= set(options.names)
    assert not set(options.switches) & set(options.values)
    assert "GGML_CUDA_FA" in options.switches
    assert "GGML_CUDA_COMPRESSION_MODE" in options.values


def test_a_release_whose_options_are_not_locked_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"options\.toml lacks the options of llama-cpp-python 0\.0\.1"):
        locked_options("0.0.1")


def test_a_prediction_of_a_label_without_architectures_is_not_known(machine: Machine) -> None:
    findings = predict("12.4", (), with_gpus(machine, "8.9", "13.0", "580.65.06"), {})
    assert [finding.rule for finding in findings if not finding.known] == ["code for the GPU"]


@pytest.mark.parametrize("spelled", ["8.9 9.0", "89, 90", "89;90", " 89  90 ", "8.9 ; 9.0"])
def test_architectures_are_split_at_commas_semicolons_and_blanks(spelled: str) -> None:
    assert [one.label for one in parse_architectures((spelled,))] == ["sm89", "sm90"]


@pytest.mark.parametrize("spelled", ["", "89,", ",89", "89,,90"])
def test_an_empty_architecture_is_refused(spelled: str) -> None:
    with pytest.raises(ConfigurationError, match="'' is not a CUDA architecture"):
        parse_architectures((spelled,))
