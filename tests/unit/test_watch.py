"""A child is watched from outside: what it holds, what its GPU holds, and an end where it takes too much."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from build_matrix.trial import watch as watching
from build_matrix.trial.watch import Watch
from build_matrix.verify import child


class NVMLError(Exception):
    """As pynvml has it."""


class FakeNvml(ModuleType):
    """NVML of one GPU; ``fails`` names the calls that answer with an error."""

    NVMLError = NVMLError

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.used = 0
        self.processes: list[SimpleNamespace] = []
        self.fails: set[str] = set()
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise NVMLError(name)

    def nvmlInit(self) -> None:  # noqa: N802
        self._call("init")

    def nvmlShutdown(self) -> None:  # noqa: N802
        self._call("shutdown")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self._call("handle")
        return f"handle of {uuid}"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        assert handle == "handle of GPU-1"
        self._call("memory")
        return SimpleNamespace(used=self.used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:  # noqa: N802
        self._call("processes")
        return self.processes


class FakeProcess:
    """A process of this size, in bytes."""

    def __init__(self, rss: int, shared: int, pid: int = 42) -> None:
        self.memory = SimpleNamespace(rss=rss, shared=shared)
        self.pid = pid

    def memory_info(self) -> SimpleNamespace:
        return self.memory


class Ticks:
    """In the place of an event: lets the loop go round so many times, each after a step of the test."""

    def __init__(self, steps: list[object]) -> None:
        self._steps: Iterator[object] = iter(steps)
        self.waited: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        try:
            step = next(self._steps)
        except StopIteration:
            return True
        if callable(step):
            step()
        return False


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(watching.os, "killpg", lambda pid, number: found.append((pid, number)))
    return found


def watch(process: FakeProcess | None, *steps: object, uuid: str = "GPU-1", limit: int = 1000) -> Watch:
    """A watch that has gone round once for each step."""
    one = Watch(uuid, limit)
    one._process = process  # type: ignore[assignment]
    one._ended = Ticks(list(steps))  # type: ignore[assignment]
    one._loop()
    return one


@pytest.mark.parametrize(("rss", "shared", "ended"), [(1000, 0, False), (1001, 0, True), (5000, 4000, False)])
def test_a_process_is_ended_above_its_limit_not_counting_what_it_maps(
    nvml: FakeNvml, killed: list[tuple[int, int]], rss: int, shared: int, ended: bool
) -> None:
    one = watch(FakeProcess(rss, shared), None, uuid="")
    assert one.exceeded == ended
    assert killed == ([(42, 9)] if ended else [])


def test_the_highest_value_of_each_stage_is_kept(nvml: FakeNvml, killed: list[tuple[int, int]]) -> None:
    def show(used: int, own: int) -> None:
        nvml.used = used
        nvml.processes = [
            SimpleNamespace(pid=7, usedGpuMemory=999),
            SimpleNamespace(pid=42, usedGpuMemory=own),
            SimpleNamespace(pid=42, usedGpuMemory=None),
        ]

    one = Watch("GPU-1", 1000)
    one._process = FakeProcess(1, 0)  # type: ignore[assignment]
    steps = [
        lambda: show(10, 1),
        lambda: (one.stage("a"), show(20, 2)),
        lambda: show(30, 5),
        lambda: show(25, 3),
        lambda: (one.stage("b"), show(7, 1)),
        lambda: (one.stage(""), show(100, 100)),
    ]
    one._ended = Ticks(list(steps))  # type: ignore[assignment]
    one._loop()
    assert dict(one.device) == {"a": 30, "b": 7}
    assert dict(one.process) == {"a": 5, "b": 1}
    assert nvml.calls.count("shutdown") == 1
    assert not one.exceeded


@pytest.mark.parametrize("fails", ["init", "handle", "memory", "processes", "shutdown"])
def test_a_driver_that_answers_with_an_error_shows_nothing(
    nvml: FakeNvml, killed: list[tuple[int, int]], fails: str
) -> None:
    nvml.fails, nvml.used = {fails}, 5
    one = Watch("GPU-1", 1000)
    one.stage("a")
    one._process = FakeProcess(2000, 0)  # type: ignore[assignment]
    one._ended = Ticks([None])  # type: ignore[assignment]
    one._loop()
    assert one.exceeded, "the process is watched all the same"
    assert not any(one.process.values())
    assert one.device.get("a", 0) == (5 if fails in {"processes", "shutdown"} else 0)
    assert ("shutdown" in nvml.calls) == (fails != "init")


def test_without_a_gpu_or_a_process_nothing_is_asked(nvml: FakeNvml, killed: list[tuple[int, int]]) -> None:
    one = watch(FakeProcess(1, 0), lambda: None, uuid="")
    assert (nvml.calls, dict(one.device)) == ([], {})
    watch(None, None)
    assert nvml.calls == ["init", "handle", "shutdown"]


@pytest.mark.parametrize("error", [psutil.NoSuchProcess(42), PermissionError("/proc/42/statm")])
def test_a_process_that_is_gone_or_not_to_be_read_is_no_error(
    nvml: FakeNvml, killed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: FakeProcess) -> None:
        raise error

    monkeypatch.setattr(FakeProcess, "memory_info", fail)
    assert not watch(FakeProcess(1, 0), None, uuid="").exceeded


def test_a_real_process_is_watched_until_the_block_ends(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    monkeypatch.setattr(watching, "POLL_SECONDS", 0.001)
    argv = [sys.executable, "-c", "x = bytearray(50_000_000); import time; time.sleep(60)"]
    with Watch("", 30_000_000) as one, subprocess.Popen(argv, start_new_session=True) as process:
        one.attach(process.pid)
        assert process.wait(60) == -9
    assert one.exceeded
    assert not one._thread.is_alive()


def test_a_process_that_ends_before_it_is_ended_is_no_error(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: int, __: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(watching.os, "killpg", gone)
    assert watch(FakeProcess(5000, 0), None, uuid="").exceeded


def test_it_is_looked_at_more_often_than_a_model_stays() -> None:
    assert 0 < watching.POLL_SECONDS < child.LINGER_SECONDS / 2
    assert 0 < watching.JOIN_SECONDS < 60


def test_a_process_that_ended_already_is_not_attached() -> None:
    one = Watch("", 1)
    one.attach(2**22 + 1)
    assert one._process is None
