"""The package index: wheels and sdists that the pages of the user's own index list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from build_matrix.catalog import sources
from build_matrix.downloads.install import install_wheels
from build_matrix.downloads.origins.layout import move_parts, scratch_beside
from build_matrix.downloads.origins.origin import Origin, ToolkitChoice
from build_matrix.errors import FileMissingError, IndexUnreachableError
from build_matrix.locks import read_lock, select_platform
from build_matrix.model import Component, CudaVersion

if TYPE_CHECKING:
    from packageurl import PackageURL

    from build_matrix.downloads.index.locations import Locations


class PackageIndex(Origin):
    """The indexes and find-links folders that uv or pip is configured to use."""

    name = "index"
    title = "the package index"
    mirror_setting = "configure your mirror (pip's index-url, or UV_DEFAULT_INDEX)"
    listed = True
    missing_error = FileMissingError
    unreachable_error = IndexUnreachableError

    def choices(self, cuda: str, platform: str) -> Iterator[ToolkitChoice]:
        """The locked wheels, for the families whose whole compiler the index has."""
        if CudaVersion.parse(cuda).major in sources().index_families:
            lock = read_lock(f"cuda-{cuda}")
            yield ToolkitChoice(select_platform(lock, platform), lock.release)

    def locate(self, files: Sequence[Component], index: Locations) -> list[list[str]]:
        """The one URL that the pages list for each file, all pages read first, several at a time."""
        index.read([file.project for file in files])
        return [[index.find(file)] for file in files]

    def unpack(self, paths: Sequence[Path], toolkit: Path, cache: Path) -> None:
        """Install the wheels, and take the toolkit's parts out of the ``nvidia`` package (``nvidia/cu13/bin``)."""
        with scratch_beside(toolkit) as scratch:
            install_wheels(paths, cache, target=scratch)
            for package in sorted((scratch / "nvidia").iterdir()):
                move_parts(package, toolkit)

    def purl(self, file: Component) -> PackageURL:
        """A ``pypi`` package."""
        from packageurl import PackageURL

        return PackageURL("pypi", None, file.project, file.version)

    def mirror_variables(self, folder: Path) -> Mapping[str, str]:
        """The folder as pip's find-links, and no index."""
        return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
