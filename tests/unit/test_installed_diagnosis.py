"""Why an installed llama_cpp does not import or offload, from records alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from build_matrix.cli.installed_rows import installed_rows
from build_matrix.diagnosis import diagnose, diagnose_installed
from build_matrix.diagnosis.causes import CAUSES, by_text
from build_matrix.model import (
    BackendDevice,
    Distribution,
    Driver,
    DriverEvidence,
    Finding,
    ForeignLibrary,
    Gpu,
    HostEnvironment,
    ImportEnd,
    InstalledLlama,
    Machine,
    MissingLibrary,
)

GPU = BackendDevice(name="CUDA0", description="NVIDIA H100", backend="CUDA", gpu=True)
CPU = BackendDevice(name="CPU", description="A processor", backend="CPU")
DISTRIBUTION = Distribution(name="llama_cpp_python", version="0.3.16", folder="/site")
CUDA_12 = InstalledLlama(
    python="/env/bin/python",
    python_version="3.11.7",
    version="0.3.16",
    origin="/site/llama_cpp/__init__.py",
    folder="/site/llama_cpp",
    distributions=(DISTRIBUTION,),
    libraries=("/site/llama_cpp/lib/libggml-cuda.so",),
    backends=("CUDA",),
    cuda_family=12,
    imports=True,
    offload=False,
)


def with_(**facts: Any) -> InstalledLlama:
    return msgspec.structs.replace(CUDA_12, **facts)


def driven(machine: Machine, cuda: str) -> Machine:
    return msgspec.structs.replace(machine, driver=Driver(version="576.52", cuda=cuda), driver_problem="")


def rules(found: list[Finding]) -> list[str]:
    return [finding.rule for finding in found]


@pytest.mark.parametrize(
    ("family", "cuda", "blamed"),
    [
        (13, "12.9", True),
        (12, "12.9", False),
        (12, "12.0", False),
        (12, "13.0", False),
        (12, "11.8", True),
        (0, "11.8", False),
    ],
)
def test_only_a_newer_major_than_the_drivers_is_blamed(machine: Machine, family: int, cuda: str, blamed: bool) -> None:
    found = diagnose_installed(with_(cuda_family=family), driven(machine, cuda))
    assert ("driver too old" in rules(found)) == blamed
    if blamed:
        assert f"built with CUDA {family}, but driver 576.52 supports CUDA up to {cuda}" in found[0].fact
        assert "Rebuilding with the same toolkit will not help" in found[0].fact
        assert f"a wheel for CUDA {cuda.partition('.')[0]}" in found[0].remedy


def test_a_gpu_that_it_lists_itself_outweighs_what_the_versions_say(machine: Machine) -> None:
    (finding,) = diagnose_installed(with_(cuda_family=13, offload=True, devices=(GPU, CPU)), driven(machine, "12.9"))
    assert finding.passed
    assert "NVIDIA H100 (CUDA)" in finding.fact


def test_its_word_without_a_list_of_devices_needs_a_machine_that_bears_it_out(machine: Machine) -> None:
    (finding,) = diagnose_installed(with_(offload=True), machine)
    assert (finding.passed, finding.rule) == (False, "not judged")
    assert "no NVIDIA driver" in finding.fact


@pytest.mark.parametrize(
    ("facts", "rule", "passed"),
    [
        ({}, "installed", True),
        ({"cuda_family": 0}, "not judged", False),
        ({"cuda_family": 13}, "driver too old", False),
        ({"backends": ("Vulkan",), "cuda_family": 0}, "not judged", False),
    ],
)
def test_its_word_is_borne_out_by_a_driver_that_answers_and_a_cuda_version_that_is_known(
    machine: Machine, facts: dict[str, Any], rule: str, passed: bool
) -> None:
    gpu = Gpu(name="NVIDIA H100", uuid="GPU-1", compute_capability="9.0")
    evidence = DriverEvidence(init_error=0, visible=(gpu,), numbered=(gpu,))
    here = msgspec.structs.replace(driven(machine, "12.9"), gpus=(gpu,), evidence=evidence)
    (finding,) = diagnose_installed(with_(offload=True, **facts), here)
    assert (finding.rule, finding.passed) == (rule, passed)


@pytest.mark.parametrize("devices", [(), (CPU,)])
def test_offload_without_a_gpu_in_the_list_is_no_offload(machine: Machine, devices: tuple[BackendDevice, ...]) -> None:
    (finding,) = diagnose_installed(with_(offload=True, devices=devices), machine)
    assert (finding.passed, finding.rule) == (False, "offload without a GPU")


def test_a_version_that_does_not_say_is_not_judged(machine: Machine) -> None:
    (finding,) = diagnose_installed(with_(offload=None), machine)
    assert (finding.passed, finding.rule) == (False, "not judged")


@pytest.mark.parametrize("backends", [("CPU",), ("BLAS", "CPU"), ("RPC",), ()])
def test_a_build_without_a_back_end_for_a_gpu_is_a_cpu_build(machine: Machine, backends: tuple[str, ...]) -> None:
    (finding,) = diagnose_installed(with_(backends=backends, cuda_family=0), machine)
    assert "llama-cpp-python 0.3.16 is a CPU build" in finding.fact


@pytest.mark.parametrize("backend", ["Vulkan", "ROCm", "SYCL", "Metal", "OpenCL", "CANN", "MUSA", "CUDA"])
def test_a_build_with_one_is_not(machine: Machine, backend: str) -> None:
    found = diagnose_installed(with_(backends=(backend, "CPU"), cuda_family=0), machine)
    assert rules(found) == ["no GPU registered"]
    assert backend in found[0].fact


def test_without_any_library_nothing_is_said_of_the_build(machine: Machine) -> None:
    found = diagnose_installed(with_(libraries=(), backends=(), cuda_family=0), machine)
    assert "CPU build" not in rules(found)


MISSING = MissingLibrary(name="libcudart.so.12", needed_by="libggml-cuda.so")


def test_what_offloads_misses_nothing(machine: Machine) -> None:
    found = diagnose_installed(with_(missing_libraries=(MISSING,), offload=True, devices=(GPU,)), machine)
    assert rules(found) == ["installed"]


def test_libraries_in_one_folder_are_one_cause(machine: Machine) -> None:
    both = tuple(
        MissingLibrary(name=name, needed_by="libggml-cuda.so", folders=("/usr/local/cuda/lib64", "/opt/cuda/lib64"))
        for name in ("libcudart.so.12", "libcublas.so.12")
    )
    (finding,) = diagnose_installed(with_(missing_libraries=both), machine)
    assert "libcublas.so.12, libcudart.so.12, which libggml-cuda.so needs, are in /usr/local/cuda/lib64" in finding.fact
    assert "LD_LIBRARY_PATH=/usr/local/cuda/lib64 " in finding.remedy


@pytest.mark.parametrize("finds", [True, False])
def test_packages_that_a_build_does_not_look_for_need_a_path(machine: Machine, finds: bool) -> None:
    (finding,) = diagnose_installed(with_(missing_libraries=(MISSING,), finds_packages=finds), machine)
    assert "pip install nvidia-cuda-runtime-cu12" in finding.remedy
    assert ("LD_LIBRARY_PATH" in finding.remedy) != finds


def test_a_library_of_several_majors_is_named_for_the_builds_own(machine: Machine) -> None:
    missing = (MissingLibrary(name="libnccl.so.2", needed_by="libggml-cuda.so"),)
    (finding,) = diagnose_installed(with_(missing_libraries=missing), machine)
    assert "`pip install nvidia-nccl-cu12`" in finding.remedy
    (finding,) = diagnose_installed(with_(missing_libraries=missing, cuda_family=0), machine)
    assert "nvidia-nccl-cu11 or nvidia-nccl-cu12 or nvidia-nccl-cu13" in finding.remedy


def test_the_drivers_library_is_no_cause_where_the_import_succeeds(machine: Machine) -> None:
    missing = (MissingLibrary(name="libcuda.so.1", needed_by="libggml-cuda.so"),)
    assert "library missing" not in rules(diagnose_installed(with_(missing_libraries=missing), machine))
    failed = with_(missing_libraries=missing, imports=False, offload=None, failure="OSError: libcuda.so.1: cannot open")
    assert rules(diagnose_installed(failed, machine)) == ["library missing"]


def test_an_exception_that_repeats_a_cause_is_no_other(machine: Machine) -> None:
    failure = (
        "RuntimeError: Failed to load shared library '/x': libcudart.so.12: cannot open shared object file: No such"
    )
    failed = with_(missing_libraries=(MISSING,), imports=False, offload=None, failure=failure)
    assert rules(diagnose_installed(failed, machine)) == ["library missing"]


def test_another_exception_is_another_cause(machine: Machine) -> None:
    failed = with_(
        missing_libraries=(MISSING,), imports=False, offload=None, missing_module="numpy", failure="x: numpy"
    )
    assert rules(diagnose_installed(failed, machine)) == ["library missing", "Python module missing"]


def test_an_exception_of_the_loader_that_says_more_is_another_cause(machine: Machine) -> None:
    failure = "AttributeError: /x/libllama.so: undefined symbol: llama_kv_cache_view_init"
    failed = with_(missing_libraries=(MISSING,), imports=False, offload=None, failure=failure)
    assert rules(diagnose_installed(failed, machine)) == ["library missing", "mixed versions"]


def test_a_library_that_two_need_is_named_once_with_both(machine: Machine) -> None:
    missing = (MISSING, MissingLibrary(name="libcublas.so.12", needed_by="libggml-blas.so"))
    (finding,) = diagnose_installed(with_(missing_libraries=missing), machine)
    assert "libcublas.so.12, libcudart.so.12, which libggml-blas.so and libggml-cuda.so need, are not" in finding.fact
    unnamed = (MissingLibrary(name="libcudart.so.12"),)
    (finding,) = diagnose_installed(with_(missing_libraries=unnamed), machine)
    assert "libcudart.so.12, which the package needs, is not" in finding.fact


def test_an_exception_that_nobody_knows_is_told_as_it_is(machine: Machine) -> None:
    (finding,) = diagnose_installed(
        with_(imports=False, offload=None, failure="ValueError: embedded null byte"), machine
    )
    assert finding.rule == "import fails"
    assert "ValueError: embedded null byte" in finding.fact


@pytest.mark.parametrize(
    ("end", "texts"),
    [
        (ImportEnd(step="import", seconds=12.0, where="/a.py, line 1, in f"), ["did not return within 12 s", "/a.py"]),
        (ImportEnd(step="import", seconds=12.0, loading="/lib/x.so"), ["while it loaded /lib/x.so"]),
        (ImportEnd(step="offload", seconds=6.0), ["llama_supports_gpu_offload() did not return within 6 s"]),
        (ImportEnd(step="import", signal="SIGILL"), ["SIGILL", "illegal instruction", "avx2"]),
        (ImportEnd(step="import", signal="SIGSEGV"), ["SIGSEGV (Segmentation fault)"]),
        (ImportEnd(step="import", signal="signal 99"), ["with signal 99"]),
        (ImportEnd(step="import", code=3), ["exit code 3"]),
    ],
)
def test_an_import_that_is_ended_is_a_cause_of_its_own(machine: Machine, end: ImportEnd, texts: list[str]) -> None:
    ended = with_(imports=False, offload=None, end=end, missing_instructions=("avx2",))
    (finding,) = diagnose_installed(ended, machine)
    assert [text for text in texts if text not in finding.fact] == []


def test_the_version_that_is_here_is_said_beside_the_one_that_is_asked_for(machine: Machine) -> None:
    failure = "OSError: /lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by /x/libllama.so)"
    (finding,) = diagnose_installed(with_(imports=False, failure=failure, symbol_version="GLIBCXX_3.4.28"), machine)
    assert finding.rule == "libstdc++ too old"
    assert "GLIBCXX_3.4.30 is not in /lib/libstdc++.so.6 (it has up to GLIBCXX_3.4.28)" in finding.fact


def test_libraries_that_a_variable_names_are_said_to_come_from_there(machine: Machine) -> None:
    """abetlen/llama-cpp-python#1684: LLAMA_CPP_LIB names a build of another llama.cpp."""
    failure = "AttributeError: /own/build/libllama.so: undefined symbol: llama_model_has_decoder"
    (finding,) = diagnose_installed(with_(imports=False, failure=failure, variable="LLAMA_CPP_LIB"), machine)
    assert finding.rule == "mixed versions"
    assert "that LLAMA_CPP_LIB selects" in finding.fact


