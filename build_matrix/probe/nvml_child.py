"""Queries NVML, through NVIDIA's own Python bindings, in a process of its own; prints JSON objects, one fact a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

NAMELESS = "GPU without a name"
OLDEST = 1000  # CUDA 1.0
COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


def report(**facts: object) -> None:
    """Print facts at once, so that a crash loses nothing that came before it."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Driver version, CUDA version, GPUs, and what is wrong with those that do not respond."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        report(nvml_error=error.value, nvml_message=str(error))
        return
    report(nvml_error=0)
    try:
        report(driver=pynvml.nvmlSystemGetDriverVersion())
        number = pynvml.nvmlSystemGetCudaDriverVersion_v2()  # 13000 for CUDA 13.0
        if number >= OLDEST:
            report(cuda=f"{number // 1000}.{number % 1000 // 10}")
    except pynvml.NVMLError as error:
        report(nvml_cuda_problem=str(error))
    gpus, problems = [], []
    try:
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        report(gpu_problems=[f"NVML cannot count the GPUs: {error}"])
        return
    for index in range(count):
        try:
            gpus.append(gpu(pynvml.nvmlDeviceGetHandleByIndex(index)))
        except pynvml.NVMLError as error:
            problems.append(f"GPU {index}: {error}")
    report(gpus=gpus, gpu_problems=problems)


def gpu(handle: object) -> dict[str, object]:
    """One GPU; memory in bytes."""
    import pynvml

    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    facts: dict[str, object] = {
        "name": name_of(handle),
        "uuid": pynvml.nvmlDeviceGetUUID(handle),
        "compute_capability": f"{major}.{minor}",
    }
    try:
        facts["memory"] = pynvml.nvmlDeviceGetMemoryInfo(handle).total
    except pynvml.NVMLError:  # GPUs that share the system's memory have none of their own
        facts["memory"] = 0
    try:
        facts["mig"] = bool(pynvml.nvmlDeviceGetMigMode(handle)[0])
    except pynvml.NVMLError:
        facts["mig"] = False
    if facts["mig"]:
        facts["mig_devices"] = list(mig_devices(handle))
    try:
        facts["compute_mode"] = COMPUTE_MODES.get(pynvml.nvmlDeviceGetComputeMode(handle), "unknown")
    except pynvml.NVMLError:
        facts["compute_mode"] = "unknown"
    return facts


def name_of(handle: object) -> str:
    """The GPU's name; one that is no text, which the bindings cannot read, is none."""
    import pynvml

    try:
        return str(pynvml.nvmlDeviceGetName(handle)).strip() or NAMELESS
    except UnicodeDecodeError:
        return NAMELESS


def mig_devices(handle: object) -> Iterator[str]:
    """The UUIDs of a GPU's MIG instances; indices may have gaps."""
    import pynvml

    try:
        most = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except pynvml.NVMLError:
        return
    for index in range(most):
        try:
            yield pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
        except pynvml.NVMLError:
            continue


if __name__ == "__main__":
    main()
