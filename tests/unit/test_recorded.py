"""A wheel that was built as the tool itself advises for old drivers is tried there, not called impossible."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from build_matrix.model import (
    Architecture,
    BuildFacts,
    BuildInputs,
    Cell,
    Driver,
    DriverEvidence,
    Gpu,
    Machine,
    SystemNeeds,
    WheelRecord,
    file_sha256,
)
from build_matrix.pipeline.prediction import predict_wheel
from build_matrix.pipeline.verification import targets
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.recorded import recorded_defines
from build_matrix.wheelfile.sidecar import record_path

NONE = {"GGML_CUDA_COMPRESSION_MODE": "none"}
SMALL = {"GGML_CUDA_COMPRESSION_MODE": "size"}


def cell(defines: Mapping[str, str]) -> Cell:
    return Cell(
        llama="0.3.16",
        cuda="12.9",
        architectures=(Architecture(number=89),),
        platform="linux-x86_64",
        defines=dict(defines),
    )


@pytest.fixture
def old_driver(machine: Machine) -> Machine:
    """Its driver cannot read compressed machine code: 535 is older than 550.54.14."""
    gpu = Gpu(name="NVIDIA L4", uuid="GPU-1", compute_capability="8.9")
    return msgspec.structs.replace(
        machine, driver=Driver(version="535.183.01", cuda="12.2"), driver_problem="", gpus=(gpu,)
    )


def write_wheel(
    folder: Path, inputs: BuildInputs, defines: Mapping[str, str], claimed: Mapping[str, str] | None
) -> Path:
    """A wheel with this label, and the record of a build with the ``claimed`` options, if any."""
    wheel = folder / f"llama_cpp_python-0.3.16+{cell(defines).label}-py3-none-linux_x86_64.whl"
    wheel.write_bytes(b"a wheel")
    if claimed is None:
        return wheel
    facts = BuildFacts(
        generator="Ninja", architectures=(), cuda_compiler="", cuda_compiler_version="", cxx_compiler_version="",
        cmake_version="", steps=1,
    )  # fmt: skip
    record = WheelRecord(
        filename=wheel.name,
        sha256=file_sha256(wheel),
        size=7,
        unpacked_size=7,
        cell=cell(claimed),
        sdist=inputs.source.sdist,
        patches=(),
        toolkit=(),
        toolkit_release="",
        build_environment=(),
        sysroot=(),
        host_compiler=inputs.compiler,
        python="3.11.7",
        flags={},
        facts=facts,
        libraries=(),
        system=SystemNeeds(tag="manylinux_2_27_x86_64", symbols={}),
        tool="build-matrix",
    )
    record_path(wheel).write_bytes(msgspec.json.encode(record))
    return wheel


def why_impossible(wheel: Path, machine: Machine) -> str:
    (target,) = targets(WheelFile(wheel), machine)
    return target.impossible.fact if target.impossible else ""


def test_a_wheel_without_compression_is_tried_on_an_old_driver(
    tmp_path: Path, inputs: BuildInputs, old_driver: Machine
) -> None:
    wheel = write_wheel(tmp_path, inputs, NONE, NONE)
    assert recorded_defines(WheelFile(wheel)) == NONE
    assert why_impossible(wheel, old_driver) == ""


@pytest.mark.parametrize("defines", [{}, SMALL, {"GGML_CUDA_FORCE_MMQ": "ON"}])
def test_a_wheel_with_compression_is_not(
    tmp_path: Path, inputs: BuildInputs, old_driver: Machine, defines: Mapping[str, str]
) -> None:
    wheel = write_wheel(tmp_path, inputs, defines, defines)
    assert recorded_defines(WheelFile(wheel)) == defines
    assert "550.54.14" in why_impossible(wheel, old_driver)


def test_a_wheel_whose_name_counts_no_options_needs_no_record(
    tmp_path: Path, inputs: BuildInputs, old_driver: Machine
) -> None:
    wheel = write_wheel(tmp_path, inputs, {}, None)
    assert recorded_defines(WheelFile(wheel)) == {}
    assert "550.54.14" in why_impossible(wheel, old_driver)


def test_options_that_no_record_names_are_not_known_and_the_wheel_is_tried(
    tmp_path: Path, inputs: BuildInputs, old_driver: Machine
) -> None:
    wheel = write_wheel(tmp_path, inputs, SMALL, None)
    assert recorded_defines(WheelFile(wheel)) is None
    assert why_impossible(wheel, old_driver) == ""


def test_the_record_of_another_file_or_of_other_options_is_not_believed(tmp_path: Path, inputs: BuildInputs) -> None:
    wheel = write_wheel(tmp_path, inputs, SMALL, NONE)
    assert recorded_defines(WheelFile(wheel)) is None
    wheel = write_wheel(tmp_path, inputs, NONE, NONE)
    assert recorded_defines(WheelFile(wheel)) == NONE
    wheel.write_bytes(b"another")
    assert recorded_defines(WheelFile(wheel)) is None
    record_path(wheel).write_text("{")
    assert recorded_defines(WheelFile(wheel)) is None


def test_other_rules_hold_whatever_the_options_are(tmp_path: Path, inputs: BuildInputs, old_driver: Machine) -> None:
    wheel = write_wheel(tmp_path, inputs, NONE, NONE)
    gpu = msgspec.structs.replace(old_driver.gpus[0], compute_capability="7.5")
    assert "cannot run code for sm89" in why_impossible(wheel, msgspec.structs.replace(old_driver, gpus=(gpu,)))


@pytest.fixture
def in_use(old_driver: Machine) -> Machine:
    """The same machine, where the driver library answered and shows its GPU."""
    evidence = DriverEvidence(init_error=0, visible=old_driver.gpus, numbered=old_driver.gpus)
    return msgspec.structs.replace(old_driver, evidence=evidence)


@pytest.mark.parametrize(
    ("defines", "claimed", "expected"),
    [
        (NONE, NONE, "runs here"),
        (SMALL, SMALL, "550.54.14"),
        ({}, None, "550.54.14"),
        (NONE, None, "cannot be judged: Its build options are not known"),
        (NONE, SMALL, "cannot be judged: Its build options are not known"),
    ],
)
def test_doctor_predicts_with_the_options_of_the_record(
    tmp_path: Path,
    inputs: BuildInputs,
    in_use: Machine,
    defines: Mapping[str, str],
    claimed: Mapping[str, str] | None,
    expected: str,
) -> None:
    wheel = write_wheel(tmp_path, inputs, defines, claimed)
    assert expected in predict_wheel(wheel.name, in_use, recorded_defines(WheelFile(wheel)))
