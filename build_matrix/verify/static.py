"""Is a wheel what its name says? Checked without running any of it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Container, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from build_matrix.archive import Members, dist_info, headers, read_members, record_hash
from build_matrix.catalog import nvidia_libraries, system_libraries
from build_matrix.errors import VerificationError
from build_matrix.model import Architecture, Check, Record
from build_matrix.native import Library, read_library
from build_matrix.platform_policy import known_system_needs, promises_too_much, read_system_needs
from build_matrix.store import Store

PROJECT = "llama-cpp-python"
_OURS = re.compile(r"check|d[0-9a-f]{8}")  # a profile that must not be released, and the digest of its --define
_CODE = re.compile(r"(?P<kind>sm|ptx)(?P<number>[1-9]\d{1,2})(?P<feature>[af]?)")
_KINDS = {"sm": "real", "ptx": "virtual"}
_CUDA = re.compile(r"(?:cu|cuda)(?:(?P<old>[5-9])(?P<digit>\d)|(?P<family>[1-4]\d)(?P<minor>\d|[1-9]\d)?)")
_CLAIM = re.compile(r"cu\d|cuda")


class Label(Record, frozen=True, kw_only=True):
    """What a local version label claims: ``cu130.sm89`` is CUDA 13.0 with machine code for sm_89.

    ``cuda`` may be a major alone (``cu12``), or empty where it is not understood; ``unknown`` are the words that are
    not understood.
    """

    text: str
    cuda: str
    codes: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def architectures(self) -> tuple[Architecture, ...]:
        """The codes, as architectures."""
        matches = [match for code in self.codes if (match := _CODE.fullmatch(code))]
        texts = [f"{match['number']}{match['feature']}-{_KINDS[match['kind']]}" for match in matches]
        return tuple(Architecture.parse(text) for text in texts)

    @property
    def family(self) -> int:
        """CUDA major version; 0 where it is not understood."""
        return int(self.cuda.partition(".")[0] or 0)

    @property
    def problem(self) -> str:
        """Why the label does not say all that a prediction needs; an empty text where it does."""
        if self.unknown:
            return f"its label {self.text!r} is not understood ({', '.join(self.unknown)})"
        if "." not in self.cuda:
            return f"its label {self.text!r} names no CUDA minor version"
        return "" if self.codes else f"its label {self.text!r} names no architecture"


def parse_label(local: str) -> Label | None:
    """What a local version label claims of CUDA, or None for one that claims nothing of it.

    Ours are ``cu130.sm89.ptx90``, with ``.d`` and eight hexadecimal digits, and ``.check``. Others write ``cu124``,
    ``cuda12.8``, ``cu12``, and words of their own, which are then ``unknown``.
    """
    words = local.lower().replace("-", ".").replace("_", ".").split(".")
    claims = [number for number, word in enumerate(words) if _CLAIM.match(word)]
    if not claims:
        return None
    first = claims[0]
    cuda, rest = _cuda_version(words[first], words[first + 1 :])
    rest = words[:first] + rest
    unknown = [word for word in rest if not (_CODE.fullmatch(word) or _OURS.fullmatch(word))]
    if not cuda:
        unknown.insert(0, words[first])
    codes = tuple(sorted({word for word in rest if _CODE.fullmatch(word)}))
    return Label(text=local, cuda=cuda, codes=codes, unknown=tuple(unknown))


def _cuda_version(word: str, rest: list[str]) -> tuple[str, list[str]]:
    """The version in ``cu130``, ``cu1310``, ``cu92``, ``cu12``, ``cuda12.8``, ``cuda.13.0``, and the words after it."""
    if word == "cuda" and rest:
        word, rest = word + rest[0], rest[1:]
    match = _CUDA.fullmatch(word)
    if not match:
        return "", rest
    if match["old"]:
        return f"{match['old']}.{match['digit']}", rest
    if match["minor"]:
        return f"{match['family']}.{match['minor']}", rest
    if rest and re.fullmatch(r"\d|[1-9]\d", rest[0]):
        return f"{match['family']}.{rest[0]}", rest[1:]
    return match["family"], rest


def check_static(wheel: Path, store: Store | None = None) -> tuple[list[Check], Label | None]:
    """Every check that needs no other program, and what the label claims (None: nothing that can be checked).

    ``store`` knows what auditwheel said of the same libraries when they were built here.
    """
    try:
        name, version, _, tags = parse_wheel_filename(wheel.name)
        members = read_members(wheel)
        info = dist_info(members)
    except (InvalidWheelFilename, VerificationError) as error:
        problem = error.problem if isinstance(error, VerificationError) else str(error)
        return [Check(name="archive", passed=False, detail=problem)], None
    label = parse_label(version.local or "")
    checks = [
        _check_label(name, version.local or "", label),
        _check_metadata(members, info, name, str(version)),
        _check_tags(members, info, {str(tag) for tag in tags}),
        _check_record(members, info),
    ]
    if label:
        checks.append(_check_libraries(members, info, label))
        checks.append(_check_cxx(members))
        checks.append(_check_platform(wheel, members, {tag.platform for tag in tags}, label, store))
    return checks, label


def _check_label(project: str, local: str, label: Label | None) -> Check:
    passed = project == PROJECT and label is not None and not label.problem
    detail = f"{project}, label {local or '(none)'}"
    if label and label.problem:
        detail = f"{project}, {label.problem}"
    return Check(name="label", passed=passed, detail=detail)


def _check_metadata(members: Mapping[str, bytes], info: str, name: str, version: str) -> Check:
    found = dict(headers(members.get(f"{info}/METADATA", b"").decode("utf-8", "replace")))
    folder_name, _, folder_version = info.removesuffix(".dist-info").partition("-")
    names = {canonicalize_name(found.get("Name", "")), canonicalize_name(folder_name), name}
    versions = {found.get("Version", ""), folder_version, version}
    passed = len(names) == 1 and len(versions) == 1
    said = "agree" if passed else "disagree"
    return Check(name="metadata", passed=passed, detail=f"file name, folder and METADATA {said}: {sorted(versions)}")


def _check_tags(members: Mapping[str, bytes], info: str, tags: set[str]) -> Check:
    lines = headers(members.get(f"{info}/WHEEL", b"").decode("utf-8", "replace"))
    found = {value for name, value in lines if name == "Tag"}
    return Check(name="tags", passed=found == tags, detail=f"file name {sorted(tags)}, WHEEL {sorted(found)}")


def _check_record(members: Mapping[str, bytes], info: str) -> Check:
    rows = csv.reader(io.StringIO(members.get(f"{info}/RECORD", b"").decode("utf-8", "replace")))
    listed = {row[0]: row[1] for row in rows if len(row) == 3}  # noqa: PLR2004 - path, hash, size
    wrong = sorted(set(listed) ^ set(members))
    for name, data in members.items():
        if name != f"{info}/RECORD" and name in listed and listed[name] != record_hash(data):
            wrong.append(name)
    detail = f"{len(members)} files" if not wrong else f"does not match {', '.join(wrong[:3])}"
    return Check(name="RECORD", passed=not wrong, detail=detail)


def _check_libraries(members: Mapping[str, bytes], info: str, label: Label) -> Check:
    """Every library that is needed is in the wheel, on every system, or declared; CUDA's are of the label's major."""
    libraries = {name: lib for name, data in members.items() if (lib := read_library(data))}
    own = {library.soname for library in libraries.values()}
    declared = _declared(members, info)
    try:
        nvidia = nvidia_libraries(label.family)
    except KeyError:
        return Check(name="libraries", passed=False, detail=f"no packages are known for CUDA {label.family}")
    problems = []
    for name, library in libraries.items():
        for soname in library.needed:
            if soname in own or soname in system_libraries("linux-x86_64"):
                continue
            source = nvidia.libraries.get(soname)
            if source is None:
                problems.append(f"{name} needs {soname}, which nothing declared provides")
            elif source.project not in declared:
                problems.append(f"{name} needs {soname}, but {source.project} is not declared")
            elif f"$ORIGIN/{source.folder}" not in library.runpath:
                problems.append(f"{name} does not look for {soname} in $ORIGIN/{source.folder}")
    if not any(_needs_cuda(library, nvidia.libraries) for library in libraries.values()):
        problems.append(f"no library needs CUDA {label.family}: this is a CPU-only build")
    detail = "; ".join(problems) or f"{len(libraries)} libraries need only what they may need"
    return Check(name="libraries", passed=not problems, detail=detail)


def _check_cxx(members: Mapping[str, bytes]) -> Check:
    """No library brings a C++ standard library of its own: streams of one copy meet locales of another."""
    own = {name: lib.own_cxx for name, data in members.items() if (lib := read_library(data)) and lib.own_cxx}
    detail = "; ".join(f"{name} exports {len(found)} definitions of its own copy" for name, found in own.items())
    return Check(name="libstdc++", passed=not own, detail=detail or "that of the system, everywhere")


def _check_platform(wheel: Path, members: Members, tags: set[str], label: Label, store: Store | None) -> Check:
    """Every system that the platform tags name has the symbols that the libraries need."""
    try:
        provided = nvidia_libraries(label.family).libraries
        if store:
            needs = known_system_needs(members, provided, store, lambda _: wheel)
        else:
            needs = read_system_needs(wheel, provided)
    except (KeyError, VerificationError) as error:
        detail = error.problem if isinstance(error, VerificationError) else f"nothing is known of CUDA {label.family}"
        return Check(name="platform", passed=False, detail=detail)
    wrong = sorted(tag for tag in tags if promises_too_much(tag, needs.tag))
    symbols = ", ".join(f"{family} {version}" for family, version in needs.symbols.items())
    detail = f"needs {needs.tag} ({symbols})" + (f", but is tagged {' '.join(wrong)}" if wrong else "")
    return Check(name="platform", passed=not wrong, detail=detail)


def _needs_cuda(library: Library, sonames: Container[str]) -> bool:
    return any(soname in sonames for soname in library.needed)


def _declared(members: Mapping[str, bytes], info: str) -> set[str]:
    lines = headers(members.get(f"{info}/METADATA", b"").decode("utf-8", "replace"))
    requirements = [Requirement(value) for name, value in lines if name == "Requires-Dist"]
    return {canonicalize_name(r.name) for r in requirements if not (r.marker and "extra" in str(r.marker))}
