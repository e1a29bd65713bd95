"""Reads shared libraries: their names, what they need, where they look for it, what they must not export."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from build_matrix.model import Record

# Itanium C++ ABI, mangling: St is std, Sa Sb Ss Si So Sd its best known classes; TV TI TS tables and type names.
_STD = re.compile(r"_Z(?:N[VK]*S[tabsiod]|S[tabsiod]|T[VIST]N?S[tabsiod])")


class Library(Record, frozen=True, kw_only=True):
    """A shared library as its dynamic section describes it.

    ``exported_cxx`` are functions and objects of the C++ standard library that it defines and exports (of which a
    library that links libstdc++ dynamically has none: what templates bring is weak). ``stripped``: without symbol
    table.
    """

    soname: str
    needed: tuple[str, ...]
    runpath: tuple[str, ...]
    exported_cxx: tuple[str, ...] = ()
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
    return Library(
        soname=_soname(elf),
        needed=tuple(str(library) for library in elf.libraries),
        runpath=(*_search_path(elf, "RUNPATH"), *_search_path(elf, "RPATH")),
        exported_cxx=tuple(sorted(_exported_cxx(elf))),
        stripped=not elf.has_section(".symtab"),
    )


def _exported_cxx(elf: Any) -> Iterator[str]:
    import lief

    for symbol in elf.exported_symbols:
        if symbol.binding == lief.ELF.Symbol.BINDING.GLOBAL and _STD.match(str(symbol.name)):
            yield str(symbol.name)


class LibraryFile(Record, frozen=True, kw_only=True):
    """What a file that should be a library is; ``platform`` as Python's platform.machine for ELF, else in a phrase."""

    platform: str
    elf: bool = True
    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    constants: frozenset[str] = frozenset()


# First bytes of what lies where a library should be. Mach-O: mach-o/loader.h; PE: its DOS header.
_OTHER_FILES = (
    (b"MZ", "Windows"),
    (b"\xcf\xfa\xed\xfe", "macOS"),
    (b"\xca\xfe\xba\xbe", "macOS"),
    (b"version https://git-lfs", "nothing: it is a pointer of Git LFS, not the file"),
    (b"", "nothing: it is no library"),
)
_ELF_MACHINES = {3: "i686", 21: "ppc64le", 22: "s390x", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_ELF_HEADER = 20  # bytes up to e_machine and with it
_BIG_ENDIAN = 2  # ELFDATA2MSB


def platform_of(path: Path) -> tuple[str, bool]:
    """The platform by the file's first bytes, and whether it is ELF; raises OSError."""
    start = _start(path)
    if not is_library(start) or len(start) < _ELF_HEADER:
        return next(name for magic, name in _OTHER_FILES if start.startswith(magic)), False
    number = int.from_bytes(start[18:20], "big" if start[5] == _BIG_ENDIAN else "little")
    return _ELF_MACHINES.get(number, f"ELF machine {number}"), True


def inspect_library(path: Path, markers: tuple[str, ...] = ()) -> LibraryFile:
    """What the file is, what it needs, and which of ``markers`` are among its constants; raises OSError.

    Only as much as is needed is parsed: with CUDA code such a file has hundreds of megabytes.
    """
    platform, is_elf = platform_of(path)
    if not is_elf:
        return LibraryFile(platform=platform, elf=False)
    elf = _parse(path)
    if elf is None or not _is_whole(path, elf):
        return LibraryFile(platform="nothing: it is cut off", elf=False)
    return LibraryFile(
        platform=platform,
        soname=_soname(elf),
        needed=tuple(str(library) for library in elf.libraries),
        rpath=_search_path(elf, "RPATH"),
        runpath=_search_path(elf, "RUNPATH"),
        constants=_constants(path, elf, markers),
    )


def interpreter_of(program: Path) -> str:
    """The dynamic loader that a program asks for, or an empty text; raises OSError."""
    elf = _parse(program) if is_library(_start(program)) else None
    return str(elf.interpreter) if elf is not None and elf.has_interpreter else ""


def newest_version(library: Path, family: str) -> str:
    """The newest symbol version of a family that a library defines: ``GLIBCXX_3.4.30`` of GLIBCXX; raises OSError."""
    import lief

    elf = lief.ELF.parse(str(library)) if is_library(_start(library)) else None
    definitions = elf.symbols_version_definition if elf is not None else ()
    names = {str(auxiliary.name) for definition in definitions for auxiliary in definition.auxiliary_symbols}
    numbered = [name for name in names if re.fullmatch(re.escape(family) + r"_[\d.]+", name)]
    return max(numbered, key=lambda name: [int(part) for part in re.findall(r"\d+", name)], default="")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _parse(path: Path) -> Any:
    import lief

    lief.logging.disable()
    config = lief.ELF.ParserConfig()
    for part in ("parse_dyn_symbols", "parse_symtab_symbols", "parse_relocations", "parse_notes", "parse_overlay"):
        setattr(config, part, False)
    return lief.ELF.parse(str(path), config)


def _is_whole(path: Path, elf: Any) -> bool:
    """Whether the file is as long as its segments say; a download that was cut off is not."""
    ends = [segment.file_offset + segment.physical_size for segment in elf.segments]
    return bool(ends) and max(ends) <= path.stat().st_size


def _soname(elf: Any) -> str:
    import lief

    return str(getattr(elf.get(lief.ELF.DynamicEntry.TAG.SONAME), "name", ""))


def _search_path(elf: Any, tag: str) -> tuple[str, ...]:
    import lief

    entry = elf.get(getattr(lief.ELF.DynamicEntry.TAG, tag))
    if entry is None:
        return ()
    return tuple(str(getattr(entry, "runpath", None) or entry.rpath).split(":"))  # lief has a class for each


def _constants(path: Path, elf: Any, markers: tuple[str, ...]) -> frozenset[str]:
    section = elf.get_section(".rodata")
    if section is None or not markers:
        return frozenset()
    with path.open("rb") as file:
        file.seek(section.file_offset)
        data = file.read(section.size)
    return frozenset(marker for marker in markers if marker.encode() in data)
