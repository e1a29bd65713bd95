"""CUDA_VISIBLE_DEVICES is read as CUDA reads it."""

from __future__ import annotations

import msgspec
import pytest

from build_matrix.cli.doctor import rows
from build_matrix.diagnosis import diagnose, evidence_of_use
from build_matrix.diagnosis.machine import hidden, why_driver_fails, why_no_gpu
from build_matrix.diagnosis.visible import Choice, hides_every_gpu, select, selection, usable
from build_matrix.model import Driver, DriverEvidence, Gpu, HostEnvironment, Machine
from build_matrix.pipeline.verification import visible_gpus

A = Gpu(name="NVIDIA H200", uuid="GPU-30b51b35-d09c-9ad4-d2ea-008d191158d2", compute_capability="9.0")
B = Gpu(name="NVIDIA H200", uuid="GPU-993453d5-f8b2-3bbd-9a4e-c4cebc8fd5ef", compute_capability="9.0")
OLD = Gpu(name="NVIDIA GeForce GTX 1080", uuid="GPU-11111111-0000", compute_capability="6.1")
NEW = Gpu(name="NVIDIA GeForce RTX 5090", uuid="GPU-55555555-0000", compute_capability="12.0")
INSTANCE = "MIG-377e0049-554c-540b-93c6-d0976f8426cb"
SLICED = Gpu(name="NVIDIA H100", uuid="GPU-1a", compute_capability="9.0", mig=True, mig_devices=(INSTANCE,))
UNLISTED = msgspec.structs.replace(SLICED, mig_devices=())

# What driver 580.159.04 made of these values: with two H200 the GPUs that were left, "error 101" for its answer.
WITH_TWO = {
    "": "",
    " ": "",
    "0": "A",
    "1": "B",
    "1,0": "BA",
    "0,1": "AB",
    "2": "",
    "-1": "",
    "0,-1,1": "A",
    "0,2,1": "A",
    "0,0": "error 101",
    "0,1,0": "error 101",
    "0,0,1": "error 101",
    "2,0": "",
    " 0": "A",
    "0 ": "A",
    "0 ,1": "AB",
    "0, 1": "AB",
    "0,": "A",
    "0,,1": "A",
    ",0": "",
    "0;1": "A",
    "0x0": "A",
    "01": "B",
    "+1": "B",
    "0abc": "A",
    "1e0": "B",
    "0.5": "A",
    "NoDevFiles": "",
    "none": "",
    "all": "",
    "void": "",
    "abc": "",
    "0,abc": "A",
    A.uuid: "A",
    B.uuid: "B",
    f"{A.uuid},{B.uuid}": "AB",
    A.uuid[:8]: "A",
    A.uuid[:5]: "A",
    "GPU-": "",
    "GPU": "",
    A.uuid[4:]: "",
    "GPU-" + A.uuid[4:].upper(): "A",
    A.uuid.replace("GPU", "gpu"): "",
    A.uuid + "x": "A",
    A.uuid + " ": "A",
    " " + A.uuid: "",
    f"0,{B.uuid}": "A",
    f"{B.uuid},0": "B",
    f"{A.uuid},{A.uuid}": "error 101",
    f"{A.uuid[:8]},{A.uuid[:9]}": "error 101",
    "GPU-deadbeef": "",
    f"{A.uuid},GPU-deadbeef,{B.uuid}": "A",
    f"GPU-deadbeef,{A.uuid}": "",
    f"MIG-{A.uuid}": "",
    f"MIG-{A.uuid}/0/0": "",
    "MIG-": "",
    "99999999999999999999": "",
    "9" * 5000: "",
    "4294967296": "A",
    "'0'": "",
    '"0"': "",
    "cuda:0": "",
}
# The same with one H100.
WITH_ONE = {
    "GPU-": "",
    "0x1": "A",
    "0x0": "A",
    "\t0": "A",
    "0-1": "A",
    "GPU-,0": "",
    f"{A.uuid},GPU-": "A",
    "0.0,0": "error 101",
    "0,-0": "error 101",
    "0,+0": "error 101",
    ",,": "",
}


