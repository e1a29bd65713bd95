"""Where is a complete CUDA compiler, with CMake, Ninja and an old glibc? Assembles them in the store."""

from build_matrix.provision.environment import provision_environment
from build_matrix.provision.installed import read_installed
from build_matrix.provision.sysroot import provision_sysroot
from build_matrix.provision.toolkit import (
    fetch_toolkit,
    provision_toolkit,
    resolve_toolkit,
    self_test,
    take_installed,
)

__all__ = [
    "fetch_toolkit",
    "provision_environment",
    "provision_sysroot",
    "provision_toolkit",
    "read_installed",
    "resolve_toolkit",
    "self_test",
    "take_installed",
]