def test_a_gpu_in_the_list_and_no_offload_is_not_judged(machine: Machine) -> None:
    (finding,) = diagnose_installed(with_(devices=(GPU,), offload=False), machine)
    assert (finding.passed, finding.rule) == (False, "not judged")


def test_libraries_for_another_platform_matter_only_where_the_import_fails(machine: Machine) -> None:
    foreign = (ForeignLibrary(file="/site/llama_cpp/lib/libllama.dylib", platform="macOS"),)
    assert "library for another platform" not in rules(diagnose_installed(with_(foreign_libraries=foreign), machine))
    failed = with_(foreign_libraries=foreign, imports=False, failure="FileNotFoundError: base name 'llama' not found")
    assert rules(diagnose_installed(failed, machine)) == ["library for another platform"]


def test_files_for_one_platform_are_one_cause(machine: Machine) -> None:
    files = tuple(ForeignLibrary(file=f"/lib/{name}", platform="macOS") for name in ("a.dylib", "b.dylib", "c.dylib"))
    (finding,) = diagnose_installed(with_(foreign_libraries=files, imports=False, failure="x: cannot open"), machine)
    assert finding.fact == "/lib/a.dylib and 2 more are for macOS, and not for this machine."
    (finding,) = diagnose_installed(with_(foreign_libraries=files[:1], imports=False, failure="cannot open"), machine)
    assert finding.fact == "/lib/a.dylib is for macOS, and not for this machine."


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ({"variable": "LLAMA_CPP_LIB_PATH", "variable_target_exists": False}, "library folder absent"),
        ({"variable": "LLAMA_CPP_LIB_PATH", "libraries": (), "places": ("/own",)}, "library folder empty"),
        ({"variable": "LLAMA_CPP_LIB_PATH"}, "no GPU registered"),
        ({"libraries": (), "places": ("/own",)}, "no GPU registered"),
    ],
)
def test_a_variable_is_a_cause_only_where_it_leads_to_no_library(
    machine: Machine, facts: dict[str, Any], rule: str
) -> None:
    assert rules(diagnose_installed(with_(**facts), machine)) == [rule]


