"""Real toolkits from the real index: complete, and of one release."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from contexts import in_context
from packaging.requirements import Requirement

from build_matrix.downloads import Downloads, IndexConfiguration, ingredient_choices, read_configuration
from build_matrix.downloads.install import resolve
from build_matrix.errors import ArchiveUnreachableError, ConfigurationError, MissingPrerequisiteError
from build_matrix.locks import read_lock, select_ingredients
from build_matrix.model import Architecture, Cell, LockedPackage, Sysroot, Toolchain
from build_matrix.pipeline.lock import check_same_release
from build_matrix.probe import find_compilers
from build_matrix.provision import (
    fetch_toolkit,
    provision_sysroot,
    provision_toolkit,
    read_installed,
    self_test,
    small_kernel,
    take_installed,
)
from build_matrix.store import Store

pytestmark = pytest.mark.index

CELL = Cell(llama="0.3.16", cuda="13.0", architectures=(Architecture(number=89),), platform="linux-x86_64")
FILES = ingredient_choices(CELL)[0]
NOWHERE = IndexConfiguration(endpoints=("http://127.0.0.1:9/simple/",))


@pytest.fixture
def toolchain(shared_store: Store, reporter) -> Toolchain:  # type: ignore[no-untyped-def]
    return provision_toolkit(in_context(shared_store, downloads=Downloads(shared_store, reporter)), CELL, FILES)


def test_a_toolkit_is_complete_and_needs_the_index_once(
    toolchain: Toolchain,
    shared_store: Store,
    reporter,  # type: ignore[no-untyped-def]
) -> None:
    for name in ("libcudart.so", "libcublas.so", "libcublasLt.so"):
        assert (toolchain.root / "lib64" / name).resolve().is_file()
    said = subprocess.run([toolchain.nvcc, "--version"], capture_output=True, text=True, env={}, check=True).stdout
    assert f"V{toolchain.nvcc_version}" in said
    assert (
        provision_toolkit(in_context(shared_store, downloads=Downloads(shared_store, reporter, NOWHERE)), CELL, FILES)
        == toolchain
    )


def from_debian(cuda: str, store: Store, reporter) -> Toolchain:  # type: ignore[no-untyped-def]
    cell = msgspec.structs.replace(CELL, cuda=cuda)
    (choice,) = [c for c in ingredient_choices(cell) if c.toolkit[-1].origin == "debian"]
    downloads = Downloads(store, reporter)
    try:
        return provision_toolkit(
            in_context(store, downloads=downloads),
            cell,
            fetch_toolkit(in_context(store, downloads=downloads), cell, choice),
        )
    except ArchiveUnreachableError as error:
        pytest.skip(f"this machine's apt reaches no archive that has it: {error.problem}")


@pytest.mark.parametrize("cuda", ["11.8", "12.4"])
def test_debians_compiler_and_the_indexs_libraries_make_a_whole_toolkit(
    cuda: str,
    shared_store: Store,
    reporter,  # type: ignore[no-untyped-def]
) -> None:
    toolchain = from_debian(cuda, shared_store, reporter)
    said = subprocess.run([toolchain.nvcc, "--version"], capture_output=True, text=True, env={}, check=True).stdout
    assert f"V{toolchain.nvcc_version}" in said
    assert "release " + cuda in said
    assert {file.origin for file in toolchain.components} == {"index", "debian"}


def test_an_installed_toolkit_is_copied_and_known_by_its_files(toolchain: Toolchain, tmp_path: Path, reporter) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path / "cuda"
    shutil.copytree(toolchain.root, root, symlinks=True)
    (root / "include" / "nvtx3").mkdir()
    (root / "include" / "nvtx3" / "nvToolsExt.h").touch()
    store = Store(tmp_path / "store")
    taken = take_installed(in_context(store), CELL, select_ingredients(CELL), root)
    assert {file.origin for file in taken.toolkit} == {"installed"}
    copied = provision_toolkit(in_context(store, downloads=Downloads(store, reporter, NOWHERE)), CELL, taken)
    assert (copied.nvcc_version, copied.cuda) == (toolchain.nvcc_version, "13.0")
    assert not (copied.root / "include" / "nvtx3").exists()
    versions = {file.project: file.version for file in toolchain.components}
    assert {f.project: f.version.split(".")[:2] for f in taken.toolkit} == {
        name: versions[name].split(".")[:2] for name in ("nvidia-cuda-nvcc", "nvidia-cuda-runtime", "nvidia-cublas")
    }
    header = root / "include" / "cuda_fp16.h"
    header.write_text(header.read_text() + "// changed\n")
    assert read_installed(root)[1] != taken.toolkit


def test_a_folder_without_a_toolkit_and_a_toolkit_of_another_version_are_refused(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="contains no known CUDA toolkit"):
        read_installed(tmp_path)
    other = msgspec.structs.replace(CELL, cuda="12.4")
    with pytest.raises(ConfigurationError, match=r"is CUDA 13\.0, not 12\.4"):
        take_installed(in_context(Store(tmp_path / "store")), other, select_ingredients(other), toolchain.root)


@pytest.mark.compiler
def test_it_compiles_a_kernel_and_the_same_in_every_folder(sysroot: Sysroot, shared_store: Store, reporter) -> None:  # type: ignore[no-untyped-def]
    toolchain = from_debian("12.4", shared_store, reporter)
    assert self_test(
        in_context(shared_store), toolchain, CELL.architectures, find_compilers()[0], sysroot
    ).same_anywhere


@pytest.fixture
def sysroot(shared_store: Store, reporter) -> Sysroot:  # type: ignore[no-untyped-def]
    compiler = find_compilers()[0]
    return provision_sysroot(
        in_context(shared_store, downloads=Downloads(shared_store, reporter)), "linux-x86_64", FILES.sysroot, compiler
    )


@pytest.mark.compiler
def test_the_toolkit_compiles_a_kernel_for_the_wanted_architecture(
    toolchain: Toolchain, sysroot: Sysroot, shared_store: Store
) -> None:
    architectures = (Architecture(number=89), Architecture(number=90, kind="virtual"))
    tested = self_test(in_context(shared_store), toolchain, architectures, find_compilers()[0], sysroot)
    assert tested.same_anywhere


@pytest.mark.compiler
def test_a_toolkit_whose_output_depends_on_the_folder_is_noticed(
    toolchain: Toolchain, sysroot: Sysroot, shared_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_kernel, "launcher", lambda *_args, **_options: [])
    compiler = msgspec.structs.replace(find_compilers()[0], identity="without the launcher")
    assert not self_test(in_context(shared_store), toolchain, CELL.architectures, compiler, sysroot).same_anywhere


@pytest.mark.compiler
def test_a_compiler_without_headers_is_found_before_the_compilation(
    toolchain: Toolchain, sysroot: Sysroot, shared_store: Store, tmp_path: Path
) -> None:
    compiler = msgspec.structs.replace(find_compilers()[0], identity="broken")
    bare = msgspec.structs.replace(sysroot, cxx_includes=(str(tmp_path),))
    with pytest.raises(MissingPrerequisiteError, match="cannot compile a small kernel") as caught:
        self_test(in_context(shared_store), toolchain, CELL.architectures, compiler, bare)
    assert "error" in caught.value.problem.lower()


def test_nvcc_alone_pulls_parts_of_another_release_and_the_lock_does_not(shared_store: Store) -> None:
    variables = read_configuration().uv_variables(shared_store.root / "uv-cache")
    lines = resolve("nvidia-cuda-nvcc==13.0.88", variables, shared_store.root / "uv-cache")
    pulled = [_package(line) for line in lines]
    with pytest.raises(ConfigurationError, match="not from one release"):
        check_same_release("13.0", pulled)
    locked = {p.project: p.version for p in read_lock("cuda-13.0").packages}
    assert {locked[f"nvidia-{part}"] for part in ("cuda-nvcc", "nvvm", "cuda-crt")} == {"13.0.88"}


def _package(line: str) -> LockedPackage:
    requirement = Requirement(line)
    return LockedPackage(project=requirement.name, version=next(iter(requirement.specifier)).version, files=())
