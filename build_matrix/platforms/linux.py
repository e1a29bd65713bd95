"""What all platforms of Linux with glibc have in common."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from build_matrix.catalog import OldestSystem, oldest_system, platforms
from build_matrix.model import Record, SystemNeeds
from build_matrix.platforms import manylinux

SECONDS = 30  # for the trial of the sandbox
SEARCH_PATH = "LD_LIBRARY_PATH"  # ld.so(8)
DRIVER_LIBRARY = "libcuda.so.1"

_SONAME = re.compile(r"(?P<link>lib[A-Za-z]+\.so)\.\d+(?:\.0)?")


class Linux(Record, frozen=True, kw_only=True):
    """Linux with glibc on one kind of processor; see ``build_matrix.platforms.Platform``."""

    name: str
    compiler_target: str
    compiler_macros: str
    library_suffix: str = ".so"

    @property
    def title(self) -> str:
        """How a sentence names it."""
        return platforms()[self.name].title

    @property
    def options(self) -> Mapping[str, str]:
        """The CMake options that depend on its kind of CPU."""
        return platforms()[self.name].options

    @property
    def oldest_system(self) -> OldestSystem:
        """The oldest system that its wheels run on."""
        return oldest_system(self.name)

    @property
    def system_libraries(self) -> frozenset[str]:
        """The SONAMEs that every system has."""
        return frozenset(platforms()[self.name].libraries)

    def environment_python(self, root: Path) -> Path:
        """The interpreter of a virtual environment (PEP 405)."""
        return root / "bin" / "python"

    def program(self, name: str) -> str:
        """Programs have no suffix."""
        return name

    def driver_variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The folders of LD_LIBRARY_PATH that hold the driver's library."""
        folders = environ.get(SEARCH_PATH, "").split(os.pathsep)
        leading = [folder for folder in folders if folder and (Path(folder) / DRIVER_LIBRARY).exists()]
        return {SEARCH_PATH: os.pathsep.join(leading)} if leading else {}

    def link_library(self, name: str) -> str:
        """``libcudart.so``: ld(1), option -l."""
        return f"lib{name}.so"

    def unversioned(self, filename: str) -> str:
        """``libcudart.so`` of ``libcudart.so.13``; NVIDIA's packages hold a library by its SONAME alone."""
        match = _SONAME.fullmatch(filename)
        return match["link"] if match else ""

    def run_path(self, folder: str) -> str:
        """A folder relative to the library itself: ld.so(8), "Dynamic string tokens"."""
        return f"$ORIGIN/{folder}"

    def why_no_sandbox(self, python: Path) -> str:
        """Why namespaces are not available, in the system's own words; empty when they are."""
        return _why_no_namespaces(python)

    def read_system_needs(self, wheel: Path, provided: Iterable[str]) -> SystemNeeds:
        """As auditwheel judges it."""
        return manylinux.read_system_needs(wheel, provided, self.oldest_system.architecture)

    def promises_too_much(self, tag: str, met: str) -> bool:
        """By the versions of glibc in the two tags."""
        return manylinux.promises_too_much(tag, met)


@lru_cache
def _why_no_namespaces(python: Path) -> str:
    from build_matrix.process.runner import run
    from build_matrix.process.sandbox import ROOT, sandbox

    argv: list[str | Path] = [*sandbox(python, {Path("/usr"): ROOT / "usr"}, ROOT), python, "-I", "-S", "-c", ""]
    result = run(argv, env={}, timeout=SECONDS)
    return "" if result.code == 0 else result.output or f"exit code {result.code}"
