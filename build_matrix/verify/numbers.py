"""Are these the right numbers? Logits against logits, within a bound for each kind of weights.

The measure is the normalised mean square error, as llama.cpp's own tests of its back ends have it: the squared
differences over the squared values. docs/explanation/what-verify-shows.md says where the bounds come from.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from build_matrix.model import Record
from build_matrix.verify.model_file import Kind

if TYPE_CHECKING:
    import numpy as np

# Twice what an H200 differs from its host, or nearly. With quantised weights both sides round the other factor to 8
# bits too, each in its own blocks.
BOUNDS: dict[Kind, float] = {"F32": 2e-6, "F16": 2e-5, "Q8_0": 1e-3, "Q4_0": 1e-3, "Q4_K": 4e-3}
# Of tokens that are computed one by one from the start: their products are not rounded to reduced single precision.
SINGLE: dict[Kind, float] = {"F32": 1e-7, "F16": 3e-6}
PRODUCT = 1e-5  # of a product of matrices that is exact but for the scales, which are halves
# A best token leads clearly by so many times the error that the bound allows: twice the largest lead that was lost on
# an H200 to rounding alone (Q4_K, whose worst token differs seven times as much as the average).
CLEAR = 10.0


class Agreement(Record, frozen=True, kw_only=True):
    """How two tables of logits agree: ``error`` is the NMSE, ``same`` of the ``clear`` best tokens are the same."""

    error: float
    bound: float
    clear: int
    same: int

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound, and no clear best token is another one."""
        return self.error <= self.bound and self.same == self.clear

    def __str__(self) -> str:
        return f"{self.error:.1e} of {self.bound:.0e}, {self.same}/{self.clear} best tokens"


def read_logits(path: Path, vocabulary: int) -> np.ndarray | None:
    """The logits that a child wrote; shape (tokens, vocabulary). None when it wrote nothing, or no whole table."""
    import numpy as np

    size = path.stat().st_size if path.is_file() else 0
    if not size or size % (vocabulary * struct.calcsize("f")):
        return None
    return np.fromfile(path, dtype=np.float32).reshape(-1, vocabulary)


def compare(computed: np.ndarray | None, expected: np.ndarray | None, bound: float) -> Agreement:
    """How two tables agree; what is missing, of another shape or not finite agrees with nothing."""
    import numpy as np

    if computed is None or expected is None or computed.shape != expected.shape or not np.isfinite(computed).all():
        return Agreement(error=float("inf"), bound=bound, clear=0, same=0)
    exact, other = expected.astype(np.float64), computed.astype(np.float64)
    error = float(((other - exact) ** 2).sum() / (exact**2).sum())
    best = np.sort(exact, axis=1)
    tolerance = CLEAR * np.sqrt(bound * (exact**2).mean(axis=1))
    clear = best[:, -1] - best[:, -2] > tolerance
    same = other.argmax(axis=1) == exact.argmax(axis=1)
    return Agreement(error=error, bound=bound, clear=int(clear.sum()), same=int((clear & same).sum()))
