"""Which ``--define`` options was a wheel built with? Its record says so, if it is the record of this very file."""

from __future__ import annotations

import re

from build_matrix.model import digest_of
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.sidecar import UNREADABLE, load_record

# Options with which no rule keeps a wheel from running: for one whose own are not known.
MAY_RUN = {"GGML_CUDA_COMPRESSION_MODE": "none"}

_DEFINES = re.compile(r"[.+]d(?P<digest>[0-9a-f]{8})(?=[.-])")  # in a label, as build_matrix.model.Cell writes it


def recorded_defines(wheel: WheelFile) -> dict[str, str] | None:
    """The options, none for a wheel whose name counts none; None where it counts some that no record names.

    A record is believed when its sha256 is the wheel's, and its options are those that the wheel's name is a digest of.
    """
    match = _DEFINES.search(wheel.path.name)
    if not match:
        return {}
    try:
        record = load_record(wheel.path)
        if record.sha256 == wheel.sha256 and digest_of(record.cell.defines)[:8] == match["digest"]:
            return record.cell.defines
    except UNREADABLE:
        pass
    return None
