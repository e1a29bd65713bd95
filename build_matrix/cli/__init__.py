"""The command line: one file a subcommand; only here are stages joined."""

from __future__ import annotations

import logging
import sys
from typing import NoReturn

import typer

from build_matrix.cli import build, lock, verify
from build_matrix.errors import BuildMatrixError

INTERRUPTED = 130

app = typer.Typer(
    name="build-matrix",
    help="Builds llama-cpp-python wheels that really use the GPU, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("build")(build.command)
app.command("verify")(verify.command)
app.command("lock")(lock.command)


def main() -> NoReturn:
    """Run the command line; a failure is one sentence, its remedy, and its exit code."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        app()
    except BuildMatrixError as error:
        sys.stderr.write(f"\n{error.problem}\n{error.remedy}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Nothing is broken; the same command goes on where it was.\n")
        sys.exit(INTERRUPTED)
    sys.exit(0)
