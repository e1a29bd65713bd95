"""Other programs get what they are given, and end when they must."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from build_matrix.process import interrupt
from build_matrix.process.runner import LINE_LENGTH, TAIL_LENGTH, end_leftovers, run

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
    _wait_until_gone("MARK_TIMEOUT", str(tmp_path))


def test_an_exception_while_reading_ends_the_program(tmp_path: Path) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            [PYTHON, "-uc", "print(1); import time; time.sleep(60)"],
            env={"MARK_STOP": str(tmp_path)},
            on_line=stop,
        )
    _wait_until_gone("MARK_STOP", str(tmp_path))


def test_what_a_killed_run_left_running_is_found_by_its_mark_and_ended(tmp_path: Path) -> None:
    import subprocess

    left = subprocess.Popen([PYTHON, "-c", "import time; time.sleep(60)"], env={"MARK_LEFT": str(tmp_path)})
    deadline = time.monotonic() + 10
    while not _marked("MARK_LEFT", str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    end_leftovers("MARK_LEFT", str(tmp_path))
    left.wait(timeout=10)
    assert not _marked("MARK_LEFT", str(tmp_path))


def _wait_until_gone(name: str, value: str) -> None:
    """A process that was ended may still be there for a moment."""
    deadline = time.monotonic() + 20
    while _marked(name, value) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _marked(name, value)


def _marked(name: str, value: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_what_a_program_leaves_running_with_its_output_open_does_not_hold_the_run(tmp_path: Path) -> None:
    left = "import os, time; os.setsid(); time.sleep(600)"
    script = f"import subprocess, sys; subprocess.Popen([{PYTHON!r}, '-c', {left!r}]); print('done')"
    done = run([PYTHON, "-c", script], env={"MARK_OPEN": str(tmp_path)}, timeout=300)
    assert (done.code, done.tail, done.timed_out) == (0, ["done"], False)
    end_leftovers("MARK_OPEN", str(tmp_path))


def test_of_a_line_without_end_only_the_beginning_is_kept() -> None:
    script = f"import sys; [sys.stdout.write('x' * 1000) for _ in range({LINE_LENGTH} // 250)]; print(); print('last')"
    lines: list[str] = []
    done = run([PYTHON, "-c", script], env={}, on_line=lines.append)
    assert done.code == 0
    assert [len(line) for line in lines] == [LINE_LENGTH, len("last")]


def test_the_last_lines_are_bounded_by_their_length_too() -> None:
    count = TAIL_LENGTH // LINE_LENGTH + 5
    done = run([PYTHON, "-c", f"[print('x' * {LINE_LENGTH}) for _ in range({count})]; print('last')"], env={})
    assert done.tail[-1] == "last"
    assert sum(map(len, done.tail)) <= TAIL_LENGTH


@pytest.mark.parametrize("ending", ["\\n", "\\r\\n", "\\r"])
def test_any_line_ending_ends_a_line_and_bytes_that_are_no_text_are_replaced(ending: str) -> None:
    script = f"import sys; sys.stdout.buffer.write(b'caf\\xe9{ending}two{ending}end')"
    assert run([PYTHON, "-c", script], env={}).tail == ["caf\ufffd", "two", "end"]


def test_a_thread_that_waits_for_a_program_ends_it_when_the_process_is_asked_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    monkeypatch.setattr(interrupt, "_requested", asked)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, [PYTHON, "-c", "import time; time.sleep(600)"], env={"MARK_ASK": str(tmp_path)})
        while not _marked("MARK_ASK", str(tmp_path)):
            time.sleep(0.02)
        asked.set()
        with pytest.raises(KeyboardInterrupt):
            running.result(timeout=60)
    assert not _marked("MARK_ASK", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        run([PYTHON, "-c", "print('never started')"], env={})


@pytest.mark.skipif(os.name != "posix", reason="sessions and process groups are of POSIX")
def test_a_time_limit_ends_what_has_a_process_group_of_its_own_as_ninjas_compilers_have(tmp_path: Path) -> None:
    child = "import os, signal, time; os.setpgid(0, 0); signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
    script = f"import subprocess; subprocess.run([{PYTHON!r}, '-c', {child!r}])"
    done = run([PYTHON, "-c", script], env={"MARK_GROUP": str(tmp_path)}, timeout=2)
    assert done.timed_out
    deadline = time.monotonic() + 10
    while _marked("MARK_GROUP", str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _marked("MARK_GROUP", str(tmp_path))


@pytest.mark.skipif(os.name != "posix", reason="sessions and process groups are of POSIX")
def test_an_interruption_reaches_what_a_program_started_in_a_session_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("build_matrix.process.runner.GRACE_SECONDS", 0.2)
    child = "import os, signal, time; os.setsid(); signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
    script = (
        "import signal, subprocess; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"left = subprocess.Popen([{PYTHON!r}, '-c', {child!r}]); print('started', flush=True); left.wait()"
    )

    def stop(_: str) -> None:
        time.sleep(0.5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([PYTHON, "-c", script], env={"MARK_SESSION": str(tmp_path)}, on_line=stop)
    deadline = time.monotonic() + 10
    while _marked("MARK_SESSION", str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _marked("MARK_SESSION", str(tmp_path))
