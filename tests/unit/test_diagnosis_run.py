"""Each failure has its cause, with what the process said as evidence; what nothing explains stays unknown."""

from __future__ import annotations

import signal
from typing import Any

import msgspec
import pytest

from build_matrix.diagnosis import diagnose_run, diagnose_static
from build_matrix.model import Check, Driver, Gpu, HostEnvironment, Machine, RunFacts

GPU = Gpu(name="NVIDIA H200", uuid="GPU-1", compute_capability="9.0")


@pytest.fixture
def with_gpu(machine: Machine) -> Machine:
    driver = Driver(version="580.159.04", cuda="13.0")
    return msgspec.structs.replace(machine, driver=driver, gpus=(GPU,), driver_problem="")


def rule(facts: RunFacts, machine: Machine, *failed: Check, gpu: Gpu | None = GPU) -> str:
    return diagnose_run(facts, failed, machine, gpu, 13).rule


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("ggml_cuda_init: failed: CUDA driver version is insufficient for CUDA runtime version", "driver too old"),
        (
            "CUDA back end: not loaded: the driver speaks CUDA 12.9, and this build needs CUDA 13.0 or newer: update",
            "driver too old",
        ),
        ("CUDA error: the provided PTX was compiled with an unsupported toolchain.", "PTX too new"),
        ("CUDA error: no kernel image is available for execution on the device", "no code for this GPU"),
        ("CUDA error: device kernel image is invalid", "unreadable code"),
        (
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 1.00 MiB: cudaMalloc failed: out of memory",
            "out of GPU memory",
        ),
        ("CUDA error: the resource allocation failed", "out of GPU memory"),
        ("alloc_tensor_range: failed to allocate CUDA0 buffer of size 1234", "out of GPU memory"),
        ("CUDA error: too many resources requested for launch", "kernels too large"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "GPU busy"),
        ("CUDA error: uncorrectable ECC error encountered", "GPU lost"),
        ("CUDA back end: not loaded: the driver found no usable GPU: error 804", "forward compatibility"),
        ("CUDA error: forward compatibility was attempted on non supported HW", "forward compatibility"),
        (
            "CUDA back end: not loaded: libcublas.so.13: cannot open shared object file: No such file or directory",
            "library of CUDA missing",
        ),
        ("OSError: Could not find module 'x.dll' (or one of its dependencies).", "folder of DLLs not searched"),
        ("CUDA back end: not loaded: the driver found no usable GPU: error 999", "kernel module"),
        (
            "CUDA back end: not loaded: the driver found no usable GPU: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            "kernel module",
        ),
        ("CUDA back end: not loaded: no NVIDIA driver: libcuda.so.1: cannot open shared object file", "no driver"),
        ("CUDA back end: not loaded: the driver found no usable GPU: CUDA_ERROR_NO_DEVICE", "no GPU"),
    ],
)
def test_what_the_runtime_says_names_the_cause(with_gpu: Machine, line: str, cause: str) -> None:
    finding = diagnose_run(RunFacts(log=("before", line, "after"), code=-6), (), with_gpu, GPU, 13)
    assert finding.rule == cause
    assert line.strip() in finding.fact
    assert finding.remedy


def test_a_gpu_that_the_environment_hides_is_not_a_missing_one(with_gpu: Machine) -> None:
    said = "CUDA back end: not loaded: the driver found no usable GPU: CUDA_ERROR_NO_DEVICE (CUDA_VISIBLE_DEVICES='')"
    hidden = msgspec.structs.replace(with_gpu, environment=HostEnvironment(visible_devices=""))
    assert rule(RunFacts(backends=(said,), offload=False), hidden) == "hidden"
    assert rule(RunFacts(backends=(said,), offload=False), with_gpu) == "no GPU"


def test_how_a_process_ended_names_the_cause(with_gpu: Machine) -> None:
    assert rule(RunFacts(code=-signal.SIGILL), with_gpu) == "illegal instruction"
    assert rule(RunFacts(code=-9, timed_out=180.0, job="gpu-F16-99"), with_gpu) == "no end"
    assert rule(RunFacts(code=-9, memory_exceeded=True), with_gpu) == "too much memory"
    shadowed = Check(name="import", passed=False, detail="0.0.1 from /elsewhere/llama_cpp")
    assert rule(RunFacts(folder="/elsewhere/llama_cpp", version="0.0.1"), with_gpu, shadowed) == "shadowed"


