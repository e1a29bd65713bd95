"""Finds locked files where they lie and downloads them: resumed, retried, refused on a wrong hash."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
from requests.adapters import HTTPAdapter
from requests_file import FileAdapter
from urllib3.util import Retry

from build_matrix.errors import (
    ArchiveUnreachableError,
    DownloadError,
    FileMissingError,
    HashMismatchError,
    IndexUnreachableError,
)
from build_matrix.index.configuration import IndexConfiguration, read_configuration
from build_matrix.index.origins import NAMES, SETTINGS, addresses
from build_matrix.model import Component, file_sha256
from build_matrix.report import Meter, Reporter
from build_matrix.store import Store, disk_errors, require_room

PARALLEL_DOWNLOADS = 4
CHUNK = 1 << 18
TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds without a byte
ATTEMPTS = 6  # of one file whose connection keeps breaking
BACKOFF = 0.5  # seconds, doubled each time
TRANSIENT = (429, 500, 502, 503, 504)


class _LocalIndex(FileAdapter):
    """``file:`` indexes: a folder's page is its index.html, as pip reads it."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if request.url and request.url.endswith("/"):
            request.url += "index.html"
        response: requests.Response = super().send(request, *args, **kwargs)
        response.headers.setdefault("Content-Type", "text/html")
        return response


