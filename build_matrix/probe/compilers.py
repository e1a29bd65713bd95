"""Which C++ compilers are here? The one that CXX names, then what lies on the PATH."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Container, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

from build_matrix.errors import MissingPrerequisiteError
from build_matrix.model import HostCompiler, digest_of
from build_matrix.runner import run

SECONDS = 30
_MSVC = re.compile(r"Microsoft \(R\) C/C\+\+ .*Version (?P<version>\d+\.\d+(?:\.\d+)*) for x64")
_VERSIONED = re.compile(r"g\+\+-\d+")


def find_compilers() -> tuple[HostCompiler, ...]:
    """Every usable C++ compiler, the preferred one first.

    CXX wins when it is set: it must then name a compiler. Raises MissingPrerequisiteError when it does not.
    """
    named = os.environ.get("CXX", "").strip()
    if named:
        found = shutil.which(named)
        compiler = _examine(Path(found)) if found else None
        if not compiler:
            raise MissingPrerequisiteError(
                f"CXX names {named!r}, which is not a C++ compiler that works here.",
                "Unset CXX, or let it name g++ or clang++.",
            )
        return (compiler,)
    seen: dict[str, HostCompiler] = {}
    examined = [_examine(path) for path in _candidates()]
    if os.name == "nt" and (cl := shutil.which("cl")):
        examined.insert(0, examine_msvc(Path(cl)))
    for candidate in examined:
        if candidate:
            seen.setdefault(candidate.identity, candidate)
    return tuple(seen.values())


def examine_msvc(cl: Path) -> HostCompiler | None:
    """MSVC's cl, which says its version when it is called without a file; None for anything else."""
    banner = _ask(cl, codes=range(256))
    match = _MSVC.search(banner)
    if not match:
        return None
    return HostCompiler(
        name="msvc",
        version=match["version"],
        description=match[0],
        cc=str(cl),
        cxx=str(cl),
        identity=digest_of(match[0], _content(cl.resolve())),
    )


def _candidates() -> Iterator[Path]:
    for name in ("g++", "c++", "clang++"):
        if found := shutil.which(name):
            yield Path(found)
    folders = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    for folder in folders:
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if _VERSIONED.fullmatch(path.name))


def _examine(cxx: Path) -> HostCompiler | None:
    """A compiler that answers and has its C sibling beside it, or None."""
    banner = _ask(cxx, "--version")
    name: Literal["gcc", "clang"] = "clang" if "clang" in banner else "gcc"
    if name == "gcc" and "Free Software Foundation" not in banner:
        return None
    version = _ask(cxx, "-dumpfullversion", "-dumpversion") if name == "gcc" else _clang_version(banner)
    stem = cxx.name.replace("clang++", "clang").replace("g++", "gcc").replace("c++", "cc")
    cc = cxx.with_name(stem)
    if not version or not os.access(cc, os.X_OK):
        return None
    programs = _programs(cxx)
    description = banner.splitlines()[0].partition(" ")[2]  # without the name that it was called by
    return HostCompiler(
        name=name,
        version=version.strip(),
        description=description,
        cc=str(cc),
        cxx=str(cxx),
        identity=digest_of(description, programs),
        programs=programs,
    )


def _programs(cxx: Path) -> dict[str, str]:
    """Sha256 of what decides the machine code: the compilers proper, their specs, the assembler, the linker."""
    found = {"specs": hashlib.sha256(_ask(cxx, "-dumpspecs").encode()).hexdigest()}
    for program in ("cc1", "cc1plus", "as", "ld"):
        answer = _ask(cxx, f"-print-prog-name={program}").strip()
        if answer and (path := shutil.which(answer)):
            found[program] = _content(Path(path).resolve())
    if "cc1plus" not in found:  # clang is one program
        found[cxx.name] = _content(cxx.resolve())
    return found


def _content(path: Path) -> str:
    status = path.stat()
    return _hash(path, status.st_size, status.st_mtime_ns)


@lru_cache
def _hash(path: Path, _size: int, _mtime: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _ask(program: Path, *words: str, codes: Container[int] = (0,)) -> str:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        done = run([program, *words], env=environment, timeout=SECONDS)
    except OSError:
        return ""
    return done.output if done.code in codes else ""


def _clang_version(banner: str) -> str:
    match = re.search(r"clang version (\d+(?:\.\d+)*)", banner)
    return match[1] if match else ""
