"""Why does NVIDIA's driver not support CUDA here? The result of cuInit, and the evidence that distinguishes causes."""

from __future__ import annotations

from collections.abc import Sequence

from build_matrix.diagnosis.causes import by_code, by_text, cause
from build_matrix.model import DriverEvidence, Finding, Gpu, HostEnvironment, PciGpu

OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
INVALID_DEVICE = 101  # CUDA_ERROR_INVALID_DEVICE
DRIVER_MISMATCH = 803  # CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
STUB = 34  # CUDA_ERROR_STUB_LIBRARY
ACCESS_CODES = frozenset({3, 304, 800, 999})  # what the driver library answers where it may not open its device files
# What a Linux driver answers in WSL, where its kernel module cannot be.
NO_MODULE_CODES = ACCESS_CODES | {NO_DEVICE, 500}
WSL_FOLDER = "/usr/lib/wsl/"
NVML_WITHOUT_LIBRARY = 12  # NVML_ERROR_LIBRARY_NOT_FOUND
# What NVML knows better, where the driver library's result is a general one, or it does not answer at all.
GENERAL_CODES = frozenset({3, NO_DEVICE, 999})
NVML_CAUSES = {4: "not permitted", 15: "GPU lost", 16: "GPU needs a reset", 18: "driver mismatch"}  # nvmlReturn_t
REFUSED = frozenset({"EACCES", "EPERM"})
NO_GPU_FROM_RUNTIME = frozenset({"", "void", "none"})  # NVIDIA_VISIBLE_DEVICES that give a container no GPU
PROGRAM_BITS = 64
# What nvmlInit answers where it may not open /dev/nvidiactl (seen with a driver of CUDA 13.0).
CONTROL_REFUSED = frozenset({17, 999})  # NVML_ERROR_OPERATING_SYSTEM, NVML_ERROR_UNKNOWN
DEVICE_ORDERS = frozenset({"", "FASTEST_FIRST", "PCI_BUS_ID"})
SANDBOXES = frozenset({"flatpak", "snap"})
# What gives the GPU to a process is not the same everywhere: causes by HostEnvironment.container, and for all others.
WITHOUT_DRIVER = {
    "lxc": "LXC without the driver",
    "flatpak": "flatpak without the driver",
    "snap": "snap without the driver",
    "colab": "notebook without GPU",
    "kaggle": "notebook without GPU",
}
WITHOUT_GPU = {
    "lxc": "LXC without GPU",
    "flatpak": "flatpak without GPU",
    "snap": "snap without GPU",
    "colab": "notebook without GPU",
    "kaggle": "notebook without GPU",
}


def explain(evidence: DriverEvidence, environment: HostEnvironment, listed: Sequence[Gpu] = ()) -> Finding | None:
    """Why CUDA does not work, from the evidence; None where it works, and where nothing was queried.

    ``listed`` are the GPUs that NVML lists.
    """
    if evidence.library_error:
        return _not_loaded(evidence, environment)
    if code := evidence.init_error:
        return _known_to_nvml(evidence, environment) or _refused(code, evidence, environment, listed)
    if evidence.cuda_problem:
        return _known_to_nvml(evidence, environment) or cause("driver without answer").finding(
            problem=evidence.cuda_problem
        )
    if evidence.init_error == 0 and not evidence.visible:
        return _no_gpu(evidence, environment, listed)
    return _without_version(evidence)


def _known_to_nvml(evidence: DriverEvidence, environment: HostEnvironment) -> Finding | None:
    """What NVML reports of a failure for which the driver library has only a general code, or no result at all."""
    code = evidence.init_error or 0
    name = NVML_CAUSES.get(evidence.nvml_error or 0)
    if not name or (code and code not in GENERAL_CODES):
        return None
    return _device_files(code, evidence, environment) or cause(name).finding(evidence.nvml_problem)


def _without_version(evidence: DriverEvidence) -> Finding | None:
    """Whether the driver library gives no CUDA version, though cuInit does not fail."""
    if evidence.version_error == STUB:
        return cause("stub library").finding(evidence=evidence.library)
    if evidence.version_error:
        return cause("driver without version").finding(answer=f"error {evidence.version_error}")
    if evidence.version_odd is not None:
        return cause("driver without version").finding(answer=f"{evidence.version_odd}")
    return None


