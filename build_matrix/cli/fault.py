"""What no stage explained: a cause that the system names in one sentence; for the rest a report in a file."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from build_matrix.errors import (
    BuildMatrixError,
    DownloadError,
    InternalError,
    MissingPrerequisiteError,
    explain_os_error,
)
from build_matrix.redact import redact

MESSAGE_LENGTH = 300  # characters
_MEMORY = "Free some memory, or use fewer compilers at a time with --jobs; in a container raise its memory limit."


def explain(error: Exception, argv: Sequence[str]) -> BuildMatrixError:
    """The failure to show for ``error``: itself, a cause outside this tool, or a fault of the tool with its report."""
    if isinstance(error, BuildMatrixError):
        return error
    return _known_cause(error) or _fault(error, argv)


def _known_cause(error: Exception) -> BuildMatrixError | None:
    if isinstance(error, MemoryError):
        return MissingPrerequisiteError("There is not enough memory.", _MEMORY)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return explain_os_error(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith(
        ("requests.", "urllib3.")
    ):
        return DownloadError(
            f"A connection failed: {redact(str(error))[:MESSAGE_LENGTH] or type(error).__name__}.",
            "Check the network and the proxy, then run the same command again.",
        )
    if not isinstance(error, OSError):
        return None
    if isinstance(error, FileNotFoundError) and not _current_folder():
        return MissingPrerequisiteError(
            "The current folder no longer exists.", 'Change to an existing folder: cd "$HOME".'
        )
    return explain_os_error(error)


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _fault(error: Exception, argv: Sequence[str]) -> InternalError:
    """The sentence that names the error, its place in the code, and where the report is."""
    message = redact(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    message = " ".join(message.split())[:MESSAGE_LENGTH].rstrip(".")
    where = _place_in_code(error)
    problem = f"build-matrix failed unexpectedly: {message}{f' ({where})' if where else ''}."
    path = _keep(_report(error, argv), argv)
    if path is None:
        return InternalError(problem, "No report could be written. Report this with the line above.")
    return InternalError(problem, f"This is a bug in build-matrix. Report it with {path}, which contains no secrets.")


def _place_in_code(error: Exception) -> str:
    """``module.py:line`` of the innermost frame that belongs to this package."""
    package = Path(__file__).parents[1]
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        with contextlib.suppress(ValueError):
            place = f"{Path(frame.filename).relative_to(package.parent)}:{frame.lineno}"
    return place


def _report(error: Exception, argv: Sequence[str]) -> str:
    """Traceback, versions, platform, arguments, and the names of the environment's variables, without secrets."""
    lines = [
        "build-matrix bug report",
        f"time: {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}",
        f"python: {sys.version} ({sys.executable})",
        f"platform: {platform.platform()} {platform.machine()}",
        f"arguments: {list(argv)}",
        f"current folder: {_current_folder()}",
        f"encodings: {sys.getfilesystemencoding()}, {getattr(sys.stdout, 'encoding', None)}",
        f"environment variables (names only): {' '.join(sorted(os.environ))}",
        f"packages: {' '.join(_packages())}",
        "",
        "".join(traceback.format_exception(error, limit=-60)),
    ]
    return redact("\n".join(lines))


def _packages() -> Iterator[str]:
    """``name==version`` of what is installed."""
    try:
        versions = {d.name: d.version for d in importlib.metadata.distributions() if d.metadata and d.name}
    except Exception as error:  # noqa: BLE001 - a damaged environment must not hide the first error
        versions = {f"unreadable ({type(error).__name__})": ""}
    yield from (f"{name}=={version}" for name, version in sorted(versions.items()))


def _keep(report: str, argv: Sequence[str]) -> Path | None:
    """Write the report where it can be written: the store's logs, else the temporary folder. Its path, or None."""
    name = f"fault-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}.txt"
    for folder in _folders(argv):
        with contextlib.suppress(OSError, ValueError):
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123 - a descriptor
                file.write(report)
            return folder / name
    return None


def _folders(argv: Sequence[str]) -> Iterator[Path]:
    from build_matrix.store import default_store, expand

    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        if argument == "--store" and following:
            yield expand(Path(following)) / "logs"
        elif argument.startswith("--store="):
            yield expand(Path(argument.partition("=")[2])) / "logs"
    with contextlib.suppress(Exception):
        yield default_store() / "logs"
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir())
