"""What is where in a native library? Its sections with their contents, and the symbols that it exports."""

from __future__ import annotations

import io

from build_matrix.model import Record
from build_matrix.wheelfile.native import is_library


class Section(Record, frozen=True, kw_only=True):
    """One section; ``address`` is where it is loaded, 0 for one that is not."""

    name: str
    address: int
    content: bytes


class Symbol(Record, frozen=True, kw_only=True):
    """An exported symbol: its address, and its size in bytes."""

    name: str
    address: int
    size: int


class Layout(Record, frozen=True, kw_only=True):
    """The sections of a library by name, in the order of the file, and its exported symbols."""

    sections: dict[str, Section]
    symbols: tuple[Symbol, ...]


def read_layout(data: bytes) -> Layout | None:
    """The layout of a library, or None for anything else."""
    if not is_library(data):
        return None
    import lief

    elf = lief.ELF.parse(io.BytesIO(data))
    if elf is None:
        return None
    sections = (
        Section(name=str(section.name), address=section.virtual_address, content=bytes(section.content))
        for section in elf.sections
    )
    symbols = (Symbol(name=str(symbol.name), address=symbol.value, size=symbol.size) for symbol in elf.exported_symbols)
    return Layout(sections={section.name: section for section in sections}, symbols=tuple(symbols))
