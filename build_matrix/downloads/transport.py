"""How a request leaves this machine: through which proxy, trusting which certificates, with which credentials."""

from __future__ import annotations

import http.client
import ipaddress
import os
import ssl
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy, should_bypass_proxies
from requests_file import FileAdapter
from urllib3.util import Retry

from build_matrix.downloads.authentication import Authentication
from build_matrix.downloads.index.configuration import IndexConfiguration
from build_matrix.errors import ConfigurationError, CredentialsError, DownloadError, IndexUnreachableError

CONNECT_SECONDS = 10.0  # for each address of a host
BACKOFF = 0.5  # seconds, doubled each time
TRANSIENT = (429, 500, 502, 503, 504)
PROXY_AUTHENTICATION = 407
NO_NETWORK = "is set, so the network is not used"
FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


class Transport:
    """Sessions that follow the user's settings: one place for proxies, certificates, trusted hosts and credentials."""

    def __init__(self, configuration: IndexConfiguration) -> None:
        self._configuration = configuration
        self.authentication = Authentication(configuration.credentials, configuration.keyring)
        self._trusted = tuple(map(_host_and_port, configuration.trusted_hosts))

    def session(self, retries: int = 0) -> requests.Session:
        """A session that asks again ``retries`` times where a server is busy or a connection breaks."""
        retry = Retry(
            total=retries,
            backoff_factor=BACKOFF,
            status_forcelist=TRANSIENT,
            allowed_methods=("GET", "HEAD"),
            raise_on_status=False,
            respect_retry_after_header=False,  # it could be hours
        )
        session = requests.Session()
        for scheme in ("https://", "http://"):
            session.mount(scheme, _Adapter(self, max_retries=retry))
        session.mount("file://", _LocalIndex())
        session.auth = self.authentication
        return session

    def verify(self, url: str) -> bool | str:
        """What the server's certificate is checked against; False for a trusted host. Raises ConfigurationError."""
        if self.trusts(url):
            return False
        return self._certificates or True

    def trusts(self, url: str) -> bool:
        """Whether the user said not to check the certificate of exactly this host (and port, where one is named)."""
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        return any(
            name in {"*", host} and (port is None or port == (parts.port or 443)) for name, port in self._trusted
        )

    def proxies(self, url: str, environment: dict[str, str]) -> dict[str, str]:
        """Pip's ``proxy`` setting before the environment's proxies; neither for what NO_PROXY names."""
        if should_bypass_proxies(url, no_proxy=None) or _in_no_proxy(url):
            return {}
        proxy = self._configuration.proxy
        chosen = {"http": proxy, "https": proxy} if proxy else environment
        # As curl and uv read it; requests would take the user of USER:PASSWORD@HOST for the scheme.
        return {name: value if "://" in value else f"http://{value}" for name, value in chosen.items() if value}

    def proxy_of(self, url: str) -> str:
        """HOST:PORT of the proxy that ``url`` is asked through, or nothing."""
        try:
            proxy = select_proxy(url, self.proxies(url, requests.utils.get_environ_proxies(url)))
        except ValueError:  # NO_PROXY or a proxy is no address
            return ""
        return (proxy or "").rpartition("@")[2].rpartition("//")[2].rstrip("/")

    @property
    def offline(self) -> str:
        """The setting that forbids the network, or nothing."""
        return self._configuration.offline

    @property
    def client_certificate(self) -> str | None:
        """A file with the certificate and key of this client, or None."""
        return self._configuration.client_certificate or None

    @cached_property
    def system_certificates(self) -> ssl.SSLContext:
        """Trust in what this system trusts; requests adds certifi's certificates to it."""
        return ssl.create_default_context()

    @cached_property
    def configured_certificates(self) -> ssl.SSLContext | None:
        """Trust in all bundles that are configured, where there is more than one: none hides another's authority."""
        if len(self._configuration.bundles) <= 1:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for path in dict.fromkeys(path for _, path in self._configuration.bundles):
            if os.path.isdir(path):  # noqa: PTH112 - see below
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        return context

    @cached_property
    def _certificates(self) -> str:
        for name, path in self._configuration.bundles:
            _require_certificates(name, path)
        if self.client_certificate and not os.path.isfile(self.client_certificate):  # noqa: PTH113 - see below
            raise ConfigurationError(
                f"The client certificate {self.client_certificate} (SSL_CLIENT_CERT or pip's client-cert) does not "
                "exist or cannot be read.",
                "Correct the path, or remove the setting.",
            )
        return self._configuration.certificates


