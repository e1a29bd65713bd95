"""A fresh environment with a wheel and what it declares, and the variables that a child in it gets."""

from __future__ import annotations

import os
from pathlib import Path

from build_matrix.context import Context
from build_matrix.downloads import create_environment, install_wheels
from build_matrix.locks import locked_toolkits, read_lock, select_platform, select_wheels
from build_matrix.model import Component, CudaVersion, Label, Record, digest_of
from build_matrix.platforms import find_platform, platform_name
from build_matrix.wheelfile.file import WheelFile


class Environment(Record, frozen=True, kw_only=True):
    """A wheel's own environment: ``python`` runs in it, and a child works in ``folder``, which is its HOME too."""

    python: Path
    folder: Path


def install_wheel(context: Context, wheel: WheelFile, label: Label, folder: Path) -> Environment:
    """Install a wheel and what it declares into a fresh environment in ``folder``, from locked files only.

    Raises InstallError, DownloadError and its kinds, DiskFullError.
    """
    cache = context.store.root / "uv-cache"
    links = _link(context, _dependencies(context, label))
    python = create_environment(folder / "environment", cache)
    install_wheels([wheel.path], cache, python=python, find_links=links)
    return Environment(python=python, folder=folder)


def child_variables(folder: Path) -> dict[str, str]:
    """The variables of a child that works in ``folder``.

    Nothing of the user's environment but the way to the driver: no toolkit of this machine can help the wheel.
    """
    variables = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    variables |= find_platform(platform_name()).driver_variables(os.environ)
    return variables | {"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}


def _dependencies(context: Context, label: Label) -> tuple[Component, ...]:
    """What a wheel may declare: the locked packages of its CUDA version, or of the newest that has its major."""
    family = [minor for minor in locked_toolkits() if CudaVersion.parse(minor).major == label.family]
    cuda = label.cuda if label.cuda in family or not family else family[-1]
    return (*select_wheels(read_lock("runtime")), *select_platform(read_lock(f"cuda-{cuda}"), context.machine.platform))


def _link(context: Context, files: tuple[Component, ...]) -> Path:
    """A folder of links to these files, always the same one for the same files.

    uv knows what it has unpacked by the path, and would keep a copy of all for each folder.
    """
    paths = context.downloads.fetch(files, "the wheel's dependencies")
    targets = {path.name: os.path.relpath(path, context.store.root / "stage" / "result") for path in paths}

    def link(folder: Path) -> None:
        for name, target in targets.items():
            (folder / name).symlink_to(target)

    return context.store.obtain("runtime-links", digest_of(targets), link)
