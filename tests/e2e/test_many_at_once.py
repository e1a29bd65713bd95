"""Ten builds at once on one store that has nothing yet: each file is fetched once, each step is done once."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from main_job import JOB, MINUTES, ROOT, Place
from packaging.utils import parse_sdist_filename, parse_wheel_filename

from build_matrix.model import file_sha256

pytestmark = [pytest.mark.build, pytest.mark.compiler, pytest.mark.index]

COUNT = 10


def project(path: Path) -> str:
    parse = parse_wheel_filename if path.suffix == ".whl" else parse_sdist_filename
    return str(parse(path.name)[0])


@contextmanager
def index_of(files: Path) -> Iterator[tuple[str, Counter[str]]]:
    """A package index (PEP 503) of what a store has downloaded: its URL, and how often each file was fetched."""
    paths = {path.name: path for path in files.glob("*/*")}
    fetched: Counter[str] = Counter()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.strip("/").rpartition("/")[2]
            if name in paths:
                with lock:
                    fetched[name] += 1
                self.answer(paths[name].stat().st_size, "application/octet-stream")
                with paths[name].open("rb") as file:
                    shutil.copyfileobj(file, self.wfile)
                return
            links = [
                f'<a href="/files/{path.name}#sha256={path.parent.name}">{path.name}</a>'
                for path in paths.values()
                if project(path) == name
            ]
            page = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()
            self.answer(len(page), "text/html")
            self.wfile.write(page)

        def answer(self, length: int, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple/", fetched
    finally:
        server.shutdown()
        server.server_close()


def test_ten_builds_at_once_fetch_each_file_once_and_all_end_well(place: Place, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(place.store / "compile-cache", store / "compile-cache")
    with index_of(place.store / "files") as (url, fetched):
        surroundings = place.environment | {"PIP_INDEX_URL": url, "PIP_CONFIG_FILE": "/dev/null"}
        runs = []
        for number in range(COUNT):
            argv = place.argv(*JOB, "--no-verify", "--store", str(store), "--wheels", str(tmp_path / str(number)))
            runs.append(subprocess.Popen(argv, cwd=ROOT, env=surroundings, stderr=subprocess.PIPE, text=True))
        said = [run.communicate(timeout=10 * MINUTES)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * COUNT, said
    assert set(fetched.values()) == {1}
    assert {path.name for path in store.glob("files/*/*")} == set(fetched)
    assert all(file_sha256(path) == path.parent.name for path in store.glob("files/*/*"))
    assert sum("compiling with" in text for text in said) == 1
    for stage in ("source", "toolkit", "sysroot", "build-environment", "self-test", "raw", "wheel"):
        assert len(list(store.glob(f"{stage}/*"))) == 1, stage
    assert not list(store.glob("work/*"))
    wheels = list(tmp_path.glob("*/*.whl"))
    assert (len(wheels), {file_sha256(wheel) for wheel in wheels}) == (COUNT, {file_sha256(place.wheel)})
