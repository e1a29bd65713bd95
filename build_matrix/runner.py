"""Runs other programs: argv lists, an environment that is given and not inherited, streamed lines, a time limit."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import psutil

from build_matrix.redact import redact

TAIL_LINES = 400
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
GRACE_SECONDS = 10.0


class Completed:
    """How a program ended: ``code`` (negative: the signal), its last lines, whether the time limit ended it."""

    def __init__(self, argv: Sequence[str], code: int, tail: Sequence[str], *, timed_out: bool) -> None:
        self.argv = list(argv)
        self.code = code
        self.tail = list(tail)
        self.timed_out = timed_out

    @property
    def disk_full(self) -> bool:
        """Whether it ended for want of room on the disk."""
        return bool(self.code and NO_SPACE.search(self.output))

    @property
    def output(self) -> str:
        """The last lines, as one text."""
        return "\n".join(self.tail)


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    log: TextIO | None = None,
    on_line: Callable[[str], None] | None = None,
    on_start: Callable[[int], None] | None = None,
    timeout: float | None = None,
) -> Completed:
    """Run a program to its end and return how it ended; its output goes line by line to ``log`` and ``on_line``.

    ``env`` is the whole environment, ``timeout`` is in seconds, ``on_start`` gets the process id. Whatever interrupts
    the wait (Ctrl-C, an exception out of ``on_line``) ends the program and all that it started. Raises
    FileNotFoundError.
    """
    words = [str(word) for word in argv]
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    process = subprocess.Popen(
        words,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    if on_start:
        on_start(process.pid)
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _signal_group(process, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)

    timer = threading.Timer(timeout, expire) if timeout else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        assert process.stdout is not None  # noqa: S101 - stdout=PIPE above
        for line in process.stdout:
            text = line.rstrip("\n")
            tail.append(text)
            if log:
                log.write(redact(line))
            if on_line:
                on_line(text)
        process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        if timer:
            timer.cancel()
        if process.stdout:
            process.stdout.close()
    return Completed(words, process.returncode, tail, timed_out=expired.is_set())


def end_leftovers(variable: str, value: str) -> None:
    """End the processes that a killed run left behind: those whose environment has ``variable=value``."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=GRACE_SECONDS)


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def _end(process: subprocess.Popen[str]) -> None:
    """Ask first (Ninja then removes half-written outputs), insist after a while."""
    _signal_group(process, signal.SIGINT if os.name == "posix" else signal.SIGTERM)
    try:
        process.wait(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _signal_group(process, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        process.wait()
