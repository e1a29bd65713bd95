"""Which driver and GPUs are here? NVML and the driver library are each queried in a child with a time limit."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from build_matrix.catalog import cuda_of_driver
from build_matrix.diagnosis.driver import explain, unknown_order
from build_matrix.model import NO_DRIVER, UNKNOWN, Driver, DriverEvidence, Gpu, Record
from build_matrix.probe import cuda_child, nvml_child
from build_matrix.probe.evidence import as_text, library_version, read_evidence
from build_matrix.probe.host_environment import find_host_environment
from build_matrix.process.runner import run

SECONDS = 10.0
VISIBLE = "CUDA_VISIBLE_DEVICES"
NVML_MISSING = frozenset({9, 12})  # NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_LIBRARY_NOT_FOUND
# What the loader and the driver read; the children get nothing else.
PASSED_ON = (
    "PATH",
    "LD_LIBRARY_PATH",
    "HOME",
    "SYSTEMROOT",
    "TEMP",
    VISIBLE,
    "CUDA_DEVICE_ORDER",
    "CUDA_MPS_PIPE_DIRECTORY",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
)


class NvidiaAnswer(Record, frozen=True, kw_only=True):
    """What is known of driver and GPUs, and why the rest is not; ``problem`` as Machine.driver_problem."""

    driver: Driver | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""
    gpu_problems: tuple[str, ...] = ()
    evidence: DriverEvidence = DriverEvidence()


def probe_nvidia(environ: Mapping[str, str], root: Path = Path("/")) -> NvidiaAnswer:
    """Query both libraries; the result of one is valid whatever happens to the other.

    Where CUDA_VISIBLE_DEVICES is set, the driver library is queried without it too: its order is what numbers count by.
    Files of the system are read below ``root``.
    """
    unrestricted = {name: value for name, value in environ.items() if name != VISIBLE}
    with ThreadPoolExecutor(3) as pool:
        nvml_future = pool.submit(_ask, nvml_child.__file__, "NVML", environ)
        cuda_future = pool.submit(_ask, cuda_child.__file__, "the driver library", environ)
        all_future = pool.submit(_ask, cuda_child.__file__, "", unrestricted) if VISIBLE in environ else None
        nvml, cuda = nvml_future.result(), cuda_future.result()
        everything = all_future.result() if all_future else {}
    evidence = _evidence(nvml, cuda, everything, environ, root)
    driver = _driver(nvml, cuda, evidence)
    listed = _gpus(nvml.get("gpus"))
    problem = _problem(evidence, listed, environ, root)
    return NvidiaAnswer(
        driver=driver,
        gpus=listed or evidence.numbered or evidence.visible,
        problem=problem or ("" if driver else evidence.nvml_problem or NO_DRIVER),
        gpu_problems=tuple(str(text) for text in nvml.get("gpu_problems", ())),
        evidence=evidence,
    )


def _problem(evidence: DriverEvidence, listed: tuple[Gpu, ...], environ: Mapping[str, str], root: Path) -> str:
    """Why CUDA does not work, as a clause that may follow "this machine has" where there is no driver."""
    environment = find_host_environment(environ, root)
    if evidence.numbered and not (evidence.visible or unknown_order(evidence, environment)):
        return f"{VISIBLE}={as_text(environ.get(VISIBLE, ''))!r} hides every GPU"
    finding = explain(evidence, environment, listed)
    return finding.fact.rstrip(".").removeprefix("There is ") if finding else ""


def _driver(nvml: Mapping[str, Any], cuda: Mapping[str, Any], evidence: DriverEvidence) -> Driver | None:
    """The driver, if one of the libraries reports anything about it."""
    version = str(nvml.get("driver", ""))
    if not (version or cuda.get("cuda")):
        return None
    version = version or evidence.module_version or evidence.library_version
    kernel_cuda = cuda_of_driver(version)
    library_cuda = str(cuda.get("cuda") or nvml.get("cuda") or kernel_cuda)
    if not library_cuda:
        return None
    return Driver(
        version=version or UNKNOWN,
        cuda=library_cuda,
        kernel_cuda=kernel_cuda,
        init_error=int(cuda.get("init_error", 0)),
    )


def _evidence(
    nvml: Mapping[str, Any],
    cuda: Mapping[str, Any],
    everything: Mapping[str, Any],
    environ: Mapping[str, str],
    root: Path,
) -> DriverEvidence:
    files = read_evidence(environ, root)
    code = nvml.get("nvml_error")
    problem = str(nvml.get("problem") or (f"{nvml['nvml_message'].rstrip('.')} (NVML error {code})" if code else ""))
    return DriverEvidence(
        library=str(cuda.get("library", "")),
        library_version=library_version(str(cuda.get("library", ""))),
        library_error=str(cuda.get("library_error", "")),
        libraries=files.libraries,
        version_error=int(cuda.get("version_error", 0)),
        version_odd=cuda.get("version_odd"),
        init_error=cuda.get("init_error"),
        cuda_problem=str(cuda.get("problem", "")),
        nvml_error=code,
        nvml_problem="" if code in NVML_MISSING else problem,
        visible=_gpus(cuda.get("gpus")),
        numbered=_gpus(everything.get("gpus")),
        modules=files.modules,
        module_version=files.module_version,
        nodes=dict(cuda.get("nodes", {})),
        pci=files.pci,
        secure_boot=files.secure_boot,
        address_space=int(cuda.get("address_space", 0)),
    )


def _gpus(answer: object) -> tuple[Gpu, ...]:
    return msgspec.convert(answer or [], tuple[Gpu, ...])


def _ask(child: str, subject: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The facts that a child printed, line by line, up to where it ended; ``problem`` says how it ended."""
    variables = {name: environ[name] for name in PASSED_ON if name in environ}
    facts: dict[str, Any] = {}

    def collect(line: str) -> None:
        try:
            fact = json.loads(line)
        except ValueError:  # a library may print anything
            return
        if isinstance(fact, dict):
            facts.update(fact)

    result = run([sys.executable, "-I", child], env=variables | {"LC_ALL": "C"}, on_line=collect, timeout=SECONDS)
    if result.timed_out:
        facts["problem"] = f"{subject} did not respond within {SECONDS:.0f} s"
    elif result.code:
        how = f"signal {-result.code}" if result.code < 0 else f"exit code {result.code}"
        facts["problem"] = f"{subject} crashed the process that called it ({how})"
    return facts
