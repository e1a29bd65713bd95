"""``matrix.toml``: the cells of a release, and how big each wheel may be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from build_matrix.errors import ConfigurationError
from build_matrix.model import Architecture, Cell, Record

MATRIX = Path("matrix.toml")
DEFAULT_MAX_MB = 100.0


class MatrixCell(Record, frozen=True, kw_only=True):
    """One wheel of a release; ``max_mb`` is its budget in 10^6 bytes (0: the matrix's own)."""

    llama: str
    cuda: str
    architectures: tuple[str, ...]
    max_mb: float = 0

    @property
    def name(self) -> str:
        """As the wheel's version has it: ``0.3.16+cu130.sm89``."""
        labels = (Architecture.parse(text).label for text in self.architectures)
        return f"{self.llama}+cu{self.cuda.replace('.', '')}.{'.'.join(labels)}"


class Matrix(Record, frozen=True, kw_only=True):
    """All cells; ``max_mb`` is the budget of a wheel that no cell names."""

    max_mb: float = DEFAULT_MAX_MB
    cell: tuple[MatrixCell, ...] = ()

    def find(self, names: Sequence[str]) -> tuple[MatrixCell, ...]:
        """The cells with these names, in the order of the matrix; raises ConfigurationError."""
        known = [cell.name for cell in self.cell]
        if unknown := [name for name in names if name not in known]:
            raise ConfigurationError(f"{MATRIX} has no cell {unknown[0]!r}.", f"It has {', '.join(known) or 'none'}.")
        return tuple(cell for cell in self.cell if cell.name in names)

    def budget(self, cell: Cell) -> int:
        """How many bytes the wheel of ``cell`` may have."""
        wanted = {architecture.cmake for architecture in cell.architectures}
        for row in self.cell:
            same = {Architecture.parse(text).cmake for text in row.architectures} == wanted
            if same and (row.llama, row.cuda) == (cell.llama, cell.cuda):
                return int((row.max_mb or self.max_mb) * 1e6)
        return int(self.max_mb * 1e6)


def read_matrix(path: Path = MATRIX) -> Matrix:
    """The matrix in ``path``; raises ConfigurationError for a file that cannot be understood."""
    try:
        matrix = msgspec.toml.decode(path.read_bytes(), type=Matrix)
        for row in matrix.cell:
            for text in row.architectures:
                Architecture.parse(text)
    except FileNotFoundError:
        return Matrix()
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise ConfigurationError(
            f"{path} cannot be understood: {error}.", "Mend it: see docs/reference/files.md."
        ) from error
    return matrix
