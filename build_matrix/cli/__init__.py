"""The command line: one file a subcommand; only here are stages joined."""

from __future__ import annotations

import functools
import logging
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, ParamSpec

import typer

from build_matrix.cli import build, doctor, fetch, figures, lock, plan, reproduce, verify
from build_matrix.errors import BuildMatrixError, RunInterruptedError

P = ParamSpec("P")

app = typer.Typer(
    name="build-matrix",
    help="Builds llama-cpp-python wheels that really use the GPU, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def interruptible(command: Callable[P, None]) -> Callable[P, None]:
    """The command, with Ctrl-C as a failure that has its sentence and its exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            raise RunInterruptedError from None

    return run


SUBCOMMANDS = (doctor, plan, build, verify, reproduce, fetch, lock, figures)
for module in SUBCOMMANDS:
    app.command(module.__name__.rpartition(".")[2])(interruptible(module.command))


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """A request to end is answered like Ctrl-C: what was started is ended first."""
    raise KeyboardInterrupt


def main() -> NoReturn:
    """Run the command line; a failure is one sentence, its remedy, and its exit code."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except BuildMatrixError as error:
        sys.stderr.write(f"\n{error.problem}\n{error.remedy}\n")
        sys.exit(error.exit_code)
    sys.exit(0)
