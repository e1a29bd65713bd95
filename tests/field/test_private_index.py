"""Private indexes as people meet them: credentials, portals, dead proxies, odd settings (issue 18, kinds 1, 6, 8)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import certifi
import msgspec
import pytest
from commands import ROOT, run_tool
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from odd_server import LOGIN, OddServer, drop, reply, serving, silent, trickle, trickle_body
from pip_settings import pip_settings
from rich.table import Table

from build_matrix import redact
from build_matrix.downloads import Downloads, IndexConfiguration, download, read_configuration
from build_matrix.downloads.index import configuration, locations, pages
from build_matrix.downloads.install import resolve
from build_matrix.downloads.transport import Transport
from build_matrix.errors import (
    ArchiveUnreachableError,
    BuildMatrixError,
    ConfigurationError,
    CredentialsError,
    FileMissingError,
    IndexUnreachableError,
    InstallError,
    NotAnIndexError,
)
from build_matrix.model import Component, readable_json
from build_matrix.process.runner import log_to, run
from build_matrix.report import LineReporter, RedactingConsole
from build_matrix.store import Store

JSON = "application/vnd.pypi.simple.v1+json"
CONTENT = bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "thing-1.0-py3-none-any.whl"
WANTED = [Component(project="thing", version="1.0", filename=NAME, sha256=SHA256, size=len(CONTENT))]
ARCHIVE = [
    Component(project="thing", version="1.0", filename=NAME, sha256=SHA256, origin="redist", path=f"files/{NAME}")
]
PROXIES = tuple(
    name for base in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (base, base.upper())
)
OTHERS = ("NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT")

AUTHORITY = Path(__file__).parents[1] / "helpers" / "authority.pem"
AUTHORITY_HASH = "774b5dcc.0"  # the name under which OpenSSL looks for it in a folder
SERVER = Path(__file__).parents[1] / "helpers" / "server.pem"

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "BACKOFF", 0.01)
    monkeypatch.setattr("build_matrix.downloads.transport.BACKOFF", 0.01)
    for name in [*PROXIES, *OTHERS, *(name for name in os.environ if name.startswith(("PIP_", "UV_")))]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which nobody has configured anything, as the whole environment of pip and uv."""
    home = tmp_path / "home"
    home.mkdir()
    for name, value in surroundings(home).items():
        monkeypatch.setenv(name, value)
    return home


def surroundings(home: Path) -> dict[str, str]:
    nothing = os.devnull
    return {"HOME": str(home), "XDG_CONFIG_DIRS": str(home), "PIP_CONFIG_FILE": nothing, "UV_CONFIG_FILE": nothing}


def page(base: str = "") -> bytes:
    link = f'<a href="{base}/files/{NAME}#sha256={SHA256}">{NAME}</a>'
    return f"<!DOCTYPE html><title>Links for thing</title>{link}".encode()


def index(handler: BaseHTTPRequestHandler) -> None:
    """An index that has the file."""
    if "/files/" in handler.path:
        reply(handler, 200, CONTENT, "application/octet-stream")
    else:
        reply(handler, 200, page())


def guarded(handler: BaseHTTPRequestHandler) -> None:
    """The same, for those with credentials."""
    if handler.headers.get("Authorization"):
        index(handler)
    else:
        reply(handler, 401)


def always(code: int, body: bytes = b"", kind: str = "text/html", **headers: str) -> Answer:
    return lambda handler: reply(handler, code, body, kind, **headers)


def fetch(tmp_path: Path, wanted: list[Component] = WANTED, given: IndexConfiguration | None = None) -> Path:
    (path,) = Downloads(Store(tmp_path / "store"), LineReporter(RedactingConsole(quiet=True)), given).fetch(
        wanted, "thing"
    )
    return path


def at(server: OddServer) -> IndexConfiguration:
    return IndexConfiguration(endpoints=(f"{server.url}/simple/",))


# Every way in which a credential reaches the tool: how it is configured, for a user, a password and a server


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def in_url(server: OddServer, user: str, password: str) -> str:
    return f"http://{quote(user, safe='')}:{quote(password, safe='')}@{server.host}/simple"


def pip_file(home: Path, server: OddServer, user: str, password: str) -> dict[str, str]:
    url = in_url(server, user, password)
    (home / "pip.conf").write_text(f"[global]\nindex-url = {url}\n", encoding="utf-8")
    return {"PIP_CONFIG_FILE": str(home / "pip.conf")}


def pip_extra(home: Path, server: OddServer, user: str, password: str) -> dict[str, str]:
    return {"PIP_INDEX_URL": f"{server.url}/nothing", "PIP_EXTRA_INDEX_URL": f"\n{in_url(server, user, password)}\n"}


def find_links(home: Path, server: OddServer, user: str, password: str) -> dict[str, str]:
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": in_url(server, user, password)}


def uv_file(home: Path, server: OddServer, user: str, password: str) -> dict[str, str]:
    (home / "uv.toml").write_text(f"index-url = {json.dumps(in_url(server, user, password))}\n", encoding="utf-8")
    return {"UV_CONFIG_FILE": str(home / "uv.toml")}


def uv_variables(home: Path, server: OddServer, user: str, password: str) -> dict[str, str]:
    text = f'[[index]]\nname = "my-index.x"\nurl = "{server.url}/simple"\ndefault = true\n'
    (home / "uv.toml").write_text(text, encoding="utf-8")
    named = {"UV_INDEX_MY_INDEX_X_USERNAME": user, "UV_INDEX_MY_INDEX_X_PASSWORD": password}
    return {"UV_CONFIG_FILE": str(home / "uv.toml"), **named}


