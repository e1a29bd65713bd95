"""Runs a child in a wheel's environment, within limits, and gathers what it reports and what it uses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from build_matrix.model import Record, RunFacts
from build_matrix.process.runner import Completed, run
from build_matrix.trial import harness
from build_matrix.trial.environment import Environment, child_variables
from build_matrix.trial.watch import Watch

JOBS = "jobs.json"
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")  # llama.cpp's own log


class Limits(Record, frozen=True, kw_only=True):
    """How many seconds a child may take, and how many bytes of memory it may hold of its own."""

    seconds: float
    memory: int


class JobResult(Record, frozen=True, kw_only=True):
    """What is known of one job.

    ``layers`` are how many llama.cpp offloaded, and of how many (None: its log has no such line); ``seconds`` are those
    of each part; ``process_memory`` and ``device_memory`` are what the process and the whole GPU had in use at most
    from when the model was loaded, in bytes (see Watch).
    """

    layers: tuple[int, int] | None = None
    tokens: int = 0
    vocabulary: int = 0
    seconds: dict[str, float] = msgspec.field(default_factory=dict)
    process_memory: int = 0
    device_memory: int = 0


class ChildResult(Record, frozen=True, kw_only=True):
    """What a child reported and how it ended, with each job that it began by its name."""

    facts: RunFacts
    jobs: dict[str, JobResult]

    def job(self, name: str) -> JobResult:
        """What is known of a job; nothing is known of one that was not begun."""
        return self.jobs.get(name, JobResult())


class _Report(Record, frozen=True, kw_only=True):
    """One line of the harness or of its program."""

    version: str = ""
    folder: str = ""
    offload: bool | None = None
    backends: tuple[str, ...] = ()
    job: str = ""
    state: str = ""
    tokens: int = 0
    vocabulary: int = 0
    seconds: dict[str, float] = msgspec.field(default_factory=dict)
    finished: bool = False


_EMPTY = _Report()


def run_child(
    environment: Environment,
    program: Path,
    jobs: Sequence[Record],
    limits: Limits,
    *,
    variables: Mapping[str, str] | None = None,
    gpu: str = "",
) -> ChildResult:
    """Do ``jobs``, of which each has a ``name``, with ``program`` (see harness) in the environment of a wheel.

    ``variables`` are set for the child, ``gpu`` is NVML's UUID of the GPU whose memory is watched. However the child
    ends is a result. Raises OSError when it cannot be started.
    """
    path = environment.folder / JOBS
    path.write_bytes(msgspec.json.encode({"jobs": jobs}))
    watch = Watch(gpu, limits.memory)
    reports = _Reports(watch)
    with watch:
        result = run(
            [environment.python, "-I", harness.__file__, program, path],
            env=child_variables(environment.folder) | dict(variables or {}),
            cwd=environment.folder,
            on_line=reports.take,
            on_start=watch.attach,
            timeout=limits.seconds,
        )
    return reports.result(result, limits)


def replace_text(facts: RunFacts, private: str, public: str) -> RunFacts:
    """The facts with ``public`` in the place of what a published result must not tell of this machine."""
    log, backends = (tuple(line.replace(private, public) for line in lines) for lines in (facts.log, facts.backends))
    return structs.replace(facts, log=log, backends=backends)


class _Reports:
    """What a child writes, line by line."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._facts: dict[str, Any] = {}
        self._jobs: dict[str, JobResult] = {}
        self._job = ""

    def take(self, line: str) -> None:
        """Take up one line; what is no report is the child's log."""
        if match := _OFFLOADED.search(line):
            self._add(layers=(int(match[1]), int(match[2])))
        report = _parse(line)
        if report is None:
            return
        self._facts |= _known(report, "version", "folder", "offload", "backends", "finished")
        self._job = report.job or self._job
        self._add(**_known(report, "tokens", "vocabulary", "seconds"))
        if report.state:
            self._watch.stage(self._job if report.state == "loaded" else "")

    def result(self, result: Completed, limits: Limits) -> ChildResult:
        """Everything together, after the child has ended."""
        finished = self._facts.pop("finished", False) and result.code == 0
        facts = RunFacts(
            **self._facts,
            finished=finished,
            code=result.code,
            timed_out=limits.seconds if result.timed_out else 0.0,
            memory_exceeded=self._watch.exceeded,
            job=self._job,
            log=tuple(line for line in result.tail if line.strip() and _parse(line) is None),
        )
        process, device = self._watch.process, self._watch.device
        jobs = {
            name: structs.replace(job, process_memory=process.get(name, 0), device_memory=device.get(name, 0))
            for name, job in self._jobs.items()
        }
        return ChildResult(facts=facts, jobs=jobs)

    def _add(self, **known: Any) -> None:
        if self._job:
            self._jobs[self._job] = structs.replace(self._jobs.get(self._job, JobResult()), **known)


def _known(report: _Report, *names: str) -> dict[str, Any]:
    """What a report says of these; what it does not say has the value of an empty one."""
    values = {name: getattr(report, name) for name in names}
    return {name: value for name, value in values.items() if value != getattr(_EMPTY, name)}


def _parse(line: str) -> _Report | None:
    """The report in a line; None for one that is none, whatever a wheel may write."""
    if not line.startswith(harness.PREFIX):
        return None
    try:
        return msgspec.json.decode(line.removeprefix(harness.PREFIX), type=_Report)
    except msgspec.DecodeError:
        return None
