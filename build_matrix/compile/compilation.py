"""One run of the PEP 517 build: its folders, its command, its log, and what is seen of it while it runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple, TextIO

from build_matrix.compile.cache import (
    SCCACHE_STATISTICS,
    STATISTICS,
    CacheChoice,
    cache_environment,
    server,
)
from build_matrix.compile.file_api import check_facts, read_facts, write_query
from build_matrix.compile.flags import command, environment
from build_matrix.compile.isolation import View
from build_matrix.compile.progress import Step, Times, planned_steps, seconds_left
from build_matrix.compile.remote import Remote
from build_matrix.compile.sccache_server import FAILED
from build_matrix.model import BuildFacts, BuildInputs, Conditions
from build_matrix.process.runner import Completed, log_to, run
from build_matrix.report import Meter, Reporter

MARK = "BUILD_MATRIX_WORK"  # names the work folder in the environment of every process that compiles in it

_STATUS = re.compile(r"\[(\d+)/(\d+)\] ")


class Compilation(NamedTuple):
    """What is compiled, under which conditions, in which folder, and what the compilers see of it."""

    inputs: BuildInputs
    conditions: Conditions
    runpath: tuple[str, ...]
    folder: Path
    view: View
    remote: Remote | None

    def run(self, choice: CacheChoice, reporter: Reporter, log: TextIO) -> tuple[Completed, Watch]:
        """Compile to the end, without sccache where its server does not start; raises CompileError."""
        result, watch = self._attempt(choice, reporter, log)
        if result.code == FAILED and choice.sccache:
            reporter.say(
                f"  compile cache: without sccache: {result.tail[-2] if len(result.tail) > 1 else result.output}"
            )
            return self._attempt(choice._replace(sccache=None, behind_all=False), reporter, log)
        return result, watch

    def _attempt(self, choice: CacheChoice, reporter: Reporter, log: TextIO) -> tuple[Completed, Watch]:
        lay_out(self.inputs, self.folder, self.view.work, choice)
        with reporter.meter("compiling", "steps", None) as meter:
            watch = Watch(self, meter)
            argv, variables = self._argv(choice), self._variables(choice)
            return run(argv, env=variables, cwd=self.folder / "src", on_line=log_to(log, watch.line)), watch

    def _argv(self, choice: CacheChoice) -> list[str]:
        before = [*self.view.before, *self.conditions.wrapper, *server(choice, self.inputs, self.view.work)]
        return [*before, *command(self.view.inputs, self.view.work, self.runpath)]

    def _variables(self, choice: CacheChoice) -> dict[str, str]:
        work, inputs = self.view.work, self.inputs
        variables = environment(inputs.environment, inputs.compiler, work, self.conditions.jobs)
        cache = cache_environment(choice, self.conditions.cache, self.remote, inputs, work)
        return variables | {MARK: str(self.folder)} | cache


def lay_out(inputs: BuildInputs, folder: Path, work: Path, choice: CacheChoice) -> None:
    """Sources, an empty output folder, CMake's File API query; what an interrupted run has built is kept."""
    ready = folder / "src.ready"
    if not ready.exists():
        shutil.rmtree(folder / "src", ignore_errors=True)
        shutil.copytree(inputs.source.root, folder / "src", symlinks=True)
        ready.touch()
    build = folder / "build"
    place = folder / "seen-as"
    configured = f"{work} {choice.first}"
    same_place = place.exists() and place.read_text() == configured
    if not (same_place and (build / "build.ninja").exists()):  # an interrupted configuration is not worth keeping
        shutil.rmtree(build, ignore_errors=True)
    place.write_text(configured)
    write_query(build)
    for name in (STATISTICS, SCCACHE_STATISTICS):  # an interrupted run's compilations are not this one's
        (folder / name).unlink(missing_ok=True)
    for name in ("out", "tmp", "home"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()


class Watch:
    """Follows the build's output: progress, and what CMake chose, before the first object is compiled."""

    def __init__(self, compilation: Compilation, meter: Meter) -> None:
        self._view, self._jobs = compilation.view, compilation.conditions.jobs
        self._folders = {compilation.view.work: compilation.folder}
        self._build = compilation.folder / "build"
        self._times = Times(self._build)
        self._meter = meter
        self._planned: dict[str, Step] = {}
        self.facts: BuildFacts | None = None
        self.steps = 0

    def line(self, text: str) -> None:
        """Take one line of the output; raises CompileError as `check` does."""
        match = _STATUS.match(text)
        if not match:
            return
        if self.facts is None:
            self.facts = self.check()
            architectures = len(self._view.inputs.cell.architectures)
            steps = planned_steps(self._build, architectures, self._folders)
            earlier = self._times.earlier()
            self._planned = {output: step for output, step in steps.items() if output not in earlier}
        completed, self.steps = int(match[1]), int(match[2])
        remaining = seconds_left(self._planned, self._times.read(), self._jobs)
        self._meter.update(completed, self.steps, remaining)

    def check(self) -> BuildFacts:
        """What CMake chose; raises CompileError when that is not what was asked."""
        facts = read_facts(self._build, self._view.work / "build")
        check_facts(facts, self._view.inputs.cell, self._view.inputs.toolchain)
        return facts
