"""A toolkit that is installed on this machine, taken only when the user names it: copied, and known by a digest."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from build_matrix.catalog import project_of, toolkits
from build_matrix.downloads.origins.origin import Origin, ToolkitChoice
from build_matrix.errors import ConfigurationError, MissingPrerequisiteError
from build_matrix.model import Component, CudaVersion, digest_of, file_sha256
from build_matrix.process.runner import run

if TYPE_CHECKING:
    from packageurl import PackageURL

    from build_matrix.downloads.index.locations import Locations

NVCC_SECONDS = 30
# What of it a build may see. Not include/nvtx3, whose headers no package has: CUB compiles otherwise where they are.
PATTERNS = (
    "bin/nvcc", "bin/nvcc.profile", "bin/cudafe++", "bin/ptxas", "bin/fatbinary", "bin/nvlink", "bin/bin2c",
    "bin/crt/*", "nvvm/bin/*", "nvvm/libdevice/*", "include/**/*", "lib64/libcudart*", "lib64/libcudadevrt.a",
    "lib64/libcublas.so*", "lib64/libcublasLt.so*",
)  # fmt: skip
EXCLUDED = "include/nvtx3/"

_RELEASE = re.compile(r"release (?P<cuda>\d+\.\d+), V(?P<version>[\d.]+)")
_CUBLAS = re.compile(r"#define CUBLAS_VER_(?:MAJOR|MINOR|PATCH) (\d+)")


class InstalledToolkit(Origin):
    """A folder of this machine, named with --toolkit-root. All its components have one sha256: that of all files."""

    name = "installed"
    title = "this machine"
    mirror_setting = "name the same toolkit with --toolkit-root"
    downloaded = False

    def choices(self, cuda: str, platform: str) -> tuple[ToolkitChoice, ...]:  # noqa: ARG002
        """None: it is taken only when it is named."""
        return ()

    def locate(self, files: Sequence[Component], index: Locations) -> list[list[str]]:  # noqa: ARG002
        """Nowhere: what is not in the store has to be named again."""
        return [[] for _ in files]

    def unpack(self, paths: Sequence[Path], toolkit: Path, cache: Path) -> None:  # noqa: ARG002
        """Copy what a build may see of the toolkits in these folders; links become files."""
        for root in paths:
            for name, path in _files(root):
                copy = toolkit / name.replace("lib64/", "lib/", 1)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)

    def purl(self, file: Component) -> PackageURL:
        """There is no type for parts of an installation, so they are ``generic``."""
        from packageurl import PackageURL

        return PackageURL("generic", "nvidia", file.project, file.version, {"file_name": file.filename})


def read_installed(root: Path) -> tuple[str, tuple[Component, ...]]:
    """CUDA minor of the toolkit in ``root``, and its components, all known by one digest of every file that is taken.

    Raises ConfigurationError for a folder that contains no toolkit of the catalog, MissingPrerequisiteError for a
    toolkit without cuBLAS.
    """
    cuda, nvcc = _compiler_version(root)
    family = CudaVersion.parse(cuda).major
    digest = digest_of({name: file_sha256(path) for name, path in _files(root)})
    versions = {
        "nvidia-cuda-nvcc": nvcc,
        "nvidia-cuda-runtime": f"{cuda}.0",
        "nvidia-cublas": _cublas_version(root),
    }
    components = tuple(
        Component(
            project=project_of(name, family),
            version=version,
            filename=name,
            sha256=digest,
            origin=InstalledToolkit.name,
        )
        for name, version in versions.items()
    )
    return cuda, components


def _compiler_version(root: Path) -> tuple[str, str]:
    """CUDA minor and the compiler's whole version, as nvcc prints them."""
    try:
        result = run([root / "bin" / "nvcc", "--version"], env={"PATH": "/usr/bin:/bin"}, timeout=NVCC_SECONDS)
        match = _RELEASE.search(result.output)
    except OSError:
        match = None
    if not match or match["cuda"] not in toolkits():
        known = ", ".join(toolkits())
        raise ConfigurationError(
            f"--toolkit-root {root} contains no known CUDA toolkit.", f"Name a folder with bin/nvcc of {known}."
        )
    return match["cuda"], match["version"]


def _cublas_version(root: Path) -> str:
    header = root / "include" / "cublas_api.h"
    version = ".".join(_CUBLAS.findall(header.read_text(encoding="utf-8"))) if header.is_file() else ""
    if not version:
        raise MissingPrerequisiteError(
            f"The toolkit in {root} has no cuBLAS headers.", "Install the complete toolkit, or remove --toolkit-root."
        )
    return version


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Name below ``root`` and real path of each file, in one order; lib stands for lib64 where there is no lib64."""
    lib = root / "lib64" if (root / "lib64").is_dir() else root / "lib"
    for pattern in PATTERNS:
        folder, part = (lib, pattern.removeprefix("lib64/")) if pattern.startswith("lib64/") else (root, pattern)
        for path in sorted(folder.glob(part)):
            name = f"lib64/{path.name}" if folder == lib else path.relative_to(root).as_posix()
            if path.is_file() and not name.startswith(EXCLUDED):
                yield name, path.resolve()
