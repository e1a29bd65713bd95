"""What decides a stage's result beside its inputs, by digest: the tool's own code, libraries, the content of folders.

A result in the store is kept under the digest of all that it depends on. These functions read the things themselves,
so that no number has to be raised when one of them changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from build_matrix.model import digest_of, file_sha256

PACKAGE = Path(__file__).parent
CONTENT = "content.sha256"  # in a result of the store: the digest of its tree


@lru_cache
def code_digest(*names: str) -> str:
    """Sha256 (hex) of these files of this package (``verify/smoke.py``), or of all source files of a folder.

    A module lists what decides its results in ``CODE``; tests/unit/test_digests.py compares that with its imports.
    """
    return digest_of({path.relative_to(PACKAGE).as_posix(): file_sha256(path) for path in code_files(*names)})


def code_files(*names: str) -> Iterator[Path]:
    """The files that these names stand for; FileNotFoundError for one that is not there."""
    for name in names:
        path = PACKAGE / name
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file() and p.suffix in {".py", ".c", ".toml"})
        else:
            yield path


def library_versions(*projects: str) -> dict[str, str]:
    """The versions of installed libraries that decide a result."""
    return {project: metadata.version(project) for project in projects}


def tree_digest(root: Path) -> str:
    """Sha256 (hex) of a folder's content: names, files with whether they can be run, links; not dates or owners."""
    entries: dict[str, tuple[str, str]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            key = path.relative_to(root).as_posix()
            if path.is_symlink():
                entries[key] = ("link", str(path.readlink()))
            elif path.is_file() and key != CONTENT:
                entries[key] = ("program" if path.stat().st_mode & 0o100 else "file", file_sha256(path))
    return digest_of(entries)


def note_content(result: Path, root: Path) -> None:
    """Write the digest of ``root`` into ``result``, where ``content_digest`` finds it."""
    (result / CONTENT).write_text(tree_digest(root), encoding="utf-8")


def content_digest(result: Path, root: Path) -> str:
    """The digest of ``root`` as it was when the result was made."""
    try:
        return (result / CONTENT).read_text(encoding="utf-8")
    except FileNotFoundError:
        return tree_digest(root)
