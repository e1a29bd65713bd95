"""What a finding about the driver, the machine or a run names: the code, the file, the GPU, the line."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from msgspec import structs

from build_matrix.diagnosis import diagnose, diagnose_run, diagnose_static, why_not_judged
from build_matrix.diagnosis.causes import cause
from build_matrix.diagnosis.driver import explain, explain_nvml
from build_matrix.diagnosis.machine import hidden, nvml_failure, why_driver_fails, why_no_gpu
from build_matrix.model import (
    Check,
    Driver,
    DriverEvidence,
    DriverLibrary,
    Finding,
    Gpu,
    HostEnvironment,
    InstalledToolkit,
    Machine,
    PciGpu,
    RunFacts,
)

MISSING = "libcuda.so.1: cannot open shared object file: No such file or directory"
LIBRARY = "/usr/lib/libcuda.so.580.65.06"
GPU = Gpu(name="NVIDIA H100", uuid="GPU-00000000-aaaa-bbbb-cccc-0123456789ab", compute_capability="9.0")
MIG = Gpu(name="NVIDIA A100", uuid="GPU-2", compute_capability="8.0", mig=True)
OPEN = {"nvidiactl": "ok", "nvidia-uvm": "ok", "nvidia0": "ok"}
NONE = {"nvidiactl": "missing", "nvidia-uvm": "missing"}


def finding(cause_name: str, /, evidence: str = "", **facts: Any) -> Finding:
    return cause(cause_name).finding(evidence, **facts)


def bus(*drivers: str) -> tuple[PciGpu, ...]:
    return tuple(PciGpu(address=f"0000:0{number}:00.0", driver=driver) for number, driver in enumerate(drivers))


def libraries(*paths: tuple[str, int]) -> tuple[DriverLibrary, ...]:
    return tuple(DriverLibrary(path=path, bits=bits) for path, bits in paths)


@pytest.mark.parametrize(
    ("evidence", "environment", "expected"),
    [
        # libcuda.so.1 is not loaded
        (
            {"library_error": "libcuda.so.1: invalid ELF header"},
            {},
            finding("broken library", error="invalid ELF header"),
        ),
        (
            {"library_error": "/x/libcuda.so.1: file too short"},
            {"container": "snap"},
            finding("broken library", error="/x/libcuda.so.1: file too short"),
        ),
        (
            {"library_error": MISSING, "libraries": libraries(("/a/libcuda.so.1", 32), ("/b/c/libcuda.so.1", 64))},
            {},
            finding("library off the loader path", folder="/b/c"),
        ),
        (
            {"library_error": MISSING, "libraries": libraries(("/a/libcuda.so.1", 64), ("/usr/lib/wsl/lib/l", 64))},
            {"wsl": True},
            finding("WSL library off the loader path"),
        ),
        (
            {"library_error": MISSING, "libraries": libraries(("/usr/lib/wsl2/l", 64))},
            {"wsl": True},
            finding("library off the loader path", folder="/usr/lib/wsl2"),
        ),
        (
            {"library_error": MISSING, "libraries": libraries(("/a/libcuda.so.1", 32), ("/b/libcuda.so.1", 0))},
            {},
            finding("32-bit library", path="/a/libcuda.so.1"),
        ),
        (
            {"library_error": MISSING, "modules": ("nvidia_uvm", "nvidia"), "nvml_error": 0},
            {},
            finding("driver half installed", what="the kernel module is loaded and libnvidia-ml.so.1 is installed"),
        ),
        (
            {"library_error": MISSING, "modules": ("nvidia",), "nvml_error": 12},
            {},
            finding("driver half installed", what="the kernel module is loaded"),
        ),
        ({"library_error": MISSING, "nvml_error": 12}, {}, finding("no driver")),
        (
            {"library_error": MISSING, "pci": bus("", "nouveau")},
            {},
            finding("driver not installed", address="0000:00:00.0"),
        ),
        (
            {"library_error": MISSING, "pci": bus("nouveau", "nova-core")},
            {},
            finding("nouveau", address="0000:00:00.0"),
        ),
        (
            {"library_error": MISSING, "pci": bus("vfio-pci", "vfio")},
            {},
            finding("GPU passed through", address="0000:00:00.0"),
        ),
        ({"library_error": MISSING, "nodes": {"dxg": "missing"}}, {"wsl": True}, finding("WSL without a GPU")),
        ({"library_error": MISSING, "nodes": OPEN}, {"wsl": True}, finding("WSL without a GPU", "/dev/dxg is missing")),
        (
            {"library_error": MISSING, "nodes": {"nvidiactl": "EACCES"}},
            {"container": "docker", "container_devices": " none "},
            finding("container without driver", "NVIDIA_VISIBLE_DEVICES=' none '"),
        ),
        (
            {"library_error": MISSING},
            {"container": "docker", "container_devices": ""},
            finding("container without driver", "NVIDIA_VISIBLE_DEVICES=''"),
        ),
        (
            {"library_error": MISSING, "nodes": {"nvidiactl": "ok"}},
            {"container": "docker"},
            finding("container without compute"),
        ),
        (
            {"library_error": MISSING, "nvml_error": 9},
            {"container": "docker", "container_capabilities": ""},
            finding("container without compute", "NVIDIA_DRIVER_CAPABILITIES="),
        ),
        (
            {"library_error": MISSING, "modules": ("nvidia",)},
            {"container": "docker"},
            finding("container without driver"),
        ),
        # it answers an error
        ({"init_error": 34, "library": LIBRARY}, {}, finding("stub library", LIBRARY)),
        ({"init_error": 3, "library": "/x/stubs/libcuda.so"}, {}, finding("stub library", "/x/stubs/libcuda.so")),
        (
            {"version_error": 34, "library": LIBRARY, "init_error": 0, "visible": (GPU,)},
            {},
            finding("stub library", LIBRARY),
        ),
        ({"version_error": 36}, {}, finding("driver without version", answer="error 36")),
        ({"version_odd": 7}, {}, finding("driver without version", answer="7")),
        ({"cuda_problem": "it crashed"}, {}, finding("driver without answer", problem="it crashed")),
        ({"init_error": 803, "library": "/c/compat/l"}, {}, finding("cuda-compat mismatch", "/c/compat/l")),
        ({"init_error": 803, "library": "/c/compatible/l"}, {}, finding("driver mismatch", "error 803")),
        (
            {"init_error": 803, "library_version": "2", "module_version": "1"},
            {"wsl": True, "container": "docker"},
            finding("driver in the image", "library 2, module 1"),
        ),
        (
            {"init_error": 803, "library_version": "2", "module_version": "1"},
            {},
            finding("driver mismatch", "error 803, library 2, module 1"),
        ),
        (
            {"init_error": 803, "library": LIBRARY},
            {"wsl": True},
            finding("Linux driver in WSL", library=LIBRARY, code=803),
        ),
        *(
            (
                {"init_error": code, "library": LIBRARY},
                {"wsl": True},
                finding("Linux driver in WSL", library=LIBRARY, code=code),
            )
            for code in (3, 100, 304, 500, 800, 999)
        ),
        *(
            ({"init_error": 101}, {"device_order": order}, finding("invalid GPU number"))
            for order in ("", "FASTEST_FIRST", "PCI_BUS_ID")
        ),
        *(
            ({"init_error": 101}, {"device_order": order}, finding("unknown device order", order=order))
            for order in ("fastest_first", "pci_bus_id", "X")
        ),
        ({"init_error": 101, "library": LIBRARY}, {"wsl": True}, finding("invalid GPU number")),
        ({"init_error": 999, "library": LIBRARY}, {"wsl": True, "container": "docker"}, finding("unknown error")),
        ({"init_error": 804, "library": "/c/compat/l"}, {}, finding("forward compatibility", "/c/compat/l")),
        ({"init_error": 2, "address_space": 3 << 29}, {}, finding("address space limited", limit="1.5 GiB")),
        ({"init_error": 4711}, {}, finding("other driver error", code=4711)),
        # device files
        *(
            (
                {
                    "init_error": code,
                    "modules": ("nvidia",),
                    "nodes": {**OPEN, "nvidia-uvm": "missing"},
                    "pci": bus("nvidia"),
                },
                {},
                finding("device files missing", code=code, nodes="/dev/nvidia-uvm is"),
            )
            for code in (3, 100, 304, 800, 999)
        ),
        (
            {"init_error": 0, "nvml_error": 0, "nodes": {"nvidiactl": "ENXIO", "nvidia-uvm": "ENXIO"}},
            {},
            finding("device files missing", code=100, nodes="/dev/nvidia0 is"),
        ),
        (
            {"init_error": 999, "nodes": {"nvidiactl": "ok", "nvidia-uvm": "missing"}},
            {},
            finding("device files missing", code=999, nodes="/dev/nvidia-uvm and /dev/nvidia0 are"),
        ),
        (
            {"init_error": 999, "nodes": {**OPEN, "nvidia-uvm": "EPERM", "nvidia0": "EACCES"}},
            {},
            finding("device files closed", node="nvidia-uvm", error="EPERM"),
        ),
        (
            {"init_error": 100, "nodes": {**OPEN, "nvidia0": "EPERM"}},
            {"container": "lxc"},
            finding("LXC lost the GPU", node="nvidia0", error="EPERM"),
        ),
        (
            {"init_error": 800, "nodes": {**OPEN, "nvidia0": "EACCES"}},
            {"container": "snap"},
            finding("sandbox may not open the GPU", node="nvidia0", error="EACCES"),
        ),
        (
            {"init_error": 100, "nodes": OPEN, "nvml_error": 17},
            {"container": "lxc"},
            finding("LXC lost the GPU", node="nvidiactl", error="NVML error 17"),
        ),
        ({"init_error": 100, "nodes": OPEN, "nvml_error": 17}, {}, finding("no GPU")),
        ({"init_error": 100, "nodes": OPEN, "nvml_error": 0}, {"container": "docker"}, finding("no GPU")),
        # what operates the GPU
        ({"init_error": 100, "nodes": {}, "pci": bus("")}, {}, finding("module not loaded", code=100)),
        (
            {"init_error": 0, "pci": bus(""), "secure_boot": True},
            {},
            finding("module refused by Secure Boot", code=100),
        ),
        (
            {"init_error": 100, "pci": bus("nvidia", ""), "modules": ("nvidia",)},
            {},
            finding("GPU not started", address="0000:00:00.0"),
        ),
        ({"init_error": 100, "pci": (), "nodes": {"nvidia12": "ok"}}, {}, finding("no GPU")),
        (
            {"init_error": 100, "pci": (), "nodes": {"nvidiactl": "ok"}},
            {},
            finding("device files missing", code=100, nodes="/dev/nvidia0 is"),
        ),
        # NVML knows it
        *(
            (
                {"init_error": code, "nvml_error": nvml, "nvml_problem": f"NVML error {nvml}"},
                {},
                finding(name, f"NVML error {nvml}"),
            )
            for code in (3, 100, 999)
            for nvml, name in (
                (4, "not permitted"),
                (15, "GPU lost"),
                (16, "GPU needs a reset"),
                (18, "driver mismatch"),
            )
        ),
        (
            {"cuda_problem": "x", "nvml_error": 18, "nvml_problem": "y", "nodes": {**OPEN, "nvidia0": "EACCES"}},
            {},
            finding("device files closed", node="nvidia0", error="EACCES"),
        ),
        ({"init_error": 801, "nvml_error": 18, "nvml_problem": "y"}, {}, finding("not supported")),
    ],
)
def test_a_finding_about_the_driver_names_the_evidence_that_it_follows_from(
    evidence: dict[str, Any], environment: dict[str, Any], expected: Finding
) -> None:
    assert explain(DriverEvidence(**evidence), HostEnvironment(**environment)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" GPU 0: GPU is lost ", finding("GPU lost", "GPU 0: GPU is lost")),
        ("GPU 0: Unknown Error", finding("GPU without answer", problem="GPU 0: Unknown Error")),
    ],
)
def test_a_text_of_nvml_is_the_evidence_of_its_cause(text: str, expected: Finding) -> None:
    assert explain_nvml(text) == expected


# --- the machine ----------------------------------------------------------------------------------------


@pytest.fixture
def works(machine: Machine) -> Machine:
    """A machine on which nothing is wrong."""
    return structs.replace(
        machine,
        driver=Driver(version="580.65.06", cuda="13.0"),
        driver_problem="",
        gpus=(GPU,),
        evidence=DriverEvidence(init_error=0, visible=(GPU,), numbered=(GPU,)),
    )


def test_what_holds_is_a_finding_too(works: Machine) -> None:
    (row,) = diagnose(works)
    assert (row.rule, row.kind, row.passed) == ("driver", "run", True)
    assert row.fact.startswith("Driver 580.65.06 ")
    assert row.fact.endswith(" supports CUDA up to 13.0.")
    named = structs.replace(works, environment=HostEnvironment(visible_devices="0"))
    assert diagnose(named)[1:] == [
        Finding(rule="visible devices", kind="run", passed=True, fact="CUDA_VISIBLE_DEVICES=0")
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", finding("hidden", value="", why="")),
        ("x", finding("hidden", value="x", why=": 'x' is not a number")),
        ("7", finding("hidden", value="7", why=": '7' is not the number of a GPU (only 0)")),
        ("0,x", finding("list of GPUs ends early", value="0,x", entry="x", why="is not a number")),
        ("0,0", finding("GPU named twice", value="0,0", entry="0")),
        (
            f"{GPU.uuid},{GPU.uuid}",
            finding("GPU named twice", value="GPU-00000000…,GPU-00000000…", entry="GPU-00000000…"),
        ),
        (
            "GPU-00000001-aaaa",
            finding("hidden", value="GPU-00000001…", why=": 'GPU-00000001…' is not the UUID of a GPU"),
        ),
    ],
)
def test_what_hides_gpus_is_shown_without_whole_uuids(works: Machine, value: str, expected: Finding) -> None:
    here = structs.replace(works, environment=HostEnvironment(visible_devices=value))
    assert hidden(here) == expected
    assert why_no_gpu(here) == (None if expected.rule == "list of GPUs ends early" else expected)


def test_every_part_of_a_machine_that_is_wrong_is_named(works: Machine) -> None:
    refused = Finding(rule="host compiler works", kind="build", passed=False, fact="CXX.", remedy="Unset.")
    toolkits = (
        InstalledToolkit(root="/opt/cuda", version="12.8", source="CUDA_PATH"),
        InstalledToolkit(root="/opt/old", version="", source="PATH", problem="it holds no nvcc"),
    )
    everything = structs.replace(
        works,
        platform="linux-aarch64-x",
        environment=HostEnvironment(compat_folders=("/a/compat", "/b/compat")),
        compilers=(),
        compiler_problems=(refused,),
        toolkits=toolkits,
        gpus=(
            GPU,
            structs.replace(GPU, name="L4", compute_mode="prohibited"),
            structs.replace(GPU, compute_mode="exclusive"),
        ),
        gpu_problems=("GPU 1: GPU is lost", "GPU 2: odd", "GPU 2: odd"),
        problems=("the disk",),
    )
    versions = "CUDA 13.0, with a kernel module for CUDA (unknown)"
    assert [row for row in diagnose(everything) if not row.passed] == [
        finding("cuda-compat on the loader path", folders="/a/compat, /b/compat", versions=versions),
        finding("platform not supported", platform="linux aarch64-x", supported_platform="x86-64 Linux with glibc"),
        refused,
        finding("toolkit broken", source="PATH", root="/opt/old", problem="it holds no nvcc"),
        finding("GPU lost", "GPU 1: GPU is lost"),
        finding("GPU without answer", problem="GPU 2: odd"),
        finding("compute mode", gpu="L4", mode="prohibited"),
        finding("part not examined", problem="the disk"),
    ]


@pytest.mark.parametrize("limit", ["Too many open files", "Resource temporarily unavailable", "can't start new thread"])
def test_a_limit_of_the_system_is_the_one_cause_of_what_it_kept_from_being_examined(limit: str, works: Machine) -> None:
    refused = Finding(rule="host compiler works", kind="build", passed=False, fact=f"g++ cannot be run ({limit}).")
    unanswered = "the driver cannot be examined"
    machine = structs.replace(
        works,
        driver=None,
        driver_problem=unanswered,
        evidence=DriverEvidence(cuda_problem=unanswered),
        compilers=(),
        compiler_problems=(refused,),
        gpus=(),
        gpu_problems=("GPU 1: GPU is lost",),
        problems=(f"the driver and the GPUs (OSError: {limit})",),
    )
    assert diagnose(machine) == [finding("GPU lost", "GPU 1: GPU is lost"), finding("system limit", limit=limit)]


@pytest.mark.parametrize(
    ("driver", "versions"),
    [
        (Driver(version="1", cuda="13.0", kernel_cuda="12.4"), "CUDA 13.0, with a kernel module for CUDA 12.4"),
        (None, "no driver"),
    ],
)
def test_cuda_compat_is_shown_with_both_versions(works: Machine, driver: Driver | None, versions: str) -> None:
    here = structs.replace(works, driver=driver, environment=HostEnvironment(compat_folders=("/a",)))
    assert finding("cuda-compat on the loader path", folders="/a", versions=versions) in diagnose(here)


def test_a_missing_compiler_is_named_only_where_none_was_refused(works: Machine) -> None:
    assert diagnose(structs.replace(works, compilers=()))[1:] == [finding("no compiler")]


def test_the_gpus_that_nvml_lists_tell_why_the_driver_shows_none(machine: Machine) -> None:
    here = structs.replace(
        machine, driver=Driver(version="1", cuda="13.0"), gpus=(MIG,), evidence=DriverEvidence(init_error=100)
    )
    assert why_driver_fails(here) == finding("MIG without an instance", gpu="NVIDIA A100")
    assert why_no_gpu(here) == finding("MIG without an instance", gpu="NVIDIA A100")
    usable = structs.replace(here, gpus=(structs.replace(MIG, mig_devices=("MIG-1",)),))
    assert why_driver_fails(usable) == finding("MIG instance not usable", gpu="NVIDIA A100")


def test_a_result_of_cuinit_without_further_evidence_is_told_as_it_is(machine: Machine) -> None:
    for code, expected in ((803, finding("driver mismatch")), (4711, finding("other driver error", code=4711))):
        here = structs.replace(machine, driver=Driver(version="1", cuda="13.0", init_error=code))
        assert why_driver_fails(here) == expected
        claimed = structs.replace(here, overrides={"BUILD_MATRIX_DRIVER_CUDA": "13.0"})
        assert why_driver_fails(claimed) is None


def test_a_problem_of_nvml_alone_has_the_remedy_of_its_cause(works: Machine) -> None:
    failing = structs.replace(works.evidence, nvml_error=16, nvml_problem="NVML error 16")
    here = structs.replace(works, evidence=failing)
    assert nvml_failure(here) == finding(
        "NVML fails", problem="NVML error 16", remedy=cause("GPU needs a reset").remedy
    )
    assert nvml_failure(structs.replace(here, overrides={"A": "1"})) is None
    assert nvml_failure(structs.replace(here, evidence=structs.replace(failing, visible=()))) is None


def test_why_nothing_is_judged_names_every_claim(works: Machine) -> None:
    claims = {"BUILD_MATRIX_DRIVER_CUDA": "13.0", "BUILD_MATRIX_COMPUTE_CAPABILITIES": "8.9"}
    why = why_not_judged(structs.replace(works, overrides=claims))
    assert "(BUILD_MATRIX_DRIVER_CUDA=13.0, BUILD_MATRIX_COMPUTE_CAPABILITIES=8.9)" in why
    silent = structs.replace(works, evidence=DriverEvidence())
    assert why_not_judged(structs.replace(silent, driver_problem="it was not asked")) == "it was not asked"
    assert why_not_judged(silent).startswith("the driver library ")


# --- a run ----------------------------------------------------------------------------------------------


def failed(name: str, detail: str) -> Check:
    return Check(name=name, passed=False, detail=detail)


FINISHED = {"finished": True, "offload": False}


@pytest.mark.parametrize(
    ("facts", "checks", "expected"),
    [
        ({"code": -signal.SIGILL}, (), finding("illegal instruction", "ended by signal 4 (SIGILL)")),
        (
            {"code": -9, "memory_exceeded": True, "timed_out": 3.0, "job": "gpu-F16"},
            (),
            finding("too much memory", "stopped because it took too much memory", job="gpu-F16"),
        ),
        ({"code": -9, "timed_out": 3.0}, (), finding("no end", "did not finish within 3 s", job="its start")),
        (
            {"folder": "/other"},
            (failed("import", "0.1 from /other"),),
            finding("shadowed", "0.1 from /other"),
        ),
        ({}, (failed("import", "no import"),), finding("unknown", "it printed nothing", end="exit code 0")),
        ({"folder": "/own"}, (failed("layers", "x"),), finding("unknown", "it printed nothing", end="exit code 0")),
        (
            FINISHED,
            (failed("layers", "x"), failed("numbers on the GPU", "wrong: x")),
            finding("wrong numbers", "wrong: x"),
        ),
        (
            FINISHED,
            (failed("numbers on the GPU", "exit code 0; 3 of 4 computed"),),
            finding("back end not loaded", "the wheel does not report its back ends"),
        ),
        (
            {"offload": False, "backends": ("one", "two")},
            (failed("numbers on the GPU", "wrong: x"),),
            finding("back end not loaded", "one; two"),
        ),
        (
            {"backends": ("x", " CUDA error: out of memory ")},
            (),
            finding("out of GPU memory", "CUDA error: out of memory"),
        ),
        (
            {"offload": True, "log": ("a", " b: Error: c ", "d ASSERT", "an assertion", "abort", "e"), "code": 3},
            (),
            finding("unknown", "b: Error: c | d ASSERT | an assertion", end="exit code 3"),
        ),
        ({"log": ("terrors", "  what(): x ", "y")}, (), finding("unknown", "what(): x", end="exit code 0")),
        ({"log": ("1", "2", "3", "4")}, (), finding("unknown", "2 | 3 | 4", end="exit code 0")),
    ],
)
def test_a_finding_about_a_run_names_what_it_follows_from(
    works: Machine, facts: dict[str, Any], checks: tuple[Check, ...], expected: Finding
) -> None:
    held = Check(name="import", passed=True, detail="passed")
    assert diagnose_run(RunFacts(**facts), (held, *checks), works, GPU, 13) == expected


def test_a_line_on_the_driver_is_added_to_what_the_machine_itself_shows(machine: Machine) -> None:
    own = why_no_gpu(machine)
    assert own is not None
    facts = RunFacts(log=("no CUDA-capable device is detected.",))
    expected = structs.replace(own, fact=f"{own.fact.rstrip('.')}: no CUDA-capable device is detected.")
    assert diagnose_run(facts, (), machine, GPU, 13) == expected
    out_of_memory = finding("out of GPU memory", "CUDA error: out of memory")
    assert diagnose_run(RunFacts(log=("CUDA error: out of memory",)), (), machine, GPU, 13) == out_of_memory


def test_with_the_gpu_hidden_the_back_ends_own_report_is_no_reason(works: Machine) -> None:
    facts = RunFacts(backends=("no CUDA-capable device is detected",), offload=False)
    unknown = finding("unknown", "it printed nothing", end="exit code 0")
    assert diagnose_run(facts, (), works, None, 13) == unknown
    assert diagnose_run(RunFacts(offload=False), (), works, GPU, 0) == unknown


def test_a_wheel_that_was_not_run_lacks_a_gpu_where_the_machine_is_well(works: Machine) -> None:
    assert diagnose_run(None, (), works, None, 13) == finding("no GPU in this machine")


@pytest.mark.parametrize(
    ("checks", "family", "expected"),
    [
        ([("label", "x")], 0, finding("no CUDA in the label", label="x")),
        ([("label", "x")], 13, finding("wheel", "x", check="label")),
        ([("archive", "x")], 0, finding("wheel", "x", check="archive")),
        ([("RECORD", "a"), ("tags", "b")], 13, finding("wheel", "a", check="RECORD")),
        ([("RECORD", "a"), ("libraries", "b")], 13, finding("library not declared", "b")),
        (
            [("libraries", "it is a CPU-only build")],
            13,
            finding("CPU build", "it is a CPU-only build", what="The wheel"),
        ),
    ],
)
def test_a_static_check_that_fails_is_the_evidence(
    checks: list[tuple[str, str]], family: int, expected: Finding
) -> None:
    held = Check(name="libstdc++", passed=True, detail="y")
    assert diagnose_static([held, *(failed(name, detail) for name, detail in checks)], family) == expected
