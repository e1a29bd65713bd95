"""Each static check holds for a wheel as it is built, and fails for the one thing that is wrong. No compiler needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from build_matrix.errors import VerificationError
from build_matrix.model import Architecture, Check, SystemNeeds, parse_label
from build_matrix.platforms import Platform, find_platform, manylinux
from build_matrix.store import Store
from build_matrix.verify import static
from build_matrix.verify.static import check_static
from build_matrix.wheelfile import file
from build_matrix.wheelfile.archive import Members, read_members, write_wheel
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.native import Library
from wheels import make_wheel, raw_members, repack

LINUX = find_platform("linux-x86_64")
INFO = "llama_cpp_python-0.3.16+cu130.sm89.dist-info"
RUNPATH = ("$ORIGIN", "$ORIGIN/../../nvidia/cu13/lib")
CUDA = b"\x7fELF cuda"
BASE = b"\x7fELF base"
LIBRARIES = {
    CUDA: Library(
        soname="libggml-cuda.so",
        needed=("libggml-base.so", "libcudart.so.13", "libcublas.so.13", "libc.so.6"),
        runpath=RUNPATH,
    ),
    BASE: Library(soname="libggml-base.so", needed=("libc.so.6", "libm.so.6"), runpath=("$ORIGIN",)),
}
NEEDS = SystemNeeds(tag="manylinux_2_27_x86_64", symbols={"GLIBC": "2.27", "GLIBCXX": "3.4.22"})


class World:
    """What lief and auditwheel would say; a test changes it."""

    def __init__(self) -> None:
        self.libraries = dict(LIBRARIES)
        self.needs: SystemNeeds | Exception = NEEDS

    def read_library(self, data: bytes) -> Library | None:
        return self.libraries.get(data)

    def read_system_needs(self, wheel: Path, provided: object, architecture: str) -> SystemNeeds:
        if isinstance(self.needs, Exception):
            raise self.needs
        return self.needs


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    known = World()
    monkeypatch.setattr(file, "read_library", known.read_library)
    monkeypatch.setattr(manylinux, "read_system_needs", known.read_system_needs)
    return known


def good_wheel(folder: Path, **options: object) -> Path:
    files = {"libggml-cuda.so": CUDA, "libggml-base.so": BASE}
    return make_wheel(folder, files, **{"platform": "manylinux_2_28_x86_64"} | options)  # type: ignore[arg-type]


def checks(wheel: Path, store: Store | None = None) -> dict[str, Check]:
    found = check_static(WheelFile(wheel), LINUX, store)[0]
    assert all(isinstance(check.passed, bool) for check in found)
    return {check.name: check for check in found}


def failed(wheel: Path) -> set[str]:
    return {name for name, check in checks(wheel).items() if not check.passed}


def changed(wheel: Path, change: Callable[[Members], Members], *, record: bool = True) -> Path:
    """The wheel with other members; with a RECORD that fits them unless that is the matter."""
    return repack(wheel, change(read_members(wheel)), record=record)


def replaced(name: str, old: str, new: str) -> Callable[[Members], Members]:
    def change(members: Members) -> Members:
        text = members[f"{INFO}/{name}"].decode()
        assert old in text
        return members | {f"{INFO}/{name}": text.replace(old, new).encode()}

    return change


def test_a_wheel_as_it_is_built_passes_every_check(tmp_path: Path, world: World) -> None:
    found, label = check_static(WheelFile(good_wheel(tmp_path)), LINUX)
    names = ["label", "metadata", "tags", "RECORD", "libraries", "libstdc++", "platform"]
    assert [(check.name, check.passed) for check in found] == [(name, True) for name in names]
    details = {check.name: check.detail for check in found}
    assert details == {
        "label": "llama-cpp-python, label cu130.sm89",
        "metadata": "file name, folder and METADATA agree: ['0.3.16+cu130.sm89']",
        "tags": "file name ['py3-none-manylinux_2_28_x86_64'], WHEEL ['py3-none-manylinux_2_28_x86_64']",
        "RECORD": "7 files",
        "libraries": "2 libraries need only what is allowed",
        "libstdc++": "all use the system's",
        "platform": "needs manylinux_2_27_x86_64 (GLIBC 2.27, GLIBCXX 3.4.22)",
    }
    assert label
    assert (label.text, label.cuda, label.family, label.codes) == ("cu130.sm89", "13.0", 13, ("sm89",))
    assert label.architectures == (Architecture(number=89),)


@pytest.mark.parametrize(
    ("text", "cuda", "codes"),
    [
        ("cu124.sm89.sm80", "12.4", ("sm80", "sm89")),
        ("cu130.sm120a.ptx90.check", "13.0", ("ptx90", "sm120a")),
        ("cu118.sm90f.d12345678", "11.8", ("sm90f",)),
        ("cu130", "13.0", ()),
        ("cu130.", "13.0", ()),
        ("cu13.sm89", "13", ("sm89",)),
        ("xcu130.sm89", None, ()),
        ("rocm6", None, ()),
        ("", None, ()),
    ],
)
def test_a_label_claims_a_cuda_version_and_codes(text: str, cuda: str | None, codes: tuple[str, ...]) -> None:
    label = parse_label(text)
    assert (label.cuda if label else None) == cuda
    assert (label.codes if label else ()) == codes


def test_codes_of_a_label_are_architectures() -> None:
    label = parse_label("cu130.ptx90.sm120a.sm89")
    assert label
    assert [one.cmake for one in label.architectures] == ["90-virtual", "120a-real", "89-real"]


@pytest.mark.parametrize("label", ["cpu", "cu130", "cu130.check"])
def test_a_label_without_a_cuda_version_or_codes_fails(tmp_path: Path, world: World, label: str) -> None:
    assert "label" in failed(good_wheel(tmp_path, label=label))


def test_a_wheel_without_any_label_fails_and_its_libraries_are_not_judged(tmp_path: Path, world: World) -> None:
    members = {name: data for name, data in raw_members().items() if not name.endswith("/RECORD")}
    found, label = check_static(WheelFile(write_wheel(members, tmp_path)), LINUX)
    assert label is None
    assert [check.name for check in found] == ["label", "metadata", "tags", "RECORD"]
    assert found[0] == Check(name="label", passed=False, detail="llama-cpp-python, label (none)")


@pytest.mark.parametrize("name", ["METADATA", "WHEEL"])
def test_a_file_that_is_no_utf_8_is_judged_all_the_same(tmp_path: Path, world: World, name: str) -> None:
    wheel = good_wheel(tmp_path)
    text = read_members(wheel)[f"{INFO}/{name}"]
    changed(wheel, lambda members: members | {f"{INFO}/{name}": b"X: \xff\n" + text})
    assert failed(wheel) == set()


def test_a_record_that_is_no_utf_8_fails(tmp_path: Path, world: World) -> None:
    wheel = good_wheel(tmp_path)
    text = read_members(wheel)[f"{INFO}/RECORD"]
    changed(wheel, lambda members: members | {f"{INFO}/RECORD": b"\xff.py,sha256=x,1\n" + text}, record=False)
    assert failed(wheel) == {"RECORD"}


def test_another_project_fails(tmp_path: Path, world: World) -> None:
    wheel = good_wheel(tmp_path)
    other = wheel.rename(wheel.with_name(wheel.name.replace("llama_cpp_python", "llama_cpp")))
    assert {"label", "metadata"} <= failed(other)
    assert checks(other)["label"].detail == "llama-cpp, label cu130.sm89"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Version: 0.3.16+cu130.sm89", "Version: 0.3.16"),
        ("Version: 0.3.16+cu130.sm89", "Version: 0.3.17+cu130.sm89"),
        ("Version: 0.3.16+cu130.sm89", "X-Version: 0.3.16+cu130.sm89"),
        ("Name: llama_cpp_python", "Name: llama_cpp"),
        ("Name: llama_cpp_python", "X-Name: llama_cpp_python"),
    ],
)
def test_metadata_of_another_name_or_version_fails(tmp_path: Path, world: World, old: str, new: str) -> None:
    wheel = changed(good_wheel(tmp_path), replaced("METADATA", f"\n{old}\n", f"\n{new}\n"))
    assert failed(wheel) == {"metadata"}
    assert "METADATA disagree: [" in checks(wheel)["metadata"].detail


def test_a_version_that_metadata_lacks_is_shown_as_none(tmp_path: Path, world: World) -> None:
    wheel = changed(good_wheel(tmp_path), replaced("METADATA", "\nVersion: ", "\nX-Version: "))
    detail = "file name, folder and METADATA disagree: ['', '0.3.16+cu130.sm89']"
    assert checks(wheel)["metadata"] == Check(name="metadata", passed=False, detail=detail)


def test_a_folder_of_another_version_fails(tmp_path: Path, world: World) -> None:
    def change(members: Members) -> Members:
        return {name.replace("0.3.16+", "0.3.17+"): data for name, data in members.items()}

    assert "metadata" in failed(changed(good_wheel(tmp_path), change))


def test_a_wheel_without_metadata_wheel_or_record_file_fails(tmp_path: Path, world: World) -> None:
    def without(name: str) -> Callable[[Members], Members]:
        return lambda members: {path: data for path, data in members.items() if path != f"{INFO}/{name}"}

    for name, check in (("METADATA", "metadata"), ("WHEEL", "tags")):
        assert check in failed(changed(good_wheel(tmp_path / name), without(name)))
    assert failed(changed(good_wheel(tmp_path / "r"), without("RECORD"), record=False)) == {"RECORD"}


@pytest.mark.parametrize(
    "lines",
    [
        "Tag: py3-none-manylinux_2_28_x86_64\nTag: py3-none-linux_x86_64",
        "Tag: py3-none-linux_x86_64",
        "X: 1",
    ],
)
def test_tags_inside_must_be_those_of_the_name_no_more_and_no_fewer(tmp_path: Path, world: World, lines: str) -> None:
    old = "Tag: py3-none-manylinux_2_28_x86_64"
    assert failed(changed(good_wheel(tmp_path), replaced("WHEEL", old, lines))) == {"tags"}


def test_a_name_that_claims_more_tags_than_the_wheel_has_fails(tmp_path: Path, world: World) -> None:
    wheel = good_wheel(tmp_path)
    more = wheel.rename(wheel.with_name(wheel.name.replace("-py3-", "-py2.py3-")))
    assert failed(more) == {"tags"}


def test_a_file_that_record_does_not_list_fails(tmp_path: Path, world: World) -> None:
    wheel = changed(good_wheel(tmp_path), lambda members: members | {"llama_cpp/extra.py": b""}, record=False)
    assert failed(wheel) == {"RECORD"}
    assert checks(wheel)["RECORD"].detail == "does not match llama_cpp/extra.py"


def test_a_file_that_record_lists_and_the_wheel_lacks_fails(tmp_path: Path, world: World) -> None:
    def change(members: Members) -> Members:
        return {name: data for name, data in members.items() if not name.endswith("__init__.py")}

    assert failed(changed(good_wheel(tmp_path), change, record=False)) == {"RECORD"}


def test_files_that_changed_are_named_three_at_most(tmp_path: Path, world: World) -> None:
    def change(members: Members) -> Members:
        added = {f"llama_cpp/{name}.py": b"" for name in "dcba"}
        return members | added | {"llama_cpp/__init__.py": b"other"}

    wheel = changed(good_wheel(tmp_path), change, record=False)
    names = "llama_cpp/a.py, llama_cpp/b.py, llama_cpp/c.py"
    assert checks(wheel)["RECORD"] == Check(name="RECORD", passed=False, detail=f"does not match {names}")


@pytest.mark.parametrize(
    ("needs", "problem"),
    [
        (("libcudart.so.13", "libopenblas.so.0"), "needs libopenblas.so.0, which no declared package provides"),
        (("libcudart.so.13", "libcudart.so.12"), "needs libcudart.so.12, which no declared package provides"),
        (("libcudart.so.13", "libcufft.so.12"), "needs libcufft.so.12"),
        (("libc.so.6",), "no library needs CUDA 13: this is a CPU-only build"),
    ],
)
def test_a_library_that_nothing_declared_brings_fails(
    tmp_path: Path, world: World, needs: tuple[str, ...], problem: str
) -> None:
    world.libraries[CUDA] = Library(soname="libggml-cuda.so", needed=needs, runpath=RUNPATH)
    wheel = good_wheel(tmp_path)
    assert failed(wheel) == {"libraries"}
    assert problem in checks(wheel)["libraries"].detail


def test_a_library_is_looked_for_where_its_package_puts_it(tmp_path: Path, world: World) -> None:
    world.libraries[CUDA] = Library(soname="x", needed=("libcudart.so.13",), runpath=("$ORIGIN",))
    problem = checks(good_wheel(tmp_path))["libraries"].detail
    folder = "$ORIGIN/../../nvidia/cu13/lib"
    assert problem == f"llama_cpp/lib/libggml-cuda.so does not look for libcudart.so.13 in {folder}"


def test_requirements_of_an_extra_are_not_declared(tmp_path: Path, world: World) -> None:
    plain = ("nvidia-cublas<14,>=13.1", "nvidia-cuda-runtime<14,>=13.0")
    extra = (plain[0], plain[1] + '; extra == "cuda"')
    other = (plain[0], plain[1] + '; sys_platform == "linux"')
    assert failed(good_wheel(tmp_path / "a", requirements=extra)) == {"libraries"}
    wheel = good_wheel(tmp_path / "b", requirements=extra)
    problem = "llama_cpp/lib/libggml-cuda.so needs libcudart.so.13, but nvidia-cuda-runtime is not declared"
    assert checks(wheel)["libraries"].detail == problem
    assert not failed(good_wheel(tmp_path / "c", requirements=other))
    assert not failed(good_wheel(tmp_path / "d", requirements=(plain[0], plain[1].replace("-", "_"))))


def test_a_cuda_version_without_known_packages_fails(tmp_path: Path, world: World) -> None:
    wheel = good_wheel(tmp_path, label="cu490.sm89")
    found = checks(wheel)
    assert found["libraries"].detail == "no packages are known for CUDA 49"
    assert found["platform"].detail == "CUDA 49 is not known"
    assert failed(wheel) == {"libraries", "platform"}


def test_a_library_with_its_own_copy_of_libstdcxx_fails(tmp_path: Path, world: World) -> None:
    own = Library(soname="libggml-base.so", needed=(), runpath=(), exported_cxx=("_ZNSt1a", "_ZNSt1b"))
    world.libraries[BASE] = own
    wheel = good_wheel(tmp_path)
    assert failed(wheel) == {"libstdc++"}
    expected = "llama_cpp/lib/libggml-base.so exports 2 definitions of its own copy"
    assert checks(wheel)["libstdc++"].detail == expected


def test_a_tag_of_an_older_system_than_the_libraries_need_fails(tmp_path: Path, world: World) -> None:
    world.needs = SystemNeeds(tag="manylinux_2_34_x86_64", symbols={"GLIBC": "2.34"})
    wheel = good_wheel(tmp_path)
    assert failed(wheel) == {"platform"}
    expected = "needs manylinux_2_34_x86_64 (GLIBC 2.34), but is tagged manylinux_2_28_x86_64"
    assert checks(wheel)["platform"].detail == expected


def test_a_wheel_that_auditwheel_cannot_judge_fails(tmp_path: Path, world: World) -> None:
    world.needs = VerificationError("auditwheel cannot judge it.", "Build it again.")
    wheel = good_wheel(tmp_path)
    assert failed(wheel) == {"platform"}
    assert checks(wheel)["platform"].detail == "auditwheel cannot judge it."


def test_what_auditwheel_said_is_taken_from_the_store(
    tmp_path: Path, world: World, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def known(
        platform: Platform,
        libraries: Members,
        provided: Iterable[str],
        kept: Store,
        wheel: Callable[[Path], Path],
    ) -> SystemNeeds:
        asked.append((kept, wheel(Path("/nowhere"))))
        members = read_members(wheel(Path("/nowhere")))
        assert libraries == {name: data for name, data in members.items() if data in LIBRARIES}
        assert platform is LINUX
        assert "libcudart.so.13" in set(provided)
        return NEEDS

    monkeypatch.setattr(static, "known_system_needs", known)
    wheel = good_wheel(tmp_path)
    assert checks(wheel, store)["platform"].passed
    assert asked == [(store, wheel)]


def test_a_file_that_is_no_wheel_has_one_check_and_no_label(tmp_path: Path) -> None:
    name = "llama_cpp_python-0.3.16+cu130.sm89-py3-none-linux_x86_64.whl"
    (tmp_path / name).write_bytes(b"PK but not really")
    (check,), label = check_static(WheelFile(tmp_path / name), LINUX)
    assert (check.name, check.passed, label) == ("archive", False, None)
    assert check.detail.startswith(f"{name} is not a wheel: ")
    (tmp_path / "no name.whl").write_bytes(b"")
    (check,), label = check_static(WheelFile(tmp_path / "no name.whl"), LINUX)
    assert (check.name, check.passed, label) == ("archive", False, None)
    assert "no name" in check.detail
