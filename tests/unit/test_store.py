"""The store keeps whole results or none."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from build_matrix import interrupt
from build_matrix.errors import DiskFullError, MissingPrerequisiteError, NoLocksError, StoreNotWritableError
from build_matrix.store import Store, copy_atomically, default_store, require_room, write_atomically

DIGEST = "d" * 64


def fill(folder: Path) -> None:
    (folder / "result").write_text("whole")


def test_a_result_is_made_once_and_found_again(store: Store) -> None:
    first = store.obtain("stage", DIGEST, fill)
    again = store.obtain("stage", DIGEST, lambda _: pytest.fail("made twice"))
    assert first == again
    assert (again / "result").read_text() == "whole"


def test_a_stage_that_fails_leaves_nothing_under_the_name(store: Store) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.obtain("stage", DIGEST, fail)
    assert store.find("stage", DIGEST) is None
    assert not list((store.root / "work").iterdir())
    store.obtain("stage", DIGEST, fill)


def test_two_runs_at_once_make_a_result_once(store: Store) -> None:
    made = []

    def slow(folder: Path) -> None:
        made.append(threading.get_ident())
        time.sleep(0.3)
        fill(folder)

    waiting: list[str] = []
    stores = [Store(store.root, waiting.append) for _ in range(4)]
    threads = [threading.Thread(target=s.obtain, args=("stage", DIGEST, slow)) for s in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(waiting) == 3


def test_after_kill_9_the_next_run_succeeds(store: Store) -> None:
    script = (
        "import sys, time, pathlib; from build_matrix.store import Store\n"
        "def make(folder):\n"
        "    (folder / 'half').write_text('half'); print('half', flush=True); time.sleep(60)\n"
        f"Store(pathlib.Path(sys.argv[1])).obtain('stage', {DIGEST!r}, make)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, store.root], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    path = store.obtain("stage", DIGEST, fill)
    assert [p.name for p in path.iterdir()] == ["result"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a thing of POSIX")
def test_a_program_that_a_killed_run_left_behind_writes_into_no_other_runs_folder(store: Store) -> None:
    orphan = "import pathlib, sys, time; f = pathlib.Path(sys.argv[1]); time.sleep(1); (f / 'stray').touch()"
    code = (
        "import pathlib, subprocess, sys; from build_matrix.store import Store\n"
        "def make(folder):\n"
        f"    subprocess.Popen([sys.executable, '-c', {orphan!r}, str(folder)])\n"
        "    print(flush=True)\n"
        "    sys.stdin.read()\n"
        f"Store(pathlib.Path(sys.argv[1])).obtain('stage', {DIGEST!r}, make)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(store.root)], **pipes) as killed:
        assert killed.stdout
        killed.stdout.readline()
        killed.send_signal(signal.SIGKILL)

        def slow(folder: Path) -> None:
            killed.communicate()  # the orphan has the other end, so this lasts until it has ended
            fill(folder)

        path = store.obtain("stage", DIGEST, slow)
    assert [entry.name for entry in path.iterdir()] == ["result"]
    assert not list((store.root / "work").iterdir())


def test_a_store_that_is_a_file_is_refused_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreNotWritableError, match="--store") as caught:
        Store(tmp_path / "file")
    assert caught.value.exit_code == 3


def test_a_store_below_a_folder_that_refuses_writing_is_refused() -> None:
    with pytest.raises(StoreNotWritableError, match="cannot be written"):
        Store(Path("/proc/build-matrix"))


def test_no_space_left_is_one_sentence_with_exit_code_3(store: Store) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match="is full") as caught:
        store.obtain("stage", DIGEST, full)
    assert caught.value.exit_code == 3
    with pytest.raises(DiskFullError, match="needed"):
        require_room(store.root, 1 << 60)


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"one")
    copy_atomically(target, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"one"
    with pytest.raises(FileNotFoundError):
        copy_atomically(tmp_path / "absent", target)
    assert target.read_bytes() == b"one"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "file"]


def test_a_lock_that_another_run_has_is_not_waited_for(store: Store) -> None:
    with store.if_free("x") as first:
        assert first
        with Store(store.root).if_free("x") as second:
            assert not second
    with store.if_free("x") as third:
        assert third


def test_what_a_killed_runs_program_wrote_late_is_removed_when_the_store_is_opened(store: Store) -> None:
    late, busy = (store.root / "work" / f"{name}.4711.new" for name in ("toolkit-abc", "source-abc"))
    for folder in (late, busy):
        (folder / "made").mkdir(parents=True)
    with store.locked("source-abc"):
        Store(store.root)
        assert (late.exists(), busy.exists()) == (False, True)
    Store(store.root)
    assert not busy.exists()


@pytest.mark.skipif(os.name != "posix", reason="flock is a system call of POSIX")
@pytest.mark.parametrize("name", ["ENOLCK", "ESTALE", "ENOSYS", "EIO", "EOPNOTSUPP", "EINVAL", "EWOULDBLOCK"])
def test_a_file_system_without_locks_is_refused_when_the_store_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(getattr(errno, name), name)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(NoLocksError, match="local disk with --store") as caught:
        Store(tmp_path / "store")
    assert caught.value.exit_code == 3
    assert not list((tmp_path / "store" / "locks").iterdir())


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG, errno.EROFS, errno.EMFILE]
)
def test_what_the_disk_refuses_while_a_result_is_made_is_exit_code_3(store: Store, number: int) -> None:
    def refuse(_: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(MissingPrerequisiteError) as caught:
        store.obtain("stage", DIGEST, refuse)
    assert caught.value.exit_code == 3
    assert caught.value.remedy


def test_who_waits_for_a_lock_learns_which_process_has_it(store: Store) -> None:
    said: list[str] = []
    other = Store(store.root, said.append)
    with store.locked("x"):
        blocked = threading.Thread(target=_hold, args=(other, "x"))
        blocked.start()
        while not said:
            time.sleep(0.01)
    blocked.join(timeout=60)
    assert said == [f"x, process {os.getpid()}"]


def test_a_thread_that_waits_for_a_lock_gives_up_when_the_process_is_asked_to_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    monkeypatch.setattr(interrupt, "_requested", asked)
    ended: list[str] = []

    def wait() -> None:
        try:
            _hold(Store(store.root), "x")
        except KeyboardInterrupt:
            ended.append("interrupted")

    with store.locked("x"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        asked.set()
        waiting.join(timeout=60)
    assert ended == ["interrupted"]


def _hold(store: Store, name: str) -> None:
    with store.locked(name):
        pass


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HOME": "/h"}, "/h/.cache/build-matrix"),
        ({"HOME": "/h", "BUILD_MATRIX_STORE": ""}, "/h/.cache/build-matrix"),
        ({"HOME": "/h", "BUILD_MATRIX_STORE": " "}, "/h/.cache/build-matrix"),
        ({"HOME": "/h", "BUILD_MATRIX_STORE": "~/s"}, "/h/s"),
        ({"HOME": "/h", "BUILD_MATRIX_STORE": "/s"}, "/s"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/build-matrix"),
        ({"HOME": "/h", "XDG_CACHE_HOME": ""}, "/h/.cache/build-matrix"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "relative"}, "/h/.cache/build-matrix"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/build-matrix"),
        ({"HOME": "", "XDG_CACHE_HOME": "/x"}, "/x/build-matrix"),
        ({}, "temporary"),
        ({"HOME": ""}, "temporary"),
        ({"HOME": "relative"}, "temporary"),
        ({"XDG_CACHE_HOME": "relative"}, "temporary"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="folders by the XDG specification")
def test_the_store_has_an_absolute_place_whatever_home_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], expected: str
) -> None:
    import pwd
    import tempfile

    def unknown(_: object) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "BUILD_MATRIX_STORE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    wanted = tmp_path / f"build-matrix-{os.getuid()}" if expected == "temporary" else Path(expected)
    assert default_store() == wanted


def test_links_to_themselves_and_files_on_the_way_are_no_store(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    for place in (tmp_path / "loop", tmp_path / "loop" / "x", tmp_path / "file" / "x", tmp_path / ("x" * 300)):
        with pytest.raises(MissingPrerequisiteError) as caught:
            Store(place)
        assert caught.value.exit_code == 3
