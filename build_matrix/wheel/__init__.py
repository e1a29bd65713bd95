"""A wheel that stands alone: labelled, with its CUDA dependencies declared, cleaned, and written canonically."""

from __future__ import annotations

import platform
from pathlib import Path

import msgspec
from packaging.utils import parse_wheel_filename

import build_matrix
from build_matrix.archive import read_members, record_path, relabel, write_wheel
from build_matrix.catalog import nvidia_libraries
from build_matrix.model import BuildInputs, Member, RawWheel, Wheel, WheelRecord, digest_of, file_sha256
from build_matrix.native import read_library
from build_matrix.store import Store, copy_atomically, disk_errors, write_atomically
from build_matrix.wheel.hygiene import check_members

__all__ = ["finish_wheel"]

VERSION = 1


def finish_wheel(raw: RawWheel, work: BuildInputs, store: Store, folder: Path) -> Wheel:
    """The finished wheel and its record, in ``folder``.

    Raises VerificationError for a wheel that is not clean, DiskFullError.
    """
    requirements = _requirements(raw, work)
    digest = digest_of("wheel", VERSION, raw.digest, work.cell.label, requirements)

    def make(aside: Path) -> None:
        members = relabel(read_members(raw.path), work.cell.label, requirements)
        check_members(members, forbidden=_private_paths(store))
        path = write_wheel(members, aside)
        record = _record(path, raw, work)
        write_atomically(record_path(path), msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")

    finished = next(store.obtain("wheel", digest, make).glob("*.whl"))
    target = folder / finished.name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for source, copy in ((finished, target), (record_path(finished), record_path(target))):
            if not copy.is_file() or file_sha256(copy) != file_sha256(source):
                copy_atomically(source, copy)
    record = msgspec.json.decode(record_path(finished).read_bytes(), type=WheelRecord)
    return Wheel(path=target, record=record)


def _requirements(raw: RawWheel, work: BuildInputs) -> tuple[str, ...]:
    """Requires-Dist lines for the NVIDIA packages that carry the libraries which the wheel needs.

    The lower bound is the release that was compiled against; the upper bound is the next CUDA major, since
    NVIDIA keeps the ABI within one.
    """
    family = int(work.cell.cuda.partition(".")[0])
    projects = nvidia_libraries(family).projects
    versions = {item.project: item.version for item in work.toolchain.components}
    needed = {name for data in read_members(raw.path).values() for name in _needed(data)}
    lines = []
    for soname in sorted(needed & set(projects)):
        major, minor = versions[projects[soname]].split(".")[:2]
        lines.append(f"{projects[soname]}<{family + 1},>={major}.{minor}")
    return tuple(lines)


def _needed(data: bytes) -> tuple[str, ...]:
    library = read_library(data)
    return library.needed if library else ()


def _private_paths(store: Store) -> tuple[str, ...]:
    """Texts that must stand in no file of a wheel: they would tell where it was built."""
    return (str(store.root), f"{Path.home()}/", str(Path.cwd()))


def _record(path: Path, raw: RawWheel, work: BuildInputs) -> WheelRecord:
    members = read_members(path)
    libraries = []
    for name, data in members.items():
        if library := read_library(data):
            libraries.append(Member(path=name, size=len(data), needed=library.needed))
    _, version, _, _ = parse_wheel_filename(path.name)
    if str(version.local) != work.cell.label:
        raise AssertionError(path.name)
    compiler = msgspec.structs.replace(work.compiler, cc=Path(work.compiler.cc).name, cxx=Path(work.compiler.cxx).name)
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
        host_compiler=compiler,
        python=platform.python_version(),
        flags=raw.flags,
        facts=facts,
        libraries=tuple(libraries),
        tool=f"build-matrix {build_matrix.__version__}",
    )
