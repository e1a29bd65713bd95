"""Fixtures for all tests: a store of their own, a reporter that remembers, and why a test is skipped."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from build_matrix import redact
from build_matrix.errors import BuildMatrixError
from build_matrix.locks import select_sdist
from build_matrix.model import (
    Architecture,
    BuildEnvironment,
    BuildInputs,
    Cell,
    CompilerRange,
    HostCompiler,
    LlamaRelease,
    Machine,
    SourceTree,
    Sysroot,
    Toolchain,
    Toolkit,
)
from build_matrix.store import Store

# A host compiler, and what is claimed of the driver, the GPUs and where they are seen.
SURROUNDINGS = (
    "CC", "CXX", "CUDA_VISIBLE_DEVICES", "BUILD_MATRIX_DRIVER_CUDA", "BUILD_MATRIX_COMPUTE_CAPABILITIES",
    "BUILD_MATRIX_REMOTE_CACHE",
)  # fmt: skip


class Remembering:
    """A reporter whose lines a test can read."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.meters: list[tuple[str, float, float | None]] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    warn = say

    @contextlib.contextmanager
    def meter(self, label: str, unit: str, total: float | None) -> Iterator[Remembering]:
        self._label = label
        yield self

    def update(self, completed: float, total: float | None = None, remaining: float | None = None) -> None:
        self.meters.append((self._label, completed, total))


@pytest.fixture(autouse=True)
def errors_are_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever error a test meets says what is wrong and what to do."""
    original = BuildMatrixError.__init__

    def checked(error: BuildMatrixError, problem: str, remedy: str) -> None:
        for text in (problem, remedy):
            assert isinstance(text, str), (problem, remedy)
            assert text.strip(), (problem, remedy)
        original(error, problem, remedy)

    monkeypatch.setattr(BuildMatrixError, "__init__", checked)


@pytest.fixture(autouse=True)
def no_secrets() -> Iterator[None]:
    """What one test has configured as a secret is no secret in the next one."""
    yield
    redact.forget()


CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: capget(2)
READS_ALL = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: linux/capability.h


@pytest.fixture
def without_privileges() -> Iterator[None]:
    """Permissions of files hold for root, too, as long as a test lasts."""
    if sys.platform != "linux" or os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable of capabilities 0 to 31, then of 32 to 63
    assert libc.capget(header, sets) == 0
    before = sets[0]
    sets[0] = before & ~READS_ALL
    assert libc.capset(header, sets) == 0
    yield
    sets[0] = before
    assert libc.capset(header, sets) == 0


@pytest.fixture
def reporter() -> Remembering:
    return Remembering()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One store for the tests that download: what one fetched, the next one has."""
    return Store(tmp_path_factory.mktemp("shared") / "store")


@pytest.fixture
def gcc() -> HostCompiler:
    return HostCompiler(
        name="gcc", version="12.2.0", description="gcc", cc="/usr/bin/gcc", cxx="/usr/bin/g++", identity="i"
    )


@pytest.fixture
def machine(gcc: HostCompiler) -> Machine:
    return Machine(
        platform="linux-x86_64",
        python="3.11.7",
        libc="glibc 2.36",
        cpus=2,
        memory=24 << 30,
        compilers=(gcc,),
        driver_problem="no NVIDIA driver",
    )


@pytest.fixture
def toolkit() -> Toolkit:
    return Toolkit(
        cuda="13.0",
        min_driver={"linux": "580", "windows": "580"},
        architectures=("75", "89"),
        gcc=CompilerRange(min=6, max=15),
        clang=CompilerRange(min=3, max=20),
        msvc=CompilerRange(min=1920, max=1949),
        fast_compile=True,
        source="test",
    )


@pytest.fixture
def release() -> LlamaRelease:
    return LlamaRelease(
        version="0.3.16",
        min_gcc=9,
        min_clang=10,
        options={"GGML_AVX": "ON", "GGML_AVX2": "ON"},
        source="test",
    )


SYSROOT = Sysroot(
    root=Path("/store/sysroot"),
    glibc="2.28",
    c_includes=("/usr/lib/gcc/include",),
    cxx_includes=("/usr/include/c++/12", "/usr/lib/gcc/include"),
    components=(),
    digest="s",
)


@pytest.fixture
def cell() -> Cell:
    return Cell(llama="0.3.16", cuda="13.0", architectures=(Architecture(number=89),), platform="linux-x86_64")


@pytest.fixture
def toolchain() -> Toolchain:
    return Toolchain(
        root=Path("/store/toolkit"),
        cuda="13.0",
        release="13.0.3.0",
        nvcc_version="13.0.88",
        components=(),
        digest="t",
    )


@pytest.fixture
def inputs(cell: Cell, toolchain: Toolchain, gcc: HostCompiler, release: LlamaRelease) -> BuildInputs:
    return BuildInputs(
        cell=cell,
        release=release,
        source=SourceTree(
            root=Path("/store/source"),
            llama=cell.llama,
            sdist=select_sdist(cell.llama),
            patches=(),
            options=(),
            digest="s",
        ),
        toolchain=toolchain,
        environment=BuildEnvironment(
            root=Path("/store/env"), python=Path("/store/env/bin/python"), components=(), digest="e"
        ),
        compiler=gcc,
        sysroot=SYSROOT,
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a test that would be skipped fails, with the reason")


def pytest_configure(config: pytest.Config) -> None:
    """What this shell names for the tool is not for its tests, nor for the programs that they start."""
    for name in SURROUNDINGS:
        os.environ.pop(name, None)
    # The same examples in every run, none kept in the checkout, no deadline on a machine that others use too.
    hypothesis.settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
    hypothesis.settings.load_profile("repeatable")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One worker for each CPU that this process may use: pytest-xdist counts those of the machine, by cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    for item in items:
        if item.get_closest_marker("compiler") and not compiler:
            item.add_marker(pytest.mark.skip(reason="there is no C++ compiler here"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    return _without_skip(report, item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    report = yield
    return _without_skip(report, collector.config)


def _without_skip(report: Any, config: pytest.Config) -> Any:
    """The report of a skipped test as a failure, where skips are not allowed; an expected failure is no skip."""
    if report.skipped and not hasattr(report, "wasxfail") and config.getoption("--no-skips"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{reason.removeprefix('Skipped: ')} (--no-skips)"
    return report
