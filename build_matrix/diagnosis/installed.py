"""Why the llama_cpp of an environment does not offload."""

from __future__ import annotations

from build_matrix.diagnosis.machine import bad, good
from build_matrix.model import Finding, InstalledLlama, Machine


def diagnose_installed(installed: InstalledLlama, machine: Machine) -> list[Finding]:
    """Why the llama_cpp of an environment does not offload; one finding a cause."""
    if not installed.folder:
        return [bad(f"{installed.python} has no llama_cpp.", "Install a wheel into that environment.")]
    findings = []
    if installed.shadowed:
        findings.append(
            bad(
                f"{installed.folder} hides another llama_cpp: {', '.join(installed.shadowed)}.",
                "Uninstall both, then install one.",
            )
        )
    if not installed.cuda_family:
        findings.append(
            bad(
                f"llama-cpp-python {installed.version} is a CPU build: none of its libraries needs CUDA.",
                "Install a CUDA wheel: `nox -s build`.",
            )
        )
    missing = [name for name in installed.missing_libraries if name != "libcuda.so.1"]
    if missing and not installed.offload:  # cuda-pathfinder may have found them elsewhere
        findings.append(
            bad(
                f"Its libraries need {', '.join(missing)}, which the loader does not find.",
                "Install the packages that carry them (nvidia-cuda-runtime, nvidia-cublas).",
            )
        )
    driver = machine.driver
    if driver and installed.cuda_family > int(driver.cuda.partition(".")[0]):
        findings.append(
            bad(
                f"It is built with CUDA {installed.cuda_family}, but driver {driver.version} speaks CUDA "
                f"{driver.cuda}. Rebuilding with the same toolkit will not help.",
                f"Update the driver to one of CUDA {installed.cuda_family}, or install a wheel of CUDA "
                f"{driver.cuda.partition('.')[0]}.",
            )
        )
    if not findings and not installed.offload:
        said = installed.said or machine.driver_problem or "nothing"
        findings.append(bad(f"It does not offload; it said: {said}.", "See what the driver rows say."))
    return findings or [good("installed", f"llama_cpp {installed.version} registers a GPU.")]
