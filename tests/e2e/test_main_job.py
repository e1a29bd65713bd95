"""The main job on real input: a real wheel, built once by runs that are killed in every stage, then used.

Each test stands on the wheel of the first one, so they run in order; the build takes about seven minutes on two cores.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest
from contexts import in_context
from main_job import JOB, MINUTES, ROOT, Place
from rich.console import Console

from build_matrix.downloads import Downloads
from build_matrix.model import Verdict, WheelRecord, file_sha256
from build_matrix.platforms import find_platform
from build_matrix.probe.installed import examine_environment
from build_matrix.report import LineReporter
from build_matrix.store import Store
from build_matrix.trial.environment import install_wheel
from build_matrix.verify.static import check_static
from build_matrix.wheelfile.archive import read_members
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.native import read_library
from build_matrix.wheelfile.sidecar import record_path, verdict_path
from lab import FOUNDING, Lab

LINUX = find_platform("linux-x86_64")

pytestmark = [pytest.mark.build, pytest.mark.compiler, pytest.mark.index]


STAGES = {
    "download": "files/*.part",
    "source": "work/source-*.new/tree",
    "build environment": "work/build-environment-*.new/environment",
    "toolkit": "work/toolkit-*.new/toolkit/include",
    "self-test": "work/self-test-*.new/self_test.cu",
    "configuration": "work/compile-*/build/CMakeCache.txt",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_is_killed_leaves_nothing_in_the_way(place: Place, stage: str) -> None:
    code, _ = place.end_when(place.exists(STAGES[stage]), signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not list(place.wheels.glob("*")) if place.wheels.exists() else True


def test_a_compilation_that_is_killed_goes_on_where_it_was(place: Place) -> None:
    place.end_when(place.compiled(12), signal.SIGKILL)
    (log,) = place.store.glob("logs/compile-*.log")
    total = _total(log)
    code, said = place.end_when(place.compiled(16), signal.SIGINT)
    assert code == 130
    assert "run the same command again to continue" in said
    assert _total(log) <= total - 10


def test_ctrl_c_leaves_no_compiler_running(place: Place) -> None:
    import psutil

    running = []
    for process in psutil.process_iter():
        try:
            running.append(process.environ().get("BUILD_MATRIX_WORK", ""))
        except (psutil.Error, OSError):
            continue
    assert not [work for work in running if work.startswith(str(place.store))]


def test_two_runs_at_once_build_the_wheel_once_and_both_end_well(place: Place) -> None:
    runs = [
        subprocess.Popen(place.argv(*JOB), cwd=ROOT, env=place.environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [run.communicate(timeout=30 * MINUTES)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert sum("compiling with" in text for text in said) == 1
    assert any("waiting for another run" in text for text in said)
    assert not list(place.store.glob("work/*"))


@pytest.mark.parametrize("pattern", ["work/wheel-*.new/*.whl", "work/verify-*/environment"])
def test_a_run_that_is_killed_after_compiling_leaves_nothing_in_the_way(place: Place, pattern: str) -> None:
    shutil.rmtree(place.store / "wheel", ignore_errors=True)
    for path in place.wheels.glob("*"):
        path.unlink()
    code, _ = place.end_when(place.exists(pattern), signal.SIGKILL)
    assert code == -signal.SIGKILL
    done = place.run(*JOB)
    assert done.returncode == 0, done.stderr
    assert "compiling with" not in done.stderr
    assert not list(place.store.glob("work/*"))


def test_nothing_changed_means_no_work(place: Place) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        found = [path for folder in (place.store, place.wheels) for path in folder.rglob("*") if path.is_file()]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found if path.suffix != ".lock"}

    before = files()
    done = place.run(*JOB)
    assert done.returncode == 0
    assert "compiling" not in done.stderr
    assert files() == before


def test_what_was_compiled_before_comes_from_the_cache_and_is_the_same_bytes(place: Place) -> None:
    before = place.wheel.read_bytes()
    shutil.rmtree(place.store / "raw")
    shutil.rmtree(place.store / "wheel")
    done = place.run(*JOB, "--no-verify")
    assert done.returncode == 0, done.stderr
    (use,) = (line for line in done.stderr.splitlines() if "compile cache:" in line)
    found, compiled = (int(word) for word in use.split() if word.isdigit())
    assert found == compiled > 50
    assert place.wheel.read_bytes() == before


def test_the_wheel_is_clean_and_its_record_says_what_it_is(place: Place) -> None:
    members = read_members(place.wheel)
    record = msgspec.json.decode(record_path(place.wheel).read_bytes(), type=WheelRecord)
    name, _, tag = place.wheel.name.removesuffix("_x86_64.whl").partition("-py3-none-")
    assert name == "llama_cpp_python-0.3.16+cu130.sm89.check"
    assert tag in {"manylinux_2_27", "manylinux_2_28"}
    assert record.sha256 == file_sha256(place.wheel)
    assert {name.partition("/")[0] for name in members} == {
        "llama_cpp",
        "llama_cpp_python-0.3.16+cu130.sm89.check.dist-info",
    }
    libraries = [name for name, data in members.items() if read_library(data)]
    assert len(libraries) == len({members[name] for name in libraries}) == 13
    private = [str(place.root).encode(), str(Path.home()).encode() + b"/", str(ROOT).encode()]
    assert not [name for name, data in members.items() for path in private if path in data]
    assert str(place.root) not in record_path(place.wheel).read_text()
    assert record.facts.generator == "Ninja"
    assert record.facts.architectures == ("89-real",)
    assert record.facts.cuda_compiler_version == "13.0.88"


def test_nothing_that_does_not_ship_was_compiled(place: Place) -> None:
    (log,) = place.store.glob("logs/compile-*.log")
    text = log.read_text()
    for unwanted in ("llama.cpp/common/", "mtmd-cli.cpp", "/examples/", "llama.cpp/tests/"):
        assert f"-c {unwanted}" not in text
        assert f"{unwanted}" not in "\n".join(line for line in text.splitlines() if line.startswith("["))


def test_the_verdict_is_untested_where_there_is_no_driver_and_every_check_holds(place: Place) -> None:
    verdict = msgspec.json.decode(verdict_path(place.wheel).read_bytes(), type=Verdict)
    if verdict.driver is None:
        assert verdict.offload == "untested"
        assert verdict.reason.startswith("no NVIDIA driver")  # a container may be named as the cause
    assert all(check.passed for check in verdict.checks)
    names = {check.name for check in verdict.checks}
    assert names >= {"label", "metadata", "tags", "RECORD", "libraries", "libstdc++", "platform", "cubins", "import"}
    assert "numbers on the CPU" in names


def test_require_gpu_is_exit_code_7_where_there_is_none(place: Place) -> None:
    verdict = msgspec.json.decode(verdict_path(place.wheel).read_bytes(), type=Verdict)
    if verdict.driver is not None:
        pytest.skip("this machine has an NVIDIA driver")
    done = place.run("verify", "--require-gpu")
    assert (done.returncode, "--require-gpu" in done.stderr) == (7, True)


def test_verify_refuses_a_wheel_whose_library_is_damaged(place: Place, tmp_path: Path) -> None:
    damaged = tmp_path / place.wheel.name
    members = read_members(place.wheel)
    with zipfile.ZipFile(damaged, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data[:-1] + b"!" if name.endswith("libllama.so") else data)
    done = place.run("verify", str(damaged))
    assert done.returncode == 7, done.stderr
    assert "RECORD" in done.stderr
    assert json.loads(verdict_path(damaged).read_text())["offload"] == "failed"


def test_a_second_verification_unpacks_no_library_again(place: Place) -> None:
    """cuBLAS alone is half a gigabyte."""

    def unpacked() -> list[Path]:
        return sorted((place.store / "uv-cache").rglob("libcublas.so.*"))

    before = unpacked()
    verdict_path(place.wheel).unlink()
    assert place.run("verify").returncode == 0
    assert before
    assert unpacked() == before


def test_an_old_driver_is_told_by_the_rules_and_by_the_real_runtime(place: Place, tmp_path: Path) -> None:
    """The founding story, with a real wheel: its CUDA 13 runtime meets a driver that supports CUDA up to 12.9."""
    lab = Lab("576.52", 12090, (FOUNDING,)).install(tmp_path / "lab")
    done = place.run("verify", **lab)
    assert done.returncode == 0, done.stderr
    verdict = msgspec.json.decode(verdict_path(place.wheel).read_bytes(), type=Verdict)
    assert verdict.offload == "impossible_here"
    assert "Driver 576.52 supports CUDA up to 12.9" in verdict.reason
    assert place.run("verify", "--require-gpu", **lab).returncode == 7

    store = Store(place.store)
    label = check_static(WheelFile(place.wheel), LINUX)[1]
    assert label is not None
    downloads = Downloads(store, LineReporter(Console()))
    python = install_wheel(in_context(store, downloads=downloads), WheelFile(place.wheel), label, tmp_path).python
    installed = examine_environment(python, os.environ | lab)
    assert (installed.cuda_family, installed.imports, installed.offload) == (13, True, False)
    assert "the driver speaks CUDA 12.9, and this build needs CUDA 13.0 or newer" in installed.message


def test_a_compile_error_is_exit_code_6_with_the_compilers_own_first_error(place: Place) -> None:
    done = place.run(*JOB, "--define", "CMAKE_CXX_FLAGS=-Dggml_tensor=+")
    assert done.returncode == 6, done.stderr
    assert "Compiling failed:" in done.stderr
    assert "error:" in done.stderr
    assert "Full log:" in done.stderr
    assert len(list(place.wheels.glob("*.whl"))) == 1


def test_a_wheel_over_its_budget_fails_and_is_not_left_behind(place: Place, tmp_path: Path) -> None:
    (tmp_path / "patches").symlink_to(ROOT / "patches")
    (tmp_path / "matrix.toml").write_text("max_mb = 0.5\n")
    before = {path: path.stat().st_mtime for path in place.wheels.glob("*")}
    done = place.run(*JOB, cwd=tmp_path)
    assert (done.returncode, "its limit is 0.5 MB" in done.stderr) == (7, True), done.stderr
    assert {path: path.stat().st_mtime for path in place.wheels.glob("*")} == before


DOWNLOADING = """\
Purpose: A step that downloads, and hides that it could not.
Versions: ==0.3.16
Upstream: none