NEEDS_QUOTES = re.compile(r"[\s\"#\\]")  # in netrc, of which Python 3.10 takes them for a part of the password


def netrc(home: Path, server: OddServer, user: str, password: str) -> dict[str, str]:
    quoted = (
        '"' + password.replace("\\", "\\\\").replace('"', '\\"') + '"' if NEEDS_QUOTES.search(password) else password
    )
    (home / ".netrc").write_text(f"machine 127.0.0.1\nlogin {user}\npassword {quoted}\n", encoding="utf-8")
    (home / ".netrc").chmod(0o600)
    return {"UV_DEFAULT_INDEX": f"{server.url}/simple"}


def keyring(home: Path, server: OddServer, user: str, password: str) -> dict[str, str]:
    (home / "secret").write_text(password, encoding="utf-8")
    executable(home / "bin" / "keyring", f'#!/bin/sh\n[ "$1 $3" = "get {user}" ] && cat {home}/secret\n')
    with_user = {"UV_DEFAULT_INDEX": f"http://{user}@{server.host}/simple", "UV_KEYRING_PROVIDER": "subprocess"}
    return {"PATH": f"{home}/bin:{os.environ['PATH']}", **with_user}


WAYS = {
    "pip's file": pip_file,
    "PIP_INDEX_URL": lambda home, server, *pair: {"PIP_INDEX_URL": in_url(server, *pair)},
    "PIP_EXTRA_INDEX_URL": pip_extra,
    "PIP_FIND_LINKS": find_links,
    "UV_DEFAULT_INDEX": lambda home, server, *pair: {"UV_DEFAULT_INDEX": in_url(server, *pair)},
    "UV_DEFAULT_INDEX with a name": lambda home, server, *pair: {"UV_DEFAULT_INDEX": f"Mine={in_url(server, *pair)}"},
    "UV_INDEX with a name": lambda home, server, *pair: {
        "UV_INDEX": f"mine={in_url(server, *pair)}",
        "UV_DEFAULT_INDEX": f"{server.url}/nothing",
    },
    "UV_EXTRA_INDEX_URL": lambda home, server, *pair: {
        "UV_EXTRA_INDEX_URL": in_url(server, *pair),
        "UV_INDEX_URL": f"{server.url}/nothing",
    },
    "uv.toml": uv_file,
    "UV_INDEX_<NAME>_PASSWORD": uv_variables,
    "netrc": netrc,
    "keyring": keyring,
}


