"""The compile cache: objects that were compiled before are not compiled again, and are the same bytes.

ccache keeps whole objects and finds one in milliseconds; it stands in front. sccache takes nvcc apart and keeps the
machine code of each architecture by itself; behind ccache it serves the cells that have several, so that one which
shares an architecture with another is spared that part (``patches/0009`` keeps the list of architectures out of what
is compiled for one). Neither asks anything of a compiler's dates: what identifies it is the digest of the host
compiler and the sysroot, and for CUDA sources the toolkit's too. So what a CUDA version has no part in is compiled
once for all of them. ccache reads the headers' names from what the compiler writes (``depend_mode``), so that a miss
costs no run of the preprocessor. See ccache(1) and sccache's docs/.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from build_matrix.compile.remote import Remote
from build_matrix.compile.sccache_server import SOCKET, with_server
from build_matrix.model import BuildInputs, CacheProgram, CompileCache, digest_of
from build_matrix.process.nvcc_launcher import BEHIND, CACHE, IDENTITY

SIZE = "10G"  # for each program; a cell of three architectures leaves 0.2 GB
COMPILER_LAUNCHERS = ("CMAKE_C_COMPILER_LAUNCHER", "CMAKE_CXX_COMPILER_LAUNCHER")
STATISTICS = "cache.log"  # in the work folder: by ccache
SCCACHE_STATISTICS = "sccache.json"  # in the work folder
SOCKET_NAME = "sccache.socket"
SOCKET_LENGTH = 107  # bytes of a Unix socket's path at most: unix(7)

_HITS = ("direct_cache_hit", "preprocessed_cache_hit")
_MISS = "cache_miss"
_PROBE = "/CMakeFiles/CMakeScratch/"  # a folder with a random name below it
_PARTS = ("PTX", "CUBIN")  # sccache's names of what cicc and ptxas make, for one architecture each
_WHOLE = ("C/C++", "CUDA")


class CacheUse(NamedTuple):
    """How many compilations a build found in the cache, and how many it had to do.

    ``parts`` are the compilations for one architecture (cicc, ptxas) that those consist of which it had to do.
    """

    hits: int = 0
    misses: int = 0
    part_hits: int = 0
    part_misses: int = 0

    def __bool__(self) -> bool:
        return any(self)

    def __str__(self) -> str:
        text = f"{self.hits} of {self.hits + self.misses} compilations were cached"
        if self.part_hits + self.part_misses:
            text += f", and {self.part_hits} of {self.part_hits + self.part_misses} parts of the others"
        return text


class CacheChoice(NamedTuple):
    """The programs of one build: ccache in front, sccache behind it, or one of them alone.

    ``notes`` says what was wanted and is not used. ``behind_all``: sccache serves C and C++ too, not only CUDA.
    """

    ccache: Path | None = None
    sccache: Path | None = None
    behind_all: bool = False
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Path | None:
        """The program that the compilers are started by."""
        return self.ccache or self.sccache


def cache_program(name: CacheProgram) -> Path | None:
    """The program of this tool's own environment; None where its package has none for the platform."""
    program = shutil.which(name, path=str(Path(sys.executable).parent))
    return Path(program) if program else None


def choose_cache(
    cache: CompileCache, remote: Remote | None, inputs: BuildInputs, why_unfit: Callable[[CacheProgram, Path], str]
) -> CacheChoice:
    """Which of the programs this build uses; ``why_unfit`` tries one out (build_matrix.compile.cache_probe)."""
    notes: list[str] = []

    def usable(name: CacheProgram) -> Path | None:
        program = cache_program(name)
        why = why_unfit(name, program) if program else "its package has no executable for this platform"
        if why:
            notes.append(f"without {name}: {why}")
        return None if why else program

    ccache = usable("ccache") if "ccache" in cache.programs else None
    shared = bool(remote and remote.program == "sccache")
    use_sccache = "sccache" in cache.programs and (shared or not ccache or len(inputs.cell.architectures) > 1)
    sccache = usable("sccache") if use_sccache else None
    if remote and not (sccache if shared else ccache):
        notes.append(f"without the remote cache: it needs {remote.program}")
    return CacheChoice(ccache, sccache, behind_all=shared, notes=tuple(notes))


