"""Sources are unpacked safely, patched exactly, and asked which options they have."""

from __future__ import annotations

import io
import stat
import tarfile
from pathlib import Path

import msgspec
import pytest
from contexts import in_context

from build_matrix.errors import ConfigurationError, PatchError, UnknownOptionError, UnsafeArchiveError
from build_matrix.model import Component, SourceTree, file_sha256
from build_matrix.source import (
    apply_patch,
    check_defines,
    check_values,
    declared_options,
    declared_switches,
    patches_for,
    prepare_source,
    read_headers,
    unpack,
)
from build_matrix.store import Store

HEADER = "Purpose: test\nVersions: ==1.0\nUpstream: none\n\n"
TEXT = "one\ntwo\nthree\nfour\nfive\n"
DIFF = "--- a/file\n+++ b/file\n@@ -1,5 +1,5 @@\n one\n two\n-three\n+THREE\n four\n five\n"


def archive(path: Path, members: dict[str, bytes], extra: list[tarfile.TarInfo] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in extra or []:
            tar.addfile(info)
    return path


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.SYMTYPE
    info.linkname = target
    return info


def fifo(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.FIFOTYPE
    return info


def test_an_sdist_is_unpacked_without_gits_folders(tmp_path: Path) -> None:
    sdist = archive(tmp_path / "a.tar.gz", {"a-1/pyproject.toml": b"", "a-1/.git/HEAD": b"ref"})
    top = unpack(sdist, _folder(tmp_path))
    assert sorted(p.name for p in top.iterdir()) == ["pyproject.toml"]


@pytest.mark.parametrize(("mode", "expected"), [(0o755, 0o755), (0o700, 0o755), (0o644, 0o644), (0o666, 0o644)])
def test_a_file_of_an_sdist_keeps_its_date_and_whether_it_can_be_run(tmp_path: Path, mode: int, expected: int) -> None:
    info = tarfile.TarInfo("a-1/tool")
    info.mode, info.mtime = mode, 1_600_000_000
    top = unpack(archive(tmp_path / "a.tar.gz", {"a-1/pyproject.toml": b""}, [info]), _folder(tmp_path))
    status = (top / "tool").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (expected, 1_600_000_000)


def test_folders_of_an_sdist_are_made_whether_it_lists_them_or_not(tmp_path: Path) -> None:
    listed = tarfile.TarInfo("a-1/empty")
    listed.type = tarfile.DIRTYPE
    members = {"a-1/pyproject.toml": b"", "a-1/deep/er/file": b"content"}
    top = unpack(archive(tmp_path / "a.tar.gz", members, [listed]), _folder(tmp_path))
    assert (top / "empty").is_dir()
    assert (top / "deep/er/file").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("members", "extra"),
    [
        ({"a-1/pyproject.toml": b"", "a-1/../../escaped": b"x"}, []),
        ({"a-1/pyproject.toml": b""}, [link("a-1/link", "../../../etc")]),
        ({"a-1/pyproject.toml": b""}, [link("a-1/link", "/etc/passwd")]),
        ({"a-1/pyproject.toml": b"", "/a-1/escaped": b"x"}, []),
        ({"a-1/pyproject.toml": b""}, [fifo("a-1/pipe")]),
    ],
)
def test_a_member_that_escapes_is_refused(
    tmp_path: Path, members: dict[str, bytes], extra: list[tarfile.TarInfo]
) -> None:
    with pytest.raises(UnsafeArchiveError, match=r"a\.tar\.gz contains a (member|link) that") as caught:
        unpack(archive(tmp_path / "a.tar.gz", members, extra), _folder(tmp_path))
    assert caught.value.exit_code == 5
    assert not (tmp_path / "escaped").exists()


def test_what_is_no_sdist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(UnsafeArchiveError, match="cannot be unpacked"):
        unpack(tmp_path / "broken.tar.gz", _folder(tmp_path))
    with pytest.raises(UnsafeArchiveError, match="not an sdist"):
        unpack(archive(tmp_path / "two.tar.gz", {"a/x": b"", "b/x": b""}), _folder(tmp_path, "other"))


class Downloads:
    """Gives one archive; counts how often it is asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.asked: list[tuple[list[Component], str]] = []

    def fetch(self, files: list[Component], what: str) -> list[Path]:
        self.asked.append((files, what))
        return [self._path]


def test_sources_are_unpacked_patched_in_order_and_asked_for_their_options(tmp_path: Path, store: Store) -> None:
    members = {"a-1/pyproject.toml": b"", "a-1/file": TEXT.encode(), "a-1/CMakeLists.txt": b"option(GGML_ONE x)"}
    downloads = Downloads(archive(tmp_path / "a.tar.gz", members))
    sdist = Component(project="llama-cpp-python", version="1.0", filename="a.tar.gz", sha256="0" * 64)
    patches = _folder(tmp_path, "patches")
    second = DIFF.replace("-three", "-THREE").replace("+THREE", "+THIRD")
    (patches / "0001.patch").write_text(HEADER + DIFF)
    (patches / "0002.patch").write_text(HEADER + second)

    def prepare() -> SourceTree:
        return prepare_source(in_context(store, downloads=downloads), sdist, patches)  # type: ignore[arg-type]

    tree = prepare()
    assert (tree.root / "file").read_text() == TEXT.replace("three", "THIRD")
    assert (tree.llama, tree.sdist, tree.options) == ("1.0", sdist, ("GGML_ONE",))
    assert [(patch.name, patch.sha256) for patch in tree.patches] == [
        (name, file_sha256(patches / name)) for name in ("0001.patch", "0002.patch")
    ]
    assert downloads.asked == [([sdist], "llama-cpp-python 1.0")]
    assert prepare() == tree
    assert len(downloads.asked) == 1, "kept in the store"
    (patches / "0002.patch").unlink()
    fewer = prepare()
    assert fewer.digest != tree.digest
    assert (fewer.root / "file").read_text() == TEXT.replace("three", "THREE")
    assert len(downloads.asked) == 2
    moved = msgspec.structs.replace(sdist, origin="redist", path="elsewhere")
    assert prepare_source(in_context(store, downloads=downloads), moved, patches).digest == fewer.digest  # type: ignore[arg-type]
    assert len(downloads.asked) == 2, "the same file from another place"
    other = msgspec.structs.replace(sdist, sha256="1" * 64)
    prepare_source(in_context(store, downloads=downloads), other, patches)  # type: ignore[arg-type]
    assert len(downloads.asked) == 3, "another file"


def test_a_patch_of_several_hunks_leaves_what_is_between_and_after_them(tmp_path: Path) -> None:
    lines = [f"line {number}\n" for number in range(1, 21)]
    diff = (
        "--- a/file\n+++ b/file\n@@ -2,3 +2,2 @@\n line 2\n-line 3\n line 4\n"
        "@@ -10,2 +9,4 @@\n line 10\n+new\n+newer\n line 11\n"
    )
    tree = _tree(tmp_path, "".join(lines))
    apply_patch(_patch(tmp_path, diff), tree)
    expected = [*lines[:2], *lines[3:10], "new\n", "newer\n", *lines[10:]]
    assert (tree / "file").read_text() == "".join(expected)


def test_hunks_that_overlap_are_refused(tmp_path: Path) -> None:
    hunk = "@@ -1,2 +1,2 @@\n one\n-two\n+TWO\n"
    with pytest.raises(PatchError, match="does not apply to file at line 1"):
        apply_patch(_patch(tmp_path, f"--- a/file\n+++ b/file\n{hunk}{hunk}"), _tree(tmp_path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", r"test\.patch changes nothing"), ("--- a/f\n+++ b/f\n@@ -1,9 +1,9 @@\n x\n", r"is not a unified diff: ")],
)
def test_what_changes_nothing_or_is_no_diff_is_no_patch(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(PatchError, match=problem) as caught:
        apply_patch(_patch(tmp_path, text), _tree(tmp_path))
    assert caught.value.remedy == "Write it with `diff -u`."


def test_a_header_may_go_on_in_indented_lines_and_ends_where_the_diff_begins(tmp_path: Path) -> None:
    path = tmp_path / "a.patch"
    path.write_text("Purpose: one\n two: three\nplain\nVersions: ==1\nUpstream: none\n--- a/x\nMore: no\n")
    assert read_headers(path) == {"Purpose": "one two: three", "Versions": "==1", "Upstream": "none"}
    path.write_text("Purpose: one\nVersions:\nUpstream: none\n")
    with pytest.raises(PatchError, match=r"a\.patch has no header Versions"):
        read_headers(path)


def test_a_patch_is_applied_as_it_is_written(tmp_path: Path) -> None:
    apply_patch(_patch(tmp_path, DIFF), _tree(tmp_path))
    assert (tmp_path / "tree" / "file").read_text() == TEXT.replace("three", "THREE")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("zero\n" + TEXT, id="offset"),
        pytest.param(TEXT.replace("two", "TWO"), id="fuzz"),
        pytest.param("one\n", id="shorter"),
    ],
)
def test_a_patch_that_needs_offset_or_fuzz_is_refused_and_changes_nothing(tmp_path: Path, text: str) -> None:
    tree = _tree(tmp_path, text)
    with pytest.raises(PatchError, match="does not apply to file at line 1"):
        apply_patch(_patch(tmp_path, DIFF), tree)
    assert (tree / "file").read_text() == text


def test_a_patch_of_two_files_changes_both_or_none(tmp_path: Path) -> None:
    tree = _tree(tmp_path)
    second = DIFF.replace("file", "absent")
    with pytest.raises(PatchError, match="no absent"):
        apply_patch(_patch(tmp_path, DIFF + second), tree)
    assert (tree / "file").read_text() == TEXT


def test_a_patch_may_add_a_file_but_not_in_place_of_another(tmp_path: Path) -> None:
    tree = _tree(tmp_path)
    added = "--- /dev/null\n+++ b/new/file.py\n@@ -0,0 +1,2 @@\n+one\n+two\n"
    apply_patch(_patch(tmp_path, added), tree)
    assert (tree / "new" / "file.py").read_text() == "one\ntwo\n"
    with pytest.raises(PatchError, match=r"new/file\.py already exists"):
        apply_patch(_patch(tmp_path, added), tree)


def test_a_patch_cannot_leave_the_sources(tmp_path: Path) -> None:
    tree = _tree(tmp_path)
    (tmp_path / "outside").write_text(TEXT)
    with pytest.raises(PatchError, match="outside"):
        apply_patch(_patch(tmp_path, DIFF.replace("a/file", "a/../outside").replace("b/file", "b/../outside")), tree)
    assert (tmp_path / "outside").read_text() == TEXT


def test_patches_are_chosen_by_their_header_and_ordered_by_name(tmp_path: Path) -> None:
    for name, versions in (("2.patch", "==1.0"), ("1.patch", ">=0.9,<2"), ("3.patch", "==2.0")):
        (tmp_path / name).write_text(HEADER.replace("==1.0", versions) + DIFF)
    assert [p.name for p in patches_for("1.0", tmp_path)] == ["1.patch", "2.patch"]
    (tmp_path / "4.patch").write_text(HEADER.replace("==1.0", "banana") + DIFF)
    with pytest.raises(ConfigurationError, match="banana"):
        patches_for("1.0", tmp_path)
    (tmp_path / "4.patch").write_text(DIFF)
    with pytest.raises(PatchError, match="Purpose, Versions, Upstream"):
        patches_for("1.0", tmp_path)


def test_declared_options_are_read_from_all_cmake_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "CMakeLists.txt").write_text(
        'option(GGML_ONE "text" ON)\n  set (GGML_TWO "a" CACHE STRING "b")\nset(NOT_ME 1)\n'
    )
    (tmp_path / "sub" / "more.cmake").write_text('OPTION( GGML_THREE "x" OFF)\n')
    assert declared_options(tmp_path) == ("GGML_ONE", "GGML_THREE", "GGML_TWO")


def test_a_switch_is_what_every_file_declares_as_one(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "CMakeLists.txt").write_text(
        'option(GGML_ONE "text" ON)\noption(GGML_BOTH "x" ON)\nset(GGML_TWO "a" CACHE STRING "b")\n'
    )
    (tmp_path / "sub" / "more.cmake").write_text('set(GGML_BOTH "auto" CACHE STRING "b")\n')
    assert declared_switches(tmp_path) == ("GGML_ONE",)


@pytest.mark.parametrize("value", ["ON", "off", "1", "0", "Yes", "no", "TRUE", "false", "y", "N"])
def test_a_switch_is_on_or_off_as_cmake_spells_it(value: str) -> None:
    check_values({"GGML_ONE": value, "OTHER": "anything"}, ["GGML_ONE"])


@pytest.mark.parametrize("value", ["banana", "2", "ON;OFF", " on", "onn"])
def test_a_switch_that_is_neither_on_nor_off_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="is a switch"):
        check_values({"GGML_ONE": value}, ["GGML_ONE"])


def test_the_founding_storys_option_is_refused_with_its_new_name() -> None:
    with pytest.raises(UnknownOptionError) as caught:
        check_defines({"LLAMA_CUDA_F16": "on"}, ["GGML_CUDA_F16", "GGML_CUDA"], [], "0.3.16")
    assert "0.3.16 has no option LLAMA_CUDA_F16" in caught.value.problem
    assert "GGML_CUDA_F16" in caught.value.remedy
    assert caught.value.exit_code == 2


def test_an_option_that_resembles_nothing_gets_no_suggestion() -> None:
    with pytest.raises(UnknownOptionError, match="It has no similar option"):
        check_defines({"BANANA": "1"}, ["GGML_CUDA"], [], "0.3.36")


@pytest.mark.parametrize(
    ("name", "known", "remedy"),
    [
        ("LLAMA_AVX", ["GGML_AVX", "GGML_AVX2"], "The closest match is GGML_AVX."),
        ("LLAMA_AVX", ["GGML_AVX", "AAAA_AVX"], "The closest match is AAAA_AVX."),
        (
            "GGML_CUDA_FROCE_MMQ",
            ["GGML_CUDA_FORCE_MMQ", "GGML_CUDA"],
            "The closest match is GGML_CUDA_FORCE_MMQ.",
        ),
        (
            "GGMLAVX",
            ["AVX", "OTHER"],
            "It has no similar option, and CMake would silently ignore this one.",
        ),
    ],
)
def test_the_same_name_with_another_prefix_is_nearest_and_then_the_similar_one(
    name: str, known: list[str], remedy: str
) -> None:
    with pytest.raises(UnknownOptionError) as caught:
        check_defines({name: "1"}, known, [], "0.3.16")
    assert caught.value.remedy == remedy


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("CMAKE_C_FLAGS", True),
        ("CMAKE_CXX_FLAGS_RELEASE", True),
        ("CMAKE_CUDA_FLAGS", True),
        ("CMAKE_SHARED_LINKER_FLAGS_RELEASE", True),
        ("CMAKE_CUDA_FLAGS_DEBUG", False),
        ("CMAKE_EXE_LINKER_FLAGS", False),
        ("XCMAKE_C_FLAGS", False),
    ],
)
def test_flags_of_the_compilers_can_be_defined_though_no_file_declares_them(name: str, accepted: bool) -> None:
    if accepted:
        check_defines({name: "-v"}, [], [], "0.3.16")
        return
    with pytest.raises(UnknownOptionError, match=f"has no option {name}"):
        check_defines({name: "-v"}, [], [], "0.3.16")


def test_what_the_tool_chooses_itself_cannot_be_defined() -> None:
    with pytest.raises(UnknownOptionError, match="--arch"):
        check_defines({"CMAKE_CUDA_ARCHITECTURES": "90"}, [], ["CMAKE_CUDA_ARCHITECTURES"], "0.3.36")
    check_defines({"GGML_AVX512": "ON", "CMAKE_CUDA_FLAGS": "-v"}, ["GGML_AVX512"], [], "0.3.36")


def _folder(tmp_path: Path, name: str = "into") -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


def _tree(tmp_path: Path, text: str = TEXT) -> Path:
    tree = _folder(tmp_path, "tree")
    (tree / "file").write_text(text)
    return tree


def _patch(tmp_path: Path, diff: str) -> Path:
    path = tmp_path / "test.patch"
    path.write_text(HEADER + diff)
    return path
