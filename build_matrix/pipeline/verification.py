"""Verifies a wheel on the GPUs of this machine, and decides whether its verdict is good enough for what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from build_matrix.context import Context
from build_matrix.diagnosis import usable
from build_matrix.errors import VerificationError
from build_matrix.model import Gpu, Machine, Verdict
from build_matrix.resolve import predict
from build_matrix.verify import Target, known_verdict, verify_wheel
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.recorded import MAY_RUN, recorded_defines


def verify(context: Context, wheel: WheelFile, model: Path | None = None) -> Verdict:
    """Verify a wheel on every GPU here; ``model`` is a GGUF to try too. Raises what ``verify_wheel`` raises."""
    return verify_wheel(context, wheel, targets(wheel, context.machine), model)


def verify_once(context: Context, wheel: WheelFile) -> Verdict:
    """The verdict next to the wheel if it passed and is still valid here, else a new one. Raises as ``verify``."""
    verdict = known_verdict(wheel, context.machine)
    return verdict if verdict and verdict.passed else verify(context, wheel)


def targets(wheel: WheelFile, machine: Machine) -> tuple[Target, ...]:
    """Each GPU of this machine, with the rule by which this wheel cannot run there.

    The rule may depend on the options that the wheel was built with; where those are not known, the wheel is tried.
    """
    label = wheel.label
    recorded = recorded_defines(wheel)
    defines = MAY_RUN if recorded is None else recorded
    result = []
    for gpu, visible in visible_gpus(machine):
        single_gpu = structs.replace(machine, gpus=(gpu,))
        findings = predict(label.cuda, label.architectures, single_gpu, defines) if label else []
        failed = next((finding for finding in findings if finding.failed), None)
        result.append(Target(gpu=gpu, visible=visible, impossible=failed))
    return tuple(result)


def visible_gpus(machine: Machine) -> list[tuple[Gpu, str]]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, each with a value that leaves it alone; all of them if it hides all.

    The driver library's own list and order if it answered, otherwise CUDA's rules (build_matrix.diagnosis.visible).
    """
    chosen = usable(machine) or usable(
        structs.replace(machine, environment=structs.replace(machine.environment, visible_devices=None))
    )
    return [(choice.gpu, choice.value) for choice in chosen]


def require_verified(verdicts: Sequence[Verdict], *, require_gpu: bool) -> None:
    """Raise VerificationError for the first verdict that failed or, with ``require_gpu``, proves no offload."""
    bad = [v for v in verdicts if not v.passed or (require_gpu and v.offload != "proven")]
    if not bad:
        return
    first = bad[0]
    problems = [f"{check.name}: {check.detail}" for check in first.checks if not check.passed]
    if first.cause and first.offload != "untested":
        why, remedy = first.cause.fact.rstrip("."), first.cause.remedy
    elif problems:
        why, remedy = "; ".join(problems), "The verdict next to the wheel lists every check."
    else:
        why = f"offload is {first.offload} ({first.reason})"
        remedy = "Run it on a machine with an NVIDIA GPU and a driver that supports it, or remove --require-gpu."
    raise VerificationError(f"{first.filename} is not verified: {why}.", remedy)
