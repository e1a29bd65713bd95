"""Each compatibility rule at its edge: where it just holds, where it just does not, and where it cannot be judged."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import msgspec
import pytest

from build_matrix.catalog import llama_releases, toolkits
from build_matrix.model import (
    Architecture,
    Candidate,
    Driver,
    DriverEvidence,
    Finding,
    Gpu,
    HostCompiler,
    LlamaRelease,
    Machine,
    PciGpu,
    Toolkit,
)
from build_matrix.resolve import predict
from build_matrix.resolve.rules import (
    code_for_gpus,
    compiler_accepted,
    compressed_code_read,
    cubin_fits,
    driver_accepts,
    driver_answers,
    glibc_accepted,
    gpu_served,
    ptx_fits,
    room_on_disk,
    sources_compile,
    toolkit_available,
    toolkit_targets,
    unknown_toolkit,
)

YES, NO, UNKNOWN = "yes", "no", "not known"


def answer(finding: Finding) -> str:
    return UNKNOWN if not finding.known else YES if finding.passed else NO


def arch(text: str) -> Architecture:
    return Architecture.parse(text)


def gpu(capability: str) -> Gpu:
    return Gpu(name="GPU", uuid=f"GPU-{capability}", compute_capability=capability)


def driven(machine: Machine, cuda: str, version: str = "claimed", **more: object) -> Machine:
    driver = Driver(version=version, cuda=cuda, **more)  # type: ignore[arg-type]
    evidence = DriverEvidence(init_error=0)
    return msgspec.structs.replace(machine, driver=driver, driver_problem="", evidence=evidence)


# Machine code runs on GPUs of its major whose minor is not older; that of "a" on its own GPU alone. PTX runs on every
# GPU that is not older; that of "a" on its own GPU alone, that of "f" within its major.
CUBINS = [
    ("89", "8.9", True), ("86", "8.9", True), ("80", "8.9", True), ("89", "8.6", False), ("75", "8.0", False),
    ("90", "8.9", False), ("80", "9.0", False), ("90a", "9.0", True), ("90a", "10.0", False), ("100", "10.3", True),
    ("100f", "10.3", True), ("100f", "12.0", False), ("103f", "10.0", False), ("120", "12.1", True),
    ("120a", "12.0", True), ("120a", "12.1", False), ("121", "12.0", False), ("121a", "12.0", False),
    ("90-virtual", "9.0", False), ("52", "5.2", True), ("53", "5.2", False),
]  # fmt: skip
PTX = [
    ("80-virtual", "8.9", True), ("90-virtual", "9.0", True), ("90-virtual", "12.0", True),
    ("90-virtual", "8.9", False), ("120-virtual", "10.3", False), ("90a-virtual", "9.0", True),
    ("90a-virtual", "10.0", False), ("120a-virtual", "12.1", False), ("120a-virtual", "12.0", True),
    ("100f-virtual", "10.0", True), ("100f-virtual", "10.3", True), ("100f-virtual", "12.0", False),
    ("103f-virtual", "10.0", False), ("89", "8.9", False),
]  # fmt: skip


@pytest.mark.parametrize(("code", "capability", "fits"), CUBINS)
def test_machine_code_fits_its_major_from_its_minor_on(code: str, capability: str, fits: bool) -> None:
    assert cubin_fits(arch(code), gpu(capability)) == fits


@pytest.mark.parametrize(("code", "capability", "fits"), PTX)
def test_ptx_fits_every_gpu_that_is_not_older(code: str, capability: str, fits: bool) -> None:
    assert ptx_fits(arch(code), gpu(capability)) == fits


def test_a_toolkit_is_available_where_a_source_is_locked(toolkit: Toolkit) -> None:
    here = toolkit_available(toolkit, ["12.9", "13.0"], "linux-x86_64")
    assert (here.passed, here.fact) == (True, "CUDA 13.0 is locked for linux-x86_64.")
    missing = toolkit_available(toolkit, ["12.9"], "linux-x86_64")
    assert (missing.passed, missing.fact) == (False, "CUDA 13.0 is not locked for linux-x86_64.")
    assert "12.9" in missing.remedy


@pytest.mark.parametrize(
    ("cuda", "code", "targets"),
    [
        ("11.8", "90", True), ("11.8", "90a", False), ("12.0", "90a", True), ("12.0", "100", False),
        ("12.6", "120", False), ("12.8", "120", True), ("12.8", "120a", True), ("12.8", "121", False),
        ("12.8", "100f", False), ("12.9", "100f", True), ("12.9", "121", True), ("12.9", "70", True),
        ("13.0", "70", False), ("13.0", "75", True), ("13.0", "89a", False), ("13.0", "90f", False),
        ("13.0", "90-virtual", True), ("13.0", "107", False), ("13.4", "107", True), ("13.5", "999", False),
    ],
)  # fmt: skip
def test_a_toolkit_compiles_for_what_its_ptxas_names(cuda: str, code: str, targets: bool) -> None:
    finding = toolkit_targets(toolkits()[cuda], [arch("89") if cuda != "11.8" else arch("80"), arch(code)])
    assert finding.passed == targets
    assert targets or arch(code).code in finding.fact
    assert bool(finding.remedy) != targets


def test_the_remedy_names_the_toolkits_that_compile_for_all(toolkit: Toolkit) -> None:
    remedy = toolkit_targets(toolkits()["12.4"], [arch("75"), arch("121")]).remedy
    assert "For all requested architectures, use --cuda 12.9 to 13.5." in remedy
    assert "build several wheels" in toolkit_targets(toolkits()["13.0"], [arch("61"), arch("107")]).remedy
    assert "--arch 89" in toolkit_targets(toolkits()["13.0"], [arch("77")]).remedy
    assert "--arch 110-virtual" in toolkit_targets(toolkits()["13.0"], [arch("130")]).remedy
    assert "--arch 101-virtual" in toolkit_targets(toolkits()["12.8"], [arch("89"), arch("150")]).remedy


@pytest.mark.parametrize(
    ("llama", "cuda", "codes", "compiles"),
    [
        ("0.3.36", "11.8", ["90"], False), ("0.3.36", "11.8", ["75", "90-virtual"], False),
        ("0.3.36", "11.8", ["89"], True), ("0.3.36", "12.0", ["90"], True), ("0.3.16", "11.8", ["90"], True),
    ],
)  # fmt: skip
def test_what_a_toolkit_cannot_compile_of_a_release_is_a_rule(
    llama: str, cuda: str, codes: list[str], compiles: bool
) -> None:
    finding = sources_compile(toolkits()[cuda], llama_releases()[llama], [arch(code) for code in codes])
    assert finding.passed == compiles
    if not compiles:
        assert finding.fact.startswith(f"CUDA {cuda} cannot compile llama-cpp-python {llama} for ")
        assert "75" not in finding.fact
        assert "--llama 0.3.16" in finding.remedy


@pytest.mark.parametrize(
    ("name", "version", "libstdcxx", "accepted"),
    [
        ("gcc", "5.5", 5, False), ("gcc", "6.1", 6, True), ("gcc", "15.9", 15, True), ("gcc", "16.0", 16, False),
        ("clang", "4.0", 12, False), ("clang", "5.0", 12, True), ("clang", "20.1", 15, True),
        ("clang", "20.1", 16, False), ("clang", "21.1", 12, False), ("clang", "20.1", 0, True),
    ],
)  # fmt: skip
def test_a_host_compiler_is_accepted_at_both_ends_of_its_range(
    toolkit: Toolkit, release: LlamaRelease, gcc: HostCompiler, name: str, version: str, libstdcxx: int, accepted: bool
) -> None:
    old = msgspec.structs.replace(release, min_gcc=1, min_clang=5)
    compiler = msgspec.structs.replace(gcc, name=name, version=version, libstdcxx=libstdcxx)  # type: ignore[arg-type]
    finding = compiler_accepted(toolkit, old, compiler)
    assert finding.passed == accepted
    assert bool(finding.remedy) != accepted


def test_the_sources_may_need_a_newer_compiler_than_the_toolkit(toolkit: Toolkit, gcc: HostCompiler) -> None:
    release = llama_releases()["0.3.36"]
    for version, accepted in (("10.5", False), ("11.1", True)):
        compiler = msgspec.structs.replace(gcc, version=version)
        assert compiler_accepted(toolkit, release, compiler).passed == accepted


def test_clang_14_with_the_library_of_gcc_12_does_not_build_11_8(gcc: HostCompiler) -> None:
    clang = msgspec.structs.replace(gcc, name="clang", version="14.0.6", libstdcxx=12)
    finding = compiler_accepted(toolkits()["11.8"], llama_releases()["0.3.36"], clang)
    assert not finding.passed
    assert "libstdc++ headers of GCC 11 and older" in finding.fact
    assert finding.remedy == "Install gcc 11 and set CXX to its g++."
    older = msgspec.structs.replace(clang, libstdcxx=11)
    assert compiler_accepted(toolkits()["11.8"], llama_releases()["0.3.36"], older).passed


@pytest.mark.parametrize(("max_glibc", "passed"), [("2.27", False), ("2.28", True), ("2.40", True), ("", True)])
def test_the_glibc_that_is_compiled_against_may_be_as_new_as_the_headers_allow(
    toolkit: Toolkit, machine: Machine, max_glibc: str, passed: bool
) -> None:
    finding = glibc_accepted(msgspec.structs.replace(toolkit, max_glibc=max_glibc), machine)
    assert finding.passed == passed
    assert (
        f"accepts {f'glibc {max_glibc} and older' if max_glibc else 'any glibc'}; wheels are compiled against 2.28, and"
        in finding.fact
    )
    assert bool(finding.remedy) != passed


def test_a_system_without_glibc_has_none_to_contradict(toolkit: Toolkit, machine: Machine) -> None:
    windows = msgspec.structs.replace(machine, libc="")
    assert glibc_accepted(msgspec.structs.replace(toolkit, max_glibc="2.0"), windows).passed


@pytest.mark.parametrize(("free", "passed"), [(3_999_999_999, False), (4_000_000_000, True), (0, True)])
def test_a_build_needs_four_gigabytes_and_an_unknown_disk_is_let_pass(
    machine: Machine, free: int, passed: bool
) -> None:
    assert room_on_disk(msgspec.structs.replace(machine, disk_free=free)).passed == passed


# --- running here --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuda", "driver", "version", "expected"),
    [
        ("13.0", "12.9", "576.52", NO), ("13.5", "13.0", "580.65.06", YES), ("12.9", "12.0", "525.60.13", YES),
        ("12.9", "12.0", "525.60.12", NO), ("12.0", "11.8", "520.61.05", NO), ("11.8", "11.0", "450.80.01", NO),
        ("11.8", "11.0", "450.80.02", YES), ("11.8", "13.0", "580.65", YES), ("12.4", "14.0", "700", YES),
        ("13.0", "12.9", "claimed", NO), ("13.5", "13.0", "claimed", YES), ("12.9", "12.0", "unknown", YES),
    ],
)  # fmt: skip
def test_a_driver_runs_older_majors_and_its_own_from_the_oldest_driver_of_it(
    machine: Machine, cuda: str, driver: str, version: str, expected: str
) -> None:
    finding = driver_accepts(toolkits()[cuda], driven(machine, driver, version))
    assert answer(finding) == expected
    assert bool(finding.remedy) == (expected != YES)


def test_under_cuda_compat_the_kernel_modules_version_is_not_compared(machine: Machine) -> None:
    compat = driven(machine, "13.0", "535.104.05", kernel_cuda="12.2")
    assert answer(driver_accepts(toolkits()["13.0"], compat)) == YES
    assert answer(driver_accepts(toolkits()["13.0"], driven(machine, "13.0", "535.1", kernel_cuda="13.0"))) == NO


def test_windows_has_its_own_oldest_drivers(machine: Machine) -> None:
    windows = msgspec.structs.replace(driven(machine, "12.0", "527.41"), platform="windows-x86_64", libc="")
    assert answer(driver_accepts(toolkits()["12.0"], windows)) == NO
    assert "528.33" in driver_accepts(toolkits()["12.0"], windows).remedy
    assert answer(driver_accepts(toolkits()["12.0"], driven(machine, "12.0", "527.41"))) == YES


def test_without_a_driver_it_is_not_known_whether_a_wheel_runs(machine: Machine) -> None:
    for finding in predict("13.0", [arch("89")], machine, {}):
        if finding.rule != "compressed code read":
            assert answer(finding) == UNKNOWN
            assert not finding.passed
            assert finding.remedy


@pytest.mark.parametrize(
    ("evidence", "problem", "expected"),
    [
        (DriverEvidence(init_error=0), "", YES),
        (DriverEvidence(init_error=802), "", UNKNOWN),
        (DriverEvidence(init_error=802), "the fabric manager does not run", UNKNOWN),
        (DriverEvidence(), "", UNKNOWN),
    ],
)
def test_a_driver_that_does_not_initialise_leaves_it_open(
    machine: Machine, evidence: DriverEvidence, problem: str, expected: str
) -> None:
    here = msgspec.structs.replace(driven(machine, "13.0", "580.1"), evidence=evidence, driver_problem=problem)
    finding = driver_answers(here)
    assert answer(finding) == expected
    if expected == UNKNOWN:
        assert (problem or str(evidence.init_error or "did not respond")) in finding.fact
    claimed = msgspec.structs.replace(here, overrides={"BUILD_MATRIX_DRIVER_CUDA": "13.0"})
    assert answer(driver_answers(claimed)) == YES


@pytest.mark.parametrize(
    ("cuda", "driver", "version", "defines", "expected"),
    [
        ("12.6", "12.2", "535.1", {}, YES), ("12.8", "12.4", "550.54.14", {}, YES),
        ("12.8", "12.4", "550.54.13", {}, NO), ("12.8", "12.2", "535.1", {}, NO),
        ("12.8", "12.2", "535.1", {"GGML_CUDA_COMPRESSION_MODE": "none"}, YES),
        ("12.8", "12.2", "535.1", {"GGML_CUDA_COMPRESSION_MODE": "speed"}, YES),
        ("12.8", "12.2", "535.1", {"GGML_CUDA_COMPRESSION_MODE": "balance"}, NO),
        ("12.8", "12.4", "claimed", {}, YES), ("12.8", "12.3", "claimed", {}, NO),
        ("13.0", "12.2", "535.1", {}, YES), ("12.8", "13.0", "580.65", {}, YES),
    ],
)  # fmt: skip
def test_compressed_machine_code_needs_a_driver_that_reads_it(
    machine: Machine, cuda: str, driver: str, version: str, defines: dict[str, str], expected: str
) -> None:
    finding = compressed_code_read(toolkits()[cuda], driven(machine, driver, version), defines)
    assert answer(finding) == expected
    assert ("GGML_CUDA_COMPRESSION_MODE=none" in finding.remedy) == (expected == NO)


def test_without_a_driver_only_compressed_code_is_in_question(machine: Machine) -> None:
    assert answer(compressed_code_read(toolkits()["12.8"], machine, {})) == UNKNOWN
    assert answer(compressed_code_read(toolkits()["12.6"], machine, {})) == YES
    assert answer(compressed_code_read(toolkits()["13.0"], machine, {})) == YES


def test_under_cuda_compat_the_library_reads_the_code(machine: Machine) -> None:
    compat = driven(machine, "12.4", "535.104.05", kernel_cuda="12.2")
    assert answer(compressed_code_read(toolkits()["12.8"], compat, {})) == YES
    windows = msgspec.structs.replace(driven(machine, "12.4", "551.60"), platform="windows-x86_64", libc="")
    assert answer(compressed_code_read(toolkits()["12.8"], windows, {})) == NO
    newer = msgspec.structs.replace(windows, driver=Driver(version="551.61", cuda="12.4"))
    assert answer(compressed_code_read(toolkits()["12.8"], newer, {})) == YES


@pytest.mark.parametrize(
    ("codes", "capability", "cuda", "driver", "expected"),
    [
        (["89"], "8.9", "13.5", "13.0", YES), (["90-virtual"], "12.0", "13.0", "13.0", YES),
        (["90-virtual"], "12.0", "13.1", "13.0", NO), (["90-virtual"], "12.0", "12.9", "13.0", YES),
        (["80", "90-virtual"], "8.9", "13.0", "13.0", YES), (["90"], "8.9", "13.0", "13.0", NO),
        (["90-virtual"], "8.9", "13.0", "13.0", NO), (["90-virtual"], "12.0", "13.0", "", UNKNOWN),
        (["89"], "8.9", "13.0", "", YES),
    ],
)  # fmt: skip
def test_a_gpu_is_served_by_machine_code_or_by_ptx_that_its_driver_compiles(
    codes: list[str], capability: str, cuda: str, driver: str, expected: str
) -> None:
    known = Driver(version="1", cuda=driver) if driver else None
    finding = gpu_served(toolkits()[cuda], [arch(code) for code in codes], gpu(capability), known)
    assert answer(finding) == expected
    assert (f"--arch {capability.replace('.', '')}" in finding.remedy) == (expected != YES)


def test_ptx_that_is_too_new_names_the_driver_that_compiles_it() -> None:
    finding = gpu_served(toolkits()["13.1"], [arch("80-virtual")], gpu("8.9"), Driver(version="1", cuda="13.0"))
    assert finding.fact.endswith("PTX of CUDA 13.1, which a driver for CUDA 13.0 cannot compile.")
    assert "update the driver to 590 or newer" in finding.remedy


def test_without_a_gpu_or_an_architecture_the_code_cannot_be_judged(machine: Machine) -> None:
    toolkit = toolkits()["13.0"]
    (none,) = code_for_gpus(toolkit, [arch("89")], driven(machine, "13.0"))
    assert answer(none) == UNKNOWN
    assert "the GPUs of this machine are not known" in none.fact
    claimed = msgspec.structs.replace(driven(machine, "13.0"), overrides={"BUILD_MATRIX_DRIVER_CUDA": "13.0"})
    assert "no GPU is claimed" in code_for_gpus(toolkit, [arch("89")], claimed)[0].fact
    here = msgspec.structs.replace(driven(machine, "13.0"), gpus=(gpu("8.9"), gpu("9.0")))
    (unnamed,) = code_for_gpus(toolkit, [], here)
    assert answer(unnamed) == UNKNOWN
    assert [answer(one) for one in code_for_gpus(toolkit, [arch("89")], here)] == [YES, NO]


@pytest.mark.parametrize(
    ("cuda", "driver", "expected"),
    [("14.0", "13.0", NO), ("14.0", "14.0", UNKNOWN), ("12.7", "13.0", UNKNOWN), ("", "13.0", UNKNOWN),
     ("14", "", UNKNOWN), ("14", "13.0", NO)],
)  # fmt: skip
def test_of_an_unknown_toolkit_only_a_newer_major_is_judged(cuda: str, driver: str, expected: str) -> None:
    finding = unknown_toolkit(cuda, Driver(version="1", cuda=driver) if driver else None)
    assert answer(finding) == expected
    assert finding.remedy


def test_an_unknown_toolkit_is_not_taken_for_one_that_runs(machine: Machine) -> None:
    assert [answer(one) for one in predict("12.7", [arch("89")], driven(machine, "13.0"), {})] == [UNKNOWN]


def test_one_rule_that_fails_decides_and_one_that_is_not_known_leaves_it_open(machine: Machine) -> None:
    rows = {
        YES: Finding(rule="r", kind="run", passed=True, fact=""),
        NO: Finding(rule="r", kind="run", passed=False, fact=""),
        UNKNOWN: Finding(rule="r", kind="run", passed=False, known=False, fact=""),
    }
    for names in itertools.product(rows, repeat=2):
        candidate = Candidate(cuda="13.0", architectures=(), findings=tuple(rows[name] for name in names))
        expected = NO if NO in names else UNKNOWN if UNKNOWN in names else YES
        assert candidate.answer("run") == expected
        assert candidate.answer("build") == YES
        assert len(candidate.unknown()) == names.count(UNKNOWN)
        assert len(candidate.failed("run")) == names.count(NO)


def test_a_rule_that_is_not_known_cannot_hold() -> None:
    with pytest.raises(ValueError, match="passed, but not known"):
        Finding(rule="r", kind="run", passed=True, known=False, fact="")


def test_a_device_on_the_bus_is_not_a_gpu_that_is_known(machine: Machine) -> None:
    here = msgspec.structs.replace(machine, evidence=DriverEvidence(pci=(PciGpu(address="0000:01:00.0"),)))
    assert [answer(one) for one in predict("13.0", [arch("89")], here, {})] == [UNKNOWN, UNKNOWN, YES, UNKNOWN]


def test_a_gpu_older_than_every_toolkit_is_left_out() -> None:
    finding = toolkit_targets(toolkits()["13.0"], [arch("20")])
    assert "can compile for less than 3.5: leave out that GPU" in finding.remedy
    assert "--arch 89" in toolkit_targets(toolkits()["13.0"], [arch("81")]).remedy


# --- what each finding says ----------------------------------------------------------------------------


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)*", text)


@pytest.mark.parametrize(
    ("rule", "finding", "shown"),
    [
        ("toolkit available", lambda m: toolkit_available(toolkits()["13.0"], ["13.0"], "p"), ["13.0"]),
        ("toolkit available", lambda m: toolkit_available(toolkits()["13.0"], ["12.4", "12.9"], "p"), ["13.0"]),
        ("toolkit targets architecture", lambda m: toolkit_targets(toolkits()["13.0"], [arch("89")]), ["13.0"]),
        (
            "toolkit targets architecture",
            lambda m: toolkit_targets(toolkits()["13.0"], [arch("61"), arch("89"), arch("70-virtual")]),
            ["13.0", "61", "61", "70", "70"],
        ),
        (
            "sources compile",
            lambda m: sources_compile(toolkits()["12.9"], llama_releases()["0.3.36"], [arch("89")]),
            ["12.9", "0.3.36"],
        ),
        (
            "room on the disk",
            lambda m: room_on_disk(msgspec.structs.replace(m, disk_free=12_340_000_000)),
            ["4", "12.3"],
        ),
        ("room on the disk", lambda m: room_on_disk(msgspec.structs.replace(m, disk_free=940_000_000)), ["4", "0.9"]),
        ("driver answers", lambda m: driver_answers(driven(m, "13.0", "580.1")), ["580.1"]),
        ("driver answers", driver_answers, []),
        (
            "driver answers",
            lambda m: driver_answers(msgspec.structs.replace(driven(m, "13.0"), evidence=DriverEvidence(init_error=3))),
            ["3"],
        ),
        (
            "driver runs toolkit",
            lambda m: driver_accepts(toolkits()["12.9"], driven(m, "12.9", "576.52")),
            ["576.52", "12.9", "12.9", toolkits()["12.9"].min_driver["linux"]],
        ),
        (
            "driver runs toolkit",
            lambda m: driver_accepts(toolkits()["13.0"], driven(m, "12.9", "576.52")),
            ["576.52", "12.9", "13.0", "580"],
        ),
        ("driver runs toolkit", lambda m: driver_accepts(toolkits()["13.0"], m), []),
        (
            "driver runs toolkit",
            lambda m: unknown_toolkit("14.0", Driver(version="580.1", cuda="13.0")),
            ["580.1", "13.0", "14.0"],
        ),
        ("driver runs toolkit", lambda m: unknown_toolkit("12.7", Driver(version="580.1", cuda="13.0")), ["12.7"]),
        ("driver runs toolkit", lambda m: unknown_toolkit("", None), []),
        ("compressed code read", lambda m: compressed_code_read(toolkits()["12.6"], m, {}), ["12.6"]),
        ("compressed code read", lambda m: compressed_code_read(toolkits()["12.8"], m, {}), []),
        (
            "compressed code read",
            lambda m: compressed_code_read(toolkits()["12.8"], driven(m, "12.2", "535.1"), {}),
            ["12.8", "550.54.14", "535.1"],
        ),
        (
            "compressed code read",
            lambda m: compressed_code_read(toolkits()["12.8"], driven(m, "12.4", "560.1"), {}),
            ["12.8", "550.54.14", "560.1"],
        ),
        ("code for the GPU", lambda m: code_for_gpus(toolkits()["13.0"], [], m)[0], []),
        ("code for the GPU", lambda m: code_for_gpus(toolkits()["13.0"], [arch("89")], m)[0], []),
        ("code for the GPU", lambda m: gpu_served(toolkits()["13.0"], [arch("89")], gpu("8.9"), None), ["89", "89"]),
        (
            "code for the GPU",
            lambda m: gpu_served(toolkits()["13.0"], [arch("75"), arch("90-virtual")], gpu("8.9"), None),
            ["89", "75", "90"],
        ),
        (
            "code for the GPU",
            lambda m: gpu_served(toolkits()["13.0"], [arch("75-virtual"), arch("80-virtual")], gpu("8.9"), None),
            ["89", "75", "13.0"],
        ),
        *(
            (
                "code for the GPU",
                lambda m, cuda=cuda: gpu_served(
                    toolkits()["13.1"], [arch("80-virtual")], gpu("8.9"), Driver(version="1", cuda=cuda)
                ),
                ["89", "80", "13.1", cuda],
            )
            for cuda in ("13.0", "13.1")
        ),
    ],
)
def test_a_finding_is_of_its_rule_shows_the_numbers_that_decided_and_has_a_remedy_unless_it_holds(
    machine: Machine, rule: str, finding: Callable[[Machine], Finding], shown: list[str]
) -> None:
    found = finding(machine)
    building = {"toolkit available", "toolkit targets architecture", "sources compile", "room on the disk"}
    assert (found.rule, found.kind) == (rule, "build" if rule in building else "run")
    assert numbers(re.sub(r"\bC\+\+", "", found.fact)) == shown
    assert bool(found.remedy) != found.passed
    assert isinstance(found.remedy, str)
    assert isinstance(found.passed, bool)


def test_a_prediction_asks_each_rule_about_this_machine(machine: Machine) -> None:
    here = msgspec.structs.replace(driven(machine, "12.2", "535.1"), gpus=(gpu("8.9"), gpu("9.0")))
    toolkit, codes = toolkits()["12.8"], [arch("89")]
    assert predict("12.8", codes, here, {"GGML_CUDA_COMPRESSION_MODE": "none"}) == [
        driver_answers(here),
        driver_accepts(toolkit, here),
        compressed_code_read(toolkit, here, {"GGML_CUDA_COMPRESSION_MODE": "none"}),
        *code_for_gpus(toolkit, codes, here),
    ]
    assert predict("14.0", codes, here, {}) == [unknown_toolkit("14.0", here.driver)]
    assert len(code_for_gpus(toolkit, codes, here)) == 2
