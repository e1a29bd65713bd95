"""What does a wheel say of itself? Its ``.dist-info`` folder: METADATA, WHEEL and RECORD."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from build_matrix.model import Record
from build_matrix.wheelfile.archive import dist_info_folder, headers

_ROW = 3  # path, hash and size of a row of RECORD


class DistInfo(Record, frozen=True, kw_only=True):
    """The ``.dist-info`` folder of a wheel; a file that is missing says nothing.

    ``metadata`` and ``wheel`` are the header lines of METADATA and WHEEL, ``hashes`` those of RECORD by path.
    """

    folder: str
    metadata: tuple[tuple[str, str], ...]
    wheel: tuple[tuple[str, str], ...]
    hashes: dict[str, str]

    @property
    def names(self) -> frozenset[str]:
        """The canonical names of the project: the folder's, and that of METADATA."""
        from packaging.utils import canonicalize_name

        return frozenset(canonicalize_name(name) for name in (self._of_folder[0], self._value("Name")))

    @property
    def versions(self) -> frozenset[str]:
        """The versions as they are written: the folder's, and that of METADATA."""
        return frozenset((self._of_folder[1], self._value("Version")))

    @property
    def tags(self) -> frozenset[str]:
        """The tags of WHEEL."""
        return frozenset(value for name, value in self.wheel if name == "Tag")

    @property
    def requirements(self) -> frozenset[str]:
        """The canonical names of the projects that every installation needs: those of extras are left out."""
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        declared = [Requirement(value) for name, value in self.metadata if name == "Requires-Dist"]
        return frozenset(canonicalize_name(r.name) for r in declared if not (r.marker and "extra" in str(r.marker)))

    @property
    def _of_folder(self) -> tuple[str, str]:
        name, _, version = self.folder.removesuffix(".dist-info").partition("-")
        return name, version

    def _value(self, header: str) -> str:
        return dict(self.metadata).get(header, "")


def read_dist_info(members: Mapping[str, bytes]) -> DistInfo:
    """The one ``.dist-info`` folder among the files of a wheel; raises VerificationError."""
    folder = dist_info_folder(members)
    metadata, wheel, record = (
        members.get(f"{folder}/{name}", b"").decode("utf-8", "replace") for name in ("METADATA", "WHEEL", "RECORD")
    )
    rows = csv.reader(io.StringIO(record))
    return DistInfo(
        folder=folder,
        metadata=tuple(headers(metadata)),
        wheel=tuple(headers(wheel)),
        hashes={row[0]: row[1] for row in rows if len(row) == _ROW},
    )
