"""Machine code: the PEP 517 build of patched sources, in an environment built from scratch."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import msgspec

from build_matrix.catalog import nvidia_libraries
from build_matrix.compile.cache import (
    SCCACHE_STATISTICS,
    SOCKET_LENGTH,
    SOCKET_NAME,
    STATISTICS,
    CacheChoice,
    cache_environment,
    cache_use,
    choose_cache,
    server,
)
from build_matrix.compile.cache_probe import why_unfit
from build_matrix.compile.diagnosis import explain_failure, explain_network
from build_matrix.compile.file_api import check_facts, read_facts, write_query
from build_matrix.compile.flags import FIXED, WORK, command, definitions, environment, portable, recipe
from build_matrix.compile.isolation import View, fixed_places, real_places
from build_matrix.compile.jobs import choose_jobs
from build_matrix.compile.remote import Remote, parse_remote
from build_matrix.compile.sccache_server import FAILED
from build_matrix.context import Context
from build_matrix.digests import code_digest
from build_matrix.model import (
    BuildFacts,
    BuildInputs,
    CacheProgram,
    CompileCache,
    Conditions,
    RawWheel,
    digest_of,
)
from build_matrix.platforms import find_platform
from build_matrix.process.runner import Completed, end_leftovers, run
from build_matrix.process.sandbox import NETWORK
from build_matrix.report import Meter
from build_matrix.store import require_room

__all__ = ["FIXED", "choose_jobs", "compile_wheel", "parse_remote"]

CODE = ("compile/file_api.py",)  # reads what is kept beside the wheel; all else is in the recipe
MARK = "BUILD_MATRIX_WORK"  # names the work folder in the environment of every process that compiles in it
ROOM = 2_000_000_000  # bytes; sources, objects and libraries of one architecture take 0.7 to 1.2 GB
FACTS = "facts.json"

_STATUS = re.compile(r"\[(\d+)/(\d+)\] ")


def digest_of_inputs(inputs: BuildInputs) -> str:
    """Digest of everything that the compiled wheel depends on, the same on every machine."""
    parts = (inputs.source, inputs.toolchain, inputs.environment, inputs.sysroot)
    digests = (*(part.digest for part in parts), inputs.compiler.identity)
    facts = msgspec.json.schema(BuildFacts)
    return digest_of("compile", code_digest(*CODE), facts, digests, inputs.cell, recipe(inputs, _runpath(inputs)))


def compile_wheel(context: Context, inputs: BuildInputs, conditions: Conditions) -> RawWheel:
    """Compile under ``conditions``; an interrupted compilation goes on where it was.

    Raises CompileError with the first error of the compiler, NetworkAccessError, DiskFullError.
    """
    digest = digest_of_inputs(inputs)
    flags = portable(definitions(inputs, WORK, _runpath(inputs)), inputs, WORK)
    folder = context.store.find("raw", digest)
    if not folder:
        with context.store.locked(f"compile-{digest[:24]}"):
            folder = context.store.find("raw", digest) or _build(context, inputs, conditions)
    facts = msgspec.json.decode((folder / FACTS).read_bytes(), type=BuildFacts)
    return RawWheel(path=next(folder.glob("*.whl")), facts=facts, flags=flags, digest=digest)


def _runpath(inputs: BuildInputs) -> tuple[str, ...]:
    """Where NVIDIA's packages put the libraries of this CUDA version."""
    return nvidia_libraries(inputs.cell.cuda_version.major).folders


