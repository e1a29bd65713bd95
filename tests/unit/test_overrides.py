"""Claims stand in for what is found; what is not such a claim is refused in one sentence."""

from __future__ import annotations

import msgspec
import pytest

from build_matrix.errors import ConfigurationError
from build_matrix.locks import locked_llama_releases, locked_toolkits
from build_matrix.model import Driver, Gpu, Machine, Request
from build_matrix.probe import apply_overrides
from build_matrix.resolve import make_plan

DRIVER, GPUS = "BUILD_MATRIX_DRIVER_CUDA", "BUILD_MATRIX_COMPUTE_CAPABILITIES"


def test_without_claims_the_machine_is_what_was_found(machine: Machine) -> None:
    assert apply_overrides(machine, {DRIVER: " ", GPUS: "", "PATH": "/bin"}) is machine


def test_a_claimed_driver_and_gpus_are_recorded_as_claims(machine: Machine) -> None:
    claimed = apply_overrides(machine, {DRIVER: "12.9", GPUS: "8.9, 7.5"})
    assert claimed.driver == Driver(version="claimed", cuda="12.9")
    assert claimed.driver_problem == ""
    assert [gpu.compute_capability for gpu in claimed.gpus] == ["8.9", "7.5"]
    assert len({gpu.uuid for gpu in claimed.gpus}) == 2
    assert claimed.overrides == {DRIVER: "12.9", GPUS: "8.9, 7.5"}


@pytest.mark.parametrize("none", ["none", "NONE"])
def test_no_driver_can_be_claimed_on_a_machine_that_has_one(machine: Machine, none: str) -> None:
    gpu = Gpu(name="GPU", uuid="GPU-1", compute_capability="8.9")
    real = msgspec.structs.replace(machine, driver=Driver(version="580", cuda="13.0"), gpus=(gpu,), driver_problem="")
    claimed = apply_overrides(real, {DRIVER: none})
    assert (claimed.driver, claimed.gpus, claimed.driver_problem) == (None, (), "no NVIDIA driver")


@pytest.mark.parametrize(
    ("spelled", "capability"), [("8.9", "8.9"), ("89", "8.9"), ("sm_120", "12.0"), ("sm75", "7.5"), ("12.1", "12.1")]
)
def test_a_capability_may_be_spelled_as_an_architecture(machine: Machine, spelled: str, capability: str) -> None:
    (gpu,) = apply_overrides(machine, {GPUS: spelled}).gpus
    assert gpu.compute_capability == capability


@pytest.mark.parametrize(
    "claim",
    [{DRIVER: "12"}, {DRIVER: "new"}, {DRIVER: "12.9.1"}, {DRIVER: "0.1"}, {DRIVER: "12.09"}, {DRIVER: "1\u0662.9"},
     {GPUS: "8.9,"}, {GPUS: "8.9,banana"}, {GPUS: "8.10"}, {GPUS: "9.0a"}, {GPUS: "8"}, {GPUS: "0.9"}],
)  # fmt: skip
def test_what_is_no_claim_is_refused(machine: Machine, claim: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        apply_overrides(machine, claim)
    assert caught.value.remedy.startswith("Write ")


def test_the_note_says_whether_the_gpu_is_claimed_or_here(machine: Machine) -> None:
    def notes(here: Machine, claims: dict[str, str]) -> tuple[str, ...]:
        return make_plan(Request(), apply_overrides(here, claims), locked_llama_releases(), locked_toolkits()).notes

    gpu = Gpu(name="GPU", uuid="GPU-1", compute_capability="8.9")
    assert notes(machine, {DRIVER: "13.0", GPUS: "8.9"}) == ("architecture 89: the claimed GPU",)
    real = msgspec.structs.replace(machine, gpus=(gpu,))
    assert notes(real, {DRIVER: "13.0"}) == ("architecture 89: the GPU of this machine",)
