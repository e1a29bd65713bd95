"""Runs in the environment that is examined: which llama_cpp would be imported, and what it says then.

Only the standard library is used. Each fact is one line of JSON behind ``PREFIX``.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import sys
from pathlib import Path

PREFIX = "build-matrix-installed "
SYSTEM = (
    "libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libgcc_s.so.1", "libstdc++.so.6",
    "libgomp.so.1", "ld-linux-x86-64.so.2", "libcuda.so.1", "libcudart.so.11.0", "libcudart.so.12", "libcudart.so.13",
    "libcublas.so.11", "libcublas.so.12", "libcublas.so.13",
)  # fmt: skip


def tell(**facts: object) -> None:
    """Report facts at once, on a line of their own."""
    sys.stdout.write("\n" + PREFIX + json.dumps(facts) + "\n")
    sys.stdout.flush()


def loads(name: str) -> bool:
    """Whether the system's loader finds a library by itself."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def main() -> None:
    """Folders of llama_cpp on the path (the first one wins), version, system libraries; then the import."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    folders = [Path(entry) / "llama_cpp" for entry in sys.path]
    tell(found=[str(folder) for folder in folders if (folder / "__init__.py").is_file()])
    try:
        tell(version=importlib.metadata.version("llama-cpp-python"))
    except importlib.metadata.PackageNotFoundError:
        tell(version="")
    tell(system=[name for name in SYSTEM if loads(name)])
    try:
        import llama_cpp

        tell(imported=True)
        tell(offload=bool(llama_cpp.llama_supports_gpu_offload()))
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        tell(failure=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
