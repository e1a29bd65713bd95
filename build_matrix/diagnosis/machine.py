"""What keeps CUDA programs from working on this machine."""

from __future__ import annotations

from build_matrix.model import Driver, Finding, Machine

FORWARD_COMPATIBILITY = 804  # cudaErrorCompatNotSupportedOnDevice
NO_DEVICE = 100  # cudaErrorNoDevice
HIDING = frozenset({"", "-1", "NoDevFiles"})  # values of CUDA_VISIBLE_DEVICES under which no GPU is left


def diagnose(machine: Machine) -> list[Finding]:
    """Everything that keeps CUDA programs from working here, or may surprise; only what holds not is a problem."""
    findings = [_driver(machine), hidden(machine), _compat(machine), _compiler(machine)]
    findings += [
        bad(f"{t.found_by} leads to {t.root}: {t.problem}.", "Mend or remove it; this tool ignores it.")
        for t in machine.toolkits
        if t.problem
    ]
    findings += [_lost(text) for text in machine.gpu_problems]
    findings += [
        bad(f"{gpu.name} is in compute mode {gpu.compute_mode}.", "Set it back: `nvidia-smi -c DEFAULT`.")
        for gpu in machine.gpus
        if gpu.compute_mode == "prohibited"
    ]
    return [finding for finding in findings if finding]


def why_no_gpu(machine: Machine) -> Finding | None:
    """Why no program finds a GPU here; None when one should."""
    findings = [hidden(machine), _driver(machine)]
    findings += [_lost(text) for text in machine.gpu_problems]
    return next((finding for finding in findings if finding and not finding.passed), None)


def _driver(machine: Machine) -> Finding | None:
    driver = machine.driver
    if driver is None:
        if machine.surroundings.container:
            remedy = "Start the container with the GPU (`--gpus all`); the driver belongs to its host."
        else:
            remedy = "Install NVIDIA's driver where a GPU is; without one, wheels are built and tested on the CPU only."
        return bad(f"CUDA programs cannot run: {machine.driver_problem or 'no driver'}.", remedy, "no driver")
    if driver.init_error == FORWARD_COMPATIBILITY:
        return bad(
            "Error 804: the forward-compatibility libraries do not support this GPU.",
            "Take the cuda-compat folder out of LD_LIBRARY_PATH, or use an image of the driver's own CUDA version.",
            "forward compatibility",
        )
    if driver.init_error == NO_DEVICE and machine.surroundings.visible_devices is not None:
        return None  # hidden, which has its own finding
    if driver.init_error:
        return bad(
            f"The driver library answers error {driver.init_error} to cuInit: the kernel module does not work with it.",
            "Reboot after a driver update; check that the library and the module are of one version.",
            "kernel module",
        )
    return good("driver", f"Driver {driver.version} speaks CUDA {driver.cuda}.")


def hidden(machine: Machine) -> Finding | None:
    """Whether CUDA_VISIBLE_DEVICES leaves a GPU; None where nothing sets it, or there is no GPU."""
    visible = machine.surroundings.visible_devices
    if visible is None or not machine.gpus:
        return None
    if visible.strip() in HIDING:
        return bad(f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU.", "Unset it.", "hidden")
    return good("visible devices", f"CUDA_VISIBLE_DEVICES={visible}")


def _compat(machine: Machine) -> Finding | None:
    driver: Driver | None = machine.driver
    if not machine.surroundings.compat_folders:
        return None
    versions = (
        f"CUDA {driver.cuda} over a kernel module of {driver.kernel_cuda or 'unknown'}" if driver else "no driver"
    )
    return bad(
        f"cuda-compat is on the loader path ({', '.join(machine.surroundings.compat_folders)}): {versions}.",
        "Only data-centre GPUs support that; elsewhere take it out of LD_LIBRARY_PATH.",
    )


def _compiler(machine: Machine) -> Finding | None:
    if machine.compilers:
        return None
    return bad("There is no C++ compiler.", "Install one: `apt install g++`, or let CXX name it.")


def _lost(text: str) -> Finding:
    return bad(f"GPU does not answer: {text}.", "Reboot; see `dmesg` for Xid messages.", "GPU lost")


def bad(fact: str, remedy: str, rule: str = "doctor") -> Finding:
    """Something that is wrong."""
    return Finding(rule=rule, kind="run", passed=False, fact=fact, remedy=remedy)


def good(rule: str, fact: str) -> Finding:
    """Something that was looked at and is right."""
    return Finding(rule=rule, kind="run", passed=True, fact=fact)
