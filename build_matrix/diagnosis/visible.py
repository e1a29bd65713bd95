"""Which GPUs does CUDA_VISIBLE_DEVICES leave to a process? CUDA's rules, and before them the driver's own answer.

CUDA C++ Programming Guide, "CUDA Environment Variables", and what driver 580.159.04 does with one H100 and with two
H200: the list ends at the first entry that names no GPU; the kind of its first entry (number, GPU UUID, MIG UUID) is
the kind of all; a GPU named twice is an error; numbers are read as C's strtol reads decimals ("0x1" is 0, " 01" is 1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from build_matrix.model import DriverEvidence, Gpu, Machine, Record

NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,30})")  # more digits change nothing: see _as_int
GPU_PREFIX = "GPU-"
MIG_PREFIX = "MIG-"
LENGTH = len("GPU-00000000-0000-0000-0000-000000000000")  # what follows is not read
PCI_ORDER = "PCI_BUS_ID"


class Choice(Record, frozen=True, kw_only=True):
    """A GPU that a process may use, with the CUDA_VISIBLE_DEVICES that leaves it alone (empty: it must not be set)."""

    gpu: Gpu
    value: str


class Selection(Record, frozen=True, kw_only=True):
    """What a value of CUDA_VISIBLE_DEVICES leaves.

    ``choices`` in CUDA's order; ``ended_by`` is the entry at which the list ends early, ``why`` what is wrong with it;
    ``repeated`` is an entry that names a GPU again, for which the driver fails with error 101. ``known`` is false where
    the rules alone do not decide, and ``choices`` are the likeliest: numbers of unlike GPUs whose order is not known,
    MIG instances that nothing lists, no list of GPUs at all.
    """

    choices: tuple[Choice, ...] = ()
    ended_by: str | None = None
    why: str = ""
    repeated: str = ""
    known: bool = True

    @property
    def hides_all(self) -> bool:
        """Whether it surely leaves no GPU."""
        return self.known and (not self.choices or bool(self.repeated))


class Named(Record, frozen=True, kw_only=True):
    """What an entry names: a GPU, or none and why; ``known`` as in Selection.

    ``identity`` distinguishes two GPUs that may be alike in all that is known of them.
    """

    gpu: Gpu | None = None
    identity: int | str = ""
    why: str = ""
    known: bool = True


def select(value: str | None, gpus: Sequence[Gpu], *, ordered: bool) -> Selection:
    """Apply CUDA's rules to ``gpus``, which are in CUDA's own order if ``ordered``."""
    if value is None:
        return Selection(choices=tuple(_single(gpu) for gpu in gpus))
    entries = value.split(",")
    read = _reader(entries[0], gpus, ordered=ordered)
    choices: list[Choice] = []
    identities: set[int | str] = set()
    known = True
    for number, entry in enumerate(entries, 1):
        named = read(entry)
        known = known and named.known
        if named.gpu is None:
            if not entry and choices and number == len(entries):  # a comma at the end changes nothing
                break
            return Selection(choices=tuple(choices), ended_by=entry, why=named.why, known=known)
        mig = entry.startswith(MIG_PREFIX)
        if named.identity in identities:
            return Selection(choices=tuple(choices), repeated=entry, known=known)
        identities.add(named.identity)
        choices.append(Choice(gpu=named.gpu, value=entry) if mig else _single(named.gpu))
    return Selection(choices=tuple(choices), known=known)


def _single(gpu: Gpu) -> Choice:
    """With a MIG GPU nothing is set: its own UUID would not reach an instance of it."""
    return Choice(gpu=gpu, value="" if gpu.mig and not gpu.uuid.startswith(MIG_PREFIX) else gpu.uuid)


def _reader(first: str, gpus: Sequence[Gpu], *, ordered: bool) -> Callable[[str], Named]:
    """What reads the entries, by the kind of the first."""
    if first.startswith(MIG_PREFIX):
        return lambda entry: _by_mig(entry, gpus)
    if first.startswith(GPU_PREFIX):
        return lambda entry: _by_uuid(entry, gpus)
    return lambda entry: _by_number(entry, gpus, ordered=ordered)


def _by_number(entry: str, gpus: Sequence[Gpu], *, ordered: bool) -> Named:
    match = NUMBER.match(entry)
    if not match:
        return Named(why="is not a number" if entry.strip() else "is blank" if entry else "is empty")
    number = _as_int(int(match[1]))
    if number < 0:
        return Named(why="is not the number of a GPU")
    if number >= len(gpus):
        numbers = "only 0" if len(gpus) == 1 else f"0 to {len(gpus) - 1}"
        return Named(why=f"is not the number of a GPU ({numbers})", known=bool(gpus))
    alike = len({(gpu.name, gpu.compute_capability) for gpu in gpus}) == 1
    return Named(gpu=gpus[number], identity=number, known=ordered or (alike and not any(gpu.mig for gpu in gpus)))


def _as_int(number: int) -> int:
    """As strtol gives a long, and a cast an int of it."""
    saturated = min(max(number, -(2**63)), 2**63 - 1)
    return (saturated + 2**31) % 2**32 - 2**31


def _by_uuid(entry: str, gpus: Sequence[Gpu]) -> Named:
    if not entry.startswith(GPU_PREFIX):
        return Named(why="is not a GPU UUID like the first entry")
    prefix = entry[:LENGTH].lower()
    matching = [gpu for gpu in gpus if gpu.uuid.lower().startswith(prefix)] if entry != GPU_PREFIX else []
    if len(matching) == 1:
        return Named(gpu=matching[0], identity=matching[0].uuid)
    why = "matches the UUIDs of several GPUs" if matching else "is not the UUID of a GPU"
    return Named(why=why, known=bool(gpus) and all(gpu.uuid for gpu in gpus))


def _by_mig(entry: str, gpus: Sequence[Gpu]) -> Named:
    if not entry.startswith(MIG_PREFIX):
        return Named(why="is not a MIG UUID like the first entry")
    requested = entry.lower()
    for gpu in gpus:
        if requested in {uuid.lower() for uuid in (gpu.uuid, *gpu.mig_devices)}:
            return Named(gpu=gpu, identity=requested)
    parents = [gpu for gpu in gpus if gpu.mig]
    why = "is not the UUID of a MIG instance"
    if requested.startswith((MIG_PREFIX + GPU_PREFIX).lower()):  # MIG-GPU-<uuid>/<instance>/<compute instance>
        named = requested.removeprefix(MIG_PREFIX.lower()).partition("/")[0]
        parents = [gpu for gpu in parents if gpu.uuid.lower() == named]
        return Named(gpu=parents[0], identity=requested, known=False) if parents else Named(why=why, known=bool(gpus))
    if not parents or all(gpu.mig_devices for gpu in parents):
        return Named(why=why, known=bool(gpus))
    return Named(gpu=parents[0], identity=requested, known=False)


def selection(machine: Machine) -> Selection:
    """What CUDA_VISIBLE_DEVICES leaves on this machine, by the rules, over the best order that is known."""
    value = machine.environment.visible_devices
    if numbered := _evidence(machine).numbered:
        return select(value, _with_details(numbered, machine.gpus), ordered=True)
    return select(value, machine.gpus, ordered=machine.environment.device_order == PCI_ORDER)


def hides_every_gpu(machine: Machine) -> bool:
    """Whether CUDA_VISIBLE_DEVICES leaves this process no GPU of those that there are."""
    value, evidence = machine.environment.visible_devices, _evidence(machine)
    if value is None or not (machine.gpus or evidence.numbered):
        return False
    refused = evidence.init_error not in {0, None} or (evidence.init_error == 0 and not evidence.visible)
    return selection(machine).hides_all or (refused and bool(evidence.numbered))


def usable(machine: Machine) -> tuple[Choice, ...]:
    """The GPUs that a process started here may use, in CUDA's order; none where the variable hides all.

    The driver's own list where it answered; else what the rules leave of the GPUs that are known.
    """
    chosen = selection(machine)
    if chosen.hides_all or hides_every_gpu(machine):
        return ()
    return _as_listed(machine) if _evidence(machine).works else chosen.choices


def _evidence(machine: Machine) -> DriverEvidence:
    """What the driver reported; nothing where driver or GPUs are claimed, since its report is on others."""
    return DriverEvidence() if machine.overrides else machine.evidence


def _as_listed(machine: Machine) -> tuple[Choice, ...]:
    """The driver's list; a GPU of which it gives no UUID is named by its entry: the n-th entry is the n-th GPU."""
    value, visible = machine.environment.visible_devices, machine.evidence.visible
    entries = [str(number) for number in range(len(visible))] if value is None else value.split(",")
    gpus = _with_details(visible, machine.gpus)
    return tuple(
        Choice(gpu=gpu, value=entry if entry.startswith(MIG_PREFIX) else gpu.uuid or entry)
        for gpu, entry in zip(gpus, entries, strict=False)
    )


def _with_details(listed: Sequence[Gpu], known: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """What CUDA lists, with what NVML knows of the same GPU (memory, compute mode)."""
    return tuple(_same_gpu(gpu, known) for gpu in listed)


def _same_gpu(gpu: Gpu, known: Sequence[Gpu]) -> Gpu:
    if gpu.uuid:
        return next((other for other in known if other.uuid == gpu.uuid), gpu)
    alike = [other for other in known if (other.name, other.compute_capability) == (gpu.name, gpu.compute_capability)]
    return alike[0] if len(alike) == 1 else gpu
