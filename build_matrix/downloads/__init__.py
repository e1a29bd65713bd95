"""The user's own package index: which one it is, where a locked file lies in it, the verified download, the install."""

from build_matrix.downloads.client import Downloads
from build_matrix.downloads.configuration import IndexConfiguration, read_configuration
from build_matrix.downloads.install import create_environment, install_wheels, uv_environment

__all__ = [
    "Downloads",
    "IndexConfiguration",
    "create_environment",
    "install_wheels",
    "read_configuration",
    "uv_environment",
]
