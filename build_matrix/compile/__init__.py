"""Machine code: the PEP 517 build of patched sources, in an environment built from nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec

from build_matrix.catalog import nvidia_libraries
from build_matrix.compile.diagnosis import explain_failure
from build_matrix.compile.file_api import check_facts, read_facts, write_query
from build_matrix.compile.flags import FIXED, definitions, environment, portable
from build_matrix.model import (
    BuildFacts,
    BuildInputs,
    RawWheel,
    digest_of,
)
from build_matrix.report import Meter, Reporter
from build_matrix.runner import end_leftovers, run
from build_matrix.store import Store, require_room

__all__ = ["FIXED", "compile_wheel"]

VERSION = 2
MARK = "BUILD_MATRIX_WORK"  # names the work folder in the environment of every process that compiles in it
ROOM = 2_000_000_000  # bytes; sources, objects and libraries of one architecture take 0.7 to 1.2 GB
FACTS = "facts.json"

_STATUS = re.compile(r"\[(\d+)/(\d+)\] ")


def digest_of_inputs(work: BuildInputs) -> str:
    """Digest of everything that the compiled wheel depends on."""
    parts = (work.source, work.toolchain, work.environment, work.sysroot)
    inputs = (*(part.digest for part in parts), work.compiler.identity)
    return digest_of("compile", VERSION, inputs, work.cell, work.release.options)


def compile_wheel(work: BuildInputs, jobs: int, store: Store, reporter: Reporter) -> RawWheel:
    """Compile with ``jobs`` compilers at a time; an interrupted compilation goes on where it was.

    Raises CompileError with the first error of the compiler, DiskFullError.
    """
    digest = digest_of_inputs(work)
    flags = portable(_definitions(work, Path("/work")), work.toolchain, work.sysroot, Path("/work"))
    folder = store.find("raw", digest)
    if not folder:
        with store.locked(f"compile-{digest[:24]}"):
            folder = store.find("raw", digest) or _build(work, jobs, store, reporter)
    facts = msgspec.json.decode((folder / FACTS).read_bytes(), type=BuildFacts)
    return RawWheel(path=next(folder.glob("*.whl")), facts=facts, flags=flags, digest=digest)


def _definitions(work: BuildInputs, folder: Path) -> dict[str, str]:
    runpath = nvidia_libraries(int(work.cell.cuda.partition(".")[0])).folders
    return definitions(work.cell, work.release, work.toolchain, work.compiler, work.sysroot, folder, runpath)


def _build(work: BuildInputs, jobs: int, store: Store, reporter: Reporter) -> Path:
    digest = digest_of_inputs(work)
    folder = store.work("compile", digest)
    end_leftovers(MARK, str(folder))
    require_room(store.root, ROOM)
    _lay_out(work, folder)
    log_path = store.root / "logs" / f"compile-{work.cell.llama}+{work.cell.label}-{digest[:8]}.log"
    reporter.say(f"  compiling with {jobs} jobs; full log: {log_path}")
    variables = environment(work.environment, work.compiler, folder, jobs) | {MARK: str(folder)}
    with log_path.open("w", encoding="utf-8") as log, reporter.meter("compiling", "steps", None) as meter:
        watch = _Watch(work, folder / "build", meter)
        done = run(_command(work, folder), env=variables, cwd=folder / "src", log=log, on_line=watch.line)
    if done.code:
        raise explain_failure(log_path, store.root, jobs)
    result = folder / "out"
    facts = watch.facts or read_facts(folder / "build")
    check_facts(facts, work.cell, work.toolchain)
    (result / FACTS).write_bytes(msgspec.json.encode(msgspec.structs.replace(facts, steps=watch.steps)))
    kept = store.keep("raw", digest, result)
    shutil.rmtree(folder, ignore_errors=True)
    return kept


def _lay_out(work: BuildInputs, folder: Path) -> None:
    """Sources, an empty output folder, CMake's File API query; what an interrupted run has built is kept."""
    ready = folder / "src.ready"
    if not ready.exists():
        shutil.rmtree(folder / "src", ignore_errors=True)
        shutil.copytree(work.source.root, folder / "src", symlinks=True)
        ready.touch()
    build = folder / "build"
    if not (build / "build.ninja").exists():  # an interrupted configuration is not worth keeping
        shutil.rmtree(build, ignore_errors=True)
    write_query(build)
    for name in ("out", "tmp", "home"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()


def _command(work: BuildInputs, folder: Path) -> list[str | Path]:
    settings = {
        "build-dir": str(folder / "build"),
        "cmake.build-type": "Release",
        "wheel.py-api": "py3",  # the package has no extension module: ctypes loads the libraries
        "wheel.reproducible": "true",
        "wheel.exclude": "/lib/**;/bin/**;/include/**",
    }
    settings |= {f"cmake.define.{name}": value for name, value in _definitions(work, folder).items()}
    words: list[str | Path] = [work.environment.python, "-m", "build", "--wheel"]
    words += ["--no-isolation", "--skip-dependency-check", "--outdir", folder / "out"]
    words += [f"-C{name}={value}" for name, value in settings.items()]
    return [*words, folder / "src"]


class _Watch:
    """Follows the build's output: progress, and what CMake chose, before the first object is compiled."""

    def __init__(self, work: BuildInputs, build: Path, meter: Meter) -> None:
        self._work = work
        self._build = build
        self._meter = meter
        self.facts: BuildFacts | None = None
        self.steps = 0

    def line(self, text: str) -> None:
        match = _STATUS.match(text)
        if not match:
            return
        if self.facts is None:
            self.facts = read_facts(self._build)
            check_facts(self.facts, self._work.cell, self._work.toolchain)
        done, self.steps = int(match[1]), int(match[2])
        self._meter.update(done, self.steps)
