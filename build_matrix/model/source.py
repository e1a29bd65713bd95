"""What is compiled: the result of ``source``."""

from __future__ import annotations

from pathlib import Path

from build_matrix.model.base import Record
from build_matrix.model.locks import Component


class AppliedPatch(Record, frozen=True, kw_only=True):
    """A patch that was applied to the source."""

    name: str
    sha256: str


class SourceTree(Record, frozen=True, kw_only=True):
    """Patched sources in the store; ``options`` are the CMake options they declare."""

    root: Path
    llama: str
    sdist: Component
    patches: tuple[AppliedPatch, ...]
    options: tuple[str, ...]
    digest: str
