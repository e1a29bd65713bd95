"""Runs other programs: argv lists, an environment that is given and not inherited, streamed lines, a time limit."""

from __future__ import annotations

import codecs
import contextlib
import io
import math
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import psutil

from build_matrix.process import interrupt
from build_matrix.redact import redact

TAIL_LINES = 400
TAIL_LENGTH = 4 << 20  # characters
LINE_LENGTH = 1 << 18  # characters
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
POLL_SECONDS = 0.1
GRACE_SECONDS = 1.0  # between asking a program to end and killing it: Ctrl-C must end a command within two seconds
DRAIN_SECONDS = 1.0
LEFTOVER_SECONDS = 10.0


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
    on_line: Callable[[str], None] | None = None,
    on_start: Callable[[int], None] | None = None,
    timeout: float | None = None,
) -> Completed:
    """Run a program to its end and return how it ended; its output goes line by line to ``on_line``.

    ``env`` is the whole environment, ``timeout`` is in seconds, ``on_start`` gets the process id. Whatever interrupts
    the wait (Ctrl-C in any thread, an exception out of ``on_line``) ends the program and all that it started. What a
    program leaves running, with its output still open, is ended after DRAIN_SECONDS. Of a line longer than LINE_LENGTH
    the rest is left out. Raises OSError when the program cannot be started.
    """
    interrupt.check()
    command = [str(argument) for argument in argv]
    process = subprocess.Popen(
        command,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    interrupt.add_group(process.pid)
    tail = _Tail(on_line)
    try:
        if on_start:
            on_start(process.pid)
        timed_out = _follow(process, _Lines(tail.append), time.monotonic() + timeout if timeout else math.inf)
    except BaseException:
        _end(process)
        raise
    finally:
        interrupt.remove_group(process.pid)
    return Completed(command, process.returncode, tail.lines, timed_out=timed_out)


def log_to(file: TextIO, then: Callable[[str], None] | None = None) -> Callable[[str], None]:
    """For ``on_line``: writes each line to ``file``, without credentials, and passes it on to ``then``."""

    def write(line: str) -> None:
        file.write(redact(line) + "\n")
        if then:
            then(line)

    return write


def _follow(process: subprocess.Popen[bytes], lines: _Lines, deadline: float) -> bool:
    """Pass on the output until the program has ended; whether the deadline (time.monotonic) ended it."""
    pieces: queue.Queue[bytes] = queue.Queue(maxsize=64)
    stopped = threading.Event()
    reader = threading.Thread(target=_read, args=(process, pieces, stopped), daemon=True)
    reader.start()
    try:
        timed_out = _take_all(process, pieces, lines, deadline)
    finally:
        stopped.set()
    if timed_out or reader.is_alive():
        _kill(process)
        process.wait()
    lines.end()
    return timed_out


def _take_all(process: subprocess.Popen[bytes], pieces: queue.Queue[bytes], lines: _Lines, deadline: float) -> bool:
    drained = math.inf
    while True:
        interrupt.check()
        with contextlib.suppress(queue.Empty):
            piece = pieces.get(timeout=POLL_SECONDS)
            if not piece:
                break
            lines.feed(piece)
        now = time.monotonic()
        if process.poll() is not None and drained == math.inf:
            drained = now + DRAIN_SECONDS  # what it started may have its output still
        if now >= min(deadline, drained):
            break
    while process.poll() is None and time.monotonic() < deadline:
        interrupt.check()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
    return process.poll() is None


def _read(process: subprocess.Popen[bytes], pieces: queue.Queue[bytes], stopped: threading.Event) -> None:
    """Read in a thread of its own: one who waits for output cannot be interrupted on every system."""
    assert process.stdout is not None  # noqa: S101 - stdout=PIPE
    with process.stdout as pipe:
        piece = b"-"
        while piece and not stopped.is_set():
            piece = os.read(pipe.fileno(), 1 << 16)
            while not stopped.is_set():
                with contextlib.suppress(queue.Full):
                    pieces.put(piece, timeout=POLL_SECONDS)
                    break


class _Lines:
    """Bytes in, lines of text out: UTF-8 with replacements, any line ending, no line longer than LINE_LENGTH."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder = io.IncrementalNewlineDecoder(decode, translate=True)
        self._begun = ""

    def feed(self, piece: bytes, *, final: bool = False) -> None:
        """Take up some bytes."""
        first, *rest = self._decoder.decode(piece, final=final).split("\n")
        self._begun = (self._begun + first)[:LINE_LENGTH]
        for text in rest:
            self._take(self._begun)
            self._begun = text[:LINE_LENGTH]

    def end(self) -> None:
        """Give out what has no line ending."""
        self.feed(b"", final=True)
        if self._begun:
            self._take(self._begun)
            self._begun = ""


class _Tail:
    """The last lines, no more than TAIL_LINES and TAIL_LENGTH characters; each is passed on to ``on_line``."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self.lines: deque[str] = deque()
        self._length = 0
        self._on_line = on_line

    def append(self, line: str) -> None:
        """One more line; the oldest go."""
        self.lines.append(line)
        self._length += len(line)
        while len(self.lines) > TAIL_LINES or (self._length > TAIL_LENGTH and len(self.lines) > 1):
            self._length -= len(self.lines.popleft())
        if self._on_line:
            self._on_line(line)


def end_leftovers(variable: str, value: str) -> None:
    """End the processes that a killed run left behind: those whose environment has ``variable=value``."""
    killed = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                process.kill()
                killed.append(process)
    psutil.wait_procs(killed, timeout=LEFTOVER_SECONDS)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and all that it started, sessions of their own included."""
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error, OSError):
        children = psutil.Process(process.pid).children(recursive=True)
    interrupt.kill_session(process.pid)
    for child in children:
        with contextlib.suppress(psutil.Error, OSError):
            child.kill()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask first (Ninja then removes half-written outputs), insist after a while, at once when asked again."""
    _signal_group(process, signal.SIGINT if os.name == "posix" else signal.SIGTERM)
    try:
        process.wait(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _kill(process)
        process.wait()
