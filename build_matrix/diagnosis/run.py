"""Why a wheel does not offload, from what its process printed and how it ended."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from build_matrix.diagnosis.causes import by_text, cause
from build_matrix.diagnosis.machine import why_no_gpu
from build_matrix.model import Check, Finding, Gpu, Machine, RunFacts

EXCERPT = 3  # lines of a log in a finding
ERROR_LINE = re.compile(r"\berror\b|Error:|assert|abort|what\(\)", re.IGNORECASE)
ILLEGAL_INSTRUCTION = signal.SIGILL if sys.platform != "win32" else None


def diagnose_static(checks: Iterable[Check], family: int) -> Finding | None:
    """Why a wheel fails before it is run; None when it does not. ``family``: the CUDA major of its label (0: none)."""
    failed = {check.name: check.detail for check in checks if not check.passed}
    if not failed:
        return None
    if "label" in failed and not family:
        return cause("no CUDA in the label").finding(label=failed["label"])
    if "libraries" in failed:
        if "CPU-only build" in failed["libraries"]:
            return cause("CPU build").finding(what="The wheel", evidence=failed["libraries"])
        return cause("library not declared").finding(evidence=failed["libraries"])
    name, detail = next(iter(failed.items()))
    return cause("wheel").finding(check=name, evidence=detail)


def diagnose_run(
    facts: RunFacts | None, checks: Sequence[Check], machine: Machine, gpu: Gpu | None, family: int
) -> Finding:
    """Why a wheel does not offload, from the output of its process and how it ended; without ``facts`` it was not run.

    ``gpu`` is the one it was to run on (None: it was hidden), ``family`` the CUDA major of its label. What nothing
    explains stays unknown, with the end of the log: never a guess.
    """
    if facts is None:
        return why_no_gpu(machine) or cause("no GPU in this machine").finding()
    failed = {check.name: check.detail for check in checks if not check.passed}
    return (
        _ended(facts, gpu)
        or _shadowed(facts, failed)
        or _wrong(facts, failed)
        # With the GPU hidden, the CUDA back end's own reason is that it is hidden.
        or _matched((*facts.log, *facts.backends) if gpu else facts.log, machine)
        or _not_loaded(facts, gpu, family)
        or _unknown(facts)
    )


def _ended(facts: RunFacts, gpu: Gpu | None) -> Finding | None:
    """Ended by the processor, or by the watch; a limit is no cause for a wheel that computed on the CPU instead."""
    if ILLEGAL_INSTRUCTION and facts.code == -ILLEGAL_INSTRUCTION:
        return cause("illegal instruction").finding(evidence=facts.end)
    on_cpu = gpu is not None and facts.offload is False
    if (facts.memory_exceeded or facts.timed_out) and not on_cpu:
        row = cause("too much memory" if facts.memory_exceeded else "no end")
        return row.finding(job=facts.job or "its start", evidence=facts.end)
    return None


def _shadowed(facts: RunFacts, failed: Mapping[str, str]) -> Finding | None:
    if "import" not in failed or not facts.folder:
        return None
    return cause("shadowed").finding(evidence=failed["import"])


def _matched(lines: Sequence[str], machine: Machine) -> Finding | None:
    """The cause that a line names; for one of the driver, the evidence of the machine is more precise, if any."""
    matched = by_text(lines)
    if not matched:
        return None
    row, line = matched
    specific = why_no_gpu(machine) if row.group == "driver" else None
    if specific:
        return structs.replace(specific, fact=f"{specific.fact.rstrip('.')}: {line.rstrip('.')}.")
    return row.finding(evidence=line)


def _not_loaded(facts: RunFacts, gpu: Gpu | None, family: int) -> Finding | None:
    if not gpu or facts.offload is not False or not family:
        return None
    reported = "; ".join(facts.backends) or "the wheel does not report its back ends"
    return cause("back end not loaded").finding(evidence=reported)


def _wrong(facts: RunFacts, failed: Mapping[str, str]) -> Finding | None:
    text = next((text for name, text in failed.items() if name.startswith("numbers")), "")
    if not (facts.finished and text) or text.startswith(facts.end):  # nothing was compared
        return None
    return cause("wrong numbers").finding(evidence=text)


def _unknown(facts: RunFacts) -> Finding:
    errors = [line.strip() for line in facts.log if ERROR_LINE.search(line)]
    excerpt = " | ".join((errors or facts.log[-EXCERPT:])[:EXCERPT]) or "it printed nothing"
    return cause("unknown").finding(end=facts.end, evidence=excerpt)
