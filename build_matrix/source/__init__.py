"""What exactly is compiled? The sdist, by its hash, unpacked fresh, with the patches applied in order."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from build_matrix.context import Context
from build_matrix.digests import code_digest, content_digest, library_versions, note_content
from build_matrix.errors import ConfigurationError, UnsafeArchiveError
from build_matrix.model import AppliedPatch, Component, SourceTree, digest_of, file_sha256
from build_matrix.source.options import check_defines, check_values, declared_options, declared_switches
from build_matrix.source.patches import apply_patch, read_headers
from build_matrix.unpacking import unpack_archive

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

CODE = ("source/__init__.py", "source/patches.py", "source/options.py", "unpacking.py")
TREE = "tree"  # folder in the result


def prepare_source(context: Context, sdist: Component, patches: Path) -> SourceTree:
    """The patched sources of this llama-cpp-python in the store.

    Raises DownloadError and its kinds, UnsafeArchiveError, PatchError.
    """
    chosen = patches_for(sdist.version, patches)
    applied = tuple(AppliedPatch(name=path.name, sha256=file_sha256(path)) for path in chosen)
    digest = digest_of("source", code_digest(*CODE), library_versions("unidiff"), sdist.content, applied)

    def make(folder: Path) -> None:
        (archive,) = context.downloads.fetch([sdist], f"llama-cpp-python {sdist.version}")
        tree = unpack(archive, folder)
        tree.rename(folder / TREE)
        for path in chosen:
            apply_patch(path, folder / TREE)
        note_content(folder, folder / TREE)

    result = context.store.obtain("source", digest, make)
    root = result / TREE
    return SourceTree(
        root=root,
        llama=sdist.version,
        sdist=sdist,
        patches=applied,
        options=declared_options(root),
        digest=content_digest(result, root),
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

    Raises UnsafeArchiveError for an archive that is unsafe or no sdist.
    """
    unpack_archive(archive, folder, lambda name: ".git" not in PurePosixPath(name).parts)
    tops = list(folder.iterdir())
    if len(tops) != 1 or not (tops[0] / "pyproject.toml").is_file():
        raise UnsafeArchiveError(f"{archive.name} is not an sdist: it has no single top folder.", "Lock another.")
    return tops[0]
