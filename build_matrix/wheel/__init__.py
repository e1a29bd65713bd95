"""A self-contained wheel: labelled, with its CUDA dependencies declared, checked, and written canonically."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
from packaging.utils import parse_wheel_filename

import build_matrix
from build_matrix.catalog import library_finder, nvidia_libraries
from build_matrix.context import Context
from build_matrix.digests import code_digest, library_versions
from build_matrix.errors import VerificationError
from build_matrix.model import (
    BuildInputs,
    HostCompiler,
    Member,
    RawWheel,
    SystemNeeds,
    Wheel,
    WheelRecord,
    digest_of,
    file_sha256,
    readable_json,
)
from build_matrix.process.sandbox import ROOT
from build_matrix.store import Store, copy_atomically, disk_errors, write_atomically
from build_matrix.wheel.hygiene import check_members
from build_matrix.wheelfile.archive import Members, dist_info, read_members, record_path, relabel, retag, write_wheel
from build_matrix.wheelfile.native import read_library
from build_matrix.wheelfile.platform_policy import known_system_needs

__all__ = ["finish_wheel"]

CODE = (
    "wheel/__init__.py", "wheel/hygiene.py", "wheel/sbom.py", "downloads/purl.py", "wheelfile/archive.py",
    "unpacking.py", "wheelfile/native.py", "wheelfile/platform_policy.py",
)  # fmt: skip
LIBRARIES = ("auditwheel", "cyclonedx-python-lib", "deflate", "lief", "packageurl-python")
TOOL = f"build-matrix {build_matrix.__version__}"
LICENSES = ("LICENSE", "licenses/*")  # of llama.cpp, below its folder


def finish_wheel(context: Context, raw: RawWheel, work: BuildInputs, budget: int, folder: Path) -> Wheel:
    """The finished wheel and its record, in ``folder``; ``budget`` is what it may weigh, in bytes.

    Raises VerificationError for a wheel that is not clean, promises too much or weighs too much, DiskFullError.
    """
    digest = _digest(raw, work)

    def make(aside: Path) -> None:
        from build_matrix.wheel.sbom import NAME, write_sbom

        compiled = read_members(raw.path)
        members = relabel(compiled, work.cell.label, _requirements(compiled, work))
        info = dist_info(members)
        members |= {f"{info}/licenses/{name}": text for name, text in _licenses(work.source.root)}
        members[f"{info}/{NAME}"] = write_sbom(work)
        check_members(members, forbidden=_private_paths(context.store))
        system = known_system_needs(
            members, nvidia_libraries(_family(work)).libraries, context.store, partial(write_wheel, members, level=1)
        )
        path = write_wheel(retag(members, system.tag), aside)
        record = _record(path, raw, work, system)
        write_atomically(record_path(path), readable_json(record))

    finished = next(context.store.obtain("wheel", digest, make).glob("*.whl"))
    if (size := finished.stat().st_size) > budget:
        raise VerificationError(
            f"{finished.name} has {size / 1e6:.1f} MB; its budget is {budget / 1e6:.1f} MB.",
            "Build for fewer architectures, or raise max_mb in matrix.toml.",
        )
    target = folder / finished.name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for source, copy in ((finished, target), (record_path(finished), record_path(target))):
            if not copy.is_file() or file_sha256(copy) != file_sha256(source):
                copy_atomically(source, copy)
    record = msgspec.json.decode(record_path(finished).read_bytes(), type=WheelRecord)
    return Wheel(path=target, record=record)


def _digest(raw: RawWheel, work: BuildInputs) -> str:
    """Of everything that the wheel and its record hold, and of what writes them."""
    packages = (library_finder(), nvidia_libraries(_family(work)))  # what the requirements are made of
    tool = (code_digest(*CODE), library_versions(*LIBRARIES), TOOL, platform.python_version())
    sources = (work.source.sdist, work.source.patches)
    parts = (work.toolchain.components, work.toolchain.release, work.environment.components, work.sysroot.components)
    recorded = (msgspec.json.schema(WheelRecord), work.cell, _without_folders(work.compiler), raw.flags)
    return digest_of("wheel", tool, raw.digest, packages, sources, parts, recorded)


def _without_folders(compiler: HostCompiler) -> HostCompiler:
    return msgspec.structs.replace(compiler, cc=Path(compiler.cc).name, cxx=Path(compiler.cxx).name)


def _requirements(members: Members, work: BuildInputs) -> tuple[str, ...]:
    """Requires-Dist lines for the NVIDIA packages that carry the libraries which these files need.

    The lower bound is the release that was compiled against; the upper bound is the next CUDA major, since
    NVIDIA keeps the ABI within one.
    """
    family = _family(work)
    libraries = nvidia_libraries(family).libraries
    versions = {item.project: item.version for item in work.toolchain.components}
    needed = {name for data in members.values() for name in _needed(data)}
    finder = library_finder()
    lines = [f"{finder.project}{finder.specifier}"]
    for project in sorted({libraries[soname].project for soname in needed & set(libraries)}):
        major, minor = versions[project].split(".")[:2]
        lines.append(f"{project}<{family + 1},>={major}.{minor}")
    return tuple(lines)


def _family(work: BuildInputs) -> int:
    return int(work.cell.cuda.partition(".")[0])


def _licenses(source: Path) -> Iterator[tuple[str, bytes]]:
    """llama.cpp's licence and those of what it carries, by the name that they get beside the package's own."""
    vendored = source / "vendor" / "llama.cpp"
    for pattern in LICENSES:
        for path in sorted(vendored.glob(pattern)):
            yield path.relative_to(source).as_posix(), path.read_bytes()


def _needed(data: bytes) -> tuple[str, ...]:
    library = read_library(data)
    return library.needed if library else ()


def _private_paths(store: Store) -> tuple[str, ...]:
    """Texts that must stand in no file of a wheel: they would tell where it was built."""
    return (str(store.root), f"{Path.home()}/", str(Path.cwd()), f"{ROOT}/")


def _record(path: Path, raw: RawWheel, work: BuildInputs, system: SystemNeeds) -> WheelRecord:
    members = read_members(path)
    libraries = []
    for name, data in members.items():
        if library := read_library(data):
            libraries.append(Member(path=name, size=len(data), needed=library.needed))
    _, version, _, _ = parse_wheel_filename(path.name)
    if str(version.local) != work.cell.label:
        raise AssertionError(path.name)
    facts = msgspec.structs.replace(raw.facts, cuda_compiler="<toolkit>/bin/nvcc")
    return WheelRecord(
        filename=path.name,
        sha256=file_sha256(path),
        size=path.stat().st_size,
        unpacked_size=sum(len(data) for data in members.values()),
        cell=work.cell,
        sdist=work.source.sdist,
        patches=work.source.patches,
        toolkit=work.toolchain.components,
        toolkit_release=work.toolchain.release,
        build_environment=work.environment.components,
        sysroot=work.sysroot.components,
        host_compiler=_without_folders(work.compiler),
        python=platform.python_version(),
        flags=raw.flags,
        facts=facts,
        libraries=tuple(libraries),
        system=system,
        tool=TOOL,
    )
