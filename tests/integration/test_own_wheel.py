"""This tool as a package: what ``uvx`` and ``pipx`` install works in any folder, as a checkout does."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import uv

import build_matrix
from build_matrix.digests import code_digest
from build_matrix.locks import TOOL
from build_matrix.resources import BUNDLED

pytestmark = pytest.mark.index
ROOT = Path(__file__).parents[2]

CELL = """
[[cell]]
llama = "0.3.16"
cuda = "13.1"
architectures = ["86"]
"""

DIGESTS = """
import importlib, json, pkgutil, build_matrix
from build_matrix.digests import code_digest
names = [module.name for module in pkgutil.walk_packages(build_matrix.__path__, "build_matrix.")]
modules = map(importlib.import_module, (name for name in names if not name.endswith(("_child", "__main__"))))
stages = {module.__name__: module.CODE for module in modules if isinstance(getattr(module, "CODE", None), tuple)}
print(json.dumps({name: code_digest(*code) for name, code in stages.items()}))
"""


def run(*argv: str | Path, cwd: Path, store: Path) -> subprocess.CompletedProcess[str]:
    variables = {"BUILD_MATRIX_STORE": str(store), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tool's sdist and the wheel that is made of it."""
    folder = tmp_path_factory.mktemp("own") / "dist"
    done = run(uv.find_uv_bin(), "build", "--quiet", "--out-dir", folder, ROOT, cwd=folder.parent, store=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def programs(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with what ``tool.txt`` names and this wheel, far from the checkout."""
    home = tmp_path_factory.mktemp("elsewhere")
    (wheel,) = built.glob("*.whl")
    python = home / "env" / "bin" / "python"
    install = (uv.find_uv_bin(), "pip", "install", "--quiet", "--python", python)
    for argv in (
        (uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, home / "env"),
        (*install, "--require-hashes", "--requirement", TOOL),
        (*install, "--no-deps", wheel),
    ):
        done = run(*argv, cwd=home, store=home / "store")
        assert done.returncode == 0, done.stderr
    return python.parent


def test_sdist_and_wheel_hold_what_the_tool_reads_and_neither_tests_nor_wheels(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    with tarfile.open(sdist) as archive:
        sources = [name.partition("/")[2] for name in archive.getnames()]
    patches = {path.name for path in (ROOT / "patches").glob("*.patch")}
    bundled = BUNDLED.relative_to(BUNDLED.parents[1]).as_posix()
    assert {name.rpartition("/")[2] for name in names if name.endswith(".patch")} == patches
    assert {f"{bundled}/matrix.toml", "build_matrix/locks/tool.txt", "build_matrix/catalog/toolkits.toml"} <= {*names}
    for name in (*names, *sources):
        assert name.partition("/")[0] not in {"tests", "wheels", "docs", "benchmarks", ".nox", ".venv"}, name
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "build_matrix").rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith("build_matrix/") and bundled not in name} == {
        name for name in package if "__pycache__" not in name
    }


@pytest.mark.compiler
def test_the_installed_tool_works_in_an_empty_folder(programs: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    tool = programs / "build-matrix"
    doctor = run(tool, "doctor", "--json", cwd=empty, store=tmp_path / "store")
    assert doctor.returncode == 0, doctor.stderr
    assert json.loads(doctor.stdout)["machine"]["platform"]
    plan = run(tool, "plan", "--driver-cuda", "none", cwd=empty, store=tmp_path / "store")
    assert plan.returncode == 0, plan.stderr
    assert "chosen: llama-cpp-python" in plan.stdout
    assert "--remote-cache" in run(tool, "build", "--help", cwd=empty, store=tmp_path / "store").stdout
    verify = run(tool, "verify", cwd=empty, store=tmp_path / "store")
    assert "Traceback" not in verify.stderr
    assert list(empty.iterdir()) == []


def test_cells_are_the_current_folders_or_the_tools_own(programs: Path, tmp_path: Path) -> None:
    argv = (programs / "build-matrix", "build", "--cell", "none of these")
    own = run(*argv, cwd=tmp_path, store=tmp_path / "store")
    assert own.returncode == 2, own.stderr
    assert "0.3.36+cu130.sm89" in own.stderr
    (tmp_path / "matrix.toml").write_text(CELL)
    other = run(*argv, cwd=tmp_path, store=tmp_path / "store")
    assert other.returncode == 2, other.stderr
    assert "It has 0.3.16+cu131.sm86." in other.stderr


def test_the_patches_are_the_same_as_the_checkouts(programs: Path, tmp_path: Path) -> None:
    code = "from build_matrix.resources import patches_folder; print(patches_folder())"
    done = run(programs / "python", "-I", "-c", code, cwd=tmp_path, store=tmp_path / "store")
    folder = Path(done.stdout.strip())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in (ROOT / "patches").iterdir()
    }


def test_results_have_the_same_digests_from_the_wheel_as_from_the_checkout(programs: Path, tmp_path: Path) -> None:
    done = run(programs / "python", "-I", "-c", DIGESTS, cwd=tmp_path, store=tmp_path / "store")
    assert done.returncode == 0, done.stderr
    names = [module.name for module in pkgutil.walk_packages(build_matrix.__path__, "build_matrix.")]
    modules = [importlib.import_module(name) for name in names if not name.endswith(("_child", "__main__"))]
    stages = {module.__name__: module.CODE for module in modules if isinstance(getattr(module, "CODE", None), tuple)}
    here = {name: code_digest(*code) for name, code in stages.items()}
    assert json.loads(done.stdout) == here
    assert "build_matrix.verify" in here
