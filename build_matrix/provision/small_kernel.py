"""Whether a toolkit compiles and links with a host compiler and a sysroot, and the same in every folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from build_matrix.catalog import toolkits
from build_matrix.context import Context
from build_matrix.digests import code_digest
from build_matrix.errors import DiskFullError, MissingPrerequisiteError
from build_matrix.model import Architecture, HostCompiler, Sysroot, Toolchain, digest_of, file_sha256
from build_matrix.process.nvcc_launcher import launcher
from build_matrix.process.runner import run
from build_matrix.sysroot_flags import cxx_flags, link_flags

CODE = ("provision/small_kernel.py", "process/nvcc_launcher.py", "sysroot_flags.py")
SECONDS = 300  # for one compilation
SAME = "same"  # file that holds whether both objects were the same
SOURCES = "/src"  # where the objects' own names say that the sources lie

KERNEL = """\
#include <cublas_v2.h>
#include <cuda_fp16.h>
#include <cub/block/block_reduce.cuh>
__global__ void scale(half *values, int count) {
    using Reduce = cub::BlockReduce<float, 32>;
    __shared__ typename Reduce::TempStorage storage;
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const float sum = Reduce(storage).Sum(i < count ? __half2float(values[i]) : 0.0f);
    if (i < count) values[i] = __float2half(sum);
}
extern "C" int build_matrix_self_test(half *values, int count) {
    cublasHandle_t handle;
    if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) return 1;
    scale<<<(count + 31) / 32, 32>>>(values, count);
    return static_cast<int>(cudaDeviceSynchronize());
}
"""


# What nvcc names after the file's path and its own process: things local to the file, and code that runs at the start.
LOCAL_NAMES = """\
#include <cstdio>
namespace {
__global__ void scale(float *values) { values[threadIdx.x] *= 2; }
struct Start { Start() { std::puts(__FILE__); } } start;
}
void build_matrix_local_names(float *values) { scale<<<1, 32>>>(values); }
"""


class _Nvcc(NamedTuple):
    """What compiles: a toolkit for some architectures, with a host compiler and a sysroot; where the store is."""

    toolchain: Toolchain
    architectures: tuple[Architecture, ...]
    compiler: HostCompiler
    sysroot: Sysroot
    store: Path

    @property
    def argv(self) -> list[str | Path]:
        """Nvcc with the arguments of every compilation."""
        host: list[str | Path] = ["-ccbin", self.compiler.cxx, "-std=c++17", "-Xcompiler=-fPIC"]
        codes = [f"-gencode=arch=compute_{a.number}{a.feature},code={a.code}" for a in self.architectures]
        return [self.toolchain.nvcc, *host, *codes, *(f"-Xcompiler={flag}" for flag in cxx_flags(self.sysroot))]

    def run(self, argv: list[str | Path], folder: Path) -> None:
        """Compile in ``folder``; raises MissingPrerequisiteError with the first error, DiskFullError."""
        environment = {"PATH": str(Path(self.compiler.cxx).parent), "TMPDIR": str(folder), "LC_ALL": "C"}
        result = run(argv, env=environment, cwd=folder, timeout=SECONDS)
        if result.disk_full:
            raise DiskFullError(self.store)
        if result.code:
            first = next((line for line in result.tail if "error" in line.lower()), result.output)
            raise MissingPrerequisiteError(
                f"{self.compiler.name} {self.compiler.version} with nvcc {self.toolchain.nvcc_version} cannot compile "
                f"a small kernel: {first.strip()}",
                "Install the C++ compiler's own headers and libraries (`apt install g++`), or set CXX to another one.",
            )


def self_test(
    context: Context,
    toolchain: Toolchain,
    architectures: tuple[Architecture, ...],
    compiler: HostCompiler,
    sysroot: Sysroot,
) -> Toolchain:
    """Compile and link a small kernel for each architecture with this host compiler and sysroot, once.

    The kernel uses CUB, half precision, the runtime and cuBLAS. Another one is compiled in two folders, to see
    whether the objects are the same: the result is in the toolkit that is returned.
    Raises MissingPrerequisiteError with the compiler's first error, DiskFullError.
    """
    random_seed = toolkits()[toolchain.cuda].random_seed
    inputs = (toolchain.digest, compiler.identity, sysroot.digest, sysroot.cxx_includes, architectures, random_seed)
    nvcc = _Nvcc(toolchain, architectures, compiler, sysroot, context.store.root)

    def test(folder: Path) -> None:
        _link(nvcc, folder)
        objects = {_compile_in(folder / name, nvcc, random_seed=random_seed) for name in ("first", "another-folder")}
        (folder / SAME).write_text("yes" if len(objects) == 1 else "no")

    result = context.store.obtain("self-test", digest_of("self-test", code_digest(*CODE), inputs), test) / SAME
    return msgspec.structs.replace(toolchain, same_anywhere=result.read_text() == "yes")


def _link(nvcc: _Nvcc, folder: Path) -> None:
    """Make a shared library of the kernel in ``folder``."""
    (folder / "self_test.cu").write_text(KERNEL)
    flags = [flag.replace("-Wl,", "-Xlinker=") for flag in link_flags(nvcc.sysroot)]
    flags += [f"-L{nvcc.toolchain.root}/lib", "-cudart=shared", "-lcublas"]
    nvcc.run([*nvcc.argv, "-shared", *flags, "-o", folder / "self_test.so", folder / "self_test.cu"], folder)


def _compile_in(folder: Path, nvcc: _Nvcc, *, random_seed: bool) -> str:
    """The sha256 of the object that the kernel with local names becomes in ``folder``."""
    folder.mkdir()
    (folder / "local_names.cu").write_text(LOCAL_NAMES)
    before = launcher(sys.executable, {str(folder): SOURCES}, random_seed=random_seed)
    renamed = f"-Xcompiler=-ffile-prefix-map={folder}={SOURCES}"
    source = folder / "local_names.cu"
    nvcc.run([*before, *nvcc.argv, renamed, "-x", "cu", "-c", source, "-o", "object.o"], folder)
    return file_sha256(folder / "object.o")
