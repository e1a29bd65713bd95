"""Runs inside the environment of a trial, where only a wheel and what it declares are installed.

Arguments: a program, and a JSON file with ``jobs``. The program defines ``work(job, report)``, which does one job,
reports what it learns, and returns the seconds of each part. Every report is one line of JSON behind ``PREFIX``, so
that a crash loses nothing that came before it; llama.cpp's own log goes to standard error.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from typing import Any

PREFIX = "build-matrix-trial "

Report = Callable[..., None]
Work = Callable[[dict[str, Any], Report], dict[str, float]]


def main(program: str, jobs: str) -> None:
    """Report what the wheel is, then do the jobs of a file with a program, one after the other."""
    run(_load(program), jobs)


def run(work: Work, path: str) -> None:
    """Report version, place, back ends and offload, then do the jobs with ``work``, one after the other."""
    import llama_cpp

    report(version=llama_cpp.__version__, folder=llama_cpp.__path__[0])
    report(offload=bool(llama_cpp.llama_supports_gpu_offload()))
    try:
        from llama_cpp import _backends
    except ImportError:  # another producer's wheel
        pass
    else:
        report(backends=_backends.report())
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - one import less
        jobs = json.load(file)["jobs"]
    for job in jobs:
        report(job=job["name"], state="started")
        report(job=job["name"], state="done", seconds=work(job, report))
    report(finished=True)


def report(**facts: object) -> None:
    """Report facts to the parent at once, on a line of their own."""
    sys.stdout.write("\n" + PREFIX + json.dumps(facts) + "\n")
    sys.stdout.flush()


def _load(program: str) -> Work:
    spec = importlib.util.spec_from_file_location("program", program)
    if spec is None or spec.loader is None:
        raise ImportError(program)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    work: Work = module.work
    return work


if __name__ == "__main__":
    main(*sys.argv[1:])
