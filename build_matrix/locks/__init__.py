"""What is downloaded, by sha256: reads the locks, and selects the files for one platform and one Python.

``nox -s lock`` writes the ``*.toml`` and ``*.txt`` files here from ``inputs.toml``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import msgspec
from packaging.markers import Marker, default_environment
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from build_matrix.catalog import platforms
from build_matrix.errors import ConfigurationError, NoCompatibleChoiceError
from build_matrix.model import (
    Cell,
    Component,
    Ingredients,
    Lock,
    LockedFile,
    LockedPackage,
    Record,
)

FOLDER = Path(__file__).parent
TOOL = FOLDER / "tool.txt"  # what this tool runs with: a user's sessions
DEV = FOLDER / "dev.txt"  # the same, with Nox and all that a developer's sessions run with


class ReleaseOptions(Record, frozen=True, kw_only=True):
    """The CMake options that a release's patched sources declare: those that are on or off, and the others."""

    version: str
    switches: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.switches, *self.values)


class Options(Record, frozen=True, kw_only=True):
    """``options.toml``, so that a plan knows the options of sources that are not downloaded."""

    release: tuple[ReleaseOptions, ...]


@lru_cache
def read_lock(name: str) -> Lock:
    """The lock ``<name>.toml``; raises ConfigurationError when it is missing or not a lock."""
    path = FOLDER / f"{name}.toml"
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Lock)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(
            f"The lock {path.name} cannot be read: {error}", "Restore it from git, or run `nox -s lock`."
        ) from error


def locked_toolkits() -> tuple[str, ...]:
    """The CUDA minors whose packages are locked, oldest first; the compiler of one need not be available."""
    minors = (path.stem.removeprefix("cuda-") for path in FOLDER.glob("cuda-*.toml"))
    return tuple(sorted(minors, key=Version))


def locked_llama_releases() -> tuple[str, ...]:
    """The llama-cpp-python releases whose sdists are locked, oldest first."""
    return tuple(sorted((p.version for p in read_lock("llama").packages), key=Version))


@lru_cache
def locked_options(version: str) -> ReleaseOptions:
    """The options of this llama-cpp-python release; raises ConfigurationError where the locks do not hold them."""
    path = FOLDER / "options.toml"
    try:
        table = msgspec.toml.decode(path.read_bytes(), type=Options)
        return next(row for row in table.release if row.version == version)
    except (OSError, msgspec.DecodeError, StopIteration) as error:
        raise ConfigurationError(
            f"{path.name} lacks the options of llama-cpp-python {version}.",
            "Restore it from git, or run `nox -s lock`.",
        ) from error


def select_wheels(lock: Lock) -> tuple[Component, ...]:
    """The wheel of each package that this interpreter accepts best; raises NoCompatibleChoiceError."""
    environment = {key: str(value) for key, value in default_environment().items()}
    order = {tag: rank for rank, tag in enumerate(sys_tags())}
    chosen = []
    for package in lock.packages:
        if package.marker and not Marker(package.marker).evaluate(environment):
            continue
        ranked = [(rank, file) for file in package.files if (rank := _rank(file.filename, order)) is not None]
        if not ranked:
            raise NoCompatibleChoiceError(
                f"The lock has no wheel of {package.project} {package.version} for this Python.",
                f"Use CPython 3.10 to 3.14 on {' or '.join(row.title for row in platforms().values())}.",
            )
        chosen.append(_component(package, min(ranked, key=lambda pair: pair[0])[1]))
    return tuple(chosen)


def select_platform(lock: Lock, platform: str) -> tuple[Component, ...]:
    """The files of each package for ``platform``, whatever machine this is; raises NoCompatibleChoiceError."""
    chosen = []
    for package in lock.packages:
        files = _files_for(package, platform)
        if not files:
            raise NoCompatibleChoiceError(
                f"The lock has no file of {package.project} {package.version} for {platform}.",
                "Choose another CUDA version with --cuda.",
            )
        chosen.append(_component(package, files[0]))
    return tuple(chosen)


def wheel_platforms(filename: str) -> frozenset[str]:
    """The platforms of the catalog that this wheel is for; none of them for what is no wheel."""
    try:
        tags = {tag.platform for tag in parse_wheel_filename(filename)[3]}
    except InvalidWheelFilename:
        return frozenset()
    known = platforms().values()
    return frozenset(row.name for row in known if any(tag == "any" or re.fullmatch(row.tags, tag) for tag in tags))


def select_sdist(version: str) -> Component:
    """The sdist of this llama-cpp-python release."""
    package = next(p for p in read_lock("llama").packages if p.version == version)
    return _component(package, package.files[0])


def select_ingredients(cell: Cell) -> Ingredients:
    """Every locked file of ``cell`` but the toolkit's; raises ConfigurationError, NoCompatibleChoiceError."""
    return Ingredients(
        sdist=select_sdist(cell.llama),
        toolkit=(),
        toolkit_release="",
        environment=select_wheels(read_lock("build")),
        sysroot=select_wheels(read_lock("sysroot")),
    )


def holds_toolkit(cuda: str, platform: str) -> bool:
    """Whether the locks have every package of this CUDA minor for ``platform``."""
    packages = read_lock(f"cuda-{cuda}").packages
    return platform in platforms() and all(_files_for(package, platform) for package in packages)


def _files_for(package: LockedPackage, platform: str) -> list[LockedFile]:
    return [file for file in package.files if platform in wheel_platforms(file.filename)]


def _component(package: LockedPackage, file: LockedFile) -> Component:
    return Component(
        project=package.project,
        version=package.version,
        filename=file.filename,
        sha256=file.sha256,
        size=file.size,
    )


def _rank(filename: str, order: dict[Tag, int]) -> int | None:
    ranks = [order[tag] for tag in parse_wheel_filename(filename)[3] if tag in order]
    return min(ranks, default=None)
