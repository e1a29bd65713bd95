"""What a build downloads, listed or put into a folder, for mirrors and machines without network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec import structs

from build_matrix.context import Context
from build_matrix.downloads import Downloads, available_toolkits, ingredient_choices
from build_matrix.downloads.origins import origin_of
from build_matrix.errors import ArchiveUnreachableError
from build_matrix.locks import locked_llama_releases
from build_matrix.locks.needed import Target, build_files, read_tool_lock, tool_files
from build_matrix.model import Cell, Component, HostCompiler, Machine, Request, file_sha256
from build_matrix.platforms import find_platform
from build_matrix.provision import resolve_toolkit
from build_matrix.resolve import make_plan, require_cell
from build_matrix.store import copy_atomically, disk_errors, write_atomically

Obtain = Callable[[Sequence[Component]], object]

SUMS = "SHA256SUMS"
# Nothing is compiled here, and every toolkit and release accepts GCC 11.
COMPILER = HostCompiler(name="gcc", version="11.4.0", description="", cc="gcc", cxx="g++", identity="")
ROOM = 10**12  # bytes; the disk that matters is another machine's


def needed_files(
    context: Context, requests: Iterable[Request], targets: Sequence[Target], obtain: Obtain
) -> list[Component]:
    """Every file that builds of these requests need, with what Nox installs; each once, in the order of places.

    ``obtain`` tries a toolkit's files, so that the next source is taken if the first cannot be reached.
    Raises what planning and downloading raise, NoCompatibleChoiceError for a target's platform that is not supported.
    """
    for target in targets:
        find_platform(target.platform)
    locked, downloads = read_tool_lock(), context.downloads
    files = [file for target in targets for file in tool_files(locked, target, downloads.listing, downloads.sizes)]
    for request in requests:
        cell = choose_cell(request, context.machine)
        context.reporter.say(f"llama-cpp-python {cell.llama} with CUDA {cell.cuda}")
        files += cell_files(context, cell, targets, obtain)
    by_place = {origin_of(file).place(file): file for file in files}
    return [by_place[name] for name in sorted(by_place)]


def cell_files(context: Context, cell: Cell, targets: Sequence[Target], obtain: Obtain) -> list[Component]:
    """What a build of ``cell`` and its verification download, from the first source of its toolkit that answers."""
    failures = []
    for choice in ingredient_choices(cell):
        try:
            resolved = resolve_toolkit(context, cell, choice)
            obtain(resolved.toolkit)
        except ArchiveUnreachableError as error:
            failures.append(error)
        else:
            return [*choice.toolkit, *(file for target in targets for file in build_files(cell, resolved, target))]
    raise failures[0]


def choose_cell(request: Request, machine: Machine) -> Cell:
    """What a build would choose on a machine with this driver and a compiler that every toolkit accepts."""
    able = structs.replace(machine, compilers=(COMPILER,), disk_free=ROOM)
    available = available_toolkits(machine.platform)
    cell, _ = require_cell(make_plan(request, able, locked_llama_releases(), available), able, available)
    return cell


def put(files: list[Component], folder: Path, downloads: Downloads) -> None:
    """Download the files and copy them into ``folder``, which gets a list for ``sha256sum --check`` too.

    Raises DownloadError and its kinds, DiskFullError, StoreNotWritableError.
    """
    paths = downloads.fetch(files, "what a build needs")
    with disk_errors(folder):
        for file, path in zip(files, paths, strict=True):
            target = folder / origin_of(file).place(file)
            if not target.is_file() or file_sha256(target) != file.sha256:
                target.parent.mkdir(parents=True, exist_ok=True)
                copy_atomically(path, target)
        lines = [f"{file.sha256}  {origin_of(file).place(file)}\n" for file in files]
        write_atomically(folder / SUMS, "".join(lines).encode())
