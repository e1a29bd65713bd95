"""Headers and link stubs of an old glibc, so that what is compiled on a new system runs on an old one.

Three things would tie a library to the system it is built on, and each is answered here without a container:

- glibc: a library that is linked against glibc 2.36 asks for its newest symbols. The headers and the stubs of any
  older glibc come from zig's package, which knows which symbol came when.
- libstdc++: the stub made here offers only the symbols that the oldest system has. What the compiler's headers use
  beyond them is linked in from the compiler's own static library, hidden: as Red Hat's ``libstdc++_nonshared.a`` does.
- what that static library itself asks of a newer glibc: a few functions in ``compat.c``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from build_matrix.catalog import OldestSystem
from build_matrix.context import Context
from build_matrix.digests import code_digest, content_digest, library_versions, note_content, tree_digest
from build_matrix.downloads import install_wheels
from build_matrix.errors import BuildMatrixError, DiskFullError, MissingPrerequisiteError
from build_matrix.model import Component, HostCompiler, Sysroot, digest_of, file_sha256
from build_matrix.platforms import find_platform
from build_matrix.process.runner import run
from build_matrix.store import require_room

CODE = ("provision/sysroot.py", "provision/compat.c", "downloads/install.py")
ROOM = 700_000_000  # bytes; zig's package unpacked, for as long as it is needed
SECONDS = 600
COMPAT = Path(__file__).with_name("compat.c")

# What older glibc keeps in libraries of their own beside the loader, and newer ones in libc itself.
SPLIT = ("libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1")
CXX = "libstdc++.so.6"

# libstdc++'s configuration describes the glibc of the system it was built on.
CXX_CONFIG = """\
#pragma GCC system_header
#include_next <bits/c++config.h>
#undef _GLIBCXX_USE_PTHREAD_COND_CLOCKWAIT   // pthread_cond_clockwait: glibc 2.30
#undef _GLIBCXX_USE_PTHREAD_MUTEX_CLOCKLOCK  // pthread_mutex_clocklock: glibc 2.30
#undef _GLIBCXX_USE_PTHREAD_RWLOCK_CLOCKLOCK // pthread_rwlock_clockrdlock: glibc 2.30
"""
ABSENT = ("sys/single_threaded.h",)  # libstdc++ asks whether the header is there, not whether it says anything

_SYMBOL_VERSION = re.compile(r"(?P<name>[A-Z]+)_(?P<number>\d+(?:\.\d+)*)")


def provision_sysroot(context: Context, platform: str, files: tuple[Component, ...], compiler: HostCompiler) -> Sysroot:
    """The sysroot for ``platform`` and this host compiler, in the store.

    Raises MissingPrerequisiteError when the compiler has no static libstdc++, DownloadError and its kinds,
    DiskFullError, NoCompatibleChoiceError for a platform that is not supported.
    """
    system = find_platform(platform).oldest_system
    static, shared = (_library(compiler, name) for name in ("libstdc++.a", "libstdc++.so"))
    content = tuple(file.content for file in files)
    inputs = (content, system, compiler.identity, file_sha256(static), file_sha256(shared))
    digest = digest_of("sysroot", code_digest(*CODE), library_versions("lief"), inputs)

    def assemble(folder: Path) -> None:
        paths = context.downloads.fetch(files, f"glibc {system.glibc} headers and stubs")
        require_room(context.store.root, ROOM)
        with context.store.scratch(f"zig-{digest[:24]}") as scratch:
            install_wheels(paths, scratch / "uv-cache", target=scratch / "zig")
            _add_glibc(scratch, folder, system)
        _add_cxx(folder, compiler, static, shared, system)
        note_content(folder, folder)

    root = context.store.obtain("sysroot", digest, assemble)
    c_includes, cxx_includes = _private_includes(compiler.cc, "c"), _private_includes(compiler.cxx, "c++")
    headers = [tree_digest(Path(folder)) for folder in (*c_includes, *cxx_includes)]
    return Sysroot(
        root=root,
        glibc=system.glibc,
        c_includes=c_includes,
        cxx_includes=cxx_includes,
        components=files,
        digest=digest_of(content_digest(root, root), headers),
    )


def _library(compiler: HostCompiler, name: str) -> Path:
    """The compiler's own copy of a library, links resolved."""
    (answer,) = _ask([compiler.cxx, f"-print-file-name={name}"])
    path = Path(answer)
    if not path.is_absolute():
        raise MissingPrerequisiteError(
            f"{compiler.name} {compiler.version} has no {name}, which a wheel for older systems needs.",
            "Install it (`dnf install libstdc++-static`, `apt install g++`), or set CXX to another compiler.",
        )
    return path.resolve()


