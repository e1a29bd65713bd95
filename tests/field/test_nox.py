"""What arrives through Nox: the tool's own exit code, a Python that is too old in one line, the index that pip has.

Nox runs the real noxfile beside a stand-in for the package, which ends with the exit code that it is asked for.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from commands import ROOT

registry = pytest.importorskip("nox.registry")

STAND_IN = """
import os, sys
print("isolated:", sys.flags.isolated, "arguments:", sys.argv[1:])
cache = os.environ.get("BUILD_MATRIX_REMOTE_CACHE", "").partition("//")[2]
print("remote cache:", cache.partition(":")[0] + "@" + cache.partition("@")[2].partition(":")[0])
sys.exit(int(os.environ["CODE_" + sys.argv[1]]))
"""


def make_checkout(place: Path) -> Path:
    """A checkout in a folder with blanks, quotes and umlauts; its locks are empty, so that nothing is downloaded."""
    folder = place / "mit Leer ü" / "kl'on"
    (folder / "build_matrix" / "locks").mkdir(parents=True)
    for name in ("tool.txt", "dev.txt"):
        (folder / "build_matrix" / "locks" / name).touch()
    (folder / "build_matrix" / "__init__.py").touch()
    (folder / "build_matrix" / "__main__.py").write_text(STAND_IN)
    shutil.copy(ROOT / "noxfile.py", folder)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One in which nothing is installed yet."""
    return make_checkout(tmp_path)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with the environment of a user's sessions, for tests that change nothing in it."""
    folder = make_checkout(tmp_path_factory.mktemp("ready"))
    assert nox(folder, "-s", "plan").returncode == 0
    return folder


def nox(checkout: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.defpath,
        "HOME": str(checkout),
        "PIP_NO_INDEX": "1",  # and so pip installs: the lock is empty
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **{f"CODE_{name}": "0" for name in ("plan", "doctor", "verify")},
    }
    return subprocess.run(
        [sys.executable, "-m", "nox", *words],
        cwd=checkout,
        env=environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_tools_exit_code_arrives_after_noxs_own_report(ready: Path) -> None:
    for code in (0, 2, 3, 4, 5, 7, 70, 130):
        done = nox(ready, "-s", "plan", "--", "--option", CODE_plan=str(code))
        assert done.returncode == code, done.stdout
        assert "isolated: 1 arguments: ['plan', '--option']" in done.stdout
        assert f"Session plan {'was successful' if code == 0 else 'failed'}" in done.stdout


def test_a_tool_that_a_signal_ended_is_what_a_shell_calls_it(checkout: Path) -> None:
    (checkout / "build_matrix" / "__main__.py").write_text("import os; os.kill(os.getpid(), 9)")
    assert nox(checkout, "-s", "plan").returncode == 128 + 9


def test_of_several_sessions_the_first_that_failed_counts_and_all_are_reported(ready: Path) -> None:
    done = nox(ready, "-s", "doctor", "plan", "verify", CODE_plan="4", CODE_verify="7")
    assert done.returncode == 4
    for line in ("doctor: success", "plan: failed", "verify: failed"):
        assert f"* {line}" in done.stdout


@pytest.mark.parametrize("options", [["--remote-cache", "{}"], ["--remote-cache={}"]])
def test_nox_does_not_print_the_password_of_a_remote_cache(ready: Path, options: list[str]) -> None:
    url = "redis://user:s3cret-of-mine@cache.test:6379"
    done = nox(ready, "-s", "plan", "--", "--cuda", "13", *(option.format(url) for option in options), CODE_plan="7")
    assert done.returncode == 7, done.stdout
    assert "s3cret-of-mine" not in done.stdout
    assert "arguments: ['plan', '--cuda', '13']" in done.stdout
    assert "remote cache: user@cache.test" in done.stdout


def test_pythons_variables_and_modules_elsewhere_do_not_reach_the_tool(ready: Path, tmp_path: Path) -> None:
    (tmp_path / "build_matrix.py").write_text("raise RuntimeError('a module of someone else')")
    variables = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": "/nowhere"}
    done = nox(ready, "-s", "plan", **variables)
    assert done.returncode == 0, done.stdout


def test_pips_own_places_to_install_to_are_not_the_sessions(checkout: Path, tmp_path: Path) -> None:
    done = nox(checkout, "-s", "plan", PIP_USER="1", PIP_TARGET=str(tmp_path / "target"), PIP_PREFIX="/nowhere")
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "target").exists()


def test_all_of_a_users_sessions_share_one_environment_which_is_installed_once(checkout: Path) -> None:
    first = nox(checkout, "-s", "plan").stdout
    assert "pip install" in first
    assert "uv binary not found" not in first
    second = nox(checkout, "-s", "doctor", "plan").stdout
    assert "pip install" not in second
    assert "doctor: success" in second
    assert len(list((checkout / ".nox").glob("tool-*/ready"))) == 1


def test_two_sessions_that_start_at_once_install_once(checkout: Path) -> None:
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda name: nox(checkout, "-s", name), ("plan", "doctor")))
    assert [done.returncode for done in both] == [0, 0], both
    assert sum(done.stdout.count("pip install") for done in both) == 1


class FakeSession:
    """What the noxfile asks of a session; an environment is one file, and what was installed is noted."""

    python: str | None = None
    name = "plan"

    def __init__(self, folder: Path) -> None:
        self.env_dir = folder / "plan"
        self.installed: list[str] = []

    def log(self, text: str) -> None:
        """Nobody reads it."""

    debug = log

    def run_install(self, *argv: str, **_: Any) -> str:
        if "--python" in argv and "virtualenv" in argv:
            (Path(argv[-1]) / "bin").mkdir(parents=True)
            (Path(argv[-1]) / "bin" / "python").touch()
        if "--requirement" in argv:
            self.installed.append(argv[-1])
        return "3.11.7"


