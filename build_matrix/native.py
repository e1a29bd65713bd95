"""Reads shared libraries: what they are called, what they need, where they look for it, what they must not export."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from build_matrix.model import Record

# Itanium C++ ABI, mangling: St is std, Sa Sb Ss Si So Sd its best known classes; TV TI TS tables and type names.
_STD = re.compile(r"_Z(?:N[VK]*S[tabsiod]|S[tabsiod]|T[VIST]N?S[tabsiod])")


class Library(Record, frozen=True, kw_only=True):
    """What an ELF shared library says of itself.

    ``own_cxx`` are functions and objects of the C++ standard library that it defines and exports (of which a library
    that links libstdc++ dynamically has none: what templates bring is weak). ``stripped``: without symbol table.
    """

    soname: str
    needed: tuple[str, ...]
    runpath: tuple[str, ...]
    own_cxx: tuple[str, ...] = ()
    stripped: bool = True


def is_library(data: bytes) -> bool:
    """Whether this is an ELF file."""
    return data.startswith(b"\x7fELF")


def read_library(data: bytes) -> Library | None:
    """The dynamic section of an ELF file, or None for anything else."""
    if not is_library(data):
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
        own_cxx=tuple(sorted(_own_cxx(elf))),
        stripped=not elf.has_section(".symtab"),
    )


def _own_cxx(elf: Any) -> Iterator[str]:
    import lief

    for symbol in elf.exported_symbols:
        if symbol.binding == lief.ELF.Symbol.BINDING.GLOBAL and _STD.match(str(symbol.name)):
            yield str(symbol.name)


def _folders(entry: Any) -> list[str]:
    """The folders of a RUNPATH or RPATH entry (lief has a class for each)."""
    return str(getattr(entry, "runpath", None) or entry.rpath).split(":")
