"""Situations in which a build would choose wrongly in silence, as people reported them, met by the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import run_tool

from lab import Lab, LabGpu

pytestmark = pytest.mark.compiler

HOPPER = LabGpu("NVIDIA H100 PCIe", "9.0")
PASCAL = LabGpu("Tesla P40", "6.1", "GPU-11111111-1111-1111-1111-111111111111")
BLACKWELL = LabGpu("NVIDIA GeForce RTX 5090", "12.0", "GPU-55555555-5555-5555-5555-555555555555")
MIXED = Lab("580.95.05", 13000, (BLACKWELL, PASCAL), obeys=True)
NO_DRIVER = Lab(libraries=())


def plan(lab: Lab, folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA", "NVIDIA", "CXX"))}
    environ = kept | {"PATH": "/usr/bin:/bin", "BUILD_MATRIX_STORE": str(folder / "store")}
    done = run_tool(("plan", *words), environ | lab.install(folder / "lab") | variables)
    assert "Traceback" not in done.stderr
    assert not (folder / "store").exists(), "a plan writes nothing"
    return done


def answers(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """By CUDA version, whether it runs here, as the table says."""
    rows = [line.removeprefix("→").split(maxsplit=2) for line in done.stdout.splitlines() if line[2:4].isdecimal()]
    return {cuda: "not known" if rest.startswith("not known") else rest.split()[0] for cuda, _, rest in rows}


def test_without_a_driver_nothing_is_said_to_run_here(tmp_path: Path) -> None:
    done = plan(NO_DRIVER, tmp_path, "--arch", "89", "--cuda", "13")
    assert done.returncode == 0
    assert set(answers(done).values()) == {"not known"}
    assert "It is not known which CUDA version the driver supports" in done.stdout


def test_with_a_driver_and_a_gpu_each_toolkit_has_its_answer(tmp_path: Path) -> None:
    done = plan(Lab("576.52", 12090), tmp_path)
    found = answers(done)
    assert (found["13.0"], found["12.9"], found["12.1"]) == ("no", "yes", "yes")
    assert "chosen: llama-cpp-python 0.3.36+cu129.sm89" in done.stdout


def test_a_claim_is_judged_as_if_it_were_here(tmp_path: Path) -> None:
    done = plan(NO_DRIVER, tmp_path, "--driver-cuda", "12.9", "--compute-capability", "8.9")
    assert (answers(done)["13.0"], answers(done)["12.9"]) == ("no", "yes")


@pytest.mark.parametrize(
    "lab",
    [
        Lab("570.1", 12080, init_error=803, nvml_error=18),
        Lab("570.1", 12080, init_error=999),
        Lab("570.1", 12080, init_error=100, nvml_error=9),
        Lab("570.1", 12080, (), libraries=("nvml",)),
    ],
    ids=["versions differ", "error 999", "no GPU in the container", "no driver library"],
)
def test_a_driver_whose_gpus_cannot_be_read_is_asked_for_the_architecture(lab: Lab, tmp_path: Path) -> None:
    """ollama-flake#4, llama.cpp#18430, nvidia-docker#797: a default was built for a GPU that was only not visible."""
    done = plan(lab, tmp_path)
    if lab.init_error == 999:  # NVML still lists the GPU: the choice is sure, whether it runs is not
        assert "cu128.sm89" in done.stdout
        assert set(answers(done).values()) == {"no", "not known"}
        return
    assert done.returncode == 2
    assert "--arch 89 for compute capability 8.9" in done.stderr
    assert "chosen" not in done.stdout
    given = plan(lab, tmp_path, "--arch", "8.6", "--cuda", "12.8")
    assert given.returncode == 0
    assert answers(given) == {"12.8": "not known"}


def test_hopper_on_a_driver_of_11_8_gets_a_reason_and_a_remedy(tmp_path: Path) -> None:
    """abetlen/llama-cpp-python#1639, ggml-org/llama.cpp#26591: 11.8 lacks what 0.3.36 calls on Hopper."""
    done = plan(Lab("520.61.05", 11080, (HOPPER,)), tmp_path)
    assert done.returncode == 4
    assert "cannot compile llama-cpp-python 0.3.36 for sm_90" in done.stdout
    assert "--llama 0.3.16" in done.stderr
    assert "build-cuda11" not in done.stderr


def test_unlike_gpus_get_a_toolkit_that_compiles_for_both(tmp_path: Path) -> None:
    """ggml-org/llama.cpp#23224, docker/model-runner#986: an RTX 5090 beside a P40."""
    assert "chosen: llama-cpp-python 0.3.36+cu129.sm61.sm120a" in plan(MIXED, tmp_path).stdout
    old = plan(MIXED, tmp_path, "--cuda", "13")
    assert (old.returncode, "cannot compile for architecture 61" in old.stderr) == (4, True)


