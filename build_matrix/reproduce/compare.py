"""Where two wheels differ: the member, the section of a library, the symbol, the texts in it."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from build_matrix.model import Difference
from build_matrix.process.runner import run
from build_matrix.wheelfile.archive import read_members

TEXTS = 5  # of each side, in a summary
LONGEST = 120  # characters of one
BUILD_ID = ".note.gnu.build-id"  # a checksum that the linker makes of everything it was given
STRIPPED = "the rest is the same: what differed was stripped (debug information, symbols, names of object files)"
SECONDS = 1800  # diffoscope disassembles

_TEXT = re.compile(rb"[\x20-\x7e]{5,}")


def compare_wheels(first: Path, second: Path) -> tuple[Difference, ...]:
    """Every difference between two wheels, none when they are the same bytes; raises VerificationError."""
    if first.read_bytes() == second.read_bytes():
        return ()
    one, other = read_members(first), read_members(second)
    differences = []
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            differences.append(
                Difference(member=name, part="", detail=f"only in the {'second' if name in other else 'first'}")
            )
        elif one[name] != other[name]:
            differences += _compare_members(name, one[name], other[name])
    if first.name != second.name:
        differences.append(Difference(member="", part="file name", detail=f"{first.name} | {second.name}"))
    return tuple(differences) or (
        Difference(member="", part="archive", detail="the members are the same, the container not"),
    )


def full_report(first: Path, second: Path) -> str:
    """The output of diffoscope, or an empty text where it is not installed."""
    program = shutil.which("diffoscope")
    if not program:
        return ""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(first.parent)}
    return run([program, "--text", "-", first, second], env=environment, timeout=SECONDS).output


def _compare_members(name: str, one: bytes, other: bytes) -> Iterator[Difference]:
    parts = list(_compare_libraries(name, one, other)) if one.startswith(b"\x7fELF") else []
    if parts:
        yield from parts
        return
    lines = [side.decode("utf-8", errors="replace").splitlines() for side in (one, other)]
    changed = [(a, b) for a, b in zip(*lines, strict=False) if a != b]
    detail = " | ".join(text[:LONGEST] for text in changed[0]) if changed else f"{len(one)} | {len(other)} bytes"
    yield Difference(member=name, part="text", detail=detail)


def _compare_libraries(name: str, first: bytes, second: bytes) -> Iterator[Difference]:
    """The sections that differ, in the order of the file."""
    import lief

    files = [lief.ELF.parse(io.BytesIO(side)) for side in (first, second)]
    tables: list[dict[str, Any]] = [{str(s.name): s for s in file.sections} for file in files if file is not None]
    if len(tables) < len(files):
        return
    differences = list(_compare_sections(name, files[0], tables))
    if [item.part for item in differences] == [BUILD_ID]:
        differences[0] = msgspec.structs.replace(differences[0], detail=f"{differences[0].detail}; {STRIPPED}")
    yield from differences


def _compare_sections(name: str, elf: Any, tables: list[dict[str, Any]]) -> Iterator[Difference]:
    for section in tables[0] | tables[1]:
        sides = [table.get(section) for table in tables]
        if sides[0] is None or sides[1] is None:
            yield Difference(
                member=name, part=section, detail=f"only in the {'second' if sides[0] is None else 'first'}"
            )
            continue
        one, other = (bytes(side.content) for side in (sides[0], sides[1]))
        if one != other:
            yield Difference(member=name, part=section, detail=_describe(one, other, elf, sides[0]))


def _describe(one: bytes, other: bytes, elf: Any, section: Any) -> str:
    size = f"{len(one)}" if len(one) == len(other) else f"{len(one)} | {len(other)}"
    places = [i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
    start = places[0] if places else min(len(one), len(other))
    facts = [f"{len(places)} of {size} bytes, the first at {start:#x}"]
    address = section.virtual_address + start
    for symbol in elf.exported_symbols:
        if section.virtual_address and symbol.value <= address < symbol.value + symbol.size:
            facts.append(f"in {symbol.name}")
            break
    texts = [set(_TEXT.findall(content)) for content in (one, other)]
    for label, own, theirs in (("first", texts[0], texts[1]), ("second", texts[1], texts[0])):
        if only := sorted(own - theirs):
            shown = ", ".join(repr(text.decode()[:LONGEST]) for text in only[:TEXTS])
            facts.append(
                f"only in the {label}: {shown}" + (f" and {len(only) - TEXTS} more" if len(only) > TEXTS else "")
            )
    return "; ".join(facts)
