"""Unpacks archives of others: sdists, NVIDIA's tar files and zip files, Debian packages, with one set of rules.

The standard library's own filter (``tarfile.extractall(filter="data")``) is missing before Python 3.10.12 and 3.11.4,
has been bypassed several times since (CVE-2025-4517, CVE-2025-4330), and knows nothing of zip files. The rules here
are stricter than its, and need no filter: each member is written by this module, and what would land or lead outside
the folder, is neither a file, a folder nor a link, would run with another user's rights, or has the name of an earlier
member, is refused with the whole archive.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Literal, NamedTuple

from build_matrix.errors import UnsafeArchiveError
from build_matrix.store import disk_errors

MOST_BYTES = 32 << 30  # of an unpacked archive; the largest toolkit archive (cuBLAS) has 1 GB
MOST_MEMBERS = 500_000  # the largest sdist has 4,000

BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, EOFError,
    NotImplementedError,  # zipfile: a compression that it does not know
    RuntimeError,  # zipfile: an encrypted member
    UnicodeError, ValueError, OverflowError,  # tarfile, zipfile: numbers and names that make no sense
)  # fmt: skip
REMEDY = "Nothing of it was kept. Lock another release, and report this one to its publisher."

_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Kind = Literal["file", "folder", "link"]


class UnsafeNameError(ValueError):
    """A name that no member of an archive may have, or that another one has already."""


class Member(NamedTuple):
    """One entry of an archive.

    ``mode`` holds the permission bits, ``modified`` seconds since 1970 (None: not kept), ``target`` what a symbolic
    link leads to, ``copy_of`` the earlier member that a hard link names. ``kind`` is None for anything else (a device,
    a pipe).
    """

    name: str
    kind: Kind | None
    size: int = 0
    mode: int = 0o644
    modified: float | None = None
    target: str = ""
    copy_of: str = ""
    read: Callable[[], IO[bytes] | None] = lambda: None


def everything(_name: str) -> bool:
    """Unpack every member."""
    return True


def unpack_archive(path: Path, folder: Path, select: Callable[[str], bool] = everything) -> None:
    """Unpack the tar file (of any compression) or zip file ``path`` into ``folder``, which is new or empty.

    Only the members whose name ``select`` accepts are looked at; ``./`` before a name does not count. The archive is
    read to its end, so that its own checksums are checked. Files get mode 755 or 644.
    Raises UnsafeArchiveError, DiskFullError, StoreNotWritableError.
    """
    with _explained(path), disk_errors(folder):
        if zipfile.is_zipfile(path) and not tarfile.is_tarfile(path):
            with zipfile.ZipFile(path) as archive:
                _write(path.name, (_zip_member(archive, info) for info in archive.infolist()), folder, select)
            return
        with tarfile.open(path) as tar:
            _unpack_tar(path.name, tar, folder, select)


def unpack_deb(path: Path, folder: Path, select: Callable[[str], bool] = everything) -> None:
    """Unpack the files of a Debian package in the same way; raises what ``unpack_archive`` raises."""
    from debian.arfile import ArError
    from debian.debfile import DebError, DebFile

    with _explained(path), disk_errors(folder):
        try:
            with DebFile(path).data.tgz() as tar:
                _unpack_tar(path.name, tar, folder, select)
        except (DebError, ArError) as error:
            raise _broken(path, error) from error


def checked_name(name: str) -> PurePosixPath:
    """A member's name as a path below the archive's folder; raises UnsafeNameError for one that leads elsewhere."""
    path = PurePosixPath(name)
    if "\\" in name or _CONTROL.search(name) or _DRIVE.match(name) or path.is_absolute() or ".." in path.parts:
        raise UnsafeNameError(name)
    return path


class Names:
    """The names of an archive's members so far: no name twice, none below a file or a link, none that differs in case.

    File systems that ignore case or Unicode's normal form would make one of two such members.
    """

    def __init__(self) -> None:
        self._members: dict[str, tuple[PurePosixPath, Kind]] = {}

    def add(self, path: PurePosixPath, kind: Kind) -> None:
        """Note a member and the folders above it; raises UnsafeNameError when an earlier one is in the way."""
        for parent in reversed(path.parents[:-1]):
            self._note(parent, "folder")
        self._note(path, kind)

    def kind(self, path: PurePosixPath) -> Kind | None:
        """What the earlier member of exactly this name is."""
        known, kind = self._members.get(_folded(path), (None, None))
        return kind if known == path else None

    def _note(self, path: PurePosixPath, kind: Kind) -> None:
        key = _folded(path)
        if key not in self._members:
            self._members[key] = (path, kind)
        elif kind != "folder" or self._members[key] != (path, "folder"):
            raise UnsafeNameError(str(path))


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def _unpack_tar(name: str, tar: tarfile.TarFile, folder: Path, select: Callable[[str], bool]) -> None:
    _write(name, (_tar_member(tar, info) for info in tar), folder, select)
    while tar.fileobj and tar.fileobj.read(1 << 20):  # tarfile stops before the compression's own checksum
        pass


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    """Hard links name a member by its path in the archive, symbolic links by the path from where they are."""
    kind: Kind | None = None
    if info.isreg() or info.islnk():
        kind = "file"
    elif info.isdir():
        kind = "folder"
    elif info.issym():
        kind = "link"
    return Member(
        name=info.name,
        kind=kind,
        size=info.size,
        mode=info.mode,
        modified=float(info.mtime),
        target=info.linkname if info.issym() else "",
        copy_of=info.linkname if info.islnk() else "",
        read=lambda: tar.extractfile(info),
    )


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    """Unix keeps a file's kind and mode in the upper half of its attributes (APPNOTE.TXT 4.4.15)."""
    mode = info.external_attr >> 16
    kinds: dict[int, Kind] = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    kind = "folder" if info.is_dir() else kinds.get(stat.S_IFMT(mode))
    target = archive.read(info).decode() if kind == "link" else ""
    name = info.orig_filename if "\0" in info.orig_filename else info.filename
    return Member(name=name, kind=kind, size=info.file_size, mode=mode, target=target, read=lambda: archive.open(info))


