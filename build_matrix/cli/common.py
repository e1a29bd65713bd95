"""What the subcommands share: their options, the store, the downloads, the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from build_matrix.errors import ConfigurationError
from build_matrix.model import Verdict
from build_matrix.report import Reporter
from build_matrix.store import Store, default_store

WHEELS = Path("wheels")
LOG_WIDTH = 200

StoreOption = Annotated[
    Path | None,
    typer.Option("--store", envvar="BUILD_MATRIX_STORE", help="Where results are kept.", show_default="user's cache"),
]
WheelsOption = Annotated[Path, typer.Option("--wheels", help="Folder of the finished wheels.")]
RequireGpuOption = Annotated[
    bool, typer.Option("--require-gpu", help="Fail (exit 7) unless the offload is proven on a GPU here.")
]


def open_store(folder: Path | None, reporter: Reporter) -> Store:
    """The store that was named, or the default one; says when it waits for another run."""
    return Store(folder or default_store(), lambda name: reporter.say(f"  waiting for another run ({name})"))


def parse_defines(words: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` words as a mapping; raises ConfigurationError."""
    defines = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (equals and name and value):
            raise ConfigurationError(f"--define {word!r} is not NAME=VALUE.", "Write it as --define GGML_AVX512=ON.")
        defines[name] = value
    return defines


def print_verdicts(verdicts: list[Verdict]) -> None:
    """A short table for people, on standard output."""
    table = Table(show_edge=False, pad_edge=False, box=None, header_style="bold")
    table.add_column("wheel", overflow="fold")
    table.add_column("checks")
    table.add_column("offload")
    for verdict in verdicts:
        failed = [check for check in verdict.checks if not check.passed]
        checks = f"{len(verdict.checks) - len(failed)} of {len(verdict.checks)} hold"
        table.add_row(verdict.filename, checks, f"{verdict.offload} ({verdict.reason})")
        for check in failed:
            table.add_row("", f"{check.name}: {check.detail}", "")
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=LOG_WIDTH)
    console.print(table)


def failed(verdicts: list[Verdict], *, require_gpu: bool) -> list[Verdict]:
    """The verdicts that are not good enough for what was asked."""
    return [v for v in verdicts if not v.passed or (require_gpu and v.offload != "proven")]
