"""Which files does an index have of a project? One page of the simple repository API, doubted before it is believed.

https://packaging.python.org/en/latest/specifications/simple-repository-api/
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import requests

from build_matrix.downloads.tasks import Watch
from build_matrix.downloads.transport import (
    CONNECT_SECONDS,
    FAILURES,
    NO_NETWORK,
    PROXY_AUTHENTICATION,
    Transport,
    proxy_failure,
    proxy_refused,
    reason,
)
from build_matrix.downloads.urls import host_of
from build_matrix.errors import CredentialsError, DownloadError, IndexUnreachableError, NotAnIndexError

if TYPE_CHECKING:
    from pypi_simple import ProjectPage

INDEX_SECONDS = 30.0  # for one page, with everything: name lookup, proxy, redirects, retries, the page itself
RETRIES = 2
LARGEST_PAGE = 256 << 20  # bytes
PIECE = 1 << 16
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
JSON = "application/vnd.pypi.simple.v1+json"
HTML = ("application/vnd.pypi.simple.v1+html", "text/html", "application/xhtml+xml")

_PACKAGE = re.compile(r"\.(whl|zip|tar\.(gz|bz2|xz)|tgz|egg)$", re.IGNORECASE)
# What servers call an index page that lists nothing; a page with neither this nor a file is some other page.
_INDEX_TITLE = re.compile(
    rb"<(title|h1)[^>]*>[^<]*(links for|index of|simple (package )?index|directory listing)", re.IGNORECASE
)
_TITLE = re.compile(r"<title[^>]*>([^<]{1,80})", re.IGNORECASE)


_CLOCK = (
    "Check the clock of this machine (`date`): certificates are valid from one date to another. If it is right, the "
    "server needs another certificate."
)
# What in a reason tells the remedy, the most specific first. Source: OpenSSL, crypto/x509/x509_txt.c, and Python's ssl.
REMEDIES = (
    (NO_NETWORK, "Unset it, or put the files into a find-links folder: `nox -s fetch` lists and downloads them."),
    ("certificate is not yet valid", _CLOCK),
    ("certificate has expired", _CLOCK),
    (
        "certificate is not valid for",
        (
            "Use the host name for which the server's certificate is made in the URL of the index (pip's index-url, or "
            "UV_DEFAULT_INDEX)."
        ),
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        (
            "Set your organisation's certificates with SSL_CERT_FILE, REQUESTS_CA_BUNDLE or pip's cert; pip's "
            "trusted-host and UV_INSECURE_HOST turn off the check for one host."
        ),
    ),
    (
        "WRONG_VERSION_NUMBER",
        (
            "The server does not use TLS on this port: check the port, or begin the URL of the index with http:// "
            "instead of https://."
        ),
    ),
    (
        "",
        (
            "Check the network and the proxy, or configure your mirror (pip's index-url, or UV_DEFAULT_INDEX); what "
            "was downloaded already is kept."
        ),
    ),
)


class File(NamedTuple):
    """One file that an index has; ``sha256`` empty and ``size`` 0 (bytes) where the index does not say."""

    filename: str
    url: str
    sha256: str = ""
    size: int = 0


class Answer(NamedTuple):
    """What one place has of one project, or why it could not say; ``absent``: it answers 404."""

    files: tuple[File, ...] = ()
    failure: DownloadError | None = None
    absent: bool = False


def folder_files(path: str) -> tuple[File, ...]:
    """The files of a find-links folder; none of one that cannot be read, as with pip."""
    folder = Path(path)
    try:
        return tuple(File(item.name, item.resolve().as_uri()) for item in folder.iterdir())
    except OSError:
        return ()


def read_page(url: str, project: str, transport: Transport, watch: Watch) -> Answer:
    """The files on the page ``url``; what is wrong with it is part of the answer. Raises ConfigurationError."""
    host = host_of(url)
    try:
        with transport.session(RETRIES) as session:
            response, body = _get(session, url, watch)
            if response.status_code in {401, 403} and transport.authentication.has_more(response.request):
                response, body = _get(session, url, watch)
    except FAILURES as error:
        return Answer(
            failure=proxy_failure(error, url, transport) or unreachable(url, reason(error), transport.proxy_of(url))
        )
    if response.status_code in {404, 410}:
        return Answer(absent=True)
    if failure := _refusal(response, host, url, transport):
        return Answer(failure=failure)
    return _parse(response, body, project, host)


def is_absent(url: str, transport: Transport, watch: Watch) -> bool:
    """Whether ``url`` is answered with 404; only the head of the response is read."""
    watch.check()
    try:
        with transport.session() as session, session.get(url, stream=True, timeout=CONNECT_SECONDS) as response:
            return bool(response.status_code == requests.codes.not_found)
    except FAILURES:
        return False


def unreachable(url: str, why: str, proxy: str = "") -> IndexUnreachableError:
    """The error for an index that does not answer."""
    through = f" through the proxy {proxy}" if proxy else ""
    problem = f"The package index {urlsplit(url).hostname or url} cannot be reached{through}: {why}."
    return IndexUnreachableError(problem, next(remedy for sign, remedy in REMEDIES if sign in why))


def credentials_error(problem: str, host: str, *, sent: bool) -> CredentialsError:
    """The error for a 401 or 403; ``sent``: whether the request had credentials."""
    return CredentialsError(
        f"{problem} ({'the credentials are refused' if sent else 'no credentials are configured'}).",
        f"Check your credentials for {host}: in the index's URL, UV_INDEX_<NAME>_USERNAME and _PASSWORD, ~/.netrc, or "
        "your keyring.",
    )


def _get(session: requests.Session, url: str, watch: Watch) -> tuple[requests.Response, bytes]:
    """The response and its body, read in pieces: no server can take longer or send more than is allowed."""
    timeout = (CONNECT_SECONDS, INDEX_SECONDS)
    with session.get(url, headers={"Accept": ACCEPT}, stream=True, timeout=timeout) as response:
        body = bytearray()
        for piece in response.iter_content(PIECE):
            watch.check()
            body += piece
            if len(body) > LARGEST_PAGE:
                raise ValueError(f"the page is larger than {LARGEST_PAGE >> 20} MiB")
        return response, bytes(body)


def _refusal(response: requests.Response, host: str, url: str, transport: Transport) -> DownloadError | None:
    code = response.status_code
    if code == PROXY_AUTHENTICATION:
        return proxy_refused(transport.proxy_of(url) or host)
    if code in {401, 403} and url.startswith("file:"):
        return IndexUnreachableError(f"The package index {host} cannot be read.", "Check the folder's permissions.")
    if code in {401, 403}:
        sent = "Authorization" in response.request.headers
        return credentials_error(f"The package index {host} answers {code}", host, sent=sent)
    if code >= requests.codes.bad_request:
        return IndexUnreachableError(
            f"The package index {host} answers {code}.", "Try again later, or configure another mirror."
        )
    return None


def _parse(response: requests.Response, body: bytes, project: str, host: str) -> Answer:
    kind, _, parameters = response.headers.get("Content-Type", "text/html").partition(";")
    kind = kind.strip().lower()
    if kind != JSON and kind not in HTML:
        return Answer(failure=_no_index(response, host, f"{kind or 'no content type'}"))
    try:
        page = _read(kind, parameters, body, response.url, project)
    except Exception as error:  # noqa: BLE001 - a foreign page can break its parser in any way
        return Answer(failure=_no_index(response, host, f"{kind} of another form, {type(error).__name__}"))
    files = tuple(
        File(p.filename, p.url, (p.digests or {}).get("sha256", ""), p.size or 0)
        for p in page.packages
        if _PACKAGE.search(p.filename)
    )
    if not files and kind == "text/html" and not page.repository_version and not _INDEX_TITLE.search(body):
        title = _TITLE.search(body.decode(errors="replace"))
        return Answer(failure=_no_index(response, host, f"a web page, {title[1].strip()!r}" if title else "a web page"))
    return Answer(files)


def _read(kind: str, parameters: str, body: bytes, url: str, project: str) -> ProjectPage:
    from pypi_simple import ProjectPage

    if kind == JSON:
        return ProjectPage.from_json_data(json.loads(body), url)
    charset = re.search(r"charset=[\"']?([\w.-]+)", parameters, re.IGNORECASE)
    return ProjectPage.from_html(project, body, url, from_encoding=charset[1] if charset else None)


def _no_index(response: requests.Response, host: str, answer: str) -> NotAnIndexError:
    target = urlsplit(response.url)
    requested = urlsplit(response.history[0].url) if response.history else target
    redirect = (
        f" redirects to {target.netloc.rpartition('@')[2]}{target.path}, which" if requested[:3] != target[:3] else ""
    )
    return NotAnIndexError(
        f"{host} is not a package index: it{redirect} answers with {answer}.",
        "A login page or a portal may be in the way: check your credentials and the URL of the index (pip's index-url, "
        "or UV_DEFAULT_INDEX).",
    )
