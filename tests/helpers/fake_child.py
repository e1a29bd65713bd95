"""A child that computes nothing: it answers as a wheel would, right or wrong, for tests without a wheel and a GPU."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from build_matrix.process.runner import Completed
from build_matrix.trial import harness
from build_matrix.trial.environment import Environment
from build_matrix.trial.watch import Watch
from build_matrix.verify.model_file import MODELS, VOCABULARY
from build_matrix.verify.smoke import REFERENCE_TOKENS, TOKENS, SmokeTest

SCALE = 7.0  # standard deviation of the logits: not 1, or a bound that forgets to normalise would hold by chance
MODEL_TOKENS = 40
MODEL_VOCABULARY = 97


@lru_cache
def truth(name: str, rows: int = TOKENS, vocabulary: int = VOCABULARY) -> np.ndarray:
    """The right logits of the model ``name``."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return (random.normal(size=(rows, vocabulary)) * SCALE + 3).astype(np.float32)


def with_error(right: np.ndarray, error: float) -> np.ndarray:
    """``right`` with noise whose squares sum up to ``error`` times its own."""
    noise = np.random.RandomState(1).normal(size=right.shape)
    noise *= np.sqrt(error * (right.astype(np.float64) ** 2).sum() / (noise**2).sum())
    return right.astype(np.float64) + noise


def make_smoke_test(scratch: Path, model: Path | None = None) -> SmokeTest:
    """A smoke test with references for every model, and no wheel."""
    references = {}
    for one in MODELS:
        rows = TOKENS if one.product else REFERENCE_TOKENS
        references[one.name] = scratch / f"{one.name}-reference.f32"
        truth(one.name)[:rows].tofile(references[one.name])
    environment = Environment(python=scratch / "bin/python", folder=scratch)
    return SmokeTest(environment=environment, threads=2, references=references, model=model)


def write_cpu_logits(test: SmokeTest) -> None:
    """What a run with the GPU hidden has left for the GPU's numbers to be compared with."""
    for one in MODELS:
        truth(one.name).tofile(test.folder / f"cpu-{one.name}-0.f32")
    if test.model:
        truth("of the user", MODEL_TOKENS, MODEL_VOCABULARY).tofile(test.folder / "cpu-model-0.f32")


def model_of(job: Mapping[str, Any]) -> str:
    return Path(job["model"]).stem


def right_logits(job: Mapping[str, Any]) -> np.ndarray | None:
    if job["text"]:
        return truth("of the user", MODEL_TOKENS, MODEL_VOCABULARY)
    return truth(model_of(job))


def right_layers(job: Mapping[str, Any]) -> tuple[int, int] | None:
    every = job["every"] or 33
    return (min(job["layers"], every), every)


class FakeChild:
    """Stands in for ``runner.run``; what it was started with is kept.

    ``logits`` gives a job's table (None: it writes none), ``layers`` what llama.cpp's log says of it (None: nothing).
    """

    def __init__(
        self,
        scratch: Path,
        logits: Callable[[Mapping[str, Any]], np.ndarray | None] = right_logits,
        layers: Callable[[Mapping[str, Any]], tuple[int, int] | None] = right_layers,
        code: int = 0,
        timed_out: bool = False,
        extra: Sequence[str] = (),
        **facts: object,
    ) -> None:
        self._logits, self._layers, self._code, self._timed_out = logits, layers, code, timed_out
        self._extra = extra
        self._facts = {
            "version": "0.3.16",
            "folder": str(scratch / "environment/llama_cpp"),
            "offload": True,
            "backends": ["cuda: loaded"],
            "finished": True,
        } | facts
        self.argv: list[str] = []
        self.env: dict[str, str] = {}
        self.jobs: list[dict[str, Any]] = []
        self.timeout = 0.0
        self.started_in: Path | None = None

    def __call__(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        cwd: Path,
        on_line: Callable[[str], None],
        on_start: Callable[[int], None],
        timeout: float,
    ) -> Completed:
        self.argv, self.env, self.timeout, self.started_in = [str(word) for word in argv], dict(env), timeout, cwd
        self.jobs = json.loads(Path(argv[-1]).read_text())["jobs"]
        on_start(4711)
        facts = dict(self._facts)
        finished = facts.pop("finished")
        lines = [*self._extra, _fact(**{name: value for name, value in facts.items() if value is not None})]
        for job in self.jobs:
            lines.append(_fact(job=job["name"], state="started"))
            if (layers := self._layers(job)) is not None:
                lines.append(f"load_tensors: offloaded {layers[0]}/{layers[1]} layers to GPU")
            lines.append(_fact(job=job["name"], state="loaded"))
            logits = self._logits(job)
            if logits is not None:
                np.asarray(logits, dtype=np.float32).tofile(job["logits"])
                lines.append(_fact(job=job["name"], tokens=len(logits), vocabulary=logits.shape[1]))
            lines.append(_fact(job=job["name"], state="done", seconds={}))
        if finished:
            lines.append(_fact(finished=True))
        for line in lines:
            on_line(line)
        return Completed(self.argv, self._code, ["", *lines], timed_out=self._timed_out)


def _fact(**facts: object) -> str:
    return harness.PREFIX + json.dumps(facts)


class FakeWatch(Watch):
    """Samples nothing: what NVML would have shown is given before, in bytes by the job's name."""

    process_memory: Mapping[str, int] = {}
    device_memory: Mapping[str, int] = {}
    last: FakeWatch

    def __init__(self, uuid: str, memory_limit: int) -> None:
        super().__init__(uuid, memory_limit)
        self.process.update(self.process_memory)
        self.device.update(self.device_memory)
        self.uuid, self.memory_limit = uuid, memory_limit
        self.pids: list[int] = []
        self.stages: list[str] = []
        type(self).last = self

    def __enter__(self) -> FakeWatch:  # noqa: PYI034 - typing.Self came with Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def attach(self, pid: int) -> None:
        self.pids.append(pid)

    def stage(self, name: str) -> None:
        self.stages.append(name)
