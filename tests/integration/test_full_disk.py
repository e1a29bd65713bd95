"""A disk that is really full: a small file system of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def in_small_disk(folder: Path, megabytes: int, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script where ``folder`` is a file system of this size, in namespaces of its own."""
    mount = f"mount -t tmpfs -o size={megabytes}m none {folder} && {script}"
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def small(tmp_path: Path) -> Path:
    if not shutil.which("unshare") or in_small_disk(tmp_path, 1, "true").returncode:
        pytest.skip("this system allows no user and mount namespaces")
    return tmp_path


@pytest.mark.compiler
def test_a_disk_without_room_is_one_sentence_and_exit_code_3(small: Path) -> None:
    tool = f"{sys.executable} -m build_matrix build --llama 0.3.16 --store {small}"
    done = in_small_disk(small, 200, f"{tool}; code=$?; find {small} -name '*.new'; exit $code")
    assert done.returncode == 3, done.stderr
    assert "0.2 GB are free" in done.stderr
    assert "--store" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == ""


PROVISION = """
from pathlib import Path
from build_matrix.context import Context
from build_matrix.errors import BuildMatrixError
from build_matrix.downloads import Downloads
from build_matrix.locks import read_lock, select_wheels
from build_matrix.provision import provision_environment
from build_matrix.report import make_reporter
from build_matrix.store import Store
store = Store(Path('{0}'))
try:
    context = Context(None, store, Downloads(store, make_reporter()), make_reporter())
    provision_environment(context, select_wheels(read_lock('build')))
except BuildMatrixError as error:
    print(type(error).__name__, error.exit_code, error.problem)
print(sorted(path.name for path in (store.root / 'work').iterdir()))
"""


@pytest.mark.index
@pytest.mark.parametrize("megabytes", [20, 80], ids=["while downloading", "while installing"])
def test_a_disk_that_fills_up_on_the_way_is_said_and_leaves_nothing_half(small: Path, megabytes: int) -> None:
    script = small.parent / "provision.py"
    script.write_text(PROVISION.format(small))
    done = in_small_disk(small, megabytes, f"PYTHONPATH=. {sys.executable} {script}")
    first, second = done.stdout.splitlines()
    assert first.startswith("DiskFullError 3"), done.stdout + done.stderr
    assert "is full" in first
    assert second == "[]"


def test_a_file_that_does_not_fit_leaves_nothing_behind(small: Path) -> None:
    code = (
        "from pathlib import Path; from build_matrix.store import Store\n"
        "def make(folder): (folder / 'big').write_bytes(bytes(5_000_000))\n"
        f"try: Store(Path('{small}')).obtain('stage', 'd' * 64, make)\n"
        "except Exception as error: print(type(error).__name__, error.exit_code)\n"
        f"print(sorted(p.name for p in Path('{small}').rglob('big*')))\n"
    )
    done = in_small_disk(small, 2, f"{sys.executable} -c '{code.replace(chr(39), chr(34))}'")
    assert done.stdout.split("\n")[:2] == ["DiskFullError 3", "[]"], done.stderr
