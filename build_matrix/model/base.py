"""Record, the base of all records, and their digests and JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from build_matrix.redact import redact_all


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all records (msgspec inherits these settings, but not kw_only).

    Defaults are written out, because a digest must not depend on how a value came to be the default: msgspec leaves
    a default out when it is the same object, which an equal text read from the command line is not.

    A field with ``field(name=...)`` has another name in JSON, which scripts may read.
    """


def digest_of(*parts: Any) -> str:
    """Sha256 (hex) of the canonical JSON of ``parts``: the name of whatever they are the inputs of."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def readable_json(value: Any) -> bytes:
    """Indented JSON of records, for people and for files that travel: without credentials."""
    plain = redact_all(msgspec.to_builtins(value))
    try:
        return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"
    except UnicodeEncodeError:  # a path that is no text: its bytes as PEP 383 has them, escaped
        return json.dumps(plain, indent=2).encode("ascii") + b"\n"


def file_sha256(path: Path) -> str:
    """Sha256 (hex) of a file's bytes."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()