def left(value: str, gpus: tuple[Gpu, ...]) -> str:
    chosen = select(value, gpus, ordered=True)
    assert chosen.known
    assert chosen.hides_all == (chosen.choices == () or chosen.repeated != "")
    return "error 101" if chosen.repeated else "".join("AB"[gpus.index(choice.gpu)] for choice in chosen.choices)


@pytest.mark.parametrize(("value", "expected"), WITH_TWO.items())
def test_two_gpus_are_left_as_the_real_driver_leaves_them(value: str, expected: str) -> None:
    assert left(value, (A, B)) == expected


@pytest.mark.parametrize(("value", "expected"), WITH_ONE.items())
def test_one_gpu_is_left_as_the_real_driver_leaves_it(value: str, expected: str) -> None:
    assert left(value, (A,)) == expected


def test_without_the_variable_every_gpu_is_left() -> None:
    assert select(None, (A, SLICED), ordered=True).choices == (
        Choice(gpu=A, value=A.uuid),
        Choice(gpu=SLICED, value=""),
    )
    instance = msgspec.structs.replace(SLICED, uuid=INSTANCE)
    assert select(None, (instance,), ordered=True).choices == (Choice(gpu=instance, value=INSTANCE),)


def test_a_prefix_of_two_uuids_names_no_gpu() -> None:
    twin = msgspec.structs.replace(B, uuid=A.uuid[:12] + "ffffff")
    chosen = select(A.uuid[:12], (A, twin), ordered=True)
    assert (chosen.choices, chosen.known) == ((), True)
    assert "several GPUs" in chosen.why
    assert [choice.gpu for choice in select(A.uuid, (A, twin), ordered=True).choices] == [A]


@pytest.mark.parametrize(
    ("value", "gpus", "known", "count"),
    [
        (INSTANCE, (SLICED,), True, 1),
        ("MIG-" + INSTANCE[4:].upper(), (SLICED,), True, 1),
        (f"{INSTANCE},{INSTANCE}", (SLICED,), True, 1),
        ("MIG-00000000", (SLICED,), True, 0),
        ("MIG-00000000", (UNLISTED,), False, 1),
        ("MIG-00000000", (A,), True, 0),
        ("MIG-00000000", (), False, 0),
        ("MIG-GPU-1a/1/0", (SLICED,), False, 1),
        ("MIG-GPU-1b/1/0", (SLICED,), True, 0),
        (f"{INSTANCE},0", (SLICED,), True, 1),
    ],
)
def test_mig_instances_are_found_where_they_are_listed(
    value: str, gpus: tuple[Gpu, ...], known: bool, count: int
) -> None:
    chosen = select(value, gpus, ordered=True)
    assert (chosen.known, len(chosen.choices)) == (known, count)
    assert all(choice.value == value.partition(",")[0] for choice in chosen.choices)
    assert bool(chosen.repeated) == (value.count(INSTANCE) == 2)


@pytest.mark.parametrize(
    ("value", "gpus", "ordered", "known"),
    [
        ("0", (OLD, NEW), False, False),  # fastest first would be the other one
        ("0", (OLD, NEW), True, True),
        ("0", (A, B), False, True),  # alike: any order is the same
        ("0", (SLICED,), False, False),
        ("5", (OLD, NEW), False, True),
        ("0", (), True, False),
        ("GPU-1", (), True, False),
        ("-1", (), True, True),
        ("", (), True, True),
        ("NoDevFiles", (), True, True),
        ("GPU-3", (msgspec.structs.replace(A, uuid=""),), True, False),
    ],
)
def test_what_the_rules_cannot_tell_is_not_known(value: str, gpus: tuple[Gpu, ...], ordered: bool, known: bool) -> None:
    chosen = select(value, gpus, ordered=ordered)
    assert chosen.known == known
    assert chosen.hides_all == (known and not chosen.choices)


def test_one_entry_that_is_not_known_makes_the_list_unknown() -> None:
    assert not select("0,-1", (OLD, NEW), ordered=False).known
    assert not select("MIG-00000000,0", (UNLISTED,), ordered=True).known