def test_each_bringer_is_one_cause_and_all_packages_of_a_cuda_version_are_one(machine: Machine) -> None:
    names = ("libcublas.so.12", "libcudart.so.12", "libgomp.so.1", "libfoo.so.1", "libbar.so.1")
    missing = tuple(MissingLibrary(name=name, needed_by="libggml-cuda.so") for name in names)
    found = diagnose_installed(with_(missing_libraries=missing), machine)
    facts = {finding.fact.partition(", which")[0]: finding.remedy for finding in found}
    assert list(facts) == ["libcublas.so.12, libcudart.so.12", "libgomp.so.1", "libfoo.so.1", "libbar.so.1"]
    assert "`pip install nvidia-cublas-cu12 nvidia-cuda-runtime-cu12`" in facts["libcublas.so.12, libcudart.so.12"]
    assert "not known" in facts["libfoo.so.1"]


def test_a_gpu_in_the_list_outweighs_what_its_files_show(machine: Machine) -> None:
    linked = with_(backends=(), cuda_family=0, offload=None, devices=(GPU,))
    assert rules(diagnose_installed(linked, machine)) == ["installed"]
    said = with_(backends=(), cuda_family=0, offload=True, devices=(GPU,))
    assert rules(diagnose_installed(said, machine)) == ["installed"]
    claimed = with_(backends=(), cuda_family=0, offload=True)
    assert rules(diagnose_installed(claimed, machine)) == ["not judged"]


