"""From a request to a verified wheel, and from many requests to many wheels."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from build_matrix.catalog import llama_releases
from build_matrix.compile import FIXED, compile_wheel
from build_matrix.context import Context
from build_matrix.downloads import available_toolkits, ingredient_choices
from build_matrix.errors import ArchiveUnreachableError, BuildMatrixError, ConfigurationError
from build_matrix.locks import select_ingredients
from build_matrix.model import (
    BuildInputs,
    Cell,
    Conditions,
    HostCompiler,
    Ingredients,
    Request,
    Verdict,
    Wheel,
)
from build_matrix.pipeline.matrix import read_matrix
from build_matrix.pipeline.planning import make_checked_plan, require_requested_cuda
from build_matrix.pipeline.verification import require_verified, verify_once
from build_matrix.platforms import find_platform
from build_matrix.provision import (
    fetch_toolkit,
    provision_environment,
    provision_sysroot,
    provision_toolkit,
    read_installed,
    self_test,
    take_installed,
)
from build_matrix.resolve import require_cell
from build_matrix.resources import patches_folder
from build_matrix.source import check_defines, prepare_source
from build_matrix.wheel import finish_wheel
from build_matrix.wheelfile.file import WheelFile


class BuildOptions(NamedTuple):
    """What is the same for every wheel of one command; ``folder`` is where wheels go."""

    conditions: Conditions
    folder: Path
    toolkit_root: Path | None = None
    verify: bool = True
    require_gpu: bool = False


class Recipe(NamedTuple):
    """Every choice made: the cell, the compiler and the locked files. ``notes`` explain the choice."""

    cell: Cell
    compiler: HostCompiler
    ingredients: Ingredients
    notes: tuple[str, ...] = ()


class Built(NamedTuple):
    """A wheel, and what was verified of it (None: it was not to be verified)."""

    wheel: Wheel
    verdict: Verdict | None = None


class Result(NamedTuple):
    """What became of one cell in ``seconds``: a wheel that is good enough, or ``error`` says why there is none."""

    name: str
    seconds: float
    built: Built | None = None
    error: BuildMatrixError | None = None


def build_all(context: Context, requests: Mapping[str, Request], options: BuildOptions) -> Iterator[Result]:
    """Build one wheel after the other; one that fails does not stop the others."""
    for name, request in requests.items():
        started = time.monotonic()
        built, error = None, None
        try:
            built = build_one(context, request, options)
            if built.verdict:
                require_verified([built.verdict], require_gpu=options.require_gpu)
        except BuildMatrixError as caught:
            error = caught
        yield Result(name, time.monotonic() - started, built, error)


def build_one(context: Context, request: Request, options: BuildOptions) -> Built:
    """Choose, build and verify one wheel; a failed check is in its verdict. Raises what the stages raise."""
    started = time.monotonic()
    reporter = context.reporter
    recipe = choose(context, request, options.toolkit_root)
    cell, compiler = recipe.cell, recipe.compiler
    reporter.say(f"llama-cpp-python {cell.llama}+{cell.label} with {compiler.name} {compiler.version}")
    for note in (*recipe.notes, *(f"claimed: {name}={value}" for name, value in context.machine.overrides.items())):
        reporter.say(f"  {note}")
    wheel = build_wheel(context, recipe, options.conditions, options.folder)
    size = f"{wheel.record.size / 1e6:.1f} MB"
    reporter.say(f"{wheel.path}  {size}  sha256 {wheel.record.sha256}  ({time.monotonic() - started:.0f} s)")
    return Built(wheel, verify_once(context, WheelFile(wheel.path)) if options.verify else None)


def requests_of_matrix(request: Request, names: Sequence[str] | None, platform: str) -> dict[str, Request]:
    """What the named cells of matrix.toml ask for, or those of a release: wheels for other machines than this one.

    Raises ConfigurationError, NoCompatibleChoiceError for a platform that is not supported.
    """
    platform = find_platform(platform).name
    if request.cuda or request.llama or request.architectures:
        raise ConfigurationError(
            "--all and --cell take the CUDA version, release and architectures from matrix.toml.",
            "Leave out --cuda, --llama and --arch.",
        )
    matrix = read_matrix()
    return {
        row.name: msgspec.structs.replace(
            request, llama=row.llama, cuda=row.cuda, architectures=row.architectures, ignore_driver=True
        )
        for row in (matrix.find(names, platform) if names else matrix.all(platform))
    }


def choose(context: Context, request: Request, toolkit_root: Path | None = None) -> Recipe:
    """What to build, with its toolkit downloaded: the plan's choice, or the next if no source of it can be reached.

    With ``toolkit_root`` it is the toolkit that is installed there. Raises what planning and downloading raise.
    """
    if toolkit_root:
        return _choose_installed(context, request, toolkit_root)
    machine = context.machine
    available = available_toolkits(machine.platform)
    errors: list[tuple[str, ArchiveUnreachableError]] = []
    while True:
        plan = make_checked_plan(request, machine, available)
        cell, compiler = require_cell(plan, machine, available)
        for choice in ingredient_choices(cell):
            try:
                ingredients = fetch_toolkit(context, cell, choice)
            except ArchiveUnreachableError as error:
                errors.append((cell.cuda, error))
                continue
            _say_unreachable(context, {minor: error for minor, error in errors if minor != cell.cuda})
            return Recipe(cell, compiler, ingredients, plan.notes)
        available = tuple(minor for minor in available if minor != cell.cuda)
        if not make_checked_plan(request, machine, available).cell:
            raise errors[0][1]


def _choose_installed(context: Context, request: Request, root: Path) -> Recipe:
    """The recipe with the toolkit in ``root``; raises what planning raises, MissingPrerequisiteError."""
    minor, _ = read_installed(root)
    require_requested_cuda(request.cuda, minor, root)
    plan = make_checked_plan(msgspec.structs.replace(request, cuda=minor), context.machine, (minor,))
    cell, compiler = require_cell(plan, context.machine, (minor,))
    return Recipe(cell, compiler, take_installed(context, cell, select_ingredients(cell), root), plan.notes)


def _say_unreachable(context: Context, errors: Mapping[str, ArchiveUnreachableError]) -> None:
    """Say which toolkits were not taken because their last source could not be reached, in one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for minor, error in errors.items():
        reasons.setdefault(error.problem, []).append(minor)
    for problem, minors in reasons.items():
        context.reporter.say(f"skipped CUDA {', '.join(minors)}: {problem}")


def build_wheel(context: Context, recipe: Recipe, conditions: Conditions, folder: Path) -> Wheel:
    """Provision, prepare, compile and finish one wheel; raises what the stages raise."""
    cell, compiler, ingredients = recipe.cell, recipe.compiler, recipe.ingredients
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
