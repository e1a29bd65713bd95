"""Machine code: the PEP 517 build of patched sources, in an environment built from nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec

from build_matrix.catalog import nvidia_libraries
from build_matrix.compile.cache import cache_environment, cache_use
from build_matrix.compile.diagnosis import explain_failure, explain_network
from build_matrix.compile.file_api import check_facts, read_facts, write_query
from build_matrix.compile.flags import FIXED, definitions, environment, portable
from build_matrix.compile.isolation import View, fixed_places, real_places, why_not_isolated
from build_matrix.compile.jobs import choose_jobs
from build_matrix.model import (
    BuildFacts,
    BuildInputs,
    Conditions,
    RawWheel,
    digest_of,
)
from build_matrix.report import Meter, Reporter
from build_matrix.runner import end_leftovers, run
from build_matrix.sandbox import NETWORK
from build_matrix.store import Store, require_room

__all__ = ["FIXED", "choose_jobs", "compile_wheel"]

VERSION = 3
MARK = "BUILD_MATRIX_WORK"  # names the work folder in the environment of every process that compiles in it
ROOM = 2_000_000_000  # bytes; sources, objects and libraries of one architecture take 0.7 to 1.2 GB
FACTS = "facts.json"
CACHE_LOG = "cache.log"

_STATUS = re.compile(r"\[(\d+)/(\d+)\] ")


def digest_of_inputs(inputs: BuildInputs) -> str:
    """Digest of everything that the compiled wheel depends on."""
    parts = (inputs.source, inputs.toolchain, inputs.environment, inputs.sysroot)
    digests = (*(part.digest for part in parts), inputs.compiler.identity)
    return digest_of("compile", VERSION, digests, inputs.cell, inputs.release.options)


def compile_wheel(inputs: BuildInputs, conditions: Conditions, store: Store, reporter: Reporter) -> RawWheel:
    """Compile under ``conditions``; an interrupted compilation goes on where it was.

    Raises CompileError with the first error of the compiler, NetworkAccessError, DiskFullError.
    """
    digest = digest_of_inputs(inputs)
    flags = portable(_definitions(inputs, Path("/work")), inputs, Path("/work"))
    folder = store.find("raw", digest)
    if not folder:
        with store.locked(f"compile-{digest[:24]}"):
            folder = store.find("raw", digest) or _build(inputs, conditions, store, reporter)
    facts = msgspec.json.decode((folder / FACTS).read_bytes(), type=BuildFacts)
    return RawWheel(path=next(folder.glob("*.whl")), facts=facts, flags=flags, digest=digest)


def _definitions(inputs: BuildInputs, folder: Path) -> dict[str, str]:
    return definitions(inputs, folder, nvidia_libraries(int(inputs.cell.cuda.partition(".")[0])).folders)


def _build(inputs: BuildInputs, conditions: Conditions, store: Store, reporter: Reporter) -> Path:
    digest = digest_of_inputs(inputs)
    folder = store.work("compile", digest)
    end_leftovers(MARK, str(folder))
    require_room(store.root, ROOM)
    view = _view(inputs, folder, conditions, reporter)
    _lay_out(inputs, folder, view.work)
    log_path = store.root / "logs" / f"compile-{inputs.cell.llama}+{inputs.cell.label}-{digest[:8]}.log"
    reporter.say(f"  compiling with {conditions.jobs} jobs; full log: {log_path}")
    variables = environment(inputs.environment, inputs.compiler, view.work, conditions.jobs) | {MARK: str(folder)}
    variables |= cache_environment(conditions.cache, inputs, view.work / CACHE_LOG)
    words = [*view.before, *conditions.under, *_command(view.inputs, view.work)]
    with log_path.open("w", encoding="utf-8") as log, reporter.meter("compiling", "steps", None) as meter:
        watch = _Watch(view, folder / "build", meter)
        done = run(words, env=variables, cwd=folder / "src", log=log, on_line=watch.line)
    if done.code == NETWORK and view.before:
        shutil.rmtree(folder / "build", ignore_errors=True)  # it may hold what was decided without an answer
        raise explain_network(log_path)
    if done.code:
        raise explain_failure(log_path, store.root, conditions.jobs)
    if use := cache_use(folder / CACHE_LOG):
        reporter.say(f"  compile cache: {use.hits} of {use.hits + use.misses} compilations were found in it")
    result = folder / "out"
    facts = watch.facts or watch.check()
    (result / FACTS).write_bytes(msgspec.json.encode(msgspec.structs.replace(facts, steps=watch.steps)))
    kept = store.keep("raw", digest, result)
    shutil.rmtree(folder, ignore_errors=True)
    return kept


def _view(inputs: BuildInputs, folder: Path, conditions: Conditions, reporter: Reporter) -> View:
    """Alone and at fixed places where the system allows it; says so where it does not and that matters."""
    if not conditions.isolate:
        return real_places(inputs, folder)
    if not (why := why_not_isolated(inputs.environment.python)):
        return fixed_places(inputs, folder)
    reporter.say(f"  compiling in the open, with the network in reach: {why}")
    if not inputs.toolchain.same_anywhere:
        reporter.say("  the bytes will depend on this folder: this toolkit writes its own path into what it compiles")
    return real_places(inputs, folder)


def _lay_out(inputs: BuildInputs, folder: Path, seen: Path) -> None:
    """Sources, an empty output folder, CMake's File API query; what an interrupted run has built is kept."""
    ready = folder / "src.ready"
    if not ready.exists():
        shutil.rmtree(folder / "src", ignore_errors=True)
        shutil.copytree(inputs.source.root, folder / "src", symlinks=True)
        ready.touch()
    build = folder / "build"
    place = folder / "seen-as"
    same_place = place.exists() and place.read_text() == str(seen)
    if not (same_place and (build / "build.ninja").exists()):  # an interrupted configuration is not worth keeping
        shutil.rmtree(build, ignore_errors=True)
    place.write_text(str(seen))
    write_query(build)
    for name in ("out", "tmp", "home"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()


def _command(inputs: BuildInputs, folder: Path) -> list[str | Path]:
    settings = {
        "build-dir": str(folder / "build"),
        "cmake.build-type": "Release",
        "wheel.py-api": "py3",  # the package has no extension module: ctypes loads the libraries
        "wheel.reproducible": "true",
        "wheel.exclude": "/lib/**;/bin/**;/include/**",
    }
    settings |= {f"cmake.define.{name}": value for name, value in _definitions(inputs, folder).items()}
    words: list[str | Path] = [inputs.environment.python, "-m", "build", "--wheel"]
    words += ["--no-isolation", "--skip-dependency-check", "--outdir", folder / "out"]
    words += [f"-C{name}={value}" for name, value in settings.items()]
    return [*words, folder / "src"]


class _Watch:
    """Follows the build's output: progress, and what CMake chose, before the first object is compiled."""

    def __init__(self, view: View, build: Path, meter: Meter) -> None:
        self._view = view
        self._build = build
        self._meter = meter
        self.facts: BuildFacts | None = None
        self.steps = 0

    def line(self, text: str) -> None:
        match = _STATUS.match(text)
        if not match:
            return
        if self.facts is None:
            self.facts = self.check()
        done, self.steps = int(match[1]), int(match[2])
        self._meter.update(done, self.steps)

    def check(self) -> BuildFacts:
        """What CMake chose; raises CompileError when that is not what was asked."""
        facts = read_facts(self._build, self._view.work / "build")
        check_facts(facts, self._view.inputs.cell, self._view.inputs.toolchain)
        return facts