def test_why_an_entry_names_no_gpu_is_told() -> None:
    reasons = {
        "": "is empty",
        " ": "is blank",
        "x": "is not a number",
        "-1": "is not the number of a GPU",
        "2": "is not the number of a GPU (0 to 1)",
        "GPU-deadbeef": "is not the UUID of a GPU",
        f"{A.uuid},0": "is not a GPU UUID like the first entry",
        "MIG-0": "is not the UUID of a MIG instance",
        "0,,1": "is empty",
    }
    for value, why in reasons.items():
        assert select(value, (A, B), ordered=True).why == why
    assert select(f"{INSTANCE},0", (SLICED,), ordered=True).why == "is not a MIG UUID like the first entry"
    for whole in ("0", "0,", "1,0,"):
        chosen = select(whole, (A, B), ordered=True)
        assert (chosen.ended_by, chosen.why) == (None, "")


def mixed(machine: Machine, value: str | None, order: str = "", **evidence: object) -> Machine:
    """A machine whose PCI bus shows the old GPU first, and CUDA the new one."""
    return msgspec.structs.replace(
        machine,
        driver=Driver(version="580.95.05", cuda="13.0"),
        driver_problem="",
        gpus=(OLD, NEW),
        environment=HostEnvironment(visible_devices=value, device_order=order),
        evidence=msgspec.structs.replace(DriverEvidence(init_error=0), **evidence),
    )


def names(choices: tuple[Choice, ...]) -> list[str]:
    return [choice.gpu.name for choice in choices]


def test_numbers_count_in_the_drivers_own_order(machine: Machine) -> None:
    here = mixed(machine, "0", numbered=(NEW, OLD), visible=(NEW,))
    assert names(usable(here)) == [NEW.name]
    assert visible_gpus(here) == [(NEW, NEW.uuid)]
    assert hidden(here) is not None
    assert not hides_every_gpu(here)


def test_without_an_answer_numbers_count_by_the_pci_bus_only_where_that_is_asked_for(machine: Machine) -> None:
    unanswered = mixed(machine, "0", init_error=None)
    assert not selection(unanswered).known
    by_bus = mixed(machine, "0", "PCI_BUS_ID", init_error=None)
    assert selection(by_bus).known
    assert names(usable(by_bus)) == [OLD.name]


def test_a_gpu_whose_uuid_the_driver_does_not_give_is_named_by_its_entry(machine: Machine) -> None:
    nameless = msgspec.structs.replace(A, uuid="")
    here = msgspec.structs.replace(
        mixed(machine, "1,0", numbered=(nameless, nameless), visible=(nameless, nameless)), gpus=(A, B)
    )
    assert [choice.value for choice in usable(here)] == ["1", "0"]
    alone = msgspec.structs.replace(here, gpus=(A,), environment=HostEnvironment(visible_devices="0"))
    assert usable(alone) == (Choice(gpu=A, value=A.uuid),)
    unset = msgspec.structs.replace(here, environment=HostEnvironment())
    assert [choice.value for choice in usable(unset)] == ["0", "1"]


def test_a_mig_instance_keeps_its_name(machine: Machine) -> None:
    listed = msgspec.structs.replace(UNLISTED, uuid="")
    here = msgspec.structs.replace(mixed(machine, INSTANCE, visible=(listed,)), gpus=(UNLISTED,))
    assert usable(here) == (Choice(gpu=UNLISTED, value=INSTANCE),)
    assert evidence_of_use(here)


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles", "2", "GPU-deadbeef", "7,0", "-1,0", " "])
def test_a_value_that_leaves_no_gpu_is_the_cause_and_nothing_else_is_blamed(machine: Machine, value: str) -> None:
    here = mixed(machine, value, init_error=100, numbered=(NEW, OLD))
    here = msgspec.structs.replace(here, driver=Driver(version="580.95.05", cuda="13.0", init_error=100))
    assert hides_every_gpu(here)
    assert usable(here) == ()
    assert why_driver_fails(here) is None
    (wrong,) = [finding for finding in diagnose(here) if not finding.passed]
    assert wrong.rule == "hidden"
    assert f"CUDA_VISIBLE_DEVICES={value!r} hides every GPU" in wrong.fact
    assert why_no_gpu(here) == wrong
    assert not evidence_of_use(here)
    assert [gpu for gpu, _ in visible_gpus(here)] == [NEW, OLD], "verify says of each that it is hidden"


