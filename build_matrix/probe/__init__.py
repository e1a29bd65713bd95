"""What is on this machine? Reads only; a driver that hangs or crashes takes a child process with it, not the tool."""

from __future__ import annotations

import platform
import sys

import psutil

from build_matrix.errors import MissingPrerequisiteError
from build_matrix.model import Machine, Platform
from build_matrix.probe.compilers import find_compilers
from build_matrix.probe.nvidia import probe_nvidia

__all__ = ["find_compilers", "probe", "probe_nvidia", "this_platform"]


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


def probe() -> Machine:
    """Everything that the later stages need to know of this machine; raises MissingPrerequisiteError."""
    driver, gpus, problem = probe_nvidia()
    return Machine(
        platform=this_platform(),
        python=platform.python_version(),
        libc=" ".join(platform.libc_ver()),
        cpus=len(
            psutil.Process().cpu_affinity()
            if hasattr(psutil.Process, "cpu_affinity")
            else range(psutil.cpu_count() or 1)
        ),
        memory=psutil.virtual_memory().total,
        compilers=find_compilers(),
        driver=driver,
        driver_problem=problem,
        gpus=gpus,
    )
