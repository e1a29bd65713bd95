"""Asks the driver library by itself, in a process of its own; prints JSON objects, one fact a line.

Only the standard library is used. cuDriverGetVersion needs no device; cuInit tells whether the kernel module answers.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
NAME_BYTES = 256


def tell(**facts: object) -> None:
    """Print facts at once, so that a crash loses nothing that came before it."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    """CUDA version, what cuInit answers, GPUs."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        tell(missing=True)
        return
    number = ctypes.c_int()
    code = library.cuDriverGetVersion(ctypes.byref(number))
    if code:
        tell(problem=f"the driver library does not say its version (error {code})")
        return
    tell(cuda=f"{number.value // 1000}.{number.value % 1000 // 10}")
    code = library.cuInit(0)
    tell(init_error=code)
    if code == 0:
        tell(gpus=devices(library))


def devices(library: ctypes.CDLL) -> list[dict[str, object]]:
    """Names and compute capabilities of the GPUs that CUDA sees, for when NVML is not there."""
    count = ctypes.c_int()
    if library.cuDeviceGetCount(ctypes.byref(count)):
        return []
    found: list[dict[str, object]] = []
    for index in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        name = ctypes.create_string_buffer(NAME_BYTES)
        codes = [
            library.cuDeviceGet(ctypes.byref(device), index),
            library.cuDeviceGetName(name, NAME_BYTES, device),
            library.cuDeviceGetAttribute(ctypes.byref(major), MAJOR, device),
            library.cuDeviceGetAttribute(ctypes.byref(minor), MINOR, device),
        ]
        if not any(codes):
            text = name.value.decode("utf-8", "replace")
            found.append({"name": text, "uuid": "", "compute_capability": f"{major.value}.{minor.value}"})
    return found


if __name__ == "__main__":
    main()
