"""The label of an installed build is evidence: of the code that it holds, where its libraries alone do not tell."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from build_matrix.diagnosis import diagnose_installed
from build_matrix.model import BackendDevice, Driver, DriverEvidence, Finding, Gpu, InstalledLlama, Machine
from build_matrix.pipeline.prediction import judge_installed

H100 = Gpu(name="NVIDIA H100", uuid="GPU-1", compute_capability="9.0")
L4 = Gpu(name="NVIDIA L4", uuid="GPU-2", compute_capability="8.9")
LISTED = BackendDevice(name="CUDA0", description="NVIDIA H100", backend="CUDA", gpu=True)


def labelled(label: str, **facts: Any) -> InstalledLlama:
    installed = InstalledLlama(
        python="/env/bin/python",
        version=f"0.3.16+{label}",
        origin="/site/llama_cpp/__init__.py",
        folder="/site/llama_cpp",
        libraries=("/site/llama_cpp/lib/libggml-cuda.so",),
        backends=("CUDA",),
        cuda_family=12,
        imports=True,
        offload=True,
    )
    return msgspec.structs.replace(installed, **facts)


def with_gpus(machine: Machine, *gpus: Gpu, cuda: str = "13.0", version: str = "580.65.06") -> Machine:
    return msgspec.structs.replace(
        machine,
        driver=Driver(version=version, cuda=cuda),
        driver_problem="",
        gpus=gpus,
        evidence=DriverEvidence(init_error=0, visible=gpus, numbered=gpus),
    )


def wrong(installed: InstalledLlama, machine: Machine) -> list[Finding]:
    found = diagnose_installed(installed, machine, judge_installed(installed, machine))
    return [finding for finding in found if not finding.passed]


@pytest.mark.parametrize("devices", [None, (LISTED,)])
def test_a_label_without_code_for_the_gpu_is_a_problem_also_where_the_build_lists_that_gpu(
    machine: Machine, devices: tuple[BackendDevice, ...] | None
) -> None:
    (finding,) = wrong(labelled("cu128.sm89", devices=devices), with_gpus(machine, H100))
    assert finding.fact == "It is labelled cu128.sm89. NVIDIA H100 (sm_90) cannot run code for sm89."
    assert "nox -s build" in finding.remedy


@pytest.mark.parametrize("label", ["cu128.sm90", "cu128.sm89.ptx89", "cu124", "cu128.sm89.avx2", "cpu", "rocm63", ""])
def test_a_label_that_speaks_against_nothing_is_no_problem(machine: Machine, label: str) -> None:
    assert wrong(labelled(label), with_gpus(machine, H100)) == []


def test_each_gpu_that_is_visible_is_judged(machine: Machine) -> None:
    (finding,) = wrong(labelled("cu128.sm89"), with_gpus(machine, L4, H100))
    assert "NVIDIA H100" in finding.fact


@pytest.mark.parametrize(("backends", "judged"), [((), True), (("CUDA",), True), (("Vulkan",), False)])
def test_the_family_is_that_of_the_label_where_no_library_names_it(
    machine: Machine, backends: tuple[str, ...], judged: bool
) -> None:
    installed = labelled("cu130.sm89", backends=backends, cuda_family=0)
    found = judge_installed(installed, with_gpus(machine, L4, cuda="12.8", version="570.86"))
    assert any("Driver 570.86 supports CUDA up to 12.8" in finding.fact for finding in found) == judged


def test_a_label_that_the_libraries_contradict_is_no_evidence(machine: Machine) -> None:
    assert judge_installed(labelled("cu130.sm89", cuda_family=12), with_gpus(machine, H100)) == []


def test_a_newer_major_than_the_drivers_is_one_problem(machine: Machine) -> None:
    installed = labelled("cu130.sm89", cuda_family=13)
    (finding,) = wrong(installed, with_gpus(machine, H100, cuda="12.8", version="570.86"))
    assert finding.rule == "driver too old"


def test_nothing_is_judged_without_a_driver(machine: Machine) -> None:
    assert judge_installed(labelled("cu130.sm89", cuda_family=13), machine) == []
