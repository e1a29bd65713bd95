"""What the subcommands share: standard output, JSON, and the table of verdicts."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from build_matrix.model import Verdict, readable_json
from build_matrix.report import RedactingConsole

LOG_WIDTH = 200


def standard_output() -> Console:
    """Standard output; wide where it is no terminal, so that logs can be searched."""
    terminal = RedactingConsole()
    return terminal if terminal.is_terminal else RedactingConsole(width=LOG_WIDTH)


def print_json(value: object) -> None:
    """On standard output, indented."""
    sys.stdout.write(readable_json(value).decode())


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """A short table for people, on standard output."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("wheel", "checks", "offload"):
        table.add_column(name, overflow="fold")
    for verdict in verdicts:
        failed = [check for check in verdict.checks if not check.passed]
        checks = f"{len(verdict.checks) - len(failed)} of {len(verdict.checks)} passed"
        table.add_row(verdict.filename, checks, f"{verdict.offload} ({verdict.reason})")
        if verdict.cause and verdict.offload != "untested":
            table.add_row("", "", verdict.cause.remedy)
        for gpu in verdict.gpus:
            passed = sum(check.passed for check in gpu.checks)
            checks = f"{passed} of {len(gpu.checks)} passed" if gpu.checks else "not run"
            table.add_row(f"  on {gpu.name}", checks, gpu.offload)
            failed += [check for check in gpu.checks if not check.passed]
        for check in failed:
            table.add_row("", f"{check.name}: {check.detail}", "")
    standard_output().print(table)
