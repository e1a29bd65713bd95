"""Opens what the stages are given: the machine as it was examined, the store, and the downloads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from build_matrix.context import Context
from build_matrix.model import CompileCache, Machine

if TYPE_CHECKING:
    from build_matrix.report import Reporter

CACHE_FOLDER = "compile-cache"  # in the store


def examine_machine(folder: Path | None, variables: Mapping[str, str] | None = None) -> Machine:
    """What is on this machine, before anything is written; ``folder`` is the store's, or None for the default one.

    ``variables`` are the environment to look at, this process's own by default. Raises ConfigurationError.
    """
    from build_matrix.probe import probe
    from build_matrix.store import default_store

    return probe(folder or default_store(), variables)


def open_context(folder: Path | None, reporter: Reporter, machine: Machine | None = None) -> Context:
    """Open the store in ``folder`` (None: the default one); ``machine`` is examined if it was not yet.

    Raises StoreNotWritableError and ConfigurationError.
    """
    from build_matrix.downloads import Downloads
    from build_matrix.store import Store, default_store

    store = Store(folder or default_store(), lambda name: reporter.say(f"  waiting for another run ({name})"))
    return Context(machine or examine_machine(store.root), store, Downloads(store, reporter), reporter)


def choose_jobs(context: Context, requested: int | None) -> int:
    """How many compilers run at a time; says why if they are fewer than the CPUs."""
    from build_matrix import compile as compiling

    jobs, reason = compiling.choose_jobs(requested, context.machine.cpus, context.machine.memory_free)
    if reason:
        context.reporter.say(f"  {reason}")
    return jobs


def cache_in_store(context: Context, cache: CompileCache | None) -> CompileCache | None:
    """The same compile cache with its folder in the store."""
    return cache and msgspec.structs.replace(cache, folder=context.store.root / CACHE_FOLDER)
