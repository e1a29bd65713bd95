"""Is a wheel what its name says? Checked without running any of it."""

from __future__ import annotations

from collections.abc import Container, Mapping

from build_matrix.catalog import nvidia_libraries
from build_matrix.errors import VerificationError
from build_matrix.model import Check, Label
from build_matrix.platforms import Platform
from build_matrix.platforms.system_needs import known_system_needs
from build_matrix.store import Store
from build_matrix.wheelfile.archive import record_hash
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.metadata import DistInfo
from build_matrix.wheelfile.name import PROJECT, WheelName
from build_matrix.wheelfile.native import Library


def check_static(wheel: WheelFile, platform: Platform, store: Store | None = None) -> tuple[list[Check], Label | None]:
    """Every check that needs no other program, and what the label claims (None: nothing that can be checked).

    ``platform`` is the one that the wheel should be for, ``store`` knows what the same libraries need of a system from
    when they were built here.
    """
    try:
        name, info = wheel.name, wheel.dist_info
    except VerificationError as error:
        return [Check(name="archive", passed=False, detail=error.problem)], None
    checks = [
        _check_label(name),
        _check_metadata(name, info),
        _check_tags(name, info),
        _check_record(wheel.members, info),
    ]
    if name.label:
        checks.append(_check_libraries(wheel.libraries, info, name.label, platform))
        checks.append(_check_cxx(wheel.libraries))
        checks.append(_check_platform(wheel, platform, name.label, store))
    return checks, name.label


def _check_label(name: WheelName) -> Check:
    label = name.label
    passed = name.project == PROJECT and label is not None and not label.problem
    detail = f"{name.project}, label {name.version.local or '(none)'}"
    if label and label.problem:
        detail = f"{name.project}, {label.problem}"
    return Check(name="label", passed=passed, detail=detail)


def _check_metadata(name: WheelName, info: DistInfo) -> Check:
    names = info.names | {name.project}
    versions = info.versions | {str(name.version)}
    passed = len(names) == 1 and len(versions) == 1
    relation = "agree" if passed else "disagree"
    return Check(
        name="metadata", passed=passed, detail=f"file name, folder and METADATA {relation}: {sorted(versions)}"
    )


def _check_tags(name: WheelName, info: DistInfo) -> Check:
    tags = {str(tag) for tag in name.tags}
    detail = f"file name {sorted(tags)}, WHEEL {sorted(info.tags)}"
    return Check(name="tags", passed=info.tags == tags, detail=detail)


def _check_record(members: Mapping[str, bytes], info: DistInfo) -> Check:
    record = f"{info.folder}/RECORD"
    wrong = sorted(set(info.hashes) ^ set(members))
    for name, data in members.items():
        if name != record and name in info.hashes and info.hashes[name] != record_hash(data):
            wrong.append(name)
    detail = f"{len(members)} files" if not wrong else f"does not match {', '.join(wrong[:3])}"
    return Check(name="RECORD", passed=not wrong, detail=detail)


def _check_libraries(libraries: Mapping[str, Library], info: DistInfo, label: Label, platform: Platform) -> Check:
    """Every library that is needed is in the wheel, on every system, or declared; CUDA's are of the label's major."""
    bundled = {library.soname for library in libraries.values()}
    declared = info.requirements
    try:
        nvidia = nvidia_libraries(label.family)
    except KeyError:
        return Check(name="libraries", passed=False, detail=f"no packages are known for CUDA {label.family}")
    problems = []
    for name, library in libraries.items():
        for soname in library.needed:
            if soname in bundled or soname in platform.system_libraries:
                continue
            source = nvidia.libraries.get(soname)
            if source is None:
                problems.append(f"{name} needs {soname}, which no declared package provides")
            elif source.project not in declared:
                problems.append(f"{name} needs {soname}, but {source.project} is not declared")
            elif platform.run_path(source.folder) not in library.runpath:
                problems.append(f"{name} does not look for {soname} in {platform.run_path(source.folder)}")
    if not any(_needs_cuda(library, nvidia.libraries) for library in libraries.values()):
        problems.append(f"no library needs CUDA {label.family}: this is a CPU-only build")
    detail = "; ".join(problems) or f"{len(libraries)} libraries need only what is allowed"
    return Check(name="libraries", passed=not problems, detail=detail)


def _check_cxx(libraries: Mapping[str, Library]) -> Check:
    """No library brings a C++ standard library of its own: streams of one copy meet locales of another."""
    exported = {name: library.exported_cxx for name, library in libraries.items() if library.exported_cxx}
    detail = "; ".join(f"{name} exports {len(names)} definitions of its own copy" for name, names in exported.items())
    return Check(name="libstdc++", passed=not exported, detail=detail or "all use the system's")


def _check_platform(wheel: WheelFile, platform: Platform, label: Label, store: Store | None) -> Check:
    """Every system that the platform tags name has the symbols that the libraries need."""
    try:
        provided = nvidia_libraries(label.family).libraries
        if store:
            libraries = {name: wheel.members[name] for name in wheel.libraries}
            needs = known_system_needs(platform, libraries, provided, store, lambda _: wheel.path)
        else:
            needs = platform.read_system_needs(wheel.path, provided)
    except (KeyError, VerificationError) as error:
        detail = error.problem if isinstance(error, VerificationError) else f"CUDA {label.family} is not known"
        return Check(name="platform", passed=False, detail=detail)
    wrong = sorted(tag for tag in wheel.name.platforms if platform.promises_too_much(tag, needs.tag))
    symbols = ", ".join(f"{family} {version}" for family, version in needs.symbols.items())
    detail = f"needs {needs.tag} ({symbols})" + (f", but is tagged {' '.join(wrong)}" if wrong else "")
    return Check(name="platform", passed=not wrong, detail=detail)


def _needs_cuda(library: Library, sonames: Container[str]) -> bool:
    return any(soname in sonames for soname in library.needed)
