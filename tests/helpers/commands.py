"""Runs the command line as a user does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_tool(words: tuple[str, ...], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """``python -m build_matrix`` with these words and exactly this environment, on a wide terminal."""
    return subprocess.run(
        [sys.executable, "-m", "build_matrix", *words],
        cwd=ROOT,
        env={"COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
