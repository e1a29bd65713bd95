"""Downloads against a real HTTP server: resumed, retried, refused on a wrong hash."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from build_matrix.errors import DownloadError, FileMissingError, HashMismatchError, IndexUnreachableError
from build_matrix.index import Downloads, IndexConfiguration, download
from build_matrix.model import Component
from build_matrix.store import Store

CONTENT = bytes(range(256)) * 4096
NAME = "thing-1.0-py3-none-any.whl"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF", 0.01)


@pytest.fixture
def downloads(httpserver: HTTPServer, store: Store, reporter) -> Downloads:  # type: ignore[no-untyped-def]
    configuration = IndexConfiguration(endpoints=(httpserver.url_for("/simple/"),))
    return Downloads(store, reporter, configuration)


def serve_page(httpserver: HTTPServer, sha256: str = SHA256) -> None:
    page = f'<!DOCTYPE html><html><body><a href="/files/{NAME}#sha256={sha256}">{NAME}</a></body></html>'
    httpserver.expect_request("/simple/thing/").respond_with_data(page, content_type="text/html")


def want(sha256: str = SHA256, size: int = len(CONTENT)) -> list[Component]:
    return [Component(project="thing", version="1.0", filename=NAME, sha256=sha256, size=size)]


def test_a_file_is_downloaded_once_and_kept_under_its_hash(
    httpserver: HTTPServer, downloads: Downloads, store: Store
) -> None:
    serve_page(httpserver)
    httpserver.expect_oneshot_request(f"/files/{NAME}").respond_with_data(CONTENT)
    (path,) = downloads.fetch(want(), "thing")
    assert path.read_bytes() == CONTENT
    assert path == store.root / "files" / SHA256 / NAME
    assert downloads.fetch(want(), "thing") == [path]


def test_a_broken_download_goes_on_where_it_was(httpserver: HTTPServer, downloads: Downloads) -> None:
    serve_page(httpserver)
    ranges: list[str | None] = []

    def half_then_rest(request: Request) -> Response:
        asked = request.headers.get("Range")
        ranges.append(asked)
        if asked is None:
            return Response(CONTENT[:300_000], headers={"Content-Length": "300000"})
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        return Response(
            CONTENT[start:],
            206,
            headers={"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"},
        )

    httpserver.expect_request(f"/files/{NAME}").respond_with_handler(half_then_rest)
    (path,) = downloads.fetch(want(), "thing")
    assert path.read_bytes() == CONTENT
    assert ranges == [None, "bytes=300000-"]


def test_what_a_killed_run_had_received_is_kept(httpserver: HTTPServer, downloads: Downloads, store: Store) -> None:
    serve_page(httpserver)
    part = store.root / "files" / f"{SHA256}.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1000])
    asked: list[str | None] = []

    def rest(request: Request) -> Response:
        asked.append(request.headers.get("Range"))
        return Response(CONTENT[1000:], 206)

    httpserver.expect_request(f"/files/{NAME}").respond_with_handler(rest)
    (path,) = downloads.fetch(want(), "thing")
    assert path.read_bytes() == CONTENT
    assert asked == ["bytes=1000-"]


def test_a_server_without_ranges_starts_again(httpserver: HTTPServer, downloads: Downloads, store: Store) -> None:
    serve_page(httpserver)
    part = store.root / "files" / f"{SHA256}.part"
    part.parent.mkdir()
    part.write_bytes(b"something else")
    httpserver.expect_request(f"/files/{NAME}").respond_with_data(CONTENT)
    (path,) = downloads.fetch(want(), "thing")
    assert path.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(httpserver: HTTPServer, downloads: Downloads) -> None:
    serve_page(httpserver)
    httpserver.expect_oneshot_request(f"/files/{NAME}").respond_with_data("busy", status=503)
    httpserver.expect_request(f"/files/{NAME}").respond_with_data(CONTENT)
    (path,) = downloads.fetch(want(), "thing")
    assert path.read_bytes() == CONTENT


def test_a_redirect_is_followed(httpserver: HTTPServer, downloads: Downloads) -> None:
    serve_page(httpserver)
    httpserver.expect_request(f"/files/{NAME}").respond_with_data(
        "", status=302, headers={"Location": httpserver.url_for("/elsewhere")}
    )
    httpserver.expect_request("/elsewhere").respond_with_data(CONTENT)
    (path,) = downloads.fetch(want(), "thing")
    assert path.read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_nothing_is_kept(
    httpserver: HTTPServer, downloads: Downloads, store: Store
) -> None:
    serve_page(httpserver)
    httpserver.expect_request(f"/files/{NAME}").respond_with_data(CONTENT[:-1] + b"!")
    with pytest.raises(HashMismatchError, match=SHA256) as caught:
        downloads.fetch(want(), "thing")
    assert caught.value.exit_code == 5
    assert not list((store.root / "files").iterdir())


def test_a_download_that_always_breaks_off_is_exit_code_5(httpserver: HTTPServer, downloads: Downloads) -> None:
    serve_page(httpserver)
    httpserver.expect_request(f"/files/{NAME}").respond_with_data(CONTENT[:1000])
    with pytest.raises(IndexUnreachableError, match="broke off") as caught:
        downloads.fetch(want(), "thing")
    assert caught.value.exit_code == 5


def test_a_file_that_the_index_does_not_carry_is_named(httpserver: HTTPServer, downloads: Downloads) -> None:
    httpserver.expect_request("/simple/thing/").respond_with_data("", status=404)
    with pytest.raises(FileMissingError, match=NAME) as caught:
        downloads.fetch(want(), "thing")
    assert "index" in caught.value.remedy


def test_refused_credentials_are_not_retried(httpserver: HTTPServer, downloads: Downloads) -> None:
    serve_page(httpserver)
    httpserver.expect_request(f"/files/{NAME}").respond_with_data("no", status=403)
    with pytest.raises(DownloadError, match="answers 403") as caught:
        downloads.fetch(want(), "thing")
    assert "credentials" in caught.value.remedy
    assert sum(1 for request, _ in httpserver.log if request.path.startswith("/files/")) == 1


def test_an_index_that_does_not_answer_is_exit_code_5(store: Store, reporter) -> None:  # type: ignore[no-untyped-def]
    configuration = IndexConfiguration(endpoints=("http://127.0.0.1:9/simple/",))
    with pytest.raises(IndexUnreachableError, match="cannot be reached") as caught:
        Downloads(store, reporter, configuration).fetch(want(), "thing")
    assert caught.value.exit_code == 5
    assert "127.0.0.1" in caught.value.problem


def test_a_local_index_and_a_local_folder_serve_as_well(tmp_path: Path, store: Store, reporter) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "index" / "thing"
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(CONTENT)
    (folder / "index.html").write_text(f'<a href="{NAME}#sha256={SHA256}">{NAME}</a>')
    by_index = IndexConfiguration(endpoints=((tmp_path / "index").as_uri(),))
    assert Downloads(store, reporter, by_index).fetch(want(), "thing")[0].read_bytes() == CONTENT
    by_folder = IndexConfiguration(endpoints=(), find_links=(str(folder),))
    other = Store(tmp_path / "other")
    assert Downloads(other, reporter, by_folder).fetch(want(), "thing")[0].read_bytes() == CONTENT


def test_ten_runs_at_once_download_a_file_once(httpserver: HTTPServer, store: Store, reporter) -> None:  # type: ignore[no-untyped-def]
    serve_page(httpserver)
    httpserver.expect_request(f"/files/{NAME}").respond_with_data(CONTENT)
    configuration = IndexConfiguration(endpoints=(httpserver.url_for("/simple/"),))
    runs = [Downloads(Store(store.root), reporter, configuration) for _ in range(10)]
    threads = [threading.Thread(target=run.fetch, args=(want(), "thing")) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(1 for request, _ in httpserver.log if request.path.startswith("/files/")) == 1
