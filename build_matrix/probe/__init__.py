"""What is on this machine? Reads only; a driver that hangs or crashes takes a child process with it, not the tool."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from build_matrix.errors import MissingPrerequisiteError
from build_matrix.model import Machine, Platform
from build_matrix.probe.compilers import find_compilers, search_compilers
from build_matrix.probe.installed import examine_environment
from build_matrix.probe.nvidia import probe_nvidia
from build_matrix.probe.overrides import apply_overrides
from build_matrix.probe.surroundings import find_surroundings
from build_matrix.probe.toolkits import find_toolkits

__all__ = ["apply_overrides", "examine_environment", "find_compilers", "probe", "this_platform"]


CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def this_platform() -> Platform:
    """The platform of this machine; raises MissingPrerequisiteError for one that is not supported."""
    if platform.machine().lower() in {"x86_64", "amd64"}:
        if sys.platform == "linux":
            return "linux-x86_64"
        if sys.platform == "win32":
            return "windows-x86_64"
    raise MissingPrerequisiteError(
        f"Building on {sys.platform} {platform.machine()} is not supported.", "Use Linux x86-64 with glibc."
    )


def probe(store: Path, environ: Mapping[str, str] | None = None) -> Machine:
    """Everything that the later stages need to know of this machine; ``store`` is where room is needed.

    Raises MissingPrerequisiteError, ConfigurationError for overrides that make no sense.
    """
    environ = os.environ if environ is None else environ
    with ThreadPoolExecutor() as pool:
        nvidia = pool.submit(probe_nvidia, environ)
        toolkits = pool.submit(find_toolkits, environ)
        compilers = pool.submit(search_compilers, environ)
        answer, search = nvidia.result(), compilers.result()
        machine = Machine(
            platform=this_platform(),
            python=platform.python_version(),
            libc=" ".join(platform.libc_ver()),
            cpus=_cpus(),
            memory=psutil.virtual_memory().total,
            memory_free=free_memory(),
            disk_free=_room(store),
            compilers=search.compilers,
            compiler_problems=search.problems,
            compiler_notes=search.notes,
            driver=answer.driver,
            driver_problem=answer.problem,
            gpus=answer.gpus,
            gpu_problems=answer.gpu_problems,
            toolkits=toolkits.result(),
            surroundings=find_surroundings(environ),
            evidence=answer.evidence,
        )
    return apply_overrides(machine, environ)


def free_memory(limit: Path = CGROUP_LIMIT) -> int:
    """Bytes that new processes can take: what is available, in a container no more than its limit (cgroup v2)."""
    available: int = psutil.virtual_memory().available
    try:
        return min(available, int(limit.read_text()))
    except (OSError, ValueError):  # no control groups, or "max"
        return available


def _cpus() -> int:
    """CPUs that this process may use."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


def _room(folder: Path) -> int:
    """Free bytes on the disk that holds ``folder``, which need not exist yet."""
    existing = next((place for place in (folder, *folder.parents) if place.exists()), Path.cwd())
    return shutil.disk_usage(existing).free
