"""Downloads locked files into the store: found where they lie, verified by sha256, several at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from build_matrix.downloads.index.configuration import IndexConfiguration, read_configuration
from build_matrix.downloads.origins import origin_of, origins_of
from build_matrix.downloads.tasks import Watch, outcomes
from build_matrix.errors import ArchiveLacksFileError, ArchiveUnreachableError, DownloadError, HashMismatchError
from build_matrix.model import Component, file_sha256
from build_matrix.store import Store, disk_errors, require_room

if TYPE_CHECKING:
    from build_matrix.downloads.index.locations import Locations
    from build_matrix.downloads.transport import Transport
    from build_matrix.report import Meter, Reporter

PARALLEL_DOWNLOADS = 4


class Downloads:
    """Verified files of the user's package index and of the other origins, kept in the store under their sha256."""

    def __init__(self, store: Store, reporter: Reporter, configuration: IndexConfiguration | None = None) -> None:
        """``configuration``: read from the user's own when something has to be downloaded, unless it is given."""
        self._given = configuration
        self._store = store
        self._reporter = reporter
        self._received: dict[str, int] = {}
        self._unreachable: dict[str, DownloadError] = {}  # by host; an archive that cannot be reached is asked once

    def fetch(self, files: Iterable[Component], label: str) -> list[Path]:
        """Paths of these files, in order; what the store does not hold yet is downloaded.

        An index is given up after pages.INDEX_SECONDS, a file after the configuration's ``stall_seconds`` in which
        nothing came; Ctrl-C ends the wait at once, and what has come is kept. Raises IndexUnreachableError,
        NotAnIndexError, CredentialsError, FileMissingError, ArchiveUnreachableError, HashMismatchError,
        ConfigurationError, DiskFullError.
        """
        requested = list(files)
        missing = [file for file in requested if not self._path(file).is_file()]
        if missing:
            total = sum(file.size for file in missing)
            require_room(self._store.root, total)
            with self._reporter.meter(f"downloading {label}", "bytes", total or None) as meter:
                self._obtain_all(self._locate(missing), meter)
        return [self._path(file) for file in requested]

    def listing(self, project: str) -> list[tuple[str, str, str]]:
        """``(filename, url, sha256)`` of each file that the configured indexes carry for ``project``.

        Raises what `fetch` raises when one of the indexes does not answer.
        """
        return [(file.filename, file.url, file.sha256) for file in self._locations.all_files(project)]

    def sizes(self, project: str) -> dict[str, int]:
        """Bytes of each file of ``project``, for the indexes that tell (PEP 700)."""
        return {file.filename: file.size for file in self._locations.known_files(project) if file.size}

    @cached_property
    def _configuration(self) -> IndexConfiguration:
        return self._given or read_configuration()

    @cached_property
    def _transport(self) -> Transport:
        from build_matrix.downloads.transport import Transport

        return Transport(self._configuration)

    @cached_property
    def _locations(self) -> Locations:
        from build_matrix.downloads.index.locations import Locations

        return Locations(self._configuration, self._transport)

    def _path(self, file: Component) -> Path:
        return self._store.root / "files" / file.sha256 / file.filename

    def _locate(self, files: Sequence[Component]) -> list[tuple[Component, list[str]]]:
        """Each of these files with its URLs, the best one first; raises what `Origin.locate` raises."""
        urls: dict[Component, list[str]] = {}
        for origin in origins_of(files):
            selected = [file for file in files if file.origin == origin.name]
            urls |= zip(selected, origin.locate(selected, self._locations), strict=True)
        return [(file, urls[file]) for file in files]

    def _obtain_all(self, files: Sequence[tuple[Component, list[str]]], meter: Meter) -> None:
        """Download these, each from its URLs; raises the error of the first that fails."""
        self._received.clear()
        seconds = self._configuration.stall_seconds

        def show() -> None:
            meter.update(sum(tuple(self._received.values())))

        calls = [partial(self._obtain, file, urls) for file, urls in files]
        with closing(outcomes(calls, at_once=PARALLEL_DOWNLOADS, seconds=seconds, tick=show)) as results:
            for outcome in results:
                if isinstance(outcome.error, TimeoutError):
                    raise self._stalled(*files[outcome.position])
                if outcome.error:
                    raise outcome.error

    def _obtain(self, file: Component, urls: Sequence[str], watch: Watch) -> None:
        final = self._path(file)
        known = [self._unreachable.get(urlsplit(url).hostname or "") for url in urls]
        if not origin_of(file).listed and known and all(known) and known[-1]:
            raise known[-1]  # what was given up may hold the file's lock until its connection ends
        with ExitStack() as held:
            with watch.paused():  # another run may be downloading it
                held.enter_context(self._store.locked(f"file-{file.sha256[:24]}"))
            held.enter_context(disk_errors(self._store.root))
            if final.is_file():
                return
            part = self._store.root / "files" / f"{file.sha256}.part"
            part.parent.mkdir(parents=True, exist_ok=True)
            resumed = part.exists()
            actual = self._hash_of_download(file, urls, part, watch)
            if actual != file.sha256 and resumed:  # what an earlier run had left may be what is wrong
                actual = self._hash_of_download(file, urls, part, watch)
            if actual != file.sha256:
                raise HashMismatchError(
                    f"{file.filename} has sha256 {actual}, but {file.sha256} is locked.",
                    f"A different file is served under this name by {origin_of(file).title}. "
                    "Use a source that you trust; do not change the lock to match.",
                )
            final.parent.mkdir(exist_ok=True)
            part.replace(final)

    def _hash_of_download(self, file: Component, urls: Sequence[str], part: Path, watch: Watch) -> str:
        """Fill ``part`` and return its sha256; where that is not the locked one, ``part`` is removed."""
        self._download(file, urls, part, watch)
        with watch.paused():
            actual = file_sha256(part)
        if actual != file.sha256:
            part.unlink()
        return actual

    def _download(self, file: Component, urls: Sequence[str], part: Path, watch: Watch) -> None:
        """Fill ``part`` from the first of the URLs that has the file."""
        from build_matrix.downloads.download import Download, Place

        failure: DownloadError | None = None
        place = Place(part, partial(self._received.__setitem__, file.sha256))
        for url in urls:
            host = urlsplit(url).hostname or ""
            if not origin_of(file).listed and host in self._unreachable:
                failure = self._unreachable[host]
                continue
            try:
                Download(file, url, place, self._transport, watch).run()
            except ArchiveUnreachableError as error:
                watch.progress()  # the next one has its whole time
                failure = error
                if not isinstance(error, ArchiveLacksFileError):
                    self._unreachable[host] = error
            else:
                return
        raise failure or origin_of(file).file_missing(file)

    def _stalled(self, file: Component, urls: Sequence[str]) -> DownloadError:
        """The error for a file that does not come; an archive that stands still is not waited for again."""
        origin = origin_of(file)
        failure = origin.unreachable_error(
            f"Nothing of {file.filename} has arrived from {origin.title} for "
            f"{self._configuration.stall_seconds:.0f} seconds.",
            "Check the network and the proxy, then run the same command again: it continues where it stopped. "
            "Pip's timeout and UV_HTTP_TIMEOUT set the limit.",
        )
        if not origin.listed:
            hosts = (urlsplit(url).hostname or "" for url in urls)
            self._unreachable[next((host for host in hosts if host not in self._unreachable), "")] = failure
        return failure
