"""The one table of causes: what each is recognised by, its sentence, its remedy.

``doctor`` uses it for the machine and for an installed llama_cpp, ``verify`` for a wheel that was run. The rows stand
in the order in which they are matched. docs/how-to/diagnose.md is generated from them
(``python -m build_matrix.diagnosis.page``).
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from typing import Any, Literal

from build_matrix.model import Finding, Record

Group = Literal["driver", "GPU", "machine", "wheel", "installed", "process"]

CUDA_ERRORS = "CUDA driver API, enum cudaError_enum"
CUDA_STRINGS = "CUDA runtime API, cudaGetErrorString"
CUDA_ENVIRONMENT = "CUDA C++ Programming Guide, CUDA Environment Variables"
NVML_ERRORS = "NVML API, enum nvmlReturn_t"
MIG_GUIDE = "https://docs.nvidia.com/datacenter/tesla/mig-user-guide/"
LOADER = "ld.so(8)"
GGML = "ggml's log"

LXC = "https://linuxcontainers.org/incus/docs/main/reference/devices_gpu/; lxc.container.conf(5)"
LXC_DEVICES = (
    "give the container the GPU in its configuration: `dev0: /dev/nvidia0` and so on for nvidiactl and nvidia-uvm "
    "(Proxmox), lxc.cgroup2.devices.allow and lxc.mount.entry for each (LXC), or `incus config device add NAME gpu0 "
    "gpu` (LXD: `lxc config`); then restart it."
)
FLATPAK = "https://docs.flatpak.org/en/latest/extension.html"
SNAP = "https://snapcraft.io/docs/opengl-interface"
SNAP_INTERFACES = (
    "Connect its interfaces for the GPU (`snap connections SNAP` lists them): `sudo snap connect SNAP:opengl`, and "
    "graphics-core22 or gpu-2404 where it has that plug; the driver is that of the host."
)

BUILD = "Build one for this machine: `nox -s build`."
UPDATE = "Update the driver, or build a wheel that it runs: `nox -s build`."


class Cause(Record, frozen=True, kw_only=True):
    """One cause of a failure.

    ``name`` is unique; ``rule`` is what findings and verdicts call it (empty: its name). ``seen`` says for the reader
    what it is recognised by; ``codes`` are the results of CUDA's driver API that mean it, ``pattern`` is a regular
    expression over a line that a process prints (case is ignored). ``sentence`` and ``remedy`` may hold
    ``{placeholders}``; those of a cause with codes or a pattern hold none.
    """

    name: str
    group: Group
    seen: str
    sentence: str
    remedy: str
    source: str
    rule: str = ""
    codes: tuple[int, ...] = ()
    pattern: str = ""

    @property
    def placeholders(self) -> frozenset[str]:
        """The facts that ``finding`` needs."""
        parts = [*string.Formatter().parse(self.sentence), *string.Formatter().parse(self.remedy)]
        return frozenset(name for _, name, _, _ in parts if name)

    def finding(self, evidence: str = "", **facts: Any) -> Finding:
        """The finding, with ``evidence`` after its sentence; KeyError if a placeholder has no fact."""
        sentence = self.sentence.format(**facts)
        if evidence.strip():
            sentence = f"{sentence.rstrip('.')}: {evidence.strip().rstrip('.')}."
        return Finding(
            rule=self.rule or self.name,
            kind="run",
            passed=False,
            fact=sentence,
            remedy=self.remedy.format(**facts),
        )


def _driver_log(*codes: int, name: str) -> str:
    """How a log names a result of cuInit: by its name, or by its number after our loader's or CUDA's own text."""
    numbers = "|".join(str(code) for code in codes)
    return rf"\b{name}\b|found no usable GPU: error (?:{numbers})\b|\bcuInit\b.{{0,40}}\b(?:{numbers})\b"


CAUSES: tuple[Cause, ...] = (
    # --- the CUDA runtime and the driver, in their own words -----------------------------------------------
    Cause(
        name="driver too old",
        group="wheel",
        seen="the CUDA runtime's error 35, or the wheel's own loader",
        sentence="The driver is too old for the CUDA version that the wheel is built with. Rebuilding will not help.",
        remedy=UPDATE,
        pattern=r"CUDA driver version is insufficient|the driver speaks CUDA [\d.]+, and this build needs|"
        r"INSUFFICIENT_DRIVER",
        source=CUDA_STRINGS,
    ),
    Cause(
        name="forward compatibility",
        group="driver",
        seen="error 804",
        sentence="Error 804: the forward-compatibility libraries do not support this GPU.",
        remedy="Take the cuda-compat folder out of LD_LIBRARY_PATH, or use an image of the driver's own CUDA version.",
        codes=(804,),
        pattern=r"forward compatibility was attempted|COMPAT_NOT_SUPPORTED_ON_DEVICE|\berror 804\b",
        source=CUDA_ERRORS + "; https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html",
    ),
    Cause(
        name="PTX too new",
        group="wheel",
        seen="error 222",
        sentence="The wheel holds only PTX for this GPU, from a toolkit newer than the driver can compile.",
        remedy=UPDATE,
        codes=(222,),
        pattern=r"provided PTX was compiled with an unsupported toolchain|UNSUPPORTED_PTX_VERSION",
        source=CUDA_ERRORS,
    ),
    Cause(
        name="no code for this GPU",
        group="wheel",
        seen="error 209",
        sentence="The wheel holds no machine code and no PTX for this GPU.",
        remedy=BUILD,
        codes=(209,),
        pattern=r"no kernel image is available|NO_BINARY_FOR_GPU",
        source=CUDA_ERRORS,
    ),
    Cause(
        name="unreadable code",
        group="wheel",
        seen="error 200 or 300",
        sentence="The driver cannot read the wheel's machine code; one before 550.54.14 cannot read compressed code.",
        remedy="Update the driver, or build with --define GGML_CUDA_COMPRESSION_MODE=none.",
        codes=(200, 300),
        pattern=r"device kernel image is invalid|CUDA_ERROR_INVALID_IMAGE|INVALID_SOURCE",
        source=CUDA_ERRORS,
    ),
    Cause(
        name="out of GPU memory",
        group="GPU",
        seen="error 2, or ggml's log",
        sentence="The GPU has not enough free memory.",
        remedy="End what else uses it (`nvidia-smi` lists that), or offload fewer layers.",
        codes=(2,),
        pattern=r"\bout of memory\b|(failed|unable) to allocate CUDA\d+ buffer|MEMORY_ALLOCATION|"
        r"the resource allocation failed",
        source=f"{CUDA_ERRORS}; {GGML}",
    ),
    Cause(
        name="kernels too large",
        group="wheel",
        seen="error 701",
        sentence="A kernel needs more registers than this GPU has: it was compiled fast, not well.",
        remedy="Build it with --profile release.",
        codes=(701,),
        pattern=r"too many resources requested for launch|LAUNCH_OUT_OF_RESOURCES",
        source=CUDA_ERRORS,
    ),
    Cause(
        name="GPU busy",
        group="GPU",
        seen="error 46",
        sentence="The GPU does not admit this process (error 46): it is in exclusive or prohibited compute mode, or "
        "MIG is on without an instance.",
        remedy="Set the mode back (`nvidia-smi -c DEFAULT`), or name a MIG instance in CUDA_VISIBLE_DEVICES.",
        codes=(46,),
        pattern=r"CUDA-capable device\(s\) is/are busy or unavailable|devices? (are|is) busy or unavailable|"
        r"DEVICE_UNAVAILABLE",
        source=CUDA_ERRORS,
    ),
    Cause(
        name="GPU lost",
        group="GPU",
        seen="NVML's error 15, or errors 214, 226 of the driver",
        sentence="The GPU stopped answering.",
        remedy="Reboot; see `dmesg` for Xid messages.",
        codes=(214, 226),
        pattern=r"GPU is lost|fallen off the bus|DEVICE_LOST|uncorrectable (NVLink|ECC)|ECC_UNCORRECTABLE|CONTAINED",
        source=f"{CUDA_ERRORS}; {NVML_ERRORS}",
    ),
    Cause(
        name="GPU needs a reset",
        group="GPU",
        seen="NVML's error 16",
        sentence="The GPU must be reset before it answers again.",
        remedy="End what uses it, then `sudo nvidia-smi --gpu-reset`; or reboot.",
        pattern=r"GPU requires reset|GPU requires restart",
        source=NVML_ERRORS,
    ),
    # --- the loader ------------------------------------------------------------------------------------------
    Cause(
        name="library of CUDA missing",
        group="wheel",
        seen="the loader's error",
        sentence="A library of CUDA that the wheel needs is missing, or there is only one of another major version.",
        remedy="Install the packages that carry it, of the wheel's CUDA major: nvidia-cuda-runtime, nvidia-cublas.",
        pattern=r"lib(cudart|cublas|cublasLt)\.so\.\d+: cannot open shared object|"
        r"lib(cudart|cublas|cublasLt)\S*: version .* not found",
        source=LOADER,
    ),
    Cause(
        name="folder of DLLs not searched",
        group="wheel",
        seen="Windows' error 126",
        sentence="Windows does not find a DLL that the wheel needs: Python searches no folder of PATH for it.",
        remedy="Install nvidia-cuda-runtime and nvidia-cublas into this environment, or call "
        "os.add_dll_directory first.",
        pattern=r"Could not find module '.*' \(or one of its dependencies\)|DLL load failed|WinError 126",
        source="Python, os.add_dll_directory",
    ),
    # --- cuInit ------------------------------------------------------------------------------------------------
    Cause(
        name="stub library",
        group="driver",
        seen="error 34",
        sentence="libcuda.so.1 is the stub of a CUDA toolkit, which serves linking only, and not NVIDIA's driver "
        "library (error 34).",
        remedy="Take the toolkit's stubs folder out of LD_LIBRARY_PATH and of the loader's configuration, then run "
        "`ldconfig`.",
        codes=(34,),
        pattern=_driver_log(34, name="CUDA_ERROR_STUB_LIBRARY") + r"|CUDA driver is a stub library",
        source=CUDA_ERRORS,
    ),
    Cause(
        name="fabric manager",
        group="driver",
        seen="error 802",
        sentence="The driver library answers error 802 to cuInit: the GPUs' NVSwitch fabric is not ready, because "
        "NVIDIA Fabric Manager does not run, still starts, or is of another version than the driver.",
        remedy="Install nvidia-fabricmanager of exactly the driver's version and start it on the host: `sudo systemctl "
        "enable --now nvidia-fabricmanager`; `nvidia-smi -q` must then show the fabric's state as Completed.",
        codes=(802,),
        pattern=_driver_log(802, name="CUDA_ERROR_SYSTEM_NOT_READY") + r"|system not yet initialized",
        source=CUDA_ERRORS + "; https://docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide/",
    ),
    Cause(
        name="driver mismatch",
        rule="kernel module",
        group="driver",
        seen="error 803, or NVML's error 18",
        sentence="The driver's library and its loaded kernel module are of different versions.",
        remedy="Reboot after a driver update; if that does not help, leave only one version of the driver installed.",
        codes=(803,),
        pattern=_driver_log(803, name="CUDA_ERROR_SYSTEM_DRIVER_MISMATCH")
        + r"|unsupported display driver / cuda driver combination|(?:Driver/library|NVML/RM) version mismatch",
        source=f"{CUDA_ERRORS}; {NVML_ERRORS}",
    ),
    Cause(
        name="driver not initialized",
        rule="kernel module",
        group="driver",
        seen="error 3",
        sentence="The driver library answers error 3 to cuInit: it cannot start, because the kernel module does not "
        "let it in.",
        remedy="See whether `nvidia-smi` works for this user; load the module (`sudo modprobe nvidia-uvm`) or restart "
        "the container.",
        codes=(3, 4),
        pattern=_driver_log(3, name="CUDA_ERROR_NOT_INITIALIZED"),
        source=CUDA_ERRORS,
    ),
    Cause(
        name="MPS",
        group="driver",
        seen="errors 805 to 810",
        sentence="The Multi-Process Service refuses this process.",
        remedy="Restart it (`echo quit | nvidia-cuda-mps-control`, then `nvidia-cuda-mps-control -d`), or unset "
        "CUDA_MPS_PIPE_DIRECTORY.",
        codes=(805, 806, 807, 808, 809, 810),
        pattern=r"CUDA_ERROR_MPS_\w+|\bMPS (client|server|daemon)\b.*(fail|refus|not ready|terminated)",
        source=CUDA_ERRORS,
    ),
    Cause(
        name="GPU not licensed",
        group="driver",
        seen="error 102",
        sentence="The driver library answers error 102 to cuInit: this virtual GPU has no licence.",
        remedy="Configure NVIDIA's licence server (/etc/nvidia/gridd.conf) and restart nvidia-gridd.",
        codes=(102,),
        pattern=_driver_log(102, name="CUDA_ERROR_DEVICE_NOT_LICENSED"),
        source=CUDA_ERRORS,
    ),
    Cause(
        name="not permitted",
        group="driver",
        seen="error 800 or 304, or NVML's error 4",
        sentence="The system does not let this process use the driver.",
        remedy="Give this user read and write access to /dev/nvidia* (group video or render); in a container, pass the "
        "devices to it.",
        codes=(304, 800),
        pattern=r"\bCUDA_ERROR_(NOT_PERMITTED|OPERATING_SYSTEM)\b|found no usable GPU: error (?:304|800)\b|"
        r"Insufficient Permissions",
        source=f"{CUDA_ERRORS}; {NVML_ERRORS}",
    ),
    Cause(
        name="library incomplete",
        group="driver",
        seen="error 500",
        sentence="The driver library answers error 500 to cuInit: the driver's parts are of different versions.",
        remedy="Install the driver again; in WSL, update it in Windows and run `wsl --update`, in Docker Desktop "
        "update that too.",
        codes=(500,),
        pattern=_driver_log(500, name="CUDA_ERROR_NOT_FOUND"),
        source=CUDA_ERRORS,
    ),
    Cause(
        name="not supported",
        group="driver",
        seen="error 801",
        sentence="The driver library answers error 801 to cuInit: the driver does not support CUDA on this system.",
        remedy="Install the driver that NVIDIA provides for this GPU and this system.",
        codes=(801,),
        pattern=_driver_log(801, name="CUDA_ERROR_NOT_SUPPORTED"),
        source=CUDA_ERRORS,
    ),
    Cause(
        name="invalid GPU number",
        group="GPU",
        seen="error 101",
        sentence="The driver library answers error 101: a GPU is asked for that it does not have.",
        remedy="Correct CUDA_VISIBLE_DEVICES: each GPU once, and only those that `nvidia-smi -L` lists.",
        codes=(101,),
        pattern=_driver_log(101, name="CUDA_ERROR_INVALID_DEVICE") + r"|invalid device ordinal",
        source=CUDA_ERRORS,
    ),
    Cause(
        name="unknown error",
        rule="kernel module",
        group="driver",
        seen="error 999",
        sentence="The driver library answers error 999 to cuInit: it cannot use the kernel module.",
        remedy="Reload it after a suspend (`sudo modprobe -r nvidia_uvm && sudo modprobe nvidia_uvm`), or reboot; "
        "`dmesg` says more.",
        codes=(999,),
        pattern=r"failed to initialize CUDA: unknown error|" + _driver_log(999, name="CUDA_ERROR_UNKNOWN"),
        source=CUDA_ERRORS,
    ),
    Cause(
        name="no driver",
        group="driver",
        seen="there is no driver library",
        sentence="There is no NVIDIA driver.",
        remedy="Install NVIDIA's driver where a GPU is; without one, wheels are built and tested on the CPU only.",
        pattern=r"no NVIDIA driver|libcuda\.so\.1: cannot open shared object",
        source=LOADER,
    ),
    Cause(
        name="no GPU",
        group="driver",
        seen="error 100",
        sentence="The driver shows this process no GPU.",
        remedy="Run `nvidia-smi -L`, which lists what the driver operates; `sudo dmesg | grep NVRM` may say more.",
        codes=(100,),
        pattern=r"CUDA_ERROR_NO_DEVICE|no CUDA-capable device|no usable GPU",
        source=CUDA_ERRORS,
    ),
    Cause(
        name="no GPU on the bus",
        rule="no GPU",
        group="driver",
        seen="error 100; no NVIDIA GPU on the PCI bus, and no /dev/nvidia0 nor another",
        sentence="There is no NVIDIA GPU in this machine: the driver shows none, and the PCI bus shows none either.",
        remedy="Use a machine that has one; in a virtual machine, pass the GPU through to it on its host. Without one, "
        "wheels are built and tested on the CPU only.",
        source="sysfs, /sys/bus/pci/devices",
    ),
    Cause(
        name="unknown device order",
        rule="invalid GPU number",
        group="GPU",
        seen="error 101; CUDA_DEVICE_ORDER is neither FASTEST_FIRST nor PCI_BUS_ID",
        sentence="CUDA_DEVICE_ORDER={order!r} is no order that the driver knows, for which it answers error 101.",
        remedy="Unset it, or set it to FASTEST_FIRST or PCI_BUS_ID.",
        source=CUDA_ENVIRONMENT + "; seen with a driver of CUDA 13.0",
    ),
    Cause(
        name="MIG without an instance",
        rule="MIG",
        group="GPU",
        seen="error 100; every GPU that NVML lists is in MIG mode, and no instance is listed",
        sentence="MIG is on, and the driver shows this process no instance of {gpu}.",
        remedy="Create a MIG instance on the host, with its compute instance (`nvidia-smi mig -lgip` lists the "
        "profiles, `sudo nvidia-smi mig -cgi PROFILE -C` creates one), in a container pass it on; or turn MIG off: "
        "`sudo nvidia-smi -mig 0`.",
        source=MIG_GUIDE,
    ),
    Cause(
        name="MIG instance not usable",
        rule="MIG",
        group="GPU",
        seen="error 100; every GPU that NVML lists is in MIG mode, and instances are listed",
        sentence="MIG is on, and {gpu} has instances, but the driver shows this process none of them.",
        remedy="Name one by its UUID in CUDA_VISIBLE_DEVICES (`nvidia-smi -L` lists them); this process needs access "
        "to its files in /dev/nvidia-caps, which a container gets with the instance.",
        source=MIG_GUIDE,
    ),
    # --- what evidence of the machine tells apart ----------------------------------------------------------
    Cause(
        name="WSL library off the loader path",
        group="driver",
        seen="WSL; /usr/lib/wsl/lib holds libcuda.so.1, and the loader does not find it",
        sentence="NVIDIA's driver library is not on the loader's path: this is WSL, which keeps it in "
        "/usr/lib/wsl/lib.",
        remedy="Set LD_LIBRARY_PATH=/usr/lib/wsl/lib, or write that folder to a file in /etc/ld.so.conf.d and run "
        "`sudo ldconfig`. The driver itself belongs to Windows: install none in WSL.",
        source="https://docs.nvidia.com/cuda/wsl-user-guide/",
    ),
    Cause(
        name="WSL without a GPU",
        group="driver",
        seen="WSL; no libcuda.so.1, or error 100",
        sentence="Windows gives this WSL no NVIDIA driver and no GPU.",
        remedy="Install NVIDIA's driver in Windows, then run `wsl --update` and `wsl --shutdown` there; WSL 1 has no "
        "GPU. Install no Linux driver in WSL.",
        source="https://docs.nvidia.com/cuda/wsl-user-guide/",
    ),
    Cause(
        name="Linux driver in WSL",
        group="driver",
        seen="WSL; a libcuda.so.1 of another folder than /usr/lib/wsl was loaded, and fails",
        sentence="A Linux driver is installed in WSL ({library}) and hides the one of Windows: error {code}.",
        remedy="Remove the Linux driver's packages (on Ubuntu: `sudo apt purge 'libnvidia-compute-*' "
        "'nvidia-driver-*'`), and let the loader find /usr/lib/wsl/lib.",
        source="https://docs.nvidia.com/cuda/wsl-user-guide/",
    ),
    Cause(
        name="library off the loader path",
        group="driver",
        seen="libcuda.so.1 lies in a usual folder, and the loader does not find it",
        sentence="NVIDIA's driver library is in {folder}, which is not on the loader's path.",
        remedy="Set LD_LIBRARY_PATH={folder}, or write that folder to a file in /etc/ld.so.conf.d and run `sudo "
        "ldconfig`.",
        source=LOADER,
    ),
    Cause(
        name="32-bit library",
        group="driver",
        seen="the ELF class of libcuda.so.1",
        sentence="NVIDIA's driver library for 64-bit programs is missing; {path} is for 32-bit ones.",
        remedy="Install the driver's 64-bit libraries, or take that folder out of LD_LIBRARY_PATH.",
        source=LOADER,
    ),
    Cause(
        name="broken library",
        group="driver",
        seen="any other error of the loader",
        sentence="libcuda.so.1 cannot be loaded: {error}.",
        remedy="Reinstall the driver.",
        source=LOADER,
    ),
    Cause(
        name="empty library in the image",
        rule="no driver",
        group="driver",
        seen="a container; the loader's error `file too short`",
        sentence="This container was given no GPU: the libcuda.so.1 of its image is empty, or too short for a "
        "library; with a GPU, the host's library takes its place.",
        remedy="Start the container with the GPU (`docker run --gpus all`, `podman run --device nvidia.com/gpu=all`).",
        source="https://github.com/warmshao/FasterLivePortrait/issues/37",
    ),
    Cause(
        name="address space limited",
        group="driver",
        seen="error 2 of cuInit, and a limit of virtual memory",
        sentence="The driver library cannot reserve the addresses that it needs: virtual memory is limited to {limit} "
        "(error 2).",
        remedy="Lift the limit: `ulimit -v unlimited`, or in the settings of the batch system.",
        source="seen with driver 580.159.04: 8 GB are too few, 40 GB are enough",
    ),
    Cause(
        name="driver out of memory",
        group="driver",
        seen="error 2 of cuInit, and no limit of virtual memory",
        sentence="The driver library answers error 2 to cuInit: it gets too little memory from the system.",
        remedy="See what is free (`free -h`) and the limits of this process (`ulimit -a`) and of its container or "
        "batch job; the GPU's own memory plays no part in it.",
        source=CUDA_ERRORS,
    ),
    Cause(
        name="driver without version",
        group="driver",
        seen="cuInit does not fail, and cuDriverGetVersion gives an error, or a number that is no version of CUDA",
        sentence="The driver library does not report which CUDA version it supports: cuDriverGetVersion answers "
        "{answer}.",
        remedy="See that libcuda.so.1 is NVIDIA's own and of the loaded kernel module's version (`nvidia-smi` shows "
        "it); else install the driver again.",
        source="CUDA driver API, cuDriverGetVersion",
    ),
    Cause(
        name="container without driver",
        rule="no driver",
        group="driver",
        seen="a container; no libcuda.so.1",
        sentence="There is no NVIDIA driver in this container.",
        remedy="Start the container with the GPU (`docker run --gpus all`, `podman run --device nvidia.com/gpu=all`, "
        "`apptainer exec --nv`); the driver belongs to its host, with NVIDIA's container toolkit.",
        source="https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/",
    ),
    Cause(
        name="container without GPU",
        rule="no GPU",
        group="driver",
        seen="a container; error 100, and no /dev/nvidia0 nor another",
        sentence="This container was given no GPU: its driver library shows none, and there is none in /dev.",
        remedy="Start the container with the GPU (`docker run --gpus all`, `podman run --device nvidia.com/gpu=all`, "
        "`apptainer exec --nv`, in Kubernetes the limit nvidia.com/gpu).",
        source="https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/",
    ),
    Cause(
        name="container without compute",
        group="driver",
        seen="a container; NVML's library or /dev/nvidiactl, and no libcuda.so.1",
        sentence="This container was given the GPU, but not NVIDIA's driver library for CUDA (libcuda.so.1).",
        remedy="Start it with NVIDIA_DRIVER_CAPABILITIES=compute,utility; in a compose file with capabilities: [gpu, "
        "compute, utility].",
        source="https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html",
    ),
    Cause(
        name="LXC without the driver",
        rule="no driver",
        group="driver",
        seen="an LXC container; no libcuda.so.1",
        sentence="There is no NVIDIA driver in this LXC container.",
        remedy="Install in it the libraries of exactly the host's driver version (NVIDIA's installer with "
        "--no-kernel-module), or on LXD and Incus set nvidia.runtime=true; " + LXC_DEVICES,
        source=LXC,
    ),
    Cause(
        name="LXC without GPU",
        rule="no GPU",
        group="driver",
        seen="an LXC container; error 100, and no /dev/nvidia0 nor another",
        sentence="This LXC container was given no GPU: its driver library shows none, and there is no /dev/nvidia0.",
        remedy="On its host, " + LXC_DEVICES,
        source=LXC,
    ),
    Cause(
        name="LXC lost the GPU",
        rule="container lost the GPU",
        group="driver",
        seen="an LXC container; a device file is there, and the device cgroup refuses it",
        sentence="This LXC container may not open /dev/{node} ({error}), though the file is there.",
        remedy="On its host, allow the file's major number (`ls -l /dev/nvidia*`): lxc.cgroup2.devices.allow: c 195:* "
        "rwm, and a line for that of nvidia-uvm; then restart the container.",
        source=LXC,
    ),
    Cause(
        name="driver of another version in LXC",
        rule="kernel module",
        group="driver",
        seen="an LXC container; error 803 with a library that is not of the host's version",
        sentence="The driver library in this LXC container does not fit the host's kernel module (error 803).",
        remedy="Install in it the libraries of exactly the host's driver version.",
        source=LXC,
    ),
    Cause(
        name="flatpak without the driver",
        rule="no driver",
        group="driver",
        seen="/.flatpak-info; no libcuda.so.1",
        sentence="There is no NVIDIA driver in this flatpak's sandbox.",
        remedy="Install the GL extension of the host's driver version: `flatpak update`, or `flatpak install "
        "org.freedesktop.Platform.GL.nvidia-VERSION` with hyphens in place of dots.",
        source=FLATPAK,
    ),
    Cause(
        name="flatpak without GPU",
        rule="no GPU",
        group="driver",
        seen="/.flatpak-info; error 100, and no /dev/nvidia0 nor another",
        sentence="This flatpak's sandbox was given no GPU: its driver library shows none, and there is no "
        "/dev/nvidia0.",
        remedy="Give it the device files: `flatpak override --user --device=all APP`, then start it again.",
        source=FLATPAK,
    ),
    Cause(
        name="snap without the driver",
        rule="no driver",
        group="driver",
        seen="SNAP and SNAP_NAME; no libcuda.so.1",
        sentence="There is no NVIDIA driver in this snap's sandbox.",
        remedy=SNAP_INTERFACES,
        source=SNAP,
    ),
    Cause(
        name="snap without GPU",
        rule="no GPU",
        group="driver",
        seen="SNAP and SNAP_NAME; error 100, and no /dev/nvidia0 nor another",
        sentence="This snap's sandbox was given no GPU: its driver library shows none, and there is no /dev/nvidia0.",
        remedy=SNAP_INTERFACES,
        source=SNAP,
    ),
    Cause(
        name="sandbox may not open the GPU",
        rule="not permitted",
        group="driver",
        seen="a flatpak or a snap; the error of opening a device file",
        sentence="This sandbox may not open /dev/{node} ({error}).",
        remedy="Give it the GPU: `flatpak override --user --device=all APP`, or `sudo snap connect SNAP:opengl`.",
        source=f"{FLATPAK}; {SNAP}",
    ),
    Cause(
        name="container lost the GPU",
        group="driver",
        seen="a container; a device file is there, and opening it is refused, or NVML's error 17 or 999 with error 100",
        sentence="This container lost its GPU: it may not open /dev/{node} ({error}), though the file is there.",
        remedy="Start the container again: `systemctl daemon-reload` on its host takes devices from running ones. On "
        "the host, passing each file with --device or by CDI prevents that, as do `nvidia-ctk system "
        "create-dev-char-symlinks` and Docker's cgroup driver cgroupfs in place of systemd.",
        source="https://github.com/NVIDIA/nvidia-container-toolkit/issues/48",
    ),
    Cause(
        name="driver in the image",
        rule="kernel module",
        group="driver",
        seen="a container; error 803 with a library that is not of the host's version",
        sentence="This container's image has a driver library of its own, which does not fit the host's kernel module "
        "(error 803).",
        remedy="Remove the driver's packages (libcuda1, libnvidia-compute-*, nvidia-driver-*) from the image: the host "
        "provides the library.",
        source="https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/",
    ),
    Cause(
        name="cuda-compat mismatch",
        rule="forward compatibility",
        group="driver",
        seen="error 803, and the library is one of cuda-compat",
        sentence="The driver library of cuda-compat does not fit the loaded kernel module (error 803).",
        remedy="Take the cuda-compat folder out of LD_LIBRARY_PATH, or use an image of the driver's own CUDA version.",
        source="https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html",
    ),
    Cause(
        name="driver half installed",
        group="driver",
        seen="the kernel module or NVML's library, and no libcuda.so.1",
        sentence="NVIDIA's driver library for CUDA (libcuda.so.1) is missing, though {what}.",
        remedy="Install the package that carries it, of the driver's version: libnvidia-compute-* (Ubuntu), libcuda1 "
        "(Debian), nvidia-driver-cuda or xorg-x11-drv-nvidia-cuda (Fedora), nvidia-utils (Arch).",
        source="packages of the distributions",
    ),
    Cause(
        name="nouveau",
        group="driver",
        seen="nouveau is bound to the GPU on the PCI bus",
        sentence="The GPU ({address}) uses the driver nouveau, which does not support CUDA.",
        remedy="Install NVIDIA's driver, which keeps nouveau from loading, and reboot.",
        source="sysfs, /sys/bus/pci/devices",
    ),
    Cause(
        name="GPU passed through",
        group="driver",
        seen="vfio-pci is bound to the GPU on the PCI bus",
        sentence="The GPU ({address}) is set aside for a virtual machine (vfio-pci).",
        remedy="Run this inside that virtual machine, or give the GPU back to the driver nvidia.",
        source="sysfs, /sys/bus/pci/devices",
    ),
    Cause(
        name="driver not installed",
        rule="no driver",
        group="driver",
        seen="an NVIDIA GPU on the PCI bus, and no driver",
        sentence="There is no NVIDIA driver, though the PCI bus shows an NVIDIA GPU ({address}).",
        remedy="Install NVIDIA's driver, then reboot.",
        source="sysfs, /sys/bus/pci/devices",
    ),
    Cause(
        name="module not loaded",
        rule="kernel module",
        group="driver",
        seen="the library, a GPU on the PCI bus, and no module nvidia",
        sentence="The driver's kernel module is not loaded (error {code}).",
        remedy="Reboot if the driver was installed just now; else `sudo modprobe nvidia`, whose error says more (for "
        "example that no module was built for this kernel).",
        source="sysfs, /sys/module",
    ),
    Cause(
        name="module refused by Secure Boot",
        rule="kernel module",
        group="driver",
        seen="the same, and Secure Boot is on",
        sentence="The driver's kernel module is not loaded (error {code}), and Secure Boot is on, which refuses a "
        "module that is not signed.",
        remedy="Enrol the key that signed it (`sudo mokutil --import`, then reboot), or install a signed module of "
        "your distribution; `sudo modprobe nvidia` says whether that is why.",
        source="UEFI specification, SecureBoot",
    ),
    Cause(
        name="GPU not started",
        rule="kernel module",
        group="driver",
        seen="error 100, though the module is loaded and the GPU is on the PCI bus",
        sentence="The kernel module is loaded, but it does not operate the GPU ({address}).",
        remedy="See `sudo dmesg | grep NVRM`: the GPU failed, or this branch of the driver, or its open module, does "
        "not support it.",
        source="sysfs, /sys/bus/pci/devices",
    ),
    Cause(
        name="device files missing",
        rule="kernel module",
        group="driver",
        seen="the module is loaded, and /dev/nvidia-uvm, nvidiactl or nvidia0 is missing",
        sentence="The driver library answers error {code} to cuInit: {nodes} missing.",
        remedy="Run `sudo nvidia-modprobe -c 0 -u`, on the host if this is a container, and pass the devices to it.",
        source="https://download.nvidia.com/XFree86/Linux-x86_64/580.65.06/README/commonproblems.html",
    ),
    Cause(
        name="device files closed",
        rule="not permitted",
        group="driver",
        seen="the error of opening a device file",
        sentence="This user may not open /dev/{node} ({error}).",
        remedy="Add the user to the group that owns it (video or render), or give everybody access, as the driver does "
        "by default (NVreg_DeviceFileMode=0666).",
        source="https://download.nvidia.com/XFree86/Linux-x86_64/580.65.06/README/commonproblems.html",
    ),
    Cause(
        name="driver without answer",
        group="driver",
        seen="the time limit, or the signal that ended the process that asked",
        sentence="CUDA programs cannot run: {problem}.",
        remedy="See whether `nvidia-smi` answers, and `sudo dmesg | grep -e NVRM -e Xid`; reboot if it does not.",
        source="the process that asked",
    ),
    Cause(
        name="other driver error",
        group="driver",
        seen="any other result of cuInit",
        sentence="The driver library answers error {code} to cuInit, which this tool does not know.",
        remedy="Look it up in enum cudaError_enum of CUDA's driver API; `nvidia-smi` and `dmesg` may say more.",
        source=CUDA_ERRORS,
    ),
    Cause(
        name="hidden",
        group="GPU",
        seen="CUDA_VISIBLE_DEVICES, by CUDA's own rules",
        sentence="CUDA_VISIBLE_DEVICES={value!r} hides every GPU{why}.",
        remedy="Unset it, or name a GPU of this machine: `nvidia-smi -L` lists them.",
        source=CUDA_ENVIRONMENT,
    ),
    Cause(
        name="GPU named twice",
        rule="hidden",
        group="GPU",
        seen="CUDA_VISIBLE_DEVICES; error 101",
        sentence="CUDA_VISIBLE_DEVICES={value!r} names a GPU twice ({entry!r}), for which the driver answers "
        "error 101.",
        remedy="Name each GPU once.",
        source="seen with driver 580.159.04",
    ),
    Cause(
        name="list of GPUs ends early",
        group="GPU",
        seen="CUDA_VISIBLE_DEVICES, by CUDA's own rules",
        sentence="CUDA_VISIBLE_DEVICES={value!r} ends at {entry!r}, which {why}: CUDA reads nothing after it.",
        remedy="Correct or remove that entry: `nvidia-smi -L` lists the GPUs.",
        source=CUDA_ENVIRONMENT,
    ),
    Cause(
        name="compute mode",
        group="GPU",
        seen="NVML's compute mode",
        sentence="{gpu} is in compute mode {mode}.",
        remedy="Set it back: `nvidia-smi -c DEFAULT`.",
        source="NVML API, nvmlDeviceGetComputeMode",
    ),
    Cause(
        name="NVML fails",
        rule="NVML",
        group="GPU",
        seen="NVML's errors 4, 15, 16 and 18, though the driver library works",
        sentence="NVML does not answer, though the driver library does: {problem}.",
        remedy="nvidia-smi, and what else asks NVML, fails too. {remedy}",
        source=NVML_ERRORS,
    ),
    Cause(
        name="GPU without answer",
        group="GPU",
        seen="any other error of NVML for one GPU",
        sentence="NVML does not describe every GPU: {problem}.",
        remedy="Run `nvidia-smi -q`; `sudo dmesg | grep NVRM` may say more.",
        source=NVML_ERRORS,
    ),
    Cause(
        name="cuda-compat on the loader path",
        group="driver",
        seen="LD_LIBRARY_PATH",
        sentence="cuda-compat is on the loader path ({folders}): {versions}.",
        remedy="Only data-centre GPUs support that; elsewhere take it out of LD_LIBRARY_PATH.",
        source="https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html",
    ),
    Cause(
        name="platform not supported",
        group="machine",
        seen="the system and the processor",
        sentence="Wheels are not built for {platform}.",
        remedy="Use Linux x86-64 with glibc; what is reported of the driver and the GPUs holds here as well.",
        source="build_matrix/catalog",
    ),
    Cause(
        name="no compiler",
        group="machine",
        seen="no C++ compiler answers",
        sentence="There is no C++ compiler.",
        remedy="Install one: `apt install g++`, or set CXX to it.",
        source="PATH, CXX",
    ),
    Cause(
        name="part not examined",
        group="machine",
        seen="an error while a part of the machine was examined",
        sentence="One part of this machine could not be examined: {problem}.",
        remedy="The rest stands. Report this, with the output of `nox -s doctor -- --json`.",
        source="the examination",
    ),
    Cause(
        name="toolkit broken",
        group="machine",
        seen="CUDA_PATH and the like, and PATH",
        sentence="{found_by} leads to {root}: {problem}.",
        remedy="Fix or remove it; this tool ignores it.",
        source="the installed toolkits",
    ),
    # --- a wheel, and an installed llama_cpp ---------------------------------------------------------------
    Cause(
        name="CPU build",
        group="installed",
        seen="none of its libraries needs CUDA",
        sentence="{what} is a CPU build: none of its libraries needs CUDA.",
        remedy=BUILD,
        source="DT_NEEDED of its libraries",
    ),
    Cause(
        name="no CUDA in the label",
        rule="CPU build",
        group="wheel",
        seen="the local version label of its name",
        sentence="The wheel claims no CUDA version ({label}).",
        remedy=BUILD,
        source="the wheel's name",
    ),
    Cause(
        name="library not declared",
        rule="library of CUDA missing",
        group="wheel",
        seen="DT_NEEDED of its libraries, and its declared dependencies",
        sentence="A library that the wheel needs is neither in it nor in a package that it declares.",
        remedy="Build it again; report this if it was built here.",
        source="the wheel",
    ),
    Cause(
        name="no GPU in this machine",
        rule="no GPU",
        group="driver",
        seen="neither library lists a GPU",
        sentence="There is no NVIDIA GPU.",
        remedy="Run it on a machine that has one.",
        source="NVML and the driver library",
    ),
    Cause(
        name="illegal instruction",
        group="process",
        seen="SIGILL",
        sentence="The processor does not know an instruction of the wheel.",
        remedy="Build it without --define of instruction sets.",
        source="signal(7)",
    ),
    Cause(
        name="too much memory",
        group="process",
        seen="the watch on its process",
        sentence="The wheel's process was stopped at {job}: it took too much memory.",
        remedy="Report this.",
        source="the watch on its process",
    ),
    Cause(
        name="no end",
        group="process",
        seen="the watch on its process",
        sentence="The wheel's process was stopped at {job}.",
        remedy="Report this.",
        source="the watch on its process",
    ),
    Cause(
        name="shadowed",
        group="installed",
        seen="the folder that was imported",
        sentence="Another llama_cpp hides the one that was installed.",
        remedy="Uninstall it, or take its folder out of sys.path.",
        source="sys.path",
    ),
    Cause(
        name="wheel",
        group="wheel",
        seen="the static checks",
        sentence="The wheel contradicts itself: {check}.",
        remedy="Get it again, or build it.",
        source="the wheel",
    ),
    Cause(
        name="back end not loaded",
        rule="module not loaded",
        group="wheel",
        seen="the wheel's own report",
        sentence="The wheel has a CUDA back end, but nothing loaded it.",
        remedy=BUILD,
        source="the wheel's own loader",
    ),
    Cause(
        name="wrong numbers",
        group="wheel",
        seen="the numbers beside those of the CPU",
        sentence="It computes wrong numbers.",
        remedy="Do not use this wheel; report it, with its verdict.",
        source="the reference of the verification",
    ),
    # --- an installed llama_cpp: where it is ---------------------------------------------------------------
    Cause(
        name="not installed",
        group="installed",
        seen="Python's own finders, import hooks included",
        sentence="{python} has no llama_cpp.",
        remedy="Install a wheel into that environment; where pip lists one, delete what is left of it and install it "
        "again: `pip install --force-reinstall`.",
        source="importlib.util.find_spec",
    ),
    Cause(
        name="another module's name",
        group="installed",
        seen="no llama_cpp, but a distribution that brings llama.cpp in a module of another name",
        sentence="{python} has no llama_cpp, but {modules}, a build of llama.cpp under another name.",
        remedy="Use it through the program that it is made for; for programs that import llama_cpp, install a wheel of "
        "llama-cpp-python beside it.",
        source="importlib.util.find_spec, RECORD of the distributions",
    ),
    Cause(
        name="folder without package",
        group="installed",
        seen="a folder llama_cpp without __init__.py is what Python imports",
        sentence="{folder} holds no package: Python imports an empty llama_cpp from it.",
        remedy="Delete that folder, which an uninstallation left behind, or start Python elsewhere; then install a "
        "wheel.",
        source="PEP 420",
    ),
    Cause(
        name="another module",
        group="installed",
        seen="a file llama_cpp.py is what Python imports",
        sentence="`import llama_cpp` runs {file}, which is not llama-cpp-python.",
        remedy="Rename that file, or take its folder out of PYTHONPATH.",
        source="sys.path",
    ),
    Cause(
        name="package in an archive",
        group="installed",
        seen="the package lies in a zip file",
        sentence="{file} lies in an archive, from which the loader loads no library.",
        remedy="Install the package as files: `pip install`.",
        source="zipimport",
    ),
    Cause(
        name="hides another",
        group="installed",
        seen="further llama_cpp on sys.path",
        sentence="{folder} hides another llama_cpp: {others}.",
        remedy="Uninstall both, then install one; if the first is a source folder, start Python outside it.",
        source="sys.path",
    ),
    Cause(
        name="installed over one another",
        group="installed",
        seen="RECORD of the distributions",
        sentence="{names} own the same folder, {folder}: the later one replaced files of the earlier one.",
        remedy="Uninstall all of them, delete what is left of the folder, then install one.",
        source="importlib.metadata",
    ),
    Cause(
        name="code of another version",
        group="installed",
        seen="__version__ beside METADATA",
        sentence="{folder} holds the code of {module_version}, but pip has recorded {version}.",
        remedy="Uninstall it, delete what is left of the folder, then install it again.",
        source="importlib.metadata",
    ),
    Cause(
        name="Python too old for it",
        group="installed",
        seen="Requires-Python",
        sentence="{name} {version} needs Python {requires}, and this is {python_version}.",
        remedy="Install it with a Python of that version.",
        source="Core metadata, Requires-Python",
    ),
    Cause(
        name="library folder absent",
        group="installed",
        seen="LLAMA_CPP_LIB_PATH, LLAMA_CPP_LIB",
        sentence="{variable} is set, and there is nothing where it leads: llama_cpp loads its libraries from there.",
        remedy="Unset it, or set it to the folder that holds libllama.",
        source="llama_cpp/llama_cpp.py",
    ),
    Cause(
        name="library folder empty",
        group="installed",
        seen="LLAMA_CPP_LIB_PATH, LLAMA_CPP_LIB",
        sentence="{variable} is set, and there is no library in {folder}: llama_cpp loads its libraries from there.",
        remedy="Unset it, or set it to the folder that holds libllama.",
        source="llama_cpp/llama_cpp.py",
    ),
    # --- an installed llama_cpp: its libraries ---------------------------------------------------------------
    Cause(
        name="library for another platform",
        group="installed",
        seen="the first bytes of its libraries",
        sentence="{files} {are} for {platform}, and not for this machine.",
        remedy="Install a wheel for this platform.",
        source="ELF header",
    ),
    Cause(
        name="library missing",
        group="installed",
        seen="what ld.so finds for DT_NEEDED",
        sentence="{names}, which {needed_by}, {are} not on this machine.",
        remedy="{remedy}",
        source="ld.so(8); build_matrix/catalog/installations.toml",
    ),
    Cause(
        name="library off the path",
        group="installed",
        seen="what ld.so finds for DT_NEEDED, and where such libraries lie",
        sentence="{names}, which {needed_by}, {are} in {folder}, where the loader does not look.",
        remedy="Set LD_LIBRARY_PATH={folder} before Python starts. Wheels of this tool find CUDA's libraries by "
        "themselves.",
        source="ld.so(8)",
    ),
    Cause(
        name="library from elsewhere",
        group="installed",
        seen="what ld.so finds for DT_NEEDED",
        sentence="{names} of another llama.cpp, in {folder}, is loaded before the package's own.",
        remedy="Take that folder out of LD_LIBRARY_PATH, or uninstall that llama.cpp.",
        source="ld.so(8)",
    ),
    Cause(
        name="glibc too old",
        group="installed",
        seen="the loader's error",
        sentence="The package needs a newer glibc than this system has.",
        remedy="glibc comes with the system: use a newer one, or build a wheel that asks for less: `nox -s build`.",
        pattern=r"version [`']GLIBC_[\w.]+' not found",
        source=LOADER,
    ),
    Cause(
        name="libstdc++ too old",
        group="installed",
        seen="the loader's error",
        sentence="The package needs a newer libstdc++ than the one that is loaded.",
        remedy="In a conda environment: `conda install -c conda-forge libstdcxx-ng`; elsewhere use a newer system, or "
        "build a wheel that asks for less: `nox -s build`.",
        pattern=r"version [`'](GLIBCXX|CXXABI)_[\w.]+' not found|undefined symbol: _ZN?K?S[tabsiod]",
        source=LOADER,
    ),
    Cause(
        name="system library too old",
        group="installed",
        seen="the loader's error",
        sentence="A library of this system is older than the one that the package was built with.",
        remedy="Update it, or build a wheel that asks for less: `nox -s build`.",
        pattern=r"version [`'][A-Z]+_[\w.]+' not found",
        source=LOADER,
    ),
    Cause(
        name="mixed versions",
        group="installed",
        seen="the loader's error",
        sentence="The package's Python code and its libraries are of different versions.",
        remedy="Uninstall it, delete what is left of the folder llama_cpp, unset LLAMA_CPP_LIB_PATH and "
        "LLAMA_CPP_LIB, then install it again (`pip install --no-cache-dir`).",
        pattern=r"undefined symbol: (llama|ggml|gguf|mtmd|llava|clip)_|symbol\(?s?\)? (were )?(not )?found: "
        r"(llama|ggml|mtmd)_|function '(llama|ggml|mtmd)_\w+' not found",
        source=LOADER,
    ),
    Cause(
        name="undefined symbol",
        group="installed",
        seen="the loader's error",
        sentence="A library lacks a function that another one needs: they are of different versions.",
        remedy="Install the packages that bring both again, of versions that belong together; see which file is "
        "loaded with `LD_DEBUG=libs`.",
        pattern=r"undefined symbol: \w+|not defined in file .* with link time reference|symbol not found",
        source=LOADER,
    ),
    Cause(
        name="damaged library",
        group="installed",
        seen="the loader's error",
        sentence="A library of the package is damaged, or for another platform.",
        remedy="Install it again: `pip install --force-reinstall --no-cache-dir`.",
        pattern=r"invalid ELF header|file too short|wrong ELF class|ELF load command|not a valid Win32 application|"
        r"mach-o",
        source=LOADER,
    ),
    Cause(
        name="no code from this folder",
        group="installed",
        seen="the loader's error",
        sentence="The loader may not run code from where the package lies.",
        remedy="Install it on a file system that is not mounted with noexec; check the rights of its files.",
        pattern=r"failed to map segment from shared object|cannot open shared object file: Permission denied",
        source=LOADER + "; mount(8), noexec",
    ),
    Cause(
        name="executable stack",
        group="installed",
        seen="the loader's error",
        sentence="A library of the package asks for an executable stack, which this system does not give.",
        remedy="Install a newer wheel, or build one: `nox -s build`.",
        pattern=r"cannot enable executable stack",
        source="glibc 2.41, NEWS",
    ),
    Cause(
        name="static TLS",
        group="installed",
        seen="the loader's error",
        sentence="A library that the package needs came too late: the room for thread-local data of such libraries is "
        "used up.",
        remedy="Import llama_cpp before other large packages, or name that library in LD_PRELOAD.",
        pattern=r"cannot allocate memory in static TLS block",
        source=LOADER,
    ),
    Cause(
        name="no library in the package",
        group="installed",
        seen="the package's own error, and its folders",
        sentence="The package has no library libllama: it was copied or installed without being built.",
        remedy="Install a wheel; start Python outside of a source folder of llama-cpp-python.",
        pattern=r"Shared library with base name '\w+' not found|Failed to load '\w+' from",
        source="llama_cpp/_ctypes_extensions.py",
    ),
    # --- an installed llama_cpp: its import ------------------------------------------------------------------
    Cause(
        name="Python module missing",
        group="installed",
        seen="ModuleNotFoundError",
        sentence="The import fails, because the Python module {module} is missing.",
        remedy="Install it into that environment: `pip install {project}`.",
        source="ModuleNotFoundError",
    ),
    Cause(
        name="package incomplete",
        group="installed",
        seen="ModuleNotFoundError",
        sentence="The import fails, because {module} is missing, which is a part of the package itself.",
        remedy="Install it again: `pip install --force-reinstall --no-deps --no-cache-dir`.",
        source="ModuleNotFoundError",
    ),
    Cause(
        name="import does not end",
        group="installed",
        seen="a time limit",
        sentence="{what} did not return within {seconds} s.",
        remedy="See whether `nvidia-smi` answers; end processes that hold the GPU, then restart the driver's "
        "services or the machine (under WSL: `wsl --shutdown`).",
        source="faulthandler",
    ),
    Cause(
        name="import by an older processor",
        rule="illegal instruction",
        group="installed",
        seen="SIGILL",
        sentence="{what} ended by SIGILL, an illegal instruction: the package is compiled for a newer processor than "
        "this one.",
        remedy="Build a wheel, which chooses its CPU code at run time: `nox -s build`. Of upstream's sources: "
        "CMAKE_ARGS='-DGGML_NATIVE=OFF' with -DGGML_AVX512=OFF, -DGGML_AVX2=OFF or -DGGML_FMA=OFF as needed.",
        source="signal(7)",
    ),
    Cause(
        name="import is killed",
        group="installed",
        seen="SIGKILL",
        sentence="{what} was killed (SIGKILL), as Linux does when memory runs out.",
        remedy="Free some memory, in a container raise its memory limit (the kernel's log, `dmesg`, names what was "
        "killed); else see what limits or supervises processes here.",
        source="signal(7)",
    ),
    Cause(
        name="import crashes",
        group="installed",
        seen="the signal, or the exit code",
        sentence="{what} ended the process by {how}.",
        remedy="Install it again (`pip install --force-reinstall --no-cache-dir`), without other packages that load "
        "another version of the same libraries; if it goes on, report this.",
        source="signal(7)",
    ),
    Cause(
        name="import fails",
        group="installed",
        seen="any other exception",
        sentence="The import fails.",
        remedy="Install it again: `pip install --force-reinstall --no-cache-dir`; if it goes on, report this.",
        source="Python's exception",
    ),
    # --- an installed llama_cpp: offload ---------------------------------------------------------------------
    Cause(
        name="newer CUDA than the driver's",
        rule="driver too old",
        group="installed",
        seen="the CUDA runtime that its libraries need, and what the driver library answers",
        sentence="It is built with CUDA {family}, but {driver} speaks CUDA {cuda}. Rebuilding with the same "
        "toolkit will not help.",
        remedy="Update the driver to one of CUDA {family}, or install a wheel of CUDA {major}.",
        source="CUDA Compatibility, minor version compatibility",
    ),
    Cause(
        name="labelled for another machine",
        group="installed",
        seen="the local label of its version, where its libraries do not contradict it",
        sentence="It is labelled {label}. {why}",
        remedy="{remedy}",
        source="the label, and the rules of `nox -s plan`",
    ),
    Cause(
        name="back ends not loaded",
        group="installed",
        seen="ggml's registry has no device, and back ends lie in the package",
        sentence="Its {backends} back end is a module that nothing loads: the registry lists {devices}.",
        remedy="Install a build that loads its modules (`nox -s build`), or one whose back ends are linked "
        "(-DGGML_BACKEND_DL=OFF).",
        source="https://github.com/abetlen/llama-cpp-python/issues/2069",
    ),
    Cause(
        name="no GPU registered",
        group="installed",
        seen="llama_supports_gpu_offload, ggml's registry",
        sentence="Its {backends} back end registers no GPU.",
        remedy="{remedy}",
        source="ggml-backend.h",
    ),
    Cause(
        name="offload without a GPU",
        group="installed",
        seen="ggml's registry",
        sentence="It says that it can offload, but lists no GPU: {devices}.",
        remedy="{remedy}",
        source="ggml-backend.h",
    ),
    Cause(
        name="not judged",
        group="installed",
        seen="neither its own answers nor the machine's decide it",
        sentence="Whether {what} offloads cannot be judged: {why}.",
        remedy="{remedy}",
        source="llama_supports_gpu_offload, ggml's registry, the driver library",
    ),
    Cause(
        name="unknown",
        group="process",
        seen="none of these",
        sentence="It failed for a reason that is not known here: {end}.",
        remedy="Report this.",
        source="the log",
    ),
)

BY_NAME = {cause.name: cause for cause in CAUSES}


def cause(name: str) -> Cause:
    """The cause of this name; KeyError for one that the table does not hold."""
    return BY_NAME[name]


def by_code(code: int) -> Cause | None:
    """The cause that a result of CUDA's driver API means by itself; None for a result that is in no row."""
    return next((row for row in CAUSES if code in row.codes), None)


def by_text(lines: Iterable[str]) -> tuple[Cause, str] | None:
    """The first cause of the table that a line names, with that line; None if no line names one."""
    known = tuple(lines)
    for row in CAUSES:
        if row.pattern:
            pattern = re.compile(row.pattern, re.IGNORECASE)
            if line := next((line for line in known if pattern.search(line)), ""):
                return row, line.strip()
    return None
