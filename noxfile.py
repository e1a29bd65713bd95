#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.10"
# dependencies = ["nox>=2025.5.1"]
# ///
"""Sessions: what people type. Each is its help text and a call into the package; options follow after ``--``."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv" if shutil.which("uv") else "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["build-cuda13"]
nox.options.error_on_external_run = True

LOCK = Path("build_matrix/locks/tool.txt")


def run_tool(session: nox.Session, *words: str) -> None:
    """Run the package in an environment that holds exactly what its lock names."""
    prepare(session)
    # After Ctrl-C the tool ends its compilers first, which takes longer than Nox waits by default.
    argv = ("python", "-m", "build_matrix", *words, *session.posargs)
    session.run(*argv, interrupt_timeout=20, terminate_timeout=5)


def prepare(session: nox.Session) -> None:
    """Install the locked dependencies, unless this environment has them already."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    mark = Path(session.virtualenv.location) / "lock.sha256"
    if mark.is_file() and mark.read_text() == digest:
        return
    session.install("--quiet", "--require-hashes", "--requirement", str(LOCK))
    mark.write_text(digest)


@nox.session
def doctor(session: nox.Session) -> None:
    """Say what is on this machine, what is wrong, and what to do:  nox -s doctor -- --python VENV/bin/python"""
    run_tool(session, "doctor")


@nox.session
def plan(session: nox.Session) -> None:
    """Show which toolkits could build for this machine, and why not the others"""
    run_tool(session, "plan")


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel that fits this machine's driver and GPU, and test it:  nox -s build -- --llama 0.3.16"""
    run_tool(session, "build")


@nox.session(name="build-cuda13")
def build_cuda13(session: nox.Session) -> None:
    """Build a CUDA 13 wheel and test it:  nox -s build-cuda13 -- --llama 0.3.16 --arch 89"""
    run_tool(session, "build", "--cuda", "13")


@nox.session(name="build-cuda12")
def build_cuda12(session: nox.Session) -> None:
    """Build a CUDA 12 wheel and test it, for drivers before 580"""
    run_tool(session, "build", "--cuda", "12")


@nox.session(name="build-cuda11")
def build_cuda11(session: nox.Session) -> None:
    """Build a CUDA 11 wheel and test it, for drivers before 525; needs GCC 11 (CXX=g++-11)"""
    run_tool(session, "build", "--cuda", "11")


@nox.session
def verify(session: nox.Session) -> None:
    """Install and run the wheels in wheels/, or those named:  nox -s verify -- WHEEL --require-gpu"""
    run_tool(session, "verify")


@nox.session
def reproduce(session: nox.Session) -> None:
    """Build a wheel again from its record, or a cell twice under other conditions:  nox -s reproduce -- WHEEL"""
    run_tool(session, "reproduce")


@nox.session
def fetch(session: nox.Session) -> None:
    """Put all that a build downloads into a folder, for a machine without network:  nox -s fetch -- FOLDER"""
    run_tool(session, "fetch")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; the one that builds a wheel takes minutes:  nox -s tests -- -m 'not build'"""
    prepare(session)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def unit(session: nox.Session) -> None:
    """Run the tests that need no network, no compiler and no GPU:  nox -s unit -- -k store"""
    prepare(session)
    folders = [folder for folder in ("tests/unit", "tests/field") if Path(folder).is_dir()]
    session.run("python", "-m", "pytest", "-m", "not (compiler or index or build)", *folders, *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """See whether the unit tests notice small wrong changes (under half an hour):  nox -s mutants -- resolve"""
    prepare(session)
    session.run("python", "tests/mutation", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, lint and types (ruff, mypy --strict)."""
    prepare(session)
    session.run("python", "-m", "ruff", "format", "--check", ".")
    session.run("python", "-m", "ruff", "check", ".")
    session.run("python", "-m", "mypy")


@nox.session(default=False)
def benchmark(session: nox.Session) -> None:
    """Measure our build against upstream's recipe, on an idle machine; about 25 minutes on two cores."""
    prepare(session)
    session.run("python", "-m", "benchmarks.against_upstream", *session.posargs)


@nox.session(default=False)
def figures(session: nox.Session) -> None:
    """Build a wheel from a clean checkout and note its sha256 with the commit:  nox -s figures -- --llama 0.3.36"""
    run_tool(session, "figures")


@nox.session
def lock(session: nox.Session) -> None:
    """Write build_matrix/locks/ from your package index: toolkits, build environment, sdists, by sha256."""
    run_tool(session, "lock")


if __name__ == "__main__":
    nox.main()