def _write(archive: str, members: Iterator[Member], folder: Path, select: Callable[[str], bool]) -> None:
    names = Names()
    size = count = 0
    for member in members:
        name = member.name.removeprefix("./").rstrip("/")
        if not name or name == "." or not select(name):
            continue
        size, count = size + member.size, count + 1
        if size > MOST_BYTES or count > MOST_MEMBERS:
            raise UnsafeArchiveError(f"{archive} unpacks to more than any valid archive.", REMEDY)
        if problem := _problem(member, name, names):
            raise UnsafeArchiveError(f"{archive} contains {problem}: {member.name!r}.", REMEDY)
        _write_member(member, PurePosixPath(name), folder)


def _problem(member: Member, name: str, names: Names) -> str:
    """Why a member is refused; empty when it is not, and then it is noted in ``names``."""
    try:
        path = checked_name(name)
    except UnsafeNameError:
        return "a member that would land outside its folder"
    if member.kind is None:
        return "a member that is neither a file, a folder nor a link"
    if problem := _link_problem(member, path, names):
        return problem
    if member.kind == "file" and member.mode & (stat.S_ISUID | stat.S_ISGID):
        return "a member that would run with its owner's rights"
    try:
        names.add(path, member.kind)
    except UnsafeNameError:
        return "a member with a duplicate name, or below a file or a link"
    return ""


def _link_problem(member: Member, path: PurePosixPath, names: Names) -> str:
    if member.kind == "link" and not _target_is_inside(path, member.target):
        return "a link that would lead outside its folder"
    if member.copy_of and names.kind(PurePosixPath(member.copy_of)) != "file":
        return "a hard link to something other than an earlier file of its own"
    return ""


def _target_is_inside(path: PurePosixPath, target: str) -> bool:
    """Whether a link at ``path`` stays in the folder, whatever the other links of the archive are.

    ``..`` may only stand in front: there it leaves real folders, since no member lies below a link; behind a name it
    could leave what another link leads to.
    """
    parsed = PurePosixPath(target)
    if not target or parsed.is_absolute() or "\\" in target or _CONTROL.search(target) or _DRIVE.match(target):
        return False
    up = sum(part == ".." for part in parsed.parts)
    return up < len(path.parts) and ".." not in parsed.parts[up:]


def _write_member(member: Member, path: PurePosixPath, folder: Path) -> None:
    target = folder / path
    if member.kind == "folder":
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.kind == "link":
        target.symlink_to(member.target)
        return
    if member.copy_of:
        shutil.copy2(folder / member.copy_of, target, follow_symlinks=False)
        return
    content = member.read()
    if content is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    with content, target.open("xb") as file:
        shutil.copyfileobj(content, file)
    target.chmod(0o755 if member.mode & stat.S_IXUSR else 0o644)
    if member.modified is not None:
        os.utime(target, (member.modified, member.modified))


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the standard library raises for a damaged archive into UnsafeArchiveError."""
    try:
        yield
    except (*BROKEN, OSError) as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> UnsafeArchiveError:
    text = str(error).strip().rstrip(".") or type(error).__name__
    return UnsafeArchiveError(f"{path.name} cannot be unpacked: {text}.", "Remove it from the store, or lock another.")
