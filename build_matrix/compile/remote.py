"""A storage of compiled objects that machines share: what its URL tells the programs of the compile cache.

ccache supports ``redis://`` and ``http://``, sccache ``https://`` (WebDAV) and ``s3://``; see ccache(1) under "remote
storage backends", and docs/S3.md, docs/Webdav.md and docs/MultiLevel.md of sccache.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from build_matrix.errors import ConfigurationError
from build_matrix.model import CacheProgram
from build_matrix.redact import remember_urls

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_PORTS = {"redis": 6379, "http": 80, "https": 443}
_FORMS = (
    "redis://HOST[:PORT][/DB], http://HOST/PATH, https://HOST/PATH or s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME]"
)


class Remote(NamedTuple):
    """The ``program`` that uses it, the ``variables`` that it needs, and the one host and port that it must reach."""

    program: CacheProgram
    host: str
    port: int
    variables: dict[str, str]


def parse_remote(url: str, environment: Mapping[str, str]) -> Remote | None:
    """What ``url`` names, None for an empty one; S3's keys come from ``environment``. Raises ConfigurationError."""
    if not url:
        return None
    remember_urls(url)
    try:
        parts = urlsplit(url.partition("|")[0])  # ccache takes attributes behind a bar
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise _wrong() from None
    if not parts.hostname or parts.scheme not in {*_PORTS, "s3"}:
        raise _wrong()
    if parts.scheme == "s3":
        return _s3(parts, environment)
    if parts.scheme == "https":
        return Remote("sccache", parts.hostname, port, _webdav(parts, port))
    return Remote("ccache", parts.hostname, port, {"CCACHE_REMOTE_STORAGE": url})


def _wrong() -> ConfigurationError:
    return ConfigurationError(
        "The URL of the remote cache cannot be used.", f"Write it as {_FORMS}."
    )  # it holds secrets


def _webdav(parts: SplitResult, port: int) -> dict[str, str]:
    variables = {
        "SCCACHE_MULTILEVEL_CHAIN": "disk,webdav",
        "SCCACHE_WEBDAV_ENDPOINT": f"https://{parts.hostname}:{port}",
        "SCCACHE_WEBDAV_KEY_PREFIX": parts.path,
    }
    if parts.username:
        variables["SCCACHE_WEBDAV_USERNAME"] = unquote(parts.username)
        variables["SCCACHE_WEBDAV_PASSWORD"] = unquote(parts.password or "")
    return variables


def _s3(parts: SplitResult, environment: Mapping[str, str]) -> Remote:
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    region = query.get("region", "us-east-1")
    endpoint = query.get("endpoint", f"https://s3.{region}.amazonaws.com")
    place = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    if not place.hostname or place.scheme not in {"http", "https"} or query.keys() - {"region", "endpoint"}:
        raise _wrong()
    keys = {name: environment[name] for name in KEYS if environment.get(name)}
    variables = {
        "SCCACHE_MULTILEVEL_CHAIN": "disk,s3",
        "SCCACHE_BUCKET": parts.netloc,
        "SCCACHE_S3_KEY_PREFIX": parts.path.strip("/"),
        "SCCACHE_REGION": region,
        "SCCACHE_ENDPOINT": f"{place.scheme}://{place.netloc}",
        "SCCACHE_S3_USE_SSL": str(place.scheme == "https").lower(),
    }
    # Without keys sccache would look for some at an address of the cloud's network.
    variables |= keys or {"SCCACHE_S3_NO_CREDENTIALS": "true"}
    return Remote("sccache", place.hostname, place.port or _PORTS[place.scheme], variables)
