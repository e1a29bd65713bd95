"""Environments and installs from files that are already verified: by uv, without any index."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import uv

from build_matrix.errors import DiskFullError, InstallError
from build_matrix.runner import run

UV_SECONDS = 600


def uv_environment(cache: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Uv's whole environment: its cache beside the results, so that installs are links instead of copies."""
    keep = ("HOME", "USERPROFILE", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "LANG", "PATH")
    kept = {name: os.environ[name] for name in keep if name in os.environ}
    fixed = {"UV_CACHE_DIR": str(cache), "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
    return kept | fixed | dict(extra or {})


def create_environment(folder: Path, cache: Path) -> Path:
    """A fresh virtual environment of this interpreter's version in ``folder``; returns its Python.

    Raises InstallError.
    """
    _uv(["venv", "--quiet", "--relocatable", "--python", sys.executable, str(folder)], cache)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install_wheels(
    wheels: Sequence[Path],
    cache: Path,
    *,
    python: Path | None = None,
    target: Path | None = None,
    find_links: Path | None = None,
) -> None:
    """Install these wheels into the environment of ``python``, or as plain files into ``target``.

    With ``find_links`` their declared dependencies are resolved from the files in that folder; without it
    nothing but the wheels is installed. Raises InstallError.
    """
    words = ["pip", "install", "--quiet", "--offline", "--no-index"]
    words += ["--find-links", str(find_links)] if find_links else ["--no-deps"]
    words += ["--python", str(python)] if python else ["--python", sys.executable]
    if target:
        words += ["--target", str(target)]
    _uv([*words, *map(str, wheels)], cache)


def _uv(words: Sequence[str], cache: Path) -> None:
    done = run([uv.find_uv_bin(), *words], env=uv_environment(cache), timeout=UV_SECONDS)
    if done.disk_full:
        raise DiskFullError(cache)
    if done.code:
        raise InstallError(
            f"uv {words[0]} ended with {done.code}: {done.output.strip() or 'no output'}",
            "Run the same command again; if it stays, report it with this text.",
        )


def resolve(requirements: str, variables: Mapping[str, str], cache: Path) -> list[str]:
    """``name==version ; marker`` lines of the newest release set that satisfies ``requirements`` (one a line).

    Resolved for all platforms and for all Python versions from 3.10 on. Raises InstallError.
    """
    words = ["pip", "compile", "--quiet", "--universal", "--python-version", "3.10", "--no-header"]
    words += ["--no-annotate", "--only-binary", ":all:", "-"]
    answer = subprocess.run(
        [uv.find_uv_bin(), *words],
        input=requirements,
        env=uv_environment(cache, variables),
        capture_output=True,
        encoding="utf-8",
        timeout=UV_SECONDS,
        check=False,
    )
    if answer.returncode:
        raise InstallError(
            f"uv cannot resolve {requirements.split()}: {answer.stderr.strip()}",
            "Check the index, then try again.",
        )
    return [line for line in answer.stdout.splitlines() if line.strip() and not line.startswith("#")]