@pytest.mark.parametrize("end", [{"timed_out": 180.0}, {"memory_exceeded": True}])
def test_a_limit_is_no_cause_for_a_wheel_that_computes_on_the_cpu_instead(
    with_gpu: Machine, end: dict[str, Any]
) -> None:
    line = "CUDA back end: not loaded: libcublas.so.13: cannot open shared object file: No such file or directory"
    slow = RunFacts(code=-9, job="gpu-F16-99", offload=False, backends=(line,), **end)
    assert rule(slow, with_gpu) == "library of CUDA missing"
    assert rule(slow, with_gpu, gpu=None) in {"no end", "too much memory"}
    assert rule(msgspec.structs.replace(slow, offload=True), with_gpu) in {"no end", "too much memory"}


def test_wrong_numbers_are_said_before_anything_that_the_log_may_hold(with_gpu: Machine) -> None:
    wrong = Check(name="numbers on the GPU", passed=False, detail="wrong: Q4_K 3e-01 of 2e-03")
    facts = RunFacts(finished=True, offload=True, log=("out of memory, but never mind",))
    assert rule(facts, with_gpu, wrong) == "wrong numbers"


def test_wrong_numbers_with_the_gpu_hidden_are_not_blamed_on_the_hiding(with_gpu: Machine) -> None:
    wrong = Check(name="numbers on the CPU", passed=False, detail="Q4_0 4e-01 of 2e-03")
    said = "CUDA back end: not loaded: the driver found no usable GPU: CUDA_ERROR_NO_DEVICE (CUDA_VISIBLE_DEVICES='')"
    facts = RunFacts(finished=True, offload=False, backends=(said,))
    assert rule(facts, with_gpu, wrong, gpu=None) == "wrong numbers"


def test_a_module_that_nothing_loaded_is_named(with_gpu: Machine) -> None:
    layers = Check(name="layers offloaded", passed=False, detail="none")
    assert rule(RunFacts(finished=True, offload=False), with_gpu, layers) == "module not loaded"


def test_numbers_that_were_never_compared_are_not_wrong(with_gpu: Machine) -> None:
    layers = Check(name="layers offloaded", passed=False, detail="none")
    numbers = Check(name="numbers on the GPU", passed=False, detail="exit code 0; 3 of 23 computed")
    facts = RunFacts(finished=True, offload=False)
    assert diagnose_run(facts, (layers, numbers), with_gpu, GPU, 13).rule == "module not loaded"


@pytest.mark.parametrize("words", ["unspecified launch failure", "unknown error"])
def test_a_kernel_that_fails_tells_nothing_of_the_gpu_or_its_driver(with_gpu: Machine, words: str) -> None:
    facts = RunFacts(code=-6, log=(f"CUDA error: {words}",))
    assert rule(facts, with_gpu) == "unknown"


def test_the_unknown_stays_unknown_and_shows_the_log(with_gpu: Machine) -> None:
    finding = diagnose_run(RunFacts(code=-11, log=("one", "two", "three", "four")), (), with_gpu, GPU, 13)
    assert finding.rule == "unknown"
    assert "SIGSEGV" in finding.fact
    assert "two | three | four" in finding.fact


def test_a_wheel_that_was_not_run_has_the_machines_cause(machine: Machine, with_gpu: Machine) -> None:
    assert diagnose_run(None, (), machine, None, 13).rule == "no driver"
    mismatch = msgspec.structs.replace(with_gpu, driver=Driver(version="580.1", cuda="13.0", init_error=803))
    assert diagnose_run(None, (), mismatch, None, 13).rule == "kernel module"
    lost = msgspec.structs.replace(with_gpu, gpus=(), gpu_problems=("GPU 0: GPU is lost",))
    assert diagnose_run(None, (), lost, None, 13).rule == "GPU lost"
    assert diagnose_run(None, (), msgspec.structs.replace(with_gpu, gpus=()), None, 13).rule == "no GPU"


def test_a_wheel_that_cannot_be_right_is_not_run(machine: Machine) -> None:
    def static(name: str, detail: str, family: int = 13) -> str:
        finding = diagnose_static([Check(name=name, passed=False, detail=detail)], family)
        assert finding is not None
        return finding.rule

    assert static("label", "llama-cpp-python, label (none)", 0) == "CPU build"
    assert static("libraries", "CPU-only build: no library needs CUDA") == "CPU build"
    assert static("libraries", "libggml-cuda.so needs libcudart.so.12, which no declared package provides") == (
        "library of CUDA missing"
    )
    assert static("RECORD", "does not match x") == "wheel"
    assert diagnose_static([Check(name="RECORD", passed=True, detail="")], 13) is None
