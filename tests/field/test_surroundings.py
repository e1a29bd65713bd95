"""`doctor` in random surroundings: never a traceback, and an exit code of the documented table.

What can be odd: variables, folders, links, names that are no text, encodings of the output, what is closed or missing.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import surroundings

SEED = 18
CASES = 500
CODES = {0, 2, 3, 141}  # docs/reference/command-line.md; nothing that doctor does can end with another
BROKEN = ("Traceback (most recent call last)", "Exception ignored", "fault of the tool", "secret")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the cases are forks of one process")


@pytest.fixture
def laid_out(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "f"
    surroundings.lay_out(folder)
    yield folder
    (folder / "closed").chmod(stat.S_IRWXU)  # so that it can be removed


def test_doctor_withstands_500_random_surroundings(laid_out: Path) -> None:
    workers = min(4, os.cpu_count() or 1)
    bounds = [CASES * number // workers for number in range(workers + 1)]
    environment = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(laid_out / "home")}
    processes = [
        subprocess.Popen(
            [sys.executable, surroundings.__file__, str(laid_out), str(SEED), str(first), str(end)],
            env=environment,
            cwd=laid_out / "empty",
            stdout=subprocess.PIPE,
            text=True,
        )
        for first, end in zip(bounds, bounds[1:], strict=False)
    ]
    results = [json.loads(line) for process in processes for line in process.communicate()[0].splitlines()]
    assert [process.returncode for process in processes] == [0] * workers
    assert sorted(result["number"] for result in results) == list(range(CASES))
    wrong = [result for result in results if result["code"] not in CODES or any(w in result["output"] for w in BROKEN)]
    assert not wrong, "\n\n".join(
        f"{surroundings.make_case(SEED, result['number'])}\nexit code {result['code']}\n{result['output']}"
        for result in wrong[:5]
    )
    assert {result["code"] for result in results} == CODES, "the cases are too much alike to prove anything"
