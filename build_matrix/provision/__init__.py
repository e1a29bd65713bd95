"""Where is a complete CUDA compiler, and where are CMake and Ninja? In the store, assembled from the package index."""

from build_matrix.provision.environment import provision_environment
from build_matrix.provision.toolkit import provision_toolkit, self_test

__all__ = ["provision_environment", "provision_toolkit", "self_test"]
