"""Every choice is made before anything is downloaded, and what cannot be built is refused in one sentence."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_matrix.catalog import llama_releases, toolkits
from build_matrix.compile.flags import gencodes
from build_matrix.errors import (
    BuildMatrixError,
    ConfigurationError,
    MissingPrerequisiteError,
    NoCompatibleChoiceError,
)
from build_matrix.locks import locked_llama_releases, locked_toolkits
from build_matrix.model import Architecture, Cell, Driver, Gpu, HostCompiler, Machine, Plan, Request, digest_of
from build_matrix.resolve import make_plan, require_cell, why_not_compiled


def pick(machine: Machine, locked: tuple[str, ...] = locked_toolkits(), **wishes: object) -> Plan:
    """The plan; where nothing can be built, the error of require_cell."""
    plan = make_plan(Request(**wishes), machine, locked_llama_releases(), locked)  # type: ignore[arg-type]
    require_cell(plan, machine, locked)
    return plan


def cell_of(plan: Plan) -> Cell:
    assert plan.cell is not None
    return plan.cell


def with_gpu(machine: Machine, capabilities: str, cuda: str, version: str = "580.1") -> Machine:
    words = capabilities.split(",")
    gpus = tuple(Gpu(name=f"GPU {word}", uuid=f"GPU-{word}", compute_capability=word) for word in words)
    driver = Driver(version=version, cuda=cuda)
    return msgspec.structs.replace(machine, driver=driver, driver_problem="", gpus=gpus)


def test_without_a_driver_the_default_is_the_first_minor_architecture_89_and_the_newest_release(
    machine: Machine,
) -> None:
    plan = pick(machine, cuda="13")
    assert (cell_of(plan).cuda, cell_of(plan).label) == ("13.0", "cu130.sm89")
    assert cell_of(plan).llama == locked_llama_releases()[-1]
    assert any("89" in note and "no NVIDIA driver" in note for note in plan.notes)


def test_with_a_gpu_its_own_architecture_and_the_newest_minor_that_the_driver_speaks(
    machine: Machine,
) -> None:
    plan = pick(with_gpu(machine, "9.0", "13.2"), cuda="13")
    assert (cell_of(plan).cuda, cell_of(plan).architectures) == ("13.2", (Architecture(number=90),))


@pytest.mark.parametrize(
    ("wishes", "error", "words"),
    [
        ({"architectures": ("banana",)}, ConfigurationError, "'banana' is not a CUDA architecture"),
        ({"architectures": ("89,",)}, ConfigurationError, "'' is not a CUDA architecture"),
        (
            {"architectures": ("52",), "cuda": "13"},
            NoCompatibleChoiceError,
            "cannot compile for architecture 52",
        ),
        ({"llama": "0.0.1"}, ConfigurationError, "0.0.1 is not locked"),
        ({"cuda": "14"}, ConfigurationError, "CUDA 14 is not in the catalog"),
    ],
)
def test_bad_wishes_are_refused_with_their_exit_code(
    machine: Machine, wishes: dict[str, object], error: type[BuildMatrixError], words: str
) -> None:
    with pytest.raises(error) as caught:
        pick(machine, **wishes)
    assert words in caught.value.problem
    assert caught.value.remedy


def test_what_may_be_chosen_instead_is_listed(machine: Machine) -> None:
    releases, minors = locked_llama_releases(), ("12.4", "13.0")
    with pytest.raises(ConfigurationError) as caught:
        make_plan(Request(llama="0.0.1"), machine, (*releases, "9.9.9"), minors)
    assert f"Choose one of {', '.join(releases)}, or add it" in caught.value.remedy
    with pytest.raises(ConfigurationError) as caught:
        make_plan(Request(cuda="14"), machine, releases, minors)
    assert "Choose one of 12.4, 13.0, or a family" in caught.value.remedy
    with pytest.raises(ConfigurationError) as caught:
        why_not_compiled("14", llama_releases()[releases[-1]], [Architecture(number=89)])
    assert caught.value.remedy == f"Choose one of {', '.join(ALL)}."


@pytest.mark.parametrize("version", ["7.5.0", "17.1.0"])
def test_a_compiler_that_is_too_old_or_too_new_is_refused(machine: Machine, gcc: HostCompiler, version: str) -> None:
    other = msgspec.structs.replace(machine, compilers=(msgspec.structs.replace(gcc, version=version),))
    with pytest.raises(NoCompatibleChoiceError, match=f"g\\+\\+ is {version}"):
        pick(other, cuda="13.0")


def test_of_several_compilers_the_first_accepted_one_is_taken(machine: Machine, gcc: HostCompiler) -> None:
    new = msgspec.structs.replace(gcc, version="17.1.0")
    plan = pick(msgspec.structs.replace(machine, compilers=(new, gcc)), cuda="13.0")
    assert plan.compiler == gcc


def test_no_compiler_is_exit_code_3(machine: Machine) -> None:
    with pytest.raises(MissingPrerequisiteError, match="no C\\+\\+ compiler") as caught:
        pick(msgspec.structs.replace(machine, compilers=()))
    assert caught.value.exit_code == 3


def test_blackwell_is_compiled_as_the_sources_rewrite_it(machine: Machine) -> None:
    assert cell_of(pick(machine, llama="0.3.36", architectures=("120",))).label == "cu130.sm120a"
    assert cell_of(pick(machine, llama="0.3.16", architectures=("120",))).label == "cu130.sm120"


@given(st.sets(st.sampled_from(toolkits()["13.0"].architectures), min_size=1), st.randoms())
def test_the_order_of_architectures_does_not_change_the_cell(wanted: set[str], random: object) -> None:
    machine = Machine(
        platform="linux-x86_64",
        python="3",
        libc="glibc",
        cpus=1,
        memory=8 << 30,
        compilers=(HostCompiler(name="gcc", version="12.2", description="", cc="gcc", cxx="g++", identity=""),),
    )
    shuffled = list(wanted)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = pick(machine, cuda="13.0", architectures=tuple(sorted(wanted)))
    two = pick(machine, cuda="13.0", architectures=(",".join(shuffled),))
    assert one.cell == two.cell


@given(st.text(max_size=12))
def test_any_text_is_an_architecture_or_a_value_error(text: str) -> None:
    try:
        parsed = Architecture.parse(text)
    except ValueError:
        return
    assert Architecture.parse(parsed.cmake) == parsed


def test_two_ways_to_say_the_same_give_the_same_digest(machine: Machine) -> None:
    one = cell_of(pick(machine, cuda="13", architectures=("89",)))
    two = cell_of(pick(machine, cuda="13.0", architectures=("89-real",)))
    assert digest_of(one) == digest_of(two)


def test_every_locked_release_and_toolkit_has_its_row_in_the_catalog() -> None:
    assert set(locked_llama_releases()) <= set(llama_releases())
    assert set(locked_toolkits()) <= set(toolkits())


ALL = tuple(toolkits())


def test_the_founding_story_is_told_before_anything_is_compiled(machine: Machine) -> None:
    founding = with_gpu(machine, "8.9", "12.9", "576.52")
    with pytest.raises(NoCompatibleChoiceError) as caught:
        pick(founding, cuda="13")
    assert "Driver 576.52 supports CUDA up to 12.9; CUDA 13.0 programs need driver 580" in caught.value.problem
    assert "Rebuilding will not help" in caught.value.problem
    assert "Update the driver to 580" in caught.value.remedy
    assert "nox -s build-cuda12" in caught.value.remedy
    assert "--ignore-driver" in caught.value.remedy
    assert cell_of(pick(founding, cuda="13", ignore_driver=True)).cuda == "13.0"
    assert cell_of(pick(with_gpu(machine, "8.9", "13.0", "580.88"), cuda="13")).cuda == "13.0"


def test_the_newest_toolkit_that_the_driver_speaks_is_chosen(machine: Machine) -> None:
    assert cell_of(pick(with_gpu(machine, "8.9", "12.9", "576.52"), ALL)).cuda == "12.9"
    assert cell_of(pick(with_gpu(machine, "8.9", "12.4", "550.60"), ALL)).cuda == "12.4"
    assert cell_of(pick(with_gpu(machine, "8.9", "14.1", "700.1"), ALL)).cuda == "13.5"


def test_a_v100_on_a_driver_of_cuda_13_gets_cuda_12(machine: Machine) -> None:
    v100 = with_gpu(machine, "7.0", "13.0")
    assert cell_of(pick(v100, ALL)).cuda == "12.9"
    with pytest.raises(NoCompatibleChoiceError, match="cannot compile for architecture 70"):
        pick(v100, cuda="13")


def test_a_newer_minor_is_taken_only_where_a_gpu_needs_it_and_is_said(machine: Machine) -> None:
    plan = pick(with_gpu(machine, "10.7", "13.0"), ALL, llama="0.3.36")
    assert cell_of(plan).cuda == "13.4"
    assert any("newer than the driver's 13.0" in note for note in plan.notes)


def test_ptx_of_a_newer_toolkit_than_the_drivers_is_refused(machine: Machine) -> None:
    with pytest.raises(NoCompatibleChoiceError, match=r"PTX of CUDA 13\.5"):
        pick(with_gpu(machine, "8.9", "13.0"), cuda="13.5", architectures=("80-virtual",))
    assert cell_of(pick(with_gpu(machine, "8.9", "13.0"), cuda="13.5", architectures=("89",))).cuda == "13.5"


def test_mixed_gpus_are_all_served_or_the_plan_says_why_not(machine: Machine) -> None:
    mixed = pick(with_gpu(machine, "7.5,12.0", "13.0"), llama="0.3.36")
    assert cell_of(mixed).label == "cu130.sm75.sm120a"
    with pytest.raises(NoCompatibleChoiceError):
        pick(with_gpu(machine, "7.0,12.1", "12.4", "550.60"), ALL, cuda="12.4")


def test_compressed_code_needs_a_newer_driver_on_cuda_12(machine: Machine) -> None:
    old = with_gpu(machine, "8.0", "12.2", "535.104.05")
    with pytest.raises(NoCompatibleChoiceError, match=r"550\.54\.14") as caught:
        pick(old, ALL, cuda="12.8")
    assert "GGML_CUDA_COMPRESSION_MODE=none" in caught.value.remedy
    assert cell_of(pick(old, ALL, cuda="12.8", defines={"GGML_CUDA_COMPRESSION_MODE": "none"})).cuda == "12.8"


def test_a_new_glibc_on_the_machine_does_not_matter_since_the_headers_are_the_sysroots(machine: Machine) -> None:
    new = msgspec.structs.replace(machine, libc="glibc 2.42")
    assert cell_of(pick(new, ALL, cuda="12.9")).cuda == "12.9"


def test_a_disk_without_room_is_known_before_anything_is_downloaded(machine: Machine) -> None:
    with pytest.raises(MissingPrerequisiteError, match=r"1\.0 GB are free") as caught:
        pick(msgspec.structs.replace(machine, disk_free=1_000_000_000))
    assert caught.value.exit_code == 3


DRIVERS = [("450.80", "11.0"), ("525.60.13", "12.0"), ("535.1", "12.2"), ("550.54.14", "12.4"), ("575.1", "12.9"),
           ("580.1", "13.0"), ("590.1", "13.1"), ("700.1", "14.0")]  # fmt: skip
CAPABILITIES = ["5.0", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0", "12.1"]
COMPILERS = [("gcc", "9.4"), ("gcc", "11.4"), ("gcc", "12.2"), ("gcc", "15.1"), ("clang", "14.0"), ("clang", "20.1")]


@pytest.mark.parametrize("compiler", COMPILERS, ids="-".join)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_over_the_whole_grid_no_accepted_plan_breaks_a_rule(
    machine: Machine, gcc: HostCompiler, capability: str, compiler: tuple[str, str]
) -> None:
    name, version = compiler
    here = msgspec.structs.replace(
        machine,
        compilers=(msgspec.structs.replace(gcc, name=name, version=version),),  # type: ignore[arg-type]
    )
    before: set[str] = set()
    for driver, cuda in DRIVERS:
        judged = with_gpu(here, capability, cuda, driver)
        runnable = set()
        for wanted in ("", *toolkits()):
            plan = make_plan(Request(cuda=wanted), judged, locked_llama_releases(), ALL)
            runnable |= {candidate.cuda for candidate in plan.candidates if not candidate.failed()}
            if plan.cell:
                chosen = next(c for c in plan.candidates if c.cuda == plan.cell.cuda)
                assert not chosen.failed()
                row = toolkits()[plan.cell.cuda]
                assert capability.replace(".", "") in row.architectures
                assert row.family <= int(cuda.partition(".")[0])
        assert before <= runnable, f"driver {driver} removed {before - runnable}"
        before = runnable


@given(
    st.sampled_from(DRIVERS),
    st.lists(st.sampled_from(CAPABILITIES), min_size=1, max_size=3, unique=True),
    st.sampled_from(["", "11", "12", "13", "12.4", "13.5"]),
)
def test_any_machine_gets_a_plan_or_one_sentence(driver: tuple[str, str], capabilities: list[str], cuda: str) -> None:
    compiler = HostCompiler(name="gcc", version="11.4", description="", cc="gcc", cxx="g++", identity="")
    bare = Machine(
        platform="linux-x86_64", python="3", libc="glibc 2.36", cpus=1, memory=8 << 30, compilers=(compiler,)
    )
    machine = with_gpu(bare, ",".join(capabilities), driver[1], driver[0])
    plan = make_plan(Request(cuda=cuda), machine, locked_llama_releases(), ALL)
    if plan.cell is None:
        with pytest.raises(NoCompatibleChoiceError) as caught:
            require_cell(plan, machine, ALL)
        assert caught.value.problem.endswith(".") or "not help" in caught.value.problem
        assert caught.value.remedy


@pytest.mark.parametrize(
    ("architectures", "told"),
    [
        (("89",), ["arch=compute_89,code=sm_89"]),
        (("86", "89"), ["arch=compute_86,code=sm_86", "arch=compute_86,code=sm_89"]),
        (("75", "80"), ["arch=compute_75,code=sm_75", "arch=compute_80,code=sm_80"]),
        (("80", "89-virtual"), ["arch=compute_80,code=sm_80", "arch=compute_89,code=compute_89"]),
        (("100", "120a"), ["arch=compute_100,code=sm_100", "arch=compute_120a,code=sm_120a"]),
        (("100", "120"), ["arch=compute_100,code=sm_100", "arch=compute_100,code=sm_120"]),
    ],
)
def test_of_architectures_with_the_same_ptx_the_oldest_is_compiled(
    architectures: tuple[str, ...], told: list[str]
) -> None:
    release = msgspec.structs.replace(llama_releases()["0.3.16"], same_ptx=((80, 86, 89), (100, 120)))
    assert list(gencodes(release, map(Architecture.parse, architectures))) == told