class _Adapter(HTTPAdapter):
    """Decides for each request, redirected ones too, where requests would decide once for a session."""

    def __init__(self, transport: Transport, **options: Any) -> None:
        self._transport = transport
        super().__init__(**options)
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the user has asked for it

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        url = request.url or ""
        if setting := self._transport.offline:
            raise requests.ConnectionError(f"{setting} {NO_NETWORK}")
        options["proxies"] = self._transport.proxies(url, dict(options.get("proxies") or {}))
        if url.lower().startswith("https:"):
            options["verify"] = self._transport.verify(url)
            options["cert"] = self._transport.client_certificate
        return super().send(request, *args, **options)

    def build_connection_pool_key_attributes(
        self,
        request: requests.PreparedRequest,
        verify: bool | str,  # noqa: FBT001 - requests' signature
        cert: Any = None,
    ) -> Any:
        """Where nobody names certificates, those of the system count besides certifi's, as they do for pip.

        Where several settings name some, those of each count: https://pip.pypa.io/en/stable/topics/https-certificates/
        """
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        if verify is True:
            pool["ssl_context"] = self._transport.system_certificates
        elif verify and (context := self._transport.configured_certificates):
            pool["ssl_context"] = context
        return host, pool


class _LocalIndex(FileAdapter):
    """``file:`` indexes: a folder's page is its index.html, as pip reads it."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if request.url and request.url.endswith("/"):
            request.url += "index.html"
        response: requests.Response = super().send(request, *args, **kwargs)
        if (request.url or "").endswith("/index.html"):
            response.headers.setdefault("Content-Type", "text/html")
        return response


def reason(error: BaseException) -> str:
    """The innermost cause, which is the one that a person can act on."""
    while isinstance(inner := error.__cause__ or error.__context__, Exception):
        error = inner
    if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason:
        error = error.reason
    if isinstance(error, http.client.IncompleteRead):  # the base class of urllib3's as well
        return "the connection was closed before everything had arrived"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip()
    return (text or type(error).__name__).rstrip(".")


def proxy_failure(error: BaseException, url: str, transport: Transport) -> DownloadError | None:
    """The error for a request that failed at the proxy or for want of SOCKS, or None."""
    text = str(error)
    proxy = transport.proxy_of(url)
    if f"{PROXY_AUTHENTICATION} " in text and proxy:
        return proxy_refused(proxy)
    if "proxy appears to only use HTTP" in text:  # urllib3's ProxyError for WRONG_VERSION_NUMBER
        return IndexUnreachableError(
            f"The proxy {proxy} does not use TLS, although its address begins with https://.",
            "Begin it with http:// in HTTPS_PROXY, HTTP_PROXY, ALL_PROXY or pip's proxy: this is how the proxy itself "
            "is reached, also for https addresses.",
        )
    if "SOCKS support" in text:
        return IndexUnreachableError(
            f"The proxy {proxy} is a SOCKS proxy, and this environment has no SOCKS support.",
            "Install PySocks into it, or set HTTPS_PROXY and ALL_PROXY to an HTTP proxy.",
        )
    return None


def proxy_refused(proxy: str) -> CredentialsError:
    """The error for a proxy that answers 407."""
    return CredentialsError(
        f"The proxy {proxy} refuses the credentials, or got none (407).",
        f"Check your credentials for {proxy}: HTTPS_PROXY, HTTP_PROXY and ALL_PROXY take USER:PASSWORD, "
        "with an @ after it, before the host.",
    )


def _in_no_proxy(url: str) -> bool:
    """Whether NO_PROXY names the IPv6 address in ``url``, in brackets or by its network: requests knows neither."""
    host = urlsplit(url).hostname or ""
    if ":" not in host:
        return False
    names = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")
    return any(_network_has(name.strip().replace("[", "").replace("]", ""), host) for name in names)


def _network_has(network: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:  # a name, or an address with a zone
        return False


def _host_and_port(text: str) -> tuple[str, int | None]:
    """``HOST``, ``HOST:PORT`` or ``https://HOST``, as pip and uv take them. Raises ConfigurationError."""
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        return (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise ConfigurationError(
            f"The trusted host {text!r} is not a host.",
            "Write it as HOST or HOST:PORT (pip's trusted-host, UV_INSECURE_HOST).",
        ) from None


def _require_certificates(name: str, path: str) -> None:
    """Check that a bundle exists and has certificates; raises ConfigurationError."""
    folder = Path(path)
    try:
        if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir() raises EACCES
            folder.open("rb").close()
            ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as error:
        why = "contains no certificates" if isinstance(error, ssl.SSLError) else f"cannot be read: {reason(error)}"
        raise ConfigurationError(
            f"{name} names {path} as the certificates to trust, which {why}.",
            f"Set {name} to a file of CA certificates in PEM form, or unset it.",
        ) from error