@pytest.fixture
def session(noxfile: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(noxfile.shutil, "which", lambda _: None)
    return FakeSession(checkout / ".nox")


def test_what_a_killed_installation_left_is_not_used(noxfile: ModuleType, session: FakeSession) -> None:
    with noxfile.environment(session, "tool") as python:
        folder = python.parents[1]
    (folder / "ready").unlink()
    (folder / "half a package").touch()
    with noxfile.environment(session, "tool") as python:
        assert (python.parents[1], python.is_file()) == (folder, True)
    assert not (folder / "half a package").exists()
    assert len(session.installed) == 2


def test_a_python_that_is_gone_makes_a_new_environment(noxfile: ModuleType, session: FakeSession) -> None:
    with noxfile.environment(session, "tool") as python:
        python.unlink()
    with noxfile.environment(session, "tool"):
        assert len(session.installed) == 2


def test_developers_and_users_have_environments_of_their_own(noxfile: ModuleType, session: FakeSession) -> None:
    with noxfile.environment(session, "tool") as tool, noxfile.environment(session, "dev") as dev:
        assert tool != dev
    assert [Path(lock).name for lock in session.installed] == ["tool.txt", "dev.txt"]


def test_a_new_lock_leaves_the_environment_of_a_session_that_runs_and_removes_it_afterwards(
    noxfile: ModuleType, session: FakeSession, checkout: Path
) -> None:
    lock = checkout / "build_matrix" / "locks" / "tool.txt"
    with noxfile.environment(session, "tool") as first:
        lock.write_text("# another\n")
        with noxfile.environment(session, "tool") as second:
            assert first != second
        assert first.is_file()
    lock.write_text("# a third\n")
    with noxfile.environment(session, "tool") as third:
        assert (first.exists(), second.exists(), third.exists()) == (False, False, True)


@pytest.mark.usefixtures("without_privileges")
def test_an_environment_that_is_ready_is_used_where_nothing_can_be_written(
    noxfile: ModuleType, session: FakeSession, checkout: Path
) -> None:
    with noxfile.environment(session, "tool") as python:
        folder = python.parents[1]
    places = (folder.parent / "tool.lock", folder, folder.parent, checkout)
    for place in places:
        place.chmod(place.stat().st_mode & ~0o222)
    try:
        with noxfile.environment(session, "tool") as again:
            assert again == python
    finally:
        for place in reversed(places):
            place.chmod(place.stat().st_mode | 0o200)
    assert len(session.installed) == 1


def test_a_python_that_is_too_old_is_refused_before_anything_is_installed(checkout: Path) -> None:
    text = (checkout / "noxfile.py").read_text(encoding="utf-8")
    (checkout / "noxfile.py").write_text(text.replace("OLDEST = (3, 10)", "OLDEST = (3, 99)"), encoding="utf-8")
    done = nox(checkout, "-s", "doctor")
    assert done.returncode == 3
    assert f"needs Python 3.10 or newer; this is {'.'.join(map(str, sys.version_info[:3]))}" in done.stdout
    assert "pip install" not in done.stdout


@pytest.fixture
def noxfile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The noxfile as a module, on a machine where nothing is configured."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "XDG_", "PYTHON")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = importlib.util.spec_from_file_location("noxfile_under_test", ROOT / "noxfile.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    registry.reset()  # each test registers the sessions anew
    spec.loader.exec_module(module)
    for files in ("PIP_FILES", "UV_FILES"):
        monkeypatch.setattr(module, files, tuple(path for path in getattr(module, files) if path.startswith("~")))
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}")
    return module


@pytest.mark.parametrize(
    ("variables", "files", "expected"),
    [
        ({}, {}, "uv"),
        ({"PIP_DISABLE_PIP_VERSION_CHECK": "1"}, {}, "uv"),
        ({"PIP_INDEX_URL": ""}, {}, "uv"),
        ({"PIP_INDEX_URL": "https://mirror.test/simple"}, {}, "virtualenv"),
        ({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}, {}, "virtualenv"),
        ({"PIP_PROXY": "http://proxy.test:3128"}, {}, "virtualenv"),
        ({"PIP_INDEX_URL": "https://a.test/simple", "UV_DEFAULT_INDEX": "https://b.test/simple"}, {}, "uv"),
        ({}, {".config/pip/pip.conf": "[global]\nindex-url = https://mirror.test/simple\n"}, "virtualenv"),
        ({}, {".pip/pip.conf": "[install]\nno-index: true\n"}, "virtualenv"),
        ({}, {".config/pip/pip.conf": "[global]\ntimeout = 60\n# index-url = no\n"}, "uv"),
        (
            {},
            {
                ".config/pip/pip.conf": "[global]\ncert = /ca.pem\n",
                ".config/uv/uv.toml": '[[index]]\nurl = "https://mirror.test/simple"\n',
            },
            "uv",
        ),
        ({"PIP_CONFIG_FILE": os.devnull}, {".config/pip/pip.conf": "[global]\nindex-url = x\n"}, "uv"),
    ],
)
def test_pip_installs_where_it_alone_is_told_where_packages_come_from(
    noxfile: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    files: dict[str, str],
    expected: str,
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert noxfile.backend() == expected
    monkeypatch.setattr(noxfile.shutil, "which", lambda _: None)
    assert noxfile.backend() == "virtualenv"


def test_the_noxfile_is_read_by_the_oldest_python_that_nox_runs_on() -> None:
    import ast

    ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"), feature_version=(3, 8))
