"""A platform tag must not promise a system older than the wheel runs on."""

from __future__ import annotations

import pytest

from build_matrix.platform_policy import newest, promises_too_much


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
