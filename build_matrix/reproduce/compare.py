"""Where two wheels differ: the member, the section of a library, the symbol, the texts in it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from build_matrix.model import Difference
from build_matrix.process.runner import run
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.sections import Layout, Section, Symbol, read_layout

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
    one, other = WheelFile(first).members, WheelFile(second).members
    differences = []
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other:
            side = "second" if name in other else "first"
            differences.append(Difference(member=name, part="", detail=f"only in the {side}"))
        elif one[name] != other[name]:
            differences += _compare_members(name, one[name], other[name])
    if first.name != second.name:
        differences.append(Difference(member="", part="file name", detail=f"{first.name} | {second.name}"))
    return tuple(differences) or (
        Difference(member="", part="archive", detail="the members are identical, the zip container is not"),
    )


def full_report(first: Path, second: Path) -> str:
    """The report of diffoscope, or an empty text where it is not installed."""
    program = shutil.which("diffoscope")
    if not program:
        return ""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(first.parent)}
    return run([program, "--text", "-", first, second], env=environment, timeout=SECONDS).output


def _compare_members(name: str, one: bytes, other: bytes) -> Iterator[Difference]:
    parts = list(_compare_libraries(name, one, other))
    if parts:
        yield from parts
        return
    lines = [side.decode("utf-8", errors="replace").splitlines() for side in (one, other)]
    changed = [(a, b) for a, b in zip(*lines, strict=False) if a != b]
    detail = " | ".join(text[:LONGEST] for text in changed[0]) if changed else f"{len(one)} | {len(other)} bytes"
    yield Difference(member=name, part="text", detail=detail)


def _compare_libraries(name: str, one: bytes, other: bytes) -> Iterator[Difference]:
    """The sections that differ, in the order of the file; nothing where not both are libraries."""
    first, second = read_layout(one), read_layout(other)
    if first is None or second is None:
        return
    differences = list(_compare_sections(name, first, second))
    if [item.part for item in differences] == [BUILD_ID]:
        differences[0] = msgspec.structs.replace(differences[0], detail=f"{differences[0].detail}; {STRIPPED}")
    yield from differences


def _compare_sections(name: str, first: Layout, second: Layout) -> Iterator[Difference]:
    for part in first.sections | second.sections:
        one, other = first.sections.get(part), second.sections.get(part)
        if one is None or other is None:
            yield Difference(member=name, part=part, detail=f"only in the {'second' if one is None else 'first'}")
        elif one.content != other.content:
            yield Difference(member=name, part=part, detail=_describe(one, other, first.symbols))


def _describe(one: Section, other: Section, symbols: Iterable[Symbol]) -> str:
    """How the contents differ; ``symbols`` are those of the first library."""
    first, second = one.content, other.content
    size = f"{len(first)}" if len(first) == len(second) else f"{len(first)} | {len(second)}"
    places = [i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b]
    start = places[0] if places else min(len(first), len(second))
    parts = [f"{len(places)} of {size} bytes, the first at {start:#x}"]
    address = one.address + start
    for symbol in symbols:
        if one.address and symbol.address <= address < symbol.address + symbol.size:
            parts.append(f"in {symbol.name}")
            break
    return "; ".join([*parts, *_describe_texts(first, second)])


def _describe_texts(first: bytes, second: bytes) -> Iterator[str]:
    """The texts that only one side has."""
    texts = [set(_TEXT.findall(content)) for content in (first, second)]
    for label, side, other in (("first", texts[0], texts[1]), ("second", texts[1], texts[0])):
        if only := sorted(side - other):
            shown = ", ".join(repr(text.decode()[:LONGEST]) for text in only[:TEXTS])
            more = f" and {len(only) - TEXTS} more" if len(only) > TEXTS else ""
            yield f"only in the {label}: {shown}{more}"
