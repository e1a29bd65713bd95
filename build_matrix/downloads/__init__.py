"""Files by sha256, from wherever they are: which ones make a toolkit, the verified download, the install by uv."""

from build_matrix.downloads.client import Downloads
from build_matrix.downloads.index.configuration import IndexConfiguration, read_configuration
from build_matrix.downloads.install import create_environment, install_wheels, uv_environment
from build_matrix.downloads.origins import available_toolkits, ingredient_choices

__all__ = [
    "Downloads",
    "IndexConfiguration",
    "available_toolkits",
    "create_environment",
    "ingredient_choices",
    "install_wheels",
    "read_configuration",
    "uv_environment",
]