def test_a_python_that_is_not_known_is_accepted(machine: Machine) -> None:
    row = msgspec.structs.replace(DISTRIBUTION, requires_python=">=3.99")
    found = diagnose_installed(with_(distributions=(row,), python_version="", offload=True, devices=(GPU,)), machine)
    assert rules(found) == ["installed"]


def test_modules_that_nothing_loaded_are_told_unless_the_log_knows_why(machine: Machine) -> None:
    modules = with_(modules=True, devices=())
    assert rules(diagnose_installed(modules, machine)) == ["back ends not loaded"]
    line = "llama_cpp: CUDA back end: not loaded: the driver speaks CUDA 11.8, and this build needs CUDA 12.0 or newer"
    (finding,) = diagnose_installed(msgspec.structs.replace(modules, log=(line,)), machine)
    assert finding.rule == "driver too old"
    assert "11.8" in finding.fact


def test_a_module_that_the_loader_refuses_is_told_by_the_loaders_own_line(machine: Machine) -> None:
    line = "/x/libggml-cuda.so: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /x/libggml-cuda.so)"
    (finding,) = diagnose_installed(with_(modules=True, devices=(CPU,), loader_problems=(line,)), machine)
    assert finding.rule == "glibc too old"
    assert "GLIBC_2.38" in finding.fact


