"""The arguments with which GCC and Clang compile and link against a sysroot, and against nothing else."""

from __future__ import annotations

from build_matrix.model import Sysroot


def c_flags(sysroot: Sysroot) -> tuple[str, ...]:
    """Make a C compiler search its own headers and the sysroot's, and no others."""
    return _headers(sysroot, sysroot.c_includes)


def cxx_flags(sysroot: Sysroot) -> tuple[str, ...]:
    """The same for a C++ compiler."""
    return _headers(sysroot, sysroot.cxx_includes)


def link_flags(sysroot: Sysroot) -> tuple[str, ...]:
    """Link against the stubs: a symbol that the oldest system lacks is an error, and nothing static is exported."""
    return (f"-L{sysroot.root}/lib", "-Wl,-z,defs", "-Wl,--exclude-libs,ALL")


def _headers(sysroot: Sysroot, compiler_includes: tuple[str, ...]) -> tuple[str, ...]:
    folders = (f"{sysroot.root}/first", *compiler_includes, f"{sysroot.root}/include")
    minor = sysroot.glibc.partition(".")[2]
    return ("-nostdinc", *(f"-isystem{folder}" for folder in folders), f"-D__GLIBC_MINOR__={minor}")
