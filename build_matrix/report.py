"""What people see while the tool works: a progress display on a terminal, quiet lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rich.console import Console

from build_matrix.redact import redact

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.text import Text

Unit = Literal["bytes", "steps"]
QUIET_SECONDS = 20.0


class RedactingConsole(Console):
    """A console that prints no credentials: each text passes here before it is folded into lines and table cells."""

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as rich renders it, with credentials hidden."""
        return super().render_str(redact(text), **options)


class Meter(Protocol):
    """A running count of bytes or steps."""

    def update(self, completed: float, total: float | None = None, remaining: float | None = None) -> None:
        """Show that ``completed`` of ``total`` is done (both absolute), and the ``remaining`` seconds, where known.

        Without ``remaining`` it is what the rest takes if each step takes the same time.
        """


class Reporter(Protocol):
    """What the stages tell people."""

    def say(self, text: str) -> None:
        """One line of information."""

    def warn(self, text: str) -> None:
        """One line that a person should read."""

    def meter(self, label: str, unit: Unit, total: float | None) -> contextlib.AbstractContextManager[Meter]:
        """A progress display for as long as the context lasts."""


class TerminalReporter:
    """Rich's progress bars on standard error."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """One line of information."""
        self._console.print(redact(text), highlight=False, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """One line that a person should read."""
        self._console.print(redact(text), style="yellow", highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def meter(self, label: str, unit: Unit, total: float | None) -> Iterator[Meter]:
        """A bar with bytes and speed, or with [n/N] and the time left."""
        from rich import progress

        counts: list[progress.ProgressColumn] = (
            [progress.DownloadColumn(), progress.TransferSpeedColumn()]
            if unit == "bytes"
            else [
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                progress.TextColumn("{task.fields[left]}"),
            ]
        )
        label_and_bar = (progress.TextColumn("{task.description}"), progress.BarColumn())
        with progress.Progress(*label_and_bar, *counts, console=self._console, transient=True) as bar:
            yield _BarMeter(bar, bar.add_task(redact(label), total=total, left=""))


class _BarMeter:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task
        self._start = time.monotonic()

    def update(self, completed: float, total: float | None = None, remaining: float | None = None) -> None:
        text = time_left(remaining, time.monotonic() - self._start, completed, total)
        self._bar.update(self._task, completed=completed, total=total, left=text)


def time_left(remaining: float | None, elapsed: float, completed: float, total: float | None) -> str:
    """As people read it; where ``remaining`` is None as if all steps took the same time. Both times are in seconds."""
    if remaining is None and total and completed:
        remaining = elapsed * (total / completed - 1)
    return "" if remaining is None else f"about {remaining / 60:.0f} min left"


class LineReporter:
    """Plain lines, for logs and CI: a meter writes every twenty seconds at most."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """One line of information."""
        self._console.print(redact(text), highlight=False, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """One line that a person should read."""
        self.say(text)

    @contextlib.contextmanager
    def meter(self, label: str, unit: Unit, total: float | None) -> Iterator[Meter]:
        """Lines such as ``compiling [40/158], about 5 min left``."""
        yield _LineMeter(self, redact(label), unit, total)


class _LineMeter:
    def __init__(self, reporter: LineReporter, label: str, unit: Unit, total: float | None) -> None:
        self._reporter = reporter
        self._label = label
        self._unit = unit
        self._total = total
        self._start = self._last = time.monotonic()

    def update(self, completed: float, total: float | None = None, remaining: float | None = None) -> None:
        self._total = total or self._total
        now = time.monotonic()
        if now - self._last < QUIET_SECONDS:
            return
        self._last = now
        if self._unit == "bytes":
            of_total = f" of {self._total / 1e6:.0f}" if self._total else ""
            self._reporter.say(f"  {self._label}: {completed / 1e6:.0f}{of_total} MB")
        else:
            tail = time_left(remaining, now - self._start, completed, self._total)
            steps = f"  {self._label} [{completed:.0f}/{self._total or 0:.0f}]"
            self._reporter.say(f"{steps}, {tail}" if tail else steps)


def make_reporter() -> Reporter:
    """The reporter that fits standard error."""
    console = RedactingConsole(stderr=True)
    return TerminalReporter(console) if console.is_terminal else LineReporter(console)
