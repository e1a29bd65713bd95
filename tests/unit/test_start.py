"""What happens before the command line is imported: an old Python, missing packages, packages of someone else."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT

ENTRY = ROOT / "build_matrix" / "__main__.py"
# The entry point as a Python of that version would run it.
OLD = """
import runpy, sys
sys.version_info = (3, 9, 18, "final", 0)
runpy.run_module("build_matrix", run_name="__main__")
"""


def python(*words: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={"PATH": os.defpath, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_entry_point_is_read_by_old_interpreters() -> None:
    ast.parse(ENTRY.read_text(encoding="ascii"), feature_version=(3, 4))


def test_an_old_python_is_told_in_one_line_with_its_remedy() -> None:
    done = python("-c", OLD)
    assert done.returncode == 3
    problem, remedy = done.stderr.strip().splitlines()
    assert problem.startswith("build-matrix needs Python 3.10 or newer; this is 3.9.18")
    assert "Install a newer Python" in remedy


def test_a_missing_package_is_one_sentence_that_names_it() -> None:
    done = python("-S", "-m", "build_matrix", "doctor")  # without site-packages
    assert done.returncode == 3
    assert "lacks packages that build-matrix needs: No module named" in done.stderr
    assert "nox -s doctor" in done.stderr
    assert "Traceback" not in done.stderr


SHADOWS = ("msgspec", "rich", "typer", "numpy", "requests", "psutil", "packaging", "filelock", "platformdirs")


@pytest.fixture
def shadows(tmp_path: Path) -> Path:
    for number, name in enumerate(SHADOWS):
        place = tmp_path / f"{name}.py" if number % 2 else tmp_path / name / "__init__.py"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"raise RuntimeError('a module of someone else: {name}')\n")
    return tmp_path


@pytest.mark.parametrize("words", [("--help",), ("plan", "--driver-cuda", "12.9", "--json"), ("doctor", "--json")])
def test_modules_in_pythonpath_do_not_take_the_place_of_ours(shadows: Path, words: tuple[str, ...]) -> None:
    done = python("-m", "build_matrix", *words, PYTHONPATH=str(shadows), HOME=str(shadows))
    assert done.returncode == 0, done.stderr


def test_modules_in_the_current_folder_do_not_take_the_place_of_ours(shadows: Path) -> None:
    done = python("-m", "build_matrix", "--help", cwd=shadows, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONWARNINGS": "error"},
        {"PYTHONOPTIMIZE": "2"},
        {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1:strict", "LC_ALL": "POSIX"},
        {"PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        {"PYTHONSTARTUP": "/nowhere", "PYTHONUSERBASE": "/nowhere", "PYTHONPYCACHEPREFIX": "/proc/nowhere"},
        {"PYTHONHASHSEED": "0", "PYTHONDEVMODE": "1"},
    ],
    ids=lambda variables: next(iter(variables)) + "=" + next(iter(variables.values())),
)
def test_pythons_own_variables_change_nothing(tmp_path: Path, variables: dict[str, str]) -> None:
    done = python("-m", "build_matrix", "plan", "--driver-cuda", "12.9", HOME=str(tmp_path), **variables)
    assert done.returncode in {0, 4}, done.stderr
    assert "CUDA" in done.stdout
    assert "Traceback" not in done.stderr
