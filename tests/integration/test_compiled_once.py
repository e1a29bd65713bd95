"""What is compiled once for several CPU back ends, or kept for several lists of architectures, is the same for each.

``patches/0005`` takes the operations of a CPU back end from another one, and ``patches/0009`` keeps the list of
architectures out of what is compiled for one of them. Both are held against what a preprocessor makes of the sources.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from contexts import in_context

from build_matrix.downloads import Downloads, ingredient_choices
from build_matrix.locks import locked_llama_releases
from build_matrix.model import Architecture, Cell, Toolchain
from build_matrix.probe.compilers import find_compilers
from build_matrix.process.runner import run
from build_matrix.provision import provision_toolkit
from build_matrix.report import make_reporter
from build_matrix.store import Store
from tests.helpers.sources import ggml_sources

pytestmark = [pytest.mark.index, pytest.mark.compiler]

MARKER = re.compile(r'^# \d+ "([^"]*)"')
HASWELL = ("-msse4.2", "-mavx", "-mf16c", "-mfma", "-mavx2", "-mbmi2")
SKYLAKEX = (*HASWELL, "-mavx512f", "-mavx512cd", "-mavx512vl", "-mavx512dq", "-mavx512bw")
ADDED = {
    "alderlake": (HASWELL, ("-mavxvnni",)),
    "icelake, cannonlake and cascadelake": (SKYLAKEX, ("-mavx512vbmi", "-mavx512vnni")),
    "sapphirerapids, cooperlake and zen4": (
        SKYLAKEX,
        ("-mavx512vbmi", "-mavx512vnni", "-mavx512bf16", "-mamx-tile", "-mamx-int8"),
    ),
}
OPERATIONS = ("ops.cpp", "binary-ops.cpp", "unary-ops.cpp")


def preprocessed(source: Path, flags: Sequence[str | Path], root: Path, scratch: Path) -> str:
    """The digest of what of a source comes from below ``root``, when macros and conditions are done with."""
    output = scratch / "preprocessed"
    words = [find_compilers()[0].cxx, "-E", "-x", "c++", "-std=c++17", *flags, source, "-o", output]
    done = run(words, env={"PATH": "/usr/bin:/bin"}, timeout=120)
    assert done.code == 0, done.output[-2000:]
    lines, own = [], False
    for line in output.read_text().splitlines():
        if marker := MARKER.match(line):
            own = marker[1].startswith(str(root))
        elif own and line.strip():
            lines.append(line.strip())
    assert len(lines) > 1000, "the sources' own lines"
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.fixture(scope="module")
def toolkit(shared_store: Store) -> Toolchain:
    cell = Cell(llama="0.3.16", cuda="13.0", architectures=(Architecture(number=80),), platform="linux-x86_64")
    downloads = Downloads(shared_store, make_reporter())
    return provision_toolkit(in_context(shared_store, downloads=downloads), cell, ingredient_choices(cell)[0])


@pytest.mark.parametrize("version", locked_llama_releases())
@pytest.mark.parametrize("kinds", ADDED)
def test_operations_are_the_same_on_processors_that_share_them(
    version: str,
    kinds: str,
    shared_store: Store,
    reporter,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    root = ggml_sources(version, shared_store, reporter)
    flags, added = ADDED[kinds]

    def text(name: str, flags: Sequence[str]) -> str:
        common = [f"-I{root}", f"-I{root}/ggml-cpu", f"-I{root}/../include", "-DGGML_USE_LLAMAFILE"]
        return preprocessed(root / "ggml-cpu" / name, [*common, *flags], root, tmp_path)

    for name in OPERATIONS:
        assert text(name, flags) == text(name, (*flags, *added)), name
    assert text("ops.cpp", flags) != text("ops.cpp", ())  # it does depend on the processor


@pytest.mark.parametrize("version", locked_llama_releases())
@pytest.mark.parametrize("name", ["norm.cu", "mmq.cuh", "fattn-mma-f16.cuh", "fattn-common.cuh"])
def test_a_kernel_knows_its_own_architecture_and_no_list(
    version: str,
    name: str,
    toolkit: Toolchain,
    shared_store: Store,
    reporter,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    root = ggml_sources(version, shared_store, reporter)
    common = [f"-I{root}", f"-I{root}/../include", f"-I{toolkit.root}/include", "-include", "cuda_runtime.h"]
    common += ["-D__CUDACC__", "-D__NVCC__", "-D__CUDACC_VER_MAJOR__=13", "-D__CUDACC_VER_MINOR__=0"]
    common.append("-DGGML_CUDA_PEER_MAX_BATCH_SIZE=128")

    def text(architectures: str, *flags: str) -> str:
        words = [*common, f"-D__CUDA_ARCH_LIST__={architectures}", *flags]
        return preprocessed(root / "ggml-cuda" / name, words, root, tmp_path)

    assert text("800", "-D__CUDA_ARCH__=800") == text("750,800,900", "-D__CUDA_ARCH__=800")
    assert text("800", "-D__CUDA_ARCH__=800") != text("800", "-D__CUDA_ARCH__=750")
    assert text("800") != text("750,800,900")  # the host chooses by the list


def test_the_hosts_optimisation_is_none_of_a_kernels_business(
    toolkit: Toolchain,
    shared_store: Store,
    reporter,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    root = ggml_sources("0.3.16", shared_store, reporter)
    words = [
        toolkit.nvcc,
        "-ccbin",
        find_compilers()[0].cxx,
        "-std=c++17",
        "-cubin",
        "-arch=sm_80",
        "-DGGML_CUDA_NO_VMM",
    ]
    words += [f"-I{root}", f"-I{root}/../include", "-DGGML_CUDA_PEER_MAX_BATCH_SIZE=128", "-Xcompiler=-frandom-seed=1"]
    digests = set()
    for level in ("-O1", "-O3"):
        output = tmp_path / "norm.cubin"
        compile_one = [*words, level, "-o", output, root / "ggml-cuda/norm.cu"]
        done = run(compile_one, env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}, cwd=tmp_path, timeout=120)
        assert done.code == 0, done.output
        digests.add(hashlib.sha256(output.read_bytes()).hexdigest())
    assert len(digests) == 1
