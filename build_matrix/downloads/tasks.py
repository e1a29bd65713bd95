"""Waits for work on the network without ever depending on it: each piece has a time limit, and Ctrl-C ends the wait.

The threads are daemons, unlike those of concurrent.futures, which the interpreter joins before it ends: a connection to
a server that does not answer would hold the process until its own time limit.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
TICK = 0.1  # seconds between two looks at the time limits
GRACE = 2.0  # seconds that the other pieces of work get to end when one has failed


class CancelledError(Exception):
    """The piece of work is no longer wanted."""


class Watch:
    """The time limit of one piece of work, which it moves itself as it gets on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._cancelled = False
        self._deadline: float | None = None

    def check(self) -> None:
        """Raise CancelledError when the work is not wanted any more."""
        if self._cancelled:
            raise CancelledError

    def progress(self) -> None:
        """Start the time limit anew; raises CancelledError when the work is not wanted any more."""
        self.check()
        self._deadline = time.monotonic() + self.seconds

    def sleep(self, seconds: float) -> None:
        """Wait; raises CancelledError as soon as the work is not wanted any more."""
        end = time.monotonic() + seconds
        while (remaining := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(remaining, TICK))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No time limit within: for what may take long and is alive, such as another run's download."""
        self._deadline = None
        yield
        self.progress()

    def cancel(self) -> None:
        """Let the next `progress` raise."""
        self._cancelled = True

    @property
    def expired(self) -> bool:
        """Whether the time limit is over."""
        return self._deadline is not None and time.monotonic() > self._deadline


class Outcome(Generic[T]):
    """How the work at ``position`` ended: its ``value``, or its ``error`` (TimeoutError: its time was over)."""

    def __init__(self, position: int, value: T | None = None, error: Exception | None = None) -> None:
        self.position = position
        self.value = value
        self.error = error


class _Work(Generic[T]):
    def __init__(
        self, position: int, call: Callable[[Watch], T], seconds: float, results: queue.Queue[Outcome[T]]
    ) -> None:
        self.position = position
        self.watch = Watch(seconds)
        self._call = call
        self._results = results
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.watch.progress()
        self.thread.start()

    def _run(self) -> None:
        try:
            self._results.put(Outcome(self.position, value=self._call(self.watch)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
            self._results.put(Outcome(self.position, error=error))


def outcomes(
    calls: Sequence[Callable[[Watch], T]],
    *,
    at_once: int,
    seconds: float,
    tick: Callable[[], None] = lambda: None,
) -> Generator[Outcome[T], None, None]:
    """The outcome of each call, in the order in which they end; ``at_once`` of them run at a time.

    A call that makes no progress for ``seconds`` is left alone, its outcome is TimeoutError. ``tick`` is called about
    ten times a second by this thread. Ctrl-C, and whoever closes the iterator, cancels what still runs.
    """
    results: queue.Queue[Outcome[T]] = queue.Queue()
    waiting = [_Work(position, call, seconds, results) for position, call in enumerate(calls)]
    running: dict[int, _Work[T]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                work = waiting.pop(0)
                running[work.position] = work
                work.start()
            for outcome in _ended(results, running):
                del running[outcome.position]
                yield outcome
            tick()
    except GeneratorExit:  # one has failed: the others get a moment to let go of their locks
        _cancel(running)
        end = time.monotonic() + GRACE
        for work in running.values():
            work.thread.join(max(0.0, end - time.monotonic()))
        raise
    finally:
        _cancel(running)


def _cancel(running: dict[int, _Work[T]]) -> None:
    for work in running.values():
        work.watch.cancel()


def _ended(results: queue.Queue[Outcome[T]], running: dict[int, _Work[T]]) -> list[Outcome[T]]:
    """Of the running ones: what has ended, waiting a moment for it, or else whose time is over."""
    try:
        outcome = results.get(timeout=TICK)
    except queue.Empty:
        late = [work for work in running.values() if work.watch.expired]
        for work in late:
            work.watch.cancel()
        return [Outcome(work.position, error=TimeoutError()) for work in late]
    return [outcome] if outcome.position in running else []  # it was given up meanwhile
