"""Situations of the machine that people reported, met by the real command line in front of a stand-in driver."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest
from commands import run_tool

from build_matrix.probe.nvidia import probe_nvidia
from lab import Lab, LabGpu

pytestmark = pytest.mark.compiler

ONE = Lab("576.52", 12090, obeys=True)
MIXED = Lab(
    "580.95.05",
    13000,
    (
        LabGpu("NVIDIA GeForce GTX 1080", "6.1", "GPU-11111111-1111-1111-1111-111111111111"),
        LabGpu("NVIDIA GeForce RTX 5090", "12.0", "GPU-55555555-5555-5555-5555-555555555555"),
    ),
    order=(1, 0),
    obeys=True,
)
ELF = "\x7fELF\x02"  # the beginning of a 64-bit library
SLOT = "sys/bus/pci/devices/0000:01:00.0"
NOTHING = "Nothing is wrong"
OURS = "llama_cpp_python-0.3.16+cu128.sm89-py3-none-linux_x86_64.whl"


def doctor(lab: Lab, folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA", "CMAKE", "NVIDIA"))}
    environ = kept | {"PATH": "/usr/bin:/bin", "BUILD_MATRIX_STORE": str(folder / "store")}
    done = run_tool(("doctor", *words), environ | lab.install(folder / "lab") | variables)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    return done


def report(lab: Lab, folder: Path, **variables: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(doctor(lab, folder, "--json", **variables).stdout)
    return answer


def problems(answer: dict[str, Any]) -> list[str]:
    return [finding["rule"] for finding in answer["findings"] if not finding["passed"]]


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def test_nothing_is_wrong_comes_with_its_evidence(tmp_path: Path) -> None:
    shown = doctor(ONE, tmp_path).stdout
    assert f"{NOTHING}: the driver library works and shows this process NVIDIA GeForce RTX 4090." in shown
    assert "✗" not in shown


@pytest.mark.parametrize("value", ["1,0", "GPU-deadbeef", "", "all"])
def test_a_hidden_gpu_is_the_problem_whatever_hides_it(tmp_path: Path, value: str) -> None:
    answer = report(ONE, tmp_path, CUDA_VISIBLE_DEVICES=value)
    assert problems(answer) == ["hidden"]
    assert "1 problem" in answer["verdict"]
    assert answer["machine"]["driver_problem"] == f"CUDA_VISIBLE_DEVICES={value!r} hides every GPU"


def test_a_hidden_gpu_is_found_without_nvml_too(tmp_path: Path) -> None:
    alone = Lab("576.52", 12090, libraries=("cuda",), obeys=True)
    answer = report(alone, tmp_path, CUDA_VISIBLE_DEVICES="")
    assert problems(answer) == ["hidden"]
    assert [gpu["name"] for gpu in answer["machine"]["gpus"]] == ["NVIDIA GeForce RTX 4090"]


def test_a_gpu_named_twice_is_not_blamed_on_the_kernel_module(tmp_path: Path) -> None:
    shown = doctor(ONE, tmp_path, CUDA_VISIBLE_DEVICES="0,0").stdout
    assert "names a GPU twice ('0')" in shown
    assert "kernel module" not in shown
    assert shown.count("✗") == 1


def test_numbers_are_those_of_cuda_and_not_of_the_bus(tmp_path: Path) -> None:
    shown = doctor(MIXED, tmp_path, CUDA_VISIBLE_DEVICES="0").stdout
    assert f"{NOTHING}: the driver library works and shows this process NVIDIA GeForce RTX 5090." in shown
    assert "GeForce GTX 1080, sm_61, 24 GiB, hidden from this process" in shown
    by_bus = doctor(MIXED, tmp_path, CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID").stdout
    assert "shows this process NVIDIA GeForce GTX 1080." in by_bus


@pytest.mark.parametrize(
    ("lab", "words", "never"),
    [
        (Lab(init_error=802), ("Fabric Manager",), ("one version",)),
        (Lab(version_error=34, init_error=34, nvml_error=9), ("stub", "stubs folder"), ("Reboot",)),
        (Lab(init_error=803, nvml_error=18), ("803", "Reboot"), ("Xid",)),
        (Lab(init_error=46), ("compute mode", "46"), ("Reboot",)),
        (Lab(init_error=3), ("error 3",), ("one version",)),
        (Lab(init_error=801), ("error 801",), ("Reboot",)),
        (Lab(init_error=4711), ("error 4711",), ("Reboot",)),
        (Lab(init_error=100, nvml_error=9), ("no GPU",), ("kernel module does not work", "Reboot")),
        (Lab(gpus=()), ("no GPU",), ("error 100", "Reboot")),
    ],
)
def test_one_error_one_sentence_one_remedy(
    tmp_path: Path, lab: Lab, words: tuple[str, ...], never: tuple[str, ...]
) -> None:
    shown = doctor(lab, tmp_path).stdout
    assert shown.count("✗") == 1
    assert NOTHING not in shown
    assert all(word in shown for word in words), shown
    assert not any(word in shown for word in never), shown


@pytest.mark.parametrize("cuda", [0, -1, 999])
def test_a_number_that_is_no_cuda_version_is_a_problem_and_the_module_tells_it(tmp_path: Path, cuda: int) -> None:
    answer = report(Lab("576.52", cuda, obeys=True), tmp_path)
    assert problems(answer) == ["driver without version"]
    assert answer["machine"]["driver"]["cuda"] == "12.9"
    (finding,) = (one for one in answer["findings"] if not one["passed"])
    assert f"cuDriverGetVersion returns {cuda}." in finding["fact"]


def test_an_error_of_one_function_is_not_told_of_another(tmp_path: Path) -> None:
    shown = doctor(Lab("576.52", 12090, version_error=999), tmp_path).stdout
    assert "cuDriverGetVersion returns error 999." in shown
    assert "cuInit" not in shown
    assert NOTHING not in shown


def test_a_folder_is_no_wheel(tmp_path: Path) -> None:
    (tmp_path / "wheels" / OURS).mkdir(parents=True)
    shown = doctor(ONE, tmp_path, "--wheels", str(tmp_path / "wheels")).stdout
    assert "cannot be judged: this is not a file" in shown
    assert "runs here" not in shown


def test_nvml_failing_is_not_no_gpu(tmp_path: Path) -> None:
    answer = report(Lab("580.65.06", 13000, nvml_error=999, obeys=True), tmp_path)
    assert problems(answer) == []
    assert NOTHING in answer["verdict"]
    (gpu,) = answer["machine"]["gpus"]
    assert (gpu["compute_capability"], gpu["memory"]) == ("8.9", 24 << 30)
    assert gpu["uuid"].startswith("GPU-0000")
    assert "NVML error 999" in answer["machine"]["evidence"]["nvml_problem"]


@pytest.mark.parametrize(("mark", "words"), [(".dockerenv", "given no GPU"), ("etc/hostname", "file too short")])
def test_an_empty_library_is_what_an_image_holds_in_the_place_of_the_hosts(
    tmp_path: Path, mark: str, words: str
) -> None:
    for name in (mark, "lab/libcuda.so.1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    answer = probe_nvidia({"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(tmp_path / "lab")}, tmp_path)
    assert words in answer.problem


def test_a_limit_of_virtual_memory_is_not_a_full_gpu(tmp_path: Path) -> None:
    shown = doctor(Lab(init_error=2), tmp_path).stdout
    assert "the system gives the driver library too little memory" in shown
    assert "free memory" not in shown
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (64 << 30, before[1]))
    try:
        limited = doctor(Lab(init_error=2), tmp_path).stdout
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert "virtual memory is limited to 64.0 GiB" in limited


@pytest.mark.skipif(has_driver(), reason="there is a driver library here, which the loader finds")
def test_a_32_bit_library_is_named_as_such(tmp_path: Path) -> None:
    Lab(libraries=("cuda",)).install(tmp_path / "lab")
    library = tmp_path / "lab" / "libcuda.so.1"
    data = bytearray(library.read_bytes())
    data[4] = 1  # EI_CLASS: ELFCLASS32
    library.write_bytes(data)
    answer = probe_nvidia({"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(library.parent)}, tmp_path / "root")
    assert "for 32-bit" in answer.problem or "wrong ELF class" in answer.problem


def test_mig_is_shown_and_left_to_the_driver(tmp_path: Path) -> None:
    sliced = Lab("580.105.08", 13000, (LabGpu("NVIDIA H100 80GB HBM3", "9.0"),), mig=True)
    shown = doctor(sliced, tmp_path, CUDA_VISIBLE_DEVICES="MIG-377e0049-554c-540b-93c6-d0976f8426cb").stdout
    assert "NVIDIA H100 80GB HBM3, sm_90, 24 GiB, MIG" in shown
    assert "✗" not in shown


JUDGED = {
    OURS: "runs here: nox -s verify",
    "llama_cpp_python-0.3.16+cu130.sm89-py3-none-linux_x86_64.whl": "Driver 576.52 supports CUDA up to 12.9",
    "llama_cpp_python-0.3.16+cu128.sm75-py3-none-linux_x86_64.whl": "does not run here: NVIDIA GeForce RTX 4090",
    "llama_cpp_python-0.3.20+cuda13.0.sm100.sm120.blackwell-py3-none-win_amd64.whl": "it is for win_amd64",
    "llama_cpp_python-0.3.16+cu128.sm89-py3-none-macosx_11_0_arm64.whl": "not run here: it is for macosx_11_0_arm64",
    "llama_cpp_python-0.3.16+cu128.sm89-py3-none-manylinux_2_999_x86_64.whl": "it is for manylinux_2_999_x86_64",
    "llama_cpp_python-0.3.16+cu128.sm89-cp36-cp36m-linux_x86_64.whl": "not run here: it is for Python cp36",
    "llama_cpp_python-0.3.16+cu130-py3-none-linux_x86_64.whl": "not run here: Driver 576.52 supports CUDA up to 12.9",
    "llama_cpp_python-0.3.16+cu13.basic-py3-none-linux_x86_64.whl": "not run here: Driver 576.52 supports CUDA",
    "llama_cpp_python-0.3.16-py3-none-linux_x86_64.whl": "cannot be judged: its name states no CUDA version",
    "llama_cpp_python-0.3.16+cu128.sm89.turbo-py3-none-linux_x86_64.whl": "cannot be judged: its label",
    "llama_cpp_python-0.3.16+cu128-py3-none-linux_x86_64.whl": "cannot be judged: its label",
    "llama_cpp_python-0.3.4+cu124-py3-none-any.whl": "its label 'cu124' names no architecture",
    "torch-2.9.0+cu128-py3-none-linux_x86_64.whl": "cannot be judged: this is a wheel of torch",
    "junk.whl": "cannot be judged: this is not the name of a wheel",
    "[red]x.whl": "cannot be judged: this is not the name of a wheel",
}


def test_a_wheel_is_judged_only_where_all_of_its_name_is_understood(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    for name in JUDGED:
        (tmp_path / "wheels" / name).touch()
    words = ("--wheels", str(tmp_path / "wheels"))
    told = json.loads(doctor(ONE, tmp_path, "--json", *words).stdout)["wheels"]
    assert set(told) == set(JUDGED)
    for name, answer in JUDGED.items():
        assert answer in told[name], name
        assert told[name].startswith("runs here") == (name == OURS)
    shown = doctor(ONE, tmp_path, *words).stdout
    assert all(name in shown for name in JUDGED), "brackets are no markup"


@pytest.mark.parametrize(
    ("lab", "variables", "why"),
    [
        (Lab("576.52", 12090, gpus=()), {}, "no GPU"),
        (Lab("576.52", 12090, init_error=999), {}, "999"),
        (Lab(libraries=()), {}, "no NVIDIA driver"),
        (ONE, {"CUDA_VISIBLE_DEVICES": "3"}, "hides every GPU"),
    ],
)
def test_a_wheel_never_runs_where_no_gpu_is_shown(
    tmp_path: Path, lab: Lab, variables: dict[str, str], why: str
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / OURS).touch()
    shown = doctor(lab, tmp_path, "--json", "--wheels", str(tmp_path / "wheels"), **variables).stdout
    (prediction,) = json.loads(shown)["wheels"].values()
    assert prediction.startswith("cannot be judged: ")
    assert why in prediction


def test_a_wheel_for_some_of_the_gpus_says_which_not(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "llama_cpp_python-0.3.36+cu128.sm120-py3-none-linux_x86_64.whl").touch()
    shown = doctor(MIXED, tmp_path, "--wheels", str(tmp_path / "wheels")).stdout
    assert "runs here" in shown
    assert "not on NVIDIA GeForce GTX 1080" in shown
    only_old = doctor(MIXED, tmp_path, "--wheels", str(tmp_path / "wheels"), CUDA_VISIBLE_DEVICES="GPU-1").stdout
    assert "runs here" not in only_old
    assert "(sm_61) cannot run code for sm120" in only_old


def test_claims_are_no_evidence(tmp_path: Path) -> None:
    shown = doctor(Lab(libraries=()), tmp_path, "--driver-cuda", "12.9", "--compute-capability", "8.9").stdout
    assert NOTHING not in shown
    assert "cannot be judged: driver or GPUs are claimed" in shown


def test_variables_that_a_build_ignores_are_named_and_not_shown(tmp_path: Path) -> None:
    secret = {"CMAKE_ARGS": "-DTOKEN=hunter2", "GGML_CUDA_FORCE_MMQ": "1", "NVCC_APPEND_FLAGS": "-O0"}
    done = doctor(ONE, tmp_path, **secret)
    assert "set, but ignored by this tool: CMAKE_ARGS, GGML_CUDA_FORCE_MMQ, NVCC_APPEND_FLAGS" in done.stdout
    assert "hunter2" not in done.stdout + doctor(ONE, tmp_path, "--json", **secret).stdout


def test_names_with_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    odd = Lab("576.52", 12090, (LabGpu("NVIDIA [bold]X[/bold] [/]", "8.9"),))
    assert "NVIDIA [bold]X[/bold] [/]" in doctor(odd, tmp_path).stdout


def test_a_broken_cxx_is_a_row_and_not_the_end(tmp_path: Path) -> None:
    shown = doctor(ONE, tmp_path, CXX="/nowhere/g++").stdout
    assert "supports CUDA up to 12.9" in shown
    assert "✗" in shown
    assert "CXX" in shown


@pytest.mark.skipif(has_driver(), reason="there is a driver library here, which the loader finds")
@pytest.mark.parametrize(
    ("files", "links", "sentence"),
    [
        (
            {"proc/version": "Linux 5.15-microsoft-standard-WSL2", "usr/lib/wsl/lib/libcuda.so.1": ELF},
            {},
            "WSL keeps it in /usr/lib/wsl/lib",
        ),
        (
            {"proc/version": "Linux 5.15-microsoft-standard-WSL2"},
            {},
            "Windows gives this WSL distribution no NVIDIA driver",
        ),
        ({"run/opengl-driver/lib/libcuda.so.1": ELF}, {}, "driver library is in /run/opengl-driver/lib, which is not"),
        ({".dockerenv": ""}, {}, "no NVIDIA driver in this container"),
        (
            {f"{SLOT}/vendor": "0x10de", f"{SLOT}/class": "0x030000"},
            {},
            "the PCI bus shows an NVIDIA GPU (0000:01:00.0)",
        ),
        (
            {f"{SLOT}/vendor": "0x10de", f"{SLOT}/class": "0x030000"},
            {f"{SLOT}/driver": "../../drivers/nouveau"},
            "uses the driver nouveau",
        ),
        (
            {f"{SLOT}/vendor": "0x10de", f"{SLOT}/class": "0x030000"},
            {f"{SLOT}/driver": "../../drivers/vfio-pci"},
            "is reserved for a virtual machine",
        ),
        ({"sys/module/nvidia/version": "580.65.06"}, {}, "is missing, although the kernel module is loaded"),
        ({}, {}, "no NVIDIA driver"),
    ],
)
def test_without_a_driver_library_the_files_of_the_system_tell_why(
    tmp_path: Path, files: dict[str, str], links: dict[str, str], sentence: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    answer = probe_nvidia({"PATH": "/usr/bin:/bin"}, tmp_path)
    assert answer.driver is None
    assert sentence in answer.problem


def test_a_library_that_lacks_a_function_says_which(tmp_path: Path) -> None:
    (tmp_path / "odd.c").write_text("int cuDriverGetVersion(int *version) { *version = 12090; return 0; }\n")
    (tmp_path / "lib").mkdir()
    library = tmp_path / "lib" / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "odd.c"], check=True)
    shown = doctor(Lab(libraries=()), tmp_path, LD_LIBRARY_PATH=str(library.parent)).stdout
    assert "the driver library lacks cuInit, so it is not NVIDIA's, or is damaged." in shown
    assert "ended the process" not in shown


def test_a_gpu_without_a_name_is_called_so(tmp_path: Path) -> None:
    shown = doctor(Lab("576.52", 12090, (LabGpu(""),)), tmp_path).stdout
    assert "GPU       GPU without a name, sm_89" in shown
    assert f"{NOTHING}: the driver library works and shows this process GPU without a name." in shown


def test_a_name_that_is_no_text_does_not_silence_nvml(tmp_path: Path) -> None:
    shown = doctor(Lab("576.52", 12090, (LabGpu("NVIDIA \\377 X"),)), tmp_path).stdout
    assert "576.52, supports CUDA up to 12.9" in shown
    assert "ended the process" not in shown
    assert NOTHING in shown
