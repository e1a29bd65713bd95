"""A toolkit that is installed on this machine, taken only when it is named: copied, and known by a digest."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from build_matrix.catalog import project_of, toolkits
from build_matrix.errors import ConfigurationError, MissingPrerequisiteError
from build_matrix.model import Component, digest_of, file_sha256
from build_matrix.process.runner import run

SECONDS = 30
# What of it a build may see. Not include/nvtx3, whose headers no package has: CUB compiles otherwise where they are.
PATTERNS = (
    "bin/nvcc", "bin/nvcc.profile", "bin/cudafe++", "bin/ptxas", "bin/fatbinary", "bin/nvlink", "bin/bin2c",
    "bin/crt/*", "nvvm/bin/*", "nvvm/libdevice/*", "include/**/*", "lib64/libcudart*", "lib64/libcudadevrt.a",
    "lib64/libcublas.so*", "lib64/libcublasLt.so*",
)  # fmt: skip
LEFT_OUT = "include/nvtx3/"

_RELEASE = re.compile(r"release (?P<cuda>\d+\.\d+), V(?P<version>[\d.]+)")
_CUBLAS = re.compile(r"#define CUBLAS_VER_(?:MAJOR|MINOR|PATCH) (\d+)")


def read_installed(root: Path) -> tuple[str, tuple[Component, ...]]:
    """CUDA minor of the toolkit in ``root``, and its components, all known by one digest of every file that is taken.

    Raises ConfigurationError for a folder that holds no toolkit of the catalog.
    """
    nvcc = root / "bin" / "nvcc"
    try:
        match = _RELEASE.search(run([nvcc, "--version"], env={"PATH": "/usr/bin:/bin"}, timeout=SECONDS).output)
    except OSError:
        match = None
    if not match or match["cuda"] not in toolkits():
        known = ", ".join(toolkits())
        raise ConfigurationError(
            f"--toolkit-root {root} holds no CUDA toolkit that is known.", f"Name a folder with bin/nvcc of {known}."
        )
    cuda = match["cuda"]
    family = toolkits()[cuda].family
    header = root / "include" / "cublas_api.h"
    cublas = ".".join(_CUBLAS.findall(header.read_text(encoding="utf-8"))) if header.is_file() else ""
    if not cublas:
        raise MissingPrerequisiteError(
            f"The toolkit in {root} has no cuBLAS headers.", "Install all of it, or leave out --toolkit-root."
        )
    digest = digest_of({name: file_sha256(path) for name, path in _files(root)})
    versions = {"nvidia-cuda-nvcc": match["version"], "nvidia-cuda-runtime": f"{cuda}.0", "nvidia-cublas": cublas}
    components = tuple(
        Component(project=project_of(name, family), version=version, filename=name, sha256=digest, origin="installed")
        for name, version in versions.items()
    )
    return cuda, components


def copy_installed(root: Path, target: Path) -> None:
    """Copy what a build may see of the toolkit in ``root``; links become files."""
    for name, path in _files(root):
        copy = target / name.replace("lib64/", "lib/", 1)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Name below ``root`` and real path of each file, in one order; lib stands for lib64 where there is no lib64."""
    lib = root / "lib64" if (root / "lib64").is_dir() else root / "lib"
    for pattern in PATTERNS:
        folder, part = (lib, pattern.removeprefix("lib64/")) if pattern.startswith("lib64/") else (root, pattern)
        for path in sorted(folder.glob(part)):
            name = f"lib64/{path.name}" if folder == lib else path.relative_to(root).as_posix()
            if path.is_file() and not name.startswith(LEFT_OUT):
                yield name, path.resolve()
