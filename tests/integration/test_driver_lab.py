"""Drivers of every kind, good and bad, met by the real pynvml, the real probe and the real command line."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest
from commands import run_tool

from build_matrix.diagnosis import diagnose
from build_matrix.errors import ConfigurationError
from build_matrix.model import Finding, Machine
from build_matrix.probe import nvidia, probe
from lab import FOUNDING, Front, Lab, LabGpu

pytestmark = pytest.mark.compiler


def surroundings() -> dict[str, str]:
    """The environment without any toolkit of this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CUDA")}
    return kept | {"PATH": "/usr/bin:/bin"}


def meet(lab: Lab, folder: Path, **variables: str) -> Machine:
    return probe(folder, surroundings() | lab.install(folder / "lab") | variables)


def problems(machine: Machine) -> list[str]:
    found: list[Finding] = diagnose(machine)
    return [finding.fact for finding in found if not finding.passed]


def tool(lab: Lab, folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    store = {"BUILD_MATRIX_STORE": str(folder / "store")}
    return run_tool(words, surroundings() | lab.install(folder / "lab") | variables | store)


def old_toolkit(folder: Path, said: str = "Cuda compilation tools, release 12.1, V12.1.66") -> str:
    """A PATH on which a toolkit 12.1 comes first."""
    nvcc = folder / "cuda-12.1" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(f"#!/bin/sh\necho '{said}'\n")
    nvcc.chmod(0o755)
    return f"{nvcc.parent}{os.pathsep}{os.environ['PATH']}"


def test_a_driver_is_read_with_its_gpus(tmp_path: Path) -> None:
    machine = meet(Lab("576.52", 12090, (FOUNDING,)), tmp_path)
    assert machine.driver is not None
    assert (machine.driver.version, machine.driver.cuda, machine.driver.kernel_cuda) == ("576.52", "12.9", "12.9")
    (gpu,) = machine.gpus
    assert (gpu.name, gpu.architecture, gpu.memory) == (FOUNDING.name, "89", 8 << 30)
    assert problems(machine) == []


def test_under_cuda_compat_library_and_kernel_module_differ(tmp_path: Path) -> None:
    machine = meet(Lab("550.54.14", 13000), tmp_path / "compat")
    assert machine.driver is not None
    assert (machine.driver.cuda, machine.driver.kernel_cuda) == ("13.0", "12.4")
    assert any("cuda-compat is on the loader path" in text for text in problems(machine))


@pytest.mark.parametrize(
    ("lab", "driver", "words"),
    [
        (Lab(fault="CRASH"), False, "crashed the process that called it (signal 6)"),
        (Lab(fault="ERROR"), False, "error 999"),
        (Lab(fault="LOST"), True, "GPU 0: GPU is lost"),
        (Lab(init_error=804), True, "Error 804"),
        (Lab(init_error=999), True, "cuInit fails with error 999"),
        (Lab(compute_mode=2), True, "compute mode prohibited"),
        (Lab(libraries=()), False, "no NVIDIA driver"),
    ],
)
def test_a_bad_driver_is_one_sentence_and_never_a_crash(tmp_path: Path, lab: Lab, driver: bool, words: str) -> None:
    machine = meet(lab, tmp_path)
    assert (machine.driver is not None) == driver
    assert any(words in text for text in problems(machine)), problems(machine)


def test_a_driver_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "SECONDS", 1.0)
    machine = meet(Lab(fault="HANG"), tmp_path)
    assert machine.driver is None
    assert "did not respond within 1 s" in machine.driver_problem
    assert not psutil.Process().children(recursive=True), "what asked it is ended"


@pytest.mark.parametrize(("libraries", "version"), [(("nvml",), "580.65.06"), (("cuda",), "unknown")])
def test_one_library_without_the_other_is_enough(tmp_path: Path, libraries: tuple[str, ...], version: str) -> None:
    machine = meet(Lab(libraries=libraries), tmp_path)
    assert machine.driver is not None
    assert (machine.driver.version, machine.driver.cuda) == (version, "13.0")
    assert [gpu.architecture for gpu in machine.gpus] == ["89"]


def test_a_front_answers_for_the_driver_behind_it(tmp_path: Path) -> None:
    lab = Lab("580.65.06", 13000)
    behind = lab.install(tmp_path / "lab")
    front = Front(tmp_path / "lab" / "libcuda.so.1", cuda=12090, context_error=46)
    machine = probe(tmp_path, surroundings() | behind | front.install(tmp_path / "front", behind))
    assert machine.driver is not None
    assert (machine.driver.cuda, [gpu.name for gpu in machine.gpus]) == ("12.9", [lab.gpus[0].name])
    library = ctypes.CDLL(str(tmp_path / "front" / "libcuda.so.1"))
    function = ctypes.c_void_p()
    assert library.cuGetProcAddress(b"cuDriverGetVersion", ctypes.byref(function), 12000, ctypes.c_ulonglong(0)) == 0
    version = ctypes.c_int()
    assert ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(function.value or 0)(ctypes.addressof(version)) == 0
    assert version.value == 12090


