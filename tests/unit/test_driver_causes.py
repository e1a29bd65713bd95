"""The same error of the driver has different causes, and the evidence tells which."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from build_matrix.diagnosis import diagnose, evidence_of_use, why_not_judged
from build_matrix.diagnosis.causes import CAUSES, cause
from build_matrix.diagnosis.driver import explain, explain_nvml
from build_matrix.diagnosis.machine import why_driver_fails, why_no_gpu
from build_matrix.model import Driver, DriverEvidence, DriverLibrary, Finding, Gpu, HostEnvironment, Machine, PciGpu

MISSING = "libcuda.so.1: cannot open shared object file: No such file or directory"
GPU = Gpu(name="NVIDIA GeForce RTX 4090", uuid="GPU-1", compute_capability="8.9")
OPEN = {"nvidiactl": "ok", "nvidia-uvm": "ok", "nvidia0": "ok"}
NONE = {"nvidiactl": "missing", "nvidia-uvm": "missing"}
PLAIN = {"library": "/usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06"}
BUS = "0000:01:00.0"


def bus(driver: str = "") -> tuple[PciGpu, ...]:
    return (PciGpu(address=BUS, driver=driver),)


# evidence, environment, the cause, what its sentence holds
SITUATIONS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    # libcuda.so.1 is not loaded
    ({"library_error": MISSING}, {}, "no driver", "no NVIDIA driver"),
    ({"library_error": MISSING, "pci": ()}, {}, "no driver", "no NVIDIA driver"),
    ({"library_error": MISSING, "pci": bus()}, {}, "driver not installed", BUS),
    ({"library_error": MISSING, "pci": bus("nouveau")}, {}, "nouveau", "nouveau"),
    ({"library_error": MISSING, "pci": bus("nova-core")}, {}, "nouveau", BUS),
    ({"library_error": MISSING, "pci": bus("vfio-pci")}, {}, "GPU passed through", "virtual machine"),
    ({"library_error": MISSING, "pci": bus("vfio-pci") + bus()}, {}, "driver not installed", BUS),
    ({"library_error": MISSING}, {"container": "docker"}, "container without driver", "in this container."),
    (
        {"library_error": MISSING},
        {"container": "docker", "container_devices": "void"},
        "container without driver",
        "NVIDIA_VISIBLE_DEVICES='void'",
    ),
    ({"library_error": MISSING}, {"container": "colab"}, "notebook without GPU", "was given no GPU"),
    ({"init_error": 100}, {"container": "kaggle"}, "notebook without GPU", "was given no GPU"),
    (
        {"library_error": "libcuda.so.1: failed to map segment from shared object"},
        {},
        "driver library on noexec",
        "failed to map segment",
    ),
    (
        {"library_error": MISSING, "libraries": (DriverLibrary(path="/x/libcuda.so.1", bits=0),)},
        {"container": "docker"},
        "driver library not readable",
        "/x/libcuda.so.1",
    ),
    ({"library_error": MISSING}, {"container": "docker", "container_devices": "all"}, "container without driver", "r."),
    (
        {"library_error": MISSING, "nvml_error": 0},
        {"container": "docker", "container_capabilities": "utility"},
        "container without compute",
        "NVIDIA_DRIVER_CAPABILITIES=utility",
    ),
    ({"library_error": MISSING, "nodes": OPEN}, {"container": "podman"}, "container without compute", "libcuda.so.1"),
    ({"library_error": MISSING, "nvml_error": 12}, {"container": "podman"}, "container without driver", "container"),
    ({"library_error": MISSING, "nvml_error": 0}, {}, "driver half installed", "libnvidia-ml.so.1 is installed"),
    ({"library_error": MISSING, "nvml_error": 9}, {}, "driver half installed", "libnvidia-ml.so.1"),
    ({"library_error": MISSING, "modules": ("nvidia",)}, {}, "driver half installed", "kernel module is loaded"),
    (
        {"library_error": MISSING, "libraries": (DriverLibrary(path="/usr/lib/wsl/lib/libcuda.so.1"),)},
        {"wsl": True},
        "WSL library off the loader path",
        "/usr/lib/wsl/lib",
    ),
    (
        {"library_error": MISSING, "libraries": (DriverLibrary(path="/usr/lib/wsl/lib/libcuda.so.1"),)},
        {"wsl": True, "container": "docker"},
        "WSL library off the loader path",
        "/usr/lib/wsl/lib",
    ),
    (
        {"library_error": MISSING, "libraries": (DriverLibrary(path="/usr/lib/wsl/lib/libcuda.so.1"),)},
        {},
        "library off the loader path",
        "/usr/lib/wsl/lib,",
    ),
    ({"library_error": MISSING}, {"wsl": True}, "WSL without a GPU", "no NVIDIA driver and no GPU."),
    ({"library_error": MISSING, "nodes": NONE}, {"wsl": True, "wsl_1": True}, "WSL 1", "no GPU support"),
    ({"init_error": 100}, {"wsl": True, "wsl_1": True}, "WSL 1", "no GPU support"),
    ({"library_error": MISSING, "nodes": NONE}, {"wsl": True}, "WSL without a GPU", "/dev/dxg is missing"),
    ({"library_error": MISSING, "nodes": NONE | {"dxg": "ok"}}, {"wsl": True}, "WSL without a GPU", "no GPU."),
    ({"library_error": MISSING}, {"wsl": True, "container": "docker"}, "container without driver", "container"),
    (
        {"library_error": MISSING, "libraries": (DriverLibrary(path="/run/opengl-driver/lib/libcuda.so.1"),)},
        {},
        "library off the loader path",
        "/run/opengl-driver/lib,",
    ),
    (
        {"library_error": MISSING, "libraries": (DriverLibrary(path="/usr/lib32/libcuda.so.1", bits=32),)},
        {},
        "32-bit library",
        "/usr/lib32/libcuda.so.1",
    ),
    ({"library_error": "/x/libcuda.so.1: file too short"}, {}, "broken library", "file too short"),
    (
        {"library_error": "/usr/lib/libcuda.so.1: file too short"},
        {"container": "docker"},
        "empty library in the image",
        "given no GPU",
    ),
    ({"library_error": "libcuda.so.1: invalid ELF header"}, {"container": "docker"}, "broken library", "invalid ELF"),
    ({"library_error": "libcuda.so.1: invalid ELF header"}, {}, "broken library", "loaded: invalid ELF header."),
    (
        {"library_error": "libcuda.so.1: cannot open shared object file: Permission denied"},
        {},
        "broken library",
        "Permission denied",
    ),
    # what gives the driver to a process depends on what it is in
    ({"library_error": MISSING}, {"container": "lxc"}, "LXC without the driver", "LXC"),
    ({"library_error": MISSING, "nvml_error": 0}, {"container": "lxc"}, "driver half installed", "libnvidia-ml.so.1"),
    ({"library_error": MISSING}, {"container": "flatpak"}, "flatpak without the driver", "Flatpak"),
    ({"library_error": MISSING, "nodes": OPEN}, {"container": "flatpak"}, "flatpak without the driver", "Flatpak"),
    ({"library_error": MISSING, "nodes": OPEN}, {"container": "snap"}, "snap without the driver", "snap"),
    ({"library_error": "/x/libcuda.so.1: file too short"}, {"container": "lxc"}, "broken library", "file too short"),
    # it does not answer
    ({"cuda_problem": "the driver library did not answer within 10 s"}, {}, "driver without answer", "within 10 s"),
    ({"cuda_problem": "it ended by signal 11", "init_error": 0}, {}, "driver without answer", "signal 11"),
    ({"cuda_problem": "it crashed", "init_error": 802}, {}, "fabric manager", "802"),
    ({"cuda_problem": "it crashed", "version_error": 999}, {}, "driver without answer", "it crashed"),
    ({"library_error": "Could not find module 'nvcuda.dll' (or one of its dependencies)."}, {}, "no driver", "NVIDIA"),
    # NVML knows better
    ({"init_error": 999, "nvml_error": 15, "nvml_problem": "GPU is lost"}, {}, "GPU lost", "GPU is lost"),
    ({"cuda_problem": "no answer", "nvml_error": 15}, {}, "GPU lost", "stopped answering"),
    ({"init_error": 100, "nvml_error": 16}, {}, "GPU needs a reset", "reset"),
    (
        {"init_error": 3, "nvml_error": 18, "nvml_problem": "mismatch (NVML error 18)"},
        {},
        "driver mismatch",
        "different versions: mismatch (NVML error 18).",
    ),
    ({"init_error": 999, "nvml_error": 4}, {}, "not permitted", "does not let"),
    (
        {"init_error": 999, "nvml_error": 4, "nodes": OPEN | {"nvidiactl": "EACCES"}},
        {},
        "device files closed",
        "/dev/nvidiactl",
    ),
    ({"init_error": 802, "nvml_error": 15}, {}, "fabric manager", "802"),
    ({"init_error": 999, "nvml_error": 999}, {}, "unknown error", "999"),
    ({"cuda_problem": "no answer", "nvml_error": 0}, {}, "driver without answer", "no answer"),
    # stubs and cuda-compat
    ({"version_error": 34, "init_error": 34}, {}, "stub library", "error 34"),
    ({"init_error": 100, "library": "/usr/local/cuda/lib64/stubs/libcuda.so"}, {}, "stub library", "/stubs/"),
    ({"init_error": 804}, {}, "forward compatibility", "Error 804"),
    ({"init_error": 804, "library": "/usr/local/cuda/compat/libcuda.so.1"}, {}, "forward compatibility", "/compat/"),
    ({"init_error": 803, "library": "/usr/local/cuda/compat/libcuda.so.1"}, {}, "cuda-compat mismatch", "/compat/"),
    # versions differ
    ({"init_error": 803}, {}, "driver mismatch", "803"),
    (
        PLAIN | {"init_error": 803, "library_version": "580.65.06", "module_version": "575.57.08"},
        {},
        "driver mismatch",
        "library 580.65.06, module 575.57.08",
    ),
    (
        PLAIN | {"init_error": 803, "library_version": "580.65.06", "module_version": "575.57.08"},
        {"container": "docker"},
        "driver in the image",
        "library 580.65.06, module 575.57.08",
    ),
    (
        PLAIN | {"init_error": 803, "library_version": "580.65.06", "module_version": "580.65.06"},
        {"container": "docker"},
        "driver mismatch",
        "803",
    ),
    (
        PLAIN | {"init_error": 803, "library_version": "580.65.06"},
        {"container": "lxc"},
        "driver mismatch",
        "different versions: error 803.",
    ),
    (PLAIN | {"init_error": 803, "module_version": "580.65.06"}, {"container": "lxc"}, "driver mismatch", "error 803."),
    (
        PLAIN | {"init_error": 803, "library_version": "580.65.06", "module_version": "575.57.08"},
        {"container": "lxc"},
        "driver of another version in LXC",
        "library 580.65.06, module 575.57.08",
    ),
    (
        {
            "init_error": 803,
            "library": "/usr/local/cuda-13.0/compat/libcuda.so.580.95.05",
            "library_version": "580.95.05",
            "module_version": "580.159.04",
        },
        {"container": "docker"},
        "cuda-compat mismatch",
        "library 580.95.05, module 580.159.04",
    ),
    (PLAIN | {"init_error": 803}, {"wsl": True}, "Linux driver in WSL", "error 803"),
    (PLAIN | {"init_error": 100}, {"wsl": True}, "Linux driver in WSL", "error 100"),
    (PLAIN | {"init_error": 999}, {"wsl": True}, "Linux driver in WSL", PLAIN["library"]),
    (
        PLAIN | {"init_error": 100, "nodes": NONE},
        {"wsl": True, "container": "docker"},
        "container without GPU",
        "given no GPU",
    ),
    ({"init_error": 100}, {"wsl": True}, "WSL without a GPU", "Windows"),
    (PLAIN | {"init_error": 2}, {"wsl": True}, "driver out of memory", "cuInit fails with error 2"),
    ({"init_error": 100, "library": "/usr/lib/wsl/lib/libcuda.so.1"}, {"wsl": True}, "WSL without a GPU", "Windows"),
    ({"init_error": 500, "library": "/usr/lib/wsl/lib/libcuda.so.1"}, {"wsl": True}, "library incomplete", "500"),
    # no GPU is shown
    ({"init_error": 100}, {}, "no GPU", "no GPU."),
    ({"init_error": 100, "pci": ()}, {}, "no GPU on the bus", "nor the PCI bus shows one"),
    ({"init_error": 100, "nodes": OPEN, "pci": ()}, {}, "no GPU", "no GPU."),
    ({"init_error": 0}, {}, "no GPU", "no GPU."),
    ({"init_error": 100, "nodes": NONE, "pci": bus()}, {"container": "docker"}, "container without GPU", "no GPU"),
    (
        {"init_error": 100, "nodes": NONE},
        {"container": "docker", "container_devices": "none"},
        "container without GPU",
        "NVIDIA_VISIBLE_DEVICES='none'",
    ),
    ({"init_error": 0, "nodes": NONE}, {"container": "lxc"}, "LXC without GPU", "given no GPU"),
    ({"init_error": 100, "nodes": NONE}, {"container": "flatpak"}, "flatpak without GPU", "Flatpak"),
    ({"init_error": 100, "nodes": NONE}, {"container": "snap"}, "snap without GPU", "snap"),
    ({"init_error": 100, "nodes": NONE, "pci": bus("nouveau")}, {}, "nouveau", BUS),
    ({"init_error": 100, "nodes": NONE, "pci": bus("vfio-pci")}, {}, "GPU passed through", BUS),
    ({"init_error": 100, "nodes": NONE, "pci": bus()}, {}, "module not loaded", "error 100"),
    ({"init_error": 0, "nodes": NONE, "pci": bus()}, {}, "module not loaded", "error 100"),
    ({"init_error": 100, "pci": bus("nvidia"), "modules": ("nvidia",)}, {}, "GPU not started", BUS),
    (
        {"init_error": 100, "nodes": OPEN, "pci": bus("nvidia"), "modules": ("nvidia",)},
        {"container": "docker"},
        "GPU not started",
        BUS,
    ),
    (
        {"init_error": 100, "nodes": NONE, "pci": bus(), "secure_boot": True},
        {},
        "module refused by Secure Boot",
        "Secure Boot",
    ),
    (
        {"init_error": 100, "nodes": OPEN, "pci": bus("nvidia"), "modules": ("nvidia",), "secure_boot": True},
        {},
        "GPU not started",
        BUS,
    ),
    (
        {"init_error": 100, "nodes": OPEN | {"nvidia0": "EACCES"}, "pci": bus("nvidia"), "modules": ("nvidia",)},
        {},
        "device files closed",
        "/dev/nvidia0 (EACCES)",
    ),
    # device files
    ({"init_error": 999, "nodes": OPEN | {"nvidia-uvm": "EACCES"}}, {}, "device files closed", "/dev/nvidia-uvm"),
    (
        {"init_error": 999, "nodes": OPEN | {"nvidia-uvm": "EPERM"}},
        {"container": "docker"},
        "container lost the GPU",
        "/dev/nvidia-uvm (EPERM)",
    ),
    ({"init_error": 999, "nodes": OPEN | {"nvidia-uvm": "EPERM"}}, {}, "device files closed", "EPERM"),
    (
        {"init_error": 999, "nodes": OPEN | {"nvidia-uvm": "EACCES"}},
        {"container": "docker"},
        "device files closed",
        "EACCES",
    ),
    (
        {"init_error": 999, "nodes": OPEN | {"nvidia-uvm": "missing"}},
        {},
        "device files missing",
        "/dev/nvidia-uvm is missing",
    ),
    (
        {"init_error": 3, "nodes": NONE, "modules": ("nvidia",)},
        {},
        "device files missing",
        "/dev/nvidiactl and /dev/nvidia-uvm and /dev/nvidia0 are missing",
    ),
    # the numbers of real drivers: nvmlInit 999 or 17, cuInit 100
    (
        {"init_error": 100, "nvml_error": 999, "nodes": dict.fromkeys(OPEN, "ENXIO"), "pci": ()},
        {"container": "docker"},
        "container lost the GPU",
        "/dev/nvidiactl (NVML error 999)",
    ),
    (
        {"init_error": 100, "nvml_error": 17, "nodes": OPEN},
        {"container": "podman"},
        "container lost the GPU",
        "NVML error 17",
    ),
    (
        {"init_error": 100, "nvml_error": 999, "nodes": OPEN | {"nvidiactl": "EPERM"}},
        {"container": "docker"},
        "container lost the GPU",
        "/dev/nvidiactl (EPERM)",
    ),
    ({"init_error": 100, "nvml_error": 999, "nodes": OPEN}, {"container": "lxc"}, "LXC lost the GPU", "NVML error 999"),
    ({"init_error": 999, "nodes": OPEN | {"nvidia-uvm": "EPERM"}}, {"container": "lxc"}, "LXC lost the GPU", "EPERM"),
    (
        {"init_error": 100, "nvml_error": 999, "nodes": OPEN},
        {"container": "snap"},
        "sandbox may not open the GPU",
        "NVML error 999",
    ),
    (
        {"init_error": 999, "nodes": OPEN | {"nvidia-uvm": "EACCES"}},
        {"container": "flatpak"},
        "sandbox may not open the GPU",
        "/dev/nvidia-uvm (EACCES)",
    ),
    ({"init_error": 100, "nvml_error": 999, "nodes": NONE}, {"container": "docker"}, "container without GPU", "no GPU"),
    ({"init_error": 100, "nvml_error": 999, "nodes": OPEN}, {}, "no GPU", "no GPU."),
    (
        {
            "init_error": 999,
            "nvml_error": 0,
            "nodes": {"nvidiactl": "ENXIO", "nvidia-uvm": "missing", "nvidia0": "ENXIO"},
        },
        {"container": "lxc"},
        "device files missing",
        "/dev/nvidia-uvm is missing",
    ),
    (
        {"init_error": 999, "nvml_error": 0, "nodes": NONE | {"dxg": "ok"}, "library": "/usr/lib/wsl/lib/libcuda.so.1"},
        {"wsl": True},
        "unknown error",
        "error 999",
    ),
    ({"init_error": 999, "nvml_error": 0}, {}, "unknown error", "error 999"),
    ({"init_error": 999, "nodes": NONE}, {}, "unknown error", "cuInit fails with error 999"),
    ({"init_error": 999, "nodes": OPEN}, {}, "unknown error", "cuInit fails with error 999"),
    ({"init_error": 802, "nodes": OPEN | {"nvidia-uvm": "missing"}}, {}, "fabric manager", "Fabric Manager"),
    # the rest by the result alone
    ({"init_error": 3}, {}, "driver not initialized", "error 3"),
    ({"init_error": 2}, {}, "driver out of memory", "the system gives"),
    ({"init_error": 2, "address_space": 8 << 30}, {}, "address space limited", "8.0 GiB"),
    ({"init_error": 999, "address_space": 8 << 30}, {}, "unknown error", "999"),
    ({"init_error": 101}, {}, "invalid GPU number", "101"),
    ({"init_error": 101}, {"device_order": "PCI_BUS_ID"}, "invalid GPU number", "101"),
    ({"init_error": 101}, {"device_order": "pci"}, "unknown device order", "CUDA_DEVICE_ORDER='pci'"),
    ({"init_error": 46}, {"device_order": "pci"}, "GPU busy", "46"),
    ({"init_error": 46}, {}, "GPU busy", "46"),
    ({"init_error": 801}, {}, "not supported", "801"),
    ({"init_error": 12345}, {}, "other driver error", "cuInit fails with error 12345"),
    ({"version_error": 12345}, {}, "driver without version", "cuDriverGetVersion returns error 12345."),
    ({"version_error": 999, "init_error": 0, "visible": (GPU,)}, {}, "driver without version", "returns error 999."),
    ({"version_error": 34, "init_error": 0, "visible": (GPU,)}, {}, "stub library", "error 34"),
    ({"version_odd": 0, "init_error": 0, "visible": (GPU,)}, {}, "driver without version", "returns 0."),
    ({"version_odd": -1, "init_error": 100}, {}, "no GPU", "no GPU."),
]


@pytest.mark.parametrize(("evidence", "environment", "name", "words"), SITUATIONS)
def test_evidence_names_the_cause(evidence: dict[str, Any], environment: dict[str, Any], name: str, words: str) -> None:
    finding = explain(DriverEvidence(**evidence), HostEnvironment(**environment))
    assert finding is not None
    row = cause(name)
    assert finding.rule == (row.rule or row.name)
    assert words in finding.fact
    opening = row.sentence.partition("{")[0].rstrip(".")
    assert finding.fact.startswith(opening), f"{name}: {finding.fact}"
    assert finding.remedy.startswith(row.remedy.partition("{")[0])


MIG = Gpu(name="NVIDIA A100", uuid="GPU-2", compute_capability="8.0", mig=True)
WITH_INSTANCE = msgspec.structs.replace(MIG, mig_devices=("MIG-1",))


@pytest.mark.parametrize(
    ("listed", "evidence", "environment", "name"),
    [
        ((MIG,), {"init_error": 100, "pci": ()}, {}, "MIG without an instance"),
        ((MIG, MIG), {"init_error": 100, "nodes": NONE}, {"container": "docker"}, "MIG without an instance"),
        ((MIG,), {"init_error": 0, "pci": bus("nvidia"), "modules": ("nvidia",)}, {}, "MIG without an instance"),
        ((MIG, WITH_INSTANCE), {"init_error": 100}, {"container": "docker"}, "MIG instance not usable"),
        ((MIG,), {"init_error": 100, "nodes": OPEN | {"nvidia-uvm": "EACCES"}}, {}, "device files closed"),
        ((MIG, GPU), {"init_error": 100, "pci": bus("nvidia"), "modules": ("nvidia",)}, {}, "GPU not started"),
        ((GPU,), {"init_error": 100, "pci": ()}, {}, "no GPU"),
        ((MIG,), {"init_error": 802}, {}, "fabric manager"),
    ],
)
def test_mig_explains_error_100_only_where_every_gpu_is_in_that_mode(
    listed: tuple[Gpu, ...], evidence: dict[str, Any], environment: dict[str, Any], name: str
) -> None:
    finding = explain(DriverEvidence(**evidence), HostEnvironment(**environment), listed)
    assert finding is not None
    assert finding.fact.startswith(cause(name).sentence.partition("{")[0].rstrip("."))
    assert finding.remedy.startswith(cause(name).remedy)


@pytest.mark.parametrize("container", ["lxc", "flatpak", "snap"])
@pytest.mark.parametrize(
    "evidence",
    [
        {"library_error": MISSING},
        {"library_error": MISSING, "nvml_error": 0},
        {"library_error": "/x/libcuda.so.1: file too short"},
        {"init_error": 100, "nodes": NONE},
        {"init_error": 999, "nodes": OPEN | {"nvidia-uvm": "EPERM"}},
    ],
)
def test_no_remedy_of_an_engine_where_none_started_the_process(container: str, evidence: dict[str, Any]) -> None:
    finding = explain(DriverEvidence(**evidence), HostEnvironment(container=container))
    assert finding is not None
    for word in ("--gpus", "docker", "podman", "NVIDIA_DRIVER_CAPABILITIES"):
        assert word not in finding.fact + finding.remedy


def test_no_remedy_of_the_machine_leads_back_to_doctor() -> None:
    assert [row.name for row in CAUSES if row.group in {"driver", "GPU"} and "nox -s doctor" in row.remedy] == []


@pytest.mark.parametrize("evidence", [DriverEvidence(), DriverEvidence(init_error=0, visible=(GPU,))])
def test_a_driver_that_works_or_was_not_asked_has_no_cause(evidence: DriverEvidence) -> None:
    assert explain(evidence, HostEnvironment(container="docker", wsl=True)) is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("GPU 0: GPU is lost", "GPU lost"),
        ("GPU 1: GPU requires restart", "GPU needs a reset"),
        ("GPU 0: Insufficient Permissions", "not permitted"),
        ("RM has detected an NVML/RM version mismatch", "kernel module"),
        ("NVML cannot count the GPUs: Unknown Error", "GPU without answer"),
    ],
)
def test_what_nvml_says_of_a_gpu_is_no_lost_gpu_unless_it_says_so(text: str, rule: str) -> None:
    finding = explain_nvml(text)
    assert finding.rule == rule
    assert text in finding.fact


# --- the whole machine ---------------------------------------------------------------------------------


def works(machine: Machine) -> Machine:
    return msgspec.structs.replace(
        machine,
        driver=Driver(version="580.65.06", cuda="13.0"),
        driver_problem="",
        gpus=(GPU,),
        evidence=DriverEvidence(init_error=0, visible=(GPU,)),
    )


def wrong(machine: Machine) -> list[str]:
    return [finding.rule for finding in diagnose(machine) if not finding.passed]


def test_nothing_is_wrong_only_where_the_driver_answered_and_shows_a_gpu(machine: Machine) -> None:
    here = works(machine)
    assert wrong(here) == []
    assert GPU.name in evidence_of_use(here)
    assert why_not_judged(here) == ""
    for evidence in (DriverEvidence(), DriverEvidence(init_error=0), DriverEvidence(visible=(GPU,))):
        blind = msgspec.structs.replace(here, evidence=evidence)
        assert not evidence_of_use(blind)
        assert wrong(blind) or why_not_judged(blind)


def test_what_is_claimed_is_never_judged(machine: Machine) -> None:
    claimed = msgspec.structs.replace(
        works(machine),
        driver=Driver(version="claimed", cuda="12.9", init_error=0),
        overrides={"BUILD_MATRIX_DRIVER_CUDA": "12.9"},
    )
    assert wrong(claimed) == []
    assert not evidence_of_use(claimed)
    assert "BUILD_MATRIX_DRIVER_CUDA=12.9" in why_not_judged(claimed)


def test_a_machine_without_evidence_still_names_the_result_of_cuinit(machine: Machine) -> None:
    failing = msgspec.structs.replace(machine, driver=Driver(version="580.1", cuda="13.0", init_error=803))
    assert why_driver_fails(failing) == cause("driver mismatch").finding()
    no_gpu = msgspec.structs.replace(machine, driver=Driver(version="580.1", cuda="13.0", init_error=100))
    finding = why_driver_fails(no_gpu)
    assert finding is not None
    assert finding.rule == "no GPU"
    unknown = msgspec.structs.replace(machine, driver=Driver(version="580.1", cuda="13.0", init_error=4711))
    assert "4711" in diagnose(unknown)[0].fact


def test_a_missing_driver_has_the_remedy_of_its_place(machine: Machine) -> None:
    plain = why_driver_fails(machine)
    assert plain is not None
    assert "--gpus all" not in plain.remedy
    assert "Install NVIDIA's driver" in plain.remedy
    inside = why_driver_fails(msgspec.structs.replace(machine, environment=HostEnvironment(container="docker")))
    assert inside is not None
    assert "--gpus all" in inside.remedy
    assert (plain.rule, inside.rule) == ("no driver", "no driver")


def test_evidence_comes_before_what_the_probe_said(machine: Machine) -> None:
    inside = msgspec.structs.replace(
        machine, environment=HostEnvironment(wsl=True), evidence=DriverEvidence(library_error=MISSING)
    )
    finding = why_driver_fails(inside)
    assert finding is not None
    assert finding.rule == "WSL without a GPU"
    silent = why_driver_fails(msgspec.structs.replace(machine, driver_problem=""))
    assert silent is not None
    assert silent.fact == "CUDA programs cannot run: no driver."
    said = why_driver_fails(msgspec.structs.replace(machine, driver_problem="no NVIDIA driver"))
    assert said is not None
    assert said.fact == "CUDA programs cannot run: no NVIDIA driver."


def test_a_compiler_that_was_refused_is_not_a_missing_one(machine: Machine) -> None:
    refused = Finding(
        rule="host compiler works", kind="build", passed=False, fact="CXX is no compiler.", remedy="Unset."
    )
    here = msgspec.structs.replace(works(machine), compilers=(), compiler_problems=(refused,))
    assert wrong(here) == ["host compiler works"]


def test_an_order_that_the_driver_does_not_know_is_blamed_and_not_the_list(machine: Machine) -> None:
    here = msgspec.structs.replace(
        works(machine),
        environment=HostEnvironment(visible_devices="0", device_order="fastest"),
        evidence=DriverEvidence(init_error=101, numbered=(GPU,)),
    )
    assert wrong(here) == ["invalid GPU number"]
    found = why_no_gpu(here)
    assert found is not None
    assert "CUDA_DEVICE_ORDER='fastest'" in found.fact


def test_a_platform_that_is_not_supported_is_named_beside_all_the_rest(machine: Machine) -> None:
    here = msgspec.structs.replace(works(machine), platform="linux-aarch64")
    assert wrong(here) == ["platform not supported"]
    assert [finding.fact for finding in diagnose(here) if not finding.passed] == [
        "Wheels are not built for linux aarch64."
    ]


def test_an_unknown_order_without_a_list_that_hides_is_one_problem(machine: Machine) -> None:
    here = msgspec.structs.replace(
        works(machine),
        driver=Driver(version="580.1", cuda="13.0", init_error=101),
        environment=HostEnvironment(visible_devices="0", device_order="x"),
        evidence=DriverEvidence(init_error=101),
    )
    assert wrong(here) == ["invalid GPU number"]


def test_one_cause_is_said_once(machine: Machine) -> None:
    compat = HostEnvironment(compat_folders=("/usr/local/cuda/compat",))
    under = msgspec.structs.replace(works(machine), environment=compat)
    assert wrong(under) == ["cuda-compat on the loader path"]
    refused = msgspec.structs.replace(under, evidence=DriverEvidence(init_error=804))
    assert wrong(refused) == ["forward compatibility"]


def test_compilers_that_could_not_be_examined_are_not_called_missing(machine: Machine) -> None:
    unknown = msgspec.structs.replace(works(machine), compilers=(), problems=("the compilers (MemoryError: )",))
    assert wrong(unknown) == ["part not examined"]


def test_every_part_of_the_machine_is_reported(machine: Machine) -> None:
    bad = msgspec.structs.replace(
        works(machine),
        compilers=(),
        gpus=(msgspec.structs.replace(GPU, compute_mode="prohibited"),),
        gpu_problems=("GPU 1: GPU is lost",),
        problems=("the installed toolkits cannot be examined: OSError",),
    )
    assert wrong(bad) == ["no compiler", "GPU lost", "compute mode", "part not examined"]
    finding = why_no_gpu(bad)
    assert finding is not None
    assert finding.rule == "GPU lost"


@pytest.mark.parametrize("code", [4, 15, 16, 18])
def test_what_nvml_names_is_a_problem_though_cuda_works(machine: Machine, code: int) -> None:
    here = works(machine)
    evidence = msgspec.structs.replace(here.evidence, nvml_error=code, nvml_problem=f"it fails (NVML error {code})")
    (finding,) = (one for one in diagnose(msgspec.structs.replace(here, evidence=evidence)) if not one.passed)
    assert finding.rule == "NVML"
    assert finding.fact == f"NVML does not work, although the driver library does: it fails (NVML error {code})."
    assert finding.remedy.startswith("nvidia-smi and other programs that use NVML fail too.")
    assert "{" not in finding.remedy


@pytest.mark.parametrize("code", [0, 9, 12, 999, None])
def test_other_results_of_nvml_are_no_problem_where_cuda_works(machine: Machine, code: int | None) -> None:
    here = works(machine)
    evidence = msgspec.structs.replace(here.evidence, nvml_error=code)
    assert wrong(msgspec.structs.replace(here, evidence=evidence)) == []


def test_gpus_of_one_name_are_counted(machine: Machine) -> None:
    here = works(machine)
    gpus = tuple(
        Gpu(name=name, uuid=f"GPU-{number}", compute_capability="9.0")
        for number, name in enumerate(["NVIDIA H100", "NVIDIA L4", "NVIDIA H100"])
    )
    many = msgspec.structs.replace(here, gpus=gpus, evidence=DriverEvidence(init_error=0, visible=gpus))
    assert evidence_of_use(many) == "the driver library works and shows this process 2 x NVIDIA H100, NVIDIA L4"


def test_a_claimed_absence_of_the_driver_does_not_blame_this_container(machine: Machine) -> None:
    claimed = msgspec.structs.replace(
        machine,
        environment=HostEnvironment(container="docker"),
        overrides={"BUILD_MATRIX_DRIVER_CUDA": "none"},
    )
    finding = why_driver_fails(claimed)
    assert finding is not None
    assert "--gpus all" not in finding.remedy


@pytest.mark.parametrize(
    ("version", "title"),
    [
        ("580.95.05", "Driver 580.95.05"),
        ("unknown", "The driver (of unknown version)"),
        ("claimed", "The claimed driver"),
    ],
)
def test_a_driver_is_called_by_what_is_known_of_it(version: str, title: str) -> None:
    assert Driver(version=version, cuda="12.9").title == title
