"""What a wheel is compiled from and how: the inputs and the result of ``compile``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from build_matrix.model.base import Record
from build_matrix.model.catalog import LlamaRelease
from build_matrix.model.machine import HostCompiler
from build_matrix.model.plan import Cell
from build_matrix.model.source import SourceTree
from build_matrix.model.toolchain import BuildEnvironment, Sysroot, Toolchain

CacheProgram = Literal["ccache", "sccache"]


class BuildInputs(Record, frozen=True, kw_only=True):
    """All that one wheel is compiled from."""

    cell: Cell
    release: LlamaRelease
    source: SourceTree
    toolchain: Toolchain
    environment: BuildEnvironment
    compiler: HostCompiler
    sysroot: Sysroot


class CompileCache(Record, frozen=True, kw_only=True):
    """Where what was compiled is kept: in ``folder``, by those of ``programs`` that work here.

    ``remote`` is the URL of a storage that machines share (see build_matrix.compile.remote), or empty.
    """

    folder: Path
    programs: tuple[CacheProgram, ...] = ("ccache", "sccache")
    remote: str = ""


class Conditions(Record, frozen=True, kw_only=True):
    """How a compilation runs; nothing of it may reach the bytes.

    ``sandbox``: without network, and with its folders at fixed places, where the system allows it; ``wrapper``: a
    command that runs it, such as ``nice -n 19``; ``cache``: the compile cache, if it may use one.
    """

    jobs: int
    sandbox: bool = True
    wrapper: tuple[str, ...] = ()
    cache: CompileCache | None = None


class BuildFacts(Record, frozen=True, kw_only=True):
    """What CMake itself says it chose, read from its File API."""

    generator: str
    architectures: tuple[str, ...]
    cuda_compiler: str
    cuda_compiler_version: str
    cxx_compiler_version: str
    cmake_version: str
    steps: int


class RawWheel(Record, frozen=True, kw_only=True):
    """The wheel as the PEP 517 back end left it."""

    path: Path
    facts: BuildFacts
    flags: dict[str, str]
    digest: str
