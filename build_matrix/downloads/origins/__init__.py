"""Where files come from: one module an origin, behind one protocol (``Origin``). Nothing else compares their names.

A new origin is a module here with a class of its own, its rows in the catalog, and a place in ``ORIGINS``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from build_matrix.downloads.origins.debian import Debian
from build_matrix.downloads.origins.installed import InstalledToolkit, read_installed
from build_matrix.downloads.origins.origin import Origin, ToolkitChoice
from build_matrix.downloads.origins.package_index import PackageIndex
from build_matrix.downloads.origins.redist import Redist
from build_matrix.locks import holds_toolkit, locked_toolkits, select_ingredients
from build_matrix.model import Cell, Component, Ingredients

__all__ = [
    "ORIGINS",
    "Origin",
    "ToolkitChoice",
    "available_toolkits",
    "ingredient_choices",
    "origin_of",
    "origins_of",
    "read_installed",
    "unpack_toolkit",
]

# In the order in which they are preferred, and unpacked: Debian's compiler goes over the index's parts of one.
ORIGINS: tuple[Origin, ...] = (PackageIndex(), Redist(), Debian(), InstalledToolkit())


def origin_of(file: Component) -> Origin:
    """Where this file comes from."""
    return next(origin for origin in ORIGINS if origin.name == file.origin)


def origins_of(files: Iterable[Component]) -> tuple[Origin, ...]:
    """Where these files come from, each origin once, the preferred one first."""
    names = {file.origin for file in files}
    return tuple(origin for origin in ORIGINS if origin.name in names)


def available_toolkits(platform: str) -> tuple[str, ...]:
    """The CUDA minors that some origin has a whole toolkit of for ``platform``, oldest first."""
    return tuple(minor for minor in locked_toolkits() if _choices(minor, platform))


def ingredient_choices(cell: Cell) -> tuple[Ingredients, ...]:
    """Every locked file that ``cell`` is made of: one choice for each origin of its toolkit, the preferred one first.

    Raises ConfigurationError, NoCompatibleChoiceError.
    """
    rest = select_ingredients(cell)
    return tuple(
        msgspec.structs.replace(rest, toolkit=choice.files, toolkit_release=choice.release)
        for choice in _choices(cell.cuda, cell.platform)
    )


def unpack_toolkit(files: Sequence[Component], paths: Sequence[Path], toolkit: Path, cache: Path) -> None:
    """Unpack these files, downloaded to ``paths``, into one toolkit; ``cache`` is uv's.

    Raises InstallError, UnsafeArchiveError, DiskFullError.
    """
    toolkit.mkdir(parents=True)
    for origin in origins_of(files):
        selected = [path for file, path in zip(files, paths, strict=True) if file.origin == origin.name]
        origin.unpack(selected, toolkit, cache)


def _choices(cuda: str, platform: str) -> list[ToolkitChoice]:
    if not holds_toolkit(cuda, platform):
        return []
    return [choice for origin in ORIGINS for choice in origin.choices(cuda, platform)]
