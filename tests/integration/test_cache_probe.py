"""Which programs of the compile cache work with which real toolkit: tried, not looked up."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
from contexts import in_context

from build_matrix.compile.cache import cache_program
from build_matrix.compile.cache_probe import why_unfit
from build_matrix.downloads import Downloads, ingredient_choices
from build_matrix.model import Architecture, BuildInputs, CacheProgram, Cell
from build_matrix.probe import find_compilers
from build_matrix.provision import provision_sysroot, provision_toolkit
from build_matrix.store import Store

pytestmark = [pytest.mark.index, pytest.mark.compiler]

ARCHITECTURES = tuple(map(Architecture.parse, ("80", "90-virtual")))


@pytest.mark.parametrize(
    ("cuda", "name", "reason"),
    [
        ("13.0", "ccache", ""),
        ("13.0", "sccache", ""),
        ("13.5", "ccache", ""),
        ("13.5", "sccache", "a small kernel could not be compiled with it: "),  # nvcc lists its steps otherwise
    ],
)
def test_a_program_is_used_when_it_finds_a_kernel_again(  # type: ignore[no-untyped-def]
    inputs: BuildInputs, shared_store: Store, reporter, cuda: str, name: CacheProgram, reason: str
) -> None:
    cell = Cell(llama="0.3.16", cuda=cuda, architectures=ARCHITECTURES, platform="linux-x86_64")
    files, downloads, compiler = ingredient_choices(cell)[0], Downloads(shared_store, reporter), find_compilers()[0]
    real = msgspec.structs.replace(
        inputs,
        cell=cell,
        toolchain=provision_toolkit(in_context(shared_store, downloads=downloads), cell, files),
        environment=msgspec.structs.replace(inputs.environment, python=Path(sys.executable)),
        compiler=compiler,
        sysroot=provision_sysroot(
            in_context(shared_store, downloads=downloads), cell.platform, files.sysroot, compiler
        ),
    )
    program = cache_program(name)
    assert program
    why = why_unfit(in_context(shared_store), name, program, real)
    assert why.startswith(reason) if reason else not why
    assert why_unfit(in_context(shared_store), name, Path(program), real) == why
