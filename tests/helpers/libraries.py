"""Makes small real shared libraries for tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from build_matrix.probe import find_compilers

RUNPATH = "$ORIGIN:$ORIGIN/../../nvidia/cu13/lib"


def library(
    folder: Path, name: str = "libggml-cuda.so", needs: tuple[str, ...] = ("libcudart.so.13",), runpath: str = RUNPATH
) -> bytes:
    """A small real shared library that needs what a test wants it to need."""
    folder.mkdir(parents=True, exist_ok=True)
    cxx = find_compilers()[0].cxx
    (folder / "empty.cpp").write_text("int build_matrix_test_symbol;\n")
    others = []
    for soname in needs:
        subprocess.run(
            [cxx, "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", folder / soname, folder / "empty.cpp"], check=True
        )
        others.append(str(folder / soname))
    target = folder / name
    words = [cxx, "-shared", "-fPIC", "-s", f"-Wl,-soname,{name}", f"-Wl,-rpath,{runpath}", "-Wl,--enable-new-dtags"]
    subprocess.run([*words, "-Wl,--no-as-needed", "-o", target, folder / "empty.cpp", *others], check=True)
    return target.read_bytes()
