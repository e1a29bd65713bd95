"""The real wheel on other people's machines: from an index page, without a driver, with an old one, on an old CPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import pytest
import uv
from contexts import in_context
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from main_job import ROOT, Place
from rich.console import Console
from small_model import CONTEXT, COUNT, PROMPT, expected, write_small_model

from build_matrix.downloads import Downloads, create_environment, install_wheels
from build_matrix.locks import read_lock, select_wheels
from build_matrix.platforms import find_platform
from build_matrix.report import LineReporter
from build_matrix.source import patches_for
from build_matrix.store import Store
from build_matrix.trial.environment import install_wheel
from build_matrix.verify.static import check_static
from build_matrix.wheelfile.archive import dist_info_folder, read_members
from build_matrix.wheelfile.file import WheelFile
from lab import FOUNDING, Lab

pytestmark = [pytest.mark.build, pytest.mark.compiler, pytest.mark.index]

QEMU = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")  # packages qemu-user, qemu-user-static

GENERATE = f"""
import json, sys
import llama_cpp
offload = llama_cpp.llama_supports_gpu_offload()
model = llama_cpp.Llama(sys.argv[1], n_ctx={CONTEXT}, n_threads=2, n_gpu_layers=99, verbose=False)
tokens = []
for token in model.generate({list(PROMPT)}, temp=0.0, top_k=1):
    tokens.append(int(token))
    if len(tokens) == {COUNT}:
        break
print(json.dumps([offload, tokens]))
"""
ON_THE_CPU = [False, list(expected())]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "smoke.gguf"
    write_small_model(path)
    return path


@pytest.fixture(scope="module")
def python(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and all that it declares."""
    store = Store(place.store)
    label = check_static(WheelFile(place.wheel), find_platform("linux-x86_64"))[1]
    assert label is not None
    folder = tmp_path_factory.mktemp("complete")
    return install_wheel(in_context(store, downloads=downloads(store)), WheelFile(place.wheel), label, folder).python


def downloads(store: Store) -> Downloads:
    return Downloads(store, LineReporter(Console(stderr=True)))


def install_lock(name: str, python: Path, store: Store) -> None:
    install_wheels(downloads(store).fetch(select_wheels(read_lock(name)), name), store.root / "uv-cache", python=python)


def generate(
    python: Path, model: Path, variables: Mapping[str, str] | None = None, under: tuple[str, ...] = ()
) -> tuple[list[object], str]:
    """What a program that generates says to its user, and what it says beside that."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(model.parent), **(variables or {})}
    words = [*under, str(python), "-I", "-c", GENERATE, str(model)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_without_driver_and_nvidia_packages_it_generates_on_the_cpu_in_silence(
    place: Place, model: Path, tmp_path: Path, installer: str
) -> None:
    page = tmp_path / "index" / "llama-cpp-python"
    page.mkdir(parents=True)
    shutil.copy(place.wheel, page)
    (page / "index.html").write_text(f'<a href="{place.wheel.name.replace("+", "%2B")}">{place.wheel.name}</a>')
    store = Store(place.store)
    python = create_environment(tmp_path / "environment", store.root / "uv-cache")
    install_lock("runtime", python, store)
    words = ["install", "--quiet", "--no-deps", "--index-url", (tmp_path / "index").as_uri()]
    if installer == "pip":
        argv = [sys.executable, "-m", "pip", "--python", str(python), *words]
    else:
        argv = [uv.find_uv_bin(), "pip", *words, "--python", str(python), "--no-config", "--cache-dir", str(tmp_path)]
    subprocess.run(
        [*argv, "llama-cpp-python==0.3.16+cu130.sm89.check"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"},
        check=True,
    )
    assert generate(python, model) == (ON_THE_CPU, "")


def test_with_a_driver_that_is_too_old_it_does_the_same_and_can_say_why(
    python: Path, model: Path, tmp_path: Path
) -> None:
    lab = Lab("576.52", 12090, (FOUNDING,)).install(tmp_path / "lab")
    assert generate(python, model, lab) == (ON_THE_CPU, "")
    found, said = generate(python, model, lab | {"LLAMA_CPP_BACKENDS": "explain"})
    assert found == ON_THE_CPU
    cuda, cpu = said.splitlines()
    assert cuda == (
        "llama_cpp: CUDA back end: not loaded: the driver speaks CUDA 12.9, and this build needs CUDA 13.0 or newer: "
        "update the driver, or install a build for an older CUDA"
    )
    assert cpu.startswith("llama_cpp: CPU back end: libggml-cpu-")


def test_the_cuda_module_is_loaded_where_a_driver_is(python: Path, tmp_path: Path) -> None:
    """The lab's driver has no GPU that computes: the module and CUDA's libraries load, and then say so."""
    lab = Lab("580.95", 13000, (FOUNDING,)).install(tmp_path / "lab")
    program = "from llama_cpp import _backends; print(_backends.report()[0]); print(open('/proc/self/maps').read())"
    done = subprocess.run(
        [python, "-I", "-c", program], env={"PATH": "/usr/bin:/bin", **lab}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == "CUDA back end: not loaded: no usable GPU"
    for name in ("libggml-cuda.so", "nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcublas.so.13"):
        assert name in done.stdout, name


@pytest.mark.skipif(not QEMU, reason="needs qemu-user")
def test_on_a_processor_without_avx_it_takes_other_code(python: Path, model: Path) -> None:
    under = (str(QEMU), "-cpu", "Nehalem")
    (offload, tokens), said = generate(python, model, {"LLAMA_CPP_BACKENDS": "explain"}, under)
    assert (offload, len(tokens)) == (False, COUNT)
    assert "CPU back end: libggml-cpu-sse42.so" in said


def test_upstreams_own_tests_pass_but_those_that_download(place: Place, python: Path, tmp_path: Path) -> None:
    store = Store(place.store)
    install_lock("upstream-tests", python, store)
    tree = next(store.root.glob("source/*/tree"))  # another test has added one of the same release
    shutil.copytree(tree / "tests", tmp_path / "tests")
    shutil.copytree(tree / "vendor/llama.cpp/models", tmp_path / "vendor/llama.cpp/models")
    subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=result.xml", "tests"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    cases = ET.parse(tmp_path / "result.xml").getroot().findall(".//testcase")
    bad = [(case.get("name"), problem.get("message")) for case in cases for problem in case if problem.tag != "skipped"]
    assert not [name for name, message in bad if "LocalEntryNotFoundError" not in str(message)]
    assert len(cases) - len(bad) >= 8


def test_the_checkers_of_package_indexes_accept_it(place: Place) -> None:
    # W004 takes libggml-cpu-x64.so for a Python module, whose name could not be imported.
    for words in (["check_wheel_contents", "--ignore=W004"], ["twine", "check", "--strict"]):
        done = subprocess.run(
            [sys.executable, "-m", *words, str(place.wheel)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_its_bill_of_materials_is_valid_and_names_every_input(place: Place) -> None:
    members = read_members(place.wheel)
    text = members[f"{dist_info_folder(members)}/sboms/build-matrix.cdx.json"].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    names = {component["name"] for component in json.loads(text)["components"]}
    assert {"llama.cpp", "llama-cpp-python", "nvidia-cuda-nvcc", "nvidia-cublas", "ziglang", "gcc"} <= names
    patches = {f"patches/{path.name}" for path in patches_for("0.3.16", ROOT / "patches")}
    assert {name for name in names if name.startswith("patches/")} == patches
    assert patches
    assert "timestamp" not in text
    assert f"{dist_info_folder(members)}/licenses/vendor/llama.cpp/LICENSE" in members
