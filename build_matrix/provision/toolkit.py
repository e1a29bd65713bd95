"""Assembles a CUDA toolkit in the store, whatever its origin, without root and without touching the system."""

from __future__ import annotations

from pathlib import Path

import msgspec

from build_matrix.catalog import project_of
from build_matrix.context import Context
from build_matrix.digests import code_digest, content_digest, note_content
from build_matrix.downloads.origins import origin_of, origins_of, read_installed, unpack_toolkit
from build_matrix.errors import BuildMatrixError, ConfigurationError
from build_matrix.model import Cell, Component, Ingredients, Toolchain, digest_of
from build_matrix.platforms import Platform, find_platform
from build_matrix.store import require_room

CODE = ("provision/toolkit.py", "downloads/origins", "downloads/install.py", "platforms", "unpacking.py")
ROOT = "toolkit"  # folder in the result
UNPACKED_RATIO = 2.2  # measured: 13.0 is 520 MB packed, 1.1 GB unpacked

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
LIBRARIES = ("cudart", "cublas", "cublasLt")


def resolve_toolkit(context: Context, cell: Cell, ingredients: Ingredients) -> Ingredients:
    """The same ingredients with archives in the place of their manifest, which is downloaded for that.

    Raises DownloadError and its kinds, DiskFullError.
    """
    files = [part for file in ingredients.toolkit for part in origin_of(file).expand(file, cell, context.downloads)]
    return msgspec.structs.replace(ingredients, toolkit=tuple(files))


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
        origin_of(files[0]).unpack([root], folder / ROOT, _uv_cache(context))
        _complete(folder / ROOT, find_platform(cell.platform))
        note_content(folder, folder / ROOT)

    context.store.obtain("toolkit", _digest(files), copy)
    return msgspec.structs.replace(ingredients, toolkit=files, toolkit_release=files[0].version)


def provision_toolkit(context: Context, cell: Cell, ingredients: Ingredients) -> Toolchain:
    """The toolkit of ``cell`` in the store.

    Raises DownloadError and its kinds, DiskFullError, BuildMatrixError for a toolkit that lacks something.
    """
    files = ingredients.toolkit

    def assemble(folder: Path) -> None:
        paths = context.downloads.fetch(files, f"CUDA {cell.cuda} toolkit")
        require_room(context.store.root, int(sum(file.size for file in files) * UNPACKED_RATIO))
        unpack_toolkit(files, paths, folder / ROOT, _uv_cache(context))
        _complete(folder / ROOT, find_platform(cell.platform))
        note_content(folder, folder / ROOT)

    versions = {file.project: file.version for file in files}
    result = context.store.obtain("toolkit", _digest(files), assemble)
    return Toolchain(
        root=result / ROOT,
        cuda=cell.cuda,
        release=ingredients.toolkit_release,
        nvcc_version=versions[project_of("nvidia-cuda-nvcc", cell.cuda_version.major)],
        components=files,
        digest=content_digest(result, result / ROOT),
    )


def _digest(files: tuple[Component, ...]) -> str:
    """Where they come from does not count, but the data by which they are unpacked does."""
    data = [data for origin in origins_of(files) if (data := origin.unpacking_data())]
    return digest_of("toolkit", code_digest(*CODE), tuple(file.content for file in files), data)


def _uv_cache(context: Context) -> Path:
    return context.store.root / "uv-cache"


def _complete(root: Path, platform: Platform) -> None:
    """Add the names that compilers and CMake look for, and check that nothing is missing."""
    lib = root / "lib"
    for path in sorted(lib.glob("*")):
        name = platform.unversioned(path.name)
        if name and not (lib / name).exists():
            (lib / name).symlink_to(path.name)
    if not (root / "lib64").exists():
        (root / "lib64").symlink_to("lib")
    programs = [platform.program(name) for name in PROGRAMS]
    for name in programs:
        if (root / name).is_file():
            (root / name).chmod(0o755)
    needed = [*programs, *FILES, *(f"lib/{platform.link_library(name)}" for name in LIBRARIES)]
    missing = [name for name in needed if not (root / name).is_file()]
    missing += [] if any((root / name).is_file() for name in CUB) else [CUB[-1]]
    if missing:
        raise BuildMatrixError(
            f"The packages of this toolkit lack {', '.join(missing)}.",
            "Choose another CUDA version with --cuda.",
        )
