"""``build``: from nothing to a verified wheel."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from build_matrix.cli.options import (
    WHEELS,
    ArchOption,
    CacheOption,
    CacheWithOption,
    CapabilityOption,
    CudaOption,
    DefineOption,
    DriverCudaOption,
    IsolateOption,
    JobsOption,
    LlamaOption,
    ProfileOption,
    RemoteCacheOption,
    RequireGpuOption,
    StoreOption,
    ToolkitRootOption,
    WheelsOption,
    override_variables,
    parse_cache,
    parse_request,
)
from build_matrix.context import Context
from build_matrix.model import Conditions, Request

if TYPE_CHECKING:
    from build_matrix.pipeline.build import BuildOptions


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    cuda: CudaOption = "",
    llama: LlamaOption = "",
    arch: ArchOption = None,
    profile: ProfileOption = "release",
    define: DefineOption = None,
    jobs: JobsOption = None,
    isolate: IsolateOption = True,  # noqa: FBT002
    cache: CacheOption = True,  # noqa: FBT002
    cache_with: CacheWithOption = None,
    remote_cache: RemoteCacheOption = "",
    under: Annotated[
        str, typer.Option(help="A command to run the compilation under, such as 'nice -n 19'.", show_default=False)
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="Build the cells of a release.")] = False,  # noqa: FBT002
    cell: Annotated[
        list[str] | None, typer.Option("--cell", help="Build this cell of matrix.toml; repeat it.", show_default=False)
    ] = None,
    cross: Annotated[bool, typer.Option("--cross", help="Build also what cannot run on this machine.")] = False,  # noqa: FBT002
    toolkit_root: ToolkitRootOption = None,
    driver_cuda: DriverCudaOption = None,
    compute_capability: CapabilityOption = None,
    folder: WheelsOption = WHEELS,
    verify: Annotated[bool, typer.Option(help="Verify the wheel after building it.")] = True,  # noqa: FBT002
    require_gpu: RequireGpuOption = False,  # noqa: FBT002
    store_folder: StoreOption = None,
) -> None:
    """Build a wheel, install it in a fresh environment, and test it as far as this machine allows."""
    from build_matrix.pipeline.build import BuildOptions, requests_of_matrix
    from build_matrix.pipeline.planning import require_possible
    from build_matrix.pipeline.setup import cache_in_store, choose_jobs, examine_machine, open_context
    from build_matrix.report import make_reporter

    request = parse_request(cuda, llama, arch, define, profile, cross=cross)
    compile_cache = parse_cache(cache_with, remote_cache) if cache else None
    machine = examine_machine(store_folder, override_variables(driver_cuda, compute_capability))
    requests = requests_of_matrix(request, cell, machine.target) if every or cell else {}
    if not (requests or toolkit_root):
        require_possible(request, machine)
    context = open_context(store_folder, make_reporter(), machine)
    conditions = Conditions(
        jobs=choose_jobs(context, jobs),
        isolate=isolate,
        under=tuple(shlex.split(under)),
        cache=cache_in_store(context, compile_cache),
    )
    options = BuildOptions(conditions, folder, toolkit_root, verify, require_gpu)
    if requests:
        build_cells(context, requests, options)
    else:
        build_cell(context, request, options)


def build_cell(context: Context, request: Request, options: BuildOptions) -> None:
    """Build one wheel and print its verdict; raises what building raises, VerificationError."""
    from build_matrix.cli.common import print_verdicts
    from build_matrix.pipeline.build import build_one
    from build_matrix.pipeline.verification import require_verified

    verdict = build_one(context, request, options).verdict
    if verdict:
        print_verdicts([verdict])
        require_verified([verdict], require_gpu=options.require_gpu)


def build_cells(context: Context, requests: Mapping[str, Request], options: BuildOptions) -> None:
    """Build one wheel after the other, then print what became of each; raises CellsFailedError."""
    from rich.table import Table

    from build_matrix.cli.common import print_verdicts, standard_output
    from build_matrix.errors import BuildMatrixError, CellsFailedError
    from build_matrix.pipeline.build import build_all

    table = Table("cell", "result", "MB", "s", box=None, pad_edge=False, header_style="bold")
    failures: dict[str, BuildMatrixError] = {}
    for name, seconds, built, error in build_all(context, requests, options):
        if built and built.verdict:
            print_verdicts([built.verdict])
        row = ("", "")
        if error:
            failures[name] = error
            context.reporter.say(str(error))
            row = (f"failed ({error.exit_code}): {error.problem}", "")
        elif built:
            row = (built.wheel.path.name, f"{built.wheel.record.size / 1e6:.1f}")
        table.add_row(name, *row, f"{seconds:.0f}")
    standard_output().print(table)
    if failures:
        raise CellsFailedError(failures, len(requests))
