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

Group = Literal["driver", "GPU", "wheel", "installed", "process"]

CUDA_ERRORS = "CUDA driver API, enum cudaError_enum"
CUDA_STRINGS = "CUDA runtime API, cudaGetErrorString"
CUDA_ENVIRONMENT = "CUDA C++ Programming Guide, CUDA Environment Variables"
NVML_ERRORS = "NVML API, enum nvmlReturn_t"
LOADER = "ld.so(8)"
GGML = "ggml's log"

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
        sentence="The driver library answers error 803 to cuInit: the library and the loaded kernel module are of "
        "different versions.",
        remedy="Reboot after a driver update; if that does not help, leave only one version of the driver installed.",
        codes=(803,),
        pattern=_driver_log(803, name="CUDA_ERROR_SYSTEM_DRIVER_MISMATCH")
        + r"|unsupported display driver / cuda driver combination|Driver/library version mismatch",
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
        remedy="Give this user read and write access to /dev/nvidia*; in a container, pass the devices to it.",
        codes=(304, 800),
        pattern=r"\bCUDA_ERROR_(NOT_PERMITTED|OPERATING_SYSTEM)\b|found no usable GPU: error (?:304|800)\b",
        source=f"{CUDA_ERRORS}; {NVML_ERRORS}",
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
        sentence="The driver shows this process no GPU (error 100).",
        remedy="See what `nox -s doctor` says of the driver and the GPUs.",
        codes=(100,),
        pattern=r"CUDA_ERROR_NO_DEVICE|no CUDA-capable device|no usable GPU|found no usable GPU: error 100\b",
        source=CUDA_ERRORS,
    ),
    # --- what evidence of the machine tells apart ----------------------------------------------------------
    Cause(
        name="hidden",
        group="GPU",
        seen="CUDA_VISIBLE_DEVICES by CUDA's own rules",
        sentence="CUDA_VISIBLE_DEVICES={value} hides every GPU{why}.",
        remedy="Unset it, or name a GPU of this machine{choices}.",
        source=CUDA_ENVIRONMENT,
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
        name="module not loaded",
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
    Cause(
        name="unknown",
        group="process",
        seen="none of these",
        sentence="It failed for a reason that is not known here, {end}.",
        remedy="Report this.",
        source="",
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
