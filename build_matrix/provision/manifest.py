"""NVIDIA's manifests of redistributable archives: which archives make a toolkit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from build_matrix.catalog import platforms, project_of, sources
from build_matrix.errors import DownloadError
from build_matrix.model import Component

NEEDED = ("nvidia-cuda-nvcc", "nvidia-cuda-runtime", "nvidia-cublas", "nvidia-cuda-cccl")


def is_manifest(file: Component) -> bool:
    """Whether this file is a manifest, which stands for the archives that it names."""
    return file.origin == "redist" and file.filename.startswith("redistrib_")


def read_manifest(path: Path, family: int, platform: str) -> tuple[Component, ...]:
    """The archives that make a toolkit of ``family`` for ``platform``, named as the package index names them.

    A manifest maps each component to its ``version`` and, for each platform, to ``relative_path``, ``sha256`` and
    ``size`` (bytes, as a text); keys such as ``release_date`` hold texts.
    Raises DownloadError when one that is needed is missing.
    """
    entries: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    found = []
    for name, project in sources().redist.projects.items():
        entry = entries.get(name)
        archive = entry.get(platforms()[platform].redist) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(archive, dict):
            continue
        relative = str(archive["relative_path"])
        found.append(
            Component(
                project=project_of(project, family),
                version=str(entry["version"]),
                filename=relative.rpartition("/")[2],
                sha256=str(archive["sha256"]),
                size=int(archive["size"]),
                origin="redist",
                path=relative,
            )
        )
    carried = {file.project for file in found}
    if missing := [name for name in NEEDED if project_of(name, family) not in carried]:
        raise DownloadError(
            f"{path.name} names no {', '.join(missing)} for {platform}.", "Choose another CUDA version with --cuda."
        )
    return tuple(found)
