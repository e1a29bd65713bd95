"""Addresses of what comes from no package index: NVIDIA's redistributable archives, Debian's archive."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import lru_cache

from build_matrix.catalog import sources
from build_matrix.downloads.urls import is_url
from build_matrix.errors import ConfigurationError
from build_matrix.model import Origin

REDIST = "BUILD_MATRIX_REDIST"
DEBIAN = "BUILD_MATRIX_DEBIAN"
SECONDS = 30

NAMES: dict[Origin, str] = {
    "index": "the package index",
    "redist": "NVIDIA's server of redistributable archives",
    "debian": "the archive of Debian",
    "installed": "this machine",
}
SETTINGS: dict[Origin, str] = {
    "index": "configure your mirror (pip's index-url, or UV_DEFAULT_INDEX)",
    "redist": f"let {REDIST} name a mirror of it",
    "debian": f"let {DEBIAN} name a mirror, the folder above pool/",
    "installed": "name the same toolkit with --toolkit-root",
}


def addresses(origin: Origin, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Where files of this origin are looked for, in order: what the environment names, else what is known.

    Debian's archive is where this machine's apt has it, so it is nowhere on a system without apt. Raises
    ConfigurationError for a variable that names no URL.
    """
    environ = os.environ if environ is None else environ
    if origin == "installed":
        return ()
    if origin == "redist":
        return tuple(_checked(REDIST, environ.get(REDIST, "").strip())) or (sources().redist.address,)
    return tuple(_checked(DEBIAN, environ.get(DEBIAN, ""))) or _apt_archives()


def _checked(variable: str, value: str) -> list[str]:
    """The URLs that this variable holds; raises ConfigurationError for what is none."""
    for url in value.split():
        if not is_url(url):
            raise ConfigurationError(f"{variable} names {url!r}, which is no URL.", "Write it as https://HOST/PATH.")
    return value.split()


@lru_cache
def _apt_archives() -> tuple[str, ...]:
    """Every archive in apt's own configuration, as apt reads it."""
    apt = shutil.which("apt-get")
    if apt is None:
        return ()
    words = [apt, "indextargets", "--format", "$(REPO_URI)"]
    try:
        done = subprocess.run(
            words, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(dict.fromkeys(line for line in done.stdout.split() if line.startswith(("http://", "https://"))))
