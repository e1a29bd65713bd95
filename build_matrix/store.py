"""Results on disk, each under the digest of what went into it; an interrupted stage leaves nothing under that name."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from build_matrix.errors import DiskFullError, NoLocksError, StoreNotWritableError, explain_os_error
from build_matrix.process import interrupt

if TYPE_CHECKING:
    from filelock import BaseFileLock

KEY_LENGTH = 24
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOLCK, errno.ENOTCONN, errno.EFBIG} | {
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EMFILE,
    errno.ENFILE,
}


def default_store() -> Path:
    """The store's folder when nobody names one: BUILD_MATRIX_STORE, or the user's cache folder.

    Who has no home folder (a container's user without an entry in passwd) gets a folder of the temporary ones. A
    relative XDG_CACHE_HOME counts as unset: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    if named := os.environ.get("BUILD_MATRIX_STORE", "").strip():
        return expand(Path(named))
    home = _home()
    with contextlib.suppress(RuntimeError, KeyError):  # there is neither HOME nor an entry in passwd
        folder = user_cache_path("build-matrix")
        if folder.is_absolute() and (home or folder.parent != Path("/.cache")):
            return folder
    return home / ".cache" / "build-matrix" if home else _temporary_store()


def expand(folder: Path) -> Path:
    """``folder`` with ``~`` as the home folder, as it is where there is none."""
    try:
        return folder.expanduser()
    except (RuntimeError, KeyError):
        return folder


def _home() -> Path | None:
    """The home folder of HOME, else of passwd; None for neither."""
    if Path(os.environ.get("HOME", "")).is_absolute():
        return Path(os.environ["HOME"])
    with contextlib.suppress(ImportError, KeyError, OSError):
        import pwd

        named = Path(pwd.getpwuid(os.getuid()).pw_dir)
        return named if named.is_absolute() else None
    return None


def _temporary_store() -> Path:
    try:
        parent = Path(tempfile.gettempdir())
    except OSError:  # none of them can be written; whoever needs the store says so
        parent = Path("/tmp")  # noqa: S108 - owned by this user, or refused
    return parent / f"build-matrix-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses ("no space left", "not writable", ...) into the error that names the remedy.

    Raises MissingPrerequisiteError: DiskFullError, StoreNotWritableError, NoLocksError, and others of its kind.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StoreNotWritableError(folder, os.strerror(error.errno)) from error
        if error.errno in DISK_ERRORS and (explained := explain_os_error(error, folder)):
            raise explained from error
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
        """``waiting`` is called when another run holds the lock of a result that is needed here."""
        self.root = _resolve(expand(root))
        self._waiting = waiting
        try:
            with disk_errors(self.root):
                for name in ("locks", "logs", "work"):
                    (self.root / name).mkdir(parents=True, exist_ok=True)
                _require_owner(self.root)
                _require_locks(self.root / "locks")
        except OSError as error:
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
        if result := self.find(stage, digest):
            return result
        with self.locked(f"{stage}-{digest[:KEY_LENGTH]}"), disk_errors(self.root):
            if result := self.find(stage, digest):
                return result
            with self._staging(f"{stage}-{digest[:KEY_LENGTH]}") as staging:
                make(staging)
                return self.keep(stage, digest, staging)

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
        with self.locked(name), disk_errors(self.root), self._staging(name) as folder:
            yield folder

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock ``name`` among all runs on this store; the system frees it when a run is killed.

        Raises MissingPrerequisiteError; KeyboardInterrupt when this process is asked to end while it waits.
        """
        from filelock import FileLock

        path = self.root / "locks" / f"{name}.lock"
        lock = FileLock(path)
        with disk_errors(self.root):
            if not _acquired(lock, 0.05):
                self._waiting(_holder(path, name))
                while not _acquired(lock, 0.5):
                    interrupt.check()
        _sign(path)
        try:
            yield
        finally:
            _release(lock)

    @contextlib.contextmanager
    def if_free(self, name: str) -> Iterator[bool]:
        """Hold the lock ``name`` when no other run on this store has it; whether it is held."""
        from filelock import FileLock

        lock = FileLock(self.root / "locks" / f"{name}.lock")
        with disk_errors(self.root):
            free = _acquired(lock, 0)
        try:
            yield free
        finally:
            _release(lock)

    def _clear(self) -> None:
        """Remove what killed runs left, and what their programs still wrote after the next run had removed it."""
        for folder in (self.root / "work").glob("*.new"):
            name = folder.name.rsplit(".", 2)[0]
            with self.if_free(name) as free:
                if free:
                    _remove([folder])

    @contextlib.contextmanager
    def _staging(self, name: str) -> Iterator[Path]:
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


def _resolve(folder: Path) -> Path:
    """The absolute path, without links; raises StoreNotWritableError where that cannot be known."""
    try:
        return folder.resolve()
    except FileNotFoundError as error:
        raise StoreNotWritableError(folder, "the current folder no longer exists") from error
    except RuntimeError as error:  # before Python 3.13
        raise StoreNotWritableError(folder, os.strerror(errno.ELOOP)) from error
    except (OSError, ValueError) as error:
        raise StoreNotWritableError(folder, str(error)) from error


def _require_owner(root: Path) -> None:
    """Refuse a store below the temporary folder that another user has laid there: its contents would be run.

    Raises StoreNotWritableError.
    """
    if root == _temporary_store().resolve() and hasattr(os, "getuid") and root.stat().st_uid != os.getuid():
        raise StoreNotWritableError(root, "it belongs to another user")


def _require_locks(folder: Path) -> None:
    """Write a file in ``folder`` and lock it; raises OSError, NoLocksError.

    Network file systems can lack locks in several ways: https://man7.org/linux/man-pages/man2/flock.2.html. A lock by
    a file's mere existence is no way out: a run that is killed on another machine would leave it for ever.
    """
    probe = folder / f".probe-{os.getpid()}-{threading.get_ident()}"
    try:
        with probe.open("wb") as file:
            file.write(b"x")
            file.flush()
            if os.name == "posix":
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise NoLocksError(folder.parent, "a file counts as locked although nobody has locked it") from None
    except OSError as error:
        if error.errno in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ESTALE, errno.EIO, errno.EINVAL}:
            raise NoLocksError(folder.parent, os.strerror(error.errno)) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _acquired(lock: BaseFileLock, seconds: float) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    except NotImplementedError as error:  # filelock before 3.25, for ENOSYS
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    return True


def _release(lock: BaseFileLock) -> None:
    """Free the lock; where the file system fails even at that, the end of this process frees it."""
    with contextlib.suppress(OSError):
        lock.release()


def _sign(lock: Path) -> None:
    """Write into a lock file whose it is, for those who wait."""
    with contextlib.suppress(OSError):
        lock.write_text(f"process {os.getpid()}", encoding="ascii")


def _holder(lock: Path, name: str) -> str:
    """What is waited for, and for which process."""
    with contextlib.suppress(OSError):
        if signed := lock.read_text(encoding="ascii", errors="replace").strip():
            return f"{name}, {signed[:40]}"
    return name


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: aside, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a whole file or nothing."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        shutil.copyfile(source, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


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
