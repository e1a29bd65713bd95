"""Facts on installed packages: back ends, who provides which library, where libraries are, builds by others."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import msgspec

from build_matrix.model import Record

FILE = Path(__file__).with_name("installations.toml")


class Backend(Record, frozen=True, kw_only=True):
    """A back end of ggml, and how a library shows that it holds it; ``gpu``: layers can be offloaded to it."""

    name: str
    gpu: bool
    file: str
    needs: str = ""
    marker: str = ""


class Provider(Record, frozen=True, kw_only=True):
    """Who provides a library: ``projects`` of the package index by CUDA family, else what ``remedy`` says."""

    soname: str
    title: str
    projects: dict[int, str] = msgspec.field(default_factory=dict)
    remedy: str = ""

    def projects_for(self, family: int) -> tuple[str, ...]:
        """The project for a build of CUDA ``family``; every project that has the library where that is not known."""
        return (self.projects[family],) if family in self.projects else tuple(self.projects.values())


class Places(Record, frozen=True, kw_only=True):
    """Folders, as glob patterns, that have libraries but that the loader does not search."""

    environment: tuple[str, ...]
    prefix: tuple[str, ...]
    variables: tuple[str, ...]
    system: tuple[str, ...]


class Fork(Record, frozen=True, kw_only=True):
    """A build by others under the same import name, and what recognises it.

    ``ahead``: its version numbers run ahead of upstream's.
    """

    name: str
    note: str
    source: str
    homepage: str = ""
    distribution: str = ""
    label: str = ""
    files: tuple[str, ...] = ()
    ahead: bool = False


class _Installations(Record, frozen=True, kw_only=True):
    backend: tuple[Backend, ...]
    library: tuple[Provider, ...]
    places: Places
    modules: dict[str, str]
    fork: tuple[Fork, ...]


@lru_cache
def _installations() -> _Installations:
    return msgspec.toml.decode(FILE.read_bytes(), type=_Installations)


def backends() -> tuple[Backend, ...]:
    """Every back end, in the order in which a library is compared with them."""
    return _installations().backend


def is_gpu(backend: str) -> bool:
    """Whether layers can be offloaded to the back end of this name; False for one that the table does not hold."""
    return any(row.gpu for row in backends() if row.name == backend)


def provider_of(soname: str) -> Provider | None:
    """Who provides the library of this SONAME; None where the table does not know."""
    return next((row for row in _installations().library if re.match(row.soname, soname)), None)


def places() -> Places:
    """Folders that have libraries but that the loader does not search."""
    return _installations().places


def project_of_module(module: str) -> str:
    """The project of the package index that provides a top-level module of Python."""
    return _installations().modules.get(module, module)


def forks() -> tuple[Fork, ...]:
    """Every build by others, in the order in which an installation is compared with them."""
    return _installations().fork
