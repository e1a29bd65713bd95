"""Results on disk, each under the digest of what went into it; an interrupted stage leaves nothing under that name."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from build_matrix.errors import DiskFullError, StoreNotWritableError

KEY_LENGTH = 24


def default_store() -> Path:
    """The store's folder when nobody names one: BUILD_MATRIX_STORE, or the user's cache folder."""
    named = os.environ.get("BUILD_MATRIX_STORE")
    return Path(named).expanduser() if named else user_cache_path("build-matrix")


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn "no space left" and "not writable" into the errors that name the remedy.

    Raises DiskFullError, StoreNotWritableError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(folder) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StoreNotWritableError(folder, os.strerror(error.errno)) from error
        raise


def require_room(folder: Path, needed: int) -> None:
    """Check that ``folder``'s disk has ``needed`` bytes free; raises DiskFullError."""
    if shutil.disk_usage(folder).free < needed:
        raise DiskFullError(folder, needed)


class Store:
    """Content-addressed results below one folder.

    ``<stage>/<key>`` holds a finished result, ``work/<stage>-<key>`` what an unfinished run may go on with,
    ``locks/`` one lock file for each result that is or was being made.
    """

    def __init__(self, root: Path, waiting: Callable[[str], None] = lambda _: None) -> None:
        """``waiting`` is told when another run holds the lock of a result that is needed here."""
        self.root = root.resolve()
        self._waiting = waiting
        try:
            with disk_errors(self.root):
                for name in ("locks", "logs", "work"):
                    (self.root / name).mkdir(parents=True, exist_ok=True)
                probe = self.root / "work" / f".writable-{os.getpid()}"
                probe.touch()
                probe.unlink()
        except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
            raise StoreNotWritableError(self.root, os.strerror(error.errno or errno.EIO)) from error
        self._clear()

    def find(self, stage: str, digest: str) -> Path | None:
        """The finished result of ``stage`` for these inputs, or None."""
        path = self._path(stage, digest)
        return path if path.is_dir() else None

    def obtain(self, stage: str, digest: str, make: Callable[[Path], None]) -> Path:
        """The result of ``stage`` for these inputs, made by ``make(folder)`` when it is not there yet.

        ``make`` fills an empty folder, which becomes the result in one rename.
        Raises what ``make`` raises; DiskFullError, StoreNotWritableError.
        """
        if found := self.find(stage, digest):
            return found
        with self.locked(f"{stage}-{digest[:KEY_LENGTH]}"), disk_errors(self.root):
            if found := self.find(stage, digest):
                return found
            with self._aside(f"{stage}-{digest[:KEY_LENGTH]}") as aside:
                make(aside)
                return self.keep(stage, digest, aside)

    def keep(self, stage: str, digest: str, folder: Path) -> Path:
        """Make ``folder`` (on the store's disk) the result of ``stage`` for these inputs, atomically."""
        final = self._path(stage, digest)
        final.parent.mkdir(parents=True, exist_ok=True)
        sync_tree(folder)
        folder.rename(final)
        sync_folder(final.parent)
        return final

    def work(self, stage: str, digest: str) -> Path:
        """A folder that outlives an interrupted run, so that the next one goes on where it was."""
        folder = self.root / "work" / f"{stage}-{digest[:KEY_LENGTH]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """An empty folder for as long as the context lasts; what killed runs left of that name is removed first."""
        with self.locked(name), disk_errors(self.root), self._aside(name) as folder:
            yield folder

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock ``name`` among all runs on this store; the system frees it when a run is killed."""
        lock = FileLock(self.root / "locks" / f"{name}.lock")
        with disk_errors(self.root):
            try:
                lock.acquire(timeout=0.05)
            except Timeout:
                self._waiting(name)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def if_free(self, name: str) -> Iterator[bool]:
        """Hold the lock ``name`` when no other run on this store has it; whether it is held."""
        lock = FileLock(self.root / "locks" / f"{name}.lock")
        with disk_errors(self.root), contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def _clear(self) -> None:
        """Remove what killed runs left, and what their programs still wrote after the next run had removed it."""
        for folder in (self.root / "work").glob("*.new"):
            name = folder.name.rsplit(".", 2)[0]
            with self.if_free(name) as free:
                if free:
                    _remove([folder])

    @contextlib.contextmanager
    def _aside(self, name: str) -> Iterator[Path]:
        """An empty folder that no other process has had, removed at the end; the caller holds the lock of ``name``.

        A run that is killed can leave a program of its behind, which goes on to write for a moment (uv, unpacking an
        environment). It writes into that run's folder, so never into this one.
        """
        work = self.root / "work"
        folder = work / f"{name}.{os.getpid()}.new"
        _remove(work.glob(f"{name}.*.new"))
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            _remove(work.glob(f"{name}.*.new"))  # once more: what was written into meanwhile has stayed

    def _path(self, stage: str, digest: str) -> Path:
        return self.root / stage / digest[:KEY_LENGTH]


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: aside, fsync, rename."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a whole file or nothing."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        shutil.copyfile(source, aside)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def sync_tree(folder: Path) -> None:
    """Put a folder's files on the disk before their folder gets its final name."""
    if hasattr(os, "sync"):  # one call instead of one for each of thousands of files
        os.sync()
    else:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Put a rename on the disk, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
