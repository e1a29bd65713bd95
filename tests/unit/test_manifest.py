"""NVIDIA's redistributable archives against a real HTTP server, with a manifest that has their schema."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator

import msgspec
import pytest
from contexts import in_context
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from build_matrix.catalog import sources
from build_matrix.downloads import Downloads, IndexConfiguration, download, ingredient_choices
from build_matrix.errors import ArchiveUnreachableError, DownloadError, HashMismatchError
from build_matrix.model import Architecture, Cell, Component, Ingredients
from build_matrix.provision import fetch_toolkit, provision_toolkit
from build_matrix.store import Store

CELL = Cell(llama="0.3.16", cuda="12.9", architectures=(Architecture(number=89),), platform="linux-x86_64")
VERSION = "12.9.86"
CONTENT = {
    "cuda_nvcc": [
        "bin/nvcc", "bin/nvcc.profile", "bin/cudafe++", "bin/ptxas", "bin/fatbinary", "bin/nvlink", "nvvm/bin/cicc",
        "nvvm/libdevice/libdevice.10.bc", "include/crt/host_config.h",
    ],
    "cuda_cudart": [
        "include/cuda_runtime.h", "lib/libcudart.so.12", "lib/libcudart_static.a", "lib/libcudadevrt.a", "LICENSE",
    ],
    "libcublas": ["include/cublas_v2.h", "lib/libcublas.so.12", "lib/libcublasLt.so.12"],
    "cuda_cccl": ["include/cub/cub.cuh"],
}  # fmt: skip


def tar_xz(top: str, names: list[str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for name in names:
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return out.getvalue()


def zipped(top: str, names: list[str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(f"{top}/{name}", name)
    return out.getvalue()


class Server:
    """Serves a manifest and its archives below ``/redist``."""

    def __init__(self, httpserver: HTTPServer, platform: str = "linux-x86_64") -> None:
        self.http = httpserver
        self.cell = msgspec.structs.replace(CELL, platform=platform)
        self.manifest: dict[str, object] = {
            "release_date": "2025-06-03", "release_label": "12.9.1", "release_product": "cuda",
        }  # fmt: skip
        self.archives: dict[str, bytes] = {}
        suffix, pack = ("tar.xz", tar_xz) if platform == "linux-x86_64" else ("zip", zipped)
        for name, files in CONTENT.items():
            top = f"{name}-{platform}-{VERSION}-archive"
            path = f"{name}/{platform}/{top}.{suffix}"
            data = self.archives[path] = pack(top, files)
            sha256, md5 = hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).hexdigest()
            entry = {"relative_path": path, "sha256": sha256, "md5": md5, "size": str(len(data))}
            self.manifest[name] = {"name": name, "license": "CUDA Toolkit", "version": VERSION, platform: entry}

    def serve(self) -> Ingredients:
        """Answer from now on; the ingredients that name this manifest."""
        data = json.dumps(self.manifest).encode()
        self.http.expect_request("/redist/redistrib_12.9.1.json").respond_with_data(data)
        for path, archive in self.archives.items():
            self.http.expect_request(f"/redist/{path}").respond_with_data(archive)
        name = "redistrib_12.9.1.json"
        sha256 = hashlib.sha256(data).hexdigest()
        manifest = Component(
            project="redistrib", version="12.9.1", filename=name, sha256=sha256, origin="redist", path=name
        )
        return msgspec.structs.replace(ingredient_choices(CELL)[0], toolkit=(manifest,))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> None:
    monkeypatch.setattr(download, "BACKOFF", 0.01)
    monkeypatch.setenv("BUILD_MATRIX_REDIST", httpserver.url_for("/redist/"))


@pytest.fixture
def downloads(store: Store, reporter) -> Downloads:  # type: ignore[no-untyped-def]
    return Downloads(store, reporter, IndexConfiguration(endpoints=()))


@pytest.fixture
def server(httpserver: HTTPServer) -> Iterator[Server]:
    return Server(httpserver)


def test_a_toolkit_is_made_of_the_archives_that_the_manifest_names(
    server: Server, downloads: Downloads, store: Store
) -> None:
    wanted = fetch_toolkit(in_context(store, downloads=downloads), server.cell, server.serve())
    assert {file.project for file in wanted.toolkit} == {
        "nvidia-cuda-nvcc-cu12", "nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12", "nvidia-cuda-cccl-cu12",
    }  # fmt: skip
    toolchain = provision_toolkit(in_context(store, downloads=downloads), server.cell, wanted)
    assert toolchain.nvcc_version == VERSION
    assert (toolchain.root / "bin" / "nvcc").stat().st_mode & 0o111
    assert (toolchain.root / "lib64" / "libcublas.so").resolve().name == "libcublas.so.12"
    server.http.clear()  # the record names the archives, so nobody has to ask for the manifest again
    assert provision_toolkit(in_context(store, downloads=downloads), server.cell, wanted) == toolchain


def test_windows_archives_are_zips(httpserver: HTTPServer, downloads: Downloads, store: Store) -> None:
    server = Server(httpserver, "windows-x86_64")
    wanted = fetch_toolkit(in_context(store, downloads=downloads), server.cell, server.serve())
    assert all(file.filename.endswith(".zip") and file.size > 0 for file in wanted.toolkit)


def test_a_broken_download_of_an_archive_goes_on_where_it_was(
    server: Server, downloads: Downloads, store: Store
) -> None:
    path = next(name for name in server.archives if name.startswith("libcublas/"))
    data = server.archives.pop(path)
    ranges: list[str | None] = []

    def half_then_rest(request: Request) -> Response:
        ranges.append(asked := request.headers.get("Range"))
        half = len(data) // 2
        if asked:
            return Response(data[half:], status=206)
        answer = Response(data[:half])
        answer.headers["Content-Length"] = str(half)
        return answer

    server.http.expect_request(f"/redist/{path}").respond_with_handler(half_then_rest)
    fetch_toolkit(in_context(store, downloads=downloads), server.cell, server.serve())
    assert ranges == [None, f"bytes={len(data) // 2}-"]


def test_a_redirect_is_followed(server: Server, downloads: Downloads, store: Store) -> None:
    path, data = server.archives.popitem()
    elsewhere = {"Location": server.http.url_for("/elsewhere")}
    server.http.expect_request(f"/redist/{path}").respond_with_data("", status=302, headers=elsewhere)
    server.http.expect_request("/elsewhere").respond_with_data(data)
    assert len(fetch_toolkit(in_context(store, downloads=downloads), server.cell, server.serve()).toolkit) == len(
        CONTENT
    )


def test_a_manifest_with_another_hash_is_refused(server: Server, downloads: Downloads, store: Store) -> None:
    wanted = server.serve()
    other = tuple(msgspec.structs.replace(file, sha256="0" * 64) for file in wanted.toolkit)
    with pytest.raises(HashMismatchError, match=r"redistrib_12\.9\.1\.json"):
        fetch_toolkit(
            in_context(store, downloads=downloads), server.cell, msgspec.structs.replace(wanted, toolkit=other)
        )


def test_an_archive_with_another_hash_is_refused_and_not_kept(
    server: Server, downloads: Downloads, store: Store
) -> None:
    path = next(iter(server.archives))
    server.archives[path] = server.archives[path][:-1] + b"!"
    with pytest.raises(HashMismatchError, match=path.rpartition("/")[2]) as caught:
        fetch_toolkit(in_context(store, downloads=downloads), server.cell, server.serve())
    assert caught.value.exit_code == 5
    assert not list((store.root / "files").glob(f"*/{path.rpartition('/')[2]}"))


def test_a_manifest_without_a_component_is_refused(server: Server, downloads: Downloads, store: Store) -> None:
    del server.manifest["libcublas"]
    with pytest.raises(DownloadError, match="names no nvidia-cublas for linux-x86_64"):
        fetch_toolkit(in_context(store, downloads=downloads), server.cell, server.serve())


def test_a_component_for_another_platform_alone_is_missing(server: Server, downloads: Downloads, store: Store) -> None:
    entry = server.manifest["cuda_cccl"]
    assert isinstance(entry, dict)
    entry["linux-sbsa"] = entry.pop("linux-x86_64")
    with pytest.raises(DownloadError, match="names no nvidia-cuda-cccl"):
        fetch_toolkit(in_context(store, downloads=downloads), server.cell, server.serve())


def test_an_archive_that_the_server_lacks_is_named(server: Server, downloads: Downloads, store: Store) -> None:
    path, _ = server.archives.popitem()
    server.http.expect_request(f"/redist/{path}").respond_with_data("", status=404)
    with pytest.raises(ArchiveUnreachableError, match=f"does not carry {path.rpartition('/')[2]}") as caught:
        fetch_toolkit(in_context(store, downloads=downloads), server.cell, server.serve())
    assert "BUILD_MATRIX_REDIST" in caught.value.remedy


def test_a_server_that_cannot_be_reached_is_asked_once(
    downloads: Downloads, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_MATRIX_REDIST", "http://127.0.0.1:9/redist")
    for _ in range(2):
        with pytest.raises(ArchiveUnreachableError, match="NVIDIA's server"):
            fetch_toolkit(in_context(store, downloads=downloads), CELL, ingredient_choices(CELL)[0])
    assert list(downloads._unreachable) == ["127.0.0.1"]


def test_each_manifest_is_of_a_known_toolkit_and_names_its_release() -> None:
    for row in sources().redist.manifest:
        assert row.release.startswith(f"{row.cuda}.")
        assert len(row.sha256) == 64
