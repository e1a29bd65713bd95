"""``verify``: whether wheels are what they say, and whether they offload."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from build_matrix.cli.options import WHEELS, RequireGpuOption, StoreOption, WheelsOption
from build_matrix.errors import ConfigurationError
from build_matrix.model import Machine


def command(
    wheels: Annotated[
        list[Path] | None, typer.Argument(help="Wheels to verify.", show_default="all in wheels/")
    ] = None,
    folder: WheelsOption = WHEELS,
    require_gpu: RequireGpuOption = False,  # noqa: FBT002 - typer's way
    store_folder: StoreOption = None,
) -> None:
    """Check wheels against their labels, install each in a fresh environment and run it."""
    from build_matrix.cli.common import open_store, print_verdicts, raise_for
    from build_matrix.index import Downloads
    from build_matrix.probe import probe
    from build_matrix.report import make_reporter
    from build_matrix.verify import verify_wheel

    reporter = make_reporter()
    store = open_store(store_folder, reporter)
    chosen = wheels or sorted(folder.glob("*.whl"))
    if not chosen:
        raise ConfigurationError(f"There is no wheel in {folder}.", "Build one: `nox -s build-cuda13`.")
    downloads = Downloads(store, reporter)
    machine = probe(store.root)
    verdicts = [verify_wheel(w, machine, why_not(w, machine), store, downloads, reporter) for w in chosen]
    print_verdicts(verdicts)
    raise_for(verdicts, require_gpu=require_gpu)


def why_not(wheel: Path, machine: Machine) -> str:
    """Why this wheel cannot run on this machine's driver and GPUs, by the rules; empty when it can."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    from build_matrix.resolve import predict
    from build_matrix.verify import parse_label

    try:
        label = parse_label(parse_wheel_filename(wheel.name)[1].local or "")
    except InvalidWheelFilename:
        return ""
    if label is None:
        return ""
    findings = predict(label.cuda, label.architectures, machine, {})
    return " ".join(finding.fact for finding in findings if not finding.passed)
