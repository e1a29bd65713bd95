"""Does a wheel really offload? Checks it against its label, then runs it in a fresh environment on each GPU."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from pathlib import Path

import msgspec

import build_matrix
from build_matrix.context import Context
from build_matrix.diagnosis import diagnose_run, diagnose_static, hides_every_gpu
from build_matrix.digests import code_digest, library_versions
from build_matrix.errors import ConfigurationError, InstallError
from build_matrix.model import (
    NO_DRIVER,
    Check,
    Finding,
    Gpu,
    GpuVerdict,
    Machine,
    Offload,
    Record,
    Verdict,
    WheelRecord,
    digest_of,
    file_sha256,
    readable_json,
)
from build_matrix.report import Reporter
from build_matrix.store import KEY_LENGTH, write_atomically
from build_matrix.verify.cubins import check_cubins
from build_matrix.verify.smoke import Bench, install_wheel, prepare_bench, run_on_cpu, run_on_gpu
from build_matrix.verify.static import check_static
from build_matrix.wheelfile.archive import record_path, verdict_path
from build_matrix.wheelfile.label import Label

__all__ = [
    "Target",
    "known_verdict",
    "read_verdict",
    "verify_wheel",
]

CODE = (
    "verify", "wheelfile", "diagnosis", "resolve", "cli/verify.py", "catalog", "locks", "unpacking.py",
    "process/runner.py", "downloads/install.py",
)  # fmt: skip
LIBRARIES = ("auditwheel", "gguf", "lief", "numpy", "nvidia-ml-py", "packaging", "psutil")
LOG_LINES = 80  # of a failed run, in its verdict


class Target(Record, frozen=True, kw_only=True):
    """A GPU, and the rule by which the wheel cannot run there (None: it is tried).

    ``visible`` is its name for CUDA_VISIBLE_DEVICES, empty to leave the choice to CUDA.
    """

    gpu: Gpu
    visible: str
    impossible: Finding | None = None


def read_verdict(wheel: Path) -> Verdict:
    """The verdict beside ``wheel``; raises ConfigurationError when there is none or it is another file's."""
    path = verdict_path(wheel)
    remedy = f"Verify it: `nox -s verify -- {wheel}`."
    try:
        verdict = msgspec.json.decode(path.read_bytes(), type=Verdict)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{wheel.name} has no readable verdict: {error}", remedy) from error
    if verdict.sha256 != file_sha256(wheel) or verdict.filename != wheel.name:
        raise ConfigurationError(f"{path.name} is the verdict of another file, with sha256 {verdict.sha256}.", remedy)
    return verdict


def known_verdict(wheel: Path, machine: Machine) -> Verdict | None:
    """The verdict beside the wheel, if it is of this very file on this very machine by this very tool."""
    try:
        verdict = read_verdict(wheel)
    except ConfigurationError:
        return None
    return verdict if verdict.inputs == _inputs(wheel, verdict.sha256, machine) else None


def verify_wheel(context: Context, wheel: Path, targets: tuple[Target, ...], model: Path | None = None) -> Verdict:
    """Verify a wheel on each of ``targets`` and write its verdict beside it; ``model`` is a GGUF to try too.

    A wheel that fails is a verdict, not an error. Raises ConfigurationError for a file that is not there,
    DownloadError and its kinds, MissingPrerequisiteError.
    """
    if not wheel.is_file():
        raise ConfigurationError(f"There is no wheel {wheel}.", "Build one: `nox -s build-cuda13`.")
    if model and not model.is_file():
        raise ConfigurationError(f"There is no model {model}.", "Name a GGUF file.")
    started = time.monotonic()
    context.reporter.say(f"  verifying {wheel.name}")
    sha256 = file_sha256(wheel)
    checks, label = check_static(wheel, context.store)
    checks.append(_check_record(wheel, sha256))
    gpus: tuple[GpuVerdict, ...] = ()
    log: tuple[str, ...] = ()
    cause = diagnose_static(checks, label.family if label else 0)
    if label and all(check.passed for check in checks):
        with context.store.scratch(f"verify-{sha256[:KEY_LENGTH]}") as scratch:
            checks.append(check_cubins(context, wheel, label, scratch))
            try:
                python = install_wheel(context, wheel, label, scratch)
            except InstallError as error:
                checks.append(Check(name="install", passed=False, detail=error.problem))
            else:
                bench = prepare_bench(context, python, scratch, model.absolute() if model else None)
                more, gpus, cause, log = _run(
                    bench, label, wheel.name.split("-")[1], context.machine, targets, context.reporter
                )
                checks += more
    offload, reason, cause = _judge(checks, gpus, cause, context.machine)
    verdict = Verdict(
        filename=wheel.name,
        sha256=sha256,
        offload=offload,
        reason=reason,
        cause=cause,
        checks=tuple(checks),
        driver=context.machine.driver,
        gpus=gpus,
        log=log[-LOG_LINES:],
        seconds=round(time.monotonic() - started, 1),
        libc=context.machine.libc,
        python=platform.python_version(),
        tool=f"build-matrix {build_matrix.__version__}",
        inputs=_inputs(wheel, sha256, context.machine),
    )
    write_atomically(verdict_path(wheel), readable_json(verdict))
    return verdict


