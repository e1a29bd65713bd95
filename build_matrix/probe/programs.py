"""Which program does a variable such as CUDACXX or CXX name? A path, a bare name, or a command, as CMake allows."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

# Programs that run the compiler that follows them: CMake's documentation of CMAKE_<LANG>_COMPILER_LAUNCHER names some.
LAUNCHERS = {"ccache", "sccache", "distcc", "icecc", "fastbuild", "nice", "env", "time"}


def named_program(text: str, environ: Mapping[str, str]) -> Path | None:
    """The program that ``text`` names, found by the PATH of ``environ``; None when there is none.

    The whole text may be a path with blanks in it; else its first part that is no launcher (``ccache nvcc``) counts,
    and what follows it are flags. See CMake, "CUDACXX" and "CXX" in cmake-env-variables(7).
    """
    path = environ.get("PATH") or os.defpath
    parts = [text.strip(), *(part for part in _split(text) if Path(part).stem not in LAUNCHERS)]
    for part in parts[:2]:
        if part and (program := _which(part, path)):
            return Path(program)
    return None


def exists(path: Path) -> bool:
    """Whether the path exists and this user can see it; False where that cannot be determined."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a folder on the way that cannot be entered, a name that is too long
        return False


def resolve(path: Path) -> Path:
    """The absolute path without links, or as much of it as can be known."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links in a circle; no current folder any more
        return path


def expand(path: Path) -> Path:
    """``~`` as the home folder, as it is where there is none."""
    try:
        return path.expanduser()
    except (RuntimeError, KeyError):
        return path


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text, posix=os.name == "posix")
    except ValueError:  # a quote that is never closed
        return text.split()


def _which(part: str, path: str) -> str | None:
    try:
        return shutil.which(str(expand(Path(part))), path=path)
    except (OSError, ValueError):
        return None