@pytest.mark.parametrize("way", WAYS)
def test_credentials_are_used_for_pages_and_files(
    way: str, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absolute(handler: BaseHTTPRequestHandler) -> None:
        """Most private indexes name their files by whole URLs, which hold no credentials."""
        if "/nothing/" in handler.path:
            reply(handler, 404)
        elif handler.headers.get("Authorization") and "/files/" not in handler.path:
            reply(handler, 200, page(server.url))
        else:
            guarded(handler)

    password = "s3cret pa%ss/w:@rd" if way != "netrc" else "s3cret-pa%ss/w:@rd"
    with serving(absolute) as server:
        for name, value in WAYS[way](bare, server, "user", password).items():
            monkeypatch.setenv(name, value)
        assert fetch(tmp_path).read_bytes() == CONTENT
        sent = {asked.credentials for asked in server.log if asked.authorization}
    assert sent == {f"user:{password}"}


def test_credentials_are_sent_to_their_own_server_alone(tmp_path: Path) -> None:
    with serving(index) as elsewhere, serving(always(200, page(elsewhere.url))) as server:
        credential = configuration.Credential(f"{server.url}/simple/", "user", "s3cret-password")
        fetch(tmp_path, given=IndexConfiguration(endpoints=(f"{server.url}/simple/",), credentials=(credential,)))
        assert {asked.credentials for asked in server.log} == {"user:s3cret-password"}
        assert [asked.authorization for asked in elsewhere.log] == [""]


def test_a_redirect_to_another_server_takes_no_credentials_along(tmp_path: Path) -> None:
    with serving(index) as elsewhere, serving(always(302, Location=f"{elsewhere.url}/simple/thing/")) as server:
        credential = configuration.Credential(f"{server.url}/simple/", "user", "s3cret-password")
        fetch(tmp_path, given=IndexConfiguration(endpoints=(f"{server.url}/simple/",), credentials=(credential,)))
        assert {asked.authorization for asked in elsewhere.log} == {""}


def test_an_index_that_must_not_get_credentials_gets_none(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(index) as server:
        netrc(bare, server, "user", "s3cret-password")
        text = f'[[index]]\nurl = "{server.url}/simple"\ndefault = true\nauthenticate = "never"\n'
        (bare / "uv.toml").write_text(text)
        monkeypatch.setenv("UV_CONFIG_FILE", str(bare / "uv.toml"))
        fetch(tmp_path)
        assert {asked.authorization for asked in server.log} == {""}


def test_the_keyring_is_asked_after_an_index_refused(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a user in the URL it is asked as pip does, for user and password at once."""
    answer = json.dumps({"username": "from", "password": "keyring-s3cret"})
    executable(bare / "bin" / "keyring", f"#!/bin/sh\n[ \"$1\" = --mode=creds ] && echo '{answer}'\n")
    with serving(guarded) as server:
        monkeypatch.setenv("PATH", f"{bare}/bin:{os.environ['PATH']}")
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        monkeypatch.setenv("PIP_KEYRING_PROVIDER", "subprocess")
        fetch(tmp_path)
        assert server.log[-1].credentials == "from:keyring-s3cret"


def test_several_files_that_are_refused_at_once_wait_for_one_answer_of_the_keyring(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their server is not the index's, so that its credentials are asked for only then."""
    answer = json.dumps({"username": "from", "password": "keyring-s3cret"})
    script = f"#!/bin/sh\necho asked >> {bare}/asked\n[ \"$1\" = --mode=creds ] && sleep 0.3 && echo '{answer}'\n"
    executable(bare / "bin" / "keyring", script)
    contents = [f"content {n}".encode() for n in range(4)]
    files = {f"thing-{n}.zip": content for n, content in enumerate(contents)}

    def protected(handler: BaseHTTPRequestHandler) -> None:
        known = bool(handler.headers.get("Authorization"))
        reply(handler, 200 if known else 401, files[Path(handler.path).name], "application/zip")

    with serving(protected) as server:
        body = "".join(f'<a href="{server.url}/{name}">{name}</a>' for name in files).encode()
        wanted = [
            Component(project="thing", version="1", filename=name, sha256=hashlib.sha256(content).hexdigest())
            for name, content in files.items()
        ]
        with serving(always(200, body)) as pages_server:
            monkeypatch.setenv("PATH", f"{bare}/bin:{os.environ['PATH']}")
            given = IndexConfiguration(endpoints=(f"{pages_server.url}/simple",), keyring="subprocess")
            reporter = LineReporter(RedactingConsole(quiet=True))
            paths = Downloads(Store(tmp_path / "store"), reporter, given).fetch(wanted, "thing")
    assert [path.read_bytes() for path in paths] == contents
    assert (bare / "asked").read_text() == "asked\n"


# Whatever the index answers, and however the credential is configured, nobody sees it


def echo(handler: BaseHTTPRequestHandler) -> None:
    """A server that shows what it got: in the reason phrase and in the title."""
    got = handler.headers.get("Authorization", "")
    handler.send_response(418, f"not for {got}")
    body = f"<html><title>{got}</title></html>".encode()
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


ANSWERS: dict[str, Answer] = {
    "401": always(401),
    "403": always(403),
    "404": always(404),
    "407": always(407),
    "500": always(500),
    "login page": always(200, LOGIN),
    "JSON of another shape": always(200, b'{"files": 3}', JSON),
    "garbage": always(200, bytes(range(256)), "application/octet-stream"),
    "dropped": drop,
    "echo": echo,
    "redirect loop": lambda handler: reply(handler, 302, Location=handler.path),
}
SECRETS = st.text(st.sampled_from("aZ09-._~!$&'()*+,;=:@/?#[]% \"\\<>äß€"), min_size=6, max_size=20)


@pytest.fixture(scope="module")
def odd() -> Iterator[OddServer]:
    with serving(index) as server:
        yield server


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
)
@given(
    way=st.sampled_from([*WAYS, "HTTP_PROXY", "http_proxy", "ALL_PROXY", "pip's proxy", "BUILD_MATRIX_REDIST"]),
    answer=st.sampled_from([*ANSWERS]),
    secret=SECRETS,
)
def test_no_credential_is_in_any_output(
    way: str, answer: str, secret: str, odd: OddServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    redact.forget()
    secret = f"Qz7{secret.strip()}"
    assume(way != "netrc" or sys.version_info >= (3, 11) or not NEEDS_QUOTES.search(secret))
    folder = tmp_path_factory.mktemp("secret")
    odd.answer = ANSWERS[answer]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configuration, "_pip_config", pip_settings)
        configured = _configured(way, folder, odd, secret)
        for name, value in (surroundings(folder) | configured).items():
            patch.setenv(name, value)
        # Other programs report what they were given, and quote it as they like.
        foreign = [*configured.values(), f"password {secret} refused", repr(secret), json.dumps(secret), quote(secret)]
        shown = _everything_shown(folder, ARCHIVE if way == "BUILD_MATRIX_REDIST" else WANTED, foreign)
    for form in {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}:
        assert form not in shown


def _configured(way: str, folder: Path, server: OddServer, secret: str) -> dict[str, str]:
    if way in WAYS:
        return WAYS[way](folder, server, "user", secret)
    url = f"http://user:{quote(secret, safe='')}@{server.host}"
    if way == "BUILD_MATRIX_REDIST":
        return {way: url}
    return {"PIP_INDEX_URL": "http://index.test/simple", **({"PIP_PROXY": url} if way == "pip's proxy" else {way: url})}


def _everything_shown(folder: Path, wanted: list[Component], foreign: list[str]) -> str:
    """All that leaves the tool when this download fails: console, errors, JSON, the files of the store."""
    console = folder / "console"
    with console.open("w", encoding="utf-8") as out:
        reporter = LineReporter(RedactingConsole(file=out, width=80))
        downloads = Downloads(Store(folder / "store"), reporter)
        with pytest.raises(BuildMatrixError) as caught:
            downloads.fetch(wanted, "thing")
        errors = [caught.value, *(InstallError(f"uv failed: {text}", text) for text in foreign)]
        for error in errors:
            reporter.warn(str(error))
        for text in foreign:
            reporter.warn(text)
            table = Table("column", box=None)
            table.add_row(text)
            RedactingConsole(file=out, width=20).print(table)
    shown = [f"{error}{error!r}" for error in errors] + [readable_json([error.args for error in errors]).decode()]
    shown += [readable_json({"variables": foreign}).decode(), repr(read_configuration().credentials)]
    files = [console, *(path for path in (folder / "store").rglob("*") if path.is_file())]
    return "\n".join([*shown, *(path.read_text(encoding="utf-8", errors="replace") for path in files)])


def test_a_log_file_holds_no_credential(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "print('downloading http://user:s3cret@host/x', 'Authorization: Basic dXNlcjpzM2NyZXQ=', sep='\\n')"
    with log.open("w", encoding="utf-8") as out:
        run([sys.executable, "-c", code], env={}, on_line=log_to(out))
    assert log.read_text() == "downloading http://***@host/x\nAuthorization: ***\n"


@pytest.mark.compiler
@pytest.mark.parametrize("variable", ["PIP_INDEX_URL", "UV_DEFAULT_INDEX"])
def test_the_command_line_shows_no_password_and_asks_to_check_it(variable: str, bare: Path, tmp_path: Path) -> None:
    with serving(always(401)) as server:
        url = f"http://user:s3cret@{server.host}/simple"
        variables = {variable: f"mine={url}" if variable.startswith("UV") else url}
        done = run_tool(("build", "--cuda", "13", "--store", str(tmp_path / "s")), os.environ | variables)
    assert (done.returncode, "Traceback" in done.stderr) == (5, False)
    assert f"Check your credentials for {server.host}" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def test_a_usage_error_does_not_repeat_a_password() -> None:
    done = run_tool(("doctor", "--http://user:s3cret@host"), os.environ)
    assert (done.returncode, "s3cret" in done.stdout + done.stderr) == (2, False)


# What each failure is called


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("path", ["/simple/", "/files/"])
def test_refused_credentials_are_called_so_and_never_the_network(code: int, path: str, tmp_path: Path) -> None:
    with serving(lambda handler: reply(handler, code) if path in handler.path else index(handler)) as server:
        with pytest.raises(CredentialsError, match=f"answers {code}") as caught:
            fetch(tmp_path, given=at(server))
        assert len([asked for asked in server.log if path in asked.target]) == 1
    assert caught.value.exit_code == 5
    assert f"Check your credentials for {server.host}" in caught.value.remedy
    assert "network" not in str(caught.value)


def test_an_index_that_refuses_is_not_asked_for_every_project(tmp_path: Path) -> None:
    """A wrong password sent thirty times locks an account."""
    wanted = [Component(project=f"p{n}", version="1", filename=f"p{n}-1.zip", sha256=f"{n:064x}") for n in range(9)]
    with serving(always(401)) as server:
        with pytest.raises(CredentialsError):
            Downloads(Store(tmp_path / "store"), LineReporter(RedactingConsole(quiet=True)), at(server)).fetch(
                wanted, "x"
            )
        assert len(server.log) == 1


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_that_refuses_is_named(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(always(407)) as proxy:
        monkeypatch.setenv(variable, f"http://user:s3cret@{proxy.host}")
        with pytest.raises(CredentialsError, match=f"proxy {proxy.host} refuses") as caught:
            fetch(tmp_path, given=IndexConfiguration(endpoints=("http://index.test/simple/",)))
    assert f"Check your credentials for {proxy.host}" in caught.value.remedy
    assert redact.redact(caught.value.remedy) == caught.value.remedy  # nothing of the advice is taken for a secret


def test_a_proxy_that_refuses_a_tunnel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(always(407)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(CredentialsError, match=f"proxy {proxy.host} refuses"):
            fetch(tmp_path, given=IndexConfiguration(endpoints=("https://index.test/simple/",)))


NOT_AN_INDEX: dict[str, Answer] = {
    "login page": always(200, LOGIN),
    "text": always(200, b"Please sign in", "text/plain"),
    "empty": always(200, b""),
    "links to no packages": always(200, b"<html><title>Portal</title><a href='/help'>help</a></html>"),
    "plain JSON": always(200, b"[]", "application/json"),
    "JSON that breaks off": always(200, b'{"name": "thi', JSON),
    "JSON of another shape": always(200, b'{"files": 3}', JSON),
    "JSON list": always(200, b"[1]", JSON),
    "unknown charset": always(200, b"\xff\xfe<p>", "text/html; charset=no-such"),
    "newer API": always(200, b'{"meta": {"api-version": "9.0"}, "name": "x", "files": []}', JSON),
}


@pytest.mark.parametrize("answer", NOT_AN_INDEX)
def test_what_answers_as_no_index_is_not_called_one_that_lacks_the_package(answer: str, tmp_path: Path) -> None:
    with (
        serving(NOT_AN_INDEX[answer]) as server,
        pytest.raises(NotAnIndexError, match=f"{server.host} is not a package index") as caught,
    ):
        fetch(tmp_path, given=at(server))
    assert caught.value.exit_code == 5
    assert "does not carry" not in str(caught.value)


def test_a_redirect_to_a_login_page_names_where_it_leads(tmp_path: Path) -> None:
    def portal(handler: BaseHTTPRequestHandler) -> None:
        if "/sso" in handler.path:
            reply(handler, 200, LOGIN)
        else:
            reply(handler, 302, Location="/sso/login?state=0123456789abcdef&user=x")

    with (
        serving(portal) as server,
        pytest.raises(NotAnIndexError, match=r"redirects to 127\.0\.0\.1:\d+/sso/login, which answers") as caught,
    ):
        fetch(tmp_path, given=at(server))
    assert "0123456789abcdef" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (LOGIN, "text/html"),
        (b"Access denied", "text/html; charset=utf-8"),
        (b'{"errors": [{"status": 500}]}', "application/json"),
        (b'{"title": "quarantined"}', "application/problem+json"),
        (b"<Error><Code>AccessDenied</Code></Error>", "application/xml"),
        (b"", "text/html"),
    ],
)
def test_a_document_in_the_place_of_a_file_is_no_wrong_hash_and_is_asked_for_once(
    body: bytes, kind: str, tmp_path: Path
) -> None:
    def document(handler: BaseHTTPRequestHandler) -> None:
        if "/files/" in handler.path:
            reply(handler, 200, body, kind)
        else:
            index(handler)

    name = kind.partition(";")[0]
    with (
        serving(document) as server,
        pytest.raises(
            NotAnIndexError, match=f"{NAME} from {server.host} is not a wheel: .* {re.escape(name)}"
        ) as error,
    ):
        fetch(tmp_path, given=at(server))
    assert "network" not in error.value.remedy
    assert [asked.target for asked in server.log].count(f"/files/{NAME}") == 1


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_an_archive_counts_whatever_the_server_calls_it(kind: str, tmp_path: Path) -> None:
    content = b"PK\x03\x04" + CONTENT
    wanted = [msgspec.structs.replace(WANTED[0], sha256=hashlib.sha256(content).hexdigest(), size=len(content))]

    def misnamed(handler: BaseHTTPRequestHandler) -> None:
        if "/files/" in handler.path:
            reply(handler, 200, content, kind)
        else:
            reply(handler, 200, page().replace(SHA256.encode(), wanted[0].sha256.encode()))

    with serving(misnamed) as server:
        assert fetch(tmp_path, wanted, at(server)).read_bytes() == content


def only_system_certificates(path: Path) -> None:
    """A bundle without the authority of the tests."""
    path.write_bytes(Path(certifi.where()).read_bytes())


@pytest.mark.parametrize(
    "variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT"]
)
@pytest.mark.parametrize("others", [False, True])
@pytest.mark.usefixtures("bare")
def test_a_private_authority_counts_whoever_names_it_and_whatever_else_is_named(
    variable: str, others: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "_pip_config", pip_settings)
    if others:
        only_system_certificates(tmp_path / "others.pem")
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT"):
            monkeypatch.setenv(name, str(tmp_path / "others.pem"))
    named = AUTHORITY
    if variable == "SSL_CERT_DIR":
        named = tmp_path / "authorities"
        named.mkdir()
        (named / AUTHORITY_HASH).write_bytes(AUTHORITY.read_bytes())
    monkeypatch.setenv(variable, str(named))
    with serving(index, certificate=SERVER) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        assert fetch(tmp_path).read_bytes() == CONTENT
        variables = read_configuration().uv_variables(tmp_path / "uv")
        server.answer = always(404)
        with pytest.raises(InstallError, match="not found in the package registry"):  # uv has read the answer
            resolve("other", variables, tmp_path / "uv")


@pytest.mark.usefixtures("bare")
def test_an_authority_that_nobody_names_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "_pip_config", pip_settings)
    only_system_certificates(tmp_path / "others.pem")
    only_system_certificates(tmp_path / "more.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "others.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "more.pem"))
    with serving(index, certificate=SERVER) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        with pytest.raises(IndexUnreachableError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            fetch(tmp_path)
        variables = read_configuration().uv_variables(tmp_path / "uv")
        with pytest.raises(InstallError, match="certificate"):
            resolve("other", variables, tmp_path / "uv")
    assert "REQUESTS_CA_BUNDLE" in caught.value.remedy


@pytest.mark.usefixtures("bare")
def test_a_certificate_for_another_name_is_not_a_missing_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "_pip_config", pip_settings)
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
    with serving(index, certificate=SERVER) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"https://localhost:{server.port}/simple")
        with pytest.raises(IndexUnreachableError, match="certificate is not valid for 'localhost'") as caught:
            fetch(tmp_path)
    assert caught.value.remedy.startswith("Use the host name for which the server's certificate is made")


