#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.10"
# dependencies = ["filelock>=3.16", "nox>=2025.5.1"]
# ///
"""Builds llama-cpp-python wheels that really use the GPU. Put options after ``--``."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nox
from filelock import FileLock, Timeout
from nox.command import CommandFailed

OLDEST = (3, 10)
LOCKS = Path("build_matrix/locks")
READY = "ready"  # in an environment: the last file that is written
USED_BY = "used-by-"  # in an environment: one file for each process that runs in it
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
    config_home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return [os.path.expanduser(path.replace("~/.config", config_home)) for path in usual]  # noqa: PTH111 - it never raises


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line of Nox's is for its readers: it looks for uv also where it does not need it."""
    return record.msg != "uv binary not found."


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
nox.options.default_venv_backend = "none"  # see environment()
nox.options.sessions = ["build-cuda13"]
nox.options.error_on_external_run = True
logging.getLogger("nox").addFilter(is_news)
logging.getLogger("filelock").setLevel(logging.WARNING)
for variable in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP"):  # modules there would take the place of the locked ones
    os.environ.pop(variable, None)


def run_tool(session: nox.Session, *argv: str) -> None:
    """Run the package in an environment that holds exactly what its lock names; Nox ends with its exit code."""
    options, secret = split_secret(session.posargs)
    with environment(session, "tool") as python:
        try:
            # Isolated: neither variables nor the current folder bring other modules. After Ctrl-C the tool ends its
            # compilers first, which takes longer than Nox waits by default.
            session.run(
                str(python), "-I", "-m", "build_matrix", *argv, *options,
                env=secret, external=True, interrupt_timeout=5, terminate_timeout=2,
            )  # fmt: skip
        except CommandFailed as error:
            end_with(exit_code(error))
            raise
        except KeyboardInterrupt:
            atexit.unregister(leave)
            raise


def run_developers(session: nox.Session, *commands: tuple[str, ...]) -> None:
    """Run these modules or files of Python, one after the other, with all that a developer needs."""
    with environment(session, "dev") as python:
        for argv in commands:
            session.run(str(python), *argv, external=True)


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


@contextlib.contextmanager
def environment(session: nox.Session, lock: str) -> Iterator[Path]:
    """The Python of the environment that all sessions share which install ``lock``; it stays as long as it is used.

    Nox gives each session an environment of its own and has no option to share one (wntrblm/nox#167). A change of the
    lock makes another one, so that a build that runs meanwhile keeps its own.
    """
    folder = environment_folder(session, lock)
    with contextlib.ExitStack() as used:
        with only_one(folder.parent / f"{lock}.lock", session):
            if not is_ready(folder):
                shutil.rmtree(folder, ignore_errors=True)  # what an installation left that was interrupted
                install(session, folder, LOCKS / f"{lock}.txt")
                remove_unused(folder, lock)
            used.enter_context(in_use(folder))
        yield python_of(folder)


def environment_folder(session: nox.Session, lock: str) -> Path:
    """Where it is: the name holds a digest of the lock, the checkout, and the Python that it is made of."""
    python = str(session.python or f"{sys.base_prefix} {sys.version}")
    parts = ((LOCKS / f"{lock}.txt").read_bytes(), os.fsencode(Path.cwd()), python.encode())
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    return session.env_dir.absolute().parent / f"{lock}-{digest[:12]}"


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_ready(folder: Path) -> bool:
    """Whether everything is installed, and the Python that it was made of is still there."""
    return (folder / READY).is_file() and python_of(folder).is_file()


