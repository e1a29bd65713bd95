"""Queries the driver library, in a process of its own; prints JSON objects, one fact a line.

Only the standard library is used. cuDriverGetVersion needs no device; cuInit shows whether the kernel module works.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import sys
from pathlib import Path

LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
NAME_BYTES = 256
UUID_BYTES = 16
UUID_GROUPS = (8, 4, 4, 4, 12)  # hexadecimal digits
OLDEST = 1000  # CUDA 1.0; cuDriverGetVersion counts in thousandths of a major
NEEDED = (
    "cuDriverGetVersion",
    "cuInit",
)
NAMELESS = "GPU without a name"
NODES = ("nvidiactl", "nvidia-uvm")
GPU_NODE = re.compile(r"nvidia\d+|dxg")  # dxg is that of WSL


def report(**facts: object) -> None:
    """Print facts at once, so that a crash loses nothing that came before it."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Which library is loaded, its CUDA version, the result of cuInit, the GPUs in CUDA's order."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        report(missing=True, library_error=str(error), nodes=nodes(Path("/dev")))
        return
    report(library=loaded_file(Path("/proc/self/maps")))
    if missing := [name for name in NEEDED if not hasattr(library, name)]:
        report(problem=f"the driver library lacks {missing[0]}, so it is not NVIDIA's, or is damaged")
        return
    number = ctypes.c_int()
    code = library.cuDriverGetVersion(ctypes.byref(number))
    if code:
        report(version_error=code)
    elif number.value >= OLDEST:
        report(cuda=f"{number.value // 1000}.{number.value % 1000 // 10}")
    else:
        report(version_odd=number.value)
    code = library.cuInit(0)
    report(init_error=code)
    gpus = [] if code else devices(library)
    report(gpus=gpus)
    if not gpus:
        report(nodes=nodes(Path("/dev")), address_space=address_space())


def address_space() -> int:
    """The limit of this process's virtual memory in bytes (ulimit -v); 0 for none."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if soft == resource.RLIM_INFINITY else soft


def loaded_file(maps: Path) -> str:
    """The file that is mapped as the driver library, links resolved; an empty text where the system does not say.

    In WSL two are: libcuda.so.1 and the one of Windows' driver that it loads.
    """
    try:
        lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    paths = (line[line.index("/") :] for line in lines if "/" in line)
    return next((path for path in paths if path.rpartition("/")[2].startswith("libcuda.so")), "")


def nodes(folder: Path) -> dict[str, str]:
    """The driver's device files: "ok", "missing", or the name of the error with which opening them fails.

    A file that is there with all permissions may still be refused, by the device cgroup of a container. Nothing where
    the system has no such folder, as Windows.
    """
    if not folder.is_dir():
        return {}
    try:
        gpus = sorted(path.name for path in folder.iterdir() if GPU_NODE.fullmatch(path.name))
    except OSError:
        gpus = []
    return {name: _opened(folder / name) for name in (*NODES, *gpus)}


def _opened(path: Path) -> str:
    try:
        os.close(os.open(path, os.O_RDWR))
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "error")
    return "ok"


def devices(library: ctypes.CDLL) -> list[dict[str, object]]:
    """The GPUs that CUDA shows this process, in its own order; memory in bytes."""
    count = ctypes.c_int()
    if library.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [facts for index in range(count.value) if (facts := _device(library, index))]


def _device(library: ctypes.CDLL, index: int) -> dict[str, object]:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(NAME_BYTES)
    codes = [
        library.cuDeviceGet(ctypes.byref(device), index),
        library.cuDeviceGetName(name, NAME_BYTES, device),
        library.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device),
        library.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device),
    ]
    if any(codes):
        return {}
    gpu, instance = _uuid(library, "cuDeviceGetUuid", device), _uuid(library, "cuDeviceGetUuid_v2", device)
    mig = bool(instance) and instance != gpu  # the second version gives the UUID of a MIG instance
    return {
        "name": name.value.decode("utf-8", "replace").strip() or NAMELESS,
        "uuid": f"MIG-{instance}" if mig else f"GPU-{gpu}" if gpu else "",
        "compute_capability": f"{major.value}.{minor.value}",
        "memory": _memory(library, device),
        "mig": mig,
    }


def _uuid(library: ctypes.CDLL, function: str, device: ctypes.c_int) -> str:
    """As nvidia-smi writes it, without its prefix; an empty text from a driver that does not have the function."""
    value = (ctypes.c_ubyte * UUID_BYTES)()
    get_uuid = getattr(library, function, None)
    if get_uuid is None or get_uuid(value, device):
        return ""
    digits, groups = bytes(value).hex(), []
    for length in UUID_GROUPS:
        groups.append(digits[:length])
        digits = digits[length:]
    return "-".join(groups)


def _memory(library: ctypes.CDLL, device: ctypes.c_int) -> int:
    total = ctypes.c_size_t()
    get_total = getattr(library, "cuDeviceTotalMem_v2", None)
    return 0 if get_total is None or get_total(ctypes.byref(total), device) else total.value


if __name__ == "__main__":
    main()