def test_https_for_a_server_without_tls_says_so(tmp_path: Path) -> None:
    with serving(index) as server:
        given = IndexConfiguration(endpoints=(f"https://{server.host}/simple",))
        with pytest.raises(IndexUnreachableError, match="WRONG_VERSION_NUMBER") as caught:
            fetch(tmp_path, given=given)
    assert "does not use TLS on this port" in caught.value.remedy
    assert "http://" in caught.value.remedy


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        ("certificate verify failed: certificate is not yet valid", "Check the clock of this machine"),
        ("certificate verify failed: certificate has expired", "Check the clock of this machine"),
        ("certificate verify failed: unable to get local issuer certificate", "Set your organisation's certificates"),
        ("Connection refused", "Check the network and the proxy"),
    ],
)
def test_each_reason_of_a_failed_connection_has_its_remedy(why: str, remedy: str) -> None:
    code = "[SSL: CERTIFICATE_VERIFY_FAILED] " if "certificate" in why else ""
    error = pages.unreachable("https://mirror.test/simple/", f"{code}{why}")
    assert why in error.problem
    assert error.remedy.startswith(remedy)


def test_https_before_the_address_of_a_proxy_that_takes_http_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(index) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://user:s3cret@{proxy.host}")
        with pytest.raises(IndexUnreachableError, match=f"The proxy {proxy.host} does not use TLS") as caught:
            fetch(tmp_path, given=IndexConfiguration(endpoints=("https://mirror.test/simple",)))
    assert "Begin it with http:// in HTTPS_PROXY" in caught.value.remedy
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("address", ["user:s3cret@{}", "{}", "http://user:s3cret@{}"])
def test_a_proxy_may_be_named_without_a_scheme(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(index) as proxy:
        monkeypatch.setenv("HTTP_PROXY", address.format(proxy.host))
        monkeypatch.setenv("http_proxy", address.format(proxy.host))
        given = IndexConfiguration(endpoints=("http://mirror.test/simple",))
        assert fetch(tmp_path, given=given).read_bytes() == CONTENT


@pytest.mark.parametrize("names", ["::1", "[::1]", "::/64", "10.0.0.0/8, ::1/128", "[::1]:80,fe80::1%eth0,::1"])
def test_no_proxy_names_an_ipv6_address_in_every_form(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", names)
    transport = Transport(IndexConfiguration(endpoints=(), proxy="http://proxy.test:3128"))
    assert transport.proxies("http://[::1]:8080/simple/", {}) == {}
    assert transport.proxies("http://[2001:db8::1]/simple/", {})["http"] == "http://proxy.test:3128"


def test_a_page_that_breaks_off_is_told_in_plain_words(tmp_path: Path) -> None:
    def breaks_off(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(page())

    with serving(breaks_off) as server, pytest.raises(IndexUnreachableError) as caught:
        fetch(tmp_path, given=at(server))
    assert caught.value.problem.endswith("cannot be reached: the connection was closed before everything had arrived.")


def test_a_file_of_another_size_is_not_called_a_broken_connection(tmp_path: Path) -> None:
    def other(handler: BaseHTTPRequestHandler) -> None:
        if "/files/" in handler.path:
            reply(handler, 200, b"PK other", "application/octet-stream")
        else:
            reply(handler, 200, page())

    with serving(other) as server, pytest.raises(IndexUnreachableError) as caught:
        fetch(tmp_path, given=at(server))
    assert f"the server has a file of 8 bytes, and {len(CONTENT)} are locked" in caught.value.problem


@pytest.mark.usefixtures("bare")
def test_a_netrc_that_is_not_utf_8_does_not_look_like_a_network_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_bytes(b"machine 127.0.0.1 login user password s3cr\xe9t\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving(guarded) as server, pytest.raises(CredentialsError, match="no credentials are configured") as caught:
        fetch(tmp_path, given=at(server))
    assert "~/.netrc" in caught.value.remedy
    with serving(index) as server:
        assert fetch(tmp_path, given=at(server)).read_bytes() == CONTENT


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("by_file", [False, True])
def test_uvs_offline_setting_keeps_the_tool_off_the_network(
    by_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "_pip_config", pip_settings)
    (tmp_path / "uv.toml").write_text("offline = true\n", encoding="utf-8")
    monkeypatch.setenv(*("UV_CONFIG_FILE", str(tmp_path / "uv.toml")) if by_file else ("UV_OFFLINE", "1"))
    setting = f"offline in {tmp_path / 'uv.toml'}" if by_file else "UV_OFFLINE"
    with serving(index) as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{server.url}/simple")
        with pytest.raises(IndexUnreachableError) as caught:
            fetch(tmp_path)
        assert f"{setting} is set, so the network is not used" in caught.value.problem
        assert not server.log
        (tmp_path / "links").mkdir()
        (tmp_path / "links" / NAME).write_bytes(CONTENT)
        monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "links"))
        assert fetch(tmp_path).read_bytes() == CONTENT


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("variable", "setting"), [("PIP_NO_INDEX", "pip's no-index"), ("UV_NO_INDEX", "UV_NO_INDEX or no-index in uv.toml")]
)
def test_that_no_index_is_asked_is_named(
    variable: str, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "_pip_config", pip_settings)
    monkeypatch.setenv(variable, "1")
    with pytest.raises(FileMissingError) as caught:
        fetch(tmp_path)
    assert caught.value.problem.startswith(f"No package index is asked for {NAME} ({setting})")


def test_an_index_that_lists_nothing_lacks_the_package(tmp_path: Path) -> None:
    with (
        serving(always(200, b"<html><head><title>Links for thing</title></head><body></body></html>")) as server,
        pytest.raises(FileMissingError, match=f"does not carry {NAME}"),
    ):
        fetch(tmp_path, given=at(server))


def test_404_for_the_project_alone_is_a_missing_package(tmp_path: Path) -> None:
    with (
        serving(lambda handler: reply(handler, 404 if "thing" in handler.path else 200)) as server,
        pytest.raises(FileMissingError, match=f"does not carry {NAME}\\."),
    ):
        fetch(tmp_path, given=at(server))


def test_404_for_everything_doubts_the_address(tmp_path: Path) -> None:
    with (
        serving(always(404)) as server,
        pytest.raises(FileMissingError, match="answers 404, even for its own address") as caught,
    ):
        fetch(tmp_path, given=at(server))
    assert "URL of the index" in caught.value.remedy


def test_a_second_index_helps_where_the_first_one_fails(tmp_path: Path) -> None:
    with serving(drop) as dead, serving(always(200, LOGIN)) as portal, serving(index) as good:
        given = IndexConfiguration(endpoints=tuple(f"{server.url}/simple" for server in (dead, portal, good)))
        assert fetch(tmp_path, given=given).read_bytes() == CONTENT


# In time


@pytest.mark.parametrize("answer", [silent, trickle, trickle_body], ids=lambda answer: answer.__name__)
def test_an_index_that_does_not_come_to_an_end_is_given_up(
    answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locations, "INDEX_SECONDS", 1.0)
    with serving(answer) as server, pytest.raises(IndexUnreachableError, match="no answer within 1 seconds"):
        fetch(tmp_path, given=at(server))


@pytest.mark.parametrize("answer", [silent, trickle, trickle_body], ids=lambda answer: answer.__name__)
def test_a_file_that_does_not_come_is_given_up(answer: Answer, tmp_path: Path) -> None:
    with serving(lambda handler: answer(handler) if "/files/" in handler.path else index(handler)) as server:
        given = IndexConfiguration(endpoints=(f"{server.url}/simple/",), stall_seconds=1.0)
        with pytest.raises(IndexUnreachableError, match=f"{NAME}.*(1 seconds|was interrupted)"):
            fetch(tmp_path, given=given)


def test_a_dead_proxy_is_named_and_not_asked_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:s3cret@127.0.0.1:9")
    with pytest.raises(IndexUnreachableError, match=r"through the proxy 127\.0\.0\.1:9: Connection refused"):
        fetch(tmp_path, given=IndexConfiguration(endpoints=("https://index.test/simple/",)))


@pytest.mark.parametrize("scheme", ["socks", "socks5", "socks5h"])
def test_a_socks_proxy_without_pysocks_is_named(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setenv("all_proxy", f"{scheme}://user:s3cret@127.0.0.1:9")
    with pytest.raises(IndexUnreachableError, match=r"127\.0\.0\.1:9.*SOCKS|SOCKS.*127\.0\.0\.1:9"):
        fetch(tmp_path, given=IndexConfiguration(endpoints=("https://index.test/simple/",)))


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests run
from pathlib import Path
from build_matrix.errors import RunInterruptedError
from build_matrix.downloads import Downloads, IndexConfiguration
from build_matrix.model import Component
from build_matrix.report import make_reporter
from build_matrix.process.runner import log_to, run
from build_matrix.store import Store
endpoint, store, sha256 = sys.argv[1:]
wanted = [Component(project="thing", version="1.0", filename="thing-1.0.zip", sha256=sha256, size=1000000)]
try:
    Downloads(Store(Path(store)), make_reporter(), IndexConfiguration(endpoints=(endpoint,))).fetch(wanted, "thing")
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("where", ["page", "file"])
def test_ctrl_c_ends_a_download_at_once_and_keeps_what_has_come(where: str, tmp_path: Path) -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        if where == "page":
            silent(handler)
        elif "/files/" not in handler.path:
            reply(handler, 200, b"<title>Links for thing</title><a href='/files/thing-1.0.zip'>thing-1.0.zip</a>")
        else:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
            handler.wfile.write(b"x" * 100_000)
            silent(handler)

    part = tmp_path / "store" / "files" / f"{SHA256}.part"
    with serving(half) as server:
        argv = [sys.executable, "-c", INTERRUPTED, f"{server.url}/simple/", str(tmp_path / "store"), SHA256]
        process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(300):
            if part.exists() and part.stat().st_size == 100_000 if where == "file" else server.log:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=15)  # a server's own time limit is 30 and 60 seconds
    assert (process.returncode, errors) == (130, "")
    if where == "file":
        assert part.stat().st_size == 100_000


# Settings that are no good


@pytest.mark.parametrize(
    "variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT"]
)
@pytest.mark.parametrize("kind", ["absent", "empty", "no certificates"])
def test_certificates_that_cannot_be_used_are_named(
    variable: str, kind: str, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    if kind != "absent":
        path.write_text("" if kind == "empty" else "-----BEGIN NOTHING-----\n")
    monkeypatch.setenv(variable, str(path))
    monkeypatch.setattr(configuration, "_pip_config", pip_settings)
    monkeypatch.setenv("PIP_INDEX_URL", "https://127.0.0.1:9/simple")
    with pytest.raises(ConfigurationError) as caught:
        fetch(tmp_path)
    assert str(path) in caught.value.problem
    assert ("cert" if variable == "PIP_CERT" else variable) in caught.value.problem
    assert caught.value.exit_code == 2


def test_an_index_without_tls_needs_no_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with serving(index) as server:
        fetch(
            tmp_path, given=IndexConfiguration(endpoints=(f"{server.url}/simple",), bundles=(("SSL_CERT_FILE", "/no"),))
        )


@pytest.mark.parametrize(
    "text",
    [
        '[[index]]\nname = "x"\n',
        "[index]\nurl = 3\n",
        "index = 3\n",
        'index-url = ["https://a.test/simple"]\n',
        "extra-index-url = 'https://user:s3cret@a.test/simple'\n",
        "find-links = [1]\n",
        'pip = "x"\n',
        '[[index]]\nurl = "https://a.test"\nauthenticate = "sometimes"\n',
        'index-url = "https://user:s3cret/x@a.test/simple"\n',
        'index-url = "http://user:s3cret@host:port/simple"\n',
        'index-url = "htp://a.test/simple"\n',
        'index-url = "user:s3cret@a.test:80/simple"\n',
        "\0\xff\xfe",
        'index-url = "https://user:s3cret@a.test/simple\n',
    ],
)
def test_a_uv_toml_of_another_shape_is_one_sentence(text: str, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "uv.toml").write_bytes(text.encode("latin-1"))
    monkeypatch.setenv("UV_CONFIG_FILE", str(bare / "uv.toml"))
    monkeypatch.setattr(configuration, "_pip_config", pip_settings)
    with pytest.raises(ConfigurationError) as caught:
        read_configuration()
    assert caught.value.exit_code == 2
    assert str(bare / "uv.toml") in caught.value.problem
    assert "s3cret" not in str(caught.value)
    assert "\n" not in caught.value.problem


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"])
@pytest.mark.parametrize(
    "url", ["http://", "nowhere", "http://user:s3cret/x@h/", "http://[::1/", "ftp://u:s3cret@h/", "::::"]
)
def test_a_setting_that_is_no_url_is_named(
    variable: str, url: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "_pip_config", pip_settings)
    monkeypatch.setenv(variable, url)
    with pytest.raises(ConfigurationError, match="is not the URL of a package index") as caught:
        read_configuration()
    assert "s3cret" not in str(caught.value)
    name = variable if variable.startswith("UV") else variable[4:].lower().replace("_", "-")
    assert name in caught.value.problem


def test_a_mirror_of_nvidias_archives_that_is_no_url_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_MATRIX_REDIST", "user:s3cret@nowhere")
    with pytest.raises(ConfigurationError, match="BUILD_MATRIX_REDIST is") as caught:
        fetch(tmp_path, ARCHIVE, IndexConfiguration(endpoints=()))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("code", [401, 403])
def test_an_archive_beside_the_index_that_refuses_is_called_so(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(always(code)) as server:
        monkeypatch.setenv("BUILD_MATRIX_REDIST", f"http://user:s3cret@{server.host}")
        with pytest.raises(CredentialsError, match=f"answers {code}") as caught:
            fetch(tmp_path, ARCHIVE, IndexConfiguration(endpoints=()))
        assert server.log[0].credentials == "user:s3cret"
    assert f"Check your credentials for {server.host}" in caught.value.remedy


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_archives_beside_the_index_go_through_the_proxy_too(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_MATRIX_REDIST", "http://archive.test/redist")
    with serving(index) as proxy:
        monkeypatch.setenv(variable, f"http://user:s3cret@{proxy.host}")
        assert fetch(tmp_path, ARCHIVE, IndexConfiguration(endpoints=())).read_bytes() == CONTENT
        assert [asked.target for asked in proxy.log] == [f"http://archive.test/redist/files/{NAME}"]
        assert proxy.log[0].proxy_authorization


def test_archives_beside_the_index_answer_within_the_same_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(trickle) as server:
        monkeypatch.setenv("BUILD_MATRIX_REDIST", server.url)
        given = IndexConfiguration(endpoints=(), stall_seconds=1.0)
        downloads = Downloads(Store(tmp_path / "store"), LineReporter(RedactingConsole(quiet=True)), given)
        for _ in range(2):
            with pytest.raises(ArchiveUnreachableError, match="for 1 seconds"):
                downloads.fetch(ARCHIVE, "thing")
        assert len(server.log) == 1  # an archive that stands still is not waited for again


# What docs/how-to/mirrors.md quotes


QUOTED: dict[str, tuple[Answer, dict[str, str]]] = {
    "credentials": (always(401), {"PIP_INDEX_URL": "http://user:s3cret@{host}/simple"}),
    "proxy credentials": (always(407), {"PIP_INDEX_URL": "http://index.test/", "HTTP_PROXY": "http://{host}"}),
    "portal": (always(200, LOGIN), {"PIP_INDEX_URL": "http://{host}/simple"}),
    "dead proxy": (index, {"PIP_INDEX_URL": "http://index.test/", "HTTP_PROXY": "http://127.0.0.1:9"}),
    "silent": (silent, {"PIP_INDEX_URL": "http://{host}/simple"}),
    "missing": (always(200, b"<title>Links for thing</title>"), {"PIP_INDEX_URL": "http://{host}/simple"}),
    "certificates": (index, {"PIP_INDEX_URL": "https://{host}/simple", "SSL_CERT_FILE": "/no/such.pem"}),
    "uv.toml": (index, {"UV_CONFIG_FILE": "/no/such.toml"}),
    "no URL": (index, {"PIP_INDEX_URL": "nowhere"}),
}


@pytest.mark.parametrize("situation", QUOTED)
def test_mirrors_md_quotes_what_is_printed(
    situation: str, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, variables = QUOTED[situation]
    monkeypatch.setattr(configuration, "_pip_config", pip_settings)
    monkeypatch.setattr(locations, "INDEX_SECONDS", 1.0)
    with serving(answer) as server:
        for name, value in variables.items():
            monkeypatch.setenv(name, value.format(host=server.host))
        with pytest.raises(BuildMatrixError) as caught:
            fetch(tmp_path)
    printed = caught.value.problem.replace("within 1 seconds", f"within {pages.INDEX_SECONDS:.0f} seconds")
    text = (ROOT / "docs" / "how-to" / "mirrors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.*)` \| (\d) \|", text, re.MULTILINE)
    codes = [code for row, code in rows if re.fullmatch(pattern_of(row), printed)]
    assert codes == [str(caught.value.exit_code)], printed


def pattern_of(row: str) -> str:
    """HOST, FILE, PATH, 'URL' and … stand for anything."""
    return re.sub(r"\b(?:HOST|FILE|PATH)\b|'URL'|…", ".+", re.escape(row))
