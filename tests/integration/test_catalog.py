"""The catalog's rows against the toolkits themselves, version by version, so that the table cannot drift."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import resources
from pathlib import Path

import pytest
import uv

from build_matrix.catalog import llama_releases, oldest_system, project_of, toolkits
from build_matrix.downloads import read_configuration, uv_environment
from build_matrix.locks import read_lock
from build_matrix.model import Architecture, Toolkit
from build_matrix.store import Store

pytestmark = pytest.mark.index

# CUDA 12 and 11 have no nvcc in the index; their packages carry ptxas and the headers.
PROJECTS = {13: "nvidia-cuda-nvcc", 12: "nvidia-cuda-nvcc-cu12", 11: "nvidia-cuda-nvcc-cu11"}


@pytest.fixture(params=toolkits().values(), ids=lambda row: row.cuda)
def row(request: pytest.FixtureRequest) -> Toolkit:
    found: Toolkit = request.param
    return found


@pytest.fixture
def root(row: Toolkit, shared_store: Store, tmp_path: Path) -> Path:
    """The compiler packages of a toolkit, unpacked."""
    wanted = [f"{PROJECTS[row.family]}=={row.cuda}.*"]
    if row.family >= 13:
        locked = {p.project: p.version for p in read_lock(f"cuda-{row.cuda}").packages}
        wanted = [f"{name}=={locked[name]}" for name in ("nvidia-cuda-nvcc", "nvidia-cuda-crt")]
    return _install(wanted, shared_store, tmp_path)


def test_architectures_are_those_of_ptxas(row: Toolkit, root: Path) -> None:
    said = _say(_one(root, "bin/ptxas"), "--help").replace("\n", "")
    codes = {int(number) for number in re.findall(r"'sm_(\d+)'", said)}
    assert {int(number) for number in row.architectures} == codes
    assert row.arch_specific == bool(re.search(r"'sm_\d+a'", said))
    assert row.family_specific == bool(re.search(r"'sm_\d+f'", said))


def test_what_a_toolkit_is_said_not_to_compile_is_what_its_headers_lack(
    row: Toolkit, shared_store: Store, tmp_path: Path
) -> None:
    """The limits of the releases name a function; the toolkits that they exclude do not declare it, the others do."""
    folder = _install([f"{project_of('nvidia-cuda-runtime', row.family)}=={row.cuda}.*"], shared_store, tmp_path)
    header = _one(folder, "include/cuda_device_runtime_api.h").read_text()
    for limit in (limit for release in llama_releases().values() for limit in release.limit):
        (function,) = re.findall(r"\bcuda[A-Z]\w+", limit.fact)
        oldest = Architecture(number=int(limit.architectures.removeprefix(">=")))
        assert limit.excludes(row.cuda, oldest) == (function not in header)


def test_host_compilers_are_those_of_host_config(row: Toolkit, root: Path) -> None:
    header = _one(root, "include/crt/host_config.h").read_text()
    assert re.findall(r"#if __GNUC__ > (\d+)", header) == [str(row.gcc.max)]
    assert int(re.findall(r"#if \(__clang_major__ >= (\d+)\)", header)[-1]) == row.clang.max + 1
    msvc = re.search(r"#if _MSC_VER < (\d+) \|\| _MSC_VER >= (\d+)", header)
    assert msvc is not None
    assert (row.msvc.min, row.msvc.max) == (int(msvc[1]), int(msvc[2]) - 1)


def test_features_are_those_of_nvccs_help(row: Toolkit, root: Path) -> None:
    found = [path for path in root.rglob("nvcc") if path.is_file()]
    if not found:
        assert not row.fast_compile, "only toolkits whose nvcc can be asked are said to have it"
        return
    said = _say(found[0], "--help")
    assert not row.fast_compile or "--Ofast-compile" in said
    assert row.compress_mode == ("--compress-mode" in said)
    assert row.random_seed == ("--frandom-seed" in said)


def test_the_oldest_system_is_that_of_its_manylinux_policy() -> None:
    """auditwheel's policy knows which symbol versions every system of that age has."""
    row = oldest_system("linux-x86_64")
    table = json.loads(resources.files("auditwheel.policy").joinpath("manylinux-policy.json").read_text())
    (policy,) = [entry for entry in table if entry["name"] == row.policy]
    allowed = policy["symbol_versions"][row.architecture]
    for family, version in row.symbols.items():
        assert version in allowed[family]
        numbers = [tuple(map(int, text.split("."))) for text in allowed[family] if text.replace(".", "").isdigit()]
        assert tuple(map(int, version.split("."))) == max(numbers), family
    assert row.symbols["GLIBC"] == row.glibc


def _install(wanted: list[str], store: Store, folder: Path) -> Path:
    environment = uv_environment(store.root / "uv-cache", read_configuration().uv_variables(store.root / "uv-cache"))
    words = ["pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(folder)]
    subprocess.run([uv.find_uv_bin(), *words, *wanted], env=environment, check=True)
    return folder


def _one(root: Path, ending: str) -> Path:
    (path,) = [path for path in root.rglob(Path(ending).name) if str(path).endswith(ending)]
    return path


def _say(program: Path, *words: str) -> str:
    program.chmod(0o755)
    return subprocess.run([program, *words], capture_output=True, text=True, env={}, check=True).stdout
