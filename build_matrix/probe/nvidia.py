"""Which driver and which GPUs are here? Asked of NVML in a child process with a time limit, since drivers hang."""

from __future__ import annotations

import contextlib
import os
import sys

import msgspec

from build_matrix.model import NO_DRIVER, Driver, Gpu, Record
from build_matrix.runner import run

SECONDS = 20.0


class NvidiaAnswer(Record, frozen=True, kw_only=True):
    """What the child process prints."""

    driver: Driver | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""


def probe_nvidia() -> tuple[Driver | None, tuple[Gpu, ...], str]:
    """The driver, the GPUs, and why there is no driver (empty when there is one)."""
    done = run([sys.executable, "-m", __name__], env=dict(os.environ), timeout=SECONDS)
    if done.timed_out:
        return None, (), f"the NVIDIA driver did not answer within {SECONDS:.0f} s"
    if done.code:
        return None, (), f"the NVIDIA driver library ended the process that asked it (code {done.code})"
    answer = msgspec.json.decode(done.tail[-1].encode(), type=NvidiaAnswer)
    return answer.driver, answer.gpus, answer.problem


def ask_nvml() -> NvidiaAnswer:
    """Ask NVML, through NVIDIA's own Python bindings; runs in the child process."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        missing = error.value in {pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED}
        return NvidiaAnswer(problem=NO_DRIVER if missing else f"NVML: {error}")
    with contextlib.suppress(pynvml.NVMLError):
        cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()  # 13000 for CUDA 13.0
        driver = Driver(version=pynvml.nvmlSystemGetDriverVersion(), cuda=f"{cuda // 1000}.{cuda % 1000 // 10}")
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return NvidiaAnswer(driver=driver, gpus=tuple(_gpu(handle) for handle in handles))
    return NvidiaAnswer(problem="NVML answers with an error")


def _gpu(handle: object) -> Gpu:
    import pynvml

    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        name=pynvml.nvmlDeviceGetName(handle),
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        compute_capability=f"{major}.{minor}",
        memory=pynvml.nvmlDeviceGetMemoryInfo(handle).total,
    )


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(ask_nvml()).decode() + "\n")
