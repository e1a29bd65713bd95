"""A wheel's record: whether it belongs to the wheel, and whether this checkout can build from it."""

from __future__ import annotations

from pathlib import Path

from build_matrix.errors import ConfigurationError, NoCompatibleChoiceError, NotReproducibleError
from build_matrix.model import AppliedPatch, WheelRecord
from build_matrix.platforms import find_platform
from build_matrix.wheelfile.file import WheelFile


def read_record(wheel: Path) -> WheelRecord:
    """The record beside ``wheel``; raises ConfigurationError when there is none or it is another file's."""
    if not wheel.is_file():
        raise ConfigurationError(f"There is no wheel {wheel}.", "Name a wheel that build-matrix built.")
    return WheelFile(wheel).read_record()


def require_platform(record: WheelRecord, name: str) -> None:
    """Check that wheels like the recorded one are built on platform ``name``; raises NoCompatibleChoiceError."""
    current, recorded = find_platform(name), find_platform(record.cell.platform)
    if current.name != recorded.name:
        raise NoCompatibleChoiceError(
            f"{record.filename} was built for {recorded.title}; this machine is {current.title}.",
            f"Reproduce it on {recorded.title}.",
        )


def require_same_recipe(
    record: WheelRecord, tool: str, patches: tuple[AppliedPatch, ...], flags: dict[str, str]
) -> None:
    """Check that this checkout would do what was done then; raises NotReproducibleError naming what differs.

    What was downloaded comes from the record; how it is put together is this tool: its patches and its flags.
    """
    remedy = f"Use the checkout that built it ({record.tool}; this is {tool}), with the same patches/."
    then, now = ({patch.sha256: patch.name for patch in side} for side in (record.patches, patches))
    if other := sorted({name for sha256, name in (then | now).items() if (sha256 in then) != (sha256 in now)}):
        raise NotReproducibleError(f"{record.filename} was built with different patches: {', '.join(other)}.", remedy)
    if other := sorted(
        name for name in flags.keys() | record.flags.keys() if flags.get(name) != record.flags.get(name)
    ):
        raise NotReproducibleError(f"{record.filename} was built with different flags: {', '.join(other)}.", remedy)
