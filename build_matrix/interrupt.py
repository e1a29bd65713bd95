"""A request to end (Ctrl-C, SIGTERM, SIGHUP): every thread can see it, and the second request ends the process at once.

A signal reaches the main thread alone. Whoever waits in another one (a program's output, a lock, the pause before a
retry) asks ``requested()`` or calls ``check()`` at least twice a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType

INSIST_SECONDS = 0.3  # a terminal and a parent (Nox, uv) may both pass on the same Ctrl-C
EXIT_CODE = 130

_requested = threading.Event()
_groups: set[int] = set()  # process groups to end with this process


def install() -> None:
    """Answer these signals from now on; one that this process was started to ignore (nohup) stays ignored."""
    _silence_threads()
    answer = _Answer()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, answer)


def requested() -> bool:
    """Whether this process was asked to end."""
    return _requested.is_set()


def check() -> None:
    """Raise KeyboardInterrupt when this process was asked to end."""
    if _requested.is_set():
        raise KeyboardInterrupt


def pause(seconds: float) -> None:
    """Sleep, no longer than until this process is asked to end; raises KeyboardInterrupt then."""
    _requested.wait(seconds)
    check()


def add_group(group: int) -> None:
    """Name a process group that must not outlive this process."""
    _groups.add(group)


def remove_group(group: int) -> None:
    """Take back a name: that process group has ended."""
    _groups.discard(group)


def _silence_threads() -> None:
    """Let threads, and objects that are being deleted, end without a traceback when that is for the interruption."""
    thread, unraisable = threading.excepthook, sys.unraisablehook

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        if not (_requested.is_set() and issubclass(arguments.exc_type, KeyboardInterrupt)):
            thread(arguments)

    def in_deletion(arguments: sys.UnraisableHookArgs) -> None:
        if not _requested.is_set():
            unraisable(arguments)

    threading.excepthook = in_thread
    sys.unraisablehook = in_deletion


class _Answer:
    """The first signal raises KeyboardInterrupt in the main thread; a later one ends everything that was started."""

    def __init__(self) -> None:
        self._first = 0.0

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not _requested.is_set():
            self._first = now
            _requested.set()
            raise KeyboardInterrupt
        if now - self._first > INSIST_SECONDS:
            end_at_once()


def end_at_once() -> None:
    """Kill what this process started, and end it without cleaning up; the next run removes what is left."""
    for group in tuple(_groups):
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(group, signal.SIGKILL)
            else:
                os.kill(group, signal.SIGTERM)
    os._exit(EXIT_CODE)
