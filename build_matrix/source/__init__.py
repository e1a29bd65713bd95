"""What exactly is compiled? The sdist by its hash, unpacked fresh, with our patches applied in order."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from build_matrix.errors import ConfigurationError, UnsafeArchiveError
from build_matrix.index import Downloads
from build_matrix.model import AppliedPatch, Component, SourceTree, digest_of, file_sha256
from build_matrix.source.options import check_defines, check_values, declared_options, declared_switches
from build_matrix.source.patches import apply_patch, read_headers
from build_matrix.store import Store, disk_errors

__all__ = [
    "apply_patch",
    "check_defines",
    "check_values",
    "declared_options",
    "declared_switches",
    "patches_for",
    "prepare_source",
    "read_headers",
    "unpack",
]

VERSION = 1


def prepare_source(sdist: Component, patches: Path, store: Store, downloads: Downloads) -> SourceTree:
    """The patched sources of this llama-cpp-python in the store.

    Raises DownloadError and its kinds, UnsafeArchiveError, PatchError.
    """
    chosen = patches_for(sdist.version, patches)
    applied = tuple(AppliedPatch(name=path.name, sha256=file_sha256(path)) for path in chosen)
    digest = digest_of("source", VERSION, sdist.content, applied)

    def make(folder: Path) -> None:
        (archive,) = downloads.fetch([sdist], f"llama-cpp-python {sdist.version}")
        tree = unpack(archive, folder)
        tree.rename(folder / "tree")
        for path in chosen:
            apply_patch(path, folder / "tree")

    root = store.obtain("source", digest, make) / "tree"
    return SourceTree(
        root=root,
        llama=sdist.version,
        sdist=sdist,
        patches=applied,
        options=declared_options(root),
        digest=digest,
    )


def patches_for(version: str, folder: Path) -> list[Path]:
    """The patches whose header claims ``version``, in the order of their names; raises ConfigurationError."""
    chosen = []
    for path in sorted(folder.glob("*.patch")):
        versions = read_headers(path).get("Versions", "")
        try:
            if SpecifierSet(versions).contains(version):
                chosen.append(path)
        except InvalidSpecifier as error:
            raise ConfigurationError(
                f"{path.name}: 'Versions: {versions}' is not a version specifier.",
                "Write it as in `==0.3.16`.",
            ) from error
    return chosen


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack an sdist into ``folder`` and return its one top folder; git's own folders are left out.

    Files and folders alone are accepted, so that no member can be led elsewhere by an earlier one (``tarfile``'s data
    filter is younger than Python 3.11.2, which Debian 12 has). Raises UnsafeArchiveError for a member that would land
    outside, a link or a device, and for an archive that is no sdist.
    """
    try:
        with disk_errors(folder), tarfile.open(archive) as tar:
            for member in tar:
                if ".git" not in Path(member.name).parts:
                    _unpack_member(tar, member, folder)
    except tarfile.TarError as error:
        raise UnsafeArchiveError(f"{archive.name} cannot be unpacked: {error}.", "Lock another release.") from error
    tops = list(folder.iterdir())
    if len(tops) != 1 or not (tops[0] / "pyproject.toml").is_file():
        raise UnsafeArchiveError(f"{archive.name} is not an sdist: it has no single top folder.", "Lock another.")
    return tops[0]


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    content = tar.extractfile(member) if member.isreg() else None
    inside = not Path(member.name).is_absolute() and ".." not in Path(member.name).parts
    if not inside or not (content or member.isdir()):
        raise UnsafeArchiveError(
            f"{Path(str(tar.name)).name} holds a member that would land or lead outside its folder: {member.name}.",
            "Nothing of it is kept. Lock another release; report this one to its index.",
        )
    target = folder / member.name
    if content is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
    os.utime(target, (member.mtime, member.mtime))