def library_absent(evidence: DriverEvidence) -> bool:
    """Whether the loader finds no driver library, by its own message; one that it cannot load is not absent."""
    return evidence.library_error.endswith("No such file or directory") or "not find" in evidence.library_error


def hints_at_gpu(evidence: DriverEvidence) -> bool:
    """Whether anything hints at an NVIDIA GPU or at its driver, even where none of them answers."""
    nodes = any(state != "missing" for name, state in evidence.nodes.items() if name.startswith("nvidia"))
    broken = bool(evidence.library_error) and not library_absent(evidence)
    problems = evidence.cuda_problem or evidence.nvml_problem
    return bool(nodes or broken or problems or evidence.library or evidence.libraries or evidence.pci) or (
        "nvidia" in evidence.modules
    )


def unknown_order(evidence: DriverEvidence, environment: HostEnvironment) -> Finding | None:
    """Whether a value of CUDA_DEVICE_ORDER that the driver does not know explains its error 101."""
    order = environment.device_order
    if evidence.init_error != INVALID_DEVICE or order in DEVICE_ORDERS:
        return None
    return cause("unknown device order").finding(order=order)


# --- libcuda.so.1 cannot be loaded ---------------------------------------------------------------------


def _not_loaded(evidence: DriverEvidence, environment: HostEnvironment) -> Finding:
    error = evidence.library_error
    if not library_absent(evidence):
        if environment.container not in {"", *WITHOUT_DRIVER} and error.endswith("file too short"):
            return cause("empty library in the image").finding()
        if "failed to map segment" in error:
            return cause("driver library on noexec").finding(error=error.removeprefix("libcuda.so.1: "))
        return cause("broken library").finding(error=error.removeprefix("libcuda.so.1: "))
    return _off_the_path(evidence, environment) or _absent(evidence, environment)


def _off_the_path(evidence: DriverEvidence, environment: HostEnvironment) -> Finding | None:
    folders = [library.path.rpartition("/")[0] for library in evidence.libraries if library.bits == PROGRAM_BITS]
    if environment.wsl and any(f"{folder}/".startswith(WSL_FOLDER) for folder in folders):
        return cause("WSL library off the loader path").finding()
    if folders:
        return cause("library off the loader path").finding(folder=folders[0])
    if evidence.libraries and not any(one.bits for one in evidence.libraries):  # the loader passes over such files
        return cause("driver library not readable").finding(path=evidence.libraries[0].path)
    return None


def _absent(evidence: DriverEvidence, environment: HostEnvironment) -> Finding:
    if environment.container in SANDBOXES:
        return without_driver(environment)
    if environment.container and not (environment.container == "lxc" and _other_parts(evidence)):
        return _container_without_library(evidence, environment)
    if environment.wsl:
        return _wsl(evidence, environment)
    if evidence.libraries:
        return cause("32-bit library").finding(path=evidence.libraries[0].path)
    if parts := _other_parts(evidence):
        return cause("driver half installed").finding(what=parts)
    return _no_driver(evidence)


def _container_without_library(evidence: DriverEvidence, environment: HostEnvironment) -> Finding:
    if _has_nvml(evidence) or evidence.nodes.get("nvidiactl") == "ok":
        value = environment.container_capabilities
        return cause("container without compute").finding(
            evidence="" if value is None else f"NVIDIA_DRIVER_CAPABILITIES={value}"
        )
    return without_driver(environment)


def without_driver(environment: HostEnvironment) -> Finding:
    """There is no driver library, and this is a container or a sandbox: the remedy is that of its kind."""
    name = WITHOUT_DRIVER.get(environment.container)
    return cause(name).finding() if name else cause("container without driver").finding(_runtime_evidence(environment))


def _without_gpu(environment: HostEnvironment) -> Finding:
    name = WITHOUT_GPU.get(environment.container)
    return cause(name).finding() if name else cause("container without GPU").finding(_runtime_evidence(environment))


def _other_parts(evidence: DriverEvidence) -> str:
    """Which other parts of the driver are there, as a clause."""
    parts = ["the kernel module is loaded"] if "nvidia" in evidence.modules else []
    parts += ["libnvidia-ml.so.1 is installed"] if _has_nvml(evidence) else []
    return " and ".join(parts)


