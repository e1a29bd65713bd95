"""Which ``--define`` options was a wheel built with? Its record says so, if it is the record of this very file."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from build_matrix.model import WheelRecord, digest_of, file_sha256
from build_matrix.wheelfile.archive import record_path

# Options with which no rule keeps a wheel from running: for one whose own are not known.
MAY_RUN = {"GGML_CUDA_COMPRESSION_MODE": "none"}

_DEFINES = re.compile(r"[.+]d(?P<digest>[0-9a-f]{8})(?=[.-])")  # in a label, as build_matrix.model.Cell writes it


def recorded_defines(wheel: Path) -> dict[str, str] | None:
    """The options, none for a wheel whose name counts none; None where it counts some that no record names.

    A record is believed when its sha256 is the wheel's, and its options are those that the wheel's name is a digest of.
    """
    match = _DEFINES.search(wheel.name)
    if not match:
        return {}
    try:
        record = msgspec.json.decode(record_path(wheel).read_bytes(), type=WheelRecord)
        if record.sha256 == file_sha256(wheel) and digest_of(record.cell.defines)[:8] == match["digest"]:
            return record.cell.defines
    except (OSError, msgspec.DecodeError):
        pass
    return None
