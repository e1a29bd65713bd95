"""A claimed driver and claimed GPUs, for CI and for building for another machine; recorded as claims."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from build_matrix.errors import ConfigurationError
from build_matrix.model import CLAIMED, NO_DRIVER, Driver, Gpu, Machine

DRIVER_CUDA = "BUILD_MATRIX_DRIVER_CUDA"
COMPUTE_CAPABILITIES = "BUILD_MATRIX_COMPUTE_CAPABILITIES"

_CUDA = re.compile(r"[1-9]\d?\.(?:\d|[1-9]\d)", re.ASCII)
_CAPABILITY = re.compile(r"(?P<major>[1-9]\d?)\.(?P<minor>\d)|(?:sm_?)?(?P<number>[1-9]\d{1,2})", re.ASCII)


def apply_overrides(machine: Machine, environ: Mapping[str, str]) -> Machine:
    """``machine`` with the CUDA version of the driver and the GPUs that the environment claims.

    ``BUILD_MATRIX_DRIVER_CUDA=12.9`` (``none``: no driver), ``BUILD_MATRIX_COMPUTE_CAPABILITIES=8.9,7.5``.
    Raises ConfigurationError for values that are not such.
    """
    claimed = {
        name: environ[name].strip() for name in (DRIVER_CUDA, COMPUTE_CAPABILITIES) if environ.get(name, "").strip()
    }
    if not claimed:
        return machine
    if cuda := claimed.get(DRIVER_CUDA):
        machine = _with_driver(machine, cuda)
    if capabilities := claimed.get(COMPUTE_CAPABILITIES):
        gpus = tuple(_gpu(number, capability.strip()) for number, capability in enumerate(capabilities.split(",")))
        machine = msgspec.structs.replace(machine, gpus=gpus)
    return msgspec.structs.replace(machine, overrides=claimed)


def _with_driver(machine: Machine, cuda: str) -> Machine:
    if cuda.lower() == "none":
        return msgspec.structs.replace(machine, driver=None, driver_problem=NO_DRIVER, gpus=())
    if not _CUDA.fullmatch(cuda):
        raise ConfigurationError(
            f"{DRIVER_CUDA}={cuda} (--driver-cuda) is not a CUDA version.", "Write a version such as 12.9, or none."
        )
    driver = Driver(version=CLAIMED, cuda=cuda)
    return msgspec.structs.replace(machine, driver=driver, driver_problem="")


def _gpu(number: int, capability: str) -> Gpu:
    match = _CAPABILITY.fullmatch(capability)
    if not match:
        raise ConfigurationError(
            f"{COMPUTE_CAPABILITIES}: {capability!r} is not a compute capability.",
            "Write compute capabilities such as 8.9,12.0.",
        )
    major, minor = (match["number"][:-1], match["number"][-1]) if match["number"] else (match["major"], match["minor"])
    return Gpu(name="claimed GPU", uuid=f"{CLAIMED}-{number}", compute_capability=f"{major}.{minor}")
