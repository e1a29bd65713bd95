"""With ``--no-skips`` a test that would be skipped fails with its reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest
def test_good(): pass
def test_skips(): pytest.skip("no such thing")
@pytest.mark.skipif(True, reason="never here")
def test_marked(): pass
@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""
MODULE = "import pytest\npytest.skip('not on this system', allow_module_level=True)\n"


@pytest.mark.parametrize(
    ("text", "words", "code", "counts"),
    [
        (TESTS, (), 0, "1 passed, 2 skipped, 1 xfailed"),
        (TESTS, ("--no-skips",), 1, "1 failed, 1 passed, 1 xfailed, 1 error"),
        (MODULE, (), 5, "1 skipped"),
        (MODULE, ("--no-skips",), 2, "1 error"),
    ],
)
def test_a_skip_is_a_failure_where_skips_are_not_allowed(
    tmp_path: Path, text: str, words: tuple[str, ...], code: int, counts: str
) -> None:
    (tmp_path / "test_some.py").write_text(text)
    argv = [sys.executable, "-m", "pytest", "-ra", "-p", "conftest", "-p", "no:cacheprovider", *words, "test_some.py"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environ = os.environ | {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(argv, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert counts in done.stdout, done.stdout + done.stderr
    assert done.returncode == code
    for reason in ("no such thing", "never here") if text == TESTS else ("not on this system",):
        assert reason in done.stdout
