"""On which systems does a wheel run? Asked once for the same libraries: the answer takes seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from build_matrix.digests import code_digest, library_versions
from build_matrix.model import SystemNeeds, digest_of
from build_matrix.platforms import Platform
from build_matrix.store import Store

CODE = ("platforms",)
NEEDS = "needs.json"


def known_system_needs(
    platform: Platform,
    libraries: Mapping[str, bytes],
    provided: Iterable[str],
    store: Store,
    wheel: Callable[[Path], Path],
) -> SystemNeeds:
    """What ``platform`` reads of a wheel with these ``libraries``, when declared packages bring those in ``provided``.

    ``wheel`` names a wheel that holds them, or writes one into the folder that it is given. Raises VerificationError.
    """
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in libraries.items()}
    tool = (code_digest(*CODE), library_versions("auditwheel"), platform.name)
    digest = digest_of("system-needs", tool, sorted(provided), hashes)

    def read(folder: Path) -> None:
        needs = platform.read_system_needs(path := wheel(folder), provided)
        if path.parent == folder:
            path.unlink()
        (folder / NEEDS).write_bytes(msgspec.json.encode(needs))

    stored = store.obtain("system-needs", digest, read) / NEEDS
    return msgspec.json.decode(stored.read_bytes(), type=SystemNeeds)
