"""``fetch``: what a build downloads, listed or put into a folder, for mirrors and machines without network."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from build_matrix.cli.options import (
    AllOption,
    ArchOption,
    CapabilityOption,
    CellOption,
    CudaOption,
    DriverCudaOption,
    JsonOption,
    LlamaOption,
    StoreOption,
    override_variables,
    parse_request,
)
from build_matrix.model import Component, Record
from build_matrix.pipeline.setup import examine_machine, open_context

if TYPE_CHECKING:
    from build_matrix.report import Reporter

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")  # of build_matrix.pipeline.lock
LIST_WIDTH = 320  # a line of the list is not folded, so that it can be searched


class FileRow(Record, frozen=True, kw_only=True):
    """One row of the list; ``size`` in bytes (0: unknown), ``place`` is where it lies in the folder."""

    filename: str
    size: int
    sha256: str
    origin: str
    purl: str
    place: str


FolderArgument = Annotated[
    Path | None, typer.Argument(help="Folder for the files.", show_default="not needed with --list")
]
PythonsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--python",
        metavar="VERSION",
        help="Python of the target machine, such as 3.12. Can be given several times.",
        show_default="this one",
    ),
]
ListOption = Annotated[bool, typer.Option("--list", help="List the files without downloading them.")]


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    folder: FolderArgument = None,
    cuda: CudaOption = "",
    llama: LlamaOption = "",
    arch: ArchOption = None,
    every: AllOption = False,  # noqa: FBT002
    cell: CellOption = None,
    python: PythonsOption = None,
    only_list: ListOption = False,  # noqa: FBT002
    as_json: JsonOption = False,  # noqa: FBT002
    driver_cuda: DriverCudaOption = None,
    compute_capability: CapabilityOption = None,
    store_folder: StoreOption = None,
) -> None:
    """Download everything a build needs into a folder for a machine without network; each file is checked by sha256."""
    from build_matrix.cli.common import print_json
    from build_matrix.errors import ConfigurationError
    from build_matrix.locks.needed import Target
    from build_matrix.pipeline.build import requests_of_matrix
    from build_matrix.pipeline.fetch import needed_files, put
    from build_matrix.platforms import find_platform
    from build_matrix.report import make_reporter

    if folder is None and not only_list:
        raise ConfigurationError("No folder is named.", "Name one (`nox -s fetch -- FOLDER`), or add --list.")
    request, pythons = parse_request(cuda, llama, arch, ignore_driver=True), parse_pythons(python)
    machine = examine_machine(store_folder, override_variables(driver_cuda, compute_capability))
    requests = requests_of_matrix(request, cell, machine.platform) if every or cell else {"": request}
    context = open_context(store_folder, make_reporter(), machine)
    platform = find_platform(machine.platform).name
    targets = [Target(minor, platform) for minor in pythons]
    obtain = (lambda _: None) if only_list else partial(context.downloads.fetch, label="toolkit")
    files = needed_files(context, requests.values(), targets, obtain)
    if folder and not only_list:
        put(files, folder, context.downloads)
        explain(files, folder, context.reporter)
    if as_json:
        print_json([row(file) for file in files])
    elif only_list:
        print_files(files)


def parse_pythons(versions: Sequence[str] | None) -> tuple[str, ...]:
    """Minor versions of CPython, this one when none is given; raises ConfigurationError."""
    from build_matrix.errors import ConfigurationError

    if not versions:
        return (f"{sys.version_info.major}.{sys.version_info.minor}",)
    if wrong := [text for text in versions if text not in PYTHONS]:
        raise ConfigurationError(f"The locks have no files for --python {wrong[0]}.", f"Use {', '.join(PYTHONS)}.")
    return tuple(dict.fromkeys(versions))


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
        item = row(file)
        size = f"{item.size / 1e6:.1f}" if item.size else ""
        table.add_row(*map(Text, (item.place, size, item.sha256, item.origin, item.purl)))
    console = standard_output()
    console.width = max(console.width, LIST_WIDTH)
    console.print(table)
    console.print(f"{len(files)} files, {sum(file.size for file in files) / 1e6:.0f} MB", highlight=False)
