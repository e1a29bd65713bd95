#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.10"
# dependencies = ["nox>=2025.5.1"]
# ///
"""Sessions: what people type. Each is its help text and a call into the package; options follow after ``--``."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import re
import shutil
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

OLDEST = (3, 10)
LOCK = Path("build_matrix/locks/tool.txt")
failures: list[int] = []  # exit codes of the tool's runs that failed
REMOTE_CACHE, REMOTE_CACHE_VARIABLE = "--remote-cache", "BUILD_MATRIX_REMOTE_CACHE"
EXIT_MISSING = 3  # docs/reference/command-line.md, "Exit codes"

# What tells pip, or uv, where packages come from: https://pip.pypa.io/en/stable/topics/configuration/,
# https://docs.astral.sh/uv/reference/settings/. uv reads nothing of pip's.
SOURCES = "index-url|extra-index-url|find-links|no-index|proxy|cert|client-cert|trusted-host|keyring-provider"
PIP_FILES = ("/etc/pip.conf", "/etc/xdg/pip/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
UV_VARIABLES = "UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|OFFLINE|CONFIG_FILE)"
UV_FILES = ("/etc/uv/uv.toml", "/etc/xdg/uv/uv.toml", "~/.config/uv/uv.toml")


def backend() -> str:
    """``uv`` where it is on the PATH, unless pip alone is told where packages come from."""
    if not shutil.which("uv"):
        return "virtualenv"
    named = os.environ.get("PIP_CONFIG_FILE")
    pip_files = [named] if named else configuration_files(PIP_FILES)
    pip = sets(f"PIP_({SOURCES.upper().replace('-', '_')})", rf"(?m)^\s*({SOURCES})\s*[=:]", pip_files)
    uv = sets(UV_VARIABLES, r"index|find-links|offline", configuration_files(UV_FILES))
    return "virtualenv" if pip and not uv else "uv"


def configuration_files(usual: tuple[str, ...]) -> list[str]:
    """These files, with XDG_CONFIG_HOME in the place of ``~/.config`` where it is set."""
    own = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return [os.path.expanduser(path.replace("~/.config", own)) for path in usual]  # noqa: PTH111 - it never raises


def sets(variables: str, setting: str, files: list[str]) -> bool:
    """Whether the environment has such a variable, or one of the files such a setting."""
    if any(value and re.fullmatch(variables, name) for name, value in os.environ.items()):
        return True
    for file in files:
        try:
            text = Path(file).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if re.search(setting, text):
            return True
    return False


nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = backend()
nox.options.reuse_venv = "yes"
nox.options.sessions = ["build-cuda13"]
nox.options.error_on_external_run = True
for variable in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP"):  # modules there would take the place of the locked ones
    os.environ.pop(variable, None)


def run_tool(session: nox.Session, *words: str) -> None:
    """Run the package in an environment that holds exactly what its lock names; Nox ends with its exit code."""
    prepare(session)
    # Isolated: neither variables nor the current folder bring other modules; prepare() made the package importable.
    options, secret = split_secret(session.posargs)
    argv = ("python", "-I", "-m", "build_matrix", *words, *options)
    try:
        # After Ctrl-C the tool ends its compilers first, which takes longer than Nox waits by default.
        session.run(*argv, env=secret, interrupt_timeout=5, terminate_timeout=2)
    except CommandFailed as error:
        end_with(exit_code(error))
        raise
    except KeyboardInterrupt:
        atexit.unregister(leave)
        raise


def split_secret(posargs: list[str]) -> tuple[list[str], dict[str, str]]:
    """The options, and as a variable the one whose URL may hold a password: Nox prints the command that it runs."""
    options: list[str] = []
    secret: dict[str, str] = {}
    rest = iter(posargs)
    for option in rest:
        name, equals, value = option.partition("=")
        if name != REMOTE_CACHE:
            options.append(option)
        elif url := value if equals else next(rest, ""):
            secret[REMOTE_CACHE_VARIABLE] = url
        else:
            options.append(option)  # without its value: the tool says so
    return options, secret


def exit_code(error: CommandFailed) -> int:
    """The exit code of the command, as a shell gives it. Nox has it as a value from 2026.10 on (wntrblm/nox#1128)."""
    number = re.search(r"-?\d+", str(error))
    code = getattr(error, "return_code", None) or (int(number[0]) if number else 1)
    return code if code > 0 else 128 - code


def end_with(code: int) -> None:
    """Let Nox end with ``code`` instead of 1, after its own report; of several sessions the first that failed counts.

    Nox has no setting for it: whatever fails, its exit code is 1.
    """
    if not failures:
        atexit.register(leave, code)
    failures.append(code)


def leave(code: int) -> None:
    """End the process when Nox has said and done everything."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)


def prepare(session: nox.Session) -> None:
    """Install the locked dependencies and make the package importable, unless this environment has them already."""
    here = str(Path.cwd())
    digest = hashlib.sha256(LOCK.read_bytes() + os.fsencode(here)).hexdigest()
    mark = Path(session.virtualenv.location) / "lock.sha256"
    if mark.is_file() and mark.read_text() == digest:
        return
    require_python(session)
    # Wherever the user's own installations go, these go into the session's environment.
    places = {"PIP_USER": "0", "PIP_TARGET": None, "PIP_PREFIX": None, "PIP_ROOT": None}
    session.install("--quiet", "--require-hashes", "--requirement", str(LOCK), env=places)
    # A line that starts with "import" is run. It is all ASCII: older Pythons read the file in the locale's encoding.
    code = "import sys, sysconfig; from pathlib import Path; "
    code += "line = f'import sys; sys.path.append({ascii(sys.argv[1])})'; "
    code += "Path(sysconfig.get_path('purelib'), 'build_matrix.pth').write_text(line, encoding='ascii')"
    session.run("python", "-I", "-c", code, here, silent=True, log=False)
    mark.write_text(digest)


def require_python(session: nox.Session) -> None:
    """End the session before anything is installed when its Python is too old."""
    code = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    version = str(session.run("python", "-I", "-c", code, silent=True, log=False)).strip()
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        end_with(EXIT_MISSING)
        session.error(
            f"build-matrix needs Python 3.10 or newer; this is {version}. "
            f"Name a newer one, such as: nox -s {session.name} --force-python 3.12"
        )


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