def _run(
    bench: Bench, label: Label, version: str, machine: Machine, targets: tuple[Target, ...], reporter: Reporter
) -> tuple[list[Check], tuple[GpuVerdict, ...], Finding | None, tuple[str, ...]]:
    """With the GPU hidden, then on each GPU; the checks of the first, and why it fails if it does, with its log."""
    reporter.say("  running it with every GPU hidden")
    cpu = run_on_cpu(bench, version)
    if not cpu.passed:
        return list(cpu.checks), (), diagnose_run(cpu.facts, cpu.checks, machine, None, label.family), cpu.facts.log
    return list(cpu.checks), tuple(_verify_on(target, bench, label, machine, reporter) for target in targets), None, ()


def _verify_on(target: Target, bench: Bench, label: Label, machine: Machine, reporter: Reporter) -> GpuVerdict:
    gpu = target.gpu
    checks: tuple[Check, ...] = ()
    log: tuple[str, ...] = ()
    cause = target.impossible
    offload: Offload = "impossible_here"
    if hides_every_gpu(machine):
        offload = "failed"
        cause = diagnose_run(None, (), machine, gpu, label.family)
    elif cause is None:
        reporter.say(f"  running it on {gpu.name}")
        result = run_on_gpu(bench, gpu, target.visible)
        checks = result.checks
        passed = all(check.passed for check in checks)
        offload = "proven" if passed else "failed"
        cause = None if passed else diagnose_run(result.facts, checks, machine, gpu, label.family)
        log = () if passed else result.facts.log
    return GpuVerdict(
        name=gpu.name,
        uuid_sha256=hashlib.sha256(gpu.uuid.encode()).hexdigest(),
        compute_capability=gpu.compute_capability,
        offload=offload,
        reason=cause.fact if cause else f"{len(checks)} of {len(checks)} checks hold on {gpu.name}",
        checks=checks,
        cause=cause,
        log=log[-LOG_LINES:],
    )


def _inputs(wheel: Path, sha256: str, machine: Machine) -> str:
    """Digest of the wheel and its record, of what of this machine decides, and of all that verifies.

    The latter is code with its bounds, tokens and models, the catalog, the locks, and libraries.
    """
    tool = (code_digest(*CODE), library_versions(*LIBRARIES), machine.python, msgspec.json.schema(Verdict))
    record = file_sha256(record_path(wheel)) if record_path(wheel).is_file() else ""
    gpus = tuple((gpu.uuid, gpu.compute_capability, gpu.mig) for gpu in machine.gpus)
    here = (machine.driver, machine.driver_problem, gpus, machine.surroundings, machine.libc, machine.cpus)
    variables = {name: _value(name) for name in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")}
    return digest_of("verify", tool, sha256, record, here, variables)


def _value(name: str) -> str | None:
    """A variable of the environment, of which bytes that are no text are written as escapes: digests are of JSON."""
    value = os.environ.get(name)
    return None if value is None else value.encode("utf-8", "backslashreplace").decode("utf-8")


def _check_record(wheel: Path, sha256: str) -> Check:
    path = record_path(wheel)
    name = "record"
    if not path.is_file():
        return Check(name=name, passed=True, detail="none beside the wheel: not built here")
    try:
        record = msgspec.json.decode(path.read_bytes(), type=WheelRecord)
    except msgspec.DecodeError as error:
        return Check(name=name, passed=False, detail=f"{path.name} is not a record: {error}")
    same = record.sha256 == sha256 and record.filename == wheel.name
    detail = "is of this file" if same else f"is of another file, with sha256 {record.sha256}"
    return Check(name=name, passed=same, detail=f"{path.name} {detail}")


def _judge(
    checks: list[Check], gpus: tuple[GpuVerdict, ...], cause: Finding | None, machine: Machine
) -> tuple[Offload, str, Finding | None]:
    """One failed GPU is a failed wheel; one proven GPU proves it where the rules exclude the others."""
    if bad := [check for check in checks if not check.passed]:
        return "failed", cause.fact if cause else f"{bad[0].name}: {bad[0].detail}", cause
    for offload in ("failed", "proven", "impossible_here"):
        found = [gpu for gpu in gpus if gpu.offload == offload]
        if found:
            others = [f"{gpu.name}: {gpu.reason}" for gpu in gpus if gpu.offload == "impossible_here" != offload]
            return offload, "; ".join([found[0].reason, *others]), found[0].cause
    finding = diagnose_run(None, (), machine, None, 0)
    return "untested", machine.driver_problem or (NO_DRIVER if machine.driver is None else "no NVIDIA GPU"), finding