def _private_includes(program: str, language: str) -> tuple[str, ...]:
    """The folders that the compiler searches for its own headers: those of C++ and its built-in ones."""
    folders = _search_list(_ask([program, "-E", "-v", "-x", language, "/dev/null"]))
    return tuple(folder for folder in folders if "c++" in folder or _is_builtin(Path(folder)))


def _is_builtin(folder: Path) -> bool:
    """Whether these are the compiler's headers (stddef.h), not those of the system (stdio.h)."""
    return (folder / "stddef.h").is_file() and not (folder / "stdio.h").is_file()


def _search_list(lines: Sequence[str]) -> list[str]:
    """The folders that ``-E -v`` lists between its two lines about them."""
    start = next(i for i, line in enumerate(lines) if line.startswith("#include <...>"))
    end = lines.index("End of search list.")
    return [line.strip() for line in lines[start + 1 : end]]


def _ask(argv: Sequence[str | Path]) -> list[str]:
    """The lines that a compiler prints."""
    result = run(argv, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, timeout=SECONDS)
    if result.code:
        raise MissingPrerequisiteError(f"{argv[0]} does not answer: {result.output}", "Install a C++ compiler again.")
    return result.tail


def _make(argv: Sequence[str | Path], folder: Path, variables: dict[str, str] | None = None) -> list[str]:
    """Run a program that makes a part of the sysroot, in ``folder``; the lines that it prints."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(folder), "TMPDIR": str(folder)}
    result = run(argv, env=environment | (variables or {}), cwd=folder, timeout=SECONDS)
    if result.disk_full:
        raise DiskFullError(folder)
    if result.code:
        raise BuildMatrixError(f"{Path(argv[0]).name} cannot create the sysroot: {result.output}", "Report this.")
    return result.tail


def _add_glibc(scratch: Path, folder: Path, system: OldestSystem) -> None:
    """Zig's headers, and the stubs that it makes of its own symbol lists when it links anything."""
    zig = scratch / "zig" / "ziglang"
    (scratch / "empty.c").touch()
    (zig / "zig").chmod(0o755)
    caches = {name: str(scratch / "cache") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    cc: list[str | Path] = [zig / "zig", "cc", "-target", f"{system.target}.{system.glibc}", "empty.c"]
    searched = _search_list(_make([*cc, "-E", "-v"], scratch, caches))
    for headers in reversed([scratch / path for path in searched if "libc" in Path(path).parts]):  # the first one wins
        shutil.copytree(headers, folder / "include", dirs_exist_ok=True)
    for name in ABSENT:
        (folder / "include" / name).unlink(missing_ok=True)
    _make([*cc, "-shared", "-o", "empty.so"], scratch, caches)
    lib = folder / "lib"
    lib.mkdir()
    stubs = {path.name: path for path in (scratch / "cache" / "o").glob("*/lib*")}
    stubs[system.loader] = stubs.pop("libld.so.2")
    split = (*SPLIT, system.loader)
    for name in ("libc.so.6", *split):
        shutil.copyfile(stubs[name], lib / name)
    _copy_archive(stubs["libc_nonshared.a"], scratch, lib)
    for name in split:
        (lib / f"{name.partition('.so')[0]}.so").symlink_to(name)
    # Code that was written for newer systems expects threads and dlopen in libc.
    (lib / "libc.so").write_text(f"GROUP ( libc.so.6 libc_nonshared.a AS_NEEDED ( {' '.join(split)} ) )\n")


def _copy_archive(archive: Path, scratch: Path, folder: Path) -> None:
    """The same archive without the paths of zig's cache, which the linker would count into a library's build id."""
    objects = scratch / archive.stem
    objects.mkdir()
    copies = [shutil.copyfile(path, objects / Path(path).name) for path in _make(["ar", "t", archive], scratch)]
    _make(["strip", "--strip-unneeded", *copies], scratch)
    _make(["ar", "rcD", folder / archive.name, *copies], scratch)


def _add_cxx(folder: Path, compiler: HostCompiler, static: Path, shared: Path, system: OldestSystem) -> None:
    """libstdc++ as the oldest system has it, and the rest of it, hidden."""
    config = folder / "first" / "bits" / "c++config.h"
    config.parent.mkdir(parents=True)
    config.write_text(CXX_CONFIG)
    lib = folder / "lib"
    stub, script = folder / "stub.s", folder / "stub.map"
    symbols = list(_symbols(shared, system.symbols))
    stub.write_text(_stub(symbols))
    script.write_text(_version_script(symbols))
    link = [compiler.cc, "-shared", "-nostdlib", f"-Wl,-soname,{CXX}", f"-Wl,--version-script={script}"]
    _make([*link, "-o", lib / CXX, stub], folder)
    include = [f"-I{folder / 'include'}", f"-D__GLIBC_MINOR__={system.glibc.partition('.')[2]}"]
    _make([compiler.cc, "-O2", "-fPIC", *include, "-c", COMPAT, "-o", folder / "compat.o"], folder)
    _make(["ar", "rcD", lib / "libcompat.a", folder / "compat.o"], folder)
    shutil.copyfile(static, lib / "libstdc++_nonshared.a")
    (lib / "libstdc++.so").write_text(f"GROUP ( {CXX} libstdc++_nonshared.a libcompat.a )\n")


class _Symbol(NamedTuple):
    name: str
    version: str
    thread_local: bool


def _symbols(library: Path, newest: dict[str, str]) -> Iterator[_Symbol]:
    """Each symbol that ``library`` exports, in its newest version that is not newer than allowed."""
    import lief

    elf = lief.ELF.parse(str(library))
    if elf is None:
        raise MissingPrerequisiteError(f"{library} is not a shared library.", "Install the C++ compiler again.")
    symbols: dict[str, _Symbol] = {}
    for symbol in elf.exported_symbols:
        version = symbol.symbol_version
        auxiliary = version.symbol_version_auxiliary if version and version.has_auxiliary_version else None
        match = _SYMBOL_VERSION.fullmatch(str(auxiliary.name)) if auxiliary else None
        if not match or _numbers(match["number"]) > _numbers(newest.get(match["name"], "0")):
            continue
        known = symbols.get(str(symbol.name))
        if known is None or _numbers(known.version.rpartition("_")[2]) < _numbers(match["number"]):
            thread_local = symbol.type == lief.ELF.Symbol.TYPE.TLS
            symbols[str(symbol.name)] = _Symbol(str(symbol.name), match[0], thread_local)
    yield from sorted(symbols.values())


def _stub(symbols: Sequence[_Symbol]) -> str:
    """Assembly that defines each symbol; what stands behind it does not matter to the linker."""
    plain = [f".globl {s.name}\n{s.name}:\n" for s in symbols if not s.thread_local]
    local = [f".globl {s.name}\n.type {s.name}, @tls_object\n{s.name}:\n" for s in symbols if s.thread_local]
    return "".join([".data\n", *plain, ".quad 0\n", '.section .tbss,"awT",@nobits\n', *local, ".zero 8\n"])


def _version_script(symbols: Sequence[_Symbol]) -> str:
    versions: dict[str, list[str]] = {}
    for symbol in symbols:
        versions.setdefault(symbol.version, []).append(symbol.name)
    return "".join(
        f"{version} {{ global: {' '.join(f'{name};' for name in names)} }};\n"
        for version, names in sorted(versions.items())
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
