"""Where does a locked file lie? Asks every index and folder that is configured, each page once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import NamedTuple

from packaging.utils import canonicalize_name

from build_matrix.downloads.index.configuration import IndexConfiguration
from build_matrix.downloads.index.pages import (
    INDEX_SECONDS,
    Answer,
    File,
    folder_files,
    is_absent,
    read_page,
    unreachable,
)
from build_matrix.downloads.origins import origin_of
from build_matrix.downloads.tasks import Watch, outcomes
from build_matrix.downloads.transport import Transport
from build_matrix.downloads.urls import host_of
from build_matrix.errors import DownloadError, FileMissingError, NotAnIndexError
from build_matrix.model import Component

PARALLEL_PAGES = 8


class _Place(NamedTuple):
    """A page or a folder that may list files: ``key`` is the endpoint or the link, ``url`` the page of one project."""

    key: str
    url: str


class Locations:
    """What the configured indexes and folders list; an index that cannot be reached, or refuses, is asked once."""

    def __init__(self, configuration: IndexConfiguration, transport: Transport) -> None:
        self._configuration = configuration
        self._transport = transport
        self._answers: dict[_Place, Answer] = {}
        self._dead: dict[str, DownloadError] = {}  # by endpoint

    def read(self, projects: Sequence[str]) -> None:
        """Read every page of these projects that was not read yet, an index's within INDEX_SECONDS.

        Those of the first project come first: an index that refuses the credentials is not asked thirty times, which
        locks accounts, and one that is out of reach costs its time limit once. Raises ConfigurationError.
        """
        for some in (projects[:1], projects[1:]):
            places = {place: project for project in some for place in self._places(project)}
            unread = [(place, project) for place, project in places.items() if place not in self._answers]
            calls = [partial(self._read_page, place, project) for place, project in unread]
            with closing(outcomes(calls, at_once=PARALLEL_PAGES, seconds=INDEX_SECONDS)) as results:
                for outcome in results:
                    place, _ = unread[outcome.position]
                    self._note(place, self._answer_of(place, outcome.value, outcome.error))

    def all_files(self, project: str) -> list[File]:
        """Each file that is listed for ``project``; raises what a page failed with, for the list would not be whole."""
        answers = self._read_answers(project)
        for answer in answers:
            if answer.failure:
                raise answer.failure
        return [file for answer in answers for file in answer.files]

    def known_files(self, project: str) -> list[File]:
        """Each file of ``project`` on the pages that could be read."""
        return [file for answer in self._read_answers(project) for file in answer.files]

    def find(self, file: Component) -> str:
        """The URL of this file: the one with its hash, else one with its name.

        Raises what hid it: an index's failure, FileMissingError.
        """
        answers = self._read_answers(file.project)
        listed = [entry for answer in answers for entry in answer.files]
        same = [entry for entry in listed if entry.sha256 == file.sha256]
        same += [entry for entry in listed if entry.filename == file.filename]
        if same:
            return same[0].url
        for answer in answers:
            if answer.failure:
                raise answer.failure
        raise self._missing(file, absent=all(answer.absent for answer in answers))

    def _read_answers(self, project: str) -> list[Answer]:
        self.read([project])
        return [self._answers[place] for place in self._places(project)]

    def _places(self, project: str) -> list[_Place]:
        """Where files of ``project`` may be, in the order in which they are preferred."""
        places = [_Place(link, link) for link in self._configuration.find_links]
        name = canonicalize_name(project)
        return places + [_Place(url, f"{url.rstrip('/')}/{name}/") for url in self._configuration.endpoints]

    def _read_page(self, place: _Place, project: str, watch: Watch) -> Answer:
        if failure := self._dead.get(place.key):
            return Answer(failure=failure)
        if "://" not in place.url and not place.url.startswith("file:"):
            return Answer(folder_files(place.url))
        return read_page(place.url, project, self._transport, watch)

    def _answer_of(self, place: _Place, answer: Answer | None, error: Exception | None) -> Answer:
        if isinstance(error, TimeoutError):
            proxy = self._transport.proxy_of(place.url)
            return Answer(failure=unreachable(place.url, f"no answer within {INDEX_SECONDS:.0f} seconds", proxy))
        if error:
            raise error
        return answer or Answer()

    def _note(self, place: _Place, answer: Answer) -> None:
        self._answers[place] = answer
        if answer.failure and not isinstance(answer.failure, NotAnIndexError):
            self._dead.setdefault(place.key, answer.failure)

    def _missing(self, file: Component, *, absent: bool) -> DownloadError:
        if not self._configuration.endpoints:
            setting = "UV_NO_INDEX or no-index in uv.toml" if self._configuration.origin == "uv" else "pip's no-index"
            return FileMissingError(
                f"No package index is asked for {file.filename} ({setting}), and no find-links folder has it.",
                f"It is needed for {file.project} {file.version}. Add it to such a folder, or remove that setting.",
            )
        wrong = self._wrong_endpoint() if absent else None
        if wrong:
            return FileMissingError(
                f"The package index {host_of(wrong)} does not carry {file.filename}: it answers 404, even for its own "
                f"address {wrong}.",
                f"It is needed for {file.project} {file.version}. Check the URL of the index (pip's index-url, or "
                "UV_DEFAULT_INDEX).",
            )
        return origin_of(file).file_missing(file)

    def _wrong_endpoint(self) -> str | None:
        """An endpoint that is no index, as far as it shows: it answers 404 for its own root as well."""
        endpoints = [url for url in self._configuration.endpoints if url.startswith("http")]
        calls = [partial(is_absent, f"{url.rstrip('/')}/", self._transport) for url in endpoints]
        with closing(outcomes(calls, at_once=PARALLEL_PAGES, seconds=INDEX_SECONDS)) as results:
            wrong = {endpoints[outcome.position] for outcome in results if outcome.value}
        return next((url for url in endpoints if url in wrong), None)
