"""Wheels as archives (PEP 427, PEP 440 local versions): read, relabelled, written the same way every time."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from build_matrix.errors import VerificationError

DATE = (1980, 1, 1, 0, 0, 0)
MODE = 0o100644
LEVEL = 6

Members = dict[str, bytes]


def record_path(wheel: Path) -> Path:
    """Where a wheel's record lies."""
    return wheel.with_name(wheel.name + ".json")


def verdict_path(wheel: Path) -> Path:
    """Where a wheel's verdict lies."""
    return wheel.with_name(wheel.name + ".verdict.json")


def read_members(path: Path) -> Members:
    """Every file of a wheel by its name; raises VerificationError for a file that is no wheel."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise VerificationError(f"{path.name} is not a wheel: {error}.", "Build it again.") from error


def dist_info(members: Mapping[str, bytes]) -> str:
    """The name of the one ``*.dist-info`` folder; raises VerificationError."""
    folders = {name.partition("/")[0] for name in members if name.partition("/")[0].endswith(".dist-info")}
    if len(folders) != 1:
        raise VerificationError(f"The wheel has {len(folders)} .dist-info folders instead of one.", "Build it again.")
    return folders.pop()


def headers(text: str) -> list[tuple[str, str]]:
    """The header lines of a core metadata file, in order (continuation lines excepted)."""
    found = []
    for line in text.splitlines():
        if not line:
            break
        if not line.startswith((" ", "\t")) and ":" in line:
            name, _, value = line.partition(":")
            found.append((name, value.strip()))
    return found


def relabel(members: Members, label: str, requirements: Sequence[str]) -> Members:
    """The same wheel with ``label`` as local version, in the names and in METADATA, and further requirements."""
    old = dist_info(members)
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
    path = f"{dist_info(members)}/WHEEL"
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


def write_wheel(members: Members, folder: Path) -> Path:
    """Write the members as a wheel into ``folder``, with RECORD, sorted, without times; returns its path."""
    info = dist_info(members)
    tags = [value for name, value in headers(members[f"{info}/WHEEL"].decode()) if name == "Tag"]
    if len(tags) != 1:
        raise VerificationError(f"The wheel has {len(tags)} tags instead of one.", "Report this with the full log.")
    path = folder / f"{info.removesuffix('.dist-info')}-{tags[0]}.whl"
    names = sorted(name for name in members if not name.startswith(f"{info}/"))
    names += sorted(name for name in members if name.startswith(f"{info}/"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name in names:
            archive.writestr(_entry(name), members[name])
        archive.writestr(_entry(f"{info}/RECORD"), _record(names, members, info))
    return path


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, wherever this runs
    entry.external_attr = MODE << 16
    return entry


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
