"""What is on this machine? Reads only; a driver that hangs or crashes ends a child process, not the tool."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil

from build_matrix.errors import BuildMatrixError
from build_matrix.model import COMPILERS, DriverEvidence, HostEnvironment, Machine
from build_matrix.platforms import platform_name
from build_matrix.probe.compilers import CompilerSearch, find_compilers, search_compilers
from build_matrix.probe.host_environment import find_host_environment
from build_matrix.probe.nvidia import NvidiaAnswer, probe_nvidia
from build_matrix.probe.overrides import apply_overrides
from build_matrix.probe.programs import named_program
from build_matrix.probe.toolkits import find_toolkits

__all__ = ["apply_overrides", "find_compilers", "named_program", "probe"]

T = TypeVar("T")
NOT_EXAMINED = "the driver cannot be examined"
UNEXAMINED = NvidiaAnswer(problem=NOT_EXAMINED, evidence=DriverEvidence(cuda_problem=NOT_EXAMINED))
NO_MEMORY_INFO = (OSError, psutil.Error, ValueError, KeyError)  # no /proc, or an odd one
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def probe(store: Path, environ: Mapping[str, str] | None = None) -> Machine:
    """Everything that the later stages need to know of this machine; ``store`` is where room is needed.

    A part that fails unexpectedly is named in ``problems``; the others are unaffected.
    A platform that is not supported is examined as well. Raises ConfigurationError for overrides that make no sense.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    with interruptible_threads() as pool:
        nvidia = pool.submit(probe_nvidia, environ)
        toolkits = pool.submit(find_toolkits, environ)
        compilers = pool.submit(search_compilers, environ)
        search = _part(problems, COMPILERS, compilers.result, CompilerSearch())
        answer = _part(problems, "the driver and the GPUs", nvidia.result, UNEXAMINED)
        machine = Machine(
            platform=platform_name(),
            python=platform.python_version(),
            libc=_part(problems, "the C library", lambda: " ".join(platform.libc_ver()), " "),
            cpus=_cpus(),
            memory=_memory(),
            memory_free=free_memory(),
            disk_free=_room(store),
            compilers=search.compilers,
            compiler_problems=search.problems,
            compiler_notes=search.notes,
            driver=answer.driver,
            driver_problem=answer.problem,
            gpus=answer.gpus,
            gpu_problems=answer.gpu_problems,
            evidence=answer.evidence,
            toolkits=_part(problems, "the installed toolkits", toolkits.result, ()),
            environment=_part(problems, "the surroundings", lambda: find_host_environment(environ), HostEnvironment()),
        )
    return apply_overrides(msgspec.structs.replace(machine, problems=tuple(problems)), environ)


def _part(problems: list[str], title: str, ask: Callable[[], T], otherwise: T) -> T:
    """The answer, or ``otherwise`` with a line in ``problems`` that says why there is none."""
    try:
        return ask()
    except BuildMatrixError:
        raise
    except Exception as error:  # noqa: BLE001 - an unexpected failure is data here: doctor must show the rest
        problems.append(f"{title} ({f'{type(error).__name__}: {error}'.rstrip(': ')})")
        return otherwise


@contextlib.contextmanager
def interruptible_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads whose programs (see runner) end with an interruption, so that it does not wait for their time limits."""
    pool = ThreadPoolExecutor()
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _memory() -> int:
    """Bytes of memory; 0 where the system does not say."""
    try:
        return int(psutil.virtual_memory().total)
    except NO_MEMORY_INFO:
        return _installed_memory()


def free_memory(*limits: Path) -> int:
    """Bytes that new processes can take: what is available, in a container no more than its limit (0: unknown).

    ``limits`` are the files that hold such limits, those of this process's control groups when none is given.
    """
    try:
        available = int(psutil.virtual_memory().available)
    except NO_MEMORY_INFO:
        available = _installed_memory()
    bounds = [bound for path in limits or _limits() if (bound := _limit(path))]
    return min([available, *bounds])


def _limits() -> Iterator[Path]:
    """Memory limits of control groups: of version 2, this process's own and those above it; of version 1.

    https://docs.kernel.org/admin-guide/cgroup-v2.html, "Memory Interface Files"
    """
    yield CGROUPS / "memory.max"
    yield CGROUPS / "memory" / "memory.limit_in_bytes"
    try:
        lines = OWN_CGROUP.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, group = line.partition("::")
        folder = Path(group.lstrip("/"))
        for part in (folder, *folder.parents)[:-1] if group else ():
            if ".." not in part.parts:
                yield CGROUPS / part / "memory.max"


def _limit(path: Path) -> int:
    """The limit in a file, 0 for none: it is missing, says "max", or holds no sensible number."""
    try:
        return max(0, int(path.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return 0


def _installed_memory() -> int:
    """Bytes of memory by sysconf, which needs no /proc; 0 where the system does not say."""
    try:
        return max(0, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return 0


def _cpus() -> int:
    """CPUs that this process may use, one at least."""
    with contextlib.suppress(AttributeError, OSError):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _room(folder: Path) -> int:
    """Free bytes on the disk that holds ``folder``, which need not exist yet; 0 when it is not known."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError, ValueError):
            return shutil.disk_usage(place).free
    return 0
