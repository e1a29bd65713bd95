"""Facts as data, each with its source: what toolkits, drivers, llama-cpp-python releases and platforms support."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from build_matrix.model import CudaVersion, DriverBranch, DriverVersion, LlamaRelease, Record, Toolkit

FOLDER = Path(__file__).parent


class _Toolkits(Record, frozen=True, kw_only=True):
    toolkit: tuple[Toolkit, ...]


class FatbinCompression(Record, frozen=True, kw_only=True):
    """The oldest drivers that read compressed machine code, by system (``linux``, ``windows``)."""

    min_driver: Mapping[str, str]


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


class PlatformFacts(Record, frozen=True, kw_only=True):
    """What others call a platform, and what every system of it has; ``tags`` is a regular expression.

    ``redist`` and ``debian`` are its names in NVIDIA's and in Debian's archive (empty: nothing is taken from there).
    """

    name: str
    title: str
    tags: str
    markers: dict[str, str]
    redist: str = ""
    debian: str = ""
    libraries: tuple[str, ...] = ()
    options: Mapping[str, str] = {}


class OldestSystem(Record, frozen=True, kw_only=True):
    """The oldest system that a platform's wheels run on: a manylinux policy, its glibc, its newest symbol versions.

    ``symbols`` holds the newest version of each family.
    """

    platform: str
    policy: str
    architecture: str
    glibc: str
    target: str
    loader: str
    symbols: dict[str, str]


class _Platforms(Record, frozen=True, kw_only=True):
    default: str
    platform: tuple[PlatformFacts, ...]
    oldest_system: tuple[OldestSystem, ...]


class Finder(Record, frozen=True, kw_only=True):
    """The package that finds CUDA's libraries at run time."""

    project: str
    specifier: str


class _Libraries(Record, frozen=True, kw_only=True):
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
    """Debian's archive; ``places`` maps each of the package's files to its place in a toolkit of NVIDIA's."""

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


def library_finder() -> Finder:
    """The package with which a wheel finds CUDA's libraries."""
    return _libraries().finder


def nvidia_libraries(family: int) -> NvidiaLibraries:
    """Where the libraries of CUDA ``family`` come from; KeyError for a family without packages."""
    for row in _libraries().nvidia:
        if row.family == family:
            return row
    raise KeyError(family)


@lru_cache
def _platforms() -> _Platforms:
    return msgspec.toml.decode((FOLDER / "platforms.toml").read_bytes(), type=_Platforms)


def platforms() -> dict[str, PlatformFacts]:
    """Every platform that the locks know, by its name; see ``build_matrix.platforms`` for those that are supported."""
    return {row.name: row for row in _platforms().platform}


def default_platform() -> str:
    """The platform of a cell that names none."""
    return _platforms().default


def oldest_system(platform: str) -> OldestSystem:
    """The oldest system that wheels for ``platform`` run on; KeyError for a platform without a row."""
    return {row.platform: row for row in _platforms().oldest_system}[platform]


@lru_cache
def _drivers() -> _Drivers:
    return msgspec.toml.decode((FOLDER / "drivers.toml").read_bytes(), type=_Drivers)


def cuda_of_driver(version: str) -> str:
    """The newest CUDA version that a driver of this version supports, by its branch; empty where unknown."""
    try:
        branch = DriverVersion.parse(version).branch
    except ValueError:
        return ""
    known = [row.cuda for row in _drivers().branch if row.branch <= branch]
    return known[-1] if known else ""


def branch_for(cuda: CudaVersion) -> int | None:
    """The oldest driver branch that supports ``cuda``, or None where the table does not know."""
    return next((row.branch for row in _drivers().branch if row.cuda_version >= cuda), None)


def fatbin_compression() -> FatbinCompression:
    """The oldest drivers that read compressed machine code."""
    return _drivers().fatbin_compression
