"""Environments and installs from files that are already verified: by uv, without any index."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import uv

from build_matrix.errors import BuildMatrixError, CredentialsError, DiskFullError, InstallError
from build_matrix.platforms import find_platform, platform_name
from build_matrix.process.runner import run
from build_matrix.redact import redact

UV_SECONDS = 600

_REFUSED = re.compile(r"\b(401|403|407) (?:Unauthorized|Forbidden|Proxy Authentication)", re.IGNORECASE)
_SERVER = re.compile(r"https?://(?:\*\*\*@)?([^/\s`)]+)")


def uv_environment(cache: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Uv's whole environment: its cache beside the results, so that installs are links instead of copies."""
    keep = ("HOME", "USERPROFILE", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "LANG", "PATH")
    inherited = {name: os.environ[name] for name in keep if name in os.environ}
    fixed = {"UV_CACHE_DIR": str(cache), "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
    return inherited | fixed | dict(extra or {})


def create_environment(folder: Path, cache: Path) -> Path:
    """A fresh virtual environment of this interpreter's version in ``folder``; returns its Python.

    Raises InstallError.
    """
    _uv(["venv", "--quiet", "--relocatable", "--python", sys.executable, str(folder)], cache)
    return find_platform(platform_name()).environment_python(folder)


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
    argv = ["pip", "install", "--quiet", "--offline", "--no-index"]
    argv += ["--find-links", str(find_links)] if find_links else ["--no-deps"]
    argv += ["--python", str(python)] if python else ["--python", sys.executable]
    if target:
        argv += ["--target", str(target)]
    _uv([*argv, *map(str, wheels)], cache)


def _uv(argv: Sequence[str], cache: Path) -> None:
    result = run([uv.find_uv_bin(), *argv], env=uv_environment(cache), timeout=UV_SECONDS)
    if result.disk_full:
        raise DiskFullError(cache)
    if result.code:
        raise InstallError(
            f"uv {argv[0]} failed with exit code {result.code}: {result.output.strip() or 'no output'}",
            "Run the same command again; if it fails again, report it with this text.",
        )


def resolve(requirements: str, variables: Mapping[str, str], cache: Path) -> list[str]:
    """``name==version ; marker`` lines of the newest release set that satisfies ``requirements`` (one a line).

    Resolved for all platforms and for all Python versions from 3.10 on. Raises what `uv_compile` raises.
    """
    text = uv_compile(["--no-annotate", "-"], variables, cache, requirements=requirements)
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def uv_compile(
    argv: Sequence[str], variables: Mapping[str, str], cache: Path, *, cwd: Path | None = None, requirements: str = ""
) -> str:
    """What ``uv pip compile`` prints for all platforms and Pythons from 3.10 on; ``variables`` may hold credentials.

    Raises CredentialsError, InstallError.
    """
    fixed = ["pip", "compile", "--quiet", "--universal", "--python-version", "3.10", "--no-header"]
    try:
        result = subprocess.run(
            [uv.find_uv_bin(), *fixed, "--only-binary", ":all:", *argv],
            input=requirements,
            cwd=cwd,
            env=uv_environment(cache, variables),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=UV_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(
            f"uv did not resolve the requirements within {UV_SECONDS} seconds.", "Check the index and the network."
        ) from error
    if result.returncode:
        raise _uv_failure(result.stderr.strip())
    return result.stdout


def _uv_failure(text: str) -> BuildMatrixError:
    """Uv's own explanation; where an index refuses the credentials, as the failure that it is."""
    if match := _REFUSED.search(text):
        server = _SERVER.search(redact(text))
        host = server[1] if server else "the index"
        return CredentialsError(
            f"uv cannot resolve the requirements: {host} answers {match[1]}.", f"Check your credentials for {host}."
        )
    return InstallError(f"uv cannot resolve the requirements: {text}", "Check the index, then try again.")
