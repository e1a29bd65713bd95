"""A request to end (Ctrl-C, SIGTERM, SIGHUP): every thread can see it, and the second request ends the process at once.

A signal reaches the main thread alone. Whoever waits in another one (for a program's output, for a lock) asks
``requested()`` or calls ``check()`` at least twice a second.
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
WAKE_SECONDS = 0.1  # in which the main thread should have answered a signal
EXIT_CODE = 130

_requested = threading.Event()
_groups: set[int] = set()  # process groups to end with this process


def install() -> None:
    """Answer these signals from now on; one that this process was started to ignore (nohup) stays ignored."""
    _silence_threads()
    answer = _Answer()
    if os.name == "posix":
        _wake_main_thread()
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


def add_group(group: int) -> None:
    """Name a process group that must not outlive this process."""
    _groups.add(group)


def remove_group(group: int) -> None:
    """Take back a name: that process group has ended."""
    _groups.discard(group)


def _wake_main_thread() -> None:
    """Send a signal on to the main thread until it answers.

    Python only notes a signal; one that comes just before the main thread starts to wait for a lock, a thread or a
    process does not end that wait (https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers).
    """
    received, noted = os.pipe()
    os.set_blocking(noted, False)
    signal.set_wakeup_fd(noted, warn_on_full_buffer=False)
    main = threading.main_thread().ident

    def watch() -> None:
        number = os.read(received, 1)[0]
        while not _requested.wait(WAKE_SECONDS) and main is not None:
            signal.pthread_kill(main, number)

    threading.Thread(target=watch, name="signals", daemon=True).start()


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
        kill_session(group)
    os._exit(EXIT_CODE)


def kill_session(leader: int) -> None:
    """Kill a process that was started in a session of its own, and all that belongs to this session.

    Its process group is not enough: Ninja gives each compiler a group of its own.
    """
    if os.name != "posix":
        with contextlib.suppress(OSError):
            os.kill(leader, signal.SIGTERM)
        return
    members = [process for process in _processes() if _session_of(process) == leader]
    with contextlib.suppress(OSError):
        os.killpg(leader, signal.SIGKILL)
    for process in members:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGKILL)


def _processes() -> list[int]:
    """The processes of this machine, where /proc shows them."""
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - names are wanted
    return []


def _session_of(process: int) -> int:
    with contextlib.suppress(OSError):
        return os.getsid(process)
    return 0
