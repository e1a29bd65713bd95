"""``verify``: whether wheels are what they say, and whether they offload."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from build_matrix.cli.common import (
    WHEELS,
    RequireGpuOption,
    StoreOption,
    WheelsOption,
    failed,
    open_store,
    print_verdicts,
)
from build_matrix.errors import ConfigurationError, VerificationError
from build_matrix.index import Downloads
from build_matrix.model import Verdict
from build_matrix.probe import probe
from build_matrix.report import make_reporter
from build_matrix.verify import verify_wheel


def command(
    wheels: Annotated[
        list[Path] | None, typer.Argument(help="Wheels to verify.", show_default="all in wheels/")
    ] = None,
    folder: WheelsOption = WHEELS,
    require_gpu: RequireGpuOption = False,  # noqa: FBT002 - typer's way
    store_folder: StoreOption = None,
) -> None:
    """Check wheels against their labels, install each in a fresh environment and run it."""
    reporter = make_reporter()
    store = open_store(store_folder, reporter)
    chosen = wheels or sorted(folder.glob("*.whl"))
    if not chosen:
        raise ConfigurationError(f"There is no wheel in {folder}.", "Build one: `nox -s build-cuda13`.")
    downloads = Downloads(store, reporter)
    machine = probe()
    verdicts = [verify_wheel(wheel, machine, store, downloads, reporter) for wheel in chosen]
    print_verdicts(verdicts)
    raise_for(verdicts, require_gpu=require_gpu)


def raise_for(verdicts: list[Verdict], *, require_gpu: bool) -> None:
    """Raise VerificationError when a verdict is not good enough."""
    bad = failed(verdicts, require_gpu=require_gpu)
    if not bad:
        return
    first = bad[0]
    problems = [f"{check.name}: {check.detail}" for check in first.checks if not check.passed]
    raise VerificationError(
        f"{first.filename} is not verified: {'; '.join(problems) or f'offload is {first.offload} ({first.reason})'}.",
        "The verdict beside the wheel holds every check."
        if problems
        else "Run it on a machine with an NVIDIA GPU and a driver, or leave out --require-gpu.",
    )
