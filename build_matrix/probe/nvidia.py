"""Which driver and which GPUs are here? Asked of NVML and of the driver library, each in a child with a time limit."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from build_matrix.catalog import cuda_of_driver
from build_matrix.model import NO_DRIVER, Driver, Gpu, Record
from build_matrix.probe import cuda_child, nvml_child
from build_matrix.runner import run

SECONDS = 10.0
# What the loader and the driver read; the children get nothing else.
KEPT = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HOME", "SYSTEMROOT", "TEMP")


class NvidiaAnswer(Record, frozen=True, kw_only=True):
    """What is known of driver and GPUs, and why the rest is not."""

    driver: Driver | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""
    gpu_problems: tuple[str, ...] = ()


def probe_nvidia(environ: Mapping[str, str]) -> NvidiaAnswer:
    """Ask both libraries; what one of them knows stands, whatever becomes of the other."""
    with ThreadPoolExecutor(2) as pool:
        nvml_future = pool.submit(_ask, nvml_child.__file__, "NVML", environ)
        cuda_future = pool.submit(_ask, cuda_child.__file__, "the driver library", environ)
        nvml, cuda = nvml_future.result(), cuda_future.result()
    problems = [str(answer["problem"]) for answer in (nvml, cuda) if answer.get("problem")]
    version = str(nvml.get("driver", ""))
    kernel_cuda = cuda_of_driver(version)
    library_cuda = str(cuda.get("cuda") or nvml.get("cuda") or kernel_cuda)
    if not version and not cuda.get("cuda"):
        missing = nvml.get("missing") and cuda.get("missing")
        return NvidiaAnswer(problem=NO_DRIVER if missing or not problems else "; ".join(problems))
    if not library_cuda:
        return NvidiaAnswer(problem="; ".join(problems) or "the driver does not say its CUDA version")
    driver = Driver(
        version=version or "unknown",
        cuda=library_cuda,
        kernel_cuda=kernel_cuda,
        init_error=int(cuda.get("init_error", 0)),
    )
    gpus = msgspec.convert(nvml.get("gpus") or cuda.get("gpus") or [], tuple[Gpu, ...])
    lost = tuple(str(text) for text in nvml.get("gpu_problems", ()))
    return NvidiaAnswer(driver=driver, gpus=gpus, gpu_problems=(*lost, *problems))


def _ask(child: str, who: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The facts that a child printed, line by line, up to where it ended; ``problem`` says how it ended."""
    kept = {name: environ[name] for name in KEPT if name in environ}
    facts: dict[str, Any] = {}

    def collect(line: str) -> None:
        try:
            facts.update(json.loads(line))
        except ValueError:  # a library may print what it likes
            return

    done = run([sys.executable, "-I", child], env=kept | {"LC_ALL": "C"}, on_line=collect, timeout=SECONDS)
    if done.timed_out:
        facts["problem"] = f"{who} did not answer within {SECONDS:.0f} s"
    elif done.code:
        how = f"signal {-done.code}" if done.code < 0 else f"exit code {done.code}"
        facts["problem"] = f"{who} ended the process that asked it ({how})"
    return facts
