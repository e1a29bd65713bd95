"""What lies beside a wheel: the record of its build (``<wheel>.json``) and its verdict (``<wheel>.verdict.json``)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from build_matrix.model import Verdict, WheelRecord

UNREADABLE = (OSError, msgspec.DecodeError)


def record_path(wheel: Path) -> Path:
    """Where a wheel's record lies."""
    return wheel.with_name(wheel.name + ".json")


def verdict_path(wheel: Path) -> Path:
    """Where a wheel's verdict lies."""
    return wheel.with_name(wheel.name + ".verdict.json")


def load_record(wheel: Path) -> WheelRecord:
    """The record beside a wheel, whatever file it is of; raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(record_path(wheel).read_bytes(), type=WheelRecord)


def load_verdict(wheel: Path) -> Verdict:
    """The verdict beside a wheel, whatever file it is of; raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode(verdict_path(wheel).read_bytes(), type=Verdict)
