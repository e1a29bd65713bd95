"""What was verified of a wheel: the result of ``verify``."""

from __future__ import annotations

import signal
from typing import Literal

from build_matrix.model.base import Record
from build_matrix.model.finding import Finding
from build_matrix.model.machine import Driver

Offload = Literal["proven", "failed", "impossible_here", "untested"]


class Check(Record, frozen=True, kw_only=True):
    """One check of a wheel: its name, whether it passed, and the evidence."""

    name: str
    passed: bool
    detail: str


class RunFacts(Record, frozen=True, kw_only=True):
    """What a process that uses a wheel reported, and how it ended.

    ``offload`` is the result of llama_supports_gpu_offload(), None when it was never called; ``backends`` are the lines
    of the wheel's own loader; ``code`` is negative for a signal; ``timed_out`` is the limit in seconds, if that ended
    it; ``job`` is what it was at; ``log`` are the last lines.
    """

    version: str = ""
    folder: str = ""
    offload: bool | None = None
    backends: tuple[str, ...] = ()
    finished: bool = False
    code: int = 0
    timed_out: float = 0.0
    memory_exceeded: bool = False
    job: str = ""
    log: tuple[str, ...] = ()

    @property
    def end(self) -> str:
        """How it ended, as a clause."""
        if self.memory_exceeded:
            return "stopped because it took too much memory"
        if self.timed_out:
            return f"did not finish within {self.timed_out:.0f} s"
        if self.code < 0:
            return f"ended by signal {-self.code} ({_signal_name(-self.code)})"
        return f"exit code {self.code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


class GpuVerdict(Record, frozen=True, kw_only=True):
    """What was verified of a wheel on one GPU; ``uuid_sha256`` names the GPU without telling its UUID.

    ``log``: the last lines of a run that failed.
    """

    name: str
    uuid_sha256: str
    compute_capability: str
    offload: Offload
    reason: str
    checks: tuple[Check, ...] = ()
    cause: Finding | None = None
    log: tuple[str, ...] = ()


class Verdict(Record, frozen=True, kw_only=True):
    """``<wheel>.verdict.json``: what was verified of a wheel, on which machine.

    ``cause`` is why it does not offload: what was found, and the remedy; ``log``: the last lines of a run with the GPU
    hidden that failed.
    """

    schema: Literal["build-matrix/verdict/2"] = "build-matrix/verdict/2"
    filename: str
    sha256: str
    offload: Offload
    reason: str
    cause: Finding | None = None
    checks: tuple[Check, ...]
    driver: Driver | None = None
    gpus: tuple[GpuVerdict, ...] = ()
    log: tuple[str, ...] = ()
    seconds: float = 0.0
    libc: str = ""
    python: str
    tool: str
    inputs: str

    @property
    def passed(self) -> bool:
        """Whether every check holds (an untested offload is not a failed check)."""
        return self.offload != "failed" and all(check.passed for check in self.checks)
