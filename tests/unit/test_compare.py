"""Where two wheels differ, to the byte, for libraries that no compiler made."""

from __future__ import annotations

from pathlib import Path

import pytest
from elf import ADDRESS, make_elf

from build_matrix.model import Difference
from build_matrix.process.runner import Completed
from build_matrix.reproduce import compare, compare_wheels, full_report
from build_matrix.wheelfile.sections import Section, Symbol
from wheels import make_wheel

BASE = {".text": b"\1\2\3\4", ".rodata": b"one text\0another text\0"}
NAME = "llama_cpp/lib/libx.so"


def wheel(folder: Path, data: bytes, **options: str) -> Path:
    return make_wheel(folder, {"libx.so": data}, **options)  # type: ignore[arg-type]


def differences(tmp_path: Path, one: bytes, other: bytes) -> list[Difference]:
    found = compare_wheels(wheel(tmp_path / "a", one), wheel(tmp_path / "b", other))
    assert [item.part for item in found if item.member.endswith("/RECORD")] == (["text"] if one != other else [])
    return [item for item in found if not item.member.endswith("/RECORD")]


def library(**changes: bytes) -> bytes:
    return make_elf(BASE | {f".{name}": content for name, content in changes.items()})


def test_the_same_libraries_do_not_differ(tmp_path: Path) -> None:
    assert differences(tmp_path, library(), library()) == []


def test_wheels_of_the_same_members_under_two_names_differ_by_their_names(tmp_path: Path) -> None:
    one = wheel(tmp_path / "a", b"x")
    other = tmp_path / "b" / one.name.replace("cu130", "cu131")
    other.parent.mkdir()
    other.write_bytes(one.read_bytes() + b"\0")
    (found,) = compare_wheels(one, other)
    assert found == Difference(member="", part="file name", detail=f"{one.name} | {other.name}")


def test_the_same_bytes_under_two_names_do_not_differ(tmp_path: Path) -> None:
    one = wheel(tmp_path / "a", b"x")
    copy = tmp_path / "copy.whl"
    copy.write_bytes(one.read_bytes())
    assert compare_wheels(one, copy) == ()


@pytest.mark.parametrize(("first", "second", "only"), [({}, {"new": b"x"}, "second"), ({"new": b"x"}, {}, "first")])
def test_a_section_that_only_one_library_has_is_named(
    tmp_path: Path, first: dict[str, bytes], second: dict[str, bytes], only: str
) -> None:
    found = {item.part: item for item in differences(tmp_path, library(**first), library(**second))}
    assert found[".new"] == Difference(member=NAME, part=".new", detail=f"only in the {only}")
    assert set(found) == {".new", ".shstrtab"}


def test_bytes_that_differ_are_counted_and_the_first_is_located(tmp_path: Path) -> None:
    (found,) = differences(tmp_path, library(), library(text=b"\1\2\x83\x84"))
    assert found == Difference(member=NAME, part=".text", detail="2 of 4 bytes, the first at 0x2")
    (found,) = differences(tmp_path / "longer", library(), library(text=b"\1\2\3\4\5"))
    assert (found.part, found.detail) == (".text", "0 of 4 | 5 bytes, the first at 0x4")


def test_sections_are_named_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = differences(tmp_path, library(), library(rodata=b"x" * 22, text=b"abcd"))
    assert [item.part for item in found] == [".text", ".rodata"]


def test_texts_that_only_one_side_has_are_shown_five_at_most_and_not_whole(tmp_path: Path) -> None:
    texts = [b"letter %c alone" % letter for letter in b"abcdefg"]
    long = b"z" * 200
    (found,) = differences(
        tmp_path, library(rodata=b"\0".join(texts)), library(rodata=b"\0".join([texts[0], long, b"four"]))
    )
    words = found.detail.split("; ")
    only = ", ".join(repr(text.decode()) for text in texts[1:6])
    assert words[1:] == [f"only in the first: {only} and 1 more", f"only in the second: '{'z' * 120}'"]


