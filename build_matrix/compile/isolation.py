"""Where a compilation runs: in a sandbox with its folders at fixed places, or without one and with real ones."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from build_matrix.model import BuildInputs
from build_matrix.process.sandbox import ROOT, sandbox

WORK, TOOLKIT, SYSROOT = (ROOT / name for name in ("work", "toolkit", "sysroot"))


class View(NamedTuple):
    """What the compilers see: ``inputs`` with its folders as they see them, the work folder, the argv to get there."""

    inputs: BuildInputs
    work: Path
    before: list[str]


def fixed_places(inputs: BuildInputs, work: Path, door: tuple[str, int] | None = None) -> View:
    """The same paths on every machine, so that nothing can depend on them, and compile caches fit everywhere.

    ``door`` is the one host and port that can be reached.
    """
    binds = {work: WORK, inputs.toolchain.root: TOOLKIT, inputs.sysroot.root: SYSROOT}
    visible = msgspec.structs.replace(
        inputs,
        toolchain=msgspec.structs.replace(inputs.toolchain, root=TOOLKIT),
        sysroot=msgspec.structs.replace(inputs.sysroot, root=SYSROOT),
    )
    return View(visible, WORK, sandbox(inputs.environment.python, binds, WORK / "src", door))


def real_places(inputs: BuildInputs, work: Path) -> View:
    """The paths as they are."""
    return View(inputs, work, [])
