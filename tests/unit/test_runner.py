"""Other programs get what they are given, and end when they must."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from build_matrix.runner import end_leftovers, run

PYTHON = sys.executable


def test_lines_are_streamed_and_the_environment_is_only_what_was_given() -> None:
    lines: list[str] = []
    done = run(
        [PYTHON, "-c", "import os; print(sorted(set(os.environ) - {'LC_CTYPE'})); print('last')"],
        env={"ONLY": "this"},
        on_line=lines.append,
    )
    assert done.code == 0
    assert lines == ["['ONLY']", "last"]
    assert done.output.endswith("last")


def test_a_time_limit_ends_the_program_and_its_children(tmp_path: Path) -> None:
    end = tmp_path / "it came to its end"
    sleep = f"import time, pathlib; time.sleep(30); pathlib.Path({str(end)!r}).touch()"
    script = f"import subprocess; subprocess.run([{PYTHON!r}, '-c', {sleep!r}])"
    done = run([PYTHON, "-c", script], env={"MARK_TIMEOUT": str(tmp_path)}, timeout=1)
    assert done.timed_out
    assert done.code < 0
    assert not end.exists(), "its output is read to the end, so a child that lives on is waited for"
    assert not _marked("MARK_TIMEOUT", str(tmp_path))


def test_an_exception_while_reading_ends_the_program(tmp_path: Path) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            [PYTHON, "-uc", "print(1); import time; time.sleep(60)"],
            env={"MARK_STOP": str(tmp_path)},
            on_line=stop,
        )
    assert not _marked("MARK_STOP", str(tmp_path))


def test_what_a_killed_run_left_running_is_found_by_its_mark_and_ended(tmp_path: Path) -> None:
    import subprocess

    left = subprocess.Popen([PYTHON, "-c", "import time; time.sleep(60)"], env={"MARK_LEFT": str(tmp_path)})
    deadline = time.monotonic() + 10
    while not _marked("MARK_LEFT", str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    end_leftovers("MARK_LEFT", str(tmp_path))
    left.wait(timeout=10)
    assert not _marked("MARK_LEFT", str(tmp_path))


def _marked(name: str, value: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found