class Downloads:
    """Verified files of the user's package index and of the other origins, kept in the store under their sha256."""

    def __init__(self, store: Store, reporter: Reporter, configuration: IndexConfiguration | None = None) -> None:
        """``configuration``: read from the user's own when something has to be downloaded, unless it is given."""
        self._given = configuration
        self._store = store
        self._reporter = reporter
        self._pages: dict[str, list[tuple[str, str, str]]] = {}
        self._lock = threading.Lock()
        self._received: dict[str, int] = {}
        self._index_failure: IndexUnreachableError | None = None  # an index that cannot be reached is asked once
        self._unreachable: dict[str, Exception] = {}  # by host; a host that cannot be reached is asked once

    def fetch(self, wanted: Iterable[Component], what: str) -> list[Path]:
        """Paths of these files, in order; what the store does not hold yet is downloaded.

        Raises IndexUnreachableError, FileMissingError, HashMismatchError, DiskFullError.
        """
        files = list(wanted)
        missing = [file for file in files if not self._path(file).is_file()]
        if missing:
            total = sum(file.size for file in missing)
            require_room(self._store.root, total)
            with self._reporter.meter(f"downloading {what}", "bytes", total or None) as meter:
                self._received.clear()
                pool = ThreadPoolExecutor(PARALLEL_DOWNLOADS)
                try:
                    list(pool.map(lambda file: self._obtain(file, meter), missing))
                finally:
                    pool.shutdown(wait=True, cancel_futures=True)
        return [self._path(file) for file in files]

    def listing(self, project: str) -> list[tuple[str, str, str]]:
        """``(filename, url, sha256)`` of each file that the configured indexes carry for ``project``."""
        with self._lock:
            if self._index_failure:
                raise self._index_failure
            if project not in self._pages:
                self._pages[project] = self._read_listing(project)
            return self._pages[project]

    def sizes(self, project: str) -> dict[str, int]:
        """Bytes of each file of ``project``, for the indexes that tell (PEP 700)."""
        from pypi_simple import NoSuchProjectError, PyPISimple

        found: dict[str, int] = {}
        for endpoint in self._configuration.endpoints:
            with self._session() as session:
                try:
                    page = PyPISimple(endpoint, session=session).get_project_page(project, timeout=TIMEOUT)
                except (NoSuchProjectError, requests.RequestException):
                    continue
            found |= {package.filename: package.size for package in page.packages if package.size}
        return found

    @cached_property
    def _configuration(self) -> IndexConfiguration:
        return self._given or read_configuration()

    def _path(self, file: Component) -> Path:
        return self._store.root / "files" / file.sha256 / file.filename

    def _obtain(self, file: Component, meter: Meter) -> None:
        final = self._path(file)
        with self._store.locked(f"file-{file.sha256[:24]}"), disk_errors(self._store.root):
            if final.is_file():
                return
            part = self._store.root / "files" / f"{file.sha256}.part"
            part.parent.mkdir(parents=True, exist_ok=True)
            self._download_from(self._locate(file), file, part, meter)
            actual = file_sha256(part)
            if actual != file.sha256:
                part.unlink()
                raise HashMismatchError(
                    f"{file.filename} has sha256 {actual}, but {file.sha256} is locked.",
                    f"Another file is served under this name by {NAMES[file.origin]}. Use one that you trust; "
                    "do not change the lock to fit.",
                )
            final.parent.mkdir(exist_ok=True)
            part.replace(final)

    def _locate(self, file: Component) -> list[str]:
        """The URLs of this file, the best one first."""
        if file.origin != "index":
            return [f"{address.rstrip('/')}/{file.path}" for address in addresses(file.origin)]
        named = ""
        for filename, url, sha256 in self.listing(file.project):
            if sha256 == file.sha256:
                return [url]
            if filename == file.filename:
                named = named or url
        return [named] if named else []

    def _download_from(self, urls: list[str], file: Component, part: Path, meter: Meter) -> None:
        """Fill ``part`` from the first of these that has the file."""
        failure: Exception | None = None
        for url in urls:
            host = urlsplit(url).hostname or ""
            if file.origin != "index" and host in self._unreachable:
                failure = self._unreachable[host]
                continue
            try:
                self._download(url, file, part, meter)
            except ArchiveUnreachableError as error:
                failure = error
            else:
                return
        if failure:
            raise failure
        raise _missing(file)

    def _read_listing(self, project: str) -> list[tuple[str, str, str]]:
        from pypi_simple import NoSuchProjectError, PyPISimple, UnsupportedContentTypeError

        found: list[tuple[str, str, str]] = []
        failures: list[tuple[str, Exception]] = []
        for link in self._configuration.find_links:
            folder = Path(url2pathname(urlsplit(link).path) if link.startswith("file:") else link).expanduser()
            if folder.is_dir():
                found += [(path.name, path.resolve().as_uri(), "") for path in folder.iterdir()]
        for endpoint in self._configuration.endpoints:
            with self._session() as session:
                client = PyPISimple(endpoint, session=session)
                try:
                    page = client.get_project_page(project, timeout=TIMEOUT)
                except NoSuchProjectError:
                    continue
                except (requests.RequestException, UnsupportedContentTypeError) as error:
                    failures.append((urlsplit(endpoint).hostname or endpoint, error))
                    continue
            found += [(p.filename, p.url, p.digests.get("sha256", "")) for p in page.packages]
        if failures and not any(url.startswith("http") for _, url, _ in found):
            host, failure = failures[0]
            self._index_failure = IndexUnreachableError(
                f"The package index {host} cannot be reached: {_reason(failure)}.",
                "Check the network and the proxy, or configure your mirror (pip's index-url, or "
                "UV_DEFAULT_INDEX); what was downloaded already is kept.",
            )
            raise self._index_failure from failure
        return found

    def _download(self, url: str, file: Component, part: Path, meter: Meter) -> None:
        """Fill ``part``, going on where an earlier attempt or an earlier run broke off."""
        for attempt in range(ATTEMPTS):
            try:
                self._receive(url, file, part, meter)
            except requests.HTTPError as error:
                code = error.response.status_code
                if code == requests.codes.not_found and file.origin != "index":
                    raise _missing(file) from error
                raise DownloadError(
                    f"{_sentence(NAMES[file.origin])} answers {code} for {file.filename}.",
                    "Check your credentials for it." if code in {401, 403} else "Try again later.",
                ) from error
            except requests.RequestException as error:
                if file.origin != "index" and not part.exists():
                    host = urlsplit(url).hostname or ""
                    self._unreachable[host] = ArchiveUnreachableError(
                        f"{_sentence(NAMES[file.origin])} cannot be reached: {_reason(error)}.",
                        f"Check the network and the proxy, or {SETTINGS[file.origin]}.",
                    )
                    raise self._unreachable[host] from error
                if attempt == ATTEMPTS - 1:
                    raise IndexUnreachableError(
                        f"The download of {file.filename} broke off {ATTEMPTS} times: {_reason(error)}.",
                        "Check the network, then run the same command again: it goes on where it was.",
                    ) from error
                time.sleep(BACKOFF * 2**attempt)
            else:
                return

    def _receive(self, url: str, file: Component, part: Path, meter: Meter) -> None:
        have = part.stat().st_size if part.exists() else 0
        if file.size and have == file.size:
            return
        if file.size and have > file.size:
            part.unlink()
            have = 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with (
            self._session(ATTEMPTS if file.origin == "index" else 1) as session,
            session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer,
        ):
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                part.unlink()
                raise requests.ConnectionError("the server refused to resume")
            answer.raise_for_status()
            if answer.status_code != requests.codes.partial_content:
                have = 0
            with part.open("ab" if have else "wb") as out:
                for chunk in answer.iter_content(CHUNK):
                    out.write(chunk)
                    have += len(chunk)
                    self._show(file.sha256, have, meter)
            expected = int(answer.headers.get("Content-Length") or 0)
        if (file.size and have < file.size) or (not file.size and expected and have < expected):
            raise requests.ConnectionError(f"the server ended it after {have} bytes")

    def _show(self, name: str, received: int, meter: Meter) -> None:
        with self._lock:
            self._received[name] = received
            meter.update(sum(self._received.values()))

    def _session(self, attempts: int = ATTEMPTS) -> requests.Session:
        session = requests.Session()
        retry = Retry(
            total=attempts,
            backoff_factor=BACKOFF,
            status_forcelist=TRANSIENT,
            allowed_methods=("GET", "HEAD"),
        )
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        session.mount("file://", _LocalIndex())
        if self._configuration.certificates:
            session.verify = self._configuration.certificates
        for host in self._configuration.trusted_hosts:
            session.mount(f"https://{host}", _TrustedHost(max_retries=retry))
        if self._configuration.proxy:
            session.proxies = {"http": self._configuration.proxy, "https": self._configuration.proxy}
        return session


class _TrustedHost(HTTPAdapter):
    """An https host whose certificate the user told pip or uv not to check."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["verify"] = False
        return super().send(request, *args, **kwargs)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _missing(file: Component) -> DownloadError:
    return (FileMissingError if file.origin == "index" else ArchiveUnreachableError)(
        f"{_sentence(NAMES[file.origin])} does not carry {file.filename}.",
        f"It is needed for {file.project} {file.version}. Let your mirror fetch it, or {SETTINGS[file.origin]}.",
    )


def _reason(error: Exception) -> str:
    """The innermost cause, which is the one that a person can act on; without any address."""
    while error.__cause__ is not None or error.__context__ is not None:
        inner = error.__cause__ or error.__context__
        if not isinstance(inner, Exception):
            break
        error = inner
    text = str(error).strip() or type(error).__name__
    return text.rstrip(".")
