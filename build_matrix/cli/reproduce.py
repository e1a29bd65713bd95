"""``reproduce``: whether a wheel can be built again, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from build_matrix.cli.options import (
    WHEELS,
    ArchOption,
    CudaOption,
    DefineOption,
    JobsOption,
    LlamaOption,
    ProfileOption,
    StoreOption,
    ToolkitRootOption,
    WheelsOption,
    parse_request,
)
from build_matrix.pipeline.setup import choose_jobs, open_context

if TYPE_CHECKING:
    from build_matrix.reproduce import Variation


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    wheel: Annotated[
        Path | None,
        typer.Argument(help="A wheel with its record next to it.", show_default="build one twice"),
    ] = None,
    cuda: CudaOption = "",
    llama: LlamaOption = "",
    arch: ArchOption = None,
    profile: ProfileOption = "release",
    define: DefineOption = None,
    jobs: JobsOption = None,
    toolkit_root: ToolkitRootOption = None,
    folder: WheelsOption = WHEELS,
    store_folder: StoreOption = None,
) -> None:
    """Rebuild a wheel from its record, or build one twice under varied conditions; exit code 8 if the bytes differ."""
    from build_matrix.pipeline.reproduce import rebuild, vary
    from build_matrix.report import make_reporter

    request = parse_request(cuda, llama, arch, define, profile, ignore_driver=True)
    context = open_context(store_folder, make_reporter())
    jobs = choose_jobs(context, jobs)
    if wheel:
        rebuild(context, wheel, jobs, folder, toolkit_root)
    else:
        vary(context, request, jobs, folder, print_variations)


def print_variations(variations: tuple[Variation, ...]) -> None:
    """What is varied, and what is not and why."""
    from rich.table import Table

    from build_matrix.cli.common import standard_output

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("varied", "first build", "second build"):
        table.add_column(name, overflow="fold")
    for item in variations:
        table.add_row(item.name, item.first, f"the same: {item.why_not}" if item.why_not else item.second)
    standard_output().print(table)
