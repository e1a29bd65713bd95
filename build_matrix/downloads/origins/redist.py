"""NVIDIA's redistributable archives: a manifest names those that make a toolkit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from build_matrix.catalog import RedistManifest, platforms, project_of, sources
from build_matrix.downloads.origins.archive import Archive
from build_matrix.downloads.origins.layout import move_parts, scratch_beside
from build_matrix.downloads.origins.origin import ToolkitChoice
from build_matrix.errors import DownloadError
from build_matrix.model import Cell, Component

if TYPE_CHECKING:
    from packageurl import PackageURL

    from build_matrix.downloads.client import Downloads

NEEDED = ("nvidia-cuda-nvcc", "nvidia-cuda-runtime", "nvidia-cublas", "nvidia-cuda-cccl")
MANIFEST = "redistrib_"  # how the name of a manifest begins


class Redist(Archive):
    """https://developer.download.nvidia.com/compute/cuda/redist, or a mirror of it."""

    name = "redist"
    title = "NVIDIA's server of redistributable archives"
    variable = "BUILD_MATRIX_REDIST"
    mirror_setting = f"set {variable} to a mirror of it"

    def default_addresses(self) -> tuple[str, ...]:
        """NVIDIA's own server."""
        return (sources().redist.address,)

    def choices(self, cuda: str, platform: str) -> Iterator[ToolkitChoice]:
        """The pinned manifest, which stands for the archives that it names."""
        for row in sources().redist.manifest:
            if row.cuda == cuda and platforms()[platform].redist:
                yield ToolkitChoice((_manifest(row),), row.release)

    def expand(self, file: Component, cell: Cell, downloads: Downloads) -> tuple[Component, ...]:
        """In the place of a manifest, the archives that it names."""
        if not file.filename.startswith(MANIFEST):
            return (file,)
        (path,) = downloads.fetch([file], f"manifest of CUDA {cell.cuda}")
        return read_manifest(path, cell.cuda_version.major, cell.platform)

    def unpack(self, paths: Sequence[Path], toolkit: Path, cache: Path) -> None:  # noqa: ARG002 - nothing is installed
        """Take the toolkit's parts out of each archive's top folder (``cuda_nvcc-linux-x86_64-12.9.86-archive``)."""
        from build_matrix.unpacking import unpack_archive

        for path in paths:
            with scratch_beside(toolkit) as scratch:
                unpack_archive(path, scratch)
                for top in sorted(scratch.iterdir()):
                    move_parts(top, toolkit)

    def purl(self, file: Component) -> PackageURL:
        """There is no type for such archives, so they are ``generic``."""
        from packageurl import PackageURL

        return PackageURL("generic", "nvidia", file.project, file.version, {"file_name": file.filename})


def _manifest(row: RedistManifest) -> Component:
    name = f"{MANIFEST}{row.release}.json"
    return Component(
        project="redistrib", version=row.release, filename=name, sha256=row.sha256, origin=Redist.name, path=name
    )


def read_manifest(path: Path, family: int, platform: str) -> tuple[Component, ...]:
    """The archives that make a toolkit of ``family`` for ``platform``, named as the package index names them.

    A manifest maps each component to its ``version`` and, for each platform, to ``relative_path``, ``sha256`` and
    ``size`` (bytes, as a text); keys such as ``release_date`` hold texts.
    Raises DownloadError when one that is needed is missing.
    """
    entries: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    files = [
        _archive(project_of(project, family), entry["version"], archive)
        for name, project in sources().redist.projects.items()
        if isinstance(entry := entries.get(name), dict)
        and isinstance(archive := entry.get(platforms()[platform].redist), dict)
    ]
    carried = {file.project for file in files}
    if missing := [name for name in NEEDED if project_of(name, family) not in carried]:
        raise DownloadError(
            f"{path.name} names no {', '.join(missing)} for {platform}.", "Choose another CUDA version with --cuda."
        )
    return tuple(files)


def _archive(project: str, version: object, entry: dict[str, Any]) -> Component:
    relative = str(entry["relative_path"])
    return Component(
        project=project,
        version=str(version),
        filename=relative.rpartition("/")[2],
        sha256=str(entry["sha256"]),
        size=int(entry["size"]),
        origin=Redist.name,
        path=relative,
    )