def test_hidden_gpus_are_named(tmp_path: Path) -> None:
    machine = meet(Lab(), tmp_path, CUDA_VISIBLE_DEVICES="")
    assert any("CUDA_VISIBLE_DEVICES='' hides every GPU" in text for text in problems(machine))


def test_every_toolkit_is_listed_and_the_one_that_would_win_comes_first(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.symlink_to(tmp_path / "nowhere")
    machine = meet(Lab(), tmp_path, PATH=old_toolkit(tmp_path), CUDA_PATH=str(broken))
    first = machine.toolkits[0]
    assert (first.version, first.source) == ("12.1.66", "PATH")
    (named,) = [toolkit for toolkit in machine.toolkits if toolkit.source == "CUDA_PATH"]
    assert named.problem == "there is no nvcc in that folder"
    assert any("CUDA_PATH points to" in text for text in problems(machine))


def test_garbage_from_nvcc_is_a_problem_of_that_toolkit(tmp_path: Path) -> None:
    machine = meet(Lab(), tmp_path, PATH=old_toolkit(tmp_path, said="garbage"))
    assert machine.toolkits[0].problem == "nvcc does not report its version"


def test_claims_stand_in_for_what_is_found_and_are_recorded(tmp_path: Path) -> None:
    machine = meet(Lab(), tmp_path, BUILD_MATRIX_DRIVER_CUDA="12.9", BUILD_MATRIX_COMPUTE_CAPABILITIES="7.5,12.0")
    assert machine.driver is not None
    assert machine.driver.cuda == "12.9"
    assert [gpu.architecture for gpu in machine.gpus] == ["75", "120"]
    assert set(machine.overrides) == {"BUILD_MATRIX_DRIVER_CUDA", "BUILD_MATRIX_COMPUTE_CAPABILITIES"}
    assert meet(Lab(), tmp_path, BUILD_MATRIX_DRIVER_CUDA="none").driver is None


@pytest.mark.parametrize(
    "variables", [{"BUILD_MATRIX_DRIVER_CUDA": "new"}, {"BUILD_MATRIX_COMPUTE_CAPABILITIES": "8.9,banana"}]
)
def test_nonsense_claims_are_exit_code_2(tmp_path: Path, variables: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        meet(Lab(), tmp_path, **variables)
    assert caught.value.exit_code == 2


def test_the_founding_story_ends_before_anything_is_downloaded_instead_of_after_a_day(tmp_path: Path) -> None:
    lab = Lab("576.52", 12090, (FOUNDING,))
    path = old_toolkit(tmp_path)
    told = tool(lab, tmp_path, "doctor", PATH=path)
    assert "576.52, supports CUDA up to 12.9" in told.stdout
    assert "12.1.66" in told.stdout
    assert "other builds would use it" in told.stdout
    done = tool(lab, tmp_path, "build", "--cuda", "13", "--llama", "0.3.16", PATH=path)
    assert done.returncode == 4
    for words in (
        "Driver 576.52 supports CUDA up to 12.9",
        "need driver 580",
        "Rebuilding will not help",
        "Update the driver to 580",
        "nox -s build-cuda12",
        "--ignore-driver",
    ):
        assert words in done.stderr
    assert not (tmp_path / "store").exists(), "it stopped before anything was downloaded"
    with_update = tool(Lab("580.88", 13000, (FOUNDING,)), tmp_path, "plan", "--cuda", "13", "--llama", "0.3.16")
    assert "chosen: llama-cpp-python 0.3.16+cu130.sm89" in with_update.stdout


def test_doctor_and_plan_print_json_for_bug_reports(tmp_path: Path) -> None:
    lab = Lab(gpus=(LabGpu(), LabGpu("NVIDIA RTX 2060", "7.5")))
    report = json.loads(tool(lab, tmp_path, "doctor", "--json").stdout)
    assert report["machine"]["driver"]["cuda"] == "13.0"
    assert len(report["machine"]["gpus"]) == 2
    plan = json.loads(tool(lab, tmp_path, "plan", "--json").stdout)
    assert plan["cell"]["cuda"] == "13.0"
    assert all(candidate["findings"] for candidate in plan["candidates"])


def test_doctor_says_of_each_wheel_whether_it_runs_here(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    name = "llama_cpp_python-0.3.16+cu130.sm89-py3-none-linux_x86_64.whl"
    (wheels / name).touch()
    old = tool(Lab("576.52", 12090), tmp_path, "doctor", "--json", "--wheels", str(wheels))
    assert "supports CUDA up to 12.9" in json.loads(old.stdout)["wheels"][name]
    new = tool(Lab("580.88", 13000), tmp_path, "doctor", "--json", "--wheels", str(wheels))
    assert json.loads(new.stdout)["wheels"][name] == "runs here: nox -s verify"
