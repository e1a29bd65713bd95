"""Downloads against a real HTTP server: resumed, retried, refused on a wrong hash."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import certifi
import pytest
import requests
from pytest_httpserver import HTTPServer
from requests.adapters import HTTPAdapter
from werkzeug import Request, Response

from build_matrix.downloads import Downloads, IndexConfiguration, download, transport
from build_matrix.downloads.tasks import Watch
from build_matrix.downloads.transport import Transport
from build_matrix.errors import (
    ArchiveUnreachableError,
    ConfigurationError,
    DiskFullError,
    DownloadError,
    FileMissingError,
    HashMismatchError,
    IndexUnreachableError,
    StoreNotWritableError,
)
from build_matrix.model import Component
from build_matrix.report import Reporter
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


@pytest.mark.parametrize("length", [1000, len(CONTENT)])
def test_wrong_bytes_of_a_killed_run_are_downloaded_again(
    length: int, httpserver: HTTPServer, downloads: Downloads, store: Store
) -> None:
    serve_page(httpserver)
    part = store.root / "files" / f"{SHA256}.part"
    part.parent.mkdir()
    part.write_bytes(b"Z" * length)

    def answer(request: Request) -> Response:
        start = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        return Response(CONTENT[start:], 206 if start else 200)

    httpserver.expect_request(f"/files/{NAME}").respond_with_handler(answer)
    assert downloads.fetch(want(), "thing")[0].read_bytes() == CONTENT


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
    with pytest.raises(IndexUnreachableError, match="was interrupted") as caught:
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


class Sent(NamedTuple):
    """How a request left: what its connection was given."""

    url: str
    verify: bool | str
    cert: str | None
    proxies: dict[str, str]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Sent]:
    """Every request, which goes nowhere and is answered 404; without proxies of this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    requests_: list[Sent] = []

    def send(_: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        url = request.url or ""
        requests_.append(Sent(url, options["verify"], options["cert"], dict(options["proxies"])))
        response = requests.Response()
        response.status_code, response.url, response.request, response.raw = 404, url, request, io.BytesIO()
        return response

    monkeypatch.setattr(HTTPAdapter, "send", send)
    return requests_


def ask(store: Store, reporter: Reporter, host: str = "mirror.test", **settings: Any) -> None:
    configuration = IndexConfiguration(endpoints=(f"https://{host}/simple/",), **settings)
    with pytest.raises(DownloadError):
        Downloads(store, reporter, configuration).fetch(want(), "thing")


def test_certificates_reach_the_request(
    sent: list[Sent], store: Store, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, client = tmp_path / "ca.pem", tmp_path / "client.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    client.touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    ask(store, reporter, bundles=(("SSL_CERT_FILE", str(bundle)),), client_certificate=str(client))
    assert {(request.verify, request.cert) for request in sent} == {(str(bundle), str(client))}


def test_without_certificates_of_the_users_own_those_of_requests_are_used(
    sent: list[Sent], store: Store, reporter: Reporter
) -> None:
    ask(store, reporter)
    assert {request.verify for request in sent} == {True}


def test_the_systems_certificates_count_where_none_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Transport(IndexConfiguration(endpoints=())).session()
    request = requests.Request("GET", "https://mirror.test/").prepare()
    adapter = session.get_adapter("https://mirror.test/")
    assert isinstance(adapter, HTTPAdapter)
    _, checked = adapter.build_connection_pool_key_attributes(request, verify=True)
    assert checked["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert checked["ssl_context"].check_hostname
    for verify in (False, certifi.where()):
        assert "ssl_context" not in adapter.build_connection_pool_key_attributes(request, verify=verify)[1]


def test_a_client_certificate_that_is_absent_is_exit_code_2(sent: list[Sent], store: Store, reporter: Reporter) -> None:
    configuration = IndexConfiguration(endpoints=("https://mirror.test/",), client_certificate="/nowhere/client.pem")
    with pytest.raises(ConfigurationError, match=r"/nowhere/client\.pem"):
        Downloads(store, reporter, configuration).fetch(want(), "thing")


@pytest.mark.parametrize(
    ("trusted", "host", "checked"),
    [
        (("mirror.test",), "mirror.test", False),
        (("mirror.test",), "MIRROR.test:8443", False),
        (("mirror.test:8443",), "mirror.test:8443", False),
        (("https://mirror.test",), "mirror.test", False),
        (("mirror.test:443",), "mirror.test", False),
        (("[::1]:8443",), "[::1]:8443", False),
        (("*",), "any.test", False),
        (("other.test", "mirror.test"), "mirror.test", False),
        (("mirror.test:8443",), "mirror.test", True),
        (("mirror.test",), "mirror.test.attacker.example", True),
        (("mirror.test",), "mirror.test.", True),
        (("mirror.test",), "not-mirror.test", True),
        (("mirror",), "mirror.test", True),
        (("mirror.test",), "attacker.example/mirror.test", True),
        (("mirror.test",), "mirror.test@attacker.example", True),
        ((), "mirror.test", True),
    ],
)
def test_a_trusted_host_is_that_host_alone(
    trusted: tuple[str, ...], host: str, checked: bool, sent: list[Sent], store: Store, reporter: Reporter
) -> None:
    ask(store, reporter, host, trusted_hosts=trusted)
    assert sent
    assert {request.verify for request in sent} == {checked}


def test_a_redirect_from_a_trusted_host_is_checked_again(
    sent: list[Sent],
) -> None:
    mirror = IndexConfiguration(endpoints=(), trusted_hosts=("mirror.test",))
    with Transport(mirror).session() as session:
        session.get("https://mirror.test/", verify=False)
        session.get("https://elsewhere.test/", verify=False)
    assert [request.verify for request in sent] == [False, True]


def test_a_trusted_host_that_is_none_is_exit_code_2(store: Store, reporter: Reporter) -> None:
    configuration = IndexConfiguration(endpoints=("https://mirror.test/",), trusted_hosts=("mirror.test:port",))
    with pytest.raises(ConfigurationError, match=r"mirror\.test:port"):
        Downloads(store, reporter, configuration).fetch(want(), "thing")


PROXY = {"http": "http://proxy.test:3128", "https": "http://proxy.test:3128"}


def test_pips_proxy_reaches_the_request_before_the_environments(
    sent: list[Sent], store: Store, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other.test:1")
    ask(store, reporter, proxy="http://proxy.test:3128")
    assert [request.proxies for request in sent] == [PROXY] * len(sent)


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY"])
def test_the_environments_proxy_reaches_the_request(
    variable: str, sent: list[Sent], store: Store, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://proxy.test:3128")
    ask(store, reporter)
    assert {request.proxies.get("https") for request in sent} == {"http://proxy.test:3128"}


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize("value", ["mirror.test", ".test", "*", "other.test,mirror.test"])
@pytest.mark.parametrize("proxy", ["", "http://proxy.test:3128"])
def test_no_proxy_is_honoured(
    variable: str,
    value: str,
    proxy: str,
    sent: list[Sent],
    store: Store,
    reporter: Reporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other.test:1")
    monkeypatch.setenv(variable, value)
    ask(store, reporter, proxy=proxy)
    assert [request.proxies for request in sent] == [{}] * len(sent)


def test_an_archive_beside_the_index_has_the_same_settings(
    sent: list[Sent], store: Store, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_MATRIX_REDIST", "https://redist.test/cuda")
    monkeypatch.setenv("BUILD_MATRIX_DEBIAN", "https://archive.test/debian")
    configuration = IndexConfiguration(
        endpoints=(), proxy="http://proxy.test:3128", trusted_hosts=("redist.test",), bundles=(("x", certifi.where()),)
    )
    for origin in ("redist", "debian"):
        component = Component(project="x", version="1", filename="x", sha256="0" * 64, origin=origin, path="x")
        with pytest.raises(ArchiveUnreachableError, match="does not carry"):
            Downloads(store, reporter, configuration).fetch([component], "x")
    assert [(request.verify, request.proxies) for request in sent] == [(False, PROXY), (certifi.where(), PROXY)]


def test_a_server_that_sends_more_than_the_file_has_is_left(httpserver: HTTPServer, downloads: Downloads) -> None:
    serve_page(httpserver)
    sent = 0

    def endless(_: Request) -> Response:
        def body() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(1000):
                sent += len(CONTENT)
                yield CONTENT

        return Response(body())

    httpserver.expect_request(f"/files/{NAME}").respond_with_handler(endless)
    with pytest.raises(HashMismatchError):
        downloads.fetch(want(), "thing")
    assert sent < 100 * len(CONTENT)


@pytest.mark.parametrize(("length", "moved"), [(len(CONTENT), True), (download.PROGRESS - 1, False)])
def test_what_comes_moves_the_time_limit_and_a_trickle_does_not(
    length: int, moved: bool, httpserver: HTTPServer, tmp_path: Path
) -> None:
    class Counting(Watch):
        moves = 0

        def progress(self) -> None:
            self.moves += 1
            super().progress()

    httpserver.expect_request(f"/files/{NAME}").respond_with_data(CONTENT[:length])
    watch, shown = Counting(60.0), []
    file = Component(project="thing", version="1.0", filename=NAME, sha256=SHA256, size=length)
    url, over = httpserver.url_for(f"/files/{NAME}"), Transport(IndexConfiguration(endpoints=()))
    download.Download(file, url, download.Place(tmp_path / "part", shown.append), over, watch).run()
    assert (tmp_path / "part").read_bytes() == CONTENT[:length]
    assert (watch.moves > 0, shown[-1]) == (moved, length)


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFullError), (errno.EROFS, StoreNotWritableError)])
def test_a_full_disk_is_no_broken_connection(
    number: int, kind: type[Exception], httpserver: HTTPServer, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: download.Download, *_: object) -> int:
        raise OSError(number, os.strerror(number))

    serve_page(httpserver)
    httpserver.expect_request(f"/files/{NAME}").respond_with_data(CONTENT)
    monkeypatch.setattr(download.Download, "_write", write)
    with pytest.raises(kind):
        downloads.fetch(want(), "thing")
    assert sum(1 for request, _ in httpserver.log if request.path.startswith("/files/")) == 1


def test_a_busy_index_is_asked_again(
    httpserver: HTTPServer, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "BACKOFF", 0.01)
    httpserver.expect_oneshot_request("/simple/thing/").respond_with_data("busy", status=503)
    serve_page(httpserver)
    httpserver.expect_request(f"/files/{NAME}").respond_with_data(CONTENT)
    assert downloads.fetch(want(), "thing")[0].read_bytes() == CONTENT


def test_a_page_is_read_once_for_all_that_is_asked_of_it(httpserver: HTTPServer, downloads: Downloads) -> None:
    body = {
        "meta": {"api-version": "1.1"},
        "name": "thing",
        "files": [{"filename": NAME, "url": f"/files/{NAME}", "hashes": {"sha256": SHA256}, "size": len(CONTENT)}],
        "versions": ["1.0"],
    }
    page = json.dumps(body)
    kind = "application/vnd.pypi.simple.v1+json"
    httpserver.expect_oneshot_request("/simple/thing/").respond_with_data(page, content_type=kind)
    assert downloads.listing("thing") == [(NAME, httpserver.url_for(f"/files/{NAME}"), SHA256)]
    assert downloads.sizes("thing") == {NAME: len(CONTENT)}


def test_a_list_that_is_not_whole_is_no_list(httpserver: HTTPServer, store: Store, reporter: Reporter) -> None:
    serve_page(httpserver)
    endpoints = (httpserver.url_for("/simple/"), "http://127.0.0.1:9/simple/")
    with pytest.raises(IndexUnreachableError, match=r"127\.0\.0\.1 cannot be reached"):
        Downloads(store, reporter, IndexConfiguration(endpoints=endpoints)).listing("thing")


def test_a_page_of_links_serves_as_find_links(httpserver: HTTPServer, store: Store, reporter: Reporter) -> None:
    page = f'<html><a href="{NAME}#sha256={SHA256}">{NAME}</a></html>'
    httpserver.expect_request("/links/").respond_with_data(page, content_type="text/html")
    httpserver.expect_request(f"/links/{NAME}").respond_with_data(CONTENT)
    configuration = IndexConfiguration(endpoints=(), find_links=(httpserver.url_for("/links/"),))
    assert Downloads(store, reporter, configuration).fetch(want(), "thing")[0].read_bytes() == CONTENT
