"""Watches a child from outside: the memory that it holds, on the host and, as NVML reports it, on a GPU."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import psutil

POLL_SECONDS = 0.02
JOIN_SECONDS = 5.0  # a driver may hang; the thread is a daemon


class Watch:
    """Samples a process until the block ends; the highest value of each stage is kept, all in bytes.

    ``process`` is what NVML reports of the process itself, ``device`` what is in use on the whole GPU: in a container
    NVML names processes by other numbers, and then only the second one is known.
    """

    def __init__(self, uuid: str, memory_limit: int) -> None:
        """``uuid`` is NVML's name of the GPU, or empty; the process is ended above ``memory_limit``."""
        self.process: dict[str, int] = defaultdict(int)
        self.device: dict[str, int] = defaultdict(int)
        self.exceeded = False
        self._limit = memory_limit
        self._uuid = uuid
        self._stage = ""
        self._process: psutil.Process | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Watch:  # noqa: PYI034 - typing.Self came with Python 3.11
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(JOIN_SECONDS)

    def attach(self, pid: int) -> None:
        """Watch this process, the leader of its group."""
        with contextlib.suppress(psutil.Error):
            self._process = psutil.Process(pid)

    def stage(self, name: str) -> None:
        """What is sampled from now on belongs to ``name``; an empty name: to nothing."""
        self._stage = name

    def _loop(self) -> None:
        with _gpu(self._uuid) as handle:
            while not self._ended.wait(POLL_SECONDS):
                if self._process is not None:
                    self._sample_memory(self._process)
                    if handle is not None and self._stage:
                        self._sample_gpu(handle, self._process.pid, self._stage)

    def _sample_memory(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error, OSError):
            used = process.memory_info()
            # A model file that is mapped counts as shared: it can always be read again.
            if used.rss - getattr(used, "shared", 0) > self._limit:
                self.exceeded = True
                _end(process)

    def _sample_gpu(self, handle: Any, pid: int, stage: str) -> None:
        import pynvml

        with contextlib.suppress(pynvml.NVMLError):
            self.device[stage] = max(self.device[stage], int(pynvml.nvmlDeviceGetMemoryInfo(handle).used))
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if process.pid == pid:
                    self.process[stage] = max(self.process[stage], int(process.usedGpuMemory or 0))


def _end(process: psutil.Process) -> None:
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


@contextlib.contextmanager
def _gpu(uuid: str) -> Iterator[Any]:
    """NVML's handle, or None where there is nothing to ask."""
    if not uuid:
        yield None
        return
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        yield None
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
