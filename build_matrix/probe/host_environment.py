"""What else decides whether CUDA works here: hidden GPUs, WSL, containers, forward-compatibility libraries."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from build_matrix.model import HostEnvironment
from build_matrix.probe.evidence import DRIVER_LIBRARY, as_text, exists, read_text

# What other builds of llama-cpp-python read, and a build of this tool does not: it has an environment of its own.
IGNORED = (
    "CC",
    "CMAKE_ARGS",
    "CMAKE_GENERATOR",
    "CMAKE_BUILD_TYPE",
    "CMAKE_BUILD_PARALLEL_LEVEL",
    "CMAKE_CUDA_ARCHITECTURES",
    "CMAKE_PREFIX_PATH",
    "CMAKE_TOOLCHAIN_FILE",
    "CUDAARCHS",
    "CUDAFLAGS",
    "CUDAHOSTCXX",
    "NVCC_APPEND_FLAGS",
    "NVCC_PREPEND_FLAGS",
    "NVCC_CCBIN",
    "TORCH_CUDA_ARCH_LIST",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "LIBRARY_PATH",
    "FORCE_CMAKE",
    "LD_PRELOAD",
)
HOSTED_NOTEBOOKS = {"COLAB_RELEASE_TAG": "colab", "KAGGLE_KERNEL_RUN_TYPE": "kaggle"}  # set in each of their kernels
WSL_1 = re.compile(r"Linux version \S+-Microsoft\b")  # WSL 2 has a Linux kernel: -microsoft-standard
IGNORED_PREFIXES = ("GGML_", "LLAMA_", "SKBUILD_", "CMAKE_CUDA_", "CMAKE_CXX_", "CMAKE_C_")


def find_host_environment(environ: Mapping[str, str], root: Path = Path("/")) -> HostEnvironment:
    """Read from the environment and, below ``root``, from /proc and /run."""
    environ = {as_text(name): as_text(value) for name, value in environ.items()}
    kernel = read_text(root / "proc/version")
    return HostEnvironment(
        visible_devices=environ.get("CUDA_VISIBLE_DEVICES"),
        device_order=environ.get("CUDA_DEVICE_ORDER", ""),
        wsl="microsoft" in kernel.lower(),
        wsl_1=bool(WSL_1.match(kernel)),
        container=_container(environ, root),
        container_devices=environ.get("NVIDIA_VISIBLE_DEVICES"),
        container_capabilities=environ.get("NVIDIA_DRIVER_CAPABILITIES"),
        compat_folders=_compat_folders(environ),
        ignored=_ignored(environ),
    )


def _container(environ: Mapping[str, str], root: Path) -> str:
    """What hints at a container or a sandbox; an empty text for nothing."""
    return next(_marks(environ, root), "")


def _marks(environ: Mapping[str, str], root: Path) -> Iterator[str]:
    """The most specific first: images made of other containers keep marks such as /.dockerenv."""
    if exists(root / ".flatpak-info"):
        yield "flatpak"
    if {"SNAP", "SNAP_NAME"} <= environ.keys() and not _is_classic_snap(root):
        yield "snap"
    yield from (name for variable, name in HOSTED_NOTEBOOKS.items() if variable in environ)
    yield from filter(None, _named_by_manager(environ, root))
    control_group = read_text(root / "proc/1/cgroup")
    engines = [engine for engine in ("docker", "containerd", "kubepods", "libpod") if engine in control_group]
    if "lxc" in control_group and not engines:
        yield "lxc"
    for path, name in ((".dockerenv", "docker"), ("run/.containerenv", "podman"), (".singularity.d", "apptainer")):
        if exists(root / path):
            yield name
    if "KUBERNETES_SERVICE_HOST" in environ:
        yield "kubernetes"
    yield from engines
    if "NVIDIA_VISIBLE_DEVICES" in environ:  # NVIDIA's images set it
        yield "by its variables"


def _named_by_manager(environ: Mapping[str, str], root: Path) -> Iterator[str]:
    """The variable ``container``, which a manager gives to the first process, and systemd's copy of its value.

    https://systemd.io/CONTAINER_INTERFACE/
    """
    first = dict(entry.partition("=")[::2] for entry in read_text(root / "proc/1/environ").split("\0"))
    yield first.get("container", "")
    yield environ.get("container", "")
    yield read_text(root / "run/systemd/container").strip()


def _is_classic_snap(root: Path) -> bool:
    """Whether AppArmor only watches this process: a classic snap, such as an editor whose terminal this is."""
    label = read_text(root / "proc/self/attr/current")
    return label.startswith("snap.") and "(complain)" in label


def _compat_folders(environ: Mapping[str, str]) -> tuple[str, ...]:
    """cuda-compat folders on the loader path: their libcuda answers instead of the driver's.

    https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html
    """
    folders = [folder for folder in environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if "compat" in folder]
    return tuple(folder for folder in folders if exists(Path(folder) / DRIVER_LIBRARY))


def _ignored(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Names alone: values may hold secrets."""
    return tuple(
        sorted(
            name
            for name, value in environ.items()
            if value.strip() and (name in IGNORED or name.startswith(IGNORED_PREFIXES))
        )
    )
