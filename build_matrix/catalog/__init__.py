"""Facts as data, each with its source: what toolkits, drivers, llama-cpp-python releases and platforms support."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import msgspec
from packaging.version import Version

from build_matrix.model import DriverBranch, LlamaRelease, Record, Toolkit

FOLDER = Path(__file__).parent


class _Toolkits(Record, frozen=True, kw_only=True):
    toolkit: tuple[Toolkit, ...]


class FatbinCompression(Record, frozen=True, kw_only=True):
    """The oldest drivers that read compressed machine code."""

    min_driver_linux: str
    min_driver_windows: str


class _Drivers(Record, frozen=True, kw_only=True):
    branch: tuple[DriverBranch, ...]
    fatbin_compression: FatbinCompression


class _Releases(Record, frozen=True, kw_only=True):
    default_architecture: str
    release: tuple[LlamaRelease, ...]


class NvidiaLibrary(Record, frozen=True, kw_only=True):
    """The project that carries a CUDA library, and its folder, seen from the wheel's own libraries."""

    project: str
    folder: str


class NvidiaLibraries(Record, frozen=True, kw_only=True):
    """Where a CUDA family's libraries come from, by SONAME."""

    family: int
    libraries: dict[str, NvidiaLibrary]

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder that holds one of them."""
        return tuple(dict.fromkeys(library.folder for library in self.libraries.values()))


class TargetPlatform(Record, frozen=True, kw_only=True):
    """What a wheel may ask of a system: a manylinux policy, its glibc, its newest symbol version of each family."""

    name: str
    policy: str
    architecture: str
    glibc: str
    target: str
    symbols: dict[str, str]


class _Platforms(Record, frozen=True, kw_only=True):
    platform: tuple[TargetPlatform, ...]


class Finder(Record, frozen=True, kw_only=True):
    """The package that finds CUDA's libraries at run time."""

    project: str
    specifier: str


class _Libraries(Record, frozen=True, kw_only=True):
    system: dict[str, tuple[str, ...]]
    finder: Finder
    nvidia: tuple[NvidiaLibraries, ...]


class RedistManifest(Record, frozen=True, kw_only=True):
    """A toolkit's manifest among NVIDIA's redistributable archives: it names each archive with its sha256."""

    cuda: str
    release: str
    sha256: str


class Redist(Record, frozen=True, kw_only=True):
    """NVIDIA's redistributable archives; ``projects`` names each component as the package index does."""

    address: str
    projects: dict[str, str]
    manifest: tuple[RedistManifest, ...]


class DebianCompiler(Record, frozen=True, kw_only=True):
    """The package of Debian's archive that holds a toolkit's compiler; ``size`` in bytes."""

    cuda: str
    version: str
    path: str
    sha256: str
    size: int


class Debian(Record, frozen=True, kw_only=True):
    """Debian's archive; ``places`` says where each of the package's files lies in a toolkit of NVIDIA's."""

    project: str
    places: dict[str, str]
    compiler: tuple[DebianCompiler, ...]


class Sources(Record, frozen=True, kw_only=True):
    """Where toolkits come from, beside the package index."""

    index_families: tuple[int, ...]
    redist: Redist
    debian: Debian


@lru_cache
def sources() -> Sources:
    """Where toolkits come from, beside the package index."""
    return msgspec.toml.decode((FOLDER / "sources.toml").read_bytes(), type=Sources)


def project_of(component: str, family: int) -> str:
    """The package index's name of a toolkit's component: those of a family without a whole compiler name the family."""
    return component if family in sources().index_families else f"{component}-cu{family}"


@lru_cache
def toolkits() -> dict[str, Toolkit]:
    """Every toolkit by its CUDA minor, oldest first."""
    table = msgspec.toml.decode((FOLDER / "toolkits.toml").read_bytes(), type=_Toolkits)
    return {row.cuda: row for row in table.toolkit}


@lru_cache
def _releases() -> _Releases:
    return msgspec.toml.decode((FOLDER / "llama.toml").read_bytes(), type=_Releases)


def llama_releases() -> dict[str, LlamaRelease]:
    """Every known llama-cpp-python release by its version, oldest first."""
    return {row.version: row for row in _releases().release}


def default_architecture() -> str:
    """The architecture that is built for where no GPU says otherwise."""
    return _releases().default_architecture


@lru_cache
def _libraries() -> _Libraries:
    return msgspec.toml.decode((FOLDER / "libraries.toml").read_bytes(), type=_Libraries)


def system_libraries(platform: str) -> frozenset[str]:
    """SONAMEs that a wheel may expect on every machine of ``platform``."""
    return frozenset(_libraries().system.get(platform, ()))


def library_finder() -> Finder:
    """The package that a wheel asks where CUDA's libraries are."""
    return _libraries().finder


def nvidia_libraries(family: int) -> NvidiaLibraries:
    """Where the libraries of CUDA ``family`` come from; KeyError for a family without packages."""
    for row in _libraries().nvidia:
        if row.family == family:
            return row
    raise KeyError(family)


@lru_cache
def target_platform(name: str) -> TargetPlatform:
    """What a wheel for platform ``name`` may ask of a system; KeyError for one without a row."""
    table = msgspec.toml.decode((FOLDER / "platforms.toml").read_bytes(), type=_Platforms)
    return {row.name: row for row in table.platform}[name]


@lru_cache
def _drivers() -> _Drivers:
    return msgspec.toml.decode((FOLDER / "drivers.toml").read_bytes(), type=_Drivers)


def cuda_of_driver(version: str) -> str:
    """The CUDA version that a driver of this version speaks, by its branch; empty for one that is too old or odd."""
    number = version.partition(".")[0]
    if not number.isdigit():
        return ""
    known = [row.cuda for row in _drivers().branch if row.branch <= int(number)]
    return known[-1] if known else ""


def branch_for(cuda: str) -> int | None:
    """The first driver branch that speaks ``cuda``, or None where the table does not know."""
    wanted = Version(cuda)
    return next((row.branch for row in _drivers().branch if Version(row.cuda) >= wanted), None)


def fatbin_compression() -> FatbinCompression:
    """The oldest drivers that read compressed machine code."""
    return _drivers().fatbin_compression
