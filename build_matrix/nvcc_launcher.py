"""Runs nvcc so that its output depends on the source alone, not on where and when it runs.

CMake starts this file for each CUDA source (CMAKE_CUDA_COMPILER_LAUNCHER); it needs nothing but Python itself.

nvcc puts three things of its surroundings into an object: its process id (in the names of its temporary files), a
checksum of the source's real path (in the names of what is local to the file), and ``__FILE__``. The last is the
prefix maps' work. Against the others: ``-objtemp`` names temporary files after the object,
``--orig_src_path_name`` (undocumented: an option of cudafe++ and cicc, which nvcc sets itself) is told another path,
and ``--frandom-seed`` (since 12.9) replaces the process id. Measured for 12.4 and 13.0; provisioning tests each
toolkit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CACHE = "BUILD_MATRIX_COMPILE_CACHE"  # environment variable: the program that caches what nvcc compiles
IDENTITY = "BUILD_MATRIX_NVCC_IDENTITY"  # environment variable: what ccache is to know nvcc by
SEED = "--seed"
END = "--"


def launcher(python: str | Path, maps: Mapping[str, str], *, random_seed: bool) -> list[str]:
    """The words before a compiler's own: ``maps`` says by which name each folder goes, as in ``{"/x/src": "/src"}``."""
    words = [str(python), "-I", "-S", __file__, *(f"{real}={name}" for real, name in maps.items())]
    return [*words, *([SEED] if random_seed else []), END]


def additions(options: Sequence[str], words: Sequence[str]) -> list[str]:
    """What nvcc is told beside ``words``; nothing when they compile no source."""
    if "-c" not in words[:-1]:
        return []
    source = str(Path(words[words.index("-c") + 1]).absolute())
    for option in options:
        real, equals, name = option.partition("=")
        if equals and source.startswith(f"{real}{os.sep}"):
            source = name + source[len(real) :].replace(os.sep, "/")
            break
    seed = [f"--frandom-seed={source}"] if SEED in options else []
    return ["-objtemp", *seed, f"-Xcudafe=--orig_src_path_name={source}"]


def main(argv: Sequence[str]) -> int:
    """Run the compiler in this process's place where the system can do that."""
    end = argv.index(END)
    words = list(argv[end + 1 :])
    words += additions(argv[:end], words)
    if cache := os.environ.get(CACHE):
        words.insert(0, cache)
        os.environ["CCACHE_COMPILERCHECK"] = os.environ[IDENTITY]
    if os.name == "posix":
        os.execv(words[0], words)  # noqa: S606 - no shell is what is wanted
    return subprocess.call(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
