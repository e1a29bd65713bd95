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
from types import SimpleNamespace

import pytest

from build_matrix import store as store_module
from build_matrix.errors import DiskFullError, MissingPrerequisiteError, NoLocksError, StoreNotWritableError
from build_matrix.process import interrupt
from build_matrix.store import (
    Store,
    copy_atomically,
    default_store,
    disk_errors,
    require_room,
    sync_folder,
    sync_tree,
    write_atomically,
)

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


@pytest.mark.parametrize(
    ("signed", "told"),
    [
        (b"process 7", "x, process 7"),
        (b" process 7\n", "x, process 7"),
        (b"", "x"),
        (b"\xff7", "x, \N{REPLACEMENT CHARACTER}7"),
        (b"y" * 41, f"x, {'y' * 40}"),
    ],
)
def test_whatever_stands_in_a_lock_file_is_told_as_text(tmp_path: Path, signed: bytes, told: str) -> None:
    (tmp_path / "x.lock").write_bytes(signed)
    assert store_module._holder(tmp_path / "x.lock", "x") == told
    assert store_module._holder(tmp_path / "absent.lock", "x") == "x"


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


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners of files are POSIX")
def test_a_store_among_the_temporary_files_must_be_this_users_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its name can be guessed, and what lies in it is run."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own, another = os.getuid(), os.getuid() + 1
    assert Store(tmp_path / f"build-matrix-{own}").root.is_dir()
    monkeypatch.setattr(os, "getuid", lambda: another)
    assert Store(tmp_path / "elsewhere").root.is_dir()
    with pytest.raises(StoreNotWritableError, match="belongs to another user") as caught:
        Store(tmp_path / f"build-matrix-{another}")
    assert str(tmp_path / f"build-matrix-{another}") in str(caught.value)


@pytest.mark.parametrize("error", [FileNotFoundError("x"), RuntimeError("loop"), OSError("odd"), ValueError("odd")])
def test_a_place_that_cannot_be_resolved_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def fail(_: Path, **__: object) -> Path:
        raise error

    monkeypatch.setattr(Path, "resolve", fail)
    with pytest.raises(StoreNotWritableError) as caught:
        Store(tmp_path / "place")
    assert str(tmp_path / "place") in str(caught.value)
    why = {"x": "the current folder no longer exists", "loop": os.strerror(errno.ELOOP)}
    assert why.get(str(error), "odd") in str(caught.value)
    assert caught.value.__cause__ is error


