"""What is wrong with a machine or an environment, each with its evidence and its remedy: pure functions of records."""

from __future__ import annotations

from build_matrix.model import Driver, Finding, InstalledLlama, Machine

FORWARD_COMPATIBILITY = 804  # cudaErrorCompatNotSupportedOnDevice
NO_DEVICE = 100  # cudaErrorNoDevice


def diagnose(machine: Machine) -> list[Finding]:
    """Everything that keeps CUDA programs from working here, or may surprise; only what holds not is a problem."""
    findings = [_driver(machine), _hidden(machine), _compat(machine), _compiler(machine)]
    findings += [
        _bad(f"{t.found_by} leads to {t.root}: {t.problem}.", "Mend or remove it; this tool ignores it.")
        for t in machine.toolkits
        if t.problem
    ]
    findings += [
        _bad(f"GPU does not answer: {text}.", "Reboot; see `dmesg` for Xid messages.") for text in machine.gpu_problems
    ]
    findings += [
        _bad(f"{gpu.name} is in compute mode {gpu.compute_mode}.", "Set it back: `nvidia-smi -c DEFAULT`.")
        for gpu in machine.gpus
        if gpu.compute_mode == "prohibited"
    ]
    return [finding for finding in findings if finding]


def diagnose_installed(installed: InstalledLlama, machine: Machine) -> list[Finding]:
    """Why the llama_cpp of an environment does not offload; one finding a cause."""
    if not installed.folder:
        return [_bad(f"{installed.python} has no llama_cpp.", "Install a wheel into that environment.")]
    findings = []
    if installed.shadowed:
        findings.append(
            _bad(
                f"{installed.folder} hides another llama_cpp: {', '.join(installed.shadowed)}.",
                "Uninstall both, then install one.",
            )
        )
    if not installed.cuda_family:
        findings.append(
            _bad(
                f"llama-cpp-python {installed.version} is a CPU build: none of its libraries needs CUDA.",
                "Install a CUDA wheel: `nox -s build`.",
            )
        )
    missing = [name for name in installed.missing_libraries if name != "libcuda.so.1"]
    if missing and not installed.offload:  # cuda-pathfinder may have found them elsewhere
        findings.append(
            _bad(
                f"Its libraries need {', '.join(missing)}, which the loader does not find.",
                "Install the packages that carry them (nvidia-cuda-runtime, nvidia-cublas).",
            )
        )
    driver = machine.driver
    if driver and installed.cuda_family > int(driver.cuda.partition(".")[0]):
        findings.append(
            _bad(
                f"It is built with CUDA {installed.cuda_family}, but driver {driver.version} speaks CUDA "
                f"{driver.cuda}. Rebuilding with the same toolkit will not help.",
                f"Update the driver to one of CUDA {installed.cuda_family}, or install a wheel of CUDA "
                f"{driver.cuda.partition('.')[0]}.",
            )
        )
    if not findings and not installed.offload:
        said = installed.said or machine.driver_problem or "nothing"
        findings.append(_bad(f"It does not offload; it said: {said}.", "See what the driver rows say."))
    return findings or [_good("installed", f"llama_cpp {installed.version} registers a GPU.")]


def _driver(machine: Machine) -> Finding | None:
    driver = machine.driver
    if driver is None:
        if machine.surroundings.container:
            remedy = "Start the container with the GPU (`--gpus all`); the driver belongs to its host."
        else:
            remedy = "Install NVIDIA's driver where a GPU is; without one, wheels are built and tested on the CPU only."
        return _bad(f"CUDA programs cannot run: {machine.driver_problem or 'no driver'}.", remedy)
    if driver.init_error == FORWARD_COMPATIBILITY:
        return _bad(
            "Error 804: the forward-compatibility libraries do not support this GPU.",
            "Take the cuda-compat folder out of LD_LIBRARY_PATH, or use an image of the driver's own CUDA version.",
        )
    if driver.init_error == NO_DEVICE and machine.surroundings.visible_devices is not None:
        return None  # hidden, which has its own finding
    if driver.init_error:
        return _bad(
            f"The driver library answers error {driver.init_error} to cuInit: the kernel module does not work with it.",
            "Reboot after a driver update; check that the library and the module are of one version.",
        )
    return _good("driver", f"Driver {driver.version} speaks CUDA {driver.cuda}.")


def _hidden(machine: Machine) -> Finding | None:
    visible = machine.surroundings.visible_devices
    if visible is None or not machine.gpus:
        return None
    if visible.strip() in {"", "-1", "NoDevFiles"}:
        return _bad(f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU.", "Unset it.")
    return _good("visible devices", f"CUDA_VISIBLE_DEVICES={visible}")


def _compat(machine: Machine) -> Finding | None:
    driver: Driver | None = machine.driver
    if not machine.surroundings.compat_folders:
        return None
    versions = (
        f"CUDA {driver.cuda} over a kernel module of {driver.kernel_cuda or 'unknown'}" if driver else "no driver"
    )
    return _bad(
        f"cuda-compat is on the loader path ({', '.join(machine.surroundings.compat_folders)}): {versions}.",
        "Only data-centre GPUs support that; elsewhere take it out of LD_LIBRARY_PATH.",
    )


def _compiler(machine: Machine) -> Finding | None:
    if machine.compilers:
        return None
    return _bad("There is no C++ compiler.", "Install one: `apt install g++`, or let CXX name it.")


def _bad(fact: str, remedy: str) -> Finding:
    return Finding(rule="doctor", kind="run", passed=False, fact=fact, remedy=remedy)


def _good(rule: str, fact: str) -> Finding:
    return Finding(rule=rule, kind="run", passed=True, fact=fact)
