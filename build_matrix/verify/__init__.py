"""Does it offload, really? A wheel against its own label, then in a fresh environment, as far as the machine allows."""

from __future__ import annotations

import platform
from pathlib import Path

import msgspec

import build_matrix
from build_matrix.archive import record_path, verdict_path
from build_matrix.errors import ConfigurationError
from build_matrix.index import Downloads
from build_matrix.model import NO_DRIVER, Check, Machine, Offload, Verdict, WheelRecord, digest_of, file_sha256
from build_matrix.report import Reporter
from build_matrix.store import KEY_LENGTH, Store, write_atomically
from build_matrix.verify.cubins import check_cubins
from build_matrix.verify.smoke import SmokeResult, run_smoke
from build_matrix.verify.static import check_static, parse_label

__all__ = ["known_verdict", "parse_label", "verify_wheel"]

VERSION = 2


def known_verdict(wheel: Path, machine: Machine) -> Verdict | None:
    """The verdict beside the wheel, if it is of this very file on this very machine by this very tool."""
    path = verdict_path(wheel)
    if not path.is_file():
        return None
    try:
        verdict = msgspec.json.decode(path.read_bytes(), type=Verdict)
    except msgspec.DecodeError:
        return None
    return verdict if verdict.inputs == _inputs(file_sha256(wheel), machine) else None


def verify_wheel(
    wheel: Path, machine: Machine, impossible: str, store: Store, downloads: Downloads, reporter: Reporter
) -> Verdict:
    """Verify a wheel and write its verdict beside it.

    ``impossible`` is the rule by which it cannot run on this machine's GPU, or an empty text: then it is tried.

    A wheel that fails is a verdict, not an error. Raises ConfigurationError for a file that is not there,
    DownloadError and its kinds, MissingPrerequisiteError.
    """
    if not wheel.is_file():
        raise ConfigurationError(f"There is no wheel {wheel}.", "Build one: `nox -s build-cuda13`.")
    reporter.say(f"  verifying {wheel.name}")
    sha256 = file_sha256(wheel)
    checks, label = check_static(wheel)
    checks.append(_check_record(wheel, sha256))
    offload: Offload = "untested"
    reason = machine.driver_problem or NO_DRIVER
    if label and all(check.passed for check in checks):
        with store.scratch(f"verify-{sha256[:KEY_LENGTH]}") as scratch:
            checks.append(check_cubins(wheel, label, scratch, store, downloads))
            smoke = run_smoke(wheel, label, machine, scratch, store, downloads, gpu=not impossible)
        checks += smoke.checks
        offload, reason = _judge(smoke, machine, impossible)
    else:
        reason = "the wheel contradicts its own label, so it was not run"
    if not all(check.passed for check in checks):
        offload = "failed"
    verdict = Verdict(
        filename=wheel.name,
        sha256=sha256,
        offload=offload,
        reason=reason,
        checks=tuple(checks),
        driver=machine.driver,
        gpus=tuple(gpu.name for gpu in machine.gpus),
        python=platform.python_version(),
        tool=f"build-matrix {build_matrix.__version__}",
        inputs=_inputs(sha256, machine),
    )
    write_atomically(verdict_path(wheel), msgspec.json.format(msgspec.json.encode(verdict), indent=2) + b"\n")
    return verdict


def _inputs(sha256: str, machine: Machine) -> str:
    gpus = tuple((gpu.uuid, gpu.compute_capability) for gpu in machine.gpus)
    return digest_of("verify", VERSION, sha256, machine.driver, machine.driver_problem, gpus, machine.python)


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


def _judge(smoke: SmokeResult, machine: Machine, impossible: str) -> tuple[Offload, str]:
    if machine.driver is None:
        return "untested", machine.driver_problem or NO_DRIVER
    if not machine.gpus:
        return "untested", "no NVIDIA GPU"
    if impossible:
        return "impossible_here", impossible
    return ("proven", smoke.offload_detail) if smoke.offloaded else ("failed", smoke.offload_detail)
