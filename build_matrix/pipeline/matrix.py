"""``matrix.toml``: the cells of a release, and how big each wheel may be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from build_matrix.catalog import default_platform, llama_releases
from build_matrix.errors import ConfigurationError
from build_matrix.model import Architecture, Cell, CudaVersion, Record, write_label
from build_matrix.resolve import why_not_compiled
from build_matrix.resources import MATRIX, matrix_file

DEFAULT_MAX_MB = 100.0
RELEASE = "release"


class MatrixCell(Record, frozen=True, kw_only=True):
    """One wheel of a ``set``; ``max_mb`` is its budget in 10^6 bytes (0: the matrix's own)."""

    llama: str
    cuda: str
    architectures: tuple[str, ...]
    platform: str = msgspec.field(default_factory=default_platform)
    set: str = RELEASE
    max_mb: float = 0

    @property
    def compiled(self) -> tuple[Architecture, ...]:
        """What it holds, as a wheel's label has it; raises ValueError, and KeyError for an unknown release."""
        return llama_releases()[self.llama].as_compiled(Architecture.parse(text) for text in self.architectures)

    @property
    def name(self) -> str:
        """As the wheel's version has it: ``0.3.16+cu130.sm89``."""
        return f"{self.llama}+{write_label(CudaVersion.parse(self.cuda), self.compiled)}"


class Matrix(Record, frozen=True, kw_only=True):
    """All cells; ``max_mb`` is the budget of a wheel that no cell names."""

    max_mb: float = DEFAULT_MAX_MB
    cell: tuple[MatrixCell, ...] = ()

    def all(self, platform: str) -> tuple[MatrixCell, ...]:
        """The cells of a release that are built on this platform; raises ConfigurationError when there is none."""
        cells = tuple(cell for cell in self.cell if cell.set == RELEASE and cell.platform == platform)
        if not cells:
            raise ConfigurationError(f"{MATRIX} has no cell of the release for {platform}.", "Add one to it.")
        return cells

    def find(self, names: Sequence[str], platform: str) -> tuple[MatrixCell, ...]:
        """The cells with these names, in the order of the matrix; raises ConfigurationError."""
        cells = [cell for cell in self.cell if cell.platform == platform]
        known = [cell.name for cell in cells]
        if unknown := [name for name in names if name not in known]:
            raise ConfigurationError(
                f"{MATRIX} has no cell {unknown[0]!r} for {platform}.", f"It has {', '.join(known) or 'none'}."
            )
        return tuple(cell for cell in cells if cell.name in names)

    def budget(self, cell: Cell) -> int:
        """How many bytes the wheel of ``cell`` may have."""
        for row in self.cell:
            if (row.llama, row.cuda, row.platform) == (cell.llama, cell.cuda, cell.platform) and (
                row.compiled == cell.architectures
            ):
                return int((row.max_mb or self.max_mb) * 1e6)
        return int(self.max_mb * 1e6)


def read_matrix(path: Path | None = None) -> Matrix:
    """The matrix in ``path``, by default the current folder's or this tool's own; empty where there is none.

    Raises ConfigurationError for a file that cannot be understood, and for a cell that no toolkit can compile.
    """
    path = path or matrix_file()
    try:
        matrix = msgspec.toml.decode(path.read_bytes(), type=Matrix)
        names = [(cell.name, cell.platform) for cell in matrix.cell]
    except FileNotFoundError:
        return Matrix()
    except (OSError, msgspec.DecodeError, ValueError, KeyError) as error:
        raise ConfigurationError(
            f"{path} is not valid: {_explain(error)}.", "Fix it: see docs/reference/files.md."
        ) from error
    if twice := [name for name, platform in names if names.count((name, platform)) > 1]:
        raise ConfigurationError(f"{path} has the cell {twice[0]} twice.", "Remove one of them.")
    for cell in matrix.cell:
        if reason := why_not_compiled(cell.cuda, llama_releases()[cell.llama], cell.compiled):
            raise ConfigurationError(f"{path}: the cell {cell.name}: {reason.fact}", reason.remedy)
    return matrix


def _explain(error: Exception) -> str:
    return f"there is no llama-cpp-python {error} in the catalog" if isinstance(error, KeyError) else str(error)
