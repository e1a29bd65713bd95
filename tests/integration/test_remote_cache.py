"""What one machine compiled another one finds, through the one door of the sandbox, in stores of three kinds."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fakeredis import TcpFakeServer
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from build_matrix.compile.cache import CacheChoice, CacheUse, cache_environment, cache_program, cache_use, server
from build_matrix.compile.flags import NOWHERE
from build_matrix.compile.remote import parse_remote
from build_matrix.compile.sccache_server import FAILED, with_server
from build_matrix.model import BuildInputs, CompileCache
from build_matrix.platforms import find_platform, platform_name
from build_matrix.process.runner import run
from build_matrix.process.sandbox import ROOT, sandbox

HERE = Path(sys.executable)
WHY_NOT = find_platform(platform_name()).why_no_sandbox(HERE)
pytestmark = [
    pytest.mark.compiler,
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]


@pytest.fixture
def objects(httpserver: HTTPServer) -> dict[str, bytes]:
    """A store of objects: what is PUT under a path is what GET gives."""
    kept: dict[str, bytes] = {}

    def answer(request: Request) -> Response:
        if request.method == "PUT":
            kept[request.path] = request.get_data()
            return Response(status=200, headers={"ETag": '"x"'})
        if request.path not in kept:
            return Response(status=404)
        return Response(b"" if request.method == "HEAD" else kept[request.path])

    httpserver.expect_request(re.compile(".*")).respond_with_handler(answer)
    return kept


@pytest.fixture
def redis() -> Iterator[str]:
    """The URL of a Redis server."""
    service = TcpFakeServer(("127.0.0.1", 0))
    service.daemon_threads = True
    threading.Thread(target=service.serve_forever, daemon=True).start()
    yield f"redis://127.0.0.1:{service.server_address[1]}"
    service.shutdown()
    service.server_close()


def compile_on_a_new_machine(folder: Path, url: str, inputs: BuildInputs) -> CacheUse:
    """Compile the same source with nothing in the local cache."""
    remote = parse_remote(url, {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"})
    assert remote
    program = cache_program(remote.program)
    choice = CacheChoice(ccache=program) if remote.program == "ccache" else CacheChoice(sccache=program)
    folder.mkdir()
    (folder / "a.c").write_text("int answer(void) { return 42; }\n")
    inputs = msgspec.structs.replace(inputs, environment=msgspec.structs.replace(inputs.environment, python=HERE))
    work = ROOT / "work"
    words = [*sandbox(HERE, {folder: work}, work, (remote.host, remote.port)), *server(choice, inputs, work)]
    words += [str(choice.first), inputs.compiler.cc, "-MD", "-MF", "a.d", "-c", "a.c", "-o", "a.o"]
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(work)}
    variables |= dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOWHERE)  # as in a real compilation
    variables |= cache_environment(choice, CompileCache(folder=work / "cache"), remote, inputs, work)
    done = run(words, env=variables, timeout=120)
    assert done.code == 0, done.output
    assert (folder / "a.o").is_file()
    return cache_use(folder)


@pytest.mark.parametrize("form", ["redis", "http", "s3"])
def test_what_one_machine_compiled_another_one_finds(
    tmp_path: Path,
    inputs: BuildInputs,
    httpserver: HTTPServer,
    objects: dict[str, bytes],
    redis: str,
    form: str,
) -> None:
    place = f"localhost:{httpserver.port}"
    url = {"redis": redis, "http": f"http://{place}/objects", "s3": f"s3://bucket/objects?endpoint=http://{place}"}[
        form
    ]
    assert compile_on_a_new_machine(tmp_path / "one", url, inputs) == CacheUse(hits=0, misses=1)
    assert compile_on_a_new_machine(tmp_path / "two", url, inputs) == CacheUse(hits=1, misses=0)
    assert (tmp_path / "one" / "a.o").read_bytes() == (tmp_path / "two" / "a.o").read_bytes()
    assert (form == "redis") != any(path.startswith(("/objects/", "/bucket/objects/")) for path in objects)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9", "http://127.0.0.1:9/x"])
def test_a_remote_cache_that_is_away_is_done_without(tmp_path: Path, inputs: BuildInputs, url: str) -> None:
    assert compile_on_a_new_machine(tmp_path / "one", url, inputs) == CacheUse(hits=0, misses=1)


def test_a_server_that_does_not_start_is_said_and_nothing_is_run(tmp_path: Path) -> None:
    variables = {"SCCACHE_SERVER_UDS": str(tmp_path / "socket")}
    words = [*with_server(HERE, Path("/bin/false"), tmp_path / "statistics"), "/bin/touch", tmp_path / "made"]
    done = run(words, env=variables, timeout=60)
    assert (done.code, done.output) == (FAILED, "sccache did not start (exit code 1)")
    assert not (tmp_path / "made").exists()