def test_the_machine_says_why_cuda_registers_no_gpu(machine: Machine) -> None:
    (finding,) = diagnose_installed(with_(devices=(CPU,)), machine)
    assert finding.rule == "no GPU registered"
    assert "no NVIDIA driver" in finding.fact


def test_only_distributions_in_one_folder_are_over_one_another(machine: Machine) -> None:
    second = msgspec.structs.replace(DISTRIBUTION, name="llama_cpp_python_binary", version="0.2.26")
    fine = with_(offload=True, devices=(GPU,))
    both = msgspec.structs.replace(fine, distributions=(DISTRIBUTION, second))
    assert rules(diagnose_installed(both, machine))[0] == "installed over one another"
    for other in ({"folder": "/elsewhere"}, {"editable": "/src"}):
        apart = msgspec.structs.replace(fine, distributions=(DISTRIBUTION, msgspec.structs.replace(second, **other)))
        assert rules(diagnose_installed(apart, machine)) == ["installed"]


def test_the_code_of_another_version_is_no_fault_of_an_editable_install(machine: Machine) -> None:
    mixed = with_(module_version="0.3.15", offload=True, devices=(GPU,))
    assert rules(diagnose_installed(mixed, machine))[0] == "code of another version"
    editable = msgspec.structs.replace(DISTRIBUTION, editable="/src")
    fine = msgspec.structs.replace(mixed, distributions=(editable,))
    assert rules(diagnose_installed(fine, machine)) == ["installed"]
    labelled = with_(version="0.3.16+cu124", module_version="0.3.16+cu124", offload=True, devices=(GPU,))
    assert rules(diagnose_installed(labelled, machine)) == ["installed"]


@pytest.mark.parametrize(
    ("requires", "fits"), [(">=3.8", True), (">=3.12", False), ("", True), ("nonsense", True), (">=3.9,<3.12", True)]
)
def test_the_python_must_be_one_that_the_distribution_accepts(machine: Machine, requires: str, fits: bool) -> None:
    row = msgspec.structs.replace(DISTRIBUTION, requires_python=requires)
    found = diagnose_installed(with_(distributions=(row,), offload=True, devices=(GPU,)), machine)
    assert ("Python too old for it" in rules(found)) != fits


@pytest.mark.parametrize(
    ("origin", "rule"),
    [
        ("", "folder without package"),
        ("/cwd/llama_cpp.py", "another module"),
        ("/x/all.zip/llama_cpp/__init__.py", "package in an archive"),
        ("/x/llama_cpp_python-0.3.16-py3.11.egg/llama_cpp/__init__.py", "package in an archive"),
    ],
)
def test_what_is_no_package_is_the_only_cause(machine: Machine, origin: str, rule: str) -> None:
    found = diagnose_installed(with_(origin=origin, imports=False, libraries=(), failure="ImportError: Llama"), machine)
    assert rules(found) == [rule]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("OSError: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /x)", "glibc too old"),
        ("OSError: /c/libstdc++.so.6: version `CXXABI_1.3.15' not found (required by /x)", "libstdc++ too old"),
        (
            "OSError: /x/libllama.so: undefined symbol: _ZNSt15__exception_ptr13exception_ptr9_M_addrefEv",
            "libstdc++ too old",
        ),
        ("OSError: /usr/lib/libgomp.so.1: version `GOMP_5.0' not found (required by /x)", "system library too old"),
        ("AttributeError: /x/libllama.so: undefined symbol: llama_kv_cache_view_init", "mixed versions"),
        ("AttributeError: function 'llama_backend_init' not found", "mixed versions"),
        ("OSError: /x/libggml-cuda.so: undefined symbol: cublasGemmEx, version libcublas.so.12", "undefined symbol"),
        ("OSError: /x/libllama.so: invalid ELF header", "damaged library"),
        ("OSError: /x/libllama.so: file too short", "damaged library"),
        ("OSError: /x/libllama.so: wrong ELF class: ELFCLASS32", "damaged library"),
        ("OSError: /x/libllama.so: failed to map segment from shared object", "no code from this folder"),
        ("OSError: /x/libllama.so: cannot open shared object file: Permission denied", "no code from this folder"),
        (
            "OSError: libllama.so: cannot enable executable stack as shared object requires: Invalid argument",
            "executable stack",
        ),
        ("OSError: /x/libgomp.so.1: cannot allocate memory in static TLS block", "static TLS"),
        ("FileNotFoundError: Shared library with base name 'llama' not found", "no library in the package"),
        ("RuntimeError: Failed to load 'ggml' from [PosixPath('/x/lib')]", "no library in the package"),
    ],
)
def test_the_loaders_own_text_names_the_cause(line: str, name: str) -> None:
    known = by_text([line])
    assert known is not None
    assert known[0].name == name