def test_a_gpu_that_is_hidden_is_not_planned_for(tmp_path: Path) -> None:
    done = plan(MIXED, tmp_path, CUDA_VISIBLE_DEVICES=PASCAL.uuid)
    assert "leaves 1 of 2 GPUs: planned for Tesla P40" in done.stdout
    assert "0.3.36+cu129.sm61" in done.stdout
    hidden = plan(MIXED, tmp_path, CUDA_VISIBLE_DEVICES="")
    assert "hides every GPU; this plan is for all of them" in hidden.stdout
    assert "0.3.36+cu129.sm61.sm120a" in hidden.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--arch", "130"), 4, "cannot compile for architecture 130"),  # llama.cpp#23118: the CUDA version
        (("--arch", "90a", "--cuda", "11.8"), 4, "cannot compile for architecture 90a"),  # vllm#5141
        (("--arch", "121", "--cuda", "12.8"), 4, "--cuda 12.9 to 13.5"),  # llama.cpp#18672
        (("--arch", "all"), 2, "'all' is not a CUDA architecture"),
        (("--define", "LLAMA_CUBLAS=ON"), 2, "no option LLAMA_CUBLAS"),
        (("--define", "LLAMA_BUILD_NUMBER=1"), 2, "sets itself"),
        (("--define", "GGML_CUDA_FA=maybe"), 2, "is a switch"),
        (("--cuda", "12.7"), 2, "CUDA 12.7 is not in the catalog"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    done = plan(NO_DRIVER, tmp_path, *words)
    assert done.returncode == code
    assert said in done.stderr


@pytest.mark.parametrize("compiler", ["aarch64-linux-gnu-g++", "x86_64-w64-mingw32-g++"])
def test_a_cross_compiler_is_refused_by_its_target(tmp_path: Path, compiler: str) -> None:
    """nxp-imx/pyarmnn-release#3, abetlen/llama-cpp-python#1642; a stand-in answers where it is not installed."""
    cxx = shutil.which(compiler)
    if not cxx:
        cxx = str(tmp_path / compiler)
        target = compiler.removesuffix("-g++")
        banner = f"{compiler} (GCC) 12\nCopyright (C) 2022 Free Software Foundation, Inc."
        Path(cxx).write_text(
            f'#!/bin/sh\ncase $1 in --version) echo "{banner}" ;; -dumpmachine) echo {target} ;; esac\n'
        )
        Path(cxx).chmod(0o755)
    done = plan(NO_DRIVER, tmp_path, CXX=cxx)
    assert (done.returncode, "chosen: none of them" in done.stdout) == (3, True)
    assert f"it compiles for {compiler.removesuffix('-g++')}" in done.stderr


def test_a_gcc_that_was_moved_from_its_cc1plus_is_refused(tmp_path: Path) -> None:
    """traveller59/spconv#388: cannot execute cc1plus."""
    for name in ("g++", "gcc"):
        shutil.copy(Path(f"/usr/bin/{name}").resolve(), tmp_path / name)
    words = [tmp_path / "g++", "-print-prog-name=cc1plus"]
    if Path(subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()).is_absolute():
        pytest.skip("this GCC finds its parts wherever it lies")
    done = plan(NO_DRIVER, tmp_path, CXX=str(tmp_path / "g++"))
    assert done.returncode == 3
    assert "cannot compile and link a small C++ program" in done.stderr


def test_a_launcher_in_cxx_is_left_out_and_options_are_refused(tmp_path: Path) -> None:
    """kaldi-asr/kaldi#4778: nvcc takes no `ccache g++` as its host compiler."""
    done = plan(NO_DRIVER, tmp_path, CXX="ccache g++")
    assert (done.returncode, "CXX: ccache is ignored" in done.stdout) == (0, True)
    refused = plan(NO_DRIVER, tmp_path, CXX="g++ -m32")
    assert (refused.returncode, "it has more than a program in it (-m32)" in refused.stderr) == (3, True)
    assert run_tool(("doctor",), os.environ | {"CXX": "g++ -m32"}).returncode == 0


def test_the_json_holds_what_the_table_says(tmp_path: Path) -> None:
    done = plan(NO_DRIVER, tmp_path, "--json", CXX="gcc")
    assert done.returncode == 3
    decoded = json.loads(done.stdout)
    assert decoded["cell"] is None
    (facts,) = {
        tuple(f["fact"] for f in one["findings"] if f["rule"] == "host compiler works") for one in decoded["candidates"]
    }
    assert "it is a C compiler" in facts[0]
    assert json.loads(plan(NO_DRIVER, tmp_path, "--schema").stdout)["$defs"]["Finding"]["properties"]["known"]