def test_five_texts_are_shown_without_counting_further_ones(tmp_path: Path) -> None:
    texts = b"\0".join(b"letter %c alone" % letter for letter in b"abcde")
    (found,) = differences(tmp_path, library(rodata=b""), library(rodata=texts))
    assert found.detail.count("alone") == 5
    assert "more" not in found.detail
    assert "only in the first" not in found.detail


def test_the_symbol_that_holds_the_first_difference_is_named() -> None:
    def described(*symbols: tuple[str, int, int], address: int = ADDRESS) -> str:
        one, other = (Section(name=".data", address=address, content=data) for data in (b"\1\2\3\4", b"\1\2\xff\4"))
        exported = [Symbol(name=name, address=value, size=size) for name, value, size in symbols]
        return compare._describe(one, other, exported)

    at = ADDRESS + 2
    plain = "1 of 4 bytes, the first at 0x2"
    assert described() == plain
    assert described(("before", at - 1, 1), ("in", at, 1), ("again", at, 1), ("after", at + 1, 1)) == f"{plain}; in in"
    assert described(("whole", ADDRESS, 3)) == f"{plain}; in whole"
    assert described(("short", ADDRESS, 2)) == plain
    assert described(("unloaded", 0, 100), address=0) == plain


def test_a_build_id_alone_is_explained_and_with_others_it_is_not(tmp_path: Path) -> None:
    def with_id(content: bytes, text: bytes = b"\1") -> bytes:
        return make_elf({".note.gnu.build-id": content, ".text": text})

    (found,) = differences(tmp_path / "1", with_id(b"\1"), with_id(b"\2"))
    assert found.detail == f"1 of 1 bytes, the first at 0x0; {compare.STRIPPED}"
    both = differences(tmp_path / "2", with_id(b"\1"), with_id(b"\2", b"\2"))
    assert [item.part for item in both] == [".note.gnu.build-id", ".text"]
    assert compare.STRIPPED not in str(both)


def test_a_library_that_differs_outside_its_sections_or_is_none_differs_as_text(tmp_path: Path) -> None:
    base = library()
    padded = base[:9] + b"\1" + base[10:]  # padding of the header, which no section holds
    (found,) = differences(tmp_path / "1", base, padded)
    assert found.part == "text"
    (found,) = differences(tmp_path / "2", base, b"no library")
    assert found.part == "text"


def test_lines_that_differ_are_shown_and_otherwise_the_sizes(tmp_path: Path) -> None:
    (found,) = differences(tmp_path / "1", b"same\nthis\nlast\n", b"same\nthat\nother\n")
    assert found == Difference(member=NAME, part="text", detail="this | that")
    (found,) = differences(tmp_path / "2", b"same\n", b"same\nmore\n")
    assert found.detail == "5 | 10 bytes"
    (found,) = differences(tmp_path / "3", b"a" * 200, b"\xff" * 3)
    assert found.detail == "a" * 120 + " | " + "\ufffd" * 3


def test_members_are_named_in_order_and_those_of_one_side_by_it(tmp_path: Path) -> None:
    one = make_wheel(tmp_path / "a", {"b.txt": b"1", "c.txt": b""})
    other = make_wheel(tmp_path / "b", {"a.txt": b"", "b.txt": b"2"})
    found = [(item.member.rpartition("/")[2], item.part, item.detail) for item in compare_wheels(one, other)]
    assert found[:3] == [
        ("a.txt", "", "only in the second"),
        ("b.txt", "text", "1 | 2"),
        ("c.txt", "", "only in the first"),
    ]


def test_diffoscope_reports_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(argv: list[object], **options: object) -> Completed:
        asked.append((argv, options))
        return Completed([], 1, ["they", "differ"], timed_out=False)

    monkeypatch.setattr(compare, "run", run)
    monkeypatch.setattr(compare.shutil, "which", lambda name: f"/usr/bin/{name}")
    one, other = tmp_path / "one.whl", tmp_path / "two.whl"
    assert full_report(one, other) == "they\ndiffer"
    ((argv, options),) = asked
    assert argv == ["/usr/bin/diffoscope", "--text", "-", one, other]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(tmp_path)}
    assert options == {"env": environment, "timeout": 1800}
    monkeypatch.setattr(compare.shutil, "which", lambda _: None)
    assert full_report(one, other) == ""
    assert len(asked) == 1
