"""Ctrl-C, SIGTERM and SIGHUP end a command wherever it is: by its own exit code, without a traceback, and soon.

Each program here would wait for ten minutes, and each time limit of the tool is far longer than what a test allows.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from commands import ROOT

from build_matrix.store import Store

SOON = 8.0  # seconds: two are promised, on a machine that does nothing else
MARK = "BUILD_MATRIX_TEST_INTERRUPTION"

# A shell's background job ignores SIGINT, and so would all that it starts.
DISPOSE = """
import os, signal, sys

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN if str(int(number)) in sys.argv[1].split() else signal.SIG_DFL)
os.execv(sys.argv[2], sys.argv[2:])
"""
# A command that does nothing but wait for a lock of the store that is named.
WAITING = """
import sys
from pathlib import Path
from build_matrix import cli, store

root = Path(sys.argv[1])

def command() -> None:
    place = store.Store(root, lambda name: print("waiting for", name, flush=True))
    with place.locked("x"):
        pass

cli.app.command("wait")(cli.explained(command))
sys.argv[1:] = ["wait"]
cli.main()
"""
# The entry point, with a module first on the path that takes the place of a package that it imports.
STARTING = """
import runpy, sys

sys.path.insert(0, sys.argv[1])
sys.argv[1:] = ["doctor"]
runpy.run_module("build_matrix", run_name="__main__", alter_sys=True)
"""

# The signal comes to another thread, as it may, and the main thread waits for a lock without a time limit.
ELSEWHERE = """
import signal, threading
from build_matrix.process import interrupt

interrupt.install()
lock = threading.Lock()
lock.acquire()
threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
try:
    lock.acquire()
except KeyboardInterrupt:
    print("interrupted", interrupt.requested())
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the signals are those of POSIX")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command line, with SIGINT and SIGHUP as a terminal has them, whatever the test suite was given."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str, ignored: tuple[int, ...] = (), **variables: str) -> subprocess.Popen[str]:
        environ = {"PATH": os.defpath, "HOME": str(tmp_path), "BUILD_MATRIX_STORE": str(tmp_path / "store")}
        process = subprocess.Popen(
            [*as_in_a_terminal(ignored), sys.executable, "-m", "build_matrix", *words],
            cwd=ROOT,
            env=environ | {MARK: str(tmp_path)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def as_in_a_terminal(ignored: tuple[int, ...] = ()) -> list[str]:
    """What runs the command that follows with these signals as a terminal has them, but for those to be ignored."""
    return [sys.executable, "-c", DISPOSE, " ".join(str(int(number)) for number in ignored)]


def hang(folder: Path, name: str, *, stubborn: bool = False) -> Path:
    """A program that says where it is and then waits; a stubborn one ignores what can be ignored."""
    program = folder / name
    ignore = "trap '' INT TERM HUP" if stubborn else ":"
    program.write_text(f"#!/bin/sh\n{ignore}\ntouch {folder}/reached\nsleep 600\nsleep 600\n")
    program.chmod(0o755)
    return program


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(process: subprocess.Popen[str], seconds: float = SOON) -> str:
    """Its output, once it has ended as an interrupted command does."""
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "Exception ignored" not in output
    return output


def left_over(folder: Path) -> list[str]:
    """Processes that this run started and that still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(str(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_doctor_ends_while_an_nvcc_hangs(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    nvcc = hang(tmp_path, "nvcc")
    process = start("doctor", CUDACXX=str(nvcc))
    wait_for((tmp_path / "reached").exists, process)
    process.send_signal(number)
    assert "Interrupted." in ended(process)
    assert not left_over(tmp_path)


def test_doctor_ends_while_a_compiler_hangs_that_ignores_signals(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    compiler = hang(tmp_path, "g++", stubborn=True)
    process = start("doctor", CXX=str(compiler))
    wait_for((tmp_path / "reached").exists, process)
    process.send_signal(signal.SIGINT)
    ended(process)
    assert not left_over(tmp_path)


def test_a_command_ends_while_it_waits_for_another_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.locked("x"):
        process = subprocess.Popen(
            [*as_in_a_terminal(), sys.executable, "-c", WAITING, str(store.root)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout
        assert process.stdout.readline() == f"waiting for x, process {os.getpid()}\n"
        process.send_signal(signal.SIGINT)
        assert "Interrupted." in ended(process)


@pytest.mark.compiler
def test_build_ends_while_an_index_does_not_answer(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/simple/"
        process = start("build", "--arch", "89", UV_DEFAULT_INDEX=url)
        connection, _ = server.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            assert "Interrupted." in ended(process)


def test_a_second_ctrl_c_ends_the_command_and_what_it_started_at_once(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    nvcc = hang(tmp_path, "nvcc", stubborn=True)
    process = start("doctor", CUDACXX=str(nvcc))
    wait_for((tmp_path / "reached").exists, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    ended(process, 4.0)
    deadline = time.monotonic() + 10
    while left_over(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left_over(tmp_path)


def test_a_signal_that_comes_to_another_thread_ends_a_wait_of_the_main_thread() -> None:
    argv = [*as_in_a_terminal(), sys.executable, "-c", ELSEWHERE]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "interrupted True\n"


def test_nohup_is_respected(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\ntouch {tmp_path}/reached\nwhile ! [ -e {tmp_path}/go ]; do sleep 0.05; done\nexit 1\n")
    nvcc.chmod(0o755)
    process = start("doctor", ignored=(signal.SIGHUP,), CUDACXX=str(nvcc))
    wait_for((tmp_path / "reached").exists, process)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    (tmp_path / "go").touch()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "Interrupted" not in output


def test_ctrl_c_while_the_packages_are_still_imported_is_no_traceback(tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    (tmp_path / "typer.py").write_text(f"open({str(reached)!r}, 'w').close()\nimport time\ntime.sleep(600)\n")
    process = subprocess.Popen(
        [*as_in_a_terminal(), sys.executable, "-c", STARTING, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(reached.exists, process)
    process.send_signal(signal.SIGINT)
    ended(process)
