"""Why a wheel does not offload, from what it said when it was tried."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from build_matrix.diagnosis.machine import hidden, why_no_gpu
from build_matrix.model import Check, Finding, Gpu, Machine, RunFacts

EXCERPT = 3  # lines of a log in a finding
TELLING = re.compile(r"\berror\b|Error:|ASSERT|assertion|abort|what\(\)", re.IGNORECASE)
ILLEGAL_INSTRUCTION = signal.SIGILL if sys.platform != "win32" else None


class Signature(NamedTuple):
    """A cause that the CUDA runtime, the driver or the loader names in its own words."""

    rule: str
    pattern: str
    fact: str
    remedy: str


REBUILD = "Build one for this machine: `nox -s build`."
UPDATE = "Update the driver, or build a wheel that it runs: `nox -s build`."

# The first that matches counts. Words: cudaGetErrorString and cuGetErrorName (CUDA driver API, cudaError_enum), ld.so,
# ctypes, ggml's log and the loader of this tool's wheels.
SIGNATURES = (
    Signature(
        "driver too old",
        r"CUDA driver version is insufficient|the driver speaks CUDA [\d.]+, and this build needs|INSUFFICIENT_DRIVER",
        "The driver is too old for the CUDA version that the wheel is built with. Rebuilding will not help",
        UPDATE,
    ),
    Signature(
        "forward compatibility",
        r"forward compatibility was attempted|COMPAT_NOT_SUPPORTED_ON_DEVICE|\berror 804\b",
        "Error 804: the forward-compatibility libraries do not support this GPU",
        "Take the cuda-compat folder out of LD_LIBRARY_PATH, or use an image of the driver's own CUDA version.",
    ),
    Signature(
        "PTX too new",
        r"provided PTX was compiled with an unsupported toolchain|UNSUPPORTED_PTX_VERSION",
        "The wheel holds only PTX for this GPU, from a toolkit newer than the driver can compile",
        UPDATE,
    ),
    Signature(
        "no code for this GPU",
        r"no kernel image is available|NO_BINARY_FOR_GPU",
        "The wheel holds no machine code and no PTX for this GPU",
        REBUILD,
    ),
    Signature(
        "unreadable code",
        r"device kernel image is invalid|CUDA_ERROR_INVALID_IMAGE|INVALID_SOURCE",
        "The driver cannot read the wheel's machine code; one before 550.54.14 cannot read compressed code",
        "Update the driver, or build with --define GGML_CUDA_COMPRESSION_MODE=none.",
    ),
    Signature(
        "out of GPU memory",
        r"\bout of memory\b|(failed|unable) to allocate CUDA\d+ buffer|MEMORY_ALLOCATION|"
        r"the resource allocation failed",
        "The GPU has not enough free memory",
        "End what else uses it (`nvidia-smi` lists that), or offload fewer layers.",
    ),
    Signature(
        "kernels too large",
        r"too many resources requested for launch|LAUNCH_OUT_OF_RESOURCES",
        "A kernel needs more registers than this GPU has: it was compiled fast, not well",
        "Build it with --profile release.",
    ),
    Signature(
        "GPU busy",
        r"CUDA-capable device\(s\) is/are busy or unavailable|devices? (are|is) busy or unavailable|DEVICE_UNAVAILABLE",
        "The GPU does not let this process in: it is in exclusive or prohibited compute mode, or MIG is on without an "
        "instance",
        "Set the mode back (`nvidia-smi -c DEFAULT`), or name a MIG instance in CUDA_VISIBLE_DEVICES.",
    ),
    Signature(
        "GPU lost",
        r"GPU is lost|fallen off the bus|DEVICE_LOST|uncorrectable (NVLink|ECC)|ECC_UNCORRECTABLE|CONTAINED",
        "The GPU stopped answering while it worked",
        "Reboot; see `dmesg` for Xid messages.",
    ),
    Signature(
        "library of CUDA missing",
        r"lib(cudart|cublas|cublasLt)\.so\.\d+: cannot open shared object|"
        r"lib(cudart|cublas|cublasLt)\S*: version .* not found",
        "A library of CUDA that the wheel needs is missing, or there is only one of another major version",
        "Install the packages that carry it, of the wheel's CUDA major: nvidia-cuda-runtime, nvidia-cublas.",
    ),
    Signature(
        "folder of DLLs not searched",
        r"Could not find module '.*' \(or one of its dependencies\)|DLL load failed|WinError 126",
        "Windows does not find a DLL that the wheel needs: Python searches no folder of PATH for it",
        "Install nvidia-cuda-runtime and nvidia-cublas into this environment, or call os.add_dll_directory first.",
    ),
    Signature(
        "kernel module",
        r"SYSTEM_DRIVER_MISMATCH|SYSTEM_NOT_READY|CUDA_ERROR_NOT_INITIALIZED|failed to initialize CUDA: unknown error|"
        r"found no usable GPU: (CUDA_ERROR_UNKNOWN|error (3|802|803|999)\b)",
        "The driver library is here, but the kernel module does not work with it",
        "Reboot after a driver update; check that the library and the module are of one version.",
    ),
    Signature(
        "no driver",
        r"no NVIDIA driver|libcuda\.so\.1: cannot open shared object",
        "There is no NVIDIA driver",
        "Install NVIDIA's driver where a GPU is.",
    ),
    Signature(
        "no GPU",
        r"CUDA_ERROR_NO_DEVICE|no CUDA-capable device|no usable GPU|found no usable GPU: error 100\b",
        "The driver shows this process no GPU",
        "See what `nox -s doctor` says of the driver and the GPUs.",
    ),
)


def diagnose_static(checks: Iterable[Check], family: int) -> Finding | None:
    """Why a wheel fails before it is run; None when it does not. ``family``: the CUDA major of its label (0: none)."""
    bad = {check.name: check.detail for check in checks if not check.passed}
    if not bad:
        return None
    if "label" in bad and not family:
        return _cause("CPU build", f"The wheel claims no CUDA version ({bad['label']})", "", REBUILD)
    if "libraries" in bad:
        if "CPU-only build" in bad["libraries"]:
            return _cause("CPU build", "None of the wheel's libraries needs CUDA", bad["libraries"], REBUILD)
        fact = "A library that the wheel needs is neither in it nor in a package that it declares"
        return _cause(
            "library of CUDA missing", fact, bad["libraries"], "Build it again; report this if it was built here."
        )
    name, detail = next(iter(bad.items()))
    return _cause("wheel", f"The wheel contradicts itself: {name}", detail, "Get it again, or build it.")


def diagnose_run(
    facts: RunFacts | None, checks: Sequence[Check], machine: Machine, gpu: Gpu | None, family: int
) -> Finding:
    """Why a wheel does not offload, from what its process said and how it ended; without ``facts`` it was not run.

    ``gpu`` is the one it was to run on (None: it was hidden), ``family`` the CUDA major of its label. What nothing
    explains stays unknown, with the end of the log: never a guess.
    """
    if facts is None:
        return why_no_gpu(machine) or _cause(
            "no GPU", "There is no NVIDIA GPU", "", "Run it on a machine that has one."
        )
    failed = {check.name: check.detail for check in checks if not check.passed}
    return (
        _ended(facts)
        or _shadowed(facts, failed)
        or _wrong(facts, failed)
        # With the GPU hidden, the CUDA back end's own reason is that it is hidden.
        or _matched((*facts.log, *facts.backends) if gpu else facts.log, machine)
        or _not_loaded(facts, gpu, family)
        or _unknown(facts)
    )


def _ended(facts: RunFacts) -> Finding | None:
    """Ended by the processor, or by the watch."""
    if ILLEGAL_INSTRUCTION and facts.code == -ILLEGAL_INSTRUCTION:
        fact = "The processor does not know an instruction of the wheel"
        return _cause("illegal instruction", fact, facts.end, "Build it without --define of instruction sets.")
    if facts.memory_exceeded or facts.timed_out:
        rule = "too much memory" if facts.memory_exceeded else "no end"
        return _cause(rule, f"The wheel's process was stopped at {facts.job or 'its start'}", facts.end, "Report this.")
    return None


def _shadowed(facts: RunFacts, failed: Mapping[str, str]) -> Finding | None:
    if "import" not in failed or not facts.folder:
        return None
    fact = "Another llama_cpp hides the one that was installed"
    return _cause("shadowed", fact, failed["import"], "Uninstall it, or take its folder out of sys.path.")


def _matched(lines: Sequence[str], machine: Machine) -> Finding | None:
    for signature in SIGNATURES:
        pattern = re.compile(signature.pattern, re.IGNORECASE)
        for line in lines:
            if pattern.search(line):
                if signature.rule == "no GPU" and (found := hidden(machine)) and not found.passed:
                    return found
                return _cause(signature.rule, signature.fact, line.strip(), signature.remedy)
    return None


def _not_loaded(facts: RunFacts, gpu: Gpu | None, family: int) -> Finding | None:
    if not gpu or facts.offload is not False or not family:
        return None
    said = "; ".join(facts.backends) or "the wheel keeps no report of its back ends"
    return _cause("module not loaded", "The wheel has a CUDA back end, but nothing loaded it", said, REBUILD)


def _wrong(facts: RunFacts, failed: Mapping[str, str]) -> Finding | None:
    text = next((text for name, text in failed.items() if name.startswith("numbers")), "")
    if not (facts.finished and text) or text.startswith(facts.end):  # nothing was compared
        return None
    return _cause(
        "wrong numbers", "It computes wrong numbers", text, "Do not use this wheel; report it, with its verdict."
    )


def _unknown(facts: RunFacts) -> Finding:
    telling = [line.strip() for line in facts.log if TELLING.search(line)]
    said = " | ".join((telling or facts.log[-EXCERPT:])[:EXCERPT]) or "it said nothing"
    return _cause("unknown", f"It failed for a reason that is not known here: {facts.end}", said, "Report this.")


def _cause(rule: str, fact: str, evidence: str, remedy: str) -> Finding:
    text = f"{fact}: {evidence.rstrip('.')}." if evidence else f"{fact}."
    return Finding(rule=rule, kind="run", passed=False, fact=text, remedy=remedy)
