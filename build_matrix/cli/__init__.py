"""The command line: one file a subcommand, each of which reads its options and prints what the pipeline returns."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec

import typer

from build_matrix.cli import build, doctor, fetch, figures, lock, plan, reproduce, verify
from build_matrix.cli.renamed import CommandWithOldNames
from build_matrix.cli.terminal import output_problem, prepare_streams, write_error
from build_matrix.errors import BuildMatrixError, MissingPrerequisiteError, RunInterruptedError
from build_matrix.process import interrupt
from build_matrix.redact import guard_output

P = ParamSpec("P")
OUTPUT_CLOSED = 141  # what a shell reports for SIGPIPE

app = typer.Typer(
    name="build-matrix",
    help="Builds llama-cpp-python wheels that really use the GPU, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class OutputClosedError(Exception):
    """Nobody reads the output any more (``| head -1``): the command ends silently, as by SIGPIPE."""


def explained(command: Callable[P, None]) -> Callable[P, None]:
    """The command, with everything that can end it as a failure that has its sentence and its exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            raise RunInterruptedError from None
        except BuildMatrixError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and (problem := output_problem()):
                raise _explain_output(problem) from error
            if interrupt.requested():  # what fails because it was interrupted is no failure of its own
                raise RunInterruptedError from error
            from build_matrix.cli.fault import explain

            raise explain(error, sys.argv) from error

    return run


SUBCOMMANDS = (doctor, plan, build, verify, reproduce, fetch, lock, figures)
for module in SUBCOMMANDS:
    app.command(module.__name__.rpartition(".")[2], cls=CommandWithOldNames)(explained(module.command))


def main() -> NoReturn:
    """Run the command line; a failure is one sentence, its remedy, and its exit code."""
    prepare_streams()
    guard_output()
    interrupt.install()
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    sys.exit(_run())


def _run() -> int:
    code = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
        if isinstance(ended.__context__, BrokenPipeError):  # rich's and typer's answer to a closed pipe
            code = OUTPUT_CLOSED
    except OutputClosedError:
        code = OUTPUT_CLOSED
    except BuildMatrixError as error:
        code = _show(error)
    except KeyboardInterrupt:
        code = _show(RunInterruptedError())
    except Exception as error:  # noqa: BLE001 - the last line of defence
        from build_matrix.cli.fault import explain

        code = _show(explain(error, sys.argv))
    return _flush() or code


def _show(error: BuildMatrixError) -> int:
    write_error(f"\n{error.problem}\n{error.remedy}\n")
    return error.exit_code


def _flush() -> int:
    """Write out what is buffered; the exit code when nobody reads it, or it cannot be written; else 0."""
    problem = output_problem()
    explained = _explain_output(problem) if problem else None
    if isinstance(explained, BuildMatrixError):
        return _show(explained)
    return OUTPUT_CLOSED if explained else 0


def _explain_output(problem: OSError) -> OutputClosedError | MissingPrerequisiteError:
    if isinstance(problem, BrokenPipeError):
        return OutputClosedError()
    return MissingPrerequisiteError(
        f"The output cannot be written: {problem.strerror or problem}.",
        "Free some space where the output goes, or write it somewhere else.",
    )
