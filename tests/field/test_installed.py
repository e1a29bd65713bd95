"""Installed llama_cpp of which people reported that it does not import or offload, each made for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from build_matrix.cli.installed_rows import installed_rows
from build_matrix.diagnosis import diagnose_installed
from build_matrix.errors import ConfigurationError
from build_matrix.model import Driver, Finding, InstalledLlama, Machine
from build_matrix.probe import installed
from build_matrix.probe.installed import examine_environment
from llama_stub import ASKING, FALSE, LOADER, TRUE, Stub, Workshop, registry

pytestmark = pytest.mark.compiler

CLEAN = ("LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSAFEPATH", "LLAMA_CPP_LIB_PATH", "LLAMA_CPP_LIB", "CUDA_HOME",
         "CUDA_PATH", "CUDA_ROOT", "CONDA_PREFIX", "ROCM_PATH", "MKLROOT")  # fmt: skip
GPU = ("CUDA0", "NVIDIA GeForce RTX 4090", "CUDA", 1)
CPU = ("CPU", "A processor", "CPU", 0)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, workshop: Workshop) -> Stub:
    return Stub(tmp_path_factory.mktemp("environment") / "env", workshop)


@pytest.fixture
def stub(environment: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """The environment, empty; its Python is started in a folder that holds nothing."""
    monkeypatch.chdir(tmp_path)
    yield environment
    environment.clear()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits a short time."""
    monkeypatch.setattr(installed, "IMPORT_SECONDS", 4.0)
    monkeypatch.setattr(installed, "QUESTION_SECONDS", 2.0)


def examine(stub: Stub, **variables: str) -> InstalledLlama:
    kept = {name: value for name, value in os.environ.items() if name not in CLEAN}
    return examine_environment(stub.python, kept | variables)


def findings(stub: Stub, machine: Machine, **variables: str) -> list[Finding]:
    return diagnose_installed(examine(stub, **variables), machine)


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


# --- libraries that the loader does not find ----------------------------------------------------------------


def test_a_library_in_a_package_that_the_loader_does_not_reach_is_off_the_path(stub: Stub, machine: Machine) -> None:
    """JamePeng/llama-cpp-python#52, abetlen/llama-cpp-python#1460."""
    stub.package(LOADER + FALSE)
    stub.add("libllama.so", "libcudart.so.12")
    place = stub.add("libcudart.so.12", folder=stub.site / "nvidia" / "cuda_runtime" / "lib").parent
    finding = only(findings(stub, machine))
    assert finding.rule == "library off the path"
    assert f"libcudart.so.12, which libllama.so needs, is in {place}, where the loader does not look" in finding.fact
    assert f"LD_LIBRARY_PATH={place}" in finding.remedy
    assert examine(stub, LD_LIBRARY_PATH=str(place)).missing_libraries == ()


def test_a_missing_library_of_cuda_names_the_package_of_its_own_major(stub: Stub, machine: Machine) -> None:
    """zylon-ai/private-gpt#1684: libcudart.so.11.0."""
    stub.package(LOADER)
    stub.add("libllama.so", "libcudart.so.11.0", "libcublas.so.11")
    finding = only(findings(stub, machine))
    assert finding.rule == "library missing"
    assert "pip install nvidia-cublas-cu11 nvidia-cuda-runtime-cu11" in finding.remedy
    assert "cu12" not in finding.remedy


def test_a_missing_library_of_the_system_names_its_package_and_none_of_cuda(stub: Stub, machine: Machine) -> None:
    """abetlen/llama-cpp-python#1822: libgomp.so.1 in conda; #2006: Vulkan; JamePeng's wheels: OpenSSL 3."""
    stub.package(LOADER)
    stub.add("libllama.so", "libgomp.so.99", "libvulkan.so.99", "libssl.so.399")
    found = {finding.remedy: finding.fact for finding in findings(stub, machine) if finding.rule == "library missing"}
    assert len(found) == 3
    assert not any("nvidia" in remedy for remedy in found)
    assert any("libgomp1" in remedy and "libgomp.so.99" in fact for remedy, fact in found.items())
    assert any("libvulkan1" in remedy and "libvulkan.so.99" in fact for remedy, fact in found.items())


def test_the_need_of_a_library_that_is_found_is_named_with_that_library(stub: Stub, machine: Machine) -> None:
    stub.package(LOADER)
    stub.add("libllama.so", "libmkl_core.so.2", flags=("-Wl,-rpath,$ORIGIN/../vendor", "-Wl,--enable-new-dtags"))
    stub.add("libmkl_core.so.2", "libiomp5.so", folder=stub.site / "llama_cpp" / "vendor")
    finding = findings(stub, machine)[0]
    assert "libiomp5.so, which libmkl_core.so.2 needs" in finding.fact
    assert "intel-openmp" in finding.remedy


@pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"])
@pytest.mark.parametrize("origin", ["$ORIGIN", "${ORIGIN}"])
def test_rpath_and_runpath_lead_to_a_library(stub: Stub, tags: str, origin: str) -> None:
    stub.package(LOADER)
    flags = (f"-Wl,-rpath,{origin}/../../nvidia/cublas/lib", f"-Wl,{tags}")
    stub.add("libllama.so", "libcublas.so.12", flags=flags)
    stub.add("libcublas.so.12", folder=stub.site / "nvidia" / "cublas" / "lib")
    answer = examine(stub)
    assert answer.missing_libraries == ()
    assert answer.finds_packages


def test_a_library_for_another_processor_does_not_count_as_found(stub: Stub, machine: Machine) -> None:
    stub.package(LOADER)
    stub.add("libllama.so", "libcudart.so.12")
    other = stub.add("libcudart.so.12", folder=stub.site / "nvidia" / "cuda_runtime" / "lib")
    other.write_bytes(for_aarch64(other))
    assert only(findings(stub, machine)).rule == "library missing"


def for_aarch64(library: Path) -> bytes:
    data = bytearray(library.read_bytes())
    data[18:20] = (183).to_bytes(2, "little")  # e_machine
    return bytes(data)


def test_a_library_below_a_prefix_that_a_variable_names_is_off_the_path(
    stub: Stub, machine: Machine, tmp_path: Path
) -> None:
    """ggml-org/llama.cpp#25807: libhipblas.so.3 lies in /opt/rocm/core-7.14/lib."""
    stub.package(LOADER)
    stub.add("libllama.so", "libhipblas.so.399")
    stub.add("libhipblas.so.399", folder=tmp_path / "rocm" / "lib")
    assert "install" in only(findings(stub, machine)).remedy.lower()
    finding = only(findings(stub, machine, ROCM_PATH=str(tmp_path / "rocm")))
    assert finding.rule == "library off the path"
    assert str(tmp_path / "rocm" / "lib") in finding.fact


def test_a_wheel_for_musl_is_named_as_such(stub: Stub, machine: Machine) -> None:
    """abetlen/llama-cpp-python#1628, xorbitsai/inference#2535."""
    stub.package(LOADER)
    stub.add("libllama.so", "libc.musl-x86_64.so.1")
    finding = findings(stub, machine)[0]
    assert "musl" in finding.fact
    assert "manylinux" in finding.remedy


def test_a_part_of_the_package_that_is_gone_is_no_cuda_package(stub: Stub, machine: Machine) -> None:
    """abetlen/llama-cpp-python#1559: libggml.so."""
    stub.package(LOADER)
    stub.add("libllama.so", "libggml.so", "libcudart-9335f6a2.so.12.4.127")
    finding = only(findings(stub, machine))
    assert "libcudart-9335f6a2.so.12.4.127, libggml.so" in finding.fact
    assert "incomplete" in finding.remedy


def test_the_drivers_library_comes_with_the_driver(stub: Stub, machine: Machine) -> None:
    """NixOS/nixpkgs#465751: libcuda.so.1, in a linked build."""
    stub.package(
        "raise RuntimeError(\"Failed to load shared library 'x': libcuda.so.1: cannot open shared object file\")"
    )
    stub.add("libllama.so", "libcuda.so.199")
    found = findings(stub, machine)
    assert all("driver" in finding.remedy for finding in found)
    assert not any("pip install" in finding.remedy for finding in found)


def test_a_library_of_another_llama_cpp_on_the_path_is_named(stub: Stub, machine: Machine, tmp_path: Path) -> None:
    """ggml-org/llama.cpp#17491 and others: LD_LIBRARY_PATH comes before a RUNPATH."""
    stub.package(LOADER + FALSE)
    stub.add("libllama.so", "libggml.so", flags=("-Wl,-rpath,$ORIGIN", "-Wl,--enable-new-dtags"))
    stub.add("libggml.so")
    stub.add("libggml.so", folder=tmp_path / "other")
    assert not any(finding.rule == "library from elsewhere" for finding in findings(stub, machine))
    found = findings(stub, machine, LD_LIBRARY_PATH=str(tmp_path / "other"))
    assert found[0].rule == "library from elsewhere"
    assert str(tmp_path / "other") in found[0].fact


