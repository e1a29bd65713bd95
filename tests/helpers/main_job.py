"""The main job: where the end-to-end tests run it, and how."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
MINUTES = 60.0
JOB = ("build", "--cuda", "13", "--llama", "0.3.16", "--arch", "89", "--profile", "check")


class Place:
    """A store, a folder of wheels, and surroundings that do all they can to leak into the build."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        self.wheels = root / "wheels"
        trap = root / "trap"
        trap.mkdir(parents=True)
        for name in ("nvcc", "cmake", "ninja", "ccache", "git"):
            program = trap / name
            program.write_text("#!/bin/sh\necho 'this program of the surroundings must not be used' >&2\nexit 97\n")
            program.chmod(0o755)
        leaks = {name: str(trap) for name in ("CUDA_PATH", "CUDA_HOME", "CPATH", "LIBRARY_PATH", "CMAKE_PREFIX_PATH")}
        leaks |= dict.fromkeys(("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "CFLAGS", "CUDAFLAGS"), "--no-such-flag")
        self.environment = (
            os.environ
            | leaks
            | {"PYTHONPATH": str(ROOT), "PATH": f"{trap}:{os.environ['PATH']}", "CMAKE_ARGS": "-DX=/leak"}
        )

    def argv(self, *words: str) -> list[str]:
        command, *rest = words
        places = ["--store", str(self.store), "--wheels", str(self.wheels)]
        return [sys.executable, "-m", "build_matrix", command, *places, *rest]

    def run(self, *words: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words),
            cwd=cwd,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=20 * MINUTES,
            check=False,
        )

    def end_when(self, condition: Callable[[], bool], number: signal.Signals, minutes: float = 10) -> tuple[int, str]:
        """Start the job, send it a signal as soon as the condition holds; its exit code and what it said."""
        with (self.root / "said").open("w+") as said:
            # A shell starts its background jobs with SIGINT ignored, and they pass that on; Python then obeys.
            argv = ["env", "--default-signal=INT", *self.argv(*JOB)]
            process = subprocess.Popen(argv, cwd=ROOT, env=self.environment, stdout=said, stderr=said)
            deadline = time.monotonic() + minutes * MINUTES
            while process.poll() is None and not condition() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert process.poll() is None, f"it ended before the condition held: {(self.root / 'said').read_text()}"
            process.send_signal(number)
            try:
                code = process.wait(timeout=MINUTES)
            finally:
                process.kill()
            said.seek(0)
            return code, said.read()

    def exists(self, pattern: str) -> Callable[[], bool]:
        return lambda: any(self.store.glob(pattern))

    def compiled(self, count: int) -> Callable[[], bool]:
        """Whether this many objects are there (beside those of CMake's own probes)."""
        return lambda: sum(1 for _ in self.store.glob("work/compile-*/build/vendor/**/*.o")) >= count

    @property
    def wheel(self) -> Path:
        (wheel,) = self.wheels.glob("*.whl")
        return wheel