def _no_driver(evidence: DriverEvidence) -> Finding:
    gpus = evidence.pci or ()
    if gpus and (reserved := _reserved(gpus)):
        return reserved
    return cause("driver not installed").finding(address=gpus[0].address) if gpus else cause("no driver").finding()


def _reserved(gpus: tuple[PciGpu, ...]) -> Finding | None:
    """Whether other kernel drivers hold every GPU."""
    if all(gpu.driver in {"nouveau", "nova-core"} for gpu in gpus):
        return cause("nouveau").finding(address=gpus[0].address)
    if all(gpu.driver.startswith("vfio") for gpu in gpus):
        return cause("GPU passed through").finding(address=gpus[0].address)
    return None


# --- libcuda.so.1 answers an error ---------------------------------------------------------------------


def _refused(code: int, evidence: DriverEvidence, environment: HostEnvironment, listed: Sequence[Gpu]) -> Finding:
    if code == STUB or "/stubs/" in evidence.library:
        return cause("stub library").finding(evidence=evidence.library)
    if code == DRIVER_MISMATCH:
        return _mismatch(evidence, environment)
    if code in NO_MODULE_CODES and _linux_driver_in_wsl(evidence, environment):
        return cause("Linux driver in WSL").finding(library=evidence.library, code=code)
    if code == NO_DEVICE:
        return _no_gpu(evidence, environment, listed)
    specific = unknown_order(evidence, environment) or _device_files_refused(code, evidence, environment)
    return specific or _by_result(code, evidence)


def _device_files_refused(code: int, evidence: DriverEvidence, environment: HostEnvironment) -> Finding | None:
    return _device_files(code, evidence, environment) if code in ACCESS_CODES else None


def _by_result(code: int, evidence: DriverEvidence) -> Finding:
    if code == OUT_OF_MEMORY:  # cuInit takes memory of this process, and none of the GPU
        if evidence.address_space:
            return cause("address space limited").finding(limit=f"{evidence.address_space / 2**30:.1f} GiB")
        return cause("driver out of memory").finding()
    if row := by_code(code):
        return row.finding(evidence=evidence.library if _is_compat(evidence.library) else "")
    return cause("other driver error").finding(code=code)


def _mismatch(evidence: DriverEvidence, environment: HostEnvironment) -> Finding:
    versions = ""
    if evidence.library_version and evidence.module_version:
        versions = f"library {evidence.library_version}, module {evidence.module_version}"
    if _is_compat(evidence.library):
        return cause("cuda-compat mismatch").finding(evidence=versions or evidence.library)
    if _linux_driver_in_wsl(evidence, environment):
        return cause("Linux driver in WSL").finding(library=evidence.library, code=DRIVER_MISMATCH)
    if environment.container and versions and evidence.library_version != evidence.module_version:
        lxc = environment.container == "lxc"
        return cause("driver of another version in LXC" if lxc else "driver in the image").finding(evidence=versions)
    return cause("driver mismatch").finding(evidence=", ".join(filter(None, (f"error {DRIVER_MISMATCH}", versions))))


def _no_gpu(evidence: DriverEvidence, environment: HostEnvironment, listed: Sequence[Gpu]) -> Finding:
    """Why the driver library shows no GPU: none was passed on, or the kernel module does not use it."""
    code = evidence.init_error or NO_DEVICE  # what a program meets where cuInit succeeds without a GPU
    if listed and all(gpu.mig for gpu in listed):
        return _closed_files(evidence, environment) or _mig(listed)
    if environment.container and not _gpu_nodes(evidence):
        return _without_gpu(environment)
    if environment.wsl:
        return _wsl(evidence, environment)
    if device_files := _device_files(code, evidence, environment):
        return device_files
    control_exists = evidence.nodes.get("nvidiactl") != "missing"
    if environment.container and control_exists and evidence.nvml_error in CONTROL_REFUSED:
        return _lost(environment, node="nvidiactl", error=f"NVML error {evidence.nvml_error}")
    return _not_operated(code, evidence, listed)


