"""Makes records of wheels for tests."""

from __future__ import annotations

from pathlib import Path

import msgspec

from build_matrix.locks import select_sdist
from build_matrix.model import (
    AppliedPatch,
    Architecture,
    BuildFacts,
    Cell,
    HostCompiler,
    SystemNeeds,
    WheelRecord,
    file_sha256,
)
from build_matrix.wheelfile.sidecar import record_path

GCC = HostCompiler(name="gcc", version="12.2.0", description="gcc", cc="/usr/bin/gcc", cxx="/usr/bin/g++", identity="i")


def make_record(wheel: Path, compiler: HostCompiler = GCC) -> WheelRecord:
    """A record beside ``wheel`` that is of it."""
    record = WheelRecord(
        filename=wheel.name,
        sha256=file_sha256(wheel),
        size=wheel.stat().st_size,
        unpacked_size=1,
        cell=Cell(llama="0.3.16", cuda="13.0", architectures=(Architecture(number=89),), platform="linux-x86_64"),
        sdist=select_sdist("0.3.16"),
        patches=(AppliedPatch(name="0001.patch", sha256="1" * 64),),
        toolkit=(),
        toolkit_release="13.0.3.0",
        build_environment=(),
        sysroot=(),
        host_compiler=compiler,
        python="3.11.2",
        flags={"A": "1"},
        facts=BuildFacts(
            generator="Ninja",
            architectures=(),
            cuda_compiler="",
            cuda_compiler_version="",
            cxx_compiler_version="",
            cmake_version="",
            steps=1,
        ),
        libraries=(),
        system=SystemNeeds(tag="linux_x86_64", symbols={}),
        tool="build-matrix 0.1.0",
    )
    record_path(wheel).write_bytes(msgspec.json.encode(record))
    return record