def _build(context: Context, inputs: BuildInputs, conditions: Conditions) -> Path:
    store, reporter = context.store, context.reporter
    digest = digest_of_inputs(inputs)
    folder = store.work("compile", digest)
    end_leftovers(MARK, str(folder))
    require_room(store.root, ROOM)
    cache = conditions.cache
    remote = parse_remote(cache.remote, os.environ) if cache else None
    view = _view(context, inputs, folder, conditions, remote)
    log_path = store.root / "logs" / f"compile-{inputs.cell.llama}+{inputs.cell.label}-{digest[:8]}.log"
    reporter.say(f"  compiling with {conditions.jobs} jobs; full log: {log_path}")

    def attempt(choice: CacheChoice, log: TextIO) -> tuple[Completed, _Watch]:
        _lay_out(inputs, folder, view.work, choice)
        variables = environment(inputs.environment, inputs.compiler, view.work, conditions.jobs) | {MARK: str(folder)}
        variables |= cache_environment(choice, cache, remote, inputs, view.work)
        words = [*view.before, *conditions.wrapper, *server(choice, inputs, view.work)]
        words += command(view.inputs, view.work, _runpath(inputs))
        with reporter.meter("compiling", "steps", None) as meter:
            watch = _Watch(view, folder / "build", meter)
            return run(words, env=variables, cwd=folder / "src", log=log, on_line=watch.line), watch

    with _cache(context, cache, remote, view) as choice, log_path.open("w", encoding="utf-8") as log:
        for note in choice.notes:
            reporter.say(f"  compile cache: {note}")
        done, watch = attempt(choice, log)
        if done.code == FAILED and choice.sccache:
            reporter.say(f"  compile cache: not sccache: {done.tail[-2] if len(done.tail) > 1 else done.output}")
            done, watch = attempt(choice._replace(sccache=None, behind_all=False), log)
    if done.code == NETWORK and view.before:
        shutil.rmtree(folder / "build", ignore_errors=True)  # it may hold what was decided without an answer
        raise explain_network(log_path)
    if done.code:
        raise explain_failure(log_path, store.root, conditions.jobs)
    if use := cache_use(folder):
        reporter.say(f"  compile cache: {use}")
    result = folder / "out"
    facts = watch.facts or watch.check()
    (result / FACTS).write_bytes(msgspec.json.encode(msgspec.structs.replace(facts, steps=watch.steps)))
    kept = store.keep("raw", digest, result)
    shutil.rmtree(folder, ignore_errors=True)
    return kept


@contextlib.contextmanager
def _cache(context: Context, cache: CompileCache | None, remote: Remote | None, view: View) -> Iterator[CacheChoice]:
    """What this build uses of the compile cache; sccache's folder serves one server at a time."""
    if not cache:
        yield CacheChoice()
        return
    with contextlib.ExitStack() as held:

        def unfit(name: CacheProgram, program: Path) -> str:
            if name == "sccache" and not held.enter_context(context.store.if_free("sccache")):
                return "another build uses it"
            if name == "sccache" and len(os.fsencode(view.work / SOCKET_NAME)) > SOCKET_LENGTH:
                return "the store's path is too long for a socket in it"
            return why_unfit(context, name, program, view.inputs)

        yield choose_cache(cache, remote, view.inputs, unfit)


def _view(context: Context, inputs: BuildInputs, folder: Path, conditions: Conditions, remote: Remote | None) -> View:
    """Alone and at fixed places where the system allows it; says so where it does not and that matters."""
    if not conditions.sandbox:
        return real_places(inputs, folder)
    if not (why := find_platform(inputs.cell.platform).why_no_sandbox(inputs.environment.python)):
        return fixed_places(inputs, folder, (remote.host, remote.port) if remote else None)
    context.reporter.say(f"  compiling in the open, with the network in reach: {why}")
    if not inputs.toolchain.same_anywhere:
        context.reporter.say(
            "  the bytes will depend on this folder: this toolkit writes its own path into what it compiles"
        )
    return real_places(inputs, folder)


def _lay_out(inputs: BuildInputs, folder: Path, seen: Path, choice: CacheChoice) -> None:
    """Sources, an empty output folder, CMake's File API query; what an interrupted run has built is kept."""
    ready = folder / "src.ready"
    if not ready.exists():
        shutil.rmtree(folder / "src", ignore_errors=True)
        shutil.copytree(inputs.source.root, folder / "src", symlinks=True)
        ready.touch()
    build = folder / "build"
    place = folder / "seen-as"
    configured = f"{seen} {choice.first}"
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
