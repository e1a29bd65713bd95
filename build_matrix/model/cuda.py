"""CUDA architectures as CMake, nvcc and a version label write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from build_matrix.model.base import Record

_ARCHITECTURE = re.compile(r"(?P<number>[0-9]{2,3})(?P<feature>[af]?)(?:-(?P<kind>real|virtual))?")


class Architecture(Record, frozen=True, kw_only=True):
    """One entry of CMake's CUDA_ARCHITECTURES: ``89-real`` is machine code, ``90-virtual`` is PTX."""

    number: int
    feature: str = ""
    kind: Literal["real", "virtual"] = "real"

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Read ``89``, ``89-real``, ``120a-real`` or ``90-virtual``; ValueError otherwise."""
        match = _ARCHITECTURE.fullmatch(text.strip())
        if not match:
            raise ValueError(text)
        kind: Any = match["kind"] or "real"
        return cls(number=int(match["number"]), feature=match["feature"], kind=kind)

    @property
    def cmake(self) -> str:
        """As CMake writes it."""
        return f"{self.number}{self.feature}-{self.kind}"

    @property
    def code(self) -> str:
        """As nvcc writes it: ``sm_89`` for machine code, ``compute_90`` for PTX."""
        return f"{'sm' if self.kind == 'real' else 'compute'}_{self.number}{self.feature}"

    @property
    def label(self) -> str:
        """As a local version label writes it: ``sm89`` or ``ptx90``."""
        return f"{'sm' if self.kind == 'real' else 'ptx'}{self.number}{self.feature}"


def label_of(cuda: str, architectures: Iterable[Architecture]) -> str:
    """What every local version label begins with: ``cu130.sm89``."""
    return ".".join(["cu" + cuda.replace(".", ""), *(one.label for one in architectures)])
