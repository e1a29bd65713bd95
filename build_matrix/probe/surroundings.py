"""What else decides whether CUDA works here: hidden GPUs, WSL, containers, forward-compatibility libraries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from build_matrix.model import Surroundings
from build_matrix.probe.devices import find_nvidia_devices

DRIVER_LIBRARY = "libcuda.so.1"


def find_surroundings(environ: Mapping[str, str]) -> Surroundings:
    """Read from the environment and from /proc and /run."""
    return Surroundings(
        visible_devices=environ.get("CUDA_VISIBLE_DEVICES"),
        wsl="microsoft" in _read("/proc/version").lower(),
        container=_container(environ),
        compat_folders=_compat_folders(environ),
        nvidia_devices=find_nvidia_devices(),
    )


def _container(environ: Mapping[str, str]) -> str:
    """What hints at a container; an empty text for nothing."""
    for path, name in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if Path(path).exists():
            return name
    for word in ("docker", "containerd", "kubepods", "lxc"):
        if word in _read("/proc/1/cgroup"):
            return word
    return environ.get("container", "")


def _compat_folders(environ: Mapping[str, str]) -> tuple[str, ...]:
    """cuda-compat folders on the loader path: their libcuda answers instead of the driver's.

    https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html
    """
    folders = [folder for folder in environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if "compat" in folder]
    return tuple(folder for folder in folders if (Path(folder) / DRIVER_LIBRARY).exists())


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
