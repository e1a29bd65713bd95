"""Reads shared libraries: what they are called, what they need, where they look for it."""

from __future__ import annotations

import io
from typing import Any

from build_matrix.model import Record


class Library(Record, frozen=True, kw_only=True):
    """An ELF shared library's dynamic section."""

    soname: str
    needed: tuple[str, ...]
    runpath: tuple[str, ...]


def read_library(data: bytes) -> Library | None:
    """The dynamic section of an ELF file, or None for anything else."""
    if not data.startswith(b"\x7fELF"):
        return None
    import lief

    elf = lief.ELF.parse(io.BytesIO(data))
    if elf is None:
        return None
    tags = lief.ELF.DynamicEntry.TAG
    paths = [entry for tag in (tags.RUNPATH, tags.RPATH) if (entry := elf.get(tag)) is not None]
    name = elf.get(tags.SONAME)
    return Library(
        soname=str(getattr(name, "name", "")),
        needed=tuple(str(library) for library in elf.libraries),
        runpath=tuple(folder for entry in paths for folder in _folders(entry)),
    )


def _folders(entry: Any) -> list[str]:
    """The folders of a RUNPATH or RPATH entry (lief has a class for each)."""
    return str(getattr(entry, "runpath", None) or entry.rpath).split(":")