@contextlib.contextmanager
def only_one(path: Path, session: nox.Session) -> Iterator[None]:
    """Hold a lock among all runs of Nox on this checkout; the system frees it when one is killed."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0.1)
    except Timeout:
        session.log("Waiting for another session, which installs the same.")
        lock.acquire()
    except OSError:  # a checkout that can only be read may hold an environment that is ready
        session.debug(f"{path} cannot be written.")
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep other sessions from removing an environment; where nothing can be written, nothing is removed either."""
    path = folder / f"{USED_BY}{os.getpid()}"
    lock = FileLock(path)
    with contextlib.suppress(OSError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            path.unlink()


def install(session: nox.Session, folder: Path, lock: Path) -> None:
    """Make an environment of what ``lock`` names, in which the package can be imported."""
    interpreter = str(session.python or sys.executable)
    python = str(python_of(folder))
    pip = ["--quiet", "--require-hashes", "--requirement", str(lock)]
    session.log(f"Installing {lock} in {folder.parent.name}/{folder.name}, which takes a moment the first time.")
    if backend() == "uv":
        create, pip = ["uv", "venv", "--quiet", "--python"], ["uv", "pip", "install", "--python", python, *pip]
    else:
        create = [sys.executable, "-m", "virtualenv", "--quiet", "--no-periodic-update", "--python"]
        pip = [python, "-m", "pip", "install", *pip]
    session.run_install(*create, interpreter, str(folder), external=True, log=False)
    require_python(session, python)
    # Wherever the user's own installations go, these go into this environment.
    places = {"PIP_USER": "0", "PIP_TARGET": None, "PIP_PREFIX": None, "PIP_ROOT": None}
    session.run_install(*pip, env=places, external=True)
    # A line that starts with "import" is run. It is all ASCII: older Pythons read the file in the locale's encoding.
    code = "import sys, sysconfig; from pathlib import Path; "
    code += "line = f'import sys; sys.path.append({ascii(sys.argv[1])})'; "
    code += "Path(sysconfig.get_path('purelib'), 'build_matrix.pth').write_text(line, encoding='ascii')"
    session.run_install(python, "-I", "-c", code, str(Path.cwd()), external=True, silent=True, log=False)
    (folder / READY).touch()


def require_python(session: nox.Session, python: str) -> None:
    """End the session before anything is installed when its Python is too old."""
    code = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    output = session.run_install(python, "-I", "-c", code, external=True, silent=True, log=False)
    version = str(output).strip()
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        end_with(EXIT_MISSING)
        session.error(
            f"build-matrix needs Python 3.10 or newer; this is {version}. "
            f"Name a newer one, such as: nox -s {session.name} --force-python 3.12"
        )


def remove_unused(folder: Path, lock: str) -> None:
    """Remove the environments of earlier locks in which no session runs; nobody enters one meanwhile."""
    for other in folder.parent.glob(f"{lock}-*"):
        if other != folder and all(map(is_free, other.glob(f"{USED_BY}*"))):
            shutil.rmtree(other, ignore_errors=True)


def is_free(path: Path) -> bool:
    """Whether no process holds this lock."""
    try:
        with FileLock(path, timeout=0):
            return True
    except (Timeout, OSError):
        return False


# A user's sessions


@nox.session
def doctor(session: nox.Session) -> None:
    """Show what is on this machine, what is wrong, and how to fix it:  nox -s doctor -- --python VENV/bin/python"""
    run_tool(session, "doctor")


@nox.session
def plan(session: nox.Session) -> None:
    """Show which CUDA toolkits can build for this machine, and why the others cannot"""
    run_tool(session, "plan")


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel that fits this machine's driver and GPU, and verify it:  nox -s build -- --llama 0.3.16"""
    run_tool(session, "build")


@nox.session(name="build-cuda13")
def build_cuda13(session: nox.Session) -> None:
    """Build a CUDA 13 wheel and verify it:  nox -s build-cuda13 -- --llama 0.3.16 --arch 89"""
    run_tool(session, "build", "--cuda", "13")


@nox.session(name="build-cuda12")
def build_cuda12(session: nox.Session) -> None:
    """Build a CUDA 12 wheel and verify it, for drivers before 580"""
    run_tool(session, "build", "--cuda", "12")


@nox.session(name="build-cuda11")
def build_cuda11(session: nox.Session) -> None:
    """Build a CUDA 11 wheel and verify it, for drivers before 525; needs GCC 11 (CXX=g++-11)"""
    run_tool(session, "build", "--cuda", "11")


@nox.session
def verify(session: nox.Session) -> None:
    """Install and run the wheels in wheels/, or those named:  nox -s verify -- WHEEL --require-gpu"""
    run_tool(session, "verify")


@nox.session
def reproduce(session: nox.Session) -> None:
    """Build a wheel again and compare it byte for byte:  nox -s reproduce -- WHEEL"""
    run_tool(session, "reproduce")


@nox.session
def fetch(session: nox.Session) -> None:
    """Download everything a build needs into a folder, for a machine without network:  nox -s fetch -- FOLDER"""
    run_tool(session, "fetch")


# A developer's sessions


@nox.session
def unit(session: nox.Session) -> None:
    """Run the tests that need no network, no compiler and no GPU; about a minute:  nox -s unit -- -k store"""
    folders = [folder for folder in ("tests/unit", "tests/field") if Path(folder).is_dir()]
    options = ["-m", "not (compiler or index or build)", "--numprocesses", "auto", "--dist", "worksteal"]
    run_developers(session, ("-m", "pytest", *options, *folders, *session.posargs))


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, which build a wheel; about 25 minutes on two cores:  nox -s tests -- -m 'not build'"""
    run_developers(session, ("-m", "pytest", *session.posargs))


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, lint and types (ruff, mypy --strict)"""
    commands = (("ruff", "format", "--check", "."), ("ruff", "check", "."), ("mypy",))
    run_developers(session, *(("-m", *argv) for argv in commands))


@nox.session
def mutants(session: nox.Session) -> None:
    """Check that the unit tests notice small wrong changes; under half an hour:  nox -s mutants -- resolve"""
    run_developers(session, ("tests/mutation", *session.posargs))


@nox.session
def lock(session: nox.Session) -> None:
    """Write build_matrix/locks/ from your package index: toolkits, build environment, sdists, by sha256"""
    run_tool(session, "lock")


@nox.session(default=False)
def figures(session: nox.Session) -> None:
    """Build a wheel from a clean checkout and record its sha256 with the commit:  nox -s figures -- --llama 0.3.36"""
    run_tool(session, "figures")


@nox.session(default=False)
def benchmark(session: nox.Session) -> None:
    """Measure our build against upstream's recipe, on an idle machine; about 25 minutes on two cores"""
    run_developers(session, ("-m", "benchmarks.against_upstream", *session.posargs))


if __name__ == "__main__":
    nox.main()
