"""Runs the unit tests in a copy of the checkout: once as it is, to learn which reach what, then once a mutant."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mutants import Change, Mutant, apply, change

TESTS = "tests/unit"
OF_THE_TREE = f"{TESTS}/test_architecture.py"  # reaches no line of a module, and looks at what each one declares
UNIT = "not (compiler or index or build)"  # the same score with a compiler and without
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.whl", "mutants", "node_modules")
KEPT = (".ci", ".github")  # tests read them
BASELINE_SECONDS = 900.0
GRACE_SECONDS = 30.0  # for a mutant's tests, and three times what they took: a loop without end is a failure too
SLOWER = 3.0


class Reach(NamedTuple):
    """Which tests reach a line, by file and line; how long each test takes, in seconds."""

    lines: Mapping[str, Mapping[int, frozenset[str]]]
    seconds: Mapping[str, float]

    def tests(self, path: str, lines: Iterable[int]) -> list[str]:
        """The tests that can see a change of these lines, the fastest first.

        A line that runs on import is seen by every test that reaches its file, and by their neighbours, which may look
        at a constant; a line that no test reaches in this process perhaps by those of its folder, which may start it
        as a program.
        """
        own = self.lines.get(path, {})
        found: set[str] = set().union(*(own.get(number, frozenset()) for number in lines))
        if "" in found:
            files = {test.partition("::")[0] for tests in own.values() for test in tests} | {OF_THE_TREE}
            found |= {test for test in self.seconds if test.partition("::")[0] in files}
        if not found - {""}:
            folder = path.rpartition("/")[0]
            near = (lines for name, lines in self.lines.items() if name.rpartition("/")[0] == folder)
            found = set().union(*(tests for lines in near for tests in lines.values()))
        return sorted(found - {""}, key=lambda test: (self.seconds.get(test, 0.0), test))


class Result(NamedTuple):
    """What became of a mutant; ``tests``: how many were run against it at most."""

    mutant: Mutant
    change: Change
    killed: bool
    tests: int


def copy_checkout(root: Path, target: Path) -> Path:
    """A copy in which files may be changed, without builds, caches and environments."""
    shutil.copytree(root, target, ignore=LEFT_OUT, symlinks=True)
    for name in KEPT:
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name)
    return target


def record_reach(copy: Path) -> Reach:
    """Run the unit tests once; raises SystemExit when they do not pass, since then nothing can be learnt."""
    target = copy.parent / "reach.json"
    # Only the C tracer tells one test's lines from the next one's (coverage's documentation of COVERAGE_CORE).
    code, output = _pytest(copy, [TESTS], {"MUTATION_REACH": str(target), "COVERAGE_CORE": "ctrace"}, BASELINE_SECONDS)
    if code:
        sys.exit(f"The unit tests do not pass without a change (exit code {code}):\n{output}")
    data = json.loads(target.read_text(encoding="utf-8"))
    lines = {
        path: {int(line): frozenset(tests) for line, tests in by_line.items()}
        for path, by_line in data["lines"].items()
    }
    return Reach(lines, data["seconds"])


def try_mutant(copy: Path, mutant: Mutant, reach: Reach) -> Result:
    """Write the mutant into ``copy``, run the tests that reach it until one fails, and take it back."""
    target = copy / mutant.path
    old = target.read_text(encoding="utf-8")
    new = apply(copy, mutant)
    lines = change(old, new)
    tests = reach.tests(mutant.path, {mutant.statement, *range(mutant.line, mutant.line + len(lines.before))})
    if not tests:
        return Result(mutant, lines, killed=False, tests=0)
    chosen = copy.parent / f"{copy.name}.txt"
    chosen.write_text("\n".join(tests), encoding="utf-8")
    files = sorted({test.partition("::")[0] for test in tests})
    limit = GRACE_SECONDS + SLOWER * sum(reach.seconds.get(test, 0.0) for test in tests)
    target.write_text(new, encoding="utf-8")
    try:
        code, output = _pytest(copy, ["-x", *files], {"MUTATION_ONLY": str(chosen)}, limit)
    finally:
        target.write_text(old, encoding="utf-8")
    if code == NO_TESTS:
        sys.exit(f"The tests of {mutant.name} were not collected:\n{output}")
    return Result(mutant, lines, killed=code != 0, tests=len(tests))


NO_TESTS = 5  # pytest.ExitCode.NO_TESTS_COLLECTED


def _pytest(copy: Path, arguments: list[str], variables: Mapping[str, str], limit: float) -> tuple[int, str]:
    """Exit code and output; a run longer than ``limit`` seconds is ended and counts as failed."""
    home = copy.parent / f"{copy.name}-home"
    for name in ("", "tmp"):
        (home / name).mkdir(exist_ok=True)
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "PYTHONPATH": str(here),
        "PYTHONDONTWRITEBYTECODE": "1",  # a file that changes twice within a second would be taken from __pycache__
        **variables,
    }
    argv = [sys.executable, "-m", "pytest", "-q", "-m", UNIT, "-p", "plugin", "-p", "no:cacheprovider", *arguments]
    process = subprocess.Popen(
        argv,
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return process.returncode, output
