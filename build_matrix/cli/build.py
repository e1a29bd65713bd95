"""``build``: from nothing to a verified wheel."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from build_matrix.cli.options import (
    CACHE_FOLDER,
    WHEELS,
    ArchOption,
    CacheOption,
    CapabilityOption,
    CudaOption,
    DefineOption,
    DriverCudaOption,
    IsolateOption,
    JobsOption,
    LlamaOption,
    ProfileOption,
    RequireGpuOption,
    StoreOption,
    WheelsOption,
    override_variables,
    parse_request,
)
from build_matrix.model import (
    BuildInputs,
    Cell,
    Conditions,
    HostCompiler,
    Ingredients,
    Machine,
    Plan,
    Request,
    Wheel,
)

if TYPE_CHECKING:
    from build_matrix.index import Downloads
    from build_matrix.report import Reporter
    from build_matrix.store import Store

PATCHES = Path("patches")


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    cuda: CudaOption = "",
    llama: LlamaOption = "",
    arch: ArchOption = None,
    profile: ProfileOption = "release",
    define: DefineOption = None,
    jobs: JobsOption = None,
    isolate: IsolateOption = True,  # noqa: FBT002
    cache: CacheOption = True,  # noqa: FBT002
    under: Annotated[
        str, typer.Option(help="A command to run the compilation under, such as 'nice -n 19'.", show_default=False)
    ] = "",
    cross: Annotated[bool, typer.Option("--cross", help="Build also what cannot run on this machine.")] = False,  # noqa: FBT002
    driver_cuda: DriverCudaOption = None,
    compute_capability: CapabilityOption = None,
    folder: WheelsOption = WHEELS,
    verify: Annotated[bool, typer.Option(help="Verify the wheel after building it.")] = True,  # noqa: FBT002
    require_gpu: RequireGpuOption = False,  # noqa: FBT002
    store_folder: StoreOption = None,
) -> None:
    """Build a wheel, install it in a fresh environment, and test it as far as this machine allows."""
    from build_matrix.cli.common import open_store, print_verdicts, raise_for
    from build_matrix.cli.verify import targets
    from build_matrix.probe import probe
    from build_matrix.report import make_reporter
    from build_matrix.store import default_store

    started = time.monotonic()
    reporter = make_reporter()
    request = parse_request(cuda, llama, arch, define, profile, cross=cross)
    machine = probe(store_folder or default_store(), override_variables(driver_cuda, compute_capability))
    store = open_store(store_folder, reporter)

    from build_matrix.index import Downloads

    downloads = Downloads(store, reporter)
    plan, cell, compiler, ingredients = choose(request, machine, store, downloads, reporter)
    reporter.say(f"llama-cpp-python {cell.llama}+{cell.label} with {compiler.name} {compiler.version}")
    for note in (*plan.notes, *(f"claimed: {name}={value}" for name, value in machine.overrides.items())):
        reporter.say(f"  {note}")
    conditions = Conditions(
        jobs=jobs or machine.cpus,
        isolate=isolate,
        under=tuple(shlex.split(under)),
        cache=store.root / CACHE_FOLDER if cache else None,
    )
    wheel = build_wheel(cell, compiler, ingredients, conditions, store, downloads, reporter, folder)
    size = f"{wheel.record.size / 1e6:.1f} MB"
    reporter.say(f"{wheel.path}  {size}  sha256 {wheel.record.sha256}  ({time.monotonic() - started:.0f} s)")
    if not verify:
        return

    from build_matrix.verify import known_verdict, verify_wheel

    verdict = known_verdict(wheel.path, machine)
    if not verdict or not verdict.passed:
        verdict = verify_wheel(wheel.path, machine, targets(wheel.path, machine), store, downloads, reporter)
    print_verdicts([verdict])
    raise_for([verdict], require_gpu=require_gpu)


def choose(
    request: Request, machine: Machine, store: Store, downloads: Downloads, reporter: Reporter
) -> tuple[Plan, Cell, HostCompiler, Ingredients]:
    """What to build, with its toolkit downloaded: the plan's choice, or the next where no source of it is in reach.

    Raises what planning and downloading raise.
    """
    from build_matrix.errors import FileMissingError, IndexUnreachableError
    from build_matrix.locks import available_toolkits, ingredient_choices, locked_llama_releases
    from build_matrix.provision import fetch_toolkit
    from build_matrix.resolve import make_plan, require_cell

    available = available_toolkits(machine.platform)
    out_of_reach: dict[str, list[str]] = {}
    while True:
        plan = make_plan(request, machine, locked_llama_releases(), available)
        cell, compiler = require_cell(plan, machine, available)
        for choice in ingredient_choices(cell):
            try:
                ingredients = fetch_toolkit(cell, choice, store, downloads)
            except (IndexUnreachableError, FileMissingError) as error:
                failure = error
                continue
            for problem, minors in out_of_reach.items():
                reporter.say(f"not CUDA {', '.join(minors)}: {problem}")
            return plan, cell, compiler, ingredients
        out_of_reach.setdefault(failure.problem, []).append(cell.cuda)
        available = tuple(minor for minor in available if minor != cell.cuda)
        if not make_plan(request, machine, locked_llama_releases(), available).cell:
            raise failure


def build_wheel(
    cell: Cell,
    compiler: HostCompiler,
    ingredients: Ingredients,
    conditions: Conditions,
    store: Store,
    downloads: Downloads,
    reporter: Reporter,
    folder: Path,
) -> Wheel:
    """Provision, prepare, compile and finish one cell; raises what the stages raise."""
    from build_matrix.catalog import llama_releases
    from build_matrix.compile import FIXED, compile_wheel
    from build_matrix.matrix import read_matrix
    from build_matrix.provision import provision_environment, provision_sysroot, provision_toolkit, self_test
    from build_matrix.source import check_defines, prepare_source
    from build_matrix.wheel import finish_wheel

    source = prepare_source(ingredients.sdist, PATCHES, store, downloads)
    check_defines(cell.defines, source.options, FIXED, cell.llama)
    environment = provision_environment(ingredients.environment, store, downloads)
    toolchain = provision_toolkit(cell, ingredients, store, downloads)
    sysroot = provision_sysroot(cell.platform, ingredients.sysroot, compiler, store, downloads)
    inputs = BuildInputs(
        cell=cell,
        release=llama_releases()[cell.llama],
        source=source,
        toolchain=self_test(toolchain, cell.architectures, compiler, sysroot, store),
        environment=environment,
        compiler=compiler,
        sysroot=sysroot,
    )
    raw = compile_wheel(inputs, conditions, store, reporter)
    return finish_wheel(raw, inputs, read_matrix().budget(cell), store, folder)
