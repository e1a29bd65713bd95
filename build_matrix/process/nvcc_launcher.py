"""Runs nvcc so that its output depends on the source alone, not on where and when it runs.

CMake starts this file for each CUDA source (CMAKE_CUDA_COMPILER_LAUNCHER); it needs nothing but Python itself.

nvcc puts three things of its surroundings into an object: its process id (in the names of its temporary files), a
checksum of the source's real path (in the names of what is local to the file), and ``__FILE__``. The last is the
prefix maps' work. Against the others: ``-objtemp`` names temporary files after the object (sccache, which takes nvcc
apart, names them after the source, and knows no such option; of these names none is left in a wheel's library),
``--orig_src_path_name`` (undocumented: an option of cudafe++ and cicc, which nvcc sets itself) is given another path,
and ``--frandom-seed`` (since 12.9) replaces the process id. Measured for 12.4 and 13.0; provisioning tests each
toolkit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Environment variables: the program that caches what nvcc compiles, the one it asks for what it has not (sccache),
# and what both are to know nvcc by.
CACHE = "BUILD_MATRIX_COMPILE_CACHE"
BEHIND = "BUILD_MATRIX_COMPILE_CACHE_BEHIND"
IDENTITY = "BUILD_MATRIX_NVCC_IDENTITY"
SCCACHE = "sccache"
SEED = "--seed"
END = "--"


def launcher(python: str | Path, maps: Mapping[str, str], *, random_seed: bool) -> list[str]:
    """The arguments before a compiler's own; ``maps`` gives each folder its name, as in ``{"/x/src": "/src"}``."""
    argv = [str(python), "-I", "-S", __file__, *(f"{real}={name}" for real, name in maps.items())]
    return [*argv, *([SEED] if random_seed else []), END]


def additions(options: Sequence[str], argv: Sequence[str], *, decomposed: bool = False) -> list[str]:
    """What nvcc, or sccache in its place, gets beside ``argv``; nothing when they compile no source."""
    if "-c" not in argv[:-1]:
        return []
    source = str(Path(argv[argv.index("-c") + 1]).absolute())
    for option in options:
        real, equals, name = option.partition("=")
        if equals and source.startswith(f"{real}{os.sep}"):
            source = name + source[len(real) :].replace(os.sep, "/")
            break
    seed = [f"--frandom-seed={source}"] if SEED in options else []
    return [*([] if decomposed else ["-objtemp"]), *seed, f"-Xcudafe=--orig_src_path_name={source}"]


def main(argv: Sequence[str]) -> int:
    """Run the compiler in this process's place where the system can do that."""
    end = argv.index(END)
    command = list(argv[end + 1 :])
    programs = [program for program in map(os.environ.get, (CACHE, BEHIND)) if program]
    command += additions(argv[:end], command, decomposed=any(Path(program).stem == SCCACHE for program in programs))
    if programs:
        command.insert(0, programs[0])
        os.environ["CCACHE_COMPILERCHECK"] = f"string:{os.environ[IDENTITY]}"
        os.environ["SCCACHE_C_CUSTOM_CACHE_BUSTER"] = os.environ[IDENTITY]
    if len(programs) > 1:
        os.environ["CCACHE_PREFIX"] = programs[1]
    if os.name == "posix":
        os.execv(command[0], command)  # noqa: S606 - no shell is what is wanted
    return subprocess.call(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
