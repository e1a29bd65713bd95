"""One file, from its URL into a partial file: resumed, retried, doubted, and given up when nothing arrives."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import requests

from build_matrix.downloads.index.pages import credentials_error
from build_matrix.downloads.origins import origin_of
from build_matrix.downloads.tasks import Watch
from build_matrix.downloads.transport import (
    CONNECT_SECONDS,
    FAILURES,
    PROXY_AUTHENTICATION,
    TRANSIENT,
    Transport,
    proxy_failure,
    proxy_refused,
    reason,
)
from build_matrix.downloads.urls import host_of
from build_matrix.errors import (
    ArchiveUnreachableError,
    DownloadError,
    IndexUnreachableError,
    NotAnIndexError,
)
from build_matrix.model import Component
from build_matrix.store import disk_errors

CHUNK = 1 << 18  # bytes
PROGRESS = 1 << 16  # bytes; a server that sends less than that within the time limit is as good as silent
ATTEMPTS = 6  # of a file whose connection keeps breaking, without progress between them
BACKOFF = 0.5  # seconds, doubled each time
# What a file cannot be, whatever its name; a server may call an archive so, hence how archives begin: zip, gzip, xz,
# bzip2, zstd, ar.
_DOCUMENT = re.compile(r"text/(html|xml|json)|application/([\w.-]+\+)?(html|xhtml|json|xml)")
_ARCHIVES = (b"PK", b"\x1f\x8b", b"\xfd7zXZ", b"BZh", b"\x28\xb5\x2f\xfd", b"!<arch>")


class Place(NamedTuple):
    """Where a download is written, and what is called with the bytes that are there, as they come."""

    part: Path
    show: Callable[[int], None]


class Download:
    """Fills a place with the file at ``url``."""

    def __init__(self, file: Component, url: str, place: Place, transport: Transport, watch: Watch) -> None:
        self._file = file
        self._origin = origin_of(file)
        self._url = url
        self._part, self._show = place
        self._transport = transport
        self._watch = watch

    def run(self) -> None:
        """Go on where an earlier attempt, or an earlier run, broke off, until all is there.

        Raises ArchiveUnreachableError for an archive that does not answer or lacks the file, IndexUnreachableError,
        CredentialsError, NotAnIndexError, DownloadError, DiskFullError, StoreNotWritableError.
        """
        attempt, best = 0, self._size
        while True:
            try:
                return self._receive()
            except FAILURES as error:
                if failure := proxy_failure(error, self._url, self._transport):
                    raise failure from error
                if not self._origin.listed and not self._part.exists():
                    raise ArchiveUnreachableError(
                        f"{self._origin.subject} cannot be reached: {reason(error)}.",
                        f"Check the network and the proxy, or {self._origin.mirror_setting}.",
                    ) from error
                attempt = 0 if self._size >= best + PROGRESS else attempt + 1
                best = max(best, self._size)
                if attempt == ATTEMPTS:
                    raise IndexUnreachableError(
                        f"The download of {self._file.filename} was interrupted {ATTEMPTS} times: {reason(error)}.",
                        "Check the network, then run the same command again: it continues where it stopped.",
                    ) from error
                self._watch.sleep(BACKOFF * 2 ** max(attempt - 1, 0))

    @property
    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _receive(self) -> None:
        size, have = self._file.size, self._size
        if size and have == size:
            return
        if size and have > size:
            self._part.unlink()
            have = 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        timeout = (CONNECT_SECONDS, self._watch.seconds)
        with (
            self._transport.session() as session,
            session.get(self._url, headers=headers, stream=True, timeout=timeout) as response,
        ):
            self._check_status(response)
            pieces = _pieces(response)
            first = next(pieces, b"")
            self._check_is_a_file(response, first)
            if response.status_code != requests.codes.partial_content:
                have = 0
            with disk_errors(self._part.parent), self._part.open("ab" if have else "wb") as out:
                have = self._write(chain((first,), pieces), out.write, have)
            sent = int(response.headers.get("Content-Length") or 0)
        if size and have == sent < size:  # by its own account it has sent the whole file
            raise requests.ConnectionError(f"the server has a file of {have} bytes, and {size} are locked")
        if have < (size or sent):
            raise requests.ConnectionError(f"the server closed the connection after {have} bytes")

    def _write(self, pieces: Iterable[bytes], write: Callable[[bytes], int], have: int) -> int:
        """Write all pieces, or until there are more than the file has; returns the bytes that are there."""
        noted = have
        for piece in pieces:
            self._watch.check()
            write(piece)
            have += len(piece)
            self._show(have)
            if have - noted >= PROGRESS:
                self._watch.progress()
                noted = have
            if self._file.size and have > self._file.size:  # it is not that file, and may be endless
                break
        return have

    def _check_status(self, response: requests.Response) -> None:
        """Raise what a response that brings no file means."""
        code, host = response.status_code, host_of(response.url)
        if code < requests.codes.bad_request:
            return
        if code == requests.codes.requested_range_not_satisfiable:
            self._part.unlink(missing_ok=True)
            raise requests.ConnectionError(f"{host} refuses to resume")
        if code in TRANSIENT:
            raise requests.ConnectionError(f"{host} answers {code}")
        if code == PROXY_AUTHENTICATION:
            raise proxy_refused(self._transport.proxy_of(self._url) or host)
        if code in {401, 403}:
            if self._transport.authentication.has_more(response.request):
                raise requests.ConnectionError(f"{host} answers {code}")  # once more, with the keyring's credentials
            problem = f"{self._origin.subject} answers {code} for {self._file.filename}"
            raise credentials_error(problem, host, sent="Authorization" in response.request.headers)
        if code == requests.codes.not_found and not self._origin.listed:
            raise self._origin.file_missing(self._file)
        raise DownloadError(f"{self._origin.subject} answers {code} for {self._file.filename}.", "Try again later.")

    def _check_is_a_file(self, response: requests.Response, first: bytes) -> None:
        """A portal answers anything with a web page, a repository with a document; no locked file is one.

        Raises NotAnIndexError.
        """
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.status_code == requests.codes.ok and _DOCUMENT.fullmatch(kind) and not _may_be_archive(first):
            expected = "a wheel" if self._file.filename.endswith(".whl") else "an archive"
            raise NotAnIndexError(
                f"{self._file.filename} from {host_of(response.url)} is not {expected}: "
                f"the server answered with {kind}.",
                "A login page, a portal or an error may be in the way: check your credentials, the proxy and the "
                "mirror's URL.",
            )


def _may_be_archive(first: bytes) -> bool:
    """Whether a body that begins so, perhaps with one byte as yet, can be an archive."""
    return bool(first) and any(first.startswith(start[: len(first)]) for start in _ARCHIVES)


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it arrives, not only in full chunks, and never decoded: its bytes are hashed."""
    read = getattr(response.raw, "read1", response.raw.read)
    while piece := read(CHUNK):
        yield piece
