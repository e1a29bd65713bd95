"""The standard streams: what they cannot encode is written in ASCII, what they cannot take ends the command quietly."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from typing import TextIO

ERRORS = "build-matrix-ascii"
SIGNS = {"→": "->", "✗": "x", "…": "...", "━": "-", "╸": "-", "╺": "-"}  # ours, and those of progress bars


def prepare_streams() -> None:
    """Make standard output and error take every text: in ASCII forms where the encoding has no other."""
    codecs.register_error(ERRORS, _in_ascii)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this process
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for as long as the process lives
            setattr(sys, name, stream)
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError, ValueError):  # it cannot be written: so the first output will find
                stream.reconfigure(errors=ERRORS)
    for name in ("COLUMNS", "LINES"):  # rich takes every digit of Unicode for a number
        value = os.environ.get(name, "1")
        if not (value.isascii() and value.isdecimal() and int(value[:9]) > 0):
            del os.environ[name]


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """The error handler of the codecs: see codecs.register_error."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_sign(character) for character in text), error.end


def _sign(character: str) -> str:
    r"""ASCII for one character; a byte of a file name that is no text shows as ``\xff``."""
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # noqa: PLR2004 - PEP 383
        return f"\\x{number - 0xDC00:02x}"
    return SIGNS.get(character, "?")


def write_error(text: str) -> None:
    """Write to standard error, or nothing where that is closed or gone."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def output_problem() -> OSError | None:
    """Why standard output or error cannot be written; what they still hold goes nowhere then. None: they can."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            _abandon(stream)
            return error
        except ValueError:  # it is closed
            continue
    return None


def _abandon(stream: TextIO) -> None:
    """Let the rest of what is buffered go nowhere, so that the interpreter's end does not fail on it."""
    with contextlib.suppress(OSError, ValueError):
        null, handle = os.open(os.devnull, os.O_WRONLY), stream.fileno()
        if null != handle:
            os.dup2(null, handle)
            os.close(null)
