"""Builds a wheel again, from its record or under other conditions, and says where the two differ."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import build_matrix
from build_matrix.compile.cache import cache_program
from build_matrix.context import Context
from build_matrix.downloads.origins import origin_of
from build_matrix.errors import MissingPrerequisiteError, NotReproducibleError
from build_matrix.model import Cell, Conditions, Difference, HostCompiler, Machine, Request, WheelRecord, file_sha256
from build_matrix.pipeline.build import Recipe, build_wheel, choose
from build_matrix.pipeline.setup import CACHE_FOLDER
from build_matrix.process.runner import run
from build_matrix.provision import take_installed
from build_matrix.redact import redact
from build_matrix.report import Reporter
from build_matrix.reproduce import (
    Variation,
    choose_variations,
    compare_wheels,
    full_report,
    read_record,
    require_platform,
    require_same_recipe,
)
from build_matrix.reproduce.variation import disturbance
from build_matrix.store import Store

CLEAN = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
UMASK = 0o022

ShowVariations = Callable[[tuple[Variation, ...]], None]


def rebuild(context: Context, wheel: Path, jobs: int, folder: Path, toolkit_root: Path | None = None) -> None:
    """Build ``wheel`` again from its record alone, in another folder; raises NotReproducibleError."""
    started = time.monotonic()
    record = read_record(wheel)
    require_platform(record, context.machine.platform)
    reporter = context.reporter
    compiler = choose_compiler(record, context.machine, reporter)
    reporter.say(f"rebuilding {record.filename} from its record")
    with context.store.scratch(f"reproduce-{record.sha256[:12]}") as scratch:
        isolated = context._replace(store=Store(scratch))
        if not origin_of(record.toolkit[0]).downloaded:
            require_installed(isolated, record, toolkit_root)
        recipe = Recipe(record.cell, compiler, record.ingredients)
        rebuilt = build_wheel(isolated, recipe, Conditions(jobs=jobs), scratch / "wheels")
        tool = f"build-matrix {build_matrix.__version__}"
        require_same_recipe(record, tool, rebuilt.record.patches, rebuilt.record.flags)
        causes = []
        if compiler.identity != record.host_compiler.identity:
            causes = [compiler_difference(record.host_compiler, compiler)]
        conclude(wheel, rebuilt.path, causes, folder, reporter)
    reporter.say(f"identical: {record.filename}  sha256 {record.sha256}  ({time.monotonic() - started:.0f} s)")


def require_installed(context: Context, record: WheelRecord, root: Path | None) -> None:
    """Put the toolkit in ``root`` into the store if it is the record's; raises MissingPrerequisiteError."""
    remedy = f"Name the same toolkit (CUDA {record.toolkit[0].version}) with --toolkit-root."
    if root is None:
        raise MissingPrerequisiteError("That wheel was built with an installed toolkit.", remedy)
    ingredients = take_installed(context, record.cell, record.ingredients, root)
    if ingredients.toolkit != record.toolkit:
        raise MissingPrerequisiteError(f"The toolkit in {root} differs from the recorded one.", remedy)


def choose_compiler(record: WheelRecord, machine: Machine, reporter: Reporter) -> HostCompiler:
    """The compiler of the record, or the one that comes nearest to it, which it reports."""
    recorded = record.host_compiler
    ranked = sorted(
        machine.compilers,
        key=lambda c: (c.identity != recorded.identity, c.name != recorded.name, c.version != recorded.version),
    )
    if not ranked:
        refused = " ".join(problem.fact for problem in machine.compiler_problems)
        raise MissingPrerequisiteError(
            refused or "There is no C++ compiler here.", f"Install {recorded.name} {recorded.version}."
        )
    if ranked[0].identity != recorded.identity:
        reporter.say(f"  {compiler_difference(recorded, ranked[0])}")
    return ranked[0]


def compiler_difference(recorded: HostCompiler, actual: HostCompiler) -> str:
    """Which of the programs that decide the machine code are not those of the record."""
    names = sorted(recorded.programs.keys() | actual.programs.keys())
    other = [name for name in names if recorded.programs.get(name) != actual.programs.get(name)]
    return (
        f"the compiler is {actual.description} instead of the recorded {recorded.description}; "
        f"different: {', '.join(other) or 'specs'}"
    )


