"""Wheels as archives (PEP 427, PEP 440 local versions): read, relabelled, written the same way every time."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from build_matrix.errors import VerificationError
from build_matrix.unpacking import BROKEN, Names, UnsafeNameError, checked_name

LEVEL = 9  # of 12: beyond it the last percent takes seconds

# APPNOTE.TXT 6.3.10, 4.4: what every entry has in common. 1980-01-01 00:00, a regular file with mode 644, made on Unix.
DOS_TIME, DOS_DATE = 0, (1 << 5) | 1
CREATED_ON_UNIX, NEEDED = (3 << 8) | 20, 20
DEFLATED = 8
UTF8 = 1 << 11
MODE = 0o100644
LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")

Members = dict[str, bytes]


def read_members(path: Path) -> Members:
    """Every file of a wheel by its name.

    Raises VerificationError for a file that is no wheel, and for one with a name that no installer may write or with
    two files in one place.
    """
    members, names = {}, Names()
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    names.add(checked_name(info.orig_filename), "file")
                    members[info.filename] = archive.read(info)
    except UnsafeNameError as error:
        raise VerificationError(
            f"{path.name} contains an unsafe or duplicate name: {str(error)!r}.", "Build it again."
        ) from error
    except (*BROKEN, OSError) as error:
        raise VerificationError(f"{path.name} is not a wheel: {error}.", "Build it again.") from error
    return members


def dist_info_folder(members: Mapping[str, bytes]) -> str:
    """The name of the one ``*.dist-info`` folder; raises VerificationError."""
    folders = {name.partition("/")[0] for name in members if name.partition("/")[0].endswith(".dist-info")}
    if len(folders) != 1:
        raise VerificationError(f"The wheel has {len(folders)} .dist-info folders instead of one.", "Build it again.")
    return folders.pop()


def headers(text: str) -> list[tuple[str, str]]:
    """The header lines of a core metadata file, in order (continuation lines excepted)."""
    result = []
    for line in text.splitlines():
        if not line:
            break
        if not line.startswith((" ", "\t")) and ":" in line:
            name, _, value = line.partition(":")
            result.append((name, value.strip()))
    return result


def relabel(members: Members, label: str, requirements: Sequence[str]) -> Members:
    """The same wheel with ``label`` as local version, in the names and in METADATA, and further requirements."""
    old = dist_info_folder(members)
    name, _, version = old.removesuffix(".dist-info").partition("-")
    new = f"{name}-{version}+{label}.dist-info"
    result = {}
    for path, data in members.items():
        folder, slash, rest = path.partition("/")
        if folder != old:
            result[path] = data
        elif rest == "METADATA":
            result[f"{new}/METADATA"] = _metadata(data.decode("utf-8"), f"{version}+{label}", requirements).encode()
        elif rest != "RECORD":
            result[f"{new}{slash}{rest}"] = data
    return result


def retag(members: Members, platform: str) -> Members:
    """The same wheel for another platform: ``manylinux_2_28_x86_64`` in place of ``linux_x86_64``."""
    path = f"{dist_info_folder(members)}/WHEEL"
    lines = members[path].decode("utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("Tag:"):
            lines[number] = f"{line.rpartition('-')[0]}-{platform}"
    return members | {path: ("\n".join(lines) + "\n").encode()}


def _metadata(text: str, version: str, requirements: Sequence[str]) -> str:
    head, blank, body = text.partition("\n\n")
    lines = [f"Version: {version}" if line.startswith("Version:") else line for line in head.splitlines()]
    extra = [f"Requires-Dist: {requirement}" for requirement in requirements]
    plain = [i for i, line in enumerate(lines) if line.startswith("Requires-Dist:") and "extra ==" not in line]
    after = plain[-1] + 1 if plain else len(lines)
    return "\n".join([*lines[:after], *extra, *lines[after:]]) + blank + body


def write_wheel(members: Members, folder: Path, level: int = LEVEL) -> Path:
    """Write the members as a wheel into ``folder``, with RECORD, sorted, without times; returns its path.

    The bytes are the same for every Python: the standard library's zipfile compresses with whatever zlib the
    interpreter was linked with, and those differ (zlib, zlib-ng); this uses libdeflate in a locked version.
    """
    info = dist_info_folder(members)
    tags = [value for name, value in headers(members[f"{info}/WHEEL"].decode()) if name == "Tag"]
    if len(tags) != 1:
        raise VerificationError(f"The wheel has {len(tags)} tags instead of one.", "Report this with the full log.")
    path = folder / f"{info.removesuffix('.dist-info')}-{tags[0]}.whl"
    record = f"{info}/RECORD"
    names = sorted(name for name in members if not name.startswith(f"{info}/"))
    names += sorted(name for name in members if name.startswith(f"{info}/") and name != record)
    path.write_bytes(_zip([*((n, members[n]) for n in names), (record, _record(names, members, info))], level))
    return path


def _zip(entries: Sequence[tuple[str, bytes]], level: int) -> bytes:
    """A ZIP file of these entries, in this order; they and the file are below 4 GiB (struct.error otherwise)."""
    import deflate

    body, directory = bytearray(), bytearray()
    for name, data in entries:
        packed = bytes(deflate.deflate_compress(data, level))
        encoded = name.encode()
        flags = 0 if name.isascii() else UTF8
        common = (
            NEEDED,
            flags,
            DEFLATED,
            DOS_TIME,
            DOS_DATE,
            zlib.crc32(data),
            len(packed),
            len(data),
            len(encoded),
            0,
        )
        directory += CENTRAL.pack(b"PK\1\2", CREATED_ON_UNIX, *common, 0, 0, 0, MODE << 16, len(body)) + encoded
        body += LOCAL.pack(b"PK\3\4", *common) + encoded + packed
    count = len(entries)
    return bytes(body + directory + END.pack(b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0))


def _record(names: Sequence[str], members: Mapping[str, bytes], info: str) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for name in names:
        writer.writerow((name, record_hash(members[name]), len(members[name])))
    writer.writerow((f"{info}/RECORD", "", ""))
    return out.getvalue().encode()


def record_hash(data: bytes) -> str:
    """A file's hash as RECORD writes it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"
