"""Wheels that contradict their label, each built for real, each refused by name; good ones accepted by pip and uv."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import uv
from commands import run_tool
from contexts import in_context

from libraries import RUNPATH, library
from wheels import REQUIREMENTS, make_wheel, raw_members

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from build_matrix.downloads import Downloads, ingredient_choices
from build_matrix.errors import VerificationError
from build_matrix.model import Architecture, Cell, Toolchain
from build_matrix.platforms import find_platform
from build_matrix.probe import find_compilers
from build_matrix.provision import provision_toolkit
from build_matrix.store import Store
from build_matrix.verify.cubins import check_cubins
from build_matrix.verify.static import check_static
from build_matrix.wheel.hygiene import check_members
from build_matrix.wheelfile.archive import Members, relabel
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.native import read_library

LINUX = find_platform("linux-x86_64")
pytestmark = pytest.mark.compiler

KERNEL = '__global__ void k(float *x) { x[threadIdx.x] *= 2; }\nextern "C" void f(float *x) { k<<<1, 32>>>(x); }\n'


def libraries_check(wheel: Path) -> tuple[bool, str]:
    check = next(c for c in check_static(WheelFile(wheel), LINUX)[0] if c.name == "libraries")
    return check.passed, check.detail


def test_a_wheel_as_it_should_be_is_accepted(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", {"libggml-cuda.so": library(tmp_path / "b")})
    assert all(check.passed for check in check_static(WheelFile(wheel), LINUX)[0])


@pytest.mark.parametrize(
    ("needs", "runpath", "requirements", "words"),
    [
        ((), RUNPATH, REQUIREMENTS, "CPU-only build"),
        (("libcudart.so.12",), RUNPATH, REQUIREMENTS, "needs libcudart.so.12, which no declared package provides"),
        (("libcudart.so.13", "libnccl.so.2"), RUNPATH, REQUIREMENTS, "needs libnccl.so.2"),
        (("libcudart.so.13", "libcuda.so.1"), RUNPATH, REQUIREMENTS, "needs libcuda.so.1"),
        (("libcudart.so.13",), RUNPATH, (), "nvidia-cuda-runtime is not declared"),
        (("libcudart.so.13",), "$ORIGIN", REQUIREMENTS, "does not look for libcudart.so.13"),
    ],
)
def test_a_wheel_that_would_not_run_elsewhere_is_refused_by_name(
    tmp_path: Path, needs: tuple[str, ...], runpath: str, requirements: tuple[str, ...], words: str
) -> None:
    data = library(tmp_path / "b", needs=needs, runpath=runpath)
    passed, detail = libraries_check(make_wheel(tmp_path / "w", {"libggml-cuda.so": data}, requirements=requirements))
    assert not passed
    assert words in detail


def check_clean(members: Members) -> None:
    libraries = {name: library for name, data in members.items() if (library := read_library(data))}
    check_members(members, libraries, ())


def check_of(wheel: Path, name: str) -> tuple[bool, str]:
    check = next(c for c in check_static(WheelFile(wheel), LINUX)[0] if c.name == name)
    return check.passed, check.detail


STREAMS = "#include <sstream>\nint f(const char *x) { std::stringstream s(x); int i; s >> i; return i; }\n"


@pytest.mark.parametrize(("words", "passed"), [((), True), (("-static-libstdc++",), False)])
def test_a_library_that_exports_its_own_libstdcxx_is_refused(
    tmp_path: Path, words: tuple[str, ...], passed: bool
) -> None:
    (tmp_path / "s.cpp").write_text(STREAMS)
    target = tmp_path / "libggml-cuda.so"
    argv = [find_compilers()[0].cxx, "-shared", "-fPIC", "-s", "-O1", *words, "-Wl,-soname,libggml-cuda.so"]
    subprocess.run([*argv, "-o", target, tmp_path / "s.cpp"], check=True)
    wheel = make_wheel(tmp_path / "w", {"libggml-cuda.so": target.read_bytes()})
    found, detail = check_of(wheel, "libstdc++")
    assert found == passed
    assert passed or "definitions of its own copy" in detail
    if not passed:
        with pytest.raises(VerificationError, match=r"its own copy of libstdc\+\+"):
            check_clean(WheelFile(wheel).members)


def test_a_tag_that_promises_an_older_system_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.c").write_text("#include <pthread.h>\nint f(pthread_t t) { return pthread_join(t, 0); }\n")
    target = tmp_path / "libggml-cuda.so"
    subprocess.run([find_compilers()[0].cc, "-shared", "-fPIC", "-s", "-o", target, tmp_path / "m.c"], check=True)
    wheel = make_wheel(tmp_path / "w", {"libggml-cuda.so": target.read_bytes()}, platform="manylinux_2_17_x86_64")
    passed, detail = check_of(wheel, "platform")
    if "GLIBC 2.34" not in detail:
        pytest.skip(f"this machine's glibc has no newer pthread_join: {detail}")
    assert not passed
    assert "but is tagged manylinux_2_17_x86_64" in detail


@pytest.mark.parametrize(
    ("label", "words", "options"),
    [
        ("cu130.sm89", "CPU-only build", {"needs": ()}),
        ("cu124.sm89", "needs libcudart.so.13, which no declared package provides", {}),
    ],
)
def test_verify_refuses_it_with_exit_code_7(
    tmp_path: Path, label: str, words: str, options: dict[str, tuple[str, ...]]
) -> None:
    data = library(tmp_path / "b", **options)
    wheel = make_wheel(tmp_path / "w", {"libggml-cuda.so": data}, label=label)
    done = run_tool(("verify", str(wheel), "--store", str(tmp_path / "store")), os.environ)
    assert done.returncode == 7, done.stderr
    assert words in done.stderr


def test_a_second_copy_and_a_wrong_soname_are_refused(tmp_path: Path) -> None:
    data = library(tmp_path / "b", "libggml.so")
    members = relabel(raw_members({"libggml.so": data}), "cu130.sm89", ())
    check_clean(members)
    with pytest.raises(VerificationError, match="second copy"):
        check_clean(members | {"llama_cpp/lib/libggml.so.0": data})
    with pytest.raises(VerificationError, match=r"has the SONAME libggml\.so"):
        check_clean(relabel(raw_members({"libother.so": data}), "cu130.sm89", ()))


@pytest.mark.index
def test_cubins_of_another_architecture_than_the_labels_are_refused(
    tmp_path: Path,
    shared_store: Store,
    reporter,  # type: ignore[no-untyped-def]
) -> None:
    downloads = Downloads(shared_store, reporter)
    cell = Cell(llama="0.3.16", cuda="13.0", architectures=(Architecture(number=89),), platform="linux-x86_64")
    data = _kernel(
        provision_toolkit(in_context(shared_store, downloads=downloads), cell, ingredient_choices(cell)[0]), tmp_path
    )
    for text, holds in (("cu130.sm89", True), ("cu130.sm90", False), ("cu130.sm89.sm90", False)):
        wheel = make_wheel(tmp_path / text, {"libggml-cuda.so": data}, label=text)
        label = check_static(WheelFile(wheel), LINUX)[1]
        assert label is not None
        with shared_store.scratch("cubins") as scratch:
            check = check_cubins(in_context(shared_store, downloads=downloads), WheelFile(wheel), label, scratch)
        assert (check.passed, "found: sm89" in check.detail) == (holds, True)


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_pip_and_uv_accept_the_label_from_an_index_page(tmp_path: Path, installer: str) -> None:
    wheel = make_wheel(tmp_path / "index" / "llama-cpp-python", {"libggml-cuda.so": library(tmp_path / "b")})
    (wheel.parent / "index.html").write_text(f'<a href="{wheel.name.replace("+", "%2B")}">{wheel.name}</a>')
    into = tmp_path / "into"
    words = ["install", "--quiet", "--no-deps", "--target", str(into), "--index-url", (tmp_path / "index").as_uri()]
    program = [sys.executable, "-m", "pip"] if installer == "pip" else [uv.find_uv_bin(), "pip"]
    words += (
        [] if installer == "pip" else ["--python", sys.executable, "--no-config", "--cache-dir", str(tmp_path / "c")]
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}
    done = subprocess.run(
        [*program, *words, "llama-cpp-python==0.3.16+cu130.sm89"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (into / "llama_cpp_python-0.3.16+cu130.sm89.dist-info" / "METADATA").is_file()


def _kernel(toolchain: Toolchain, folder: Path) -> bytes:
    """A library with a real kernel for sm_89 that is otherwise as it should be."""
    (folder / "kernel.cu").write_text(KERNEL)
    target = folder / "libggml-cuda.so"
    words = [toolchain.nvcc, "-ccbin", find_compilers()[0].cxx, "-gencode=arch=compute_89,code=[sm_89]", "-shared"]
    words += ["-Xcompiler=-fPIC", "-cudart=shared", "-Xlinker=-soname,libggml-cuda.so", f"-Xlinker=-rpath,{RUNPATH}"]
    words += ["-Xlinker=--enable-new-dtags", "-o", target, folder / "kernel.cu"]
    subprocess.run(words, check=True, env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder)})
    return target.read_bytes()
