"""The CUDA toolkits that lie on this machine, and which of them would win by accident."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from build_matrix.model import InstalledToolkit
from build_matrix.runner import run

SECONDS = 10.0
VARIABLES = ("CUDACXX", "CUDA_PATH", "CUDA_HOME", "CUDA_ROOT", "CUDAToolkit_ROOT")
FOLDERS = ("/usr/local", "/opt", "/usr/lib")
_RELEASE = re.compile(r"release (\d+\.\d+)(?:, V([\d.]+))?")


def find_toolkits(environ: Mapping[str, str]) -> tuple[InstalledToolkit, ...]:
    """Every toolkit, the one that a build would stumble over first first; nothing of them is ever used.

    CMake asks CUDACXX, then the PATH, then the CUDA_PATH and its like.
    """
    found: dict[str, InstalledToolkit] = {}
    for nvcc, how in _places(environ):
        if not nvcc.exists():
            if how in VARIABLES or how.startswith("CUDA_PATH"):
                problem = "names a folder without nvcc"
                found.setdefault(
                    how, InstalledToolkit(root=str(nvcc.parents[1]), version="", found_by=how, problem=problem)
                )
            continue
        key = str(nvcc.resolve())
        if key not in found:
            found[key] = _examine(nvcc, how)
    return tuple(found.values())


def _places(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    name = "nvcc.exe" if os.name == "nt" else "nvcc"
    if compiler := environ.get("CUDACXX"):
        yield Path(compiler), "CUDACXX"
    for folder in environ.get("PATH", "").split(os.pathsep):
        if folder and (Path(folder) / name).exists():
            yield Path(folder) / name, "PATH"
    named = [key for key in environ if key in VARIABLES[1:] or key.startswith("CUDA_PATH_V")]
    for key in sorted(named, key=lambda key: (key != "CUDA_PATH", key)):
        yield Path(environ[key]) / "bin" / name, key
    for parent in FOLDERS:
        for root in sorted(Path(parent).glob("cuda*")):
            if (root / "bin" / name).exists():
                yield root / "bin" / name, parent


def _examine(nvcc: Path, how: str) -> InstalledToolkit:
    root = str(nvcc.resolve().parents[1])
    try:
        done = run([nvcc, "--version"], env={"PATH": os.defpath}, timeout=SECONDS)
    except OSError as error:
        return InstalledToolkit(root=root, version="", found_by=how, problem=f"nvcc cannot be run: {error.strerror}")
    match = _RELEASE.search(done.output)
    if done.timed_out:
        return InstalledToolkit(root=root, version="", found_by=how, problem="nvcc does not answer")
    if done.code or not match:
        return InstalledToolkit(root=root, version="", found_by=how, problem="nvcc does not say its version")
    return InstalledToolkit(root=root, version=match[2] or match[1], found_by=how)
