"""On which systems does a wheel run? auditwheel's policies decide, by the symbol versions that its libraries need."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from build_matrix.digests import code_digest, library_versions
from build_matrix.errors import VerificationError
from build_matrix.model import SystemNeeds, digest_of
from build_matrix.store import Store
from build_matrix.wheelfile.archive import Members
from build_matrix.wheelfile.native import is_library

CODE = ("wheelfile/platform_policy.py", "wheelfile/native.py", "wheelfile/archive.py", "unpacking.py")
NEEDS = "needs.json"

_MANYLINUX = re.compile(r"manylinux_(?P<major>\d+)_(?P<minor>\d+)_(?P<architecture>\w+)")
_NUMBERED = re.compile(r"(?P<family>\w+)_(?P<number>\d+(?:\.\d+)*)")


def read_system_needs(wheel: Path, provided: Iterable[str]) -> SystemNeeds:
    """Which policy a wheel meets, when ``provided`` are the SONAMEs that declared packages bring.

    Raises VerificationError for a wheel that auditwheel cannot judge: one without native libraries, or for another
    machine. The wheel is only read; auditwheel's own repair, which leaves a file behind when it fails, is not used.
    """
    from auditwheel.architecture import Architecture
    from auditwheel.error import AuditwheelError
    from auditwheel.libc import Libc
    from auditwheel.wheel_abi import analyze_wheel_abi

    try:
        facts = analyze_wheel_abi(
            Libc.GLIBC,
            Architecture.x86_64,
            wheel,
            frozenset(provided),
            disable_isa_ext_check=False,
            allow_graft=False,
        )
    except AuditwheelError as error:
        raise VerificationError(f"auditwheel cannot judge {wheel.name}: {error}.", "Build it again.") from error
    needed = [version for versions in facts.versioned_symbols.values() for version in versions]
    return SystemNeeds(tag=facts.overall_policy.name, symbols=newest(needed))


def known_system_needs(
    members: Members, provided: Iterable[str], store: Store, wheel: Callable[[Path], Path]
) -> SystemNeeds:
    """The same, asked once for the same libraries: auditwheel reads them in Python, which takes seconds.

    ``wheel`` names a wheel of these members, or writes one into the folder that it is given. Raises VerificationError.
    """
    libraries = {name: hashlib.sha256(data).hexdigest() for name, data in members.items() if is_library(data)}
    digest = digest_of("system-needs", code_digest(*CODE), library_versions("auditwheel"), sorted(provided), libraries)

    def ask(folder: Path) -> None:
        needs = read_system_needs(path := wheel(folder), provided)
        if path.parent == folder:
            path.unlink()
        (folder / NEEDS).write_bytes(msgspec.json.encode(needs))

    answer = store.obtain("system-needs", digest, ask) / NEEDS
    return msgspec.json.decode(answer.read_bytes(), type=SystemNeeds)


def newest(versions: Iterable[str]) -> dict[str, str]:
    """The newest of each family of symbol versions: ``{"GLIBC": "2.27", "GLIBCXX": "3.4.22"}``."""
    found: dict[str, tuple[int, ...]] = {}
    for version in versions:
        if match := _NUMBERED.fullmatch(version):
            number = tuple(int(part) for part in match["number"].split("."))
            found[match["family"]] = max(found.get(match["family"], ()), number)
    return {family: ".".join(map(str, number)) for family, number in sorted(found.items())}


def promises_too_much(tag: str, met: str) -> bool:
    """Whether a wheel with the platform tag ``tag`` lands on systems older than those of the policy it has ``met``."""
    promised, reached = _MANYLINUX.fullmatch(tag), _MANYLINUX.fullmatch(met)
    if not promised:
        return tag != met and not tag.startswith("linux_")
    if not reached:
        return True
    older = (int(promised["major"]), int(promised["minor"])) < (int(reached["major"]), int(reached["minor"]))
    return older or promised["architecture"] != reached["architecture"]