class Disk:
    """Keeps what is asked of the disk, in order, and does it; ``broken``: the step that fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, broken: str = "") -> None:
        self.steps: list[tuple[str, ...]] = []
        self._broken = broken
        fsync, replace, rename, sync = os.fsync, Path.replace, Path.rename, os.sync

        def watched_fsync(handle: int) -> None:
            path = Path(f"/proc/self/fd/{handle}").readlink()
            self._step("fsync", path.name, "" if path.is_dir() else path.read_text())
            fsync(handle)

        def watched_replace(path: Path, target: Path) -> Path:
            self._step("replace", path.name, target.name)
            return replace(path, target)

        def watched_rename(path: Path, target: Path) -> Path:
            self._step("rename", path.name, target.name)
            return rename(path, target)

        def watched_sync() -> None:
            self._step("sync")
            sync()

        monkeypatch.setattr(store_module.os, "fsync", watched_fsync)
        monkeypatch.setattr(store_module.os, "sync", watched_sync)
        monkeypatch.setattr(Path, "replace", watched_replace)
        monkeypatch.setattr(Path, "rename", watched_rename)

    def _step(self, *step: str) -> None:
        self.steps.append(step)
        if step[0] == self._broken:
            raise OSError(errno.EIO, "broken")


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux_only
def test_a_file_is_on_the_disk_under_another_name_before_it_gets_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    write_atomically(tmp_path / "file", b"whole")
    aside = f".file.{os.getpid()}.new"
    assert disk.steps == [("fsync", aside, "whole"), ("replace", aside, "file"), ("fsync", tmp_path.name, "")]
    assert (tmp_path / "file").read_bytes() == b"whole"


@linux_only
@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_file_that_cannot_be_written_whole_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "source").write_text("new")
    Disk(monkeypatch, broken)
    for write in (
        lambda: write_atomically(tmp_path / "file", b"new"),
        lambda: copy_atomically(tmp_path / "source", tmp_path / "file"),
    ):
        with pytest.raises(OSError, match="broken"):
            write()
        assert (tmp_path / "file").read_text() == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "source"]


@linux_only
def test_a_copy_is_on_the_disk_under_another_name_before_it_gets_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_text("whole")
    disk = Disk(monkeypatch)
    copy_atomically(tmp_path / "source", tmp_path / "copy")
    aside = f".copy.{os.getpid()}.new"
    assert disk.steps[:2] == [("fsync", aside, "whole"), ("replace", aside, "copy")]


@linux_only
def test_a_result_is_on_the_disk_before_it_gets_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    path = store.obtain("stage", DIGEST, fill)
    aside = f"stage-{'d' * 24}.{os.getpid()}.new"
    assert disk.steps == [("sync",), ("rename", aside, "d" * 24), ("fsync", "stage", "")]
    assert path == store.root / "stage" / ("d" * 24)


@linux_only
def test_without_one_call_for_everything_each_file_is_put_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder" / "deeper").mkdir(parents=True)
    (tmp_path / "folder" / "deeper" / "file").write_text("x")
    disk = Disk(monkeypatch)
    monkeypatch.delattr(store_module.os, "sync")
    sync_tree(tmp_path)
    assert disk.steps == [("fsync", "file", "x")]


def test_only_posix_puts_folders_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(store_module.os, "fsync", synced.append)
    sync_folder(tmp_path)
    assert len(synced) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(synced[0])
    monkeypatch.setattr(store_module.os, "name", "nt")
    sync_folder(tmp_path)
    assert len(synced) == 1


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, DiskFullError, "is full"),
        (errno.EDQUOT, DiskFullError, "is full"),
        (errno.EACCES, StoreNotWritableError, "cannot be written: Permission denied"),
        (errno.EPERM, StoreNotWritableError, "cannot be written: Operation not permitted"),
        (errno.EROFS, StoreNotWritableError, "cannot be written: Read-only file system"),
    ],
)
def test_an_error_of_the_disk_has_its_remedy(number: int, kind: type[DiskFullError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught, disk_errors(Path("/the/store")):
        raise OSError(number, "x")
    assert "/the/store" in caught.value.problem
    assert "--store" in caught.value.remedy


def test_an_error_that_is_not_the_disks_stays_what_it_is() -> None:
    with pytest.raises(OSError, match="unknown") as caught, disk_errors(Path("/the/store")):
        raise OSError(errno.ECHILD, "unknown")
    assert caught.value.errno == errno.ECHILD


def test_room_that_is_just_enough_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=2_500_000_000)
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: usage)
    require_room(tmp_path, 2_500_000_000)
    with pytest.raises(DiskFullError, match=r"; 2\.6 GB is needed"):
        require_room(tmp_path, 2_600_000_000)


def test_a_store_is_laid_out_and_can_be_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        store = Store(tmp_path / "a" / ".." / "store")
        assert store.root == tmp_path / "store"
        assert sorted(path.name for path in store.root.iterdir()) == ["locks", "logs", "work"]
        assert not list((store.root / "work").iterdir())
    assert store.work("compile", DIGEST) == store.work("compile", DIGEST) == store.root / "work" / f"compile-{'d' * 24}"
    assert store.work("compile", DIGEST).is_dir()


def test_what_cannot_be_removed_keeps_nobody_from_the_store(store: Store) -> None:
    (store.root / "work" / "toolkit-abc.1.new").touch()  # no folder, as everything is that a run leaves
    Store(store.root)
    with store.scratch("toolkit-abc") as folder:
        assert folder.is_dir()


def test_a_file_in_a_results_place_is_no_result(store: Store) -> None:
    assert store.find("stage", DIGEST) is None
    (store.root / "stage").mkdir()
    (store.root / "stage" / ("d" * 24)).touch()
    assert store.find("stage", DIGEST) is None


def test_a_scratch_folder_is_empty_and_gone_afterwards_and_locked_meanwhile(store: Store) -> None:
    left = store.root / "work" / "verify-x.1.new"
    (left / "old").mkdir(parents=True)
    with store.scratch("verify-x") as folder:
        assert folder == store.root / "work" / f"verify-x.{os.getpid()}.new"
        assert not left.exists()
        assert not list(folder.iterdir())
        (folder / "file").touch()
        with store.if_free("verify-x") as free:
            assert not free
    assert not list((store.root / "work").iterdir())
    with pytest.raises(DiskFullError), store.scratch("verify-x"):
        raise OSError(errno.ENOSPC, "x")
