"""What keeps CUDA programs from working on this machine, and what is not known of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from build_matrix.diagnosis.causes import by_code, cause
from build_matrix.diagnosis.driver import NVML_CAUSES, explain, explain_nvml, unknown_order, without_driver
from build_matrix.diagnosis.visible import hides_every_gpu, selection, usable
from build_matrix.model import Finding, Machine
from build_matrix.platforms import supported_platforms

UUID = re.compile(r"\b((?:GPU|MIG)-[0-9A-Fa-f]{8})-[0-9A-Fa-f-]+")
# Of strerror for EMFILE, ENFILE and EAGAIN, and of Python's threading.
LIMIT_REACHED = re.compile("Too many open files|Resource temporarily unavailable|can't start new thread")
UNANSWERED = cause("driver without answer").name
FORWARD_COMPATIBILITY = cause("forward compatibility").name


def diagnose(machine: Machine) -> list[Finding]:
    """Everything that keeps CUDA programs from working here, or may surprise; findings that passed are included."""
    findings = [why_driver_fails(machine) or _driver(machine), hidden(machine), _compat(machine)]
    if findings[0] and findings[0].rule == FORWARD_COMPATIBILITY:
        findings.pop()  # the same cause, by its consequence
    findings += [_platform(machine), *machine.compiler_problems]
    if machine.compilers_known and not (machine.compilers or machine.compiler_problems):
        findings.append(cause("no compiler").finding())
    findings += [
        cause("toolkit broken").finding(source=t.source, root=t.root, problem=t.problem)
        for t in machine.toolkits
        if t.problem
    ]
    findings += [nvml_failure(machine), *(explain_nvml(text) for text in machine.gpu_problems)]
    findings += [
        cause("compute mode").finding(gpu=gpu.name, mode=gpu.compute_mode)
        for gpu in machine.gpus
        if gpu.compute_mode == "prohibited"
    ]
    findings += [cause("part not examined").finding(problem=text) for text in machine.problems]
    return list(dict.fromkeys(_without_consequences(finding for finding in findings if finding)))


def _without_consequences(findings: Iterable[Finding]) -> list[Finding]:
    """One cause, one sentence: where a limit of this system is reached, it is why parts could not be examined."""
    known = list(findings)
    reached = [match[0] for finding in known if (match := LIMIT_REACHED.search(finding.fact))]
    if not reached:
        return known
    others = [f for f in known if f.rule != UNANSWERED and not LIMIT_REACHED.search(f.fact)]
    return [*others, cause("system limit").finding(limit=reached[0])]


def why_no_gpu(machine: Machine) -> Finding | None:
    """Why no program finds a GPU here; None when one should."""
    findings = [None if usable(machine) else hidden(machine), why_driver_fails(machine)]
    findings += [explain_nvml(text) for text in machine.gpu_problems]
    return next((finding for finding in findings if finding and not finding.passed), None)


def why_driver_fails(machine: Machine) -> Finding | None:
    """Why the driver does not serve CUDA.

    None where it does, where only CUDA_VISIBLE_DEVICES hides its GPUs, and where it is claimed.
    """
    driver = machine.driver
    if hides_every_gpu(machine):
        return None
    claimed = bool(machine.overrides)
    finding = None if claimed else explain(machine.evidence, machine.environment, machine.gpus)
    if finding or (driver and (claimed or not driver.init_error)):
        return finding
    if driver:
        row = by_code(driver.init_error)
        return row.finding() if row else _unknown_code(driver.init_error)
    in_container = machine.environment.container and not claimed
    missing = without_driver(machine.environment) if in_container else cause("no driver").finding()
    return _no_driver(missing, machine.driver_problem)


def nvml_failure(machine: Machine) -> Finding | None:
    """What NVML alone reports, where the driver library works; None for nothing that it names by a code of its own."""
    name = NVML_CAUSES.get(machine.evidence.nvml_error or 0)
    if not name or machine.overrides or not machine.evidence.works:
        return None
    return cause("NVML fails").finding(problem=machine.evidence.nvml_problem, remedy=cause(name).remedy)


def _no_driver(finding: Finding, problem: str) -> Finding:
    text = f"CUDA programs cannot run: {problem or 'no driver'}."
    return Finding(rule=finding.rule, kind="run", passed=False, fact=text, remedy=finding.remedy)


def _unknown_code(code: int) -> Finding:
    return cause("other driver error").finding(code=code)


def _platform(machine: Machine) -> Finding | None:
    """Whether wheels are built for this platform; None where they are."""
    supported = supported_platforms()
    if machine.platform in supported:
        return None
    return cause("platform not supported").finding(
        platform=machine.platform.replace("-", " ", 1),
        supported_platform=" or ".join(platform.title for platform in supported.values()),
    )


def _driver(machine: Machine) -> Finding | None:
    driver = machine.driver
    return good("driver", f"{driver.title} supports CUDA up to {driver.cuda}.") if driver else None


def hidden(machine: Machine) -> Finding | None:
    """What CUDA_VISIBLE_DEVICES leaves; None where nothing sets it, or no GPU is known."""
    value = machine.environment.visible_devices
    if value is None or not (machine.gpus or machine.evidence.numbered):
        return None
    chosen = selection(machine)
    value, entry = _without_uuids(value), _without_uuids(chosen.ended_by or "")
    if chosen.repeated and chosen.known:
        return cause("GPU named twice").finding(value=value, entry=_without_uuids(chosen.repeated))
    if order := None if machine.overrides else unknown_order(machine.evidence, machine.environment):
        return order
    why = f": {entry!r} {chosen.why}" if entry and not chosen.choices else ""
    if hides_every_gpu(machine):
        return cause("hidden").finding(value=value, why=why)
    if chosen.ended_by is not None and chosen.known:
        return cause("list of GPUs ends early").finding(value=value, entry=entry, why=chosen.why)
    return good("visible devices", f"CUDA_VISIBLE_DEVICES={value}")


def _without_uuids(value: str) -> str:
    """Long enough to be recognised, and no more: a verdict does not disclose a GPU's UUID."""
    return UUID.sub(r"\1…", value)


def _compat(machine: Machine) -> Finding | None:
    driver = machine.driver
    if not machine.environment.compat_folders:
        return None
    versions = (
        f"CUDA {driver.cuda}, with a kernel module for CUDA {driver.kernel_cuda or '(unknown)'}"
        if driver
        else "no driver"
    )
    folders = ", ".join(machine.environment.compat_folders)
    return cause("cuda-compat on the loader path").finding(folders=folders, versions=versions)


def evidence_of_use(machine: Machine) -> str:
    """What shows that CUDA works for this process, as a clause; an empty text where nothing does."""
    if machine.overrides or not machine.evidence.works or hides_every_gpu(machine):
        return ""
    counted = Counter(choice.gpu.name for choice in usable(machine))
    names = ", ".join(name if number == 1 else f"{number} x {name}" for name, number in counted.items())
    return f"the driver library works and shows this process {names}"


def why_not_judged(machine: Machine) -> str:
    """Why nothing is known of CUDA here, as a clause; an empty text where something is."""
    if machine.overrides:
        claims = ", ".join(f"{name}={value}" for name, value in machine.overrides.items())
        return f"driver or GPUs are claimed ({claims}), and were not queried"
    if evidence_of_use(machine) or any(not finding.passed for finding in diagnose(machine)):
        return ""
    return machine.driver_problem or "the driver library was not queried, or did not respond"


def good(rule: str, fact: str) -> Finding:
    """Something that was examined and is right."""
    return Finding(rule=rule, kind="run", passed=True, fact=fact)
