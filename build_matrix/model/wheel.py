"""A finished wheel and its record: the result of ``wheel``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from build_matrix.model.base import Record
from build_matrix.model.compile import BuildFacts
from build_matrix.model.locks import Component, Ingredients
from build_matrix.model.machine import HostCompiler
from build_matrix.model.plan import Cell
from build_matrix.model.source import AppliedPatch


class SystemNeeds(Record, frozen=True, kw_only=True):
    """What a wheel needs of a system.

    ``tag`` is the oldest policy that it meets, as a platform tag (``linux_x86_64``: none), ``symbols`` the newest
    symbol version of each family (``{"GLIBC": "2.27"}``).
    """

    tag: str
    symbols: dict[str, str]


class Member(Record, frozen=True, kw_only=True):
    """A native library in a wheel; sizes in bytes."""

    path: str
    size: int
    needed: tuple[str, ...]


class WheelRecord(Record, frozen=True, kw_only=True):
    """``<wheel>.json``: what a wheel is and everything that went into it, by digest."""

    schema: Literal["build-matrix/wheel/4"] = "build-matrix/wheel/4"
    filename: str
    sha256: str
    size: int
    unpacked_size: int
    cell: Cell
    sdist: Component
    patches: tuple[AppliedPatch, ...]
    toolkit: tuple[Component, ...]
    toolkit_release: str
    build_environment: tuple[Component, ...]
    sysroot: tuple[Component, ...]
    host_compiler: HostCompiler
    python: str
    flags: dict[str, str]
    facts: BuildFacts
    libraries: tuple[Member, ...]
    system: SystemNeeds
    tool: str

    @property
    def ingredients(self) -> Ingredients:
        """The files that it was made of."""
        return Ingredients(
            sdist=self.sdist,
            toolkit=self.toolkit,
            toolkit_release=self.toolkit_release,
            environment=self.build_environment,
            sysroot=self.sysroot,
        )


class Wheel(Record, frozen=True, kw_only=True):
    """A finished wheel."""

    path: Path
    record: WheelRecord
