"""What a build downloads can be listed, and put into a folder that serves a machine without network."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from commands import run_tool
from contexts import in_context

from build_matrix.cli import fetch
from build_matrix.downloads import Downloads, IndexConfiguration, ingredient_choices
from build_matrix.downloads.origins import origin_of
from build_matrix.errors import ArchiveUnreachableError, ConfigurationError, FileMissingError
from build_matrix.locks import read_lock, select_wheels
from build_matrix.locks.needed import Target, build_files, read_tool_lock, tool_files
from build_matrix.model import Architecture, Cell, Component, Machine, Origin, Request, file_sha256
from build_matrix.pipeline.fetch import SUMS, cell_files, choose_cell, put
from build_matrix.pipeline.lock import PYTHONS
from build_matrix.store import Store

CELL = Cell(llama="0.3.16", cuda="13.0", architectures=(Architecture(number=89),), platform="linux-x86_64")
TARGET = Target("3.12", "linux-x86_64")
HERE = Target(fetch.parse_pythons(None)[0], "linux-x86_64")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lock(folder: Path, text: str) -> Path:
    path = folder / "tool.txt"
    path.write_text(text)
    return path


def no_sizes(_project: str) -> dict[str, int]:
    return {}


# --- what Nox installs -----------------------------------------------------------------------------------


def test_the_tools_own_lock_pins_nox_and_every_file_by_hash() -> None:
    locked = {item.requirement.name: item for item in read_tool_lock()}
    assert {"nox", "uv", "typer", "pip", "virtualenv"} <= set(locked)
    assert all(item.hashes and item.version for item in locked.values())


def test_a_release_without_a_hash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pins no file of nox==1"):
        read_tool_lock(lock(tmp_path, "nox==1\n"))


def test_every_locked_file_that_the_targets_python_accepts_is_taken(tmp_path: Path) -> None:
    """A system with another glibc may prefer another of them."""
    names = (
        "thing-1.tar.gz", "thing-1-py3-none-any.whl", "thing-1-cp312-cp312-manylinux_2_28_x86_64.whl",
        "thing-1-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "thing-1-cp312-cp312-manylinux_2_99_x86_64.whl",
        "thing-1-cp311-cp311-manylinux_2_28_x86_64.whl", "thing-1-cp312-cp312t-manylinux_2_28_x86_64.whl",
        "thing-1-cp312-cp312-musllinux_1_2_x86_64.whl", "thing-1-cp312-cp312-manylinux_2_28_aarch64.whl",
        "thing-1-cp312-cp312-win_amd64.whl", "thing-2-cp312-cp312-manylinux_2_28_x86_64.whl",
        "other-1-cp312-cp312-manylinux_2_28_x86_64.whl",
    )  # fmt: skip
    listed = [(name, "", sha256(name.encode())) for name in names]
    locked = read_tool_lock(lock(tmp_path, "thing==1" + "".join(f" --hash=sha256:{row[2]}" for row in listed)))
    files = list(tool_files(locked, TARGET, lambda _: listed, lambda _: {names[1]: 7}))
    assert [file.filename for file in files] == [*names[1:5]]
    assert [file.size for file in files] == [7, 0, 0, 0]


def test_what_any_patch_release_of_the_targets_python_needs_is_taken(tmp_path: Path) -> None:
    """Locks tell 3.11.2 and 3.11.7 apart."""
    digest = "0" * 64
    markers = {
        "always": "", "early": " ; python_full_version < '3.12.3'", "late": " ; python_full_version >= '3.12.5'",
        "older": " ; python_full_version < '3.12'", "windows": " ; sys_platform == 'win32'",
        "newer": " ; python_version >= '3.13'",
    }  # fmt: skip
    text = "\n".join(f"{name}==1{marker} --hash=sha256:{digest}" for name, marker in markers.items())
    locked = read_tool_lock(lock(tmp_path, text))

    def listing(project: str) -> list[tuple[str, str, str]]:
        return [(f"{project}-1-py3-none-any.whl", "", digest)]

    assert [f.project for f in tool_files(locked, TARGET, listing, no_sizes)] == ["always", "early", "late"]
    newer = TARGET._replace(python="3.13")
    assert [f.project for f in tool_files(locked, newer, listing, no_sizes)] == ["always", "late", "newer"]


def test_a_file_with_another_hash_is_none_of_the_locks(tmp_path: Path) -> None:
    locked = read_tool_lock(lock(tmp_path, f"thing==1 --hash=sha256:{'0' * 64}\n"))
    listed = [("thing-1-py3-none-any.whl", "", "1" * 64)]
    with pytest.raises(FileMissingError, match=r"No locked file of thing 1 is there for Python 3\.12"):
        list(tool_files(locked, TARGET, lambda _: listed, no_sizes))


def test_a_folder_of_files_tells_no_hashes_so_they_are_computed(tmp_path: Path) -> None:
    path = tmp_path / "thing-1-py3-none-any.whl"
    path.write_bytes(b"thing")
    locked = read_tool_lock(lock(tmp_path, f"thing==1 --hash=sha256:{sha256(b'thing')}\n"))
    (file,) = tool_files(locked, TARGET, lambda _: [(path.name, path.as_uri(), "")], no_sizes)
    assert file.sha256 == sha256(b"thing")


def test_pythons_are_those_that_the_locks_have_wheels_for() -> None:
    assert fetch.parse_pythons(["3.12", "3.10", "3.12"]) == ("3.12", "3.10")
    assert fetch.parse_pythons(None) == (f"{sys.version_info[0]}.{sys.version_info[1]}",)
    with pytest.raises(ConfigurationError, match=r"--python 3\.9"):
        fetch.parse_pythons(["3.9"])
    assert [f"cp{python.replace('.', '')}" for python in fetch.PYTHONS] == [p for p in PYTHONS if p.startswith("cp")]


# --- what a build downloads ------------------------------------------------------------------------------


@pytest.mark.parametrize("python", fetch.PYTHONS)
def test_each_python_of_the_locks_has_files_for_a_build(python: str) -> None:
    files = list(build_files(CELL, ingredient_choices(CELL)[0], Target(python, "linux-x86_64")))
    numpy = [file.filename for file in files if file.project == "numpy"]
    assert [f"cp{python.replace('.', '')}" in name for name in numpy] == [True]


@pytest.mark.parametrize("cuda", ["13.0", "12.4", "11.8"])
def test_a_build_and_its_verification_need_sources_toolkit_environment_sysroot_and_runtime(cuda: str) -> None:
    cell = msgspec.structs.replace(CELL, cuda=cuda)
    for choice in ingredient_choices(cell):
        files = list(build_files(cell, choice, HERE))
        assert {*choice.toolkit, *choice.environment, *choice.sysroot, choice.sdist} <= set(files)
        projects = {file.project for file in files}
        locked = {package.project for package in read_lock(f"cuda-{cuda}").packages}
        for lock_name in ("runtime", "inspect"):
            assert set(select_wheels(read_lock(lock_name))) <= set(files)
        assert projects >= locked | {"nvidia-cuda-cuobjdump", "numpy", "cuda-pathfinder", "ziglang", "cmake"}


def test_the_cell_is_what_a_build_would_choose_where_a_compiler_is(machine: Machine) -> None:
    bare = msgspec.structs.replace(machine, compilers=(), disk_free=1)
    assert choose_cell(Request(cuda="12.4", llama="0.3.16", architectures=("89",)), bare).cuda == "12.4"
    assert choose_cell(Request(), bare).cuda == "13.0"


class Index:
    """Downloads that answer from a table, or fail for an origin."""

    def __init__(self, away: tuple[Origin, ...] = ()) -> None:
        self.away = away

    def fetch(self, files: Sequence[Component], what: str) -> list[Path]:
        if any(file.origin in self.away for file in files):
            raise ArchiveUnreachableError("It is out of reach.", "Try later.")
        return [Path(file.filename) for file in files]


def test_the_next_source_is_taken_where_the_first_is_out_of_reach() -> None:
    cell = msgspec.structs.replace(CELL, cuda="12.4")
    index = Index(away=("redist",))
    files = cell_files(in_context(None, downloads=index), cell, [HERE], lambda files: index.fetch(files, ""))  # type: ignore[arg-type]
    assert {file.origin for file in files} == {"index", "debian"}
    nothing = Index(away=("redist", "debian"))
    with pytest.raises(ArchiveUnreachableError):
        cell_files(in_context(None, downloads=nothing), cell, [HERE], lambda files: nothing.fetch(files, ""))  # type: ignore[arg-type]


# --- the folder ------------------------------------------------------------------------------------------

FILES = {"index": b"a wheel", "redist": b"an archive", "debian": b"a package"}


def components() -> list[Component]:
    paths = {"redist": "cuda_nvcc/linux-x86_64/x.tar.xz", "debian": "pool/non-free/n/x_1~2-3_amd64.deb"}
    return [
        Component(
            project="thing",
            version="1",
            filename=paths.get(origin, "thing-1-py3-none-any.whl").rpartition("/")[2],
            sha256=sha256(data),
            size=len(data),
            origin=origin,  # type: ignore[arg-type]
            path=paths.get(origin, ""),
        )
        for origin, data in FILES.items()
    ]


@pytest.fixture
def origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IndexConfiguration:
    """All three origins, as folders."""
    root = tmp_path / "ori gins"
    for file, data in zip(components(), FILES.values(), strict=True):
        path = root / origin_of(file).place(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    monkeypatch.setenv("BUILD_MATRIX_REDIST", (root / "redist").as_uri())
    monkeypatch.setenv("BUILD_MATRIX_DEBIAN", (root / "debian").as_uri())
    return IndexConfiguration(endpoints=(), find_links=(str(root),))


def test_the_folder_serves_as_find_links_and_as_mirror_of_both_archives(
    origins: IndexConfiguration,
    store: Store,
    reporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
) -> None:
    folder = tmp_path / "carried"
    put(components(), folder, Downloads(store, reporter, origins))
    monkeypatch.setenv("BUILD_MATRIX_REDIST", (folder / "redist").as_uri())
    monkeypatch.setenv("BUILD_MATRIX_DEBIAN", (folder / "debian").as_uri())
    links = IndexConfiguration(endpoints=(), find_links=(str(folder),))
    paths = Downloads(Store(tmp_path / "another"), reporter, links).fetch(components(), "all")
    assert [path.read_bytes() for path in paths] == list(FILES.values())


def test_what_is_in_the_folder_is_kept_and_what_was_damaged_is_written_again(
    origins: IndexConfiguration,
    store: Store,
    reporter,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    folder = tmp_path / "carried"
    downloads = Downloads(store, reporter, origins)
    put(components(), folder, downloads)
    first, *others = (folder / origin_of(file).place(file) for file in components())
    os.utime(others[0], (1, 1))
    first.write_bytes(b"damaged")
    put(components(), folder, downloads)
    assert first.read_bytes() == FILES["index"]
    assert others[0].stat().st_mtime == 1
    lines = [line.split("  ", 1) for line in (folder / SUMS).read_text().splitlines()]
    assert [digest for digest, name in lines if file_sha256(folder / name) == digest] == [
        f.sha256 for f in components()
    ]


def test_the_variables_to_set_are_named_for_what_is_there(reporter, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "a folder"
    for file in components()[:2]:
        (folder / origin_of(file).place(file)).parent.mkdir(parents=True, exist_ok=True)
        (folder / origin_of(file).place(file)).write_bytes(b"x")
    fetch.explain(components()[:2], folder, reporter)
    text = "\n".join(reporter.lines)
    assert f"PIP_NO_INDEX=1 PIP_FIND_LINKS='{folder}'" in text
    assert f"BUILD_MATRIX_REDIST=file://{tmp_path!s}/a%20folder/redist" in text
    assert "BUILD_MATRIX_DEBIAN" not in text


def test_a_row_tells_what_a_file_is_where_it_comes_from_and_where_it_lies() -> None:
    rows = [fetch.row(file) for file in components()]
    assert [(row.origin, row.purl) for row in rows] == [
        ("index", "pkg:pypi/thing@1"),
        ("redist", "pkg:generic/nvidia/thing@1?file_name=x.tar.xz"),
        ("debian", "pkg:deb/debian/thing@1?arch=amd64"),
    ]
    assert [row.place for row in rows] == [
        "thing-1-py3-none-any.whl",
        "redist/cuda_nvcc/linux-x86_64/x.tar.xz",
        "debian/pool/non-free/n/x_1~2-3_amd64.deb",
    ]


def test_without_a_folder_the_command_asks_for_one(tmp_path: Path) -> None:
    done = run_tool(("fetch",), os.environ | {"BUILD_MATRIX_STORE": str(tmp_path / "store")})
    assert (done.returncode, "No folder is named" in done.stderr) == (2, True)


def test_a_list_is_printed_without_downloading_anything(
    origins: IndexConfiguration, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch.print_files(components())
    text = capsys.readouterr().out
    assert all(sha256(data) in text for data in FILES.values())
    assert "3 files" in text
