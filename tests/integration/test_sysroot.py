"""What is compiled against the sysroot runs here, and asks for nothing that the oldest system lacks."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import msgspec
import pytest
from contexts import in_context

from build_matrix.downloads import Downloads
from build_matrix.errors import MissingPrerequisiteError
from build_matrix.locks import read_lock, select_wheels
from build_matrix.model import HostCompiler, Sysroot
from build_matrix.platforms import find_platform
from build_matrix.probe import find_compilers
from build_matrix.provision import provision_sysroot
from build_matrix.store import Store
from build_matrix.sysroot_flags import cxx_flags, link_flags
from build_matrix.wheelfile.native import read_library
from wheels import make_wheel

pytestmark = [pytest.mark.index, pytest.mark.compiler]

FILES = select_wheels(read_lock("sysroot"))

# Each line uses what libstdc++ or glibc got after the oldest system: GLIBCXX_3.4.26 to 3.4.30, GLIBC_2.29 to 2.34.
SOURCE = r"""
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <random>
#include <sstream>
#include <sys/stat.h>
#include <thread>
extern "C" int build_matrix_test(const char *path) {
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    std::thread other([&] { std::lock_guard<std::mutex> lock(mutex); done = true; changed.notify_all(); });
    std::unique_lock<std::mutex> lock(mutex);
    if (!changed.wait_for(lock, std::chrono::seconds(20), [&] { return done; })) return 1;
    lock.unlock();
    other.join();
    static std::once_flag once;
    std::call_once(once, [] {});
    int files = 0;
    for (const auto &entry : std::filesystem::directory_iterator(path)) files += entry.is_regular_file();
    struct stat info;
    if (files != 2 || stat(path, &info) != 0) return 2;
    std::stringstream text;
    text << std::pow(2.0, std::log2(double(files))) << std::exp(0.0);
    if (text.str() != "21") return 3;
    try { throw std::runtime_error("caught"); } catch (const std::exception &) {}
    std::random_device device;
    return device() == device() && device() == device() ? 4 : 0;
}
"""


@pytest.fixture
def compiler() -> HostCompiler:
    return find_compilers()[0]


@pytest.fixture
def sysroot(compiler: HostCompiler, shared_store: Store, reporter) -> Sysroot:  # type: ignore[no-untyped-def]
    return provision_sysroot(
        in_context(shared_store, downloads=Downloads(shared_store, reporter)), "linux-x86_64", FILES, compiler
    )


def compile_library(
    source: str, folder: Path, compiler: HostCompiler, sysroot: Sysroot
) -> subprocess.CompletedProcess[str]:
    (folder / "test.cpp").write_text(source)
    words = [compiler.cxx, "-O1", "-std=c++17", "-shared", "-fPIC", "-s", *cxx_flags(sysroot), "test.cpp"]
    words += [*link_flags(sysroot), "-Wl,-soname,libtest.so", "-o", "libtest.so"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})


def test_what_new_headers_use_runs_on_the_oldest_system(
    tmp_path: Path, compiler: HostCompiler, sysroot: Sysroot
) -> None:
    done = compile_library(SOURCE, tmp_path, compiler, sysroot)
    assert done.returncode == 0, done.stderr
    assert ctypes.CDLL(str(tmp_path / "libtest.so")).build_matrix_test(str(tmp_path).encode()) == 0
    data = (tmp_path / "libtest.so").read_bytes()
    library = read_library(data)
    assert library is not None
    assert library.exported_cxx == ()
    assert "libstdc++.so.6" in library.needed
    platform = find_platform("linux-x86_64")
    row = platform.oldest_system
    needs = platform.read_system_needs(make_wheel(tmp_path / "w", {"libtest.so": data}), ())
    assert not platform.promises_too_much(f"{row.policy}_{row.architecture}", needs.tag), needs


def test_a_function_that_the_oldest_system_lacks_is_an_error_when_linking(
    tmp_path: Path, compiler: HostCompiler, sysroot: Sysroot
) -> None:
    source = 'extern "C" int pidfd_getfd(int, int, unsigned);\nextern "C" int f() { return pidfd_getfd(0, 0, 0); }\n'
    done = compile_library(source, tmp_path, compiler, sysroot)
    assert done.returncode != 0
    assert "undefined reference to `pidfd_getfd'" in done.stderr


def test_a_sysroot_is_the_same_bytes_in_every_store(
    tmp_path: Path, compiler: HostCompiler, shared_store: Store, reporter
) -> None:  # type: ignore[no-untyped-def]
    downloads = Downloads(shared_store, reporter)
    stores = [Store(tmp_path / name) for name in ("a", "another-folder")]
    roots = [
        provision_sysroot(in_context(store, downloads=downloads), "linux-x86_64", FILES, compiler).root
        for store in stores
    ]
    trees = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()} for root in roots
    ]
    assert trees[0] == trees[1]


def test_a_compiler_without_a_static_libstdcxx_is_exit_code_3(
    tmp_path: Path, compiler: HostCompiler, shared_store: Store, reporter
) -> None:  # type: ignore[no-untyped-def]
    program = tmp_path / "g++"
    program.write_text('#!/bin/sh\necho "${1#*=}"\n')  # so answers gcc when it has no such file
    program.chmod(0o755)
    bare = msgspec.structs.replace(compiler, cxx=str(program))
    with pytest.raises(MissingPrerequisiteError, match=r"has no libstdc\+\+\.a") as caught:
        provision_sysroot(
            in_context(shared_store, downloads=Downloads(shared_store, reporter)), "linux-x86_64", FILES, bare
        )
    assert "libstdc++-static" in caught.value.remedy