def test_a_distribution_that_brings_a_module_of_another_name_is_told(stub: Stub, machine: Machine) -> None:
    """oobabooga/textgen#6169: llama_cpp_python_cuda brings llama_cpp_cuda."""
    stub.distribution("0.2.79", "llama_cpp_python_cuda", record="llama_cpp_cuda/__init__.py,,\n")
    finding = only(findings(stub, machine))
    assert finding.rule == "another module's name"
    assert "llama_cpp_python_cuda 0.2.79 (which provides llama_cpp_cuda)" in finding.fact


@pytest.mark.parametrize(
    ("project", "module", "file", "named"),
    [
        ("llama_cpp_python_cuda", "llama_cpp_cuda", "__init__.py", True),
        ("llama_cpp_python_cuda_tensorcores", "llama_cpp_cuda_tensorcores", "__init__.py", True),
        ("llama_cpp_binaries", "llama_cpp_binaries", "__init__.py", True),
        ("llama_cpp_other", "llama_cpp_other", "lib/libllama.so", True),
        ("llama_cpp_agent", "llama_cpp_agent", "__init__.py", False),
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_build_of_llama_cpp_under_another_name_is_named_with_and_without_a_list_of_its_files(
    stub: Stub, machine: Machine, project: str, module: str, file: str, named: bool, listed: bool
) -> None:
    path = stub.site / module / file
    path.parent.mkdir(parents=True)
    path.touch()
    stub.distribution("0.2.85+cu121", project, record=f"{module}/{file},,\n" if listed else "")
    answer = examine(stub)
    finding = only(diagnose_installed(answer, machine))
    assert finding.rule == ("another module's name" if named else "not installed")
    assert (f"pip lists {project} 0.2.85+cu121 (which provides {module})" in finding.fact) == named
    assert answer.version == ""


# --- libraries that do not fit ----------------------------------------------------------------------------------


def test_a_newer_glibc_is_asked_for_and_what_is_here_is_said(stub: Stub, machine: Machine, workshop: Workshop) -> None:
    """abetlen/llama-cpp-python#1840: GLIBC_2.32 not found."""
    stub.package(LOADER)
    stub.add("libllama.so", code=NEEDS_NEWER, flags=(newer(workshop, "libm.so.6", "GLIBC_2.199"),))
    finding = findings(stub, machine)[0]
    assert finding.rule == "glibc too old"
    assert "GLIBC_2.199 is not in /" in finding.fact
    assert "it has up to GLIBC_2." in finding.fact
    assert "nox -s build" in finding.remedy


def test_a_newer_libstdcxx_is_asked_for(stub: Stub, machine: Machine, workshop: Workshop) -> None:
    """intel/ipex-llm#8259, ztxz16/fastllm#339: GLIBCXX_3.4.30 not found, in conda."""
    stub.package(LOADER)
    stub.add("libllama.so", code=NEEDS_NEWER, flags=(newer(workshop, "libstdc++.so.6", "GLIBCXX_3.4.199"),))
    finding = findings(stub, machine)[0]
    assert finding.rule == "libstdc++ too old"
    assert "libstdcxx-ng" in finding.remedy


NEEDS_NEWER = "int newer(void); int stub(void) { return newer(); }"


def newer(workshop: Workshop, name: str, version: str) -> str:
    """A library that stands in for the system's at link time, and defines a newer symbol version."""
    script = workshop.folder / f"{version}.map"
    script.write_text(f"{version} {{ global: newer; }};\n")
    return str(workshop.library(name, code="int newer(void) { return 0; }", flags=(f"-Wl,--version-script={script}",)))


def test_code_and_libraries_of_different_versions_are_told(stub: Stub, machine: Machine) -> None:
    """abetlen/llama-cpp-python#2026, #1684, #479: undefined symbol."""
    stub.package(LOADER + "_lib.llama_kv_cache_view_init\n")
    stub.add("libllama.so", "libcudart.so.12", flags=("-Wl,-rpath,$ORIGIN",))
    stub.add("libcudart.so.12")
    finding = only(findings(stub, machine))
    assert finding.rule == "mixed versions"
    assert "llama_kv_cache_view_init" in finding.fact


@pytest.mark.parametrize(
    ("name", "data", "platform"),
    [
        ("libllama.dylib", b"\xcf\xfa\xed\xfe" + bytes(60), "macOS"),
        ("llama.dll", b"MZ" + bytes(60), "Windows"),
    ],
)
def test_libraries_that_no_loader_here_loads_are_named(
    stub: Stub, machine: Machine, name: str, data: bytes, platform: str
) -> None:
    package = stub.package(LOADER)
    (package / "lib" / name).write_bytes(data)
    stub.distribution(WHEEL="Wheel-Version: 1.0\nTag: py3-none-macosx_11_0_arm64\n")
    found = findings(stub, machine)
    assert found[0].rule == "library for another platform"
    assert platform in found[0].fact
    assert "py3-none-macosx_11_0_arm64" in found[0].fact
    assert not any(finding.rule == "CPU build" for finding in found)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS, not the file"),
        (b"", "it is no library"),
        (b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00" + bytes(50), "it is cut off"),
    ],
)
def test_a_library_for_no_platform_is_damaged(stub: Stub, machine: Machine, data: bytes, why: str) -> None:
    (stub.package(LOADER) / "lib" / "libllama.so").write_bytes(data)
    found = findings(stub, machine)
    assert found[0].rule == "damaged library"
    assert f"libllama.so: {why}" in found[0].fact
    assert not any(finding.rule == "CPU build" for finding in found)


def test_a_library_for_another_processor_is_named(stub: Stub, machine: Machine) -> None:
    stub.package(LOADER)
    library = stub.add("libllama.so")
    library.write_bytes(for_aarch64(library))
    assert "aarch64" in findings(stub, machine)[0].fact


def test_a_library_that_is_cut_off_is_no_end(stub: Stub, machine: Machine) -> None:
    stub.package(LOADER)
    library = stub.add("libllama.so")
    library.write_bytes(library.read_bytes()[:100])
    assert findings(stub, machine)


# --- where Python finds it ------------------------------------------------------------------------------------

HOOK = """
import sys, importlib.util
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "llama_cpp":
            return importlib.util.spec_from_file_location(name, {init!r}, submodule_search_locations=[{folder!r}])
sys.meta_path.insert(0, Finder)
"""


def test_an_editable_install_by_an_import_hook_is_found(stub: Stub, machine: Machine, tmp_path: Path) -> None:
    """abetlen/llama-cpp-python#273: scikit-build-core's redirecting finder."""
    package = stub.package(FALSE, tmp_path / "src")
    stub.add("libllama.so", folder=package / "lib")
    (stub.site / "_editable.py").write_text(HOOK.format(init=str(package / "__init__.py"), folder=str(package)))
    (stub.site / "_editable.pth").write_text("import _editable\n")
    url = {"url": (tmp_path / "src").as_uri(), "dir_info": {"editable": True}}
    stub.distribution(record="", direct_url__json=json.dumps(url))
    answer = examine(stub)
    assert answer.folder == str(package)
    assert answer.distribution is not None
    assert answer.distribution.editable == str(tmp_path / "src")
    assert [finding.rule for finding in diagnose_installed(answer, machine)] == ["CPU build"]
    assert any(f"editable: {tmp_path / 'src'}" in value for _, value in installed_rows(answer))


def test_an_editable_install_by_a_pth_file_is_found(stub: Stub, tmp_path: Path) -> None:
    package = stub.package(TRUE, tmp_path / "src")
    (stub.site / "__editable__.llama_cpp_python-0.3.16.pth").write_text(f"{tmp_path / 'src'}\n")
    answer = examine(stub)
    assert (answer.folder, answer.imports, answer.offload) == (str(package), True, True)


def test_a_hook_that_raises_is_a_reason(stub: Stub, machine: Machine) -> None:
    (stub.site / "_editable.py").write_text(
        "import sys\nclass F:\n  def find_spec(*a):\n"
        "    if a[0] == 'llama_cpp': raise OSError('the build folder is gone')\nsys.meta_path.insert(0, F)\n"
    )
    (stub.site / "_editable.pth").write_text("import _editable\n")
    finding = only(findings(stub, machine))
    assert finding.rule == "not installed"
    assert "the build folder is gone" in finding.fact


def test_a_folder_without_init_is_a_leftover(stub: Stub, machine: Machine) -> None:
    stub.package().joinpath("__init__.py").unlink()
    assert only(findings(stub, machine)).rule == "folder without package"


def test_a_file_of_that_name_where_python_is_started_is_named_with_what_it_hides(
    stub: Stub, machine: Machine, tmp_path: Path
) -> None:
    """abetlen/llama-cpp-python#94: the user's own llama_cpp.py."""
    package = stub.package(TRUE)
    (tmp_path / "llama_cpp.py").write_text("from llama_cpp import Llama\n")
    finding = only(findings(stub, machine))
    assert finding.rule == "another module"
    assert f"runs {tmp_path / 'llama_cpp.py'}, which is not llama-cpp-python: it hides {package}" in finding.fact
    assert examine(stub, PYTHONSAFEPATH="1").folder in {str(package), str(tmp_path)}  # Python 3.11 and later obey


def test_a_source_folder_where_python_is_started_is_named(stub: Stub, machine: Machine, tmp_path: Path) -> None:
    """abetlen/llama-cpp-python#1764, #568, #132: base name 'llama' not found."""
    package = stub.package(TRUE)
    stub.package(LOADER, tmp_path)
    found = findings(stub, machine)
    assert [finding.rule for finding in found] == ["hides another"]
    assert str(package) in found[0].fact


def test_a_package_without_its_library_says_so(stub: Stub, machine: Machine) -> None:
    stub.package(LOADER)
    assert only(findings(stub, machine)).rule == "no library in the package"


def test_entries_of_the_path_that_do_not_exist_are_no_end(stub: Stub, tmp_path: Path) -> None:
    package = stub.package(TRUE)
    path = os.pathsep.join([str(tmp_path / "absent"), "", "/dev/null"])
    assert examine(stub, PYTHONPATH=path).folder == str(package)


def test_a_package_in_an_archive_is_named(stub: Stub, machine: Machine, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("llama_cpp/__init__.py", TRUE)
    finding = only(findings(stub, machine, PYTHONPATH=str(tmp_path / "all.zip")))
    assert finding.rule == "package in an archive"


@pytest.mark.parametrize("leftover", ["", "~lama_cpp"])
def test_what_pip_lists_but_python_does_not_find_is_told(stub: Stub, machine: Machine, leftover: str) -> None:
    stub.distribution()
    if leftover:
        (stub.site / leftover).mkdir()
    finding = only(findings(stub, machine))
    assert "pip lists llama_cpp_python 0.3.16" in finding.fact
    assert leftover in finding.fact


def test_a_variable_that_leads_nowhere_is_named_without_its_value(stub: Stub, machine: Machine) -> None:
    stub.package(LOADER)
    stub.add("libllama.so")
    finding = only(findings(stub, machine, LLAMA_CPP_LIB_PATH="/absent/s3cret"))
    assert finding.rule == "library folder absent"
    assert "s3cret" not in finding.fact + finding.remedy


def test_the_libraries_are_those_where_the_variable_leads(stub: Stub, tmp_path: Path) -> None:
    stub.package(TRUE)
    stub.add("libggml-cuda.so", "libcudart.so.13")
    stub.add("libggml-vulkan.so", "libvulkan.so.1", folder=tmp_path / "own")
    answer = examine(stub, LLAMA_CPP_LIB_PATH=str(tmp_path / "own"))
    assert answer.backends == ("Vulkan",)
    assert answer.variable == "LLAMA_CPP_LIB_PATH"
    old = examine(stub, LLAMA_CPP_LIB=str(tmp_path / "own" / "libggml-vulkan.so"))
    assert old.backends == ("Vulkan",)


def test_a_variable_that_this_version_does_not_read_changes_nothing(stub: Stub, tmp_path: Path) -> None:
    package = stub.package(TRUE)
    (package / "llama_cpp.py").write_text("_path = os.environ.get('LLAMA_CPP_LIB_PATH')\n")
    stub.add("libggml-vulkan.so", "libvulkan.so.1")
    assert examine(stub, LLAMA_CPP_LIB=str(tmp_path / "libllama.so")).backends == ("Vulkan",)


# --- who brought it ---------------------------------------------------------------------------------------------


def test_two_distributions_in_one_folder_are_named(stub: Stub, machine: Machine) -> None:
    stub.package(TRUE)
    stub.distribution("0.3.16")
    stub.distribution("0.2.26", "llama_cpp_python_binary")
    found = findings(stub, machine)
    assert found[0].rule == "installed over one another"
    assert "llama_cpp_python_binary 0.2.26" in found[0].fact


def test_a_distribution_of_another_name_without_a_list_of_its_files_owns_the_folder_beside_it(stub: Stub) -> None:
    stub.package(TRUE)
    stub.distribution("0.3.16", "llama_cpp_python_cu12", record="")
    (row,) = examine(stub).distributions
    assert (row.name, row.version, row.module) == ("llama_cpp_python_cu12", "0.3.16", "")


def test_what_no_library_can_be_the_reason_of_is_reported_beside_what_is_wrong_with_them(
    stub: Stub, machine: Machine
) -> None:
    stub.package("def (")
    stub.add("libggml-cuda.so", "libcudart.so.12")
    (stub.site / "llama_cpp" / "lib" / "libllama.so").write_bytes(b"")
    found = {finding.rule: finding.fact for finding in findings(stub, machine)}
    assert "SyntaxError" in found["import fails"]
    assert "libllama.so: it is no library" in found["damaged library"]


def test_code_of_another_version_than_recorded_is_named(stub: Stub, machine: Machine) -> None:
    stub.package('__version__ = "0.2.90"\n' + TRUE)
    stub.distribution("0.3.16")
    assert findings(stub, machine)[0].rule == "code of another version"


@pytest.mark.parametrize(
    "metadata", [b"", b"\x00\x01", b"Name\nVersion\n\n", b"Author: Andr\xe9\nName: llama_cpp_python\n"]
)
def test_broken_metadata_is_no_end(stub: Stub, metadata: bytes) -> None:
    package = stub.package(TRUE)
    (stub.distribution() / "METADATA").write_bytes(metadata)
    stub.distribution("1.0", "unrelated", record="", direct_url__json="[")
    answer = examine(stub)
    assert (answer.folder, answer.version) == (str(package), "0.3.16")


def test_a_password_in_the_address_of_an_install_is_not_reported(stub: Stub, machine: Machine) -> None:
    stub.package(TRUE)
    url = "https://user:s3cret@example.test/llama-cpp-python.git"
    stub.distribution(direct_url__json=json.dumps({"url": url, "vcs_info": {"vcs": "git"}}))
    answer = examine(stub, MY_TOKEN="s3cret")
    text = msgspec.json.encode([answer, diagnose_installed(answer, machine)]).decode() + str(installed_rows(answer))
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("version", "metadata", "module", "fork"),
    [
        ("0.3.20+cu128", "Project-URL: Homepage, https://github.com/JamePeng/llama-cpp-python\n", "", "JamePeng"),
        ("0.3.20", "", "llama_embedding.py", "JamePeng"),
        ("0.3.47+cu130", "", "", "perhaps JamePeng"),
        ("0.3.20+cuda13.0.sm100.sm120.blackwell", "", "", "dougeeai"),
        ("0.3.16", "Project-URL: Homepage, https://github.com/abetlen/llama-cpp-python\n", "", ""),
    ],
)
def test_a_build_by_others_is_named(stub: Stub, version: str, metadata: str, module: str, fork: str) -> None:
    package = stub.package(TRUE)
    if module:
        (package / module).touch()
    file = stub.distribution(version) / "METADATA"
    file.write_text(file.read_text() + metadata)
    answer = examine(stub)
    assert answer.fork.startswith(fork)
    assert bool(answer.fork) == bool(fork)


# --- what the import does ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_an_import_that_does_not_end_is_stopped_and_placed(stub: Stub, machine: Machine) -> None:
    """microsoft/WSL#41361: CUDA's start never returns."""
    code = "void __attribute__((constructor)) wait_for_ever(void) { for (;;) sleep(1000); }"
    stub.package(LOADER)
    stub.add("libllama.so", code=code)
    answer = examine(stub)
    assert answer.end is not None
    assert answer.end.loading.endswith("libllama.so")
    finding = next(f for f in diagnose_installed(answer, machine) if f.rule == "import does not end")
    assert "did not return within 4 s: while it loaded" in finding.fact


def test_what_a_package_does_when_python_ends_is_not_waited_for(stub: Stub) -> None:
    stub.package(f"import atexit, time\natexit.register(time.sleep, 1000)\n{TRUE}")
    answer = examine(stub)
    assert (answer.imports, answer.offload, answer.end) == (True, True, None)


def test_a_question_that_raises_is_reported_with_its_exception(stub: Stub, machine: Machine) -> None:
    stub.package("def llama_supports_gpu_offload():\n    raise OSError('access violation')\n")
    stub.add("libggml-cuda.so", "libcuda.so.1")
    assert "raised OSError: access violation" in only(findings(stub, machine)).fact


@pytest.mark.usefixtures("impatient")
def test_a_question_that_is_not_answered_leaves_what_is_known(stub: Stub, machine: Machine) -> None:
    stub.package("import time\ndef llama_supports_gpu_offload():\n    time.sleep(1000)\n")
    stub.add("libggml-cuda.so", "libcuda.so.1")
    answer = examine(stub)
    assert (answer.imports, answer.offload, answer.backends) == (True, None, ("CUDA",))
    assert "llama_supports_gpu_offload() did not return within 2 s" in only(diagnose_installed(answer, machine)).fact


@pytest.mark.parametrize(
    ("body", "rule", "text"),
    [
        ("__builtin_trap();", "illegal instruction", "SIGILL"),
        ("*(volatile int *)0 = 1;", "import crashes", "SIGSEGV"),
        ("abort();", "import crashes", "SIGABRT"),
        ("_exit(3);", "import crashes", "exit code 3"),
    ],
)
def test_an_import_that_crashes_is_named_by_its_end(
    stub: Stub, machine: Machine, body: str, rule: str, text: str
) -> None:
    """abetlen/llama-cpp-python#839, #412; dougeeai/llama-cpp-python-wheels#10: illegal instruction."""
    stub.package(LOADER)
    stub.add("libllama.so", "libcudart.so.12", code=f"void __attribute__((constructor)) crash(void) {{ {body} }}",
             flags=("-Wl,-rpath,$ORIGIN",))  # fmt: skip
    stub.add("libcudart.so.12")
    finding = only(findings(stub, machine))
    assert (finding.rule, text in finding.fact) == (rule, True), finding


def test_a_missing_module_is_installed_by_its_projects_name(stub: Stub, machine: Machine) -> None:
    stub.package("import PIL\n")
    finding = only(findings(stub, machine))
    assert finding.rule == "Python module missing"
    assert "pip install pillow" in finding.remedy


def test_a_missing_part_of_the_package_is_no_project(stub: Stub, machine: Machine) -> None:
    """abetlen/llama-cpp-python#907: No module named 'llama_cpp.llama_chat_format'."""
    stub.package("import llama_cpp.llama_chat_format\n")
    finding = only(findings(stub, machine))
    assert finding.rule == "package incomplete"
    assert "pip install llama_cpp" not in finding.remedy


def test_a_python_that_is_too_old_for_the_package_is_named(stub: Stub, machine: Machine) -> None:
    stub.package("x: int = None | 1\n")
    (stub.distribution() / "METADATA").write_text("Name: llama_cpp_python\nVersion: 0.3.16\nRequires-Python: >=3.99\n")
    assert "needs Python >=3.99" in findings(stub, machine)[0].fact


# --- what it answers --------------------------------------------------------------------------------------------


def test_a_gpu_in_its_own_registry_is_evidence(stub: Stub, machine: Machine) -> None:
    stub.package(ASKING + "def llama_print_system_info(): return b'CUDA : ARCHS = 890'\n")
    stub.add("libllama.so", "libcudart-9335f6a2.so.12.4.127", code=registry(GPU, CPU, offload=True))
    beside = stub.add("libcudart-9335f6a2.so.12.4.127").parent
    answer = examine(stub, LD_LIBRARY_PATH=str(beside))
    assert answer.cuda_family == 12
    finding = only(diagnose_installed(answer, machine))
    assert finding.passed
    assert "NVIDIA GeForce RTX 4090" in finding.fact
    rows = dict(installed_rows(answer))
    assert rows["back ends"] == "CUDA 12"
    assert "CUDA0 (NVIDIA GeForce RTX 4090)" in rows["devices"]


def test_offload_without_a_gpu_is_said(stub: Stub, machine: Machine) -> None:
    """With RPC, llama_supports_gpu_offload() is true without any GPU."""
    stub.package(ASKING)
    stub.add("libllama.so", code=registry(CPU, offload=True))
    finding = only(findings(stub, machine))
    assert finding.rule == "offload without a GPU"
    assert not finding.passed


def test_back_ends_that_nothing_loads_are_said(stub: Stub, machine: Machine) -> None:
    """abetlen/llama-cpp-python#2069: no backends are loaded."""
    stub.package(ASKING)
    stub.add("libllama.so", code=registry(offload=False))
    stub.add("libggml-base.so")
    stub.add("libggml-vulkan.so", "libvulkan.so.1", flags=("-Wl,-rpath,$ORIGIN",))
    stub.add("libvulkan.so.1")
    finding = only(findings(stub, machine))
    assert finding.rule == "back ends not loaded"
    assert "Vulkan" in finding.fact


def test_a_package_that_closes_the_standard_output_is_heard(stub: Stub) -> None:
    stub.package("import os, sys\nos.close(1)\nsys.stdout = None\n" + TRUE)
    answer = examine(stub)
    assert (answer.imports, answer.offload) == (True, True)


def test_a_crash_in_its_registry_leaves_its_other_answers(stub: Stub, machine: Machine) -> None:
    stub.package(ASKING)
    code = registry(GPU, offload=True).replace("return names[", "return (char *)1 + names[0][")
    stub.add("libllama.so", code=code)
    answer = examine(stub)
    assert (answer.imports, answer.offload, answer.devices) == (True, True, None)
    assert answer.end is not None
    assert "The list of devices ended the process" in only(diagnose_installed(answer, machine)).fact


@pytest.mark.parametrize(
    ("library", "needs", "backend"),
    [
        ("libggml-vulkan.so", "libvulkan.so.1", "Vulkan"),
        ("libggml-cuda.so", "libcuda.so.1", "CUDA"),
        ("libggml-cuda.so", "libcudart-9335f6a2.so.12.4.127", "CUDA"),
        ("libggml-hip.so", "libamdhip64.so.6", "ROCm"),
        ("libggml-cuda.so", "libhipblas.so.2", "ROCm"),
        ("libggml-sycl.so", "libsycl.so.8", "SYCL"),
        ("libggml-opencl.so", "libOpenCL.so.1", "OpenCL"),
        ("libggml-cann.so", "libascendcl.so", "CANN"),
        ("libggml-musa.so", "libmusart.so.4", "MUSA"),
        ("libllama.so", "libcublas.so.12", "CUDA"),
    ],
)
def test_a_build_that_offloads_is_never_called_a_cpu_build(
    stub: Stub, machine: Machine, library: str, needs: str, backend: str
) -> None:
    """abetlen/llama-cpp-python#2006, ggml-org/llama.cpp#15622."""
    stub.package(TRUE)
    stub.add(library, needs)
    answer = examine(stub)
    assert answer.backends == (backend,)
    found = diagnose_installed(answer, machine)
    assert all(finding.rule == "not judged" for finding in found)


def test_cuda_that_is_linked_in_is_seen_by_its_own_words(stub: Stub, machine: Machine) -> None:
    """A static runtime, GGML_STATIC: no library of CUDA is needed."""
    stub.package(FALSE)
    stub.add("libllama.so", code='const char *text(void) { return "ggml_cuda_init: found %d CUDA devices"; }')
    stub.distribution("0.3.16+cu124")
    answer = examine(stub)
    assert (answer.backends, answer.cuda_family) == (("CUDA",), 12)
    assert not any(finding.rule == "CPU build" for finding in diagnose_installed(answer, machine))


def test_the_reason_in_its_log_is_the_cause(stub: Stub, machine: Machine) -> None:
    stub.package(
        "import sys\ndef llama_supports_gpu_offload():\n"
        "    print('ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected', file=sys.stderr)\n"
        "    return False\n"
    )
    stub.add("libggml-cuda.so", "libcuda.so.1")
    driven = msgspec.structs.replace(machine, driver=Driver(version="580.95.05", cuda="13.0"), driver_problem="")
    assert only(findings(stub, driven)).rule == "no GPU"
    assert only(findings(stub, machine)).rule == "no driver"  # which the machine shows, and the log follows from


# --- the interpreter --------------------------------------------------------------------------------------------


def interpreters() -> dict[str, Path]:
    """This interpreter, and those of other versions on the PATH or where pyenv and uv put theirs, by version."""
    found = {"{}.{}".format(*sys.version_info): Path(sys.executable)}
    for version in (f"3.{minor}" for minor in range(7, 15)):
        managed = (f".pyenv/versions/{version}.*/bin/python", f".local/share/uv/python/cpython-{version}.*/bin/python")
        candidates = [path for pattern in managed for path in sorted(Path.home().glob(pattern))]
        candidates += [Path(path)] if (path := shutil.which(f"python{version}")) else []
        works = (
            p for p in candidates if subprocess.run([p, "--version"], capture_output=True, check=False).returncode == 0
        )
        if python := next(works, None):
            found.setdefault(version, python)
    return found


def test_every_python_of_the_last_years_that_is_here_can_be_examined(tmp_path: Path) -> None:
    package = tmp_path / "llama_cpp"
    package.mkdir()
    (package / "__init__.py").write_text(TRUE)
    kept = {name: value for name, value in os.environ.items() if name not in CLEAN}
    for version, python in interpreters().items():
        answer = examine_environment(python, kept | {"PYTHONPATH": str(tmp_path)})
        assert (answer.folder, answer.imports, answer.offload) == (str(package), True, True), answer
        assert answer.python_version.startswith(version)


def test_what_is_no_python_is_told_from_one_that_is_too_old(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'SyntaxError: future feature annotations is not defined' >&2\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(ConfigurationError) as caught:
        examine_environment(script, os.environ)
    assert "3.7" in caught.value.remedy
    with pytest.raises(ConfigurationError, match="not a working Python"):
        examine_environment(tmp_path / "absent", os.environ)


def test_an_environment_may_be_named_by_its_folder(stub: Stub) -> None:
    stub.package(TRUE)
    environ: Mapping[str, str] = {name: value for name, value in os.environ.items() if name not in CLEAN}
    assert examine_environment(stub.root, environ).imports