def _mig(listed: Sequence[Gpu]) -> Finding:
    name = "MIG instance not usable" if any(gpu.mig_devices for gpu in listed) else "MIG without an instance"
    return cause(name).finding(gpu=listed[0].name)


def _not_operated(code: int, evidence: DriverEvidence, listed: Sequence[Gpu]) -> Finding:
    if not evidence.pci:
        known_elsewhere = evidence.pci is None or listed or _gpu_nodes(evidence)
        return cause("no GPU" if known_elsewhere else "no GPU on the bus").finding()
    if reserved := _reserved(evidence.pci):
        return reserved
    if "nvidia" in evidence.modules:
        return cause("GPU not started").finding(address=evidence.pci[0].address)
    name = "module refused by Secure Boot" if evidence.secure_boot else "module not loaded"
    return cause(name).finding(code=code)


def _device_files(code: int, evidence: DriverEvidence, environment: HostEnvironment) -> Finding | None:
    """Whether device files explain it: some may not be opened, or are missing while the module is loaded."""
    if (closed := _closed_files(evidence, environment)) or environment.wsl:  # WSL has none but /dev/dxg
        return closed
    missing = [name for name, state in evidence.nodes.items() if state == "missing"]
    if not _gpu_nodes(evidence):
        missing.append("nvidia0")
    loaded = "nvidia" in evidence.modules or "ok" in evidence.nodes.values() or evidence.nvml_error == 0
    if not (evidence.nodes and missing and loaded):
        return None
    names = " and ".join(f"/dev/{name}" for name in missing)
    return cause("device files missing").finding(code=code, nodes=f"{names} {'is' if len(missing) == 1 else 'are'}")


def _closed_files(evidence: DriverEvidence, environment: HostEnvironment) -> Finding | None:
    """Whether a device file may not be opened: by its permissions, or by the device cgroup of a container."""
    refused = [(name, state) for name, state in evidence.nodes.items() if state in REFUSED]
    if not refused:
        return None
    node, error = refused[0]
    if environment.container in SANDBOXES or (environment.container and error == "EPERM"):
        return _lost(environment, node=node, error=error)
    return cause("device files closed").finding(node=node, error=error)


def _lost(environment: HostEnvironment, *, node: str, error: str) -> Finding:
    """A container or a sandbox does not let its processes open a device file that is there."""
    if environment.container in SANDBOXES:
        return cause("sandbox may not open the GPU").finding(node=node, error=error)
    name = "LXC lost the GPU" if environment.container == "lxc" else "container lost the GPU"
    return cause(name).finding(node=node, error=error)


def _gpu_nodes(evidence: DriverEvidence) -> list[str]:
    return [name for name in evidence.nodes if name.removeprefix("nvidia").isdecimal()]


def _linux_driver_in_wsl(evidence: DriverEvidence, environment: HostEnvironment) -> bool:
    inside = environment.wsl and not environment.container
    return bool(inside and evidence.library) and not evidence.library.startswith(WSL_FOLDER)


def _is_compat(library: str) -> bool:
    """Whether a library is one of NVIDIA's cuda-compat packages, which install into cuda-*/compat."""
    return "compat" in library.split("/")


def _has_nvml(evidence: DriverEvidence) -> bool:
    return evidence.nvml_error not in {None, NVML_WITHOUT_LIBRARY}


def _runtime_evidence(environment: HostEnvironment) -> str:
    """What NVIDIA's container runtime was configured with, where that gives no GPU."""
    devices = environment.container_devices
    if devices is None or devices.strip() not in NO_GPU_FROM_RUNTIME:
        return ""
    return f"NVIDIA_VISIBLE_DEVICES={devices!r}"


def _wsl(evidence: DriverEvidence, environment: HostEnvironment) -> Finding:
    if environment.wsl_1:
        return cause("WSL 1").finding()
    dxg_missing = evidence.nodes and "dxg" not in evidence.nodes
    return cause("WSL without a GPU").finding("/dev/dxg is missing" if dxg_missing else "")


# --- NVML ----------------------------------------------------------------------------------------------


def explain_nvml(problem: str) -> Finding:
    """What a text of NVML means."""
    matched = by_text((problem,))
    if matched:
        return matched[0].finding(evidence=matched[1])
    return cause("GPU without answer").finding(problem=problem)
