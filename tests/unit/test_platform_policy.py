"""A platform tag must not promise a system older than the wheel runs on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from auditwheel import wheel_abi
from auditwheel.error import NonPlatformWheelError

from build_matrix.errors import VerificationError
from build_matrix.model import SystemNeeds
from build_matrix.platforms import find_platform, manylinux, system_needs
from build_matrix.platforms.manylinux import newest, promises_too_much
from build_matrix.platforms.system_needs import known_system_needs
from build_matrix.store import Store

LINUX = find_platform("linux-x86_64")


@pytest.mark.parametrize(
    ("tag", "met", "too_much"),
    [
        ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", False),
        ("manylinux_2_27_x86_64", "manylinux_2_27_x86_64", False),
        ("manylinux_2_17_x86_64", "manylinux_2_27_x86_64", True),
        ("manylinux_2_28_x86_64", "linux_x86_64", True),
        ("manylinux_2_28_aarch64", "manylinux_2_27_x86_64", True),
        ("linux_x86_64", "manylinux_2_35_x86_64", False),
        ("any", "manylinux_2_27_x86_64", True),
        ("win_amd64", "manylinux_2_27_x86_64", True),
    ],
)
def test_a_tag_may_name_the_same_system_or_a_newer_one(tag: str, met: str, too_much: bool) -> None:
    assert promises_too_much(tag, met) == too_much


def test_versions_are_compared_as_numbers_family_by_family() -> None:
    found = newest(["GLIBC_2.9", "GLIBC_2.27", "GLIBCXX_3.4.9", "GLIBCXX_3.4.22", "libcudart.so.13", "CXXABI_FLOAT128"])
    assert found == {"GLIBC": "2.27", "GLIBCXX": "3.4.22"}


def test_auditwheel_is_asked_once_for_the_same_libraries(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(wheel: Path, provided: tuple[str, ...], architecture: str) -> SystemNeeds:
        asked.append((wheel.name, wheel.is_file(), provided, architecture))
        return SystemNeeds(tag="manylinux_2_27_x86_64", symbols={"GLIBC": "2.27"})

    def write(folder: Path) -> Path:
        (folder / "written.whl").touch()
        return folder / "written.whl"

    monkeypatch.setattr(manylinux, "read_system_needs", answer)
    libraries = {"a.so": b"\x7fELF one"}
    first = known_system_needs(LINUX, libraries, ("libcudart.so.13",), store, write)
    again = known_system_needs(LINUX, libraries, ("libcudart.so.13",), store, lambda _: Path("a.whl"))
    assert first == again == SystemNeeds(tag="manylinux_2_27_x86_64", symbols={"GLIBC": "2.27"})
    assert asked == [("written.whl", True, ("libcudart.so.13",), "x86_64")]
    known_system_needs(LINUX, {"a.so": b"\x7fELF two"}, ("libcudart.so.13",), store, write)
    known_system_needs(LINUX, libraries, (), store, write)
    assert len(asked) == 3
    assert not list(store.root.rglob("*.whl"))


def test_auditwheel_judges_by_symbols_and_by_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def analyze(*words: Any, **options: Any) -> SimpleNamespace:
        asked.append((*words, options))
        symbols = {"libc.so.6": {"GLIBC_2.9", "GLIBC_2.27"}, "libstdc++.so.6": {"GLIBCXX_3.4.22"}}
        return SimpleNamespace(overall_policy=SimpleNamespace(name="manylinux_2_27_x86_64"), versioned_symbols=symbols)

    monkeypatch.setattr(wheel_abi, "analyze_wheel_abi", analyze)
    needs = LINUX.read_system_needs(Path("a.whl"), ["libcudart.so.13"])
    assert needs == SystemNeeds(tag="manylinux_2_27_x86_64", symbols={"GLIBC": "2.27", "GLIBCXX": "3.4.22"})
    ((libc, architecture, wheel, provided, options),) = asked
    assert (libc.name, architecture.value, wheel, provided) == (
        "GLIBC",
        "x86_64",
        Path("a.whl"),
        frozenset({"libcudart.so.13"}),
    )
    assert options == {"disable_isa_ext_check": False, "allow_graft": False}


def test_a_wheel_that_auditwheel_refuses_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NonPlatformWheelError(None, None)

    monkeypatch.setattr(wheel_abi, "analyze_wheel_abi", refuse)
    with pytest.raises(VerificationError, match=r"auditwheel cannot judge a\.whl: ") as caught:
        LINUX.read_system_needs(Path("somewhere/a.whl"), [])
    assert caught.value.exit_code == 7


def test_another_auditwheel_or_other_packages_are_asked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    needs = SystemNeeds(tag="linux_x86_64", symbols={})
    monkeypatch.setattr(manylinux, "read_system_needs", lambda *_: asked.append(1) or needs)
    libraries = {"a.so": b"\x7fELF one"}

    def ask(provided: tuple[str, ...] = ("a", "b")) -> int:
        known_system_needs(LINUX, libraries, provided, store, lambda _: Path("a.whl"))
        return len(asked)

    assert [ask(), ask(), ask(("b", "a")), ask(("a",))] == [1, 1, 1, 2]
    monkeypatch.setattr(system_needs, "library_versions", lambda *names: dict.fromkeys(names, "of tomorrow"))
    assert ask() == 3
