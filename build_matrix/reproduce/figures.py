"""The sha256 of wheels, each with the commit that gives it: docs/evidence/wheels.toml, and the page that shows them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import msgspec

from build_matrix.errors import ConfigurationError
from build_matrix.model import Record, WheelRecord
from build_matrix.store import write_atomically

TABLE = Path("docs/evidence/wheels.toml")
PAGE = Path("docs/explanation/reproducible-builds.md")
START = "<!-- generated from docs/evidence/wheels.toml by `nox -s figures` -->"
END = "<!-- end of what is generated -->"
HEADER = "# Written by `nox -s figures -- OPTIONS`, which builds the wheel from a clean checkout; do not edit.\n\n"
SECONDS = 30
SHORT = 12  # digits of a commit on the page


class Figure(Record, frozen=True, kw_only=True):
    """A wheel that a commit gave: ``size`` in bytes, ``compiler`` as it describes itself."""

    filename: str
    sha256: str
    size: int
    commit: str
    compiler: str
    libc: str


class Figures(Record, frozen=True, kw_only=True):
    """``wheels.toml``."""

    wheel: tuple[Figure, ...] = ()


def clean_commit(checkout: Path) -> str:
    """The commit that is checked out; raises ConfigurationError where files differ from it, or there is no git."""
    try:
        changed, commit = (_git(checkout, *argv) for argv in (("status", "--porcelain"), ("rev-parse", "HEAD")))
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(f"git finds no commit here: {error}", "Run it in a clone.") from error
    if changed:
        first = changed.splitlines()[0].split(maxsplit=1)[-1]
        raise ConfigurationError(
            f"This checkout has uncommitted changes ({first}), so the wheel would belong to no commit.", "Commit first."
        )
    return commit


def read_figures(path: Path = TABLE) -> Figures:
    """The table, empty where there is none; raises ConfigurationError."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Figures)
    except FileNotFoundError:
        return Figures()
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", "Restore it from git.") from error


def note(record: WheelRecord, commit: str, libc: str, checkout: Path) -> Figure:
    """Write the wheel's row in the place of an older one of the same name, and the page's table; returns the row."""
    figure = Figure(
        filename=record.filename,
        sha256=record.sha256,
        size=record.size,
        commit=commit,
        compiler=record.host_compiler.description,
        libc=libc,
    )
    remaining = (row for row in read_figures(checkout / TABLE).wheel if row.filename != figure.filename)
    figures = Figures(wheel=tuple(sorted((*remaining, figure), key=lambda row: row.filename)))
    write_atomically(checkout / TABLE, HEADER.encode() + msgspec.toml.encode(figures))
    page = checkout / PAGE
    write_atomically(page, rewritten(page.read_text(encoding="utf-8"), figures.wheel).encode())
    return figure


def rewritten(page: str, figures: Iterable[Figure]) -> str:
    """The page with a table of these between its marks; ValueError for one that lacks them."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(page[:80])
    rows = [f"| {' | '.join(_cells(figure))} |" for figure in figures]
    table = ["| wheel | sha256 | MB | commit | built with |", "|---|---|---|---|---|", *rows] if rows else []
    return "\n".join([before + start, *([""] if table else []), *table, *([""] if table else []), end + after])


def _cells(figure: Figure) -> tuple[str, ...]:
    megabytes = f"{figure.size / 1e6:.1f}"
    names = (f"`{text}`" for text in (figure.filename, figure.sha256))
    return (*names, megabytes, f"`{figure.commit[:SHORT]}`", f"{figure.compiler}; {figure.libc}")


def _git(checkout: Path, *argv: str) -> str:
    result = subprocess.run(
        ["git", "-C", str(checkout), *argv], capture_output=True, encoding="utf-8", timeout=SECONDS, check=True
    )
    return result.stdout.strip()
