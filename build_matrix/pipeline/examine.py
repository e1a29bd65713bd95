"""What is on this machine, what is wrong with it, and which wheels run here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from build_matrix.diagnosis import diagnose, diagnose_installed, evidence_of_use, why_not_judged
from build_matrix.model import Finding, InstalledLlama, Machine, Record
from build_matrix.pipeline.prediction import NO_FILE, judge_installed, predict_wheel


class Examination(Record, frozen=True, kw_only=True):
    """Everything that ``doctor`` says; ``wheels`` has a sentence for each file name."""

    machine: Machine
    installed: InstalledLlama | None
    findings: tuple[Finding, ...]
    wheels: dict[str, str]
    verdict: str


def examine(machine: Machine, python: Path | None, folder: Path) -> Examination:
    """Diagnose the machine and, with ``python``, the llama_cpp of its environment; judge the wheels in ``folder``.

    Raises ConfigurationError for a ``python`` that is none.
    """
    installed = _examine_environment(python) if python else None
    findings = diagnose(machine)
    if installed:
        findings += diagnose_installed(installed, machine, judge_installed(installed, machine))
        findings = list(dict.fromkeys(findings))  # what the machine shows may be all that is wrong with the package
    wheels = {wheel.name: _predict(wheel, machine) for wheel in sorted(folder.glob("*.whl"))}
    return Examination(
        machine=machine,
        installed=installed,
        findings=tuple(findings),
        wheels=wheels,
        verdict=verdict(machine, findings),
    )


def verdict(machine: Machine, findings: Sequence[Finding]) -> str:
    """The one sentence: nothing is wrong, with its evidence; how much is wrong; or why nothing can be judged."""
    wrong = [finding for finding in findings if not finding.passed]
    if wrong:
        return f"{len(wrong)} {'problem' if len(wrong) == 1 else 'problems'}:"
    if works := evidence_of_use(machine):
        return f"Nothing is wrong: {works}."
    return f"Whether CUDA works here cannot be judged: {why_not_judged(machine)}."


def _examine_environment(python: Path) -> InstalledLlama:
    """Imported here, because most runs do not ask for it."""
    from build_matrix.probe.installed import examine_environment

    return examine_environment(python, os.environ)


def _predict(wheel: Path, machine: Machine) -> str:
    from build_matrix.wheelfile.file import WheelFile
    from build_matrix.wheelfile.recorded import recorded_defines

    return predict_wheel(wheel.name, machine, recorded_defines(WheelFile(wheel))) if wheel.is_file() else NO_FILE
