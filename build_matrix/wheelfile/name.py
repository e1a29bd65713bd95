"""What does the file name of a wheel say? Project, version with its label, and tags, taken apart once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from build_matrix.errors import VerificationError
from build_matrix.model import Label, parse_label

if TYPE_CHECKING:
    from packaging.tags import Tag
    from packaging.version import Version

PROJECT = "llama-cpp-python"


class WheelName(NamedTuple):
    """The name of a wheel (https://packaging.python.org/en/latest/specifications/binary-distribution-format/).

    ``project`` is canonical, ``label`` what the local version claims of CUDA, if anything.
    """

    project: str
    version: Version
    tags: frozenset[Tag]
    label: Label | None

    @property
    def platforms(self) -> frozenset[str]:
        """The platform tags."""
        return frozenset(tag.platform for tag in self.tags)


def parse_wheel_name(filename: str) -> WheelName:
    """The parts of a file name; raises VerificationError for one that no wheel may have."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        project, version, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise VerificationError(f"{error}.", "Give the file its own name again.") from error
    label = parse_label(version.local) if version.local else None
    return WheelName(project=project, version=version, tags=tags, label=label)
