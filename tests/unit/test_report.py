"""People see progress; logs stay quiet."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from build_matrix import report
from build_matrix.report import LineReporter, TerminalReporter


def test_in_a_log_a_meter_says_how_far_it_is_and_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    clock = iter([0.0, 1.0, 30.0, 31.0])
    monkeypatch.setattr(report.time, "monotonic", lambda: next(clock))
    with LineReporter(Console(file=out, width=200)).meter("compiling", "steps", None) as meter:
        meter.update(1, 10)
        meter.update(5, 10)
        meter.update(6, 10)
    assert out.getvalue() == "  compiling [5/10], about 0 min left\n"


def test_in_a_log_a_download_says_its_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    clock = iter([0.0, 30.0])
    monkeypatch.setattr(report.time, "monotonic", lambda: next(clock))
    with LineReporter(Console(file=out, width=200)).meter("downloading", "bytes", 5e6) as meter:
        meter.update(2e6)
    assert out.getvalue() == "  downloading: 2 of 5 MB\n"


@pytest.mark.parametrize("unit", ["bytes", "steps"])
def test_on_a_terminal_there_is_a_bar(unit: report.Unit) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    reporter = TerminalReporter(console)
    reporter.say("a [line]")
    with reporter.meter("working", unit, 10) as meter:
        meter.update(5)
    assert "a [line]" in out.getvalue()
    assert "working" in out.getvalue()
