"""A wheel is one object: each part of it is read when it is needed, and once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lief
import pytest
from elf import make_elf

from build_matrix.errors import VerificationError
from build_matrix.model import SystemNeeds, file_sha256
from build_matrix.platforms import find_platform, manylinux
from build_matrix.verify.static import check_static
from build_matrix.wheelfile import file
from build_matrix.wheelfile.archive import dist_info_folder
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.metadata import read_dist_info
from build_matrix.wheelfile.name import parse_wheel_name
from build_matrix.wheelfile.native import platform_of
from build_matrix.wheelfile.sections import Section, Symbol, read_layout
from wheels import make_wheel, raw_members

LIBRARIES = {f"lib{name}.so": make_elf({".text": name.encode()}) for name in ("a", "b", "c")}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each costly thing is done."""
    counter: Counter[str] = Counter()

    def count(place: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(place, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            counter[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(place, name, counted)

    count(file, "read_members")
    count(file, "file_sha256")
    count(lief.ELF, "parse")
    return counter


def test_nothing_is_read_before_it_is_needed(tmp_path: Path, calls: Counter[str]) -> None:
    wheel = WheelFile(make_wheel(tmp_path, LIBRARIES))
    assert str(wheel.name.version) == "0.3.16+cu130.sm89"
    assert wheel.label
    assert wheel.label.text == "cu130.sm89"
    assert not calls


def test_everything_is_read_once_whoever_asks_for_it(tmp_path: Path, calls: Counter[str]) -> None:
    wheel = WheelFile(make_wheel(tmp_path, LIBRARIES))
    for _ in range(3):
        assert set(wheel.libraries) == {f"llama_cpp/lib/{name}" for name in LIBRARIES}
        assert wheel.dist_info.folder == "llama_cpp_python-0.3.16+cu130.sm89.dist-info"
        assert len(wheel.members) == 8
        assert wheel.sha256 == file_sha256(wheel.path)
    assert calls == {"read_members": 1, "file_sha256": 1, "parse": len(LIBRARIES)}


def test_a_static_check_parses_each_library_once(
    tmp_path: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = SystemNeeds(tag="linux_x86_64", symbols={})
    monkeypatch.setattr(manylinux, "read_system_needs", lambda *_: needs)
    checks, _ = check_static(WheelFile(make_wheel(tmp_path, LIBRARIES)), find_platform("linux-x86_64"))
    assert {"RECORD", "libraries", "libstdc++", "platform"} <= {check.name for check in checks}
    assert calls == {"read_members": 1, "parse": len(LIBRARIES)}


def test_members_are_let_go_and_what_follows_from_them_stays(tmp_path: Path, calls: Counter[str]) -> None:
    wheel = WheelFile(make_wheel(tmp_path, LIBRARIES))
    libraries, info = wheel.libraries, wheel.dist_info
    wheel.release_members()
    assert (wheel.libraries, wheel.dist_info) == (libraries, info)
    assert calls["read_members"] == 1
    assert wheel.members
    assert calls["read_members"] == 2
    WheelFile(wheel.path).release_members()


def test_a_file_that_has_no_name_of_a_wheel_claims_nothing_and_says_why(tmp_path: Path) -> None:
    wheel = WheelFile(tmp_path / "no name.whl")
    assert wheel.label is None
    with pytest.raises(VerificationError, match="no name"):
        assert wheel.name


def test_a_name_is_taken_apart(tmp_path: Path) -> None:
    name = parse_wheel_name(
        "Llama.CPP_python-0.3.16+cu130.sm89-py3-none-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"
    )
    assert (name.project, str(name.version), name.version.local) == (
        "llama-cpp-python",
        "0.3.16+cu130.sm89",
        "cu130.sm89",
    )
    assert name.platforms == {"manylinux_2_27_x86_64", "manylinux_2_28_x86_64"}
    assert {str(tag) for tag in name.tags} == {f"py3-none-{platform}" for platform in name.platforms}
    plain = parse_wheel_name("numpy-2.0.0-cp311-cp311-linux_x86_64.whl")
    assert (plain.project, plain.label) == ("numpy", None)


def test_a_dist_info_folder_is_read_whole() -> None:
    members = raw_members() | {
        "llama_cpp_python-0.3.16.dist-info/RECORD": b"llama_cpp/__init__.py,sha256=x,1\nodd,row\n\n"
    }
    info = read_dist_info(members)
    assert info.folder == "llama_cpp_python-0.3.16.dist-info"
    assert (info.names, info.versions) == ({"llama-cpp-python"}, {"0.3.16"})
    assert info.tags == {"py3-none-linux_x86_64"}
    assert info.requirements == {"numpy"}
    assert info.hashes == {"llama_cpp/__init__.py": "sha256=x"}


def test_a_file_that_is_missing_in_dist_info_says_nothing() -> None:
    info = read_dist_info({"x-1.dist-info/other": b""})
    assert (info.names, info.versions) == ({"x", ""}, {"1", ""})
    assert (info.tags, info.requirements, info.hashes) == (frozenset(), frozenset(), {})


def test_the_layout_of_a_library_is_its_sections_and_of_anything_else_nothing() -> None:
    layout = read_layout(make_elf({".text": b"code", ".rodata": b"text"}))
    assert layout
    assert list(layout.sections)[-3:] == [".text", ".rodata", ".shstrtab"]
    assert layout.sections[".rodata"] == Section(name=".rodata", address=0x1004, content=b"text")
    assert layout.symbols == ()
    assert read_layout(b"no library") is None


def test_the_exported_symbols_of_a_library_have_their_address_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    exported = [SimpleNamespace(name="one", value=16, size=4), SimpleNamespace(name="two", value=20, size=8)]
    monkeypatch.setattr(lief.ELF, "parse", lambda _: SimpleNamespace(sections=[], exported_symbols=exported))
    layout = read_layout(b"\x7fELF")
    assert layout
    assert layout.symbols == (Symbol(name="one", address=16, size=4), Symbol(name="two", address=20, size=8))


@pytest.mark.parametrize(("names", "count"), [((), 0), (("a-1.dist-info/WHEEL", "b-1.dist-info/WHEEL"), 2)])
def test_a_wheel_has_one_dist_info_folder(names: tuple[str, ...], count: int) -> None:
    with pytest.raises(VerificationError, match=f"^The wheel has {count} .dist-info folders instead of one"):
        dist_info_folder(dict.fromkeys(names, b""))


@pytest.mark.parametrize(
    ("start", "platform"),
    [
        (b"MZ", "Windows"),
        (b"\xcf\xfa\xed\xfe", "macOS"),
        (b"\xca\xfe\xba\xbe", "macOS"),
        (b"version https://git-lfs", "nothing: it is a pointer of Git LFS, not the file"),
        (b"text", "nothing: it is no library"),
    ],
)
def test_a_file_that_is_no_elf_is_told_by_its_first_bytes(tmp_path: Path, start: bytes, platform: str) -> None:
    (tmp_path / "x").write_bytes(start + b"and more")
    assert platform_of(tmp_path / "x") == (platform, False)
