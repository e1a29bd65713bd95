"""``reproduce``: whether a wheel can be built again, byte for byte."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from build_matrix.cli.options import (
    CACHE_FOLDER,
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
from build_matrix.context import Context
from build_matrix.errors import NotReproducibleError
from build_matrix.model import Cell, Conditions, Difference, HostCompiler, Machine, Request, WheelRecord, file_sha256
from build_matrix.redact import redact

if TYPE_CHECKING:
    from build_matrix.report import Reporter
    from build_matrix.reproduce import Variation
    from build_matrix.store import Store

CLEAN = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    wheel: Annotated[
        Path | None,
        typer.Argument(help="A wheel with its record beside it.", show_default="build twice under other conditions"),
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
    """Build a wheel again from its record, or a cell twice under other conditions, and compare (exit 8: different)."""
    from build_matrix.cli.common import open_store
    from build_matrix.compile import choose_jobs
    from build_matrix.downloads import Downloads
    from build_matrix.probe import probe
    from build_matrix.report import make_reporter

    request = parse_request(cuda, llama, arch, define, profile, cross=True)
    reporter = make_reporter()
    store = open_store(store_folder, reporter)
    machine = probe(store.root)
    context = Context(machine, store, Downloads(store, reporter), reporter)
    jobs, _ = choose_jobs(jobs, machine.cpus, machine.memory_free)
    if wheel:
        rebuild(context, wheel, jobs, folder, toolkit_root)
        return
    vary(context, request, jobs, folder)


def rebuild(context: Context, wheel: Path, jobs: int, folder: Path, toolkit_root: Path | None = None) -> None:
    """Build ``wheel`` again from its record alone, in another folder; raises NotReproducibleError."""
    import build_matrix
    from build_matrix.cli.build import build_wheel
    from build_matrix.downloads.origins import origin_of
    from build_matrix.reproduce import read_record, require_same_recipe
    from build_matrix.store import Store

    started = time.monotonic()
    record = read_record(wheel)
    reporter = context.reporter
    compiler = choose_compiler(record, context.machine, reporter)
    reporter.say(f"building {record.filename} again, from its record")
    with context.store.scratch(f"reproduce-{record.sha256[:12]}") as scratch:
        conditions = Conditions(jobs=jobs)
        apart = context._replace(store=Store(scratch))
        if not origin_of(record.toolkit[0]).downloaded:
            require_installed(apart, record, toolkit_root)
        again = build_wheel(apart, record.cell, compiler, record.ingredients, conditions, scratch / "wheels")
        tool = f"build-matrix {build_matrix.__version__}"
        require_same_recipe(record, tool, again.record.patches, again.record.flags)
        causes = []
        if compiler.identity != record.host_compiler.identity:
            causes = [compiler_difference(record.host_compiler, compiler)]
        conclude(wheel, again.path, causes, folder, reporter)
    reporter.say(f"identical: {record.filename}  sha256 {record.sha256}  ({time.monotonic() - started:.0f} s)")


def require_installed(context: Context, record: WheelRecord, root: Path | None) -> None:
    """Put the toolkit in ``root`` into the store, if it is the one of the record; raises MissingPrerequisiteError."""
    from build_matrix.errors import MissingPrerequisiteError
    from build_matrix.provision import take_installed

    remedy = f"Name the same toolkit (CUDA {record.toolkit[0].version}) with --toolkit-root."
    if root is None:
        raise MissingPrerequisiteError("That wheel was built with a toolkit that was installed, not fetched.", remedy)
    found = take_installed(context, record.cell, record.ingredients, root)
    if found.toolkit != record.toolkit:
        raise MissingPrerequisiteError(f"The toolkit in {root} holds other files than the recorded one.", remedy)


def choose_compiler(record: WheelRecord, machine: Machine, reporter: Reporter) -> HostCompiler:
    """The compiler of the record, or the one that comes nearest to it, and then says so."""
    from build_matrix.errors import MissingPrerequisiteError

    wanted = record.host_compiler
    ranked = sorted(
        machine.compilers,
        key=lambda c: (c.identity != wanted.identity, c.name != wanted.name, c.version != wanted.version),
    )
    if not ranked:
        refused = " ".join(problem.fact for problem in machine.compiler_problems)
        raise MissingPrerequisiteError(
            refused or "There is no C++ compiler here.", f"Install {wanted.name} {wanted.version}."
        )
    if ranked[0].identity != wanted.identity:
        reporter.say(f"  {compiler_difference(wanted, ranked[0])}")
    return ranked[0]


def compiler_difference(wanted: HostCompiler, found: HostCompiler) -> str:
    """Which of the programs that decide the machine code are not those of the record."""
    names = sorted(wanted.programs.keys() | found.programs.keys())
    other = [name for name in names if wanted.programs.get(name) != found.programs.get(name)]
    return (
        f"the compiler is not the recorded one ({wanted.description}) but {found.description}; "
        f"other {', '.join(other) or 'specs'}"
    )


def vary(context: Context, request: Request, jobs: int, folder: Path) -> None:
    """Build a cell twice under conditions that must not matter; raises NotReproducibleError."""
    from build_matrix.cli.build import choose
    from build_matrix.compile.cache import cache_program
    from build_matrix.reproduce import choose_variations
    from build_matrix.reproduce.variation import surroundings

    started = time.monotonic()
    store, reporter = context.store, context.reporter
    _, cell, compiler, files = choose(context, request)
    cached = cache_program("ccache") is not None
    context.downloads.fetch([files.sdist, *files.toolkit, *files.environment, *files.sysroot], "what both builds need")
    with store.scratch(f"vary-{cell.llama}+{cell.label}") as scratch:
        (scratch / "try").mkdir()
        variations = choose_variations(jobs, compiler.cc, scratch / "try", cached=cached)
        print_variations(variations)
        other = surroundings(variations, scratch)
        build = partial(_build, cell, store, reporter)
        first = build("first", scratch / "a", CLEAN, 0o022, ["--jobs", str(jobs)])
        varied = ["--jobs", "1", "--no-cache", "--in-the-open", "--under", shlex.join(other.under)]
        second = build("second", scratch / "another-folder-with-a-longer-name", other.variables, other.umask, varied)
        conclude(first, second, [], folder, reporter)
        if cached:
            third = scratch / "from-the-cache"
            (third / "store").mkdir(parents=True)
            (scratch / "a" / "store" / CACHE_FOLDER).rename(third / "store" / CACHE_FOLDER)
            conclude(first, build("third", third, CLEAN, 0o022, ["--jobs", str(jobs)]), [], folder, reporter)
        sha256, name = file_sha256(first), first.name
    reporter.say(f"identical: {name}  sha256 {sha256}  ({time.monotonic() - started:.0f} s)")


def _build(
    cell: Cell,
    store: Store,
    reporter: Reporter,
    which: str,
    folder: Path,
    variables: dict[str, str],
    umask: int,
    options: list[str],
) -> Path:
    """The wheel of one build by a process of its own, in a store of its own that shares only the downloads."""
    from build_matrix.process.runner import run

    (folder / "store").mkdir(parents=True, exist_ok=True)
    (folder / "store" / "files").symlink_to(store.root / "files")
    words = [sys.executable, "-m", "build_matrix", "build", "--no-verify", "--cross", *options]
    words += ["--store", str(folder / "store"), "--wheels", str(folder / "wheels")]
    words += ["--cuda", cell.cuda, "--llama", cell.llama, "--profile", cell.profile]
    words += [word for a in cell.architectures for word in ("--arch", a.cmake)]
    words += [word for name, value in cell.defines.items() for word in ("--define", f"{name}={value}")]
    before = os.umask(umask)
    try:
        done = run(words, env=os.environ | variables, on_line=lambda line: reporter.say(f"  {line}"))
    finally:
        os.umask(before)
    if done.code:
        raise NotReproducibleError(
            f"The {which} build failed: {done.tail[-2] if done.tail[1:] else done.output}",
            "See the lines above.",
        )
    return next((folder / "wheels").glob("*.whl"))


def print_variations(variations: tuple[Variation, ...]) -> None:
    """What is varied, and what is not and why."""
    from rich.table import Table

    from build_matrix.cli.common import standard_output

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("varied", "first build", "second build"):
        table.add_column(name, overflow="fold")
    for item in variations:
        table.add_row(item.what, item.first, f"the same: {item.why_not}" if item.why_not else item.second)
    standard_output().print(table)


def conclude(first: Path, second: Path, causes: list[str], folder: Path, reporter: Reporter) -> None:
    """Compare; on a difference keep the second wheel and a report in ``folder`` and raise NotReproducibleError."""
    from build_matrix.reproduce import compare_wheels, full_report

    differences = compare_wheels(first, second)
    if not differences:
        return
    for difference in differences:
        reporter.say(f"  {describe(difference)}")
    kept = folder / "different"
    kept.mkdir(parents=True, exist_ok=True)
    for place, path in (("first", first), ("second", second)):
        (kept / place).mkdir(exist_ok=True)
        shutil.copyfile(path, kept / place / path.name)
    report = kept / f"{first.name}.txt"
    lines = [*causes, *map(describe, differences), "", full_report(first, second)]
    report.write_text(redact("\n".join(lines).rstrip()) + "\n", encoding="utf-8")
    because = f" ({causes[0]})" if causes else ""
    raise NotReproducibleError(
        f"{first.name} is not reproducible{because}: {describe(differences[0])}",
        f"Both wheels and the whole report ({len(differences)} differences) are in {kept}.",
    )


def describe(difference: Difference) -> str:
    """One line for people."""
    place = " ".join(part for part in (difference.member, difference.part) if part)
    return f"{place}: {difference.detail}"
