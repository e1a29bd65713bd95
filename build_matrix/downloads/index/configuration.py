"""Which package index does this user use? Read from uv's and pip's own configuration and environment."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from build_matrix.downloads.index.credentials import Credential, KeyringProvider
from build_matrix.downloads.index.uv_settings import TRUE, Index, UvSettings, read_uv_settings
from build_matrix.downloads.urls import is_url, user_info, without_user_info
from build_matrix.errors import ConfigurationError
from build_matrix.model import Record
from build_matrix.redact import redact, remember_environment, remember_urls

PIP_SECONDS = 60
STALL_SECONDS = 60.0  # a file of which nothing arrives for that long is given up; pip's or uv's timeout takes its place
PASSED_ON = (  # the variables by which uv is what it is for this user; in both cases, as curl and requests read them
    *(name for base in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (base, base.upper())),
    *("NETRC", "SSL_CLIENT_CERT", "UV_HTTP_TIMEOUT", "UV_CREDENTIALS_DIR", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"),
)
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")


class IndexConfiguration(Record, frozen=True, kw_only=True):
    """Simple repository endpoints and folders of files, in the order in which they are asked; no URL has credentials.

    ``bundles`` are all certificate bundles that are configured, with the setting that names each, the strongest first;
    a server is trusted whose authority is in any of them. ``offline`` is the setting that forbids the network.
    """

    endpoints: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()
    keyring: KeyringProvider = "disabled"
    bundles: tuple[tuple[str, str], ...] = ()
    client_certificate: str = ""
    trusted_hosts: tuple[str, ...] = ()
    proxy: str = ""
    stall_seconds: float = STALL_SECONDS
    offline: str = ""
    origin: str = "built-in default"
    variables: dict[str, str] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"IndexConfiguration({self.origin}: {redact(' '.join((*self.endpoints, *self.find_links)))})"

    @property
    def certificates(self) -> str:
        """The strongest certificate bundle, a file or a folder; empty: the system's and those of requests."""
        return self.bundles[0][1] if self.bundles else ""

    def uv_variables(self, folder: Path) -> dict[str, str]:
        """The same, as the environment variables of uv (https://docs.astral.sh/uv/reference/environment/).

        They hold credentials: for the environment of a child, never for its argv or for people. Several certificate
        bundles are joined in a file in ``folder``, because uv reads one file. Raises ConfigurationError.
        """
        variables = {**self.variables, "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
        secret = {entry.url: entry.with_user_info for entry in self.credentials}
        first, *rest = [secret.get(url, url) for url in self.endpoints] or [""]
        if self.origin == "uv":  # uv asks its default index last
            *rest, first = [first, *rest]
        if first:
            variables["UV_DEFAULT_INDEX"] = first
        else:
            variables["UV_NO_INDEX"] = "1"
        if extra := [url for url in rest if not url.startswith("file:")]:
            variables["UV_INDEX"] = " ".join(extra)
        if self.find_links:
            variables["UV_FIND_LINKS"] = ",".join(secret.get(url, url) for url in self.find_links)
        variables |= self._certificate_variables(folder)
        if self.trusted_hosts:
            variables["UV_INSECURE_HOST"] = " ".join(self.trusted_hosts)
        if self.keyring == "subprocess":
            variables["UV_KEYRING_PROVIDER"] = "subprocess"
        if self.proxy:
            variables["ALL_PROXY"] = self.proxy
        return variables

    def _certificate_variables(self, folder: Path) -> dict[str, str]:
        """SSL_CERT_FILE and SSL_CERT_DIR, both of which uv trusts where both are set."""
        paths = dict.fromkeys(path for _, path in self.bundles)
        folders = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112 - Path.is_dir() raises EACCES
        files = [path for path in paths if path not in folders]
        variables = {"SSL_CERT_DIR": os.pathsep.join(folders)} if folders else {}
        if files:
            variables["SSL_CERT_FILE"] = files[0] if len(files) == 1 else str(_joined(files, folder))
        return variables


def _joined(files: Iterable[str], folder: Path) -> Path:
    """A file with the certificates of all of these, named by its sha256. Raises ConfigurationError."""
    try:
        content = b"\n".join(Path(file).read_bytes() for file in files)
    except OSError as error:
        raise ConfigurationError(
            f"The certificates in {error.filename} cannot be read: {error.strerror}.",
            "Set SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE and pip's cert to existing files, or unset them.",
        ) from error
    joined = folder / f"certificates-{hashlib.sha256(content).hexdigest()[:16]}.pem"
    if not joined.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(content)
        Path(file.name).chmod(0o644)  # they are public, and the folder may be shared
        Path(file.name).replace(joined)
    return joined


def read_configuration(environ: Mapping[str, str] | None = None) -> IndexConfiguration:
    """The configuration in force: uv's where uv names an index, else pip's, else pip's built-in default.

    Raises ConfigurationError when a configuration file cannot be read, or names what is no URL.
    """
    environ = os.environ if environ is None else environ
    remember_environment(environ)
    uv = read_uv_settings(environ)
    pip = _pip_settings(environ, needed=not (uv.default or uv.indexes))
    remember_urls(*pip.values())
    endpoints, origin = _endpoints(uv, pip)
    links = [Index(link, "uv's find-links") for link in uv.find_links]
    if origin != "uv":
        links += [Index(link, "pip's find-links") for link in pip.get("find-links", "").split()]
    split = [_split_index(index) for index in endpoints]
    split_links = [_split_link(link) for link in links]
    return IndexConfiguration(
        endpoints=tuple(entry.url for entry in split),
        find_links=tuple(entry.url for entry in split_links),
        credentials=tuple(e for e in (*split, *split_links) if e.username or e.password or e.authenticate != "auto"),
        keyring=_keyring(uv.keyring or pip.get("keyring-provider", "")),
        bundles=_bundles(environ, pip),
        client_certificate=environ.get("SSL_CLIENT_CERT") or pip.get("client-cert", ""),
        trusted_hosts=uv.insecure_hosts or tuple(pip.get("trusted-host", "").split()),
        proxy=pip.get("proxy", ""),
        stall_seconds=_seconds(environ, pip),
        offline=uv.offline,
        origin=origin,
        variables={name: environ[name] for name in PASSED_ON if environ.get(name)},
    )


def _endpoints(uv: UvSettings, pip: Mapping[str, str]) -> tuple[list[Index], str]:
    """The indexes in the order in which they are asked, and whose configuration names them."""
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    built_in = Index(PYPI_SIMPLE_ENDPOINT, "pip's built-in default")
    if uv.no_index:
        return [], "uv"
    if uv.default or uv.indexes:
        return [*uv.indexes, uv.default or built_in], "uv"
    if pip.get("no-index", "").lower() in TRUE:
        return [], "pip"
    main = Index(pip["index-url"], "pip's index-url") if pip.get("index-url") else None
    extra = [Index(url, "pip's extra-index-url") for url in pip.get("extra-index-url", "").split()]
    return [main or built_in, *extra], "pip" if main or extra else "built-in default"


def _split_index(index: Index) -> Credential:
    """The address of an index, and the credentials for it apart. Raises ConfigurationError."""
    url, source = index.url, index.source
    remember_urls(url)
    if "://" not in url and not url.startswith("file:") and Path(os.path.expanduser(url)).is_dir():  # noqa: PTH111
        url = Path(url).expanduser().resolve().as_uri()
    if not is_url(url):
        raise ConfigurationError(
            f"{source} names {redact(url)!r}, which is not the URL of a package index.",
            "Write it as https://HOST/PATH. In a user name or a password, percent-encode all but letters and digits: "
            "%40 for @, %2F for /, %3A for :.",
        )
    username, password = user_info(url)
    if index.username or index.password:
        username, password = index.username or username, index.password or password
    return Credential(without_user_info(url), username, password, index.authenticate)


def _split_link(link: Index) -> Credential:
    """The same for a folder or a page of files; a folder is named by its path."""
    from urllib.request import url2pathname

    if link.url.startswith(("http://", "https://")):
        return _split_index(link)
    path = url2pathname(urlsplit(link.url).path) if link.url.startswith("file:") else link.url
    return Credential(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser() raises without a home


def _bundles(environ: Mapping[str, str], pip: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Each certificate bundle that is configured, with the setting that names it, the strongest first."""
    named = [("SSL_CERT_FILE", environ.get("SSL_CERT_FILE", "")), ("pip's cert", pip.get("cert", ""))]
    named += [(name, environ.get(name, "")) for name in BUNDLES]
    return tuple(
        (name, place)
        for name, path in named
        if path.strip()
        for place in (_folders(path) if name == "SSL_CERT_DIR" else [path])
    )


def _folders(path: str) -> list[str]:
    """SSL_CERT_DIR may name several folders, not all of which have to exist; where none does, its whole value."""
    return [folder for folder in path.split(os.pathsep) if folder and os.path.isdir(folder)] or [path]  # noqa: PTH112


def _seconds(environ: Mapping[str, str], pip: Mapping[str, str]) -> float:
    """The timeout of uv or of pip, in seconds."""
    for text in (environ.get("UV_HTTP_TIMEOUT", ""), pip.get("timeout", ""), pip.get("default-timeout", "")):
        try:
            seconds = float(text)
        except ValueError:
            continue
        if 0 < seconds < float("inf"):
            return seconds
    return STALL_SECONDS


def _keyring(provider: str) -> KeyringProvider:
    """Pip's ``auto`` is not followed: it may ask the user at a terminal."""
    return "subprocess" if provider == "subprocess" else "import" if provider == "import" else "disabled"


def _pip_settings(environ: Mapping[str, str], *, needed: bool) -> dict[str, str]:
    """What ``pip config list`` says, most specific setting last: global, install, environment.

    Where pip itself is missing, nothing, unless its index is ``needed``. Raises ConfigurationError.
    """
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for key, value in _pip_config(environ, needed=needed):
        section, _, name = key.partition(".")
        if section in sections and value:  # pip skips settings that are empty
            sections[section][name] = value
    return sections["global"] | sections["install"] | sections[":env:"]


def _home(environ: Mapping[str, str]) -> dict[str, str]:
    """A home for pip, which ends with a traceback where neither HOME nor the system's list of users names one."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises as well
    return {} if environ.get("HOME") or Path(home).is_absolute() else {"HOME": "/nonexistent"}


def _pip_config(environ: Mapping[str, str], *, needed: bool) -> Iterable[tuple[str, str]]:
    remedy = "Fix it (`pip config debug` lists the files), or name your index with UV_DEFAULT_INDEX."
    try:
        result = subprocess.run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"],
            env={**environ, **_home(environ), "PYTHONUTF8": "1", "PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigurationError(f"`pip config list` did not finish within {PIP_SECONDS} seconds.", remedy) from error
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no output"]
        if "No module named pip" in lines[-1]:
            if not needed:
                return []
            raise ConfigurationError(
                f"{sys.executable} has no pip, which is needed to read the configured package index.",
                "Install it (`python -m ensurepip`), or name your index with UV_DEFAULT_INDEX.",
            )
        raise ConfigurationError(f"pip cannot read its own configuration: {lines[-1]}", remedy)
    settings = []
    for line in result.stdout.splitlines():
        key, equals, value = line.partition("=")
        if not equals:
            continue
        try:
            settings.append((key, str(ast.literal_eval(value)).strip()))
        except (ValueError, SyntaxError) as error:
            raise ConfigurationError(f"`pip config list` gives no value for {key}.", remedy) from error
    return settings
