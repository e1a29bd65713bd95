"""Which files a build downloads, and where each lies in a folder for machines without network.

The folder serves pip and uv as find-links, and holds mirrors of NVIDIA's and Debian's archives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from build_matrix.errors import ConfigurationError, FileMissingError
from build_matrix.locks import FOLDER, read_lock, select_platform, select_wheels
from build_matrix.model import Cell, Component, Ingredients, file_sha256

TOOL = FOLDER / "tool.txt"
REDIST, DEBIAN = "redist", "debian"  # folders of the mirrors

Listing = Callable[
    [str], Sequence[tuple[str, str, str]]
]  # project: filename, URL and sha256 (may be empty) of each file
Sizes = Callable[[str], Mapping[str, int]]  # project: bytes of each file, as far as the index tells

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class LockedRequirement(NamedTuple):
    """One release of ``tool.txt``, with the sha256 of each file that may be installed for it."""

    requirement: Requirement
    hashes: frozenset[str]

    @property
    def version(self) -> str:
        """The one version that is allowed."""
        return next(iter(self.requirement.specifier)).version


def read_tool_lock(path: Path = TOOL) -> list[LockedRequirement]:
    """This tool's own dependencies and those of its development, Nox among them, for every platform and Python.

    Raises ConfigurationError for a file that is not as ``nox -s lock`` writes it.
    """
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        text, hashes = line.partition("--hash")[0].strip(), frozenset(_HASH.findall(line))
        requirement = Requirement(text)
        if not hashes or len(requirement.specifier) != 1:
            raise ConfigurationError(f"{path.name} pins no file of {text}.", "Restore it from git.")
        found.append(LockedRequirement(requirement, hashes))
    return found


def tool_files(locked: Iterable[LockedRequirement], listing: Listing, sizes: Sizes) -> Iterator[Component]:
    """What Nox installs for this Python on this platform, and Nox itself: the best file of each release.

    ``tool.txt`` holds hashes alone, so ``listing`` is asked for the names, and ``sizes`` for their bytes.
    Raises FileMissingError.
    """
    order = {tag: rank for rank, tag in enumerate(sys_tags())}
    for item in locked:
        marker: Marker | None = item.requirement.marker
        if marker and not marker.evaluate():
            continue
        project = canonicalize_name(item.requirement.name)
        ranked = []
        for filename, url, sha256 in listing(project):
            rank = _rank(filename, project, item.version, order)
            if rank is not None and (digest := sha256 or _local_sha256(url)) in item.hashes:
                ranked.append((rank, filename, digest))
        if not ranked:
            raise FileMissingError(
                f"The package index carries no locked file of {project} {item.version} for this Python.",
                "Let your mirror fetch it, or use CPython 3.10 to 3.14 on a platform that it has wheels for.",
            )
        _, filename, digest = min(ranked)
        size = sizes(project).get(filename, 0)
        yield Component(project=project, version=item.version, filename=filename, sha256=digest, size=size)


def build_files(cell: Cell, ingredients: Ingredients) -> Iterator[Component]:
    """What a build of ``cell`` from these ingredients downloads, and the verification of its wheel."""
    yield from (ingredients.sdist, *ingredients.toolkit, *ingredients.environment, *ingredients.sysroot)
    yield from select_wheels(read_lock("runtime"))
    yield from select_wheels(read_lock("inspect"))
    yield from select_platform(read_lock(f"cuda-{cell.cuda}"), cell.platform)


def place(file: Component) -> str:
    """Where a file lies in the folder: those of the index beside each other, the others as in their archive."""
    folders = {"redist": f"{REDIST}/{file.path}", "debian": f"{DEBIAN}/{file.path}"}
    return folders.get(file.origin, file.filename)


def _rank(filename: str, project: str, version: str, order: Mapping[Tag, int]) -> int | None:
    try:
        name, found, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    if name != project or found != Version(version):
        return None
    return min((order[tag] for tag in tags if tag in order), default=None)


def _local_sha256(url: str) -> str:
    """A folder of files tells no hashes."""
    parts = urlsplit(url)
    return file_sha256(Path(url2pathname(parts.path))) if parts.scheme == "file" else ""