class _Run(NamedTuple):
    """One build in a process of its own: where, in which disturbance, and the options that differ."""

    name: str
    folder: Path
    options: Sequence[str]
    variables: dict[str, str] = CLEAN
    umask: int = UMASK


def vary(context: Context, request: Request, jobs: int, folder: Path, show: ShowVariations) -> None:
    """Build a cell twice under conditions that must not matter; raises NotReproducibleError.

    ``show`` is given what will be varied, before the first build.
    """
    started = time.monotonic()
    recipe = choose(context, request)
    cell, files = recipe.cell, recipe.ingredients
    cached = cache_program("ccache") is not None
    context.downloads.fetch([files.sdist, *files.toolkit, *files.environment, *files.sysroot], "what both builds need")
    with context.store.scratch(f"vary-{cell.llama}+{cell.label}") as scratch:
        (scratch / "try").mkdir()
        variations = choose_variations(jobs, recipe.compiler.cc, scratch / "try", cached=cached)
        show(variations)
        other = disturbance(variations, scratch)
        options = ["--jobs", "1", "--no-cache", "--no-sandbox", "--wrapper", shlex.join(other.wrapper)]
        place = scratch / "another-folder-with-a-longer-name"
        first = _build(context, cell, _Run("first", scratch / "a", ["--jobs", str(jobs)]))
        second = _build(context, cell, _Run("second", place, options, other.variables, other.umask))
        conclude(first, second, [], folder, context.reporter)
        if cached:
            third = scratch / "from-the-cache"
            (third / "store").mkdir(parents=True)
            (scratch / "a" / "store" / CACHE_FOLDER).rename(third / "store" / CACHE_FOLDER)
            rebuilt = _build(context, cell, _Run("third", third, ["--jobs", str(jobs)]))
            conclude(first, rebuilt, [], folder, context.reporter)
        sha256, name = file_sha256(first), first.name
    context.reporter.say(f"identical: {name}  sha256 {sha256}  ({time.monotonic() - started:.0f} s)")


def _build(context: Context, cell: Cell, build: _Run) -> Path:
    """The wheel of one build, in a store of its own that shares only the downloads; raises NotReproducibleError."""
    store, wheels = build.folder / "store", build.folder / "wheels"
    store.mkdir(parents=True, exist_ok=True)
    (store / "files").symlink_to(context.store.root / "files")
    argv = [sys.executable, "-m", "build_matrix", "build", "--no-verify", "--ignore-driver", *build.options]
    argv += ["--store", str(store), "--wheels", str(wheels)]
    argv += ["--cuda", cell.cuda, "--llama", cell.llama, "--profile", cell.profile]
    argv += [argument for a in cell.architectures for argument in ("--arch", a.cmake)]
    argv += [argument for name, value in cell.defines.items() for argument in ("--define", f"{name}={value}")]
    before = os.umask(build.umask)
    try:
        result = run(argv, env=os.environ | build.variables, on_line=lambda line: context.reporter.say(f"  {line}"))
    finally:
        os.umask(before)
    if result.code:
        raise NotReproducibleError(
            f"The {build.name} build failed: {result.tail[-2] if result.tail[1:] else result.output}",
            "See the lines above.",
        )
    return next(wheels.glob("*.whl"))


def conclude(first: Path, second: Path, causes: list[str], folder: Path, reporter: Reporter) -> None:
    """Compare; on a difference keep both wheels and a report in ``folder`` and raise NotReproducibleError."""
    differences = compare_wheels(first, second)
    if not differences:
        return
    for difference in differences:
        reporter.say(f"  {describe(difference)}")
    saved = folder / "different"
    saved.mkdir(parents=True, exist_ok=True)
    for place, path in (("first", first), ("second", second)):
        (saved / place).mkdir(exist_ok=True)
        shutil.copyfile(path, saved / place / path.name)
    report = saved / f"{first.name}.txt"
    lines = [*causes, *map(describe, differences), "", full_report(first, second)]
    report.write_text(redact("\n".join(lines).rstrip()) + "\n", encoding="utf-8")
    because = f" ({causes[0]})" if causes else ""
    raise NotReproducibleError(
        f"{first.name} is not reproducible{because}: {describe(differences[0])}",
        f"Both wheels and the full report ({len(differences)} differences) are in {saved}.",
    )


def describe(difference: Difference) -> str:
    """One line for people."""
    place = " ".join(part for part in (difference.member, difference.part) if part)
    return f"{place}: {difference.detail}"
