"""Linux on x86-64 processors, with glibc."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build_matrix.platforms.linux import Linux

if TYPE_CHECKING:
    from build_matrix.platforms import Platform

PLATFORM: Platform = Linux(
    name="linux-x86_64",
    # x86_64-linux-gnu, x86_64-pc-linux-gnu, x86_64-conda-linux-gnu, x86_64-redhat-linux; not linux-musl, -gnux32,
    # -android.
    compiler_target=r"x86_64-(?:\w+-)?linux(?:-gnu)?",
    compiler_macros="defined __x86_64__ && __SIZEOF_POINTER__ == 8",  # not x32
)
