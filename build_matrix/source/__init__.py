"""What exactly is compiled? The sdist by its hash, unpacked fresh, with our patches applied in order."""

from __future__ import annotations

import tarfile
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from build_matrix.errors import ConfigurationError, MissingPrerequisiteError, UnsafeArchiveError
from build_matrix.index import Downloads
from build_matrix.locks import components, read_lock
from build_matrix.model import AppliedPatch, Cell, SourceTree, digest_of, file_sha256
from build_matrix.source.options import check_defines, declared_options
from build_matrix.source.patches import apply_patch, read_headers
from build_matrix.store import Store, disk_errors

__all__ = [
    "apply_patch",
    "check_defines",
    "declared_options",
    "patches_for",
    "prepare_source",
    "read_headers",
    "unpack",
]

VERSION = 1


def prepare_source(cell: Cell, patches: Path, store: Store, downloads: Downloads) -> SourceTree:
    """The patched sources of ``cell``'s llama-cpp-python in the store.

    Raises DownloadError and its kinds, UnsafeArchiveError, PatchError.
    """
    package = next(p for p in read_lock("llama").packages if p.version == cell.llama)
    files = [(package, package.files[0])]
    chosen = patches_for(cell.llama, patches)
    applied = tuple(AppliedPatch(name=path.name, sha256=file_sha256(path)) for path in chosen)
    digest = digest_of("source", VERSION, components(files), applied)

    def make(folder: Path) -> None:
        (archive,) = downloads.fetch(files, f"llama-cpp-python {cell.llama}")
        tree = unpack(archive, folder)
        tree.rename(folder / "tree")
        for path in chosen:
            apply_patch(path, folder / "tree")

    root = store.obtain("source", digest, make) / "tree"
    return SourceTree(
        root=root,
        llama=cell.llama,
        sdist=components(files)[0],
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

    Raises UnsafeArchiveError for a member that would land outside, or an archive that is no sdist.
    """
    if not hasattr(tarfile, "data_filter"):
        raise MissingPrerequisiteError(
            "This Python cannot unpack archives safely (PEP 706).", "Use Python 3.10.12, 3.11.4, or newer."
        )

    def keep(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        if ".git" in Path(member.name).parts:
            return None
        return tarfile.data_filter(member, destination)

    try:
        with disk_errors(folder), tarfile.open(archive) as tar:
            tar.extractall(folder, filter=keep)  # noqa: S202 - keep() applies the data filter
    except tarfile.FilterError as error:
        raise UnsafeArchiveError(
            f"{archive.name} holds a member that would land outside its folder: {error}.",
            "Nothing of it is kept. Lock another release; report this one to its index.",
        ) from error
    except tarfile.TarError as error:
        raise UnsafeArchiveError(f"{archive.name} cannot be unpacked: {error}.", "Lock another release.") from error
    tops = list(folder.iterdir())
    if len(tops) != 1 or not (tops[0] / "pyproject.toml").is_file():
        raise UnsafeArchiveError(f"{archive.name} is not an sdist: it has no single top folder.", "Lock another.")
    return tops[0]
