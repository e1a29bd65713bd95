"""A self-contained wheel: labelled, with its CUDA dependencies declared, checked, and written canonically."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec

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
from build_matrix.platforms import find_platform
from build_matrix.platforms.system_needs import known_system_needs
from build_matrix.process.sandbox import ROOT
from build_matrix.store import Store, copy_atomically, disk_errors, write_atomically
from build_matrix.wheel.hygiene import check_members
from build_matrix.wheelfile.archive import dist_info_folder, relabel, retag, write_wheel
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.native import Library
from build_matrix.wheelfile.sidecar import load_record, record_path

__all__ = ["finish_wheel"]

CODE = (
    "wheel/__init__.py", "wheel/hygiene.py", "wheel/sbom.py", "downloads/origins", "downloads/install.py",
    "unpacking.py", "wheelfile/archive.py", "wheelfile/file.py", "wheelfile/metadata.py", "wheelfile/name.py",
    "wheelfile/native.py", "wheelfile/sidecar.py", "platforms",
)  # fmt: skip
LIBRARIES = ("auditwheel", "cyclonedx-python-lib", "deflate", "lief", "packageurl-python")
SYSTEM_DEPTH = 2  # parts of the paths of folders that every system has: /tmp
TOOL = f"build-matrix {build_matrix.__version__}"
LICENSES = ("LICENSE", "licenses/*")  # of llama.cpp, below its folder


def finish_wheel(context: Context, raw: RawWheel, work: BuildInputs, budget: int, folder: Path) -> Wheel:
    """The finished wheel and its record, in ``folder``; ``budget`` is what it may weigh, in bytes.

    Raises VerificationError for a wheel that is not clean, promises too much or weighs too much, DiskFullError.
    """

    def make(staging: Path) -> None:
        _make(context, raw, work, staging)

    finished = next(context.store.obtain("wheel", _digest(raw, work), make).glob("*.whl"))
    if (size := finished.stat().st_size) > budget:
        raise VerificationError(
            f"{finished.name} has {size / 1e6:.1f} MB; its limit is {budget / 1e6:.1f} MB.",
            "Build for fewer architectures, or raise max_mb in matrix.toml.",
        )
    target = folder / finished.name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for source, copy in ((finished, target), (record_path(finished), record_path(target))):
            if not copy.is_file() or file_sha256(copy) != file_sha256(source):
                copy_atomically(source, copy)
    return Wheel(path=target, record=load_record(finished))


def _make(context: Context, raw: RawWheel, work: BuildInputs, folder: Path) -> None:
    """Write the wheel and its record into ``folder``; raises VerificationError."""
    from build_matrix.wheel.sbom import NAME, write_sbom

    compiled = WheelFile(raw.path)
    members = relabel(compiled.members, work.cell.label, _requirements(compiled.libraries, work))
    info = dist_info_folder(members)
    members |= {f"{info}/licenses/{name}": text for name, text in _licenses(work.source.root)}
    members[f"{info}/{NAME}"] = write_sbom(work)
    check_members(members, compiled.libraries, forbidden=_private_paths(context.store))
    system = known_system_needs(
        find_platform(work.cell.platform),
        {name: members[name] for name in compiled.libraries},
        nvidia_libraries(_family(work)).libraries,
        context.store,
        partial(write_wheel, members, level=1),
    )
    finished = WheelFile(write_wheel(retag(members, system.tag), folder))
    record = _record(finished, compiled.libraries, raw, work, system)
    write_atomically(record_path(finished.path), readable_json(record))


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


def _requirements(compiled: Mapping[str, Library], work: BuildInputs) -> tuple[str, ...]:
    """Requires-Dist lines for the NVIDIA packages that carry what the compiled libraries need.

    The lower bound is the release that was compiled against; the upper bound is the next CUDA major, since
    NVIDIA keeps the ABI within one.
    """
    family = _family(work)
    libraries = nvidia_libraries(family).libraries
    versions = {item.project: item.version for item in work.toolchain.components}
    needed = {name for library in compiled.values() for name in library.needed}
    finder = library_finder()
    lines = [f"{finder.project}{finder.specifier}"]
    for project in sorted({libraries[soname].project for soname in needed & set(libraries)}):
        major, minor = versions[project].split(".")[:2]
        lines.append(f"{project}<{family + 1},>={major}.{minor}")
    return tuple(lines)


def _family(work: BuildInputs) -> int:
    return work.cell.cuda_version.major


def _licenses(source: Path) -> Iterator[tuple[str, bytes]]:
    """llama.cpp's licence and those of what it carries, by the name that they get beside the package's own."""
    vendored = source / "vendor" / "llama.cpp"
    for pattern in LICENSES:
        for path in sorted(vendored.glob(pattern)):
            yield path.relative_to(source).as_posix(), path.read_bytes()


def _private_paths(store: Store) -> tuple[str, ...]:
    """Texts that must stand in no file of a wheel: they would tell where it was built.

    A current folder that every system has (``/``, ``/tmp``) tells nothing, and libraries may name it.
    """
    current = Path.cwd()
    private = (str(current),) if len(current.parts) > SYSTEM_DEPTH else ()
    return (str(store.root), f"{Path.home()}/", *private, f"{ROOT}/")


def _record(
    wheel: WheelFile, libraries: Mapping[str, Library], raw: RawWheel, work: BuildInputs, system: SystemNeeds
) -> WheelRecord:
    """The record of a finished wheel; ``libraries`` are those in it, which nothing has changed since compiling."""
    label = wheel.name.version.local
    if label != work.cell.label:
        raise AssertionError(wheel.path.name)
    facts = msgspec.structs.replace(raw.facts, cuda_compiler="<toolkit>/bin/nvcc")
    return WheelRecord(
        filename=wheel.path.name,
        sha256=wheel.sha256,
        size=wheel.path.stat().st_size,
        unpacked_size=sum(len(data) for data in wheel.members.values()),
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
        libraries=tuple(
            Member(path=name, size=len(data), needed=libraries[name].needed)
            for name, data in wheel.members.items()
            if name in libraries
        ),
        system=system,
        tool=TOOL,
    )