def test_a_value_hides_nothing_where_the_driver_fails_without_it_too(machine: Machine) -> None:
    here = mixed(machine, "0", init_error=803)
    assert not hides_every_gpu(here)
    assert why_no_gpu(here) == why_driver_fails(here)
    nothing = msgspec.structs.replace(mixed(machine, "", init_error=100), gpus=())
    assert not hides_every_gpu(nothing), "there is no GPU to hide"
    assert hidden(nothing) is None


def test_a_sentence_does_not_tell_a_uuid(machine: Machine) -> None:
    here = msgspec.structs.replace(mixed(machine, f"{A.uuid},{A.uuid}", init_error=101), gpus=(A, B))
    absent = f"{INSTANCE},GPU-deadbeef"
    other = mixed(machine, absent, init_error=100, numbered=(NEW, OLD))
    facts = " ".join(finding.fact for finding in (*diagnose(here), *diagnose(other)))
    assert A.uuid not in facts
    assert INSTANCE not in facts
    assert "'GPU-30b51b35…,GPU-30b51b35…'" in facts
    assert "'MIG-377e0049…,GPU-deadbeef'" in facts


def test_a_gpu_that_is_named_twice_is_the_cause_of_error_101(machine: Machine) -> None:
    here = mixed(machine, "0,0", init_error=101, numbered=(NEW, OLD))
    (wrong,) = [finding for finding in diagnose(here) if not finding.passed]
    assert "names a GPU twice ('0')" in wrong.fact
    assert "kernel module" not in wrong.fact
    assert usable(here) == ()


def test_a_list_that_ends_early_is_said_though_gpus_are_left(machine: Machine) -> None:
    here = mixed(machine, "0,5,1", numbered=(NEW, OLD), visible=(NEW,))
    (wrong,) = [finding for finding in diagnose(here) if not finding.passed]
    assert "ends at '5', which is not the number of a GPU (0 to 1)" in wrong.fact
    assert why_no_gpu(here) is None
    gap = diagnose(mixed(machine, "0,,1", numbered=(NEW, OLD), visible=(NEW,)))
    assert [finding.fact for finding in gap if not finding.passed] == [
        "CUDA_VISIBLE_DEVICES='0,,1' ends at '', which is empty: CUDA ignores everything after it."
    ]
    assert [finding.rule for finding in diagnose(mixed(machine, "0,", numbered=(NEW, OLD), visible=(NEW,)))] == [
        "driver",
        "visible devices",
    ]


def test_what_is_claimed_is_not_what_the_driver_was_asked_about(machine: Machine) -> None:
    here = msgspec.structs.replace(
        mixed(machine, None, visible=(NEW, OLD)), gpus=(A,), overrides={"BUILD_MATRIX_COMPUTE_CAPABILITIES": "9.0"}
    )
    assert names(usable(here)) == [A.name]
    assert not evidence_of_use(here)


def test_the_number_of_the_only_gpu_is_named() -> None:
    assert select("1", (A,), ordered=True).why == "is not the number of a GPU (only 0)"


def test_a_gpu_is_called_hidden_only_where_the_driver_tells_gpus_apart(machine: Machine) -> None:
    twins = tuple(Gpu(name="NVIDIA H100", uuid=f"GPU-{letter}", compute_capability="9.0") for letter in "ab")
    for uuid, marks in (("GPU-b", [True, False]), ("", [False, False])):
        visible = (Gpu(name="NVIDIA H100", uuid=uuid, compute_capability="9.0"),)
        here = msgspec.structs.replace(
            machine,
            driver=Driver(version="580.1", cuda="13.0"),
            gpus=twins,
            environment=HostEnvironment(visible_devices="1"),
            evidence=DriverEvidence(init_error=0, visible=visible),
        )
        shown = [text for name, text in rows(here) if name == "GPU"]
        assert ["hidden" in text for text in shown] == marks
