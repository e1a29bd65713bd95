"""Do the unit tests see small wrong changes? A sample of mutants, each against the tests that reach it.

nox -s mutants                          # a sample of 300 over all of PARTS
nox -s mutants -- resolve --count 50    # of one part
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
from mutants import Change, Mutant, mutants_of
from trial import Result, copy_checkout, record_reach, try_mutant

ROOT = Path(__file__).parents[2]
PACKAGE = "build_matrix"
PARTS = (
    "verify",
    "trial",
    "wheelfile",
    "resolve",
    "diagnosis",
    "wheel",
    "store",
    "compile/flags",
    "source",
    "reproduce",
)
ACCEPTED = Path(__file__).with_name("accepted.toml")
COUNT = 300
SEED = "2026"
LOWEST = 0.9  # of the sample that must be killed


class Accepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mutant that may survive: the lines that it changes, without indentation, and why no test can or need see it."""

    path: str
    before: str
    after: str
    reason: str


class Excluded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that is not mutated, and why."""

    path: str
    reason: str


class Decisions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``accepted.toml``."""

    excluded: tuple[Excluded, ...] = ()
    accepted: tuple[Accepted, ...] = ()


class Score(NamedTuple):
    """How many of a sample were killed."""

    killed: int
    all: int

    def __str__(self) -> str:
        return f"{self.killed} of {self.all} killed ({self.killed / self.all:.1%})"


def main() -> int:
    """Try a sample of mutants, print score and survivors; 1 when too many survive."""
    options = _parse()
    started = time.monotonic()
    decisions = msgspec.toml.decode(ACCEPTED.read_bytes(), type=Decisions)
    excluded = {item.path for item in decisions.excluded}
    files = [path for path in files_of(options.parts) if path not in excluded]
    everything = [mutant for path in files for mutant in mutants_of(ROOT, path, options.seed)]
    chosen = sorted(everything, key=lambda mutant: mutant.key)[: options.count]
    print(f"{len(chosen)} of {len(everything)} mutants of {len(files)} files, seed {options.seed}", flush=True)
    results = run_all(chosen, options.jobs)
    score = report(results, decisions)
    print(f"{score} in {(time.monotonic() - started) / 60:.0f} minutes")
    return 0 if score.killed >= LOWEST * score.all else 1


def files_of(parts: Iterable[str]) -> list[str]:
    """The Python files of these parts of the package, each a module or a folder."""
    found: list[Path] = []
    for part in parts:
        place = ROOT / PACKAGE / part
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        if not files or not files[0].is_file():
            sys.exit(f"{PACKAGE}/{part} is no module of this checkout.")
        found += files
    return [path.relative_to(ROOT).as_posix() for path in dict.fromkeys(found)]


def run_all(chosen: Sequence[Mutant], jobs: int) -> list[Result]:
    """Try each mutant, ``jobs`` at a time, each job in a copy of its own."""
    copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        for number in range(jobs):
            copies.put(copy_checkout(ROOT, Path(folder) / f"copy-{number}" / "checkout"))
        first = copies.get()
        reach = record_reach(first)
        copies.put(first)

        def attempt(mutant: Mutant) -> Result:
            copy = copies.get()
            try:
                result = try_mutant(copy, mutant, reach)
            finally:
                copies.put(copy)
            print("." if result.killed else "S", end="", flush=True)
            return result

        try:
            results = list(pool.map(attempt, chosen))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    print()
    return results


def report(results: Sequence[Result], decisions: Decisions) -> Score:
    """Print the survivors with their changes, and the score of each file; the score of all."""
    reasons = {(item.path, item.before, item.after): item.reason for item in decisions.accepted}
    survivors = [result for result in results if not result.killed]
    for result in sorted(survivors, key=lambda one: (one.mutant.path, one.mutant.line)):
        reason = reasons.get(_key(result.mutant, result.change), "no reason is given")
        reached = f"{result.tests} tests" if result.tests else "no test reaches it"
        print(f"survived: {result.mutant.name} ({reached})\n{result.change}\n    {reason}")
    for path in sorted({result.mutant.path for result in results}):
        own = [result.killed for result in results if result.mutant.path == path]
        print(f"{path:40} {Score(sum(own), len(own))}")
    return Score(len(results) - len(survivors), len(results))


def _key(mutant: Mutant, lines: Change) -> tuple[str, str, str]:
    return mutant.path, "\n".join(lines.before), "\n".join(lines.after)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s mutants --", description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"below {PACKAGE}/; all of {', '.join(PARTS)}")
    parser.add_argument("--count", type=int, default=COUNT, help=f"how many are tried ({COUNT})")
    parser.add_argument("--seed", default=SEED, help=f"decides which ({SEED})")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="how many at a time (2)")
    return parser.parse_args()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
