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
        """Where its programs lie."""
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

    @property
    def c_flags(self) -> tuple[str, ...]:
        """What makes a C compiler see its own headers and the sysroot's, and no others."""
        return self._headers(self.c_includes)

    @property
    def cxx_flags(self) -> tuple[str, ...]:
        """The same for a C++ compiler."""
        return self._headers(self.cxx_includes)

    @property
    def link_flags(self) -> tuple[str, ...]:
        """Link against the stubs: a symbol that the oldest system lacks is an error, and nothing static is exported."""
        return (f"-L{self.root}/lib", "-Wl,-z,defs", "-Wl,--exclude-libs,ALL")

    def _headers(self, own: tuple[str, ...]) -> tuple[str, ...]:
        folders = (f"{self.root}/first", *own, f"{self.root}/include")
        minor = self.glibc.partition(".")[2]
        return ("-nostdinc", *(f"-isystem{folder}" for folder in folders), f"-D__GLIBC_MINOR__={minor}")
