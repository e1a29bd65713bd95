"""The CUDA toolkits that are installed on this machine, the one that a build would pick up by accident first."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from build_matrix.model import InstalledToolkit
from build_matrix.probe.programs import exists, expand, named_program, resolve
from build_matrix.process.runner import run

SECONDS = 10.0
VARIABLES = ("CUDACXX", "CUDA_PATH", "CUDA_HOME", "CUDA_ROOT", "CUDAToolkit_ROOT")
FOLDERS = ("/usr/local", "/opt", "/usr/lib")
_RELEASE = re.compile(r"release (\d+\.\d+)(?:, V([\d.]+))?")


def find_toolkits(environ: Mapping[str, str]) -> tuple[InstalledToolkit, ...]:
    """Every toolkit, the one that a build would stumble over first first; nothing of them is ever used.

    CMake asks CUDACXX, then the PATH, then the CUDA_PATH and its like. A variable that is empty counts as unset.
    """
    toolkits: dict[str, InstalledToolkit] = {}
    for nvcc, how in _places(environ):
        key = str(resolve(nvcc))
        if key not in toolkits:
            toolkits[key] = _examine(nvcc, how)
    for how, root, problem in _dead_ends(environ):
        toolkits.setdefault(f"{how} {root}", InstalledToolkit(root=root, version="", source=how, problem=problem))
    order = {how: number for number, how in enumerate((VARIABLES[0], "PATH", *_named(environ)))}
    return tuple(sorted(toolkits.values(), key=lambda toolkit: order.get(toolkit.source, len(order))))


def _places(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """Each nvcc that is there, and what leads to it."""
    if compiler := named_program(environ.get("CUDACXX", ""), environ):
        yield compiler, "CUDACXX"
    for folder in environ.get("PATH", "").split(os.pathsep):
        if folder and exists(nvcc := Path(folder) / _nvcc()):
            yield nvcc, "PATH"
    for how in _named(environ):
        for root in _roots(environ[how]):
            if exists(nvcc := root / "bin" / _nvcc()):
                yield nvcc, how
    for parent in FOLDERS:
        for root in _candidates(Path(parent)):
            if exists(nvcc := root / "bin" / _nvcc()):
                yield nvcc, parent


def _candidates(parent: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(parent.glob("cuda*"))
    return []


def _dead_ends(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Variables that lead to no nvcc: the variable, its value, and what is wrong with it."""
    compiler = environ.get("CUDACXX", "").strip()
    if compiler and not named_program(compiler, environ):
        yield "CUDACXX", compiler, "it is not a program that can be run"
    for how in _named(environ):
        for root in _roots(environ[how]):
            if not exists(root / "bin" / _nvcc()):
                yield how, str(root), _why_not(root)


def _why_not(root: Path) -> str:
    try:
        if root.is_file():
            return "it is a file, not a folder"
        (root / "bin" / _nvcc()).stat()
    except PermissionError:
        return "this user cannot read that folder"
    except (OSError, ValueError):
        pass
    return "there is no nvcc in that folder"


def _named(environ: Mapping[str, str]) -> list[str]:
    """The variables that name a toolkit's folder, CUDA_PATH first."""
    named = [key for key in environ if key in VARIABLES[1:] or key.startswith("CUDA_PATH_V")]
    return sorted((key for key in named if environ[key].strip()), key=lambda key: (key != "CUDA_PATH", key))


def _roots(value: str) -> Iterator[Path]:
    """The folders that a variable names: one, or several joined as in PATH."""
    folder = expand(Path(value.strip()))
    if exists(folder):
        yield folder
        return
    yield from (expand(Path(entry.strip())) for entry in value.split(os.pathsep) if entry.strip())


def _nvcc() -> str:
    return "nvcc.exe" if os.name == "nt" else "nvcc"


def _examine(nvcc: Path, how: str) -> InstalledToolkit:
    root = str(resolve(nvcc).parent.parent)
    try:
        result = run([nvcc, "--version"], env={"PATH": os.defpath}, timeout=SECONDS)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return InstalledToolkit(root=root, version="", source=how, problem=f"nvcc cannot be run: {why}")
    match = _RELEASE.search(result.output)
    if result.timed_out:
        return InstalledToolkit(root=root, version="", source=how, problem="nvcc does not respond")
    if result.code or not match:
        return InstalledToolkit(root=root, version="", source=how, problem="nvcc does not report its version")
    return InstalledToolkit(root=root, version=match[2] or match[1], source=how)
