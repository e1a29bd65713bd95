"""What the subcommands share: the store, the tables, what counts as a failure."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from build_matrix.errors import VerificationError
from build_matrix.model import Verdict, readable_json
from build_matrix.report import RedactingConsole, Reporter
from build_matrix.store import Store, default_store

LOG_WIDTH = 200


def open_store(folder: Path | None, reporter: Reporter) -> Store:
    """The store that was named, or the default one; says when it waits for another run."""
    return Store(folder or default_store(), lambda name: reporter.say(f"  waiting for another run ({name})"))


def standard_output() -> Console:
    """Standard output; wide where it is no terminal, so that logs can be searched."""
    terminal = RedactingConsole()
    return terminal if terminal.is_terminal else RedactingConsole(width=LOG_WIDTH)


def print_json(value: object) -> None:
    """On standard output, indented."""
    sys.stdout.write(readable_json(value).decode())


def print_verdicts(verdicts: list[Verdict]) -> None:
    """A short table for people, on standard output."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("wheel", "checks", "offload"):
        table.add_column(name, overflow="fold")
    for verdict in verdicts:
        failed = [check for check in verdict.checks if not check.passed]
        checks = f"{len(verdict.checks) - len(failed)} of {len(verdict.checks)} hold"
        table.add_row(verdict.filename, checks, f"{verdict.offload} ({verdict.reason})")
        if verdict.cause and verdict.offload != "untested":
            table.add_row("", "", verdict.cause.remedy)
        for gpu in verdict.gpus:
            held = sum(check.passed for check in gpu.checks)
            told = f"{held} of {len(gpu.checks)} hold" if gpu.checks else "not run"
            table.add_row(f"  on {gpu.name}", told, gpu.offload)
            failed += [check for check in gpu.checks if not check.passed]
        for check in failed:
            table.add_row("", f"{check.name}: {check.detail}", "")
    standard_output().print(table)


def raise_for(verdicts: list[Verdict], *, require_gpu: bool) -> None:
    """Raise VerificationError when a verdict is not good enough for what was asked."""
    bad = [v for v in verdicts if not v.passed or (require_gpu and v.offload != "proven")]
    if not bad:
        return
    first = bad[0]
    problems = [f"{check.name}: {check.detail}" for check in first.checks if not check.passed]
    if first.cause and first.offload != "untested":
        why, remedy = first.cause.fact.rstrip("."), first.cause.remedy
    elif problems:
        why, remedy = "; ".join(problems), "The verdict beside the wheel holds every check."
    else:
        why = f"offload is {first.offload} ({first.reason})"
        remedy = "Run it on a machine with an NVIDIA GPU and a driver that runs it, or leave out --require-gpu."
    raise VerificationError(f"{first.filename} is not verified: {why}.", remedy)
