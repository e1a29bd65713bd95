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
@pytest.mark.index
@pytest.mark.parametrize("megabytes", [20, 200])
def test_a_full_disk_is_one_sentence_and_exit_code_3(small: Path, megabytes: int) -> None:
    tool = f"{sys.executable} -m build_matrix build --llama 0.3.16 --store {small}"
    done = in_small_disk(small, megabytes, f"{tool}; code=$?; find {small} -name '*.new'; exit $code")
    assert done.returncode == 3, done.stderr
    assert "is full" in done.stderr
    assert "--store" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == ""


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
