"""Assembles a CUDA toolkit in the store, whatever its source, without root and without touching the system."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import msgspec

from build_matrix.catalog import project_of, sources, toolkits
from build_matrix.context import Context
from build_matrix.digests import code_digest, content_digest, note_content
from build_matrix.errors import BuildMatrixError, ConfigurationError, DiskFullError, MissingPrerequisiteError
from build_matrix.model import (
    Architecture,
    Cell,
    Component,
    HostCompiler,
    Ingredients,
    Sysroot,
    Toolchain,
    digest_of,
    file_sha256,
)
from build_matrix.process.nvcc_launcher import launcher
from build_matrix.process.runner import run
from build_matrix.provision.installed import copy_installed, read_installed
from build_matrix.provision.manifest import is_manifest, read_manifest
from build_matrix.provision.unpack import stand_in, unpack_toolkit
from build_matrix.store import require_room
from build_matrix.sysroot_flags import cxx_flags, link_flags

CODE = (
    "provision/toolkit.py", "provision/unpack.py", "provision/installed.py", "provision/manifest.py", "unpacking.py",
    "downloads/install.py", "process/nvcc_launcher.py", "sysroot_flags.py",
)  # fmt: skip
ROOT = "toolkit"  # folder in the result
UNPACKED_RATIO = 2.2  # measured: 13.0 is 520 MB packed, 1.1 GB unpacked
SECONDS = 300

PROGRAMS = ("bin/nvcc", "bin/cudafe++", "bin/ptxas", "bin/fatbinary", "bin/nvlink", "nvvm/bin/cicc")
FILES = (
    "bin/nvcc.profile",
    "nvvm/libdevice/libdevice.10.bc",
    "include/cuda_runtime.h",
    "include/cublas_v2.h",
    "include/crt/host_config.h",
    "lib/libcudart_static.a",
    "lib/libcudadevrt.a",
)
CUB = ("include/cccl/cub/cub.cuh", "include/cub/cub.cuh")  # since CUDA 13, and before
LIBRARIES = ("libcudart.so", "libcublas.so", "libcublasLt.so")

_SONAME = re.compile(r"(?P<link>lib[A-Za-z]+\.so)\.\d+(?:\.0)?")

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
SAME = "same"  # file that holds whether both objects were the same


def resolve_toolkit(context: Context, cell: Cell, ingredients: Ingredients) -> Ingredients:
    """The same ingredients with archives in the place of their manifest, which is downloaded for that.

    Raises DownloadError and its kinds, DiskFullError.
    """
    manifests = [file for file in ingredients.toolkit if is_manifest(file)]
    if not manifests:
        return ingredients
    (path,) = context.downloads.fetch(manifests, f"manifest of CUDA {cell.cuda}")
    files = read_manifest(path, cell.cuda_version.major, cell.platform)
    return msgspec.structs.replace(ingredients, toolkit=files)


def fetch_toolkit(context: Context, cell: Cell, ingredients: Ingredients) -> Ingredients:
    """The same ingredients with archives in the place of their manifest, and all that the toolkit needs in the store.

    Raises DownloadError and its kinds, DiskFullError.
    """
    resolved = resolve_toolkit(context, cell, ingredients)
    if not context.store.find("toolkit", _digest(resolved.toolkit)):
        context.downloads.fetch(resolved.toolkit, f"CUDA {cell.cuda} toolkit")
    return resolved


def take_installed(context: Context, cell: Cell, ingredients: Ingredients, root: Path) -> Ingredients:
    """The same ingredients with the toolkit that is installed in ``root``, which is in the store afterwards.

    Raises ConfigurationError, MissingPrerequisiteError, DiskFullError.
    """
    cuda, files = read_installed(root)
    if cuda != cell.cuda:
        raise ConfigurationError(f"The toolkit in {root} is CUDA {cuda}, not {cell.cuda}.", "Name another folder.")

    def copy(folder: Path) -> None:
        copy_installed(root, folder / ROOT)
        _complete(folder / ROOT)
        note_content(folder, folder / ROOT)

    context.store.obtain("toolkit", _digest(files), copy)
    return msgspec.structs.replace(ingredients, toolkit=files, toolkit_release=files[0].version)


def provision_toolkit(context: Context, cell: Cell, ingredients: Ingredients) -> Toolchain:
    """The toolkit of ``cell`` in the store.

    Raises DownloadError and its kinds, DiskFullError, NoCompatibleChoiceError.
    """
    files = ingredients.toolkit
    digest = _digest(files)

    def assemble(folder: Path) -> None:
        paths = context.downloads.fetch(files, f"CUDA {cell.cuda} toolkit")
        require_room(context.store.root, int(sum(file.size for file in files) * UNPACKED_RATIO))
        unpack_toolkit(paths, folder / ROOT, context.store.root / "uv-cache")
        if any(file.origin == "debian" for file in files):
            stand_in(folder / ROOT)
        _complete(folder / ROOT)
        note_content(folder, folder / ROOT)

    versions = {file.project: file.version for file in files}
    result = context.store.obtain("toolkit", digest, assemble)
    return Toolchain(
        root=result / ROOT,
        cuda=cell.cuda,
        release=ingredients.toolkit_release,
        nvcc_version=versions[project_of("nvidia-cuda-nvcc", cell.cuda_version.major)],
        components=files,
        digest=content_digest(result, result / ROOT),
    )


def _digest(files: tuple[Component, ...]) -> str:
    debian = sources().debian.places if any(file.origin == "debian" for file in files) else {}
    return digest_of("toolkit", code_digest(*CODE), tuple(file.content for file in files), debian)


def _complete(root: Path) -> None:
    """Add the names that compilers and CMake look for, and check that nothing is missing."""
    lib = root / "lib"
    for path in sorted(lib.glob("lib*.so.*")):
        match = _SONAME.fullmatch(path.name)
        if match and not (lib / match["link"]).exists():
            (lib / match["link"]).symlink_to(path.name)
    if not (root / "lib64").exists():
        (root / "lib64").symlink_to("lib")
    for name in PROGRAMS:
        if (root / name).is_file():
            (root / name).chmod(0o755)
    wanted = [*PROGRAMS, *FILES, *(f"lib/{name}" for name in LIBRARIES)]
    missing = [name for name in wanted if not (root / name).is_file()]
    missing += [] if any((root / name).is_file() for name in CUB) else [CUB[-1]]
    if missing:
        raise BuildMatrixError(
            f"The packages of this toolkit lack {', '.join(missing)}.",
            "Choose another CUDA version with --cuda.",
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
    Raises MissingPrerequisiteError with the compiler's first error.
    """
    seed = toolkits()[toolchain.cuda].random_seed
    inputs = (toolchain.digest, compiler.identity, sysroot.digest, sysroot.cxx_includes, architectures, seed)
    digest = digest_of("self-test", code_digest(*CODE), inputs)

    codes = [f"-gencode=arch=compute_{a.number}{a.feature},code={a.code}" for a in architectures]
    nvcc: list[str | Path] = [toolchain.nvcc, "-ccbin", compiler.cxx, "-std=c++17", "-Xcompiler=-fPIC", *codes]
    nvcc += [f"-Xcompiler={flag}" for flag in cxx_flags(sysroot)]

    def compile_kernel(words: list[str | Path], folder: Path) -> None:
        environment = {"PATH": str(Path(compiler.cxx).parent), "TMPDIR": str(folder), "LC_ALL": "C"}
        done = run(words, env=environment, cwd=folder, timeout=SECONDS)
        if done.disk_full:
            raise DiskFullError(context.store.root)
        if done.code:
            first = next((line for line in done.tail if "error" in line.lower()), done.output)
            raise MissingPrerequisiteError(
                f"{compiler.name} {compiler.version} with nvcc {toolchain.nvcc_version} cannot compile a small "
                f"kernel: {first.strip()}",
                "Install the C++ compiler's own headers and libraries (`apt install g++`), or name another with CXX.",
            )

    def test(folder: Path) -> None:
        (folder / "self_test.cu").write_text(KERNEL)
        link = [flag.replace("-Wl,", "-Xlinker=") for flag in link_flags(sysroot)]
        link += [f"-L{toolchain.root}/lib", "-cudart=shared", "-lcublas"]
        compile_kernel([*nvcc, "-shared", *link, "-o", folder / "self_test.so", folder / "self_test.cu"], folder)
        digests = set()
        for name in ("first", "another-folder"):
            place = folder / name
            place.mkdir()
            (place / "local_names.cu").write_text(LOCAL_NAMES)
            before = launcher(sys.executable, {str(place): "/src"}, random_seed=seed)
            maps = f"-Xcompiler=-ffile-prefix-map={place}=/src"
            compile_kernel([*before, *nvcc, maps, "-x", "cu", "-c", place / "local_names.cu", "-o", "object.o"], place)
            digests.add(file_sha256(place / "object.o"))
        (folder / SAME).write_text("yes" if len(digests) == 1 else "no")

    result = context.store.obtain("self-test", digest, test) / SAME
    return msgspec.structs.replace(toolchain, same_anywhere=result.read_text() == "yes")
