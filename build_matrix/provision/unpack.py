"""Puts a toolkit together out of wheels, archives of NVIDIA's and a Debian package: bin, include, lib, nvvm."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from build_matrix.catalog import sources
from build_matrix.downloads import install_wheels
from build_matrix.errors import UnsafeArchiveError
from build_matrix.unpacking import unpack_archive, unpack_deb

PARTS = ("bin", "include", "lib", "nvvm")

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


def unpack_toolkit(paths: Sequence[Path], root: Path, cache: Path) -> None:
    """Unpack these wheels, archives and Debian packages into one toolkit below ``root``.

    Raises InstallError, UnsafeArchiveError, DiskFullError.
    """
    parts = root.with_name("parts")
    parts.mkdir(parents=True)
    root.mkdir(parents=True)
    if wheels := [path for path in paths if path.suffix == ".whl"]:
        install_wheels(wheels, cache, target=parts / "wheels")
        for package in sorted((parts / "wheels" / "nvidia").iterdir()):
            _merge(package, root)
    for number, path in enumerate(path for path in paths if path.suffix != ".whl"):
        place = parts / str(number)
        place.mkdir()
        if path.suffix == ".deb":
            unpack_deb(path, place, sources().debian.places.__contains__)
            _take_places(path, place, root)
        else:
            unpack_archive(path, place)
            for top in sorted(place.iterdir()):
                _merge(top, root)
    shutil.rmtree(parts)


def stand_in(root: Path) -> None:
    """Give a toolkit whose compiler came alone what CMake's check of the compiler wants beside it.

    libcudadevrt.a serves device code that is linked on its own and libcudart_static.a programs without libcudart.so:
    neither is part of a wheel, which is linked against the shared runtime.
    """
    texts = {
        "bin/nvcc.profile": PROFILE.encode(),
        "lib/libcudadevrt.a": EMPTY_ARCHIVE,
        "lib/libcudart_static.a": SHARED_INSTEAD,
    }
    for name, data in texts.items():
        if not (root / name).exists():
            (root / name).write_bytes(data)


def _merge(folder: Path, root: Path) -> None:
    """Move what a toolkit consists of from ``folder`` (nvidia/cu13, or an archive's top) into ``root``."""
    if not folder.is_dir():
        return
    for part in PARTS:
        for path in sorted((folder / part).rglob("*")):
            if path.is_dir() and not path.is_symlink():
                continue
            target = root / path.relative_to(folder)
            if path.name == "__init__.py" or target.is_symlink() or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)


def _take_places(package: Path, folder: Path, root: Path) -> None:
    for name, place in sources().debian.places.items():
        if not (folder / name).is_file():
            raise UnsafeArchiveError(f"{package.name} holds no {name}.", "Choose another CUDA version with --cuda.")
        target = root / place
        target.unlink(missing_ok=True)  # ptxas lies in the index's packages, too
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / name).rename(target)
