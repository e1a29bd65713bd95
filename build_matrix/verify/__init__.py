"""Does a wheel really offload? Checks it against its label, then runs it in a fresh environment on each GPU."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from platform import python_version

import msgspec
from msgspec import structs

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
    digest_of,
    file_sha256,
    readable_json,
)
from build_matrix.platforms import Platform, find_platform
from build_matrix.store import KEY_LENGTH, write_atomically
from build_matrix.trial.environment import install_wheel
from build_matrix.verify.cubins import check_cubins
from build_matrix.verify.smoke import SmokeTest, prepare_smoke_test, run_on_cpu, run_on_gpu
from build_matrix.verify.static import check_static
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.name import WheelName
from build_matrix.wheelfile.sidecar import UNREADABLE, load_record, record_path, verdict_path

__all__ = [
    "Target",
    "known_verdict",
    "verify_wheel",
]

CODE = (
    "verify", "trial", "wheelfile", "platforms", "diagnosis", "resolve", "pipeline/verification.py", "catalog", "locks",
    "model/label.py", "model/cuda.py",
    "unpacking.py", "process/runner.py", "downloads/install.py",
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


class _Outcome(Record, frozen=True, kw_only=True):
    """What a verification showed: the checks of the wheel, each GPU, and why it fails if it does, with its log."""

    checks: tuple[Check, ...]
    gpus: tuple[GpuVerdict, ...] = ()
    cause: Finding | None = None
    log: tuple[str, ...] = ()


def known_verdict(wheel: WheelFile, machine: Machine) -> Verdict | None:
    """The verdict beside the wheel, if it is of this very file on this very machine by this very tool."""
    try:
        verdict = wheel.read_verdict()
    except ConfigurationError:
        return None
    return verdict if verdict.inputs == _inputs(wheel, machine) else None


def verify_wheel(context: Context, wheel: WheelFile, targets: tuple[Target, ...], model: Path | None = None) -> Verdict:
    """Verify a wheel on each of ``targets`` and write its verdict beside it; ``model`` is a GGUF to try too.

    A wheel that fails is a verdict, not an error. Raises ConfigurationError for a file that is not there,
    DownloadError and its kinds, MissingPrerequisiteError, NoCompatibleChoiceError for a platform that is not supported.
    """
    platform = find_platform(context.machine.platform)
    if not wheel.path.is_file():
        raise ConfigurationError(f"There is no wheel {wheel.path}.", "Build one: `nox -s build-cuda13`.")
    if model and not model.is_file():
        raise ConfigurationError(f"There is no model {model}.", "Name a GGUF file.")
    started = time.monotonic()
    context.reporter.say(f"  verifying {wheel.path.name}")
    outcome = _examine(context, wheel, platform, targets, model)
    offload, reason, cause = _judge(outcome, context.machine)
    verdict = Verdict(
        filename=wheel.path.name,
        sha256=wheel.sha256,
        offload=offload,
        reason=reason,
        cause=cause,
        checks=outcome.checks,
        driver=context.machine.driver,
        gpus=outcome.gpus,
        log=outcome.log[-LOG_LINES:],
        seconds=round(time.monotonic() - started, 1),
        libc=context.machine.libc,
        python=python_version(),
        tool=f"build-matrix {build_matrix.__version__}",
        inputs=_inputs(wheel, context.machine),
    )
    write_atomically(verdict_path(wheel.path), readable_json(verdict))
    return verdict


def _examine(
    context: Context, wheel: WheelFile, platform: Platform, targets: tuple[Target, ...], model: Path | None
) -> _Outcome:
    """The wheel against its own name; where that holds, what is inside it, and then how it runs."""
    checks, label = check_static(wheel, platform, context.store)
    checks.append(_check_record(wheel))
    cause = diagnose_static(checks, label.family if label else 0)
    if label is None or not all(check.passed for check in checks):
        return _Outcome(checks=tuple(checks), cause=cause)
    with context.store.scratch(f"verify-{wheel.sha256[:KEY_LENGTH]}") as scratch:
        checks.append(check_cubins(context, wheel, label, scratch))
        wheel.release_members()  # what follows needs the memory for models
        try:
            environment = install_wheel(context, wheel, label, scratch)
        except InstallError as error:
            checks.append(Check(name="install", passed=False, detail=error.problem))
            return _Outcome(checks=tuple(checks), cause=cause)
        test = prepare_smoke_test(context, environment, model.absolute() if model else None)
        outcome = _run(context, test, wheel.name, targets)
    return structs.replace(outcome, checks=(*checks, *outcome.checks))


def _run(context: Context, test: SmokeTest, name: WheelName, targets: tuple[Target, ...]) -> _Outcome:
    """With the GPU hidden, then on each GPU; the checks are those of the first."""
    context.reporter.say("  running it with all GPUs hidden")
    family = name.label.family if name.label else 0
    cpu = run_on_cpu(test, str(name.version))
    if not cpu.passed:
        cause = diagnose_run(cpu.facts, cpu.checks, context.machine, None, family)
        return _Outcome(checks=cpu.checks, cause=cause, log=cpu.facts.log)
    return _Outcome(checks=cpu.checks, gpus=tuple(_verify_on(target, test, family, context) for target in targets))


def _verify_on(target: Target, test: SmokeTest, family: int, context: Context) -> GpuVerdict:
    gpu, machine = target.gpu, context.machine
    checks: tuple[Check, ...] = ()
    log: tuple[str, ...] = ()
    cause = target.impossible
    offload: Offload = "impossible_here"
    if hides_every_gpu(machine):
        offload = "failed"
        cause = diagnose_run(None, (), machine, gpu, family)
    elif cause is None:
        context.reporter.say(f"  running it on {gpu.name}")
        result = run_on_gpu(test, gpu, target.visible)
        checks = result.checks
        offload = "proven" if result.passed else "failed"
        cause = None if result.passed else diagnose_run(result.facts, checks, machine, gpu, family)
        log = () if result.passed else result.facts.log
    return GpuVerdict(
        name=gpu.name,
        uuid_sha256=hashlib.sha256(gpu.uuid.encode()).hexdigest(),
        compute_capability=gpu.compute_capability,
        offload=offload,
        reason=cause.fact if cause else f"{len(checks)} of {len(checks)} checks passed on {gpu.name}",
        checks=checks,
        cause=cause,
        log=log[-LOG_LINES:],
    )


def _inputs(wheel: WheelFile, machine: Machine) -> str:
    """Digest of the wheel and its record, of what of this machine decides, and of all that verifies.

    The latter is code with its bounds, tokens and models, the catalog, the locks, and libraries.
    """
    tool = (code_digest(*CODE), library_versions(*LIBRARIES), machine.python, msgspec.json.schema(Verdict))
    record = file_sha256(path) if (path := record_path(wheel.path)).is_file() else ""
    gpus = tuple((gpu.uuid, gpu.compute_capability, gpu.mig) for gpu in machine.gpus)
    host = (machine.driver, machine.driver_problem, gpus, machine.environment, machine.libc, machine.cpus)
    variables = {name: _value(name) for name in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")}
    return digest_of("verify", tool, wheel.sha256, record, host, variables)


def _value(name: str) -> str | None:
    """A variable of the environment, of which bytes that are no text are written as escapes: digests are of JSON."""
    value = os.environ.get(name)
    return None if value is None else value.encode("utf-8", "backslashreplace").decode("utf-8")


def _check_record(wheel: WheelFile) -> Check:
    path = record_path(wheel.path)
    name = "record"
    if not path.is_file():
        return Check(name=name, passed=True, detail="none next to the wheel: it was not built here")
    try:
        record = load_record(wheel.path)
    except UNREADABLE as error:
        return Check(name=name, passed=False, detail=f"{path.name} is not a record: {error}")
    same = record.sha256 == wheel.sha256 and record.filename == wheel.path.name
    detail = "belongs to this file" if same else f"belongs to another file, with sha256 {record.sha256}"
    return Check(name=name, passed=same, detail=f"{path.name} {detail}")


def _judge(outcome: _Outcome, machine: Machine) -> tuple[Offload, str, Finding | None]:
    """One failed GPU is a failed wheel; one proven GPU proves it where the rules exclude the others."""
    cause = outcome.cause
    if failed := [check for check in outcome.checks if not check.passed]:
        return "failed", cause.fact if cause else f"{failed[0].name}: {failed[0].detail}", cause
    for offload in ("failed", "proven", "impossible_here"):
        alike = [gpu for gpu in outcome.gpus if gpu.offload == offload]
        if alike:
            excluded = [
                f"{gpu.name}: {gpu.reason}" for gpu in outcome.gpus if gpu.offload == "impossible_here" != offload
            ]
            return offload, "; ".join([alike[0].reason, *excluded]), alike[0].cause
    finding = diagnose_run(None, (), machine, None, 0)
    return "untested", machine.driver_problem or (NO_DRIVER if machine.driver is None else "no NVIDIA GPU"), finding
