"""What is read from an installed package's libraries, and from the loader's own lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from build_matrix.catalog.installations import backends, is_gpu, project_of_module, provider_of
from build_matrix.probe.libraries import Environment, backends_of, family_of, holding, parse_trace
from build_matrix.wheelfile.native import LibraryFile, inspect_library

LDD = """\
	linux-vdso.so.1 (0x00007f3323043000)
	libcudart.so.12 => not found
	libggml base.so => /a b/libggml base.so (0x00007f3323028000)
	libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f3322f48000)
	/lib64/ld-linux-x86-64.so.2 (0x00007f3323045000)
	libcublasLt.so.12 => not found
""".splitlines()
MUSL = """\
	/lib/ld-musl-x86_64.so.1 (0x7f2f5d3a7000)
Error loading shared library libgomp.so.1: No such file or directory (needed by /x/libggml-cpu.so)
Error relocating /x/libllama.so: __memcpy_chk: symbol not found
""".splitlines()
HEADER = b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00" + bytes(50)  # x86-64
VERSION = "/x/a.so: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /x/a.so)"


def test_the_loaders_lines_say_what_is_found_and_what_is_not() -> None:
    trace = parse_trace([line.replace("libggml base", "libggml-base") for line in LDD])
    assert trace.missing == ("libcudart.so.12", "libcublasLt.so.12")
    assert trace.resolved["libm.so.6"] == "/lib/x86_64-linux-gnu/libm.so.6"
    assert trace.resolved["libggml-base.so"] == "/a b/libggml-base.so"
    assert trace.problems == ()


def test_musls_loader_is_understood_too() -> None:
    trace = parse_trace(MUSL)
    assert trace.missing == ("libgomp.so.1",)
    assert any("__memcpy_chk" in problem for problem in trace.problems)


def test_a_version_that_a_library_lacks_is_a_problem() -> None:
    assert parse_trace([VERSION]).problems == (VERSION,)


@pytest.mark.parametrize(
    ("names", "label", "family"),
    [
        (["libcudart.so.13"], "", 13),
        (["libcudart.so.11.0"], "", 11),
        (["libcudart-9335f6a2.so.12.4.127"], "", 12),
        (["libcublas.so.12"], "", 12),
        (["libcudart.so.13", "libcublas.so.99"], "", 13),
        (["libcuda.so.1"], "0.3.16+cu124", 12),
        (["libcuda.so.1"], "0.3.20+cuda13.0.sm100", 13),
        (["libcuda.so.1"], "0.3.16+cu118", 11),
        (["libcuda.so.1"], "0.3.16", 0),
        (["libcuda.so.1"], "0.3.16+cpuavx2", 0),
        (["libvulkan.so.1"], "", 0),
        ([], "", 0),
    ],
)
def test_the_cuda_major_is_that_of_the_runtime_then_of_cublas_then_of_the_label(
    names: list[str], label: str, family: int
) -> None:
    assert family_of(names, label) == family


@pytest.mark.parametrize(
    ("soname", "projects"),
    [
        ("libcudart.so.11.0", "nvidia-cuda-runtime-cu11"),
        ("libcudart.so.12", "nvidia-cuda-runtime-cu12"),
        ("libcudart.so.13", "nvidia-cuda-runtime"),
        ("libcublasLt.so.12", "nvidia-cublas-cu12"),
        ("libcublas.so.13", "nvidia-cublas"),
        ("libnvrtc.so.11.2", "nvidia-cuda-nvrtc-cu11"),
        ("libcufft.so.11", "nvidia-cufft-cu12"),
        ("libcufft.so.12", "nvidia-cufft"),
        ("libnvJitLink.so.12", "nvidia-nvjitlink-cu12"),
    ],
)
def test_a_library_of_cuda_is_in_one_package(soname: str, projects: str) -> None:
    provider = provider_of(soname)
    assert provider is not None
    assert provider.projects_for(0) == (projects,)


def test_a_library_of_several_cuda_majors_is_in_the_package_of_the_builds_own() -> None:
    nccl = provider_of("libnccl.so.2")
    assert nccl is not None
    assert nccl.projects_for(13) == ("nvidia-nccl-cu13",)
    assert nccl.projects_for(0) == ("nvidia-nccl-cu11", "nvidia-nccl-cu12", "nvidia-nccl-cu13")


@pytest.mark.parametrize(
    ("soname", "hint"),
    [
        ("libgomp.so.1", "libgomp1"),
        ("libgomp-24e2ab19.so.1.0.0", "libgomp1"),
        ("libomp.so.5", "libomp5"),
        ("libomp.so", "libomp5"),
        ("libstdc++.so.6", "libstdc"),
        ("libcuda.so.1", "driver"),
        ("libnvidia-ml.so.1", "driver"),
        ("libc.musl-x86_64.so.1", "manylinux"),
        ("ld-linux-x86-64.so.2", "glibc"),
        ("libopenblas.so.0", "libopenblas0"),
        ("libopenblasp-r0-23e5df77.3.21.dev.so", "libopenblas0"),
        ("libvulkan.so.1", "libvulkan1"),
        ("libamdhip64.so.6", "ROCm"),
        ("librocblas.so.4", "ROCm"),
        ("libhipblas.so.2", "ROCm"),
        ("libsycl.so.8", "oneapi"),
        ("libze_loader.so.1", "Level Zero"),
        ("libOpenCL.so.1", "libopencl1"),
        ("libmkl_intel_ilp64.so.2", "mkl"),
        ("libssl.so.3", "libssl3"),
        ("libggml-base.so.0", "incomplete"),
        ("libcudart-9335f6a2.so.12.4.127", "incomplete"),
    ],
)
def test_a_library_that_is_none_of_cudas_packages_has_a_remedy_of_its_own(soname: str, hint: str) -> None:
    provider = provider_of(soname)
    assert provider is not None
    assert not provider.projects
    assert hint in provider.remedy
    assert "nvidia-cu" not in provider.remedy


def test_a_library_that_nobody_knows_has_no_provider() -> None:
    assert provider_of("libcublas.so.99") is None
    assert provider_of("libfoo.so.1") is None


@pytest.mark.parametrize(
    ("file", "needed", "constants", "backend"),
    [
        ("libggml-cuda.so", ("libcudart.so.12",), (), "CUDA"),
        ("libggml-cuda.so", (), ("ggml_cuda_init",), "CUDA"),
        ("libggml-cuda.so", ("libhipblas.so.2",), ("ggml_cuda_init",), "ROCm"),
        ("libggml-musa.so", ("libmusart.so.4",), ("ggml_cuda_init",), "MUSA"),
        ("libggml-cuda.so", (), (), ""),
        ("libggml.so", ("libggml-cuda.so",), (), ""),
        ("libggml-rpc.so", (), (), "RPC"),
        ("libggml-cpu-haswell.so", ("libgomp.so.1",), (), "CPU"),
        ("libggml-blas.so", ("libopenblas.so.0",), (), "BLAS"),
        ("libllama.so", ("libvulkan.so.1",), (), "Vulkan"),
    ],
)
def test_a_back_end_shows_by_what_it_needs_or_holds(
    file: str, needed: tuple[str, ...], constants: tuple[str, ...], backend: str
) -> None:
    library = LibraryFile(platform="x86_64", needed=needed, constants=frozenset(constants))
    assert backends_of({Path(file): library}) == ((backend,) if backend else ())


def test_only_back_ends_for_gpus_are_called_so() -> None:
    assert {row.name for row in backends() if is_gpu(row.name)} >= {"CUDA", "ROCm", "Vulkan", "SYCL", "Metal"}
    assert not any(map(is_gpu, ("CPU", "BLAS", "RPC", "unknown")))


def test_every_pattern_of_the_catalog_is_one() -> None:
    for row in backends():
        re.compile(row.needs)
        re.compile(row.file)


def test_a_module_is_installed_by_its_projects_name() -> None:
    assert project_of_module("PIL") == "pillow"
    assert project_of_module("numpy") == "numpy"


@pytest.mark.parametrize(
    ("data", "platform"),
    [
        (b"MZ" + bytes(70), "Windows"),
        (b"\xcf\xfa\xed\xfe" + bytes(70), "macOS"),
        (b"", "nothing: it is no library"),
        (b"\x7fELF", "nothing: it is no library"),
        (b"\x7fELF\x02\x01" + bytes(12) + b"\xb7\x00" + bytes(50), "nothing: it is cut off"),
    ],
)
def test_what_is_no_library_of_linux_is_named(tmp_path: Path, data: bytes, platform: str) -> None:
    file = tmp_path / "lib.so"
    file.write_bytes(data)
    found = inspect_library(file)
    assert (found.platform, found.elf) == (platform, False)


def test_folders_of_the_environment_come_before_those_that_variables_name(tmp_path: Path) -> None:
    own, named = tmp_path / "site" / "nvidia" / "cublas" / "lib", tmp_path / "cuda" / "lib64"
    for folder in (own, named):
        folder.mkdir(parents=True)
        (folder / "libcublas.so.12").write_bytes(HEADER)
        (folder / "libcublas.so.11").write_bytes(HEADER.replace(b"\x3e", b"\xb7"))  # for aarch64
    site = (str(tmp_path / "site"),)
    environment = Environment(machine="x86_64", executable="", prefix=str(tmp_path / "absent"), path=site)
    found = holding("libcublas.so.12", [], environment, {"CUDA_HOME": str(tmp_path / "cuda")})
    assert found == (str(own), str(named))
    assert holding("libcublas.so.11", [], environment, {}) == ()
