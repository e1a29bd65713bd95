"""What differs between platforms: one module a platform, all behind one protocol.

A module is called as its platform, with an underscore for the hyphen, and holds ``PLATFORM``. What others call the
platform is data: its row in ``catalog/platforms.toml``.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, cast

from build_matrix.catalog import OldestSystem, platforms
from build_matrix.errors import NoCompatibleChoiceError
from build_matrix.model import SystemNeeds

__all__ = ["Platform", "find_platform", "platform_name", "supported_platforms"]


class Platform(Protocol):
    """What the stages ask of a platform."""

    @property
    def name(self) -> str:
        """``linux-x86_64``: its row in the catalog."""

    @property
    def title(self) -> str:
        """How a sentence names it."""

    # --- files of an environment, a toolkit and a wheel

    @property
    def library_suffix(self) -> str:
        """How the name of a shared library in a wheel ends: ``.so``."""

    def environment_python(self, root: Path) -> Path:
        """The interpreter of the virtual environment in ``root``; the environment's programs lie beside it."""

    def program(self, name: str) -> str:
        """The file name of a program, such as ``cuobjdump``."""

    def link_library(self, name: str) -> str:
        """The file that a linker looks for when it is given a library's name, such as ``cudart``."""

    def unversioned(self, filename: str) -> str:
        """The name by which a linker looks for this library, if it differs from ``filename``; empty for other files."""

    def driver_variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What of these environment variables leads a program to the driver's library, and to nothing else."""

    # --- compiling

    @property
    def compiler_target(self) -> str:
        """A regular expression for the targets (``gcc -dumpmachine``) of the compilers that compile for it."""

    @property
    def compiler_macros(self) -> str:
        """A condition of the C preprocessor that holds where a compiler, as it is called, compiles for it."""

    @property
    def options(self) -> Mapping[str, str]:
        """The CMake options that depend on its kind of CPU."""

    @property
    def oldest_system(self) -> OldestSystem:
        """The oldest system that its wheels run on, against which they are compiled."""

    def run_path(self, folder: str) -> str:
        """Where the loader looks for libraries in ``folder``, which is relative to the library that needs them."""

    def why_no_sandbox(self, python: Path) -> str:
        """Why a compilation cannot run alone here, without network and at fixed places; empty when it can."""

    # --- what a wheel may promise

    @property
    def system_libraries(self) -> frozenset[str]:
        """The libraries that a wheel may expect on every system, by the names that other libraries need them by."""

    def read_system_needs(self, wheel: Path, provided: Iterable[str]) -> SystemNeeds:
        """On which systems the wheel runs, when declared packages bring the libraries in ``provided``.

        Raises VerificationError for a wheel that cannot be judged.
        """

    def promises_too_much(self, tag: str, met: str) -> bool:
        """Whether a wheel with platform tag ``tag`` is installed where one that needs the tag ``met`` cannot run."""


def platform_name() -> str:
    """The system and the processor that Python runs on, such as ``linux-x86_64``; it need not be supported."""
    system = "windows" if sys.platform == "win32" else sys.platform
    processor = platform.machine().lower()
    return f"{system}-{'x86_64' if processor == 'amd64' else processor}"


def find_platform(name: str) -> Platform:
    """The platform of this name; raises NoCompatibleChoiceError for one that is not supported."""
    if loaded := _load(name):
        return loaded
    titles = " or ".join(supported.title for supported in supported_platforms().values())
    raise NoCompatibleChoiceError(f"The platform {name or '(unknown)'} is not supported.", f"Use {titles}.")


def supported_platforms() -> dict[str, Platform]:
    """Every platform that wheels are built for, by its name, in the order of the catalog."""
    return {name: loaded for name in platforms() if (loaded := _load(name))}


def _load(name: str) -> Platform | None:
    """What the module of this platform holds; None where the catalog has no such row, or there is no module."""
    if name not in platforms():
        return None
    module = f"{__name__}.{name.replace('-', '_')}"
    try:
        return cast("Platform", importlib.import_module(module).PLATFORM)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None
