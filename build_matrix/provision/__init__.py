"""Where are a complete CUDA compiler, CMake, Ninja, an old glibc? In the store, assembled from the package index."""

from build_matrix.provision.environment import provision_environment
from build_matrix.provision.sysroot import provision_sysroot
from build_matrix.provision.toolkit import provision_toolkit, self_test

__all__ = ["provision_environment", "provision_sysroot", "provision_toolkit", "self_test"]