def test_every_cause_with_a_pattern_needs_no_further_fact() -> None:
    assert [row.name for row in CAUSES if row.pattern and row.placeholders] == []


def test_a_log_that_follows_from_the_machines_own_problem_is_that_problem_and_no_second_one(machine: Machine) -> None:
    gpu = Gpu(name="NVIDIA H100", uuid="GPU-1", compute_capability="9.0")
    here = msgspec.structs.replace(
        driven(machine, "13.0"), gpus=(gpu,), environment=HostEnvironment(visible_devices="")
    )
    log = ("ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected",)
    found = diagnose_installed(with_(log=log), here)
    assert rules(found) == ["hidden"]
    assert found[0] in diagnose(here)
    assert rules(diagnose_installed(with_(log=("CUDA error: out of memory",)), driven(machine, "13.0"))) == [
        "out of GPU memory"
    ]


def test_the_rows_show_version_folder_back_ends_and_devices() -> None:
    editable = msgspec.structs.replace(DISTRIBUTION, editable="/src")
    installed = with_(distributions=(editable,), offload=True, devices=(GPU, CPU), modules=True, fork="a fork: note")
    rows = dict(installed_rows(installed))
    assert rows["environment"] == "/env/bin/python (Python 3.11.7)"
    assert rows["llama_cpp"] == "0.3.16 in /site/llama_cpp"
    assert rows["distribution"] == "llama_cpp_python 0.3.16 in /site, editable: /src"
    assert rows["built by"] == "a fork: note"
    assert rows["back ends"] == "CUDA 12, loaded at run time"
    assert rows["offload"] == "llama_supports_gpu_offload() is True"
    assert rows["devices"] == "CUDA0 (NVIDIA H100)\nCPU (A processor)"


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, "succeeds"),
        ({"imports": False}, "fails"),
        ({"imports": False, "end": ImportEnd(step="import", seconds=12.0)}, "stopped after 12 s"),
        ({"imports": False, "end": ImportEnd(step="import", signal="SIGILL")}, "ended by SIGILL"),
        ({"end": ImportEnd(step="devices", code=3)}, "ended by exit code 3, at: devices"),
    ],
)
def test_the_rows_show_how_the_import_ended(facts: dict[str, Any], text: str) -> None:
    assert text in dict(installed_rows(with_(**facts)))["import"]


def test_an_environment_without_it_has_two_rows() -> None:
    assert [name for name, _ in installed_rows(InstalledLlama(python="/p"))] == ["environment", "llama_cpp"]


def test_a_question_that_raises_is_no_old_version(machine: Machine) -> None:
    (finding,) = diagnose_installed(with_(offload=None, offload_failure="OSError: access violation"), machine)
    assert "llama_supports_gpu_offload() raised OSError: access violation" in finding.fact
    assert "Update" not in finding.remedy


def test_a_crash_after_a_line_that_is_known_is_that_cause(machine: Machine) -> None:
    end = ImportEnd(step="import", signal="SIGABRT")
    log = ("CUDA error: no kernel image is available for execution on the device",)
    (finding,) = diagnose_installed(with_(imports=False, offload=None, end=end, log=log), machine)
    assert finding.rule == "no code for this GPU"
    assert "SIGABRT" in finding.fact


def test_a_process_that_was_killed_is_no_broken_package(machine: Machine) -> None:
    end = ImportEnd(step="import", signal="SIGKILL")
    (finding,) = diagnose_installed(with_(imports=False, offload=None, end=end), machine)
    assert "memory" in finding.fact
    assert "pip install" not in finding.remedy
