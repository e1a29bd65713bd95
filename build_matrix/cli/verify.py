"""``verify``: whether wheels are what they say, and whether they offload."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from build_matrix.cli.options import WHEELS, JsonOption, RequireGpuOption, SchemaOption, StoreOption, WheelsOption
from build_matrix.errors import ConfigurationError
from build_matrix.pipeline.setup import open_context


def command(
    wheels: Annotated[
        list[Path] | None, typer.Argument(help="Wheels to verify.", show_default="all in wheels/")
    ] = None,
    folder: WheelsOption = WHEELS,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="FILE", help="Also run this GGUF model.", show_default="none"),
    ] = None,
    require_gpu: RequireGpuOption = False,  # noqa: FBT002 - typer's way
    as_json: JsonOption = False,  # noqa: FBT002 - typer's way
    schema: SchemaOption = False,  # noqa: FBT002
    store_folder: StoreOption = None,
) -> None:
    """Check wheels against their labels, install each in a fresh environment and run it on every GPU here."""
    import msgspec

    from build_matrix.cli.common import print_json, print_verdicts
    from build_matrix.model import Verdict
    from build_matrix.pipeline.verification import require_verified, verify
    from build_matrix.report import make_reporter
    from build_matrix.wheelfile.file import WheelFile

    if schema:
        print_json(msgspec.json.schema(Verdict))
        return
    chosen = wheels or sorted(folder.glob("*.whl"))
    if not chosen:
        raise ConfigurationError(f"There is no wheel in {folder}.", "Build one: `nox -s build-cuda13`.")
    context = open_context(store_folder, make_reporter())
    verdicts = [verify(context, WheelFile(wheel), model) for wheel in chosen]
    if as_json:
        print_json(verdicts)
    else:
        print_verdicts(verdicts)
    require_verified(verdicts, require_gpu=require_gpu)
