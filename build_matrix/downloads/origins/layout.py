"""The layout of a toolkit that unpacked files are moved into: bin, include, lib, nvvm."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTS = ("bin", "include", "lib", "nvvm")


@contextmanager
def scratch_beside(toolkit: Path) -> Iterator[Path]:
    """An empty folder on the toolkit's own file system, removed afterwards."""
    with tempfile.TemporaryDirectory(dir=toolkit.parent, prefix="unpacked-") as folder:
        yield Path(folder)


def move_parts(folder: Path, toolkit: Path) -> None:
    """Move what a toolkit consists of from ``folder`` (``nvidia/cu13``, an archive's top) into ``toolkit``."""
    if not folder.is_dir():
        return
    for part in PARTS:
        for path in sorted((folder / part).rglob("*")):
            if path.is_dir() and not path.is_symlink():
                continue
            target = toolkit / path.relative_to(folder)
            if path.name == "__init__.py" or target.is_symlink() or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
