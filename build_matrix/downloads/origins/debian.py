"""Debian's archive: one package holds the programs of a compiler; the package index has the rest of a toolkit."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from build_matrix.catalog import DebianCompiler, platforms, sources
from build_matrix.downloads.origins.archive import Archive
from build_matrix.downloads.origins.layout import scratch_beside
from build_matrix.downloads.origins.origin import ToolkitChoice
from build_matrix.errors import UnsafeArchiveError
from build_matrix.locks import read_lock, select_platform
from build_matrix.model import Component

if TYPE_CHECKING:
    from packageurl import PackageURL

APT_SECONDS = 30

# What nvcc reads beside itself, as NVIDIA's own packages have it; Debian's names folders of Debian.
PROFILE = """\
TOP              = $(_HERE_)/..
CICC_PATH        = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH            += $(CICC_PATH):$(_HERE_):
INCLUDES        +=  "-I$(TOP)/include" $(_SPACE_)
LIBRARIES        =+ $(_SPACE_) "-L$(TOP)/lib$(_TARGET_SIZE_)/stubs" "-L$(TOP)/lib$(_TARGET_SIZE_)"
CUDAFE_FLAGS    +=
PTXAS_FLAGS     +=
"""
EMPTY_ARCHIVE = b"!<arch>\n"
# GNU ld takes a text for a script: https://sourceware.org/binutils/docs/ld/Implicit-Linker-Scripts.html
SHARED_INSTEAD = b"INPUT ( libcudart.so )\n"


class Debian(Archive):
    """The archive that this machine's apt uses, or a mirror; nowhere on a system without apt."""

    name = "debian"
    title = "Debian's archive"
    variable = "BUILD_MATRIX_DEBIAN"
    mirror_setting = f"set {variable} to a mirror, the folder above pool/"

    def default_addresses(self) -> tuple[str, ...]:
        """Those in apt's own configuration."""
        return _apt_archives()

    def choices(self, cuda: str, platform: str) -> Iterator[ToolkitChoice]:
        """The package with the compiler, and the locked wheels of the same release with its headers and libraries."""
        lock, architecture = read_lock(f"cuda-{cuda}"), platforms()[platform].debian
        ending = f"_{architecture}.deb"  # a package is called NAME_VERSION_ARCHITECTURE.deb
        rows = [row for row in sources().debian.compiler if row.cuda == cuda and row.path.endswith(ending)]
        for row in rows if architecture else ():
            yield ToolkitChoice((*select_platform(lock, platform), _package(row)), lock.release)

    def unpack(self, paths: Sequence[Path], toolkit: Path, cache: Path) -> None:  # noqa: ARG002 - nothing is installed
        """Move the compiler's programs to where NVIDIA's packages have them, and add what the package lacks."""
        from build_matrix.unpacking import unpack_deb

        for path in paths:
            with scratch_beside(toolkit) as scratch:
                unpack_deb(path, scratch, self.unpacking_data().__contains__)
                self._move_programs(path, scratch, toolkit)
        _complete_compiler(toolkit)

    def unpacking_data(self) -> Mapping[str, str]:
        """Where each of the package's files lies in a toolkit of NVIDIA's."""
        return sources().debian.places

    def purl(self, file: Component) -> PackageURL:
        """A ``deb`` package."""
        from packageurl import PackageURL

        architecture = file.filename.removesuffix(".deb").rpartition("_")[2]
        return PackageURL("deb", "debian", file.project, file.version, {"arch": architecture})

    def _move_programs(self, package: Path, folder: Path, toolkit: Path) -> None:
        for name, place in self.unpacking_data().items():
            if not (folder / name).is_file():
                raise UnsafeArchiveError(
                    f"{package.name} does not contain {name}.", "Choose another CUDA version with --cuda."
                )
            target = toolkit / place
            target.unlink(missing_ok=True)  # ptxas lies in the index's packages, too
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / name).rename(target)


def _package(row: DebianCompiler) -> Component:
    return Component(
        project=sources().debian.project,
        version=row.version,
        filename=row.path.rpartition("/")[2],
        sha256=row.sha256,
        size=row.size,
        origin=Debian.name,
        path=row.path,
    )


def _complete_compiler(toolkit: Path) -> None:
    """Give a compiler that came alone what CMake's check of the compiler looks for beside it.

    libcudadevrt.a serves device code that is linked on its own and libcudart_static.a programs without libcudart.so:
    neither is part of a wheel, which is linked against the shared runtime.
    """
    contents = {
        "bin/nvcc.profile": PROFILE.encode(),
        "lib/libcudadevrt.a": EMPTY_ARCHIVE,
        "lib/libcudart_static.a": SHARED_INSTEAD,
    }
    for name, data in contents.items():
        if not (toolkit / name).exists():
            (toolkit / name).write_bytes(data)


@lru_cache
def _apt_archives() -> tuple[str, ...]:
    """Every archive in apt's own configuration, as apt reads it."""
    apt = shutil.which("apt-get")
    if apt is None:
        return ()
    argv = [apt, "indextargets", "--format", "$(REPO_URI)"]
    try:
        result = subprocess.run(
            argv, capture_output=True, encoding="utf-8", errors="replace", timeout=APT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(dict.fromkeys(line for line in result.stdout.split() if line.startswith(("http://", "https://"))))
