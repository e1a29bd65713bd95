"""``build``: from nothing to a verified wheel."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer

from build_matrix.cli.options import (
    CACHE_FOLDER,
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
from build_matrix.model import (
    BuildInputs,
    Cell,
    Conditions,
    HostCompiler,
    Ingredients,
    Machine,
    Plan,
    Platform,
    Request,
    Wheel,
)


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
    from build_matrix.cli.common import open_store
    from build_matrix.compile import choose_jobs
    from build_matrix.downloads import Downloads
    from build_matrix.probe import probe, this_platform
    from build_matrix.report import make_reporter
    from build_matrix.store import default_store

    reporter = make_reporter()
    requests = {"": parse_request(cuda, llama, arch, define, profile, cross=cross)}
    compile_cache = parse_cache(Path(CACHE_FOLDER), cache_with, remote_cache) if cache else None
    if every or cell:
        requests = requests_of_matrix(requests[""], cell, this_platform())
    machine = probe(store_folder or default_store(), override_variables(driver_cuda, compute_capability))
    if not (every or cell or toolkit_root):
        require_possible(requests[""], machine)
    store = open_store(store_folder, reporter)
    at_once, why = choose_jobs(jobs, machine.cpus, machine.memory_free)
    if why:
        reporter.say(f"  {why}")
    conditions = Conditions(
        jobs=at_once,
        isolate=isolate,
        under=tuple(shlex.split(under)),
        cache=compile_cache and msgspec.structs.replace(compile_cache, folder=store.root / CACHE_FOLDER),
    )
    context = Context(machine, store, Downloads(store, reporter), reporter)
    job = Job(context, conditions, folder, toolkit_root, verify, require_gpu)
    if not (every or cell):
        build_one(requests[""], job)
        return
    build_all(requests, job)


class Job(NamedTuple):
    """What is the same for every wheel of one command."""

    context: Context
    conditions: Conditions
    folder: Path
    toolkit_root: Path | None
    verify: bool
    require_gpu: bool


def requests_of_matrix(given: Request, names: Sequence[str] | None, platform: Platform) -> dict[str, Request]:
    """What the named cells of matrix.toml ask for, or those of a release: wheels for other machines than this one.

    Raises ConfigurationError.
    """
    from build_matrix.errors import ConfigurationError
    from build_matrix.matrix import read_matrix

    if given.cuda or given.llama or given.architectures:
        raise ConfigurationError(
            "--all takes the CUDA version, release and architectures from matrix.toml, and so does --cell.",
            "Leave out --cuda, --llama and --arch.",
        )
    matrix = read_matrix()
    return {
        row.name: msgspec.structs.replace(
            given, llama=row.llama, cuda=row.cuda, architectures=row.architectures, cross=True
        )
        for row in (matrix.find(names, platform) if names else matrix.all(platform))
    }


def build_all(requests: Mapping[str, Request], job: Job) -> None:
    """Build one wheel after the other; one that fails does not stop the others. Raises CellsFailedError."""
    from rich.table import Table

    from build_matrix.cli.common import standard_output
    from build_matrix.errors import BuildMatrixError, CellsFailedError

    table = Table("cell", "result", "MB", "s", box=None, pad_edge=False, header_style="bold")
    failures: dict[str, BuildMatrixError] = {}
    for name, request in requests.items():
        started = time.monotonic()
        try:
            wheel = build_one(request, job)
        except BuildMatrixError as error:
            failures[name] = error
            job.context.reporter.say(str(error))
            result, size = f"failed ({error.exit_code}): {error.problem}", ""
        else:
            result, size = wheel.path.name, f"{wheel.record.size / 1e6:.1f}"
        table.add_row(name, result, size, f"{time.monotonic() - started:.0f}")
    standard_output().print(table)
    if failures:
        raise CellsFailedError(failures, len(requests))


def build_one(request: Request, job: Job) -> Wheel:
    """Choose, build and verify one wheel; raises what the stages raise."""
    from build_matrix.cli.common import print_verdicts, raise_for
    from build_matrix.cli.verify import targets
    from build_matrix.verify import known_verdict, verify_wheel

    started = time.monotonic()
    context, machine, reporter = job.context, job.context.machine, job.context.reporter
    plan, cell, compiler, ingredients = choose(context, request, job.toolkit_root)
    reporter.say(f"llama-cpp-python {cell.llama}+{cell.label} with {compiler.name} {compiler.version}")
    for note in (*plan.notes, *(f"claimed: {name}={value}" for name, value in machine.overrides.items())):
        reporter.say(f"  {note}")
    wheel = build_wheel(context, cell, compiler, ingredients, job.conditions, job.folder)
    size = f"{wheel.record.size / 1e6:.1f} MB"
    reporter.say(f"{wheel.path}  {size}  sha256 {wheel.record.sha256}  ({time.monotonic() - started:.0f} s)")
    if job.verify:
        verdict = known_verdict(wheel.path, machine)
        if not verdict or not verdict.passed:
            verdict = verify_wheel(context, wheel.path, targets(wheel.path, machine))
        print_verdicts([verdict])
        raise_for([verdict], require_gpu=job.require_gpu)
    return wheel


def require_possible(request: Request, machine: Machine) -> None:
    """Stop before anything is written when no toolkit could do; raises what planning raises."""
    from build_matrix.cli.planning import make_checked_plan
    from build_matrix.locks import available_toolkits
    from build_matrix.resolve import require_cell

    available = available_toolkits(machine.target)
    require_cell(make_checked_plan(request, machine, available), machine, available)


def choose(
    context: Context, request: Request, toolkit_root: Path | None = None
) -> tuple[Plan, Cell, HostCompiler, Ingredients]:
    """What to build, with its toolkit downloaded: the plan's choice, or the next where no source of it is in reach.

    With ``toolkit_root`` it is the toolkit that is installed there.

    Raises what planning and downloading raise.
    """
    from build_matrix.cli.planning import make_checked_plan, require_wanted
    from build_matrix.errors import ArchiveUnreachableError
    from build_matrix.locks import available_toolkits, ingredient_choices, select_ingredients
    from build_matrix.provision import fetch_toolkit, read_installed, take_installed
    from build_matrix.resolve import require_cell

    machine = context.machine
    if toolkit_root:
        minor, _ = read_installed(toolkit_root)
        require_wanted(request.cuda, minor, toolkit_root)
        plan = make_checked_plan(msgspec.structs.replace(request, cuda=minor), machine, (minor,))
        cell, compiler = require_cell(plan, machine, (minor,))
        return plan, cell, compiler, take_installed(context, cell, select_ingredients(cell), toolkit_root)
    available = available_toolkits(machine.target)
    first: ArchiveUnreachableError | None = None
    out_of_reach: dict[str, list[str]] = {}
    while True:
        plan = make_checked_plan(request, machine, available)
        cell, compiler = require_cell(plan, machine, available)
        for choice in ingredient_choices(cell):
            try:
                ingredients = fetch_toolkit(context, cell, choice)
            except ArchiveUnreachableError as error:
                first, last = first or error, error
                continue
            for problem, minors in out_of_reach.items():
                context.reporter.say(f"not CUDA {', '.join(minors)}: {problem}")
            return plan, cell, compiler, ingredients
        out_of_reach.setdefault(last.problem, []).append(cell.cuda)
        available = tuple(minor for minor in available if minor != cell.cuda)
        if not make_checked_plan(request, machine, available).cell:
            raise first or last


def build_wheel(
    context: Context,
    cell: Cell,
    compiler: HostCompiler,
    ingredients: Ingredients,
    conditions: Conditions,
    folder: Path,
) -> Wheel:
    """Provision, prepare, compile and finish one cell; raises what the stages raise."""
    from build_matrix.catalog import llama_releases
    from build_matrix.compile import FIXED, compile_wheel
    from build_matrix.matrix import read_matrix
    from build_matrix.provision import provision_environment, provision_sysroot, provision_toolkit, self_test
    from build_matrix.resources import patches_folder
    from build_matrix.source import check_defines, prepare_source
    from build_matrix.wheel import finish_wheel

    source = prepare_source(context, ingredients.sdist, patches_folder())
    check_defines(cell.defines, source.options, FIXED, cell.llama)
    environment = provision_environment(context, ingredients.environment)
    toolchain = provision_toolkit(context, cell, ingredients)
    sysroot = provision_sysroot(context, cell.platform, ingredients.sysroot, compiler)
    inputs = BuildInputs(
        cell=cell,
        release=llama_releases()[cell.llama],
        source=source,
        toolchain=self_test(context, toolchain, cell.architectures, compiler, sysroot),
        environment=environment,
        compiler=compiler,
        sysroot=sysroot,
    )
    raw = compile_wheel(context, inputs, conditions)
    return finish_wheel(context, raw, inputs, read_matrix().budget(cell), folder)
