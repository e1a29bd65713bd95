"""Machine code: the PEP 517 build of patched sources, in an environment built from scratch."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from build_matrix.catalog import nvidia_libraries
from build_matrix.compile.cache import SOCKET_LENGTH, SOCKET_NAME, CacheChoice, cache_use, choose_cache
from build_matrix.compile.cache_probe import why_unfit
from build_matrix.compile.compilation import MARK, Compilation
from build_matrix.compile.diagnosis import explain_failure, explain_network
from build_matrix.compile.flags import FIXED, WORK, definitions, portable, recipe
from build_matrix.compile.isolation import View, fixed_places, real_places
from build_matrix.compile.jobs import choose_jobs
from build_matrix.compile.remote import Remote, parse_remote
from build_matrix.context import Context
from build_matrix.digests import code_digest
from build_matrix.errors import BuildMatrixError
from build_matrix.model import BuildFacts, BuildInputs, CacheProgram, Conditions, RawWheel, digest_of
from build_matrix.platforms import find_platform
from build_matrix.process.runner import Completed, end_leftovers
from build_matrix.process.sandbox import NETWORK
from build_matrix.store import require_room

__all__ = ["FIXED", "choose_jobs", "compile_wheel", "parse_remote"]

CODE = ("compile/file_api.py",)  # reads what is kept beside the wheel; all else is in the recipe
ROOM = 2_000_000_000  # bytes; sources, objects and libraries of one architecture take 0.7 to 1.2 GB
FACTS = "facts.json"


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
    compilation = Compilation(inputs, conditions, _runpath(inputs), folder, view, remote)
    log_path = store.root / "logs" / f"compile-{inputs.cell.llama}+{inputs.cell.label}-{digest[:8]}.log"
    reporter.say(f"  compiling with {conditions.jobs} jobs; full log: {log_path}")
    with choose_programs(context, compilation) as choice, log_path.open("w", encoding="utf-8") as log:
        for note in choice.notes:
            reporter.say(f"  compile cache: {note}")
        result, watch = compilation.run(choice, reporter, log)
    if result.code:
        raise _failure(compilation, result, log_path, store.root)
    if use := cache_use(folder):
        reporter.say(f"  compile cache: {use}")
    facts = watch.facts or watch.check()
    (folder / "out" / FACTS).write_bytes(msgspec.json.encode(msgspec.structs.replace(facts, steps=watch.steps)))
    stored = store.keep("raw", digest, folder / "out")
    shutil.rmtree(folder, ignore_errors=True)
    return stored


def _failure(compilation: Compilation, result: Completed, log: Path, store: Path) -> BuildMatrixError:
    """Why it failed."""
    if result.code == NETWORK and compilation.view.before:
        shutil.rmtree(
            compilation.folder / "build", ignore_errors=True
        )  # it may hold what was decided without an answer
        return explain_network(log)
    return explain_failure(log, store, compilation.conditions.jobs)


@contextlib.contextmanager
def choose_programs(context: Context, compilation: Compilation) -> Iterator[CacheChoice]:
    """What this compilation uses of the compile cache; sccache's folder serves one server at a time.

    The programs are tried out where the folders really are, outside of the sandbox.
    """
    cache, inputs = compilation.conditions.cache, compilation.inputs
    if not cache:
        yield CacheChoice()
        return
    with contextlib.ExitStack() as held:

        def unfit(name: CacheProgram, program: Path) -> str:
            if name == "sccache" and not held.enter_context(context.store.if_free("sccache")):
                return "another build uses it"
            if name == "sccache" and len(os.fsencode(compilation.view.work / SOCKET_NAME)) > SOCKET_LENGTH:
                return "the path of the store is too long for a socket"
            return why_unfit(context, name, program, inputs)

        yield choose_cache(cache, compilation.remote, inputs, unfit)


def _view(context: Context, inputs: BuildInputs, folder: Path, conditions: Conditions, remote: Remote | None) -> View:
    """Alone and at fixed places where the system allows it; says so where it does not and that matters."""
    if not conditions.sandbox:
        return real_places(inputs, folder)
    if not (why := find_platform(inputs.cell.platform).why_no_sandbox(inputs.environment.python)):
        return fixed_places(inputs, folder, (remote.host, remote.port) if remote else None)
    context.reporter.say(f"  compiling without a sandbox, with network access: {why}")
    if not inputs.toolchain.same_anywhere:
        context.reporter.say(
            "  the result will depend on this folder: this toolkit writes its own path into compiled code"
        )
    return real_places(inputs, folder)
