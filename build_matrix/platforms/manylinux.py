"""On which Linux systems does a wheel run? auditwheel's policies decide, by the symbol versions its libraries need."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from build_matrix.errors import VerificationError
from build_matrix.model import SystemNeeds

_MANYLINUX = re.compile(r"manylinux_(?P<major>\d+)_(?P<minor>\d+)_(?P<architecture>\w+)")
_NUMBERED = re.compile(r"(?P<family>\w+)_(?P<number>\d+(?:\.\d+)*)")


def read_system_needs(wheel: Path, provided: Iterable[str], architecture: str) -> SystemNeeds:
    """Which policy a wheel meets, when ``provided`` are the SONAMEs that declared packages bring.

    ``architecture`` is the processor, as auditwheel names it. Raises VerificationError for a wheel that auditwheel
    cannot judge: one without native libraries, or for another processor. The wheel is only read; auditwheel's own
    repair, which leaves a file behind when it fails, is not used.
    """
    from auditwheel.architecture import Architecture
    from auditwheel.error import AuditwheelError
    from auditwheel.libc import Libc
    from auditwheel.wheel_abi import analyze_wheel_abi

    try:
        facts = analyze_wheel_abi(
            Libc.GLIBC,
            Architecture(architecture),
            wheel,
            frozenset(provided),
            disable_isa_ext_check=False,
            allow_graft=False,
        )
    except AuditwheelError as error:
        raise VerificationError(f"auditwheel cannot judge {wheel.name}: {error}.", "Build it again.") from error
    needed = [version for versions in facts.versioned_symbols.values() for version in versions]
    return SystemNeeds(tag=facts.overall_policy.name, symbols=newest(needed))


def newest(versions: Iterable[str]) -> dict[str, str]:
    """The newest of each family of symbol versions: ``{"GLIBC": "2.27", "GLIBCXX": "3.4.22"}``."""
    numbers: dict[str, tuple[int, ...]] = {}
    for version in versions:
        if match := _NUMBERED.fullmatch(version):
            number = tuple(int(part) for part in match["number"].split("."))
            numbers[match["family"]] = max(numbers.get(match["family"], ()), number)
    return {family: ".".join(map(str, number)) for family, number in sorted(numbers.items())}


def promises_too_much(tag: str, met: str) -> bool:
    """Whether a wheel with the platform tag ``tag`` is installed on older systems than those of the policy ``met``."""
    promised, reached = _MANYLINUX.fullmatch(tag), _MANYLINUX.fullmatch(met)
    if not promised:
        return tag != met and not tag.startswith("linux_")
    if not reached:
        return True
    older = (int(promised["major"]), int(promised["minor"])) < (int(reached["major"]), int(reached["minor"]))
    return older or promised["architecture"] != reached["architecture"]
