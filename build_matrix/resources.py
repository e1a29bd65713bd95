"""What comes with this tool beside its code: the cells of a release, and the patches.

In a checkout they lie beside the package. A wheel of this tool holds them inside it (pyproject.toml, "force-include").
A current folder with a ``matrix.toml`` has cells of its own, and patches of its own where ``patches/`` lies beside it.
"""

from __future__ import annotations

from pathlib import Path

from build_matrix.errors import ConfigurationError

MATRIX = Path("matrix.toml")
PATCHES = Path("patches")
PACKAGE = Path(__file__).parent
BUNDLED = PACKAGE / "bundled"


def matrix_file() -> Path:
    """The ``matrix.toml`` of the current folder, or the one that comes with this tool."""
    return MATRIX if MATRIX.exists() else _installation() / MATRIX


def patches_folder() -> Path:
    """The patches beside the current folder's ``matrix.toml``, or those that come with this tool.

    Raises ConfigurationError where there are none: without them another package would be built.
    """
    if MATRIX.exists() and PATCHES.is_dir():
        return PATCHES
    folder = _installation() / PATCHES
    if not folder.is_dir():
        raise ConfigurationError(
            f"This installation of build-matrix has no {PATCHES} folder ({folder}).",
            "Install build-matrix again, or run it from a checkout.",
        )
    return folder


def _installation() -> Path:
    return BUNDLED if BUNDLED.is_dir() else PACKAGE.parent
