"""Wheels are labelled in every place, written the same way every time, and clean."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_matrix.errors import VerificationError
from build_matrix.model import Architecture, Cell, parse_label
from build_matrix.platforms import find_platform
from build_matrix.verify.static import check_static
from build_matrix.wheel.hygiene import check_members
from build_matrix.wheelfile.archive import read_members, record_hash, relabel, write_wheel
from build_matrix.wheelfile.file import WheelFile
from wheels import METADATA, make_wheel, raw_members

LINUX = find_platform("linux-x86_64")


def results(wheel: Path) -> dict[str, bool]:
    return {check.name: check.passed for check in check_static(WheelFile(wheel), LINUX)[0]}


def test_the_label_stands_in_the_name_the_folder_and_metadata(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    assert wheel.name == "llama_cpp_python-0.3.16+cu130.sm89-py3-none-linux_x86_64.whl"
    text = read_members(wheel)["llama_cpp_python-0.3.16+cu130.sm89.dist-info/METADATA"].decode()
    head = METADATA.replace("Version: 0.3.16\n", "Version: 0.3.16+cu130.sm89\n").replace(
        "numpy>=1.20.0\n",
        "numpy>=1.20.0\nRequires-Dist: nvidia-cublas<14,>=13.1\nRequires-Dist: nvidia-cuda-runtime<14,>=13.0\n",
    )
    assert text == head
    assert results(wheel) == {
        "label": True,
        "metadata": True,
        "tags": True,
        "RECORD": True,
        "libraries": False,
        "libstdc++": True,
        "platform": False,
    }


def test_the_same_members_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    members = relabel(raw_members(), "cu130.sm89", ())
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = write_wheel(members, tmp_path / "a")
    two = write_wheel(dict(reversed(members.items())), tmp_path / "b")
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.infolist()[-1].filename.endswith("/RECORD")


@given(st.binary(max_size=200))
def test_a_hash_of_record_has_no_padding(data: bytes) -> None:
    assert record_hash(data).startswith("sha256=")
    assert not record_hash(data).endswith("=")


def test_a_wheel_that_was_only_renamed_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    renamed = wheel.rename(wheel.with_name(wheel.name.replace("cu130", "cu131")))
    assert results(renamed)["metadata"] is False


def test_another_tag_in_the_name_than_inside_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    renamed = wheel.rename(wheel.with_name(wheel.name.replace("linux_x86_64", "manylinux_2_17_x86_64")))
    assert results(renamed)["tags"] is False


def test_a_member_that_changed_after_record_was_written_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    members = read_members(wheel)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data + b" " if name.endswith("__init__.py") else data)
    assert results(wheel)["RECORD"] is False


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "llama_cpp_python-0.3.16+cu130.sm89-py3-none-linux_x86_64.whl"
    broken.write_bytes(b"PK but not really")
    checks, label = check_static(WheelFile(broken), LINUX)
    assert (checks[0].passed, label) == (False, None)
    other = tmp_path / "not a wheel name.whl"
    other.write_bytes(b"")
    assert check_static(WheelFile(other), LINUX)[0][0].passed is False


def test_a_wheel_without_a_label_is_not_claimed_to_be_anything(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, label="cpu")
    assert results(wheel)["label"] is False


@given(
    st.sampled_from(["13.0", "13.5", "12.8"]),
    st.lists(st.sampled_from(["75", "89", "120a", "90-virtual"]), min_size=1, unique=True),
    st.sampled_from(["release", "check"]),
)
def test_a_label_says_what_its_cell_is(cuda: str, archs: list[str], profile: str) -> None:
    cell = Cell(
        llama="1",
        cuda=cuda,
        architectures=tuple(Architecture.parse(a) for a in archs),
        platform="linux-x86_64",
        profile=profile,  # type: ignore[arg-type]
    )
    label = parse_label(cell.label)
    assert label is not None
    assert label.cuda == cuda
    assert set(label.codes) == {Architecture.parse(a).label for a in archs}


def test_files_outside_the_package_are_refused() -> None:
    members = relabel(raw_members(), "cu130.sm89", ())
    check_members(members, {}, ())
    with pytest.raises(VerificationError, match=r"lib/libx\.so would land outside"):
        check_members(members | {"lib/libx.so": b""}, {}, ())


def test_a_path_of_the_building_machine_is_refused() -> None:
    members = relabel(raw_members(), "cu130.sm89", ())
    members["llama_cpp/extra.py"] = b"# built in /home/someone/store"
    with pytest.raises(VerificationError, match=r"extra\.py contains a path"):
        check_members(members, {}, ("/home/someone/",))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "name", ["../escaped.py", "/absolute.py", "a\\b.py", "llama_cpp/twice.py", "llama_cpp/TWICE.py"]
)
def test_a_wheel_with_an_unsafe_name_or_two_files_in_one_place_is_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("llama_cpp/twice.py", "one")
        info = zipfile.ZipInfo("x")
        info.filename = name
        archive.writestr(info, "two")
    with pytest.raises(VerificationError, match="unsafe or duplicate name"):
        read_members(path)


def test_a_member_that_is_damaged_or_encrypted_makes_it_no_wheel(tmp_path: Path) -> None:
    path = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("llama_cpp/a.py", "text " * 100)
    whole = path.read_bytes()
    for at, value in ((38, 0xFF), (6, 1)):  # the compressed data; the flag of encryption, here and in the directory
        data = bytearray(whole)
        data[at] = value
        if at == 6:
            data[data.index(b"PK\1\2") + 8] = value
        path.write_bytes(data)
        with pytest.raises(VerificationError, match="is not a wheel"):
            read_members(path)


def test_a_wheel_has_one_record_also_when_it_had_one_before(tmp_path: Path) -> None:
    path = write_wheel(raw_members(), tmp_path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert [name for name in names if name.endswith("/RECORD")] == [names[-1]]
    assert results(path)["RECORD"]
