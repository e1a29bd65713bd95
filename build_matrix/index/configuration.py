"""Which package index does this user use? Read from uv's and pip's own configuration and environment."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from packaging.utils import canonicalize_name

from build_matrix.errors import ConfigurationError
from build_matrix.model import Record

PIP_SECONDS = 60


class IndexConfiguration(Record, frozen=True, kw_only=True):
    """Simple repository endpoints and folders of files, in the order in which they are asked."""

    endpoints: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    certificates: str = ""
    trusted_hosts: tuple[str, ...] = ()
    proxy: str = ""
    origin: str = "built-in default"

    def uv_variables(self) -> dict[str, str]:
        """The same, as the environment variables of uv (https://docs.astral.sh/uv/reference/environment/)."""
        variables = {"UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
        if self.endpoints:
            variables["UV_DEFAULT_INDEX"] = self.endpoints[0]
        else:
            variables["UV_NO_INDEX"] = "1"
        if extra := [url for url in self.endpoints[1:] if not url.startswith("file:")]:
            variables["UV_INDEX"] = " ".join(extra)
        if self.find_links:
            variables["UV_FIND_LINKS"] = ",".join(self.find_links)
        if self.certificates:
            variables["SSL_CERT_FILE"] = self.certificates
        if self.trusted_hosts:
            variables["UV_INSECURE_HOST"] = " ".join(self.trusted_hosts)
        if self.proxy:
            variables["ALL_PROXY"] = self.proxy
        return variables


def read_configuration(environ: Mapping[str, str] | None = None) -> IndexConfiguration:
    """The configuration in force: uv's where uv names an index, else pip's, else pip's built-in default.

    Raises ConfigurationError when a configuration file cannot be read.
    """
    environ = os.environ if environ is None else environ
    pip = _pip_settings(environ)
    common: dict[str, Any] = {
        "certificates": environ.get("SSL_CERT_FILE") or pip.get("cert", ""),
        "trusted_hosts": tuple(environ.get("UV_INSECURE_HOST", "").split())
        or tuple(pip.get("trusted-host", "").split()),
        "proxy": pip.get("proxy", ""),
    }
    uv_endpoints, uv_links = _uv_settings(environ)
    if uv_endpoints:
        return IndexConfiguration(endpoints=uv_endpoints, find_links=uv_links, origin="uv", **common)
    links = (*uv_links, *pip.get("find-links", "").split())
    if pip.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        return IndexConfiguration(endpoints=(), find_links=links, origin="pip", **common)
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    main = pip.get("index-url")
    endpoints = (main or PYPI_SIMPLE_ENDPOINT, *pip.get("extra-index-url", "").split())
    origin = "pip" if main or len(endpoints) > 1 else "built-in default"
    return IndexConfiguration(endpoints=endpoints, find_links=links, origin=origin, **common)


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What ``pip config list`` says, most specific setting last: global, install, environment."""
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"],
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PIP_SECONDS,
        check=False,
    )
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or ["no output"]
        raise ConfigurationError(
            f"pip cannot read its own configuration: {lines[-1]}", "Mend it, then see `pip config debug`."
        )
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in answer.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.partition(".")
        if section in found and value:
            found[section][name] = str(ast.literal_eval(value)).strip()
    return found["global"] | found["install"] | found[":env:"]


def _uv_settings(environ: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Endpoints (the default index last, as uv asks it) and folders; no endpoints when uv names none."""
    files = [] if environ.get("UV_NO_CONFIG") else _uv_files(environ)
    indexes: list[str] = []
    default = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or ""
    for variable in ("UV_INDEX", "UV_EXTRA_INDEX_URL"):
        indexes += [_without_name(word) for word in environ.get(variable, "").split()]
    links = [link for link in environ.get("UV_FIND_LINKS", "").split(",") if link]
    for path in files:
        settings = _read_toml(path)
        pip_section = settings.get("pip", {})
        for entry in settings.get("index", []):
            url = str(entry["url"])
            if entry.get("default"):
                default = default or url
            elif not entry.get("explicit"):
                indexes.append(url)
        default = default or settings.get("index-url") or pip_section.get("index-url") or ""
        indexes += settings.get("extra-index-url", []) + pip_section.get("extra-index-url", [])
        links += settings.get("find-links", []) + pip_section.get("find-links", [])
    if not (default or indexes):
        return (), tuple(links)
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    return (*indexes, default or PYPI_SIMPLE_ENDPOINT), tuple(links)


def _without_name(word: str) -> str:
    """Uv allows ``name=url``; names are project-name-like, so a ``=`` inside a URL is left alone."""
    name, equals, url = word.partition("=")
    return url if equals and name == canonicalize_name(name) else word


def _uv_files(environ: Mapping[str, str]) -> list[Path]:
    """Uv's configuration files, the strongest first (https://docs.astral.sh/uv/concepts/configuration-files/)."""
    if named := environ.get("UV_CONFIG_FILE"):
        return [Path(named)]
    if os.name == "nt":
        homes = [environ.get("APPDATA", ""), environ.get("PROGRAMDATA", "")]
    else:
        homes = [environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")]
        homes += [*(environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"), "/etc"]
    candidates = [Path(home) / "uv" / "uv.toml" for home in homes if home]
    return [path for path in candidates if path.is_file()]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"uv's configuration {path} cannot be read: {error}", "Mend that file.") from error
