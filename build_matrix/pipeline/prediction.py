"""Does a wheel run on this machine? By its name alone, and only where all of the name is understood."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import structs

from build_matrix.model import Driver, Finding, Gpu, InstalledLlama, Machine

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from packaging.tags import Tag

    from build_matrix.model import Label

NO_DEFINES: Mapping[str, str] = {}
UNKNOWN_DEFINES = "Its build options are not known, because its record is not next to it."
HIDE = "Build one that has code for it (`nox -s build`), or hide it with CUDA_VISIBLE_DEVICES if there is another GPU."
NO_FILE = "cannot be judged: this is not a file"
RUNS = "runs here: nox -s verify"


def predict_wheel(filename: str, machine: Machine, defines: Mapping[str, str] | None = NO_DEFINES) -> str:
    """Whether it runs here, or why not, or why that cannot be judged.

    ``defines`` are the options that it was built with, None where they are not known.
    """
    from build_matrix.errors import VerificationError
    from build_matrix.wheelfile.name import PROJECT, parse_wheel_name

    try:
        name = parse_wheel_name(filename)
    except VerificationError:
        return _not_judged("this is not the name of a wheel")
    if name.project != PROJECT:
        return _not_judged(f"this is a wheel of {name.project}")
    if mismatch := _mismatch(name.tags):
        return f"does not run here: {mismatch}"
    label = name.label
    if label is None:
        return _not_judged("its name states no CUDA version")
    if label.problem:
        return _refused_by_driver(label, machine) or _not_judged(label.problem)
    return _by_rules(label, machine, defines)


def judge_installed(installed: InstalledLlama, machine: Machine) -> list[Finding]:
    """What the version label of an installed build with CUDA says against this machine; nothing where it says nothing.

    A label that its libraries contradict is no evidence. A GPU that the build lists shows that the driver serves it,
    not that the build has code for it: only a kernel that is started would show that.
    """
    from build_matrix.diagnosis import usable
    from build_matrix.diagnosis.causes import BUILD, cause
    from build_matrix.model import parse_label
    from build_matrix.resolve import CODE_RULE

    label = parse_label(installed.version.partition("+")[2])
    if label is None or not machine.driver or not _has_cuda(installed, label, machine.driver):
        return []
    if label.unknown:  # it may name more code than is understood
        label = structs.replace(label, codes=())
    gpus = [choice.gpu for choice in usable(machine)]
    judged = [finding for gpu in gpus for finding in _findings(label, machine, (gpu,), None)]
    judged = judged or _findings(label, machine, (), None)
    is_served = any(device.gpu for device in installed.devices or ())
    failed = dict.fromkeys(
        finding for finding in judged if finding.failed and (finding.rule == CODE_RULE or not is_served)
    )
    row = cause("labelled for another machine")
    return [
        row.finding(
            label=label.text,
            why=finding.fact,
            remedy=HIDE if finding.rule == CODE_RULE else f"{finding.remedy} {BUILD}",
        )
        for finding in failed
    ]


def _has_cuda(installed: InstalledLlama, label: Label, driver: Driver) -> bool:
    """Whether it holds CUDA's back end, of the label's family, which the driver runs: else another cause blames it."""
    if "CUDA" not in installed.backends and (installed.backends or not installed.offload):
        return False
    family = installed.cuda_family or label.family
    return family == label.family and installed.cuda_family <= driver.cuda_version.major


def _mismatch(tags: Collection[Tag]) -> str:
    """Why this Python does not install it, by its tags; an empty text where it does."""
    from packaging.tags import platform_tags, sys_tags

    platforms = sorted({tag.platform for tag in tags})
    if not set(platforms).intersection((*platform_tags(), "any")):
        return f"it is for {', '.join(platforms)}"
    if not set(tags).intersection(sys_tags()):
        return f"it is for Python {', '.join(sorted({tag.interpreter for tag in tags}))}"
    return ""


def _refused_by_driver(label: Label, machine: Machine) -> str:
    """Whether the driver rules it out by its CUDA version alone, whatever else of its label is not understood."""
    from build_matrix.resolve import predict
    from build_matrix.resolve.rules import DRIVER_RULE

    findings = predict(label.cuda, label.architectures, machine, {})
    return next(
        (
            _does_not_run(finding.fact, machine)
            for finding in findings
            if finding.failed and finding.rule == DRIVER_RULE
        ),
        "",
    )


def _does_not_run(facts: str, machine: Machine) -> str:
    return f"{'would' if machine.overrides else 'does'} not run here: {facts}"


def _by_rules(label: Label, machine: Machine, defines: Mapping[str, str] | None) -> str:
    from build_matrix.diagnosis import evidence_of_use, usable

    gpus = [choice.gpu for choice in usable(machine)]
    results = {gpu.name: _findings(label, machine, (gpu,), defines) for gpu in gpus}
    results = results or {"": _findings(label, machine, (), defines)}
    bad = {name: [finding.fact for finding in findings if finding.failed] for name, findings in results.items()}
    if all(bad.values()):
        facts = dict.fromkeys(fact for facts in bad.values() for fact in facts)
        return _does_not_run(" ".join(facts), machine)
    if machine.overrides:
        return "would run on the assumed machine" if gpus else _not_judged("no GPU is claimed")
    if not evidence_of_use(machine):
        return _not_judged(_why(machine))
    unknown = [
        finding.fact for name, findings in results.items() if not bad[name] for finding in findings if not finding.known
    ]
    if unknown:
        return _not_judged(unknown[0].rstrip("."))
    exceptions = [f"not on {name}: {' '.join(facts)}" for name, facts in bad.items() if facts]
    return "; ".join([RUNS, *exceptions])


def _findings(
    label: Label, machine: Machine, gpus: tuple[Gpu, ...], defines: Mapping[str, str] | None
) -> list[Finding]:
    """The rules' results; one that the options decide is not known where those are not."""
    from build_matrix.resolve import predict
    from build_matrix.wheelfile.recorded import MAY_RUN

    single_gpu = structs.replace(machine, gpus=gpus)
    if defines is not None:
        return predict(label.cuda, label.architectures, single_gpu, dict(defines))
    usual, best = (predict(label.cuda, label.architectures, single_gpu, options) for options in ({}, MAY_RUN))
    return [
        structs.replace(finding, known=False, fact=UNKNOWN_DEFINES) if finding.failed and not other.failed else finding
        for finding, other in zip(usual, best, strict=True)
    ]


def _why(machine: Machine) -> str:
    """Why the driver shows this process no GPU, as a clause."""
    from build_matrix.diagnosis import why_no_gpu

    finding = why_no_gpu(machine)
    return finding.fact.rstrip(".") if finding else machine.driver_problem or "the driver library was not queried"


def _not_judged(why: str) -> str:
    return f"cannot be judged: {why}"
