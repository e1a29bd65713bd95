"""``fetch``: what a build downloads, listed or put into a folder, for mirrors and machines without network."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import structs

from build_matrix.cli.options import (
    ArchOption,
    CapabilityOption,
    CudaOption,
    DriverCudaOption,
    LlamaOption,
    StoreOption,
    override_variables,
    parse_request,
)
from build_matrix.context import Context
from build_matrix.model import Cell, Component, HostCompiler, Machine, Record, Request

if TYPE_CHECKING:
    from build_matrix.downloads import Downloads
    from build_matrix.locks.needed import Target
    from build_matrix.report import Reporter

Obtain = Callable[[Sequence[Component]], object]

SUMS = "SHA256SUMS"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")  # of build_matrix.locks.update
LIST_WIDTH = 320  # a line of the list is not folded, so that it can be searched
# Nothing is compiled here, and every toolkit and release accepts GCC 11.
COMPILER = HostCompiler(name="gcc", version="11.4.0", description="", cc="gcc", cxx="g++", identity="")
ROOM = 10**12  # bytes; the disk that matters is another machine's


class FileRow(Record, frozen=True, kw_only=True):
    """One row of the list; ``size`` in bytes (0: unknown), ``place`` is where it lies in the folder."""

    filename: str
    size: int
    sha256: str
    origin: str
    purl: str
    place: str


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    folder: Annotated[Path | None, typer.Argument(help="Where to put the files.", show_default="none: --list")] = None,
    cuda: CudaOption = "",
    llama: LlamaOption = "",
    arch: ArchOption = None,
    every: Annotated[bool, typer.Option("--all", help="For the cells of a release.")] = False,  # noqa: FBT002
    cell: Annotated[
        list[str] | None, typer.Option("--cell", help="For this cell of matrix.toml; repeat it.", show_default=False)
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option("--python", help="For this Python, such as 3.12; repeat it.", show_default="this one"),
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="List the files, and download none of them.")] = False,  # noqa: FBT002
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,  # noqa: FBT002
    driver_cuda: DriverCudaOption = None,
    compute_capability: CapabilityOption = None,
    store_folder: StoreOption = None,
) -> None:
    """Download all that a build needs into a folder, each file checked by sha256: for a machine without network."""
    from build_matrix.cli.build import requests_of_matrix
    from build_matrix.cli.common import open_store, print_json
    from build_matrix.downloads import Downloads
    from build_matrix.errors import ConfigurationError
    from build_matrix.locks.needed import Target
    from build_matrix.probe import probe, this_platform
    from build_matrix.report import make_reporter

    if folder is None and not only_list:
        raise ConfigurationError("No folder is named.", "Name one (`nox -s fetch -- FOLDER`), or add --list.")
    reporter = make_reporter()
    requests = {"": parse_request(cuda, llama, arch, None, cross=True)}
    if every or cell:
        requests = requests_of_matrix(requests[""], cell, this_platform())
    store = open_store(store_folder, reporter)
    targets = [Target(one, this_platform()) for one in parse_pythons(python)]
    machine = probe(store.root, override_variables(driver_cuda, compute_capability))
    downloads = Downloads(store, reporter)
    obtain = (lambda _: None) if only_list else partial(downloads.fetch, what="toolkit")
    files = needed_files(Context(machine, store, downloads, reporter), requests.values(), targets, obtain)
    if folder and not only_list:
        put(files, folder, downloads)
        explain(files, folder, reporter)
    if as_json:
        print_json([row(file) for file in files])
    elif only_list:
        print_files(files)


def parse_pythons(given: Sequence[str] | None) -> tuple[str, ...]:
    """Minor versions of CPython, this one when none is given; raises ConfigurationError."""
    from build_matrix.errors import ConfigurationError

    if not given:
        return (f"{sys.version_info.major}.{sys.version_info.minor}",)
    if wrong := [text for text in given if text not in PYTHONS]:
        raise ConfigurationError(f"--python {wrong[0]} is not a Python of the locks.", f"Use {', '.join(PYTHONS)}.")
    return tuple(dict.fromkeys(given))


def needed_files(
    context: Context, requests: Iterable[Request], targets: Sequence[Target], obtain: Obtain
) -> list[Component]:
    """Every file that builds of these requests need, with what Nox installs; each once, in the order of places.

    ``obtain`` tries a toolkit's files, so that the next source is taken where the first is out of reach.
    Raises what planning and downloading raise.
    """
    from build_matrix.downloads.origins import origin_of
    from build_matrix.locks.needed import read_tool_lock, tool_files

    locked, downloads = read_tool_lock(), context.downloads
    files = [file for one in targets for file in tool_files(locked, one, downloads.listing, downloads.sizes)]
    for request in requests:
        cell = choose_cell(request, context.machine)
        context.reporter.say(f"llama-cpp-python {cell.llama} with CUDA {cell.cuda}")
        files += cell_files(context, cell, targets, obtain)
    found = {origin_of(file).place(file): file for file in files}
    return [found[name] for name in sorted(found)]


def cell_files(context: Context, cell: Cell, targets: Sequence[Target], obtain: Obtain) -> list[Component]:
    """What a build of ``cell`` and its verification download, with the first source of its toolkit in reach."""
    from build_matrix.downloads import ingredient_choices
    from build_matrix.errors import ArchiveUnreachableError
    from build_matrix.locks.needed import build_files
    from build_matrix.provision import resolve_toolkit

    failures = []
    for choice in ingredient_choices(cell):
        try:
            resolved = resolve_toolkit(context, cell, choice)
            obtain(resolved.toolkit)
        except ArchiveUnreachableError as error:
            failures.append(error)
        else:
            return [*choice.toolkit, *(file for one in targets for file in build_files(cell, resolved, one))]
    raise failures[0]


def choose_cell(request: Request, machine: Machine) -> Cell:
    """What a build would choose on a machine with this driver and a compiler that every toolkit accepts."""
    from build_matrix.downloads import available_toolkits
    from build_matrix.locks import locked_llama_releases
    from build_matrix.resolve import make_plan, require_cell

    able = structs.replace(machine, compilers=(COMPILER,), disk_free=ROOM)
    available = available_toolkits(machine.target)
    cell, _ = require_cell(make_plan(request, able, locked_llama_releases(), available), able, available)
    return cell


def put(files: list[Component], folder: Path, downloads: Downloads) -> None:
    """Download the files and copy them into ``folder``, which gets a list for ``sha256sum --check`` too.

    Raises DownloadError and its kinds, DiskFullError, StoreNotWritableError.
    """
    from build_matrix.downloads.origins import origin_of
    from build_matrix.model import file_sha256
    from build_matrix.store import copy_atomically, disk_errors, write_atomically

    paths = downloads.fetch(files, "what a build needs")
    with disk_errors(folder):
        for file, path in zip(files, paths, strict=True):
            target = folder / origin_of(file).place(file)
            if not target.is_file() or file_sha256(target) != file.sha256:
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_atomically(path, target)
        lines = [f"{file.sha256}  {origin_of(file).place(file)}\n" for file in files]
        write_atomically(folder / SUMS, "".join(lines).encode())


def explain(files: list[Component], folder: Path, reporter: Reporter) -> None:
    """Say what is there now, and which variables make pip, Nox and this tool use it."""
    from build_matrix.downloads.origins import origins_of

    root = folder.absolute()
    size = sum((root / row(file).place).stat().st_size for file in files)
    reporter.say(f"{len(files)} files, {size / 1e6:.0f} MB, in {root}. On the machine without network:")
    for origin in origins_of(files):
        variables = origin.mirror_variables(root).items()
        reporter.say("  export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in variables))


def row(file: Component) -> FileRow:
    """The file as a row of the list."""
    from build_matrix.downloads.origins import origin_of

    origin = origin_of(file)
    return FileRow(
        filename=file.filename,
        size=file.size,
        sha256=file.sha256,
        origin=file.origin,
        purl=origin.purl(file).to_string(),
        place=origin.place(file),
    )


def print_files(files: list[Component]) -> None:
    """The list as a table, on standard output, and how much it is as far as sizes are known."""
    from rich.table import Table
    from rich.text import Text

    from build_matrix.cli.common import standard_output

    table = Table("file", "MB", "sha256", "origin", "package URL", box=None, pad_edge=False, header_style="bold")
    for file in files:
        one = row(file)
        size = f"{one.size / 1e6:.1f}" if one.size else ""
        table.add_row(*map(Text, (one.place, size, one.sha256, one.origin, one.purl)))
    console = standard_output()
    console.width = max(console.width, LIST_WIDTH)
    console.print(table)
    console.print(f"{len(files)} files, {sum(file.size for file in files) / 1e6:.0f} MB", highlight=False)