--- a/CMakeLists.txt
+++ b/CMakeLists.txt
@@ -1,3 +1,4 @@
 cmake_minimum_required(VERSION 3.21)
{}
 project(llama_cpp)
+file(DOWNLOAD "https://192.0.2.1/kernels.cu" "${CMAKE_BINARY_DIR}/kernels.cu" STATUS ignored)
""".replace("{}\n", " \n")


@pytest.mark.skipif(bool(LINUX.why_no_sandbox(Path(sys.executable))), reason="this system allows no namespaces")
def test_a_build_that_tries_to_reach_the_network_is_exit_code_6_even_if_it_hides_that(
    place: Place, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "patches", tmp_path / "patches")
    (tmp_path / "patches" / "9999-download.patch").write_text(DOWNLOADING)
    (tmp_path / "matrix.toml").symlink_to(ROOT / "matrix.toml")
    before = sorted(place.wheels.glob("*"))
    done = place.run(*JOB, cwd=tmp_path)
    assert done.returncode == 6, done.stderr
    assert "A step of the build tried to reach the network" in done.stderr
    assert "must be locked" in done.stderr
    assert sorted(place.wheels.glob("*")) == before


def test_an_option_that_the_sources_do_not_know_is_exit_code_2(place: Place) -> None:
    done = place.run(*JOB, "--define", "LLAMA_CUDA_F16=on")
    assert (done.returncode, "GGML_CUDA_F16" in done.stderr) == (2, True)


def _total(log: Path) -> int:
    """Steps of the build, as its log counts them."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("[")]
    return int(lines[0].partition("/")[2].partition("]")[0])
