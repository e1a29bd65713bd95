"""Which files a build downloads on a machine, for another one that has no network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from build_matrix.catalog import platforms
from build_matrix.errors import ConfigurationError, FileMissingError
from build_matrix.locks import DEV, read_lock, select_platform, wheel_platforms
from build_matrix.model import Cell, Component, Ingredients, Lock, file_sha256

PATCHES = 40  # patch releases of a minor version of Python that markers may tell apart; 3.8 came to 20

Listing = Callable[
    [str], Sequence[tuple[str, str, str]]
]  # project: filename, URL and sha256 (may be empty) of each file
Sizes = Callable[[str], Mapping[str, int]]  # project: bytes of each file, as far as the index tells

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class LockedRequirement(NamedTuple):
    """One release of ``dev.txt``, with the sha256 of each file that may be installed for it."""

    requirement: Requirement
    hashes: frozenset[str]

    @property
    def version(self) -> str:
        """The one version that is allowed."""
        return next(iter(self.requirement.specifier)).version


def read_tool_lock(path: Path = DEV) -> list[LockedRequirement]:
    """This tool's own dependencies and those of its development, Nox among them, for every platform and Python.

    Raises ConfigurationError for a file that is not as ``nox -s lock`` writes it.
    """
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    requirements = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        text, hashes = line.partition("--hash")[0].strip(), frozenset(_HASH.findall(line))
        requirement = Requirement(text)
        if not hashes or len(requirement.specifier) != 1:
            raise ConfigurationError(f"{path.name} pins no file of {text}.", "Restore it from git.")
        requirements.append(LockedRequirement(requirement, hashes))
    return requirements


class Target(NamedTuple):
    """What a machine without network runs: a minor version of CPython (``3.12``), and the platform."""

    python: str
    platform: str

    def needs(self, marker: Marker | None) -> bool:
        """Whether a dependency with this marker is needed by any patch release of its Python."""
        return marker is None or any(marker.evaluate(environment) for environment in self._environments())

    def accepts(self, filename: str) -> bool:
        """Whether its Python installs this wheel, on a system with a glibc that is new enough for it."""
        if self.platform not in wheel_platforms(filename):
            return False
        tags = {(tag.interpreter, tag.abi) for tag in parse_wheel_filename(filename)[3]}
        return not tags.isdisjoint(_accepted(self.python))

    def _environments(self) -> Iterator[dict[str, str]]:
        markers = platforms()[self.platform].markers
        for patch in range(PATCHES):
            full = f"{self.python}.{patch}"
            yield markers | {"python_version": self.python, "python_full_version": full, "implementation_version": full}


def tool_files(
    locked: Iterable[LockedRequirement], target: Target, listing: Listing, sizes: Sizes
) -> Iterator[Component]:
    """What Nox installs on the target, and Nox itself: each locked file that its Python accepts.

    ``dev.txt`` holds hashes alone, so ``listing`` is asked for the names, and ``sizes`` for their bytes.
    Raises FileMissingError.
    """
    for item in locked:
        if not target.needs(item.requirement.marker):
            continue
        project = canonicalize_name(item.requirement.name)
        matches = [
            (filename, digest)
            for filename, url, sha256 in listing(project)
            if _is_of(filename, project, item.version) and target.accepts(filename)
            if (digest := sha256 or _local_sha256(url)) in item.hashes
        ]
        if not matches:
            raise _missing(project, item.version, target)
        for filename, digest in dict(matches).items():
            size = sizes(project).get(filename, 0)
            yield Component(project=project, version=item.version, filename=filename, sha256=digest, size=size)


def build_files(cell: Cell, ingredients: Ingredients, target: Target) -> Iterator[Component]:
    """What a build of ``cell`` from these ingredients downloads on the target, and the verification of its wheel."""
    yield from (ingredients.sdist, *ingredients.toolkit)
    for name in ("build", "sysroot", "runtime", "inspect"):
        yield from _lock_files(read_lock(name), target)
    yield from select_platform(read_lock(f"cuda-{cell.cuda}"), cell.platform)


def _lock_files(lock: Lock, target: Target) -> Iterator[Component]:
    for package in lock.packages:
        if not target.needs(Marker(package.marker) if package.marker else None):
            continue
        accepted = [file for file in package.files if target.accepts(file.filename)]
        if not accepted:
            raise _missing(package.project, package.version, target)
        for file in accepted:
            yield Component(
                project=package.project,
                version=package.version,
                filename=file.filename,
                sha256=file.sha256,
                size=file.size,
            )


def _missing(project: str, version: str, target: Target) -> FileMissingError:
    return FileMissingError(
        f"There is no locked file of {project} {version} for Python {target.python}.",
        "Add it to your mirror, or name another Python (3.10 to 3.14) with --python.",
    )


@lru_cache
def _accepted(python: str) -> frozenset[tuple[str, str]]:
    """Interpreter and ABI of every wheel that this CPython installs."""
    version = tuple(map(int, python.split(".")))
    interpreter = "cp" + python.replace(".", "")
    tags = (
        *cpython_tags(version, [interpreter], ["any"]),
        *compatible_tags(version, interpreter, ["any"]),
    )
    return frozenset((tag.interpreter, tag.abi) for tag in tags)


def _is_of(filename: str, project: str, version: str) -> bool:
    try:
        name, parsed, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return False
    return name == project and parsed == Version(version)


def _local_sha256(url: str) -> str:
    """A folder of files tells no hashes."""
    parts = urlsplit(url)
    return file_sha256(Path(url2pathname(parts.path))) if parts.scheme == "file" else ""
