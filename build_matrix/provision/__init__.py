"""Where are a complete CUDA compiler, CMake, Ninja, an old glibc? In the store, assembled from verified files."""

from build_matrix.downloads.origins import read_installed
from build_matrix.provision.environment import provision_environment
from build_matrix.provision.small_kernel import self_test
from build_matrix.provision.sysroot import provision_sysroot
from build_matrix.provision.toolkit import (
    fetch_toolkit,
    provision_toolkit,
    resolve_toolkit,
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
