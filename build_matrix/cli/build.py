"""``build``: from nothing to a verified wheel."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from build_matrix.cli.options import (
    WHEELS,
    AllOption,
    ArchOption,
    CacheOption,
    CacheProgramOption,
    CapabilityOption,
    CellOption,
    CudaOption,
    DefineOption,
    DriverCudaOption,
    IgnoreDriverOption,
    JobsOption,
    LlamaOption,
    ProfileOption,
    RemoteCacheOption,
    RequireGpuOption,
    SandboxOption,
    StoreOption,
    ToolkitRootOption,
    VerifyOption,
    WheelsOption,
    WrapperOption,
    override_variables,
    parse_cache,
    parse_request,
)
from build_matrix.context import Context
from build_matrix.model import Conditions, Request
from build_matrix.pipeline.planning import require_possible
from build_matrix.pipeline.setup import cache_in_store, choose_jobs, examine_machine, open_context

if TYPE_CHECKING:
    from build_matrix.pipeline.build import BuildOptions


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    cuda: CudaOption = "",
    llama: LlamaOption = "",
    arch: ArchOption = None,
    profile: ProfileOption = "release",
    define: DefineOption = None,
    every: AllOption = False,  # noqa: FBT002 - typer's way, as below
    cell: CellOption = None,
    ignore_driver: IgnoreDriverOption = False,  # noqa: FBT002
    jobs: JobsOption = None,
    sandbox: SandboxOption = True,  # noqa: FBT002
    wrapper: WrapperOption = "",
    cache: CacheOption = True,  # noqa: FBT002
    cache_program: CacheProgramOption = None,
    remote_cache: RemoteCacheOption = "",
    toolkit_root: ToolkitRootOption = None,
    driver_cuda: DriverCudaOption = None,
    compute_capability: CapabilityOption = None,
    folder: WheelsOption = WHEELS,
    verify: VerifyOption = True,  # noqa: FBT002
    require_gpu: RequireGpuOption = False,  # noqa: FBT002
    store_folder: StoreOption = None,
) -> None:
    """Build a wheel, install it in a fresh environment, and test it as far as this machine allows."""
    from build_matrix.pipeline.build import BuildOptions, requests_of_matrix
    from build_matrix.report import make_reporter

    request = parse_request(cuda, llama, arch, define, profile, ignore_driver=ignore_driver)
    compile_cache = parse_cache(cache_program, remote_cache) if cache else None
    machine = examine_machine(store_folder, override_variables(driver_cuda, compute_capability))
    requests = requests_of_matrix(request, cell, machine.platform) if every or cell else {}
    if not (requests or toolkit_root):
        require_possible(request, machine)
    context = open_context(store_folder, make_reporter(), machine)
    jobs, cached = choose_jobs(context, jobs), cache_in_store(context, compile_cache)
    conditions = Conditions(jobs=jobs, sandbox=sandbox, wrapper=tuple(shlex.split(wrapper)), cache=cached)
    options = BuildOptions(conditions, folder, toolkit_root, verify, require_gpu)
    build_cells(context, requests, options) if requests else build_cell(context, request, options)


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
        if error:
            failures[name] = error
            context.reporter.say(str(error))
            table.add_row(name, f"failed ({error.exit_code}): {error.problem}", "", f"{seconds:.0f}")
        elif built:
            size = f"{built.wheel.record.size / 1e6:.1f}"
            table.add_row(name, built.wheel.path.name, size, f"{seconds:.0f}")
    standard_output().print(table)
    if failures:
        raise CellsFailedError(failures, len(requests))
