"""What is downloaded, by sha256: reading the locks, and choosing the files that fit one platform and one Python.

The ``*.toml`` and ``*.txt`` files here are written by ``nox -s lock``; ``inputs.toml`` says what they are made of.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec
from packaging.markers import Marker, default_environment
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from build_matrix.catalog import DebianCompiler, RedistManifest, sources
from build_matrix.errors import ConfigurationError, NoCompatibleChoiceError
from build_matrix.model import Cell, Component, Ingredients, Lock, LockedFile, LockedPackage, Platform, Record

FOLDER = Path(__file__).parent
TOOL = FOLDER / "tool.txt"  # what this tool runs with: a user's sessions
DEV = FOLDER / "dev.txt"  # the same, with Nox and all that a developer's sessions run with

PLATFORM_MARKERS = {"linux-x86_64": ("linux", "x86_64"), "windows-x86_64": ("win32", "AMD64")}


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
    """The CUDA minors whose packages are locked, oldest first; see ``available_toolkits`` for those with a compiler."""
    found = (path.stem.removeprefix("cuda-") for path in FOLDER.glob("cuda-*.toml"))
    return tuple(sorted(found, key=Version))


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
            f"{path.name} does not hold the options of llama-cpp-python {version}.",
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
                f"The lock holds no wheel of {package.project} {package.version} for this Python.",
                "Use CPython 3.10 to 3.14 on Linux x86-64 with glibc, or Windows x86-64.",
            )
        chosen.append(_component(package, min(ranked, key=lambda pair: pair[0])[1]))
    return tuple(chosen)


def select_platform(lock: Lock, platform: Platform) -> tuple[Component, ...]:
    """The files of each package for ``platform``, whatever machine this is."""
    chosen = []
    for package in lock.packages:
        files = [file for file in package.files if wheel_platform(file.filename) in {platform, "any"}]
        if not files:
            raise NoCompatibleChoiceError(
                f"The lock holds no file of {package.project} {package.version} for {platform}.",
                "Choose another CUDA version with --cuda.",
            )
        chosen.append(_component(package, files[0]))
    return tuple(chosen)


def wheel_platform(filename: str) -> Platform | str:
    """``linux-x86_64``, ``windows-x86_64``, ``any``, or an empty text for a platform that is not supported."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return ""
    platforms = {tag.platform for tag in tags}
    if "any" in platforms:
        return "any"
    if any(p.endswith("_x86_64") and p.startswith(("manylinux", "linux")) for p in platforms):
        return "linux-x86_64"
    return "windows-x86_64" if "win_amd64" in platforms else ""


def select_sdist(version: str) -> Component:
    """The sdist of this llama-cpp-python release."""
    package = next(p for p in read_lock("llama").packages if p.version == version)
    return _component(package, package.files[0])


def available_toolkits(platform: Platform) -> tuple[str, ...]:
    """The CUDA minors that some source has for ``platform``, oldest first."""
    return tuple(minor for minor in locked_toolkits() if _choices(minor, platform))


def ingredient_choices(cell: Cell) -> tuple[Ingredients, ...]:
    """Every locked file that ``cell`` is made of: one choice for each source of its toolkit, the preferred one first.

    Raises ConfigurationError, NoCompatibleChoiceError.
    """
    rest = select_ingredients(cell)
    return tuple(
        msgspec.structs.replace(rest, toolkit=files, toolkit_release=release)
        for files, release in _choices(cell.cuda, cell.platform)
    )


def select_ingredients(cell: Cell) -> Ingredients:
    """Every locked file of ``cell`` but the toolkit's; raises ConfigurationError, NoCompatibleChoiceError."""
    return Ingredients(
        sdist=select_sdist(cell.llama),
        toolkit=(),
        toolkit_release="",
        environment=select_wheels(read_lock("build")),
        sysroot=select_wheels(read_lock("sysroot")),
    )


def _choices(minor: str, platform: Platform) -> list[tuple[tuple[Component, ...], str]]:
    """A toolkit's files and its own version, for each source that has it."""
    lock = read_lock(f"cuda-{minor}")
    found: list[tuple[tuple[Component, ...], str]] = []
    if int(minor.partition(".")[0]) in sources().index_families:
        found.append((select_platform(lock, platform), lock.release))
    found += [((_manifest(row),), row.release) for row in sources().redist.manifest if row.cuda == minor]
    if platform == "linux-x86_64":
        compilers = [_debian(row) for row in sources().debian.compiler if row.cuda == minor]
        found += [((*select_platform(lock, platform), compiler), lock.release) for compiler in compilers]
    return found


def _manifest(row: RedistManifest) -> Component:
    name = f"redistrib_{row.release}.json"
    return Component(
        project="redistrib", version=row.release, filename=name, sha256=row.sha256, origin="redist", path=name
    )


def _debian(row: DebianCompiler) -> Component:
    return Component(
        project=sources().debian.project,
        version=row.version,
        filename=row.path.rpartition("/")[2],
        sha256=row.sha256,
        size=row.size,
        origin="debian",
        path=row.path,
    )


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
