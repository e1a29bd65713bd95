"""The context of a stage, with a machine that stands for this one where the stage asks nothing of it."""

from __future__ import annotations

from typing import Any

import msgspec

from build_matrix.context import Context
from build_matrix.model import Machine
from build_matrix.report import make_reporter
from build_matrix.store import Store

MACHINE = Machine(platform="linux-x86_64", python="3.11.7", libc="glibc 2.36", cpus=2, memory=8 << 30, compilers=())


def in_context(
    store: Store | None, *, downloads: Any = None, reporter: Any = None, machine: Machine = MACHINE, cpus: int = 0
) -> Context:
    """The context with these parts; nothing is downloaded without ``downloads``."""
    machine = msgspec.structs.replace(machine, cpus=cpus) if cpus else machine
    return Context(machine, store, downloads, reporter or make_reporter())  # type: ignore[arg-type]
