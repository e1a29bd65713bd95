"""What compiles: the results of ``provision``."""

from __future__ import annotations

from pathlib import Path

from build_matrix.model.base import Record
from build_matrix.model.locks import Component


class Toolchain(Record, frozen=True, kw_only=True):
    """A complete CUDA toolkit in the store.

    ``same_anywhere``: whether its output was the same in two folders when it was tested here.
    """

    root: Path
    cuda: str
    release: str
    nvcc_version: str
    components: tuple[Component, ...]
    digest: str
    same_anywhere: bool = True

    @property
    def nvcc(self) -> Path:
        """Absolute path of nvcc."""
        return self.root / "bin" / "nvcc"


class BuildEnvironment(Record, frozen=True, kw_only=True):
    """A Python environment with the PEP 517 front end, the back end, CMake and Ninja."""

    root: Path
    python: Path
    components: tuple[Component, ...]
    digest: str

    @property
    def bin(self) -> Path:
        """The folder of its programs."""
        return self.python.parent


class Sysroot(Record, frozen=True, kw_only=True):
    """Headers and link stubs of an old glibc, with what of libstdc++ its systems lack; in the store.

    ``c_includes`` and ``cxx_includes`` are the host compiler's own folders, which come before the sysroot's.
    """

    root: Path
    glibc: str
    c_includes: tuple[str, ...]
    cxx_includes: tuple[str, ...]
    components: tuple[Component, ...]
    digest: str
