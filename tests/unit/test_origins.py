"""Each origin of files answers the same questions, and a fifth one would need nothing but itself."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import pytest
from commands import ROOT
from contexts import in_context
from packageurl import PackageURL
from pytest_httpserver import HTTPServer

from build_matrix.cli import fetch
from build_matrix.downloads import Downloads, IndexConfiguration, available_toolkits, ingredient_choices, origins
from build_matrix.downloads.origins import ORIGINS, Origin, ToolkitChoice, origin_of, origins_of
from build_matrix.downloads.origins.archive import Archive
from build_matrix.downloads.origins.debian import Debian
from build_matrix.downloads.origins.installed import InstalledToolkit
from build_matrix.downloads.origins.redist import Redist
from build_matrix.errors import ArchiveLacksFileError, ConfigurationError, FileMissingError
from build_matrix.locks import locked_toolkits
from build_matrix.model import Architecture, Cell, Component, Ingredients
from build_matrix.model import Origin as Name
from build_matrix.provision import fetch_toolkit, provision_toolkit
from build_matrix.store import Store
from build_matrix.unpacking import unpack_archive

CELL = Cell(llama="0.3.16", cuda="12.0", architectures=(Architecture(number=89),), platform="linux-x86_64")


def component(origin: Name, path: str = "") -> Component:
    return Component(project="thing", version="1", filename="thing.tar", sha256="0" * 64, origin=origin, path=path)


def test_records_name_exactly_the_origins_that_there_are() -> None:
    assert [origin.name for origin in ORIGINS] == list(get_args(Name))
    for origin in ORIGINS:
        assert origin_of(component(origin.name)) is origin


def test_origins_are_named_once_each_in_the_order_of_preference() -> None:
    files = [component("debian"), component("index"), component("debian")]
    assert [origin.name for origin in origins_of(files)] == ["index", "debian"]
    assert origins_of([]) == ()


@pytest.mark.parametrize("origin", ORIGINS, ids=lambda origin: origin.name)
def test_every_choice_has_files_of_its_origin_and_the_toolkits_own_version(origin: Origin) -> None:
    for cuda in locked_toolkits():
        for choice in origin.choices(cuda, "linux-x86_64"):
            assert origin in origins_of(choice.files)
            assert choice.release.startswith(f"{cuda}.")


@pytest.mark.parametrize("origin", ORIGINS, ids=lambda origin: origin.name)
def test_a_file_that_is_missing_is_one_sentence_that_names_the_origin_and_its_setting(origin: Origin) -> None:
    error = origin.file_missing(component(origin.name))
    assert isinstance(error, FileMissingError if origin.listed else ArchiveLacksFileError)
    assert error.problem == f"{origin.title[0].upper()}{origin.title[1:]} does not carry thing.tar."
    assert error.remedy.startswith("It is needed for thing 1.")
    assert origin.mirror_setting in error.remedy


@pytest.mark.parametrize("archive", [Redist(), Debian()], ids=lambda archive: archive.name)
def test_an_archive_is_looked_for_at_the_mirrors_that_its_variable_names(archive: Archive) -> None:
    there = {archive.variable: " https://one.test/a/  file:///srv/b "}
    assert archive.addresses(there) == ("https://one.test/a/", "file:///srv/b")
    assert archive.addresses({archive.variable: " "}) == archive.addresses({}) == archive.default_addresses()
    with pytest.raises(ConfigurationError, match=f"{archive.variable} is 'one.test'") as caught:
        archive.addresses({archive.variable: "https://two.test one.test"})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("archive", [Redist(), Debian()], ids=lambda archive: archive.name)
def test_a_file_of_an_archive_lies_below_each_address_and_where_fetch_puts_it(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = component(archive.name, "pool/a/thing.tar")
    monkeypatch.setenv(archive.variable, "https://one.test/a/ https://two.test")
    nowhere: object = None
    assert archive.locate([file], nowhere) == [  # type: ignore[arg-type]
        ["https://one.test/a/pool/a/thing.tar", "https://two.test/pool/a/thing.tar"]
    ]
    mirror = archive.mirror_variables(tmp_path)[archive.variable]
    assert f"{mirror}/{file.path}" == (tmp_path / archive.place(file)).as_uri()


def test_an_installed_toolkit_is_in_no_plan_and_nowhere_to_download(store: Store, reporter) -> None:  # type: ignore[no-untyped-def]
    origin = InstalledToolkit()
    assert not origin.downloaded
    assert all(not origin.choices(cuda, "linux-x86_64") for cuda in locked_toolkits())
    with pytest.raises(ArchiveLacksFileError, match=r"This machine does not carry thing\.tar") as caught:
        Downloads(store, reporter, IndexConfiguration(endpoints=())).fetch([component("installed")], "toolkit")
    assert "--toolkit-root" in caught.value.remedy


def test_choosing_a_toolkit_loads_no_library_for_the_network() -> None:
    code = (
        "import sys; from build_matrix.downloads import Downloads, available_toolkits; "
        "available_toolkits('linux-x86_64'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"requests", "urllib3", "pypi_simple", "packageurl"} & set(done.stdout.split())


# --- a fifth -----------------------------------------------------------------------------------------------------

TOOLKIT = (
    "bin/nvcc", "bin/nvcc.profile", "bin/cudafe++", "bin/ptxas", "bin/fatbinary", "bin/nvlink", "nvvm/bin/cicc",
    "nvvm/libdevice/libdevice.10.bc", "include/crt/host_config.h", "include/cuda_runtime.h", "include/cublas_v2.h",
    "include/cub/cub.cuh", "lib/libcudart.so.12", "lib/libcudart_static.a", "lib/libcudadevrt.a", "lib/libcublas.so.12",
    "lib/libcublasLt.so.12",
)  # fmt: skip


def packed() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for name in TOOLKIT:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return out.getvalue()


PACKAGE = packed()
FILE = Component(
    project="nvidia-cuda-nvcc-cu12",
    version="12.0.140",
    filename="toolkit.tar.xz",
    sha256=hashlib.sha256(PACKAGE).hexdigest(),
    size=len(PACKAGE),
    origin="channel",  # type: ignore[arg-type]
    path="linux-64/toolkit.tar.xz",
)


class Channel(Archive):
    """A whole toolkit in one file."""

    name = "channel"  # type: ignore[assignment]
    title = "the channel"
    variable = "BUILD_MATRIX_CHANNEL"
    mirror_setting = "set BUILD_MATRIX_CHANNEL to a mirror"

    def default_addresses(self) -> tuple[str, ...]:
        return ()

    def choices(self, cuda: str, platform: str) -> Iterator[ToolkitChoice]:
        if cuda == CELL.cuda:
            yield ToolkitChoice((FILE,), "12.0.1")

    def unpack(self, paths: Sequence[Path], toolkit: Path, cache: Path) -> None:
        for path in paths:
            unpack_archive(path, toolkit)

    def unpacking_data(self) -> Mapping[str, str]:
        return {"layout": "flat"}

    def purl(self, file: Component) -> PackageURL:
        return PackageURL("conda", "nvidia", file.project, file.version)


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> Ingredients:
    """The ingredients of a toolkit of the fifth origin, which a server has."""
    monkeypatch.setattr(origins, "ORIGINS", (*ORIGINS, Channel()))
    monkeypatch.setenv("BUILD_MATRIX_CHANNEL", httpserver.url_for("/channel"))
    httpserver.expect_request(f"/channel/{FILE.path}").respond_with_data(PACKAGE)
    (choice,) = ingredient_choices(CELL)
    return choice


def test_a_fifth_origin_is_chosen_downloaded_and_unpacked(channel: Ingredients, store: Store, reporter) -> None:  # type: ignore[no-untyped-def]
    assert CELL.cuda in available_toolkits("linux-x86_64")
    context = in_context(store, downloads=Downloads(store, reporter, IndexConfiguration(endpoints=())))
    toolchain = provision_toolkit(context, CELL, fetch_toolkit(context, CELL, channel))
    assert (toolchain.release, toolchain.nvcc_version) == ("12.0.1", "12.0.140")
    assert (toolchain.root / "lib64" / "libcublas.so").resolve().read_text() == "lib/libcublas.so.12"


def test_a_fifth_origin_is_listed_carried_and_explained(channel: Ingredients, reporter, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    row = fetch.row(FILE)
    assert (row.purl, row.place) == ("pkg:conda/nvidia/nvidia-cuda-nvcc-cu12@12.0.140", f"channel/{FILE.path}")
    (tmp_path / row.place).parent.mkdir(parents=True)
    (tmp_path / row.place).write_bytes(PACKAGE)
    fetch.explain([FILE], tmp_path, reporter)
    assert reporter.lines[-1] == f"  export BUILD_MATRIX_CHANNEL={(tmp_path / 'channel').as_uri()}"
