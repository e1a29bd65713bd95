"""NVIDIA's redistributable archives, repacked from a real toolkit's packages: fetched, assembled, compiled with."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import msgspec
import pytest
from contexts import in_context
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from build_matrix.downloads import Downloads, ingredient_choices
from build_matrix.errors import ArchiveUnreachableError
from build_matrix.model import Architecture, Cell, Component, Ingredients, Toolchain, file_sha256
from build_matrix.probe import find_compilers
from build_matrix.provision import fetch_toolkit, provision_sysroot, provision_toolkit, self_test
from build_matrix.report import make_reporter
from build_matrix.store import Store

pytestmark = [pytest.mark.index, pytest.mark.compiler]

CELL = Cell(llama="0.3.16", cuda="12.4", architectures=(Architecture(number=89),), platform="linux-x86_64")
# Component: its version, and what of a toolkit NVIDIA puts into it.
ARCHIVES = {
    "cuda_nvcc": ("12.4.131", ("bin", "nvvm", "include/crt", "include/fatbinary_section.h")),
    "cuda_cudart": ("12.4.127", ("include/*.h", "include/*.hpp", "lib/libcud*")),
    "libcublas": ("12.4.5.8", ("lib/libcublas*",)),
    "cuda_cccl": ("12.4.127", ("include/cub", "include/thrust", "include/cuda", "include/nv")),
}


@pytest.fixture(scope="module")
def quiet_downloads(shared_store: Store) -> Downloads:
    return Downloads(shared_store, make_reporter())


@pytest.fixture(scope="module")
def original(shared_store: Store, quiet_downloads: Downloads) -> Toolchain:
    choice = next(c for c in ingredient_choices(CELL) if c.toolkit[-1].origin == "debian")
    try:
        wanted = fetch_toolkit(in_context(shared_store, downloads=quiet_downloads), CELL, choice)
    except ArchiveUnreachableError as error:
        pytest.skip(f"this machine's apt reaches no archive that has it: {error.problem}")
    return provision_toolkit(in_context(shared_store, downloads=quiet_downloads), CELL, wanted)


@pytest.fixture(scope="module")
def redist(original: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as NVIDIA's server has it, with the manifest ``redistrib_12.4.1.json``."""
    folder = tmp_path_factory.mktemp("redist")
    manifest: dict[str, object] = {"release_date": "2024-03-28", "release_label": "12.4.1", "release_product": "cuda"}
    for name, (version, patterns) in ARCHIVES.items():
        top = f"{name}-linux-x86_64-{version}-archive"
        path = folder / name / "linux-x86_64" / f"{top}.tar.xz"
        path.parent.mkdir(parents=True)
        with tarfile.open(path, "w:xz", preset=0) as archive:
            for found in sorted({p for pattern in patterns for p in original.root.glob(pattern)}):
                archive.add(found, f"{top}/{found.relative_to(original.root)}")
        entry = {
            "relative_path": str(path.relative_to(folder)),
            "sha256": file_sha256(path),
            "md5": hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(),
            "size": str(path.stat().st_size),
        }
        manifest[name] = {"name": name, "license": "CUDA Toolkit", "version": version, "linux-x86_64": entry}
    (folder / "redistrib_12.4.1.json").write_text(json.dumps(manifest, indent=4))
    return folder


def ingredients(redist: Path) -> Ingredients:
    path = redist / "redistrib_12.4.1.json"
    manifest = Component(
        project="redistrib",
        version="12.4.1",
        filename=path.name,
        sha256=file_sha256(path),
        origin="redist",
        path=path.name,
    )
    return msgspec.structs.replace(ingredient_choices(CELL)[0], toolkit=(manifest,))


def test_a_toolkit_of_archives_compiles_a_kernel(
    redist: Path,
    httpserver: HTTPServer,
    tmp_path: Path,
    shared_store: Store,
    quiet_downloads: Downloads,
    reporter,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def serve(request: Request) -> Response:
        return Response((redist / request.path.removeprefix("/redist/")).read_bytes())

    for path in redist.rglob("*.*"):
        if path.is_file():
            httpserver.expect_request(f"/redist/{path.relative_to(redist)}").respond_with_handler(serve)
    monkeypatch.setenv("BUILD_MATRIX_REDIST", httpserver.url_for("/redist"))
    store = Store(tmp_path / "store")
    downloads = Downloads(store, reporter)
    wanted = fetch_toolkit(in_context(store, downloads=downloads), CELL, ingredients(redist))
    assert [file.project for file in wanted.toolkit if file.origin != "redist"] == []
    toolchain = provision_toolkit(in_context(store, downloads=downloads), CELL, wanted)
    compiler = find_compilers()[0]
    sysroot = provision_sysroot(
        in_context(shared_store, downloads=quiet_downloads), "linux-x86_64", wanted.sysroot, compiler
    )
    assert self_test(in_context(store), toolchain, CELL.architectures, compiler, sysroot).same_anywhere
