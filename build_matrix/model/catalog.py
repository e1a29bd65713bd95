"""Facts on toolkits, drivers and releases of llama-cpp-python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from packaging.specifiers import SpecifierSet

from build_matrix.model.base import Record
from build_matrix.model.cuda import Architecture, CudaVersion

BLACKWELL = range(120, 130)  # ggml-cuda/CMakeLists.txt: ^12[0-9](-real|-virtual)?$


class CompilerRange(Record, frozen=True, kw_only=True):
    """Accepted major versions of a host compiler, both ends included."""

    min: int
    max: int


class Toolkit(Record, frozen=True, kw_only=True):
    """One CUDA minor version: what it can target, with which host compilers and systems, and its features.

    ``min_driver`` are the oldest drivers that run its programs by minor-version compatibility, by system (``linux``,
    ``windows``); ``max_glibc`` is the newest glibc whose headers its own headers do not contradict (empty: any).
    ``arch_specific`` and ``family_specific``: whether it compiles for architectures such as ``90a`` and ``100f``.
    """

    cuda: str
    min_driver: Mapping[str, str]
    architectures: tuple[str, ...]
    gcc: CompilerRange
    clang: CompilerRange
    msvc: CompilerRange
    max_glibc: str = ""
    fast_compile: bool = False
    compress_mode: bool = False
    random_seed: bool = False
    arch_specific: bool = True
    family_specific: bool = False
    source: str

    @property
    def cuda_version(self) -> CudaVersion:
        """``cuda``, for comparing."""
        return CudaVersion.parse(self.cuda)

    @property
    def family(self) -> int:
        """CUDA major version."""
        return self.cuda_version.major


class DriverBranch(Record, frozen=True, kw_only=True):
    """A driver branch (the number before the first dot), and the newest CUDA version that it supports."""

    branch: int
    cuda: str

    @property
    def cuda_version(self) -> CudaVersion:
        """``cuda``, for comparing."""
        return CudaVersion.parse(self.cuda)


class Limit(Record, frozen=True, kw_only=True):
    """Toolkits with which the sources of a release do not compile for some architectures, and why.

    ``cuda`` and ``architectures`` are version specifiers: ``<12`` and ``>=90``.
    """

    cuda: str
    architectures: str
    fact: str
    remedy: str
    source: str

    def excludes(self, cuda: str, architecture: Architecture) -> bool:
        """Whether this toolkit cannot compile the sources for this architecture."""
        numbers = SpecifierSet(self.architectures)
        return SpecifierSet(self.cuda).contains(cuda) and numbers.contains(str(architecture.number))


class LlamaRelease(Record, frozen=True, kw_only=True):
    """One llama-cpp-python release that this tool knows how to build.

    ``same_ptx`` lists architectures for which its sources become the same PTX, oldest first, as in ``(80, 86)``.
    """

    version: str
    min_gcc: int
    min_clang: int
    blackwell_specific: bool = False  # the sources compile 12X as 12Xa, which runs on that GPU alone
    same_ptx: tuple[tuple[int, ...], ...] = ()
    limit: tuple[Limit, ...] = ()
    options: dict[str, str]
    source: str

    def as_compiled(self, architectures: Iterable[Architecture]) -> tuple[Architecture, ...]:
        """What the sources really compile for these, in the order of a wheel's label."""
        exact = {
            msgspec.structs.replace(a, feature="a")
            if self.blackwell_specific and a.number in BLACKWELL and not a.feature
            else a
            for a in architectures
        }
        return tuple(sorted(exact, key=lambda a: (a.kind, a.number, a.feature)))