def cache_environment(
    choice: CacheChoice, cache: CompileCache | None, remote: Remote | None, inputs: BuildInputs, work: Path
) -> dict[str, str]:
    """The variables that make CMake and the compilers' launcher use the cache; ``work`` is where it counts."""
    variables = (
        {} if choice.ccache else {"CCACHE_DISABLE": "1"}
    )  # an interrupted build may have been configured with it
    if not cache or not choice.first:
        return variables
    host = digest_of(inputs.compiler.identity, inputs.sysroot.digest)
    variables |= {
        CACHE: str(choice.first),
        IDENTITY: digest_of(host, inputs.toolchain.digest),
        **dict.fromkeys(COMPILER_LAUNCHERS, str(choice.first)),
    }
    if choice.ccache:
        variables |= {
            "CCACHE_DIR": str(cache.folder),
            "CCACHE_CONFIGPATH": str(cache.folder / "ccache.conf"),
            "CCACHE_MAXSIZE": SIZE,
            "CCACHE_COMPILERCHECK": f"string:{host}",
            "CCACHE_DEPEND": "1",
            "CCACHE_STATSLOG": str(work / STATISTICS),
        }
    if choice.sccache:
        variables |= {
            SOCKET: str(work / SOCKET_NAME),
            "SCCACHE_DIR": str(cache.folder / "sccache"),
            "SCCACHE_CACHE_SIZE": SIZE,
            "SCCACHE_CONF": str(cache.folder / "sccache.conf"),
            "SCCACHE_C_CUSTOM_CACHE_BUSTER": host,
        }
    if choice.ccache and choice.sccache:
        variables[BEHIND] = str(choice.sccache)
        if choice.behind_all:
            variables["CCACHE_PREFIX"] = str(choice.sccache)
    if remote and (choice.sccache if remote.program == "sccache" else choice.ccache):
        variables |= remote.variables | {"no_proxy": remote.host}  # a compilation's proxies lead nowhere
    return variables


def server(choice: CacheChoice, inputs: BuildInputs, work: Path) -> list[str]:
    """The arguments before a build's own that run it beside sccache's server; none without sccache."""
    if not choice.sccache:
        return []
    return with_server(inputs.environment.python, choice.sccache, work / SCCACHE_STATISTICS)


def cache_use(work: Path) -> CacheUse:
    """What the programs counted in ``work``; what CMake compiles to try the compilers does not count with ccache."""
    counted = _sccache_counts(work / SCCACHE_STATISTICS)
    parts = (_sum(counted, "cache_hits", _PARTS), _sum(counted, "cache_misses", _PARTS))
    log = work / STATISTICS
    if not log.is_file():
        return CacheUse(_sum(counted, "cache_hits", _WHOLE), _sum(counted, "cache_misses", _WHOLE), *parts)
    events: Counter[str] = Counter()
    probe = False
    for line in log.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            probe = _PROBE in line
        elif not probe:
            events[line] += 1
    return CacheUse(sum(events[name] for name in _HITS), events[_MISS], *parts)


def _sccache_counts(path: Path) -> dict[str, dict[str, int]]:
    """Of ``sccache --show-stats --stats-format=json``: hits and misses, by kind."""
    try:
        stats = msgspec.json.decode(path.read_bytes())["stats"]
        return {name: stats[name]["counts"] for name in ("cache_hits", "cache_misses")}
    except (OSError, msgspec.DecodeError, KeyError):
        return {}


def _sum(counted: dict[str, dict[str, int]], name: str, kinds: tuple[str, ...]) -> int:
    return sum(counted.get(name, {}).get(kind, 0) for kind in kinds)
