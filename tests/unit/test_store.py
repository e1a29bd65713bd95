"""The store keeps whole results or none."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from build_matrix.errors import DiskFullError, StoreNotWritableError
from build_matrix.store import Store, copy_atomically, require_room, write_atomically

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
