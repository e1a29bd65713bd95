"""What uv is configured to use: its environment variables and its configuration files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from build_matrix.downloads.index.credentials import Authenticate
from build_matrix.errors import ConfigurationError
from build_matrix.redact import remember

_NAMED = re.compile(r"([A-Za-z0-9._-]+)=(.+)", re.DOTALL)  # uv takes NAME=URL; in a bare URL a ":" comes first
TRUE = {"1", "true", "yes", "on", "y", "t"}


class Index(NamedTuple):
    """One index as uv has it: ``source`` is the variable or the file that names it."""

    url: str
    source: str
    name: str = ""
    username: str = ""
    password: str = ""
    authenticate: Authenticate = "auto"


class UvSettings(NamedTuple):
    """``indexes`` in the order in which uv asks them, the default one last; empty where uv names none.

    ``offline`` is the setting that forbids the network, empty where none does.
    """

    indexes: tuple[Index, ...] = ()
    default: Index | None = None
    find_links: tuple[str, ...] = ()
    insecure_hosts: tuple[str, ...] = ()
    keyring: str = ""
    no_index: bool = False
    offline: str = ""


class _IndexTable(msgspec.Struct, frozen=True, rename="kebab"):
    url: str
    name: str = ""
    default: bool = False
    explicit: bool = False
    authenticate: Authenticate = "auto"


class _Sources(msgspec.Struct, frozen=True, rename="kebab"):
    index_url: str | None = None
    extra_index_url: list[str] = msgspec.field(default_factory=list)
    find_links: list[str] = msgspec.field(default_factory=list)
    keyring_provider: str | None = None
    no_index: bool = False


class _File(_Sources, frozen=True, rename="kebab"):
    index: list[_IndexTable] = msgspec.field(default_factory=list)
    allow_insecure_host: list[str] = msgspec.field(default_factory=list)
    offline: bool = False
    pip: _Sources = _Sources()


def read_uv_settings(environ: Mapping[str, str]) -> UvSettings:
    """Variables first, then the files, the strongest one first. Raises ConfigurationError."""
    settings = _environment_settings(environ)
    for path in [] if environ.get("UV_NO_CONFIG") else _files(environ):
        settings = _merged(settings, _file_settings(path))
    return settings._replace(
        indexes=tuple(_with_variables(index, environ) for index in settings.indexes),
        default=settings.default and _with_variables(settings.default, environ),
    )


def _environment_settings(environ: Mapping[str, str]) -> UvSettings:
    default = next(
        (_named(environ[v].strip(), v) for v in ("UV_DEFAULT_INDEX", "UV_INDEX_URL") if environ.get(v)), None
    )
    return UvSettings(
        indexes=tuple(
            _named(entry, variable)
            for variable in ("UV_INDEX", "UV_EXTRA_INDEX_URL")
            for entry in environ.get(variable, "").split()
        ),
        default=default if default and default.url else None,
        find_links=_split(environ.get("UV_FIND_LINKS", ""), ","),
        insecure_hosts=_split(environ.get("UV_INSECURE_HOST", "").replace(",", " ")),
        keyring=environ.get("UV_KEYRING_PROVIDER", ""),
        no_index=environ.get("UV_NO_INDEX", "").lower() in TRUE,
        offline="UV_OFFLINE" if environ.get("UV_OFFLINE", "").lower() in TRUE else "",
    )


def _split(text: str, separator: str | None = None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())


def _named(text: str, source: str) -> Index:
    named = _NAMED.fullmatch(text)
    return Index(named[2], source, named[1]) if named else Index(text, source)


def _file_settings(path: Path) -> UvSettings:
    file, source = _read(path), str(path)
    tables = [
        (table, Index(table.url, source, table.name, authenticate=table.authenticate))
        for table in file.index
        if not table.explicit
    ]
    plain = [url for part in (file, file.pip) for url in part.extra_index_url]
    defaults = [index for table, index in tables if table.default]
    defaults += [Index(part.index_url, source) for part in (file, file.pip) if part.index_url]
    return UvSettings(
        indexes=(*(index for table, index in tables if not table.default), *(Index(url, source) for url in plain)),
        default=defaults[0] if defaults else None,
        find_links=(*file.find_links, *file.pip.find_links),
        insecure_hosts=tuple(file.allow_insecure_host),
        keyring=file.keyring_provider or file.pip.keyring_provider or "",
        no_index=file.no_index or file.pip.no_index,
        offline=f"offline in {source}" if file.offline else "",
    )


def _merged(strong: UvSettings, weak: UvSettings) -> UvSettings:
    return UvSettings(
        indexes=strong.indexes + weak.indexes,
        default=strong.default or weak.default,
        find_links=strong.find_links + weak.find_links,
        insecure_hosts=strong.insecure_hosts + weak.insecure_hosts,
        keyring=strong.keyring or weak.keyring,
        no_index=strong.no_index or weak.no_index,
        offline=strong.offline or weak.offline,
    )


def _with_variables(index: Index, environ: Mapping[str, str]) -> Index:
    """The index with UV_INDEX_<NAME>_USERNAME and _PASSWORD, which win over its URL's."""
    if not index.name:
        return index
    prefix = f"UV_INDEX_{re.sub('[^A-Z0-9]', '_', index.name.upper())}"
    username, password = (environ.get(f"{prefix}_{part}", "") for part in ("USERNAME", "PASSWORD"))
    remember(password)
    return index._replace(username=username, password=password)


def _files(environ: Mapping[str, str]) -> Iterable[Path]:
    """Uv's configuration files, the strongest first (https://docs.astral.sh/uv/concepts/configuration-files/)."""
    if named := environ.get("UV_CONFIG_FILE"):
        return [Path(named)]
    if os.name == "nt":
        homes = [environ.get("APPDATA", ""), environ.get("PROGRAMDATA", "")]
    else:
        home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - Path.expanduser() raises without one
        homes = [environ.get("XDG_CONFIG_HOME") or f"{home}/.config"]
        homes += [*(environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"), "/etc"]
    candidates = [Path(home) / "uv" / "uv.toml" for home in homes if home]
    return [path for path in candidates if os.path.isfile(path)]  # noqa: PTH113 - Path.is_file() raises EACCES


def _read(path: Path) -> _File:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else str(error)) or str(error)
        raise ConfigurationError(
            f"uv's configuration {path} cannot be read: {why.rstrip('.')}.",
            "Fix that file, name another one with UV_CONFIG_FILE, or set UV_NO_CONFIG=1.",
        ) from error
