"""What the catalog calls the same PTX is the same: asked of the sources' conditions, and of a real compiler."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contexts import in_context

from build_matrix.catalog import llama_releases
from build_matrix.downloads import Downloads, ingredient_choices
from build_matrix.locks import locked_llama_releases
from build_matrix.model import Architecture, Cell
from build_matrix.probe.compilers import find_compilers
from build_matrix.process.runner import run
from build_matrix.provision import provision_toolkit
from build_matrix.store import Store
from tests.helpers.sources import ggml_sources

pytestmark = [pytest.mark.index, pytest.mark.compiler]

NAME = re.compile(r"#\s*define\s+(GGML_CUDA_CC_\w+)\s+(\d+)\b")
OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq, "!=": operator.ne, ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
CONDITION = re.compile(r"__CUDA_ARCH__\s*(==|!=|>=|<=|>|<)\s*(\w+)")
SOURCES = ("norm.cu", "rope.cu", "scale.cu")  # 1 to 2 seconds each
NAMED_AFTER_TARGET = re.compile(r"^\.target .*$|^//.*$", re.MULTILINE)

GROUPS = [(version, group) for version in locked_llama_releases() for group in llama_releases()[version].same_ptx]


def folder(version: str, store: Store, reporter) -> Path:  # type: ignore[no-untyped-def]
    return ggml_sources(version, store, reporter) / "ggml-cuda"


def conditions(sources: Path) -> Iterator[tuple[str, str, int]]:
    """Every comparison of ``__CUDA_ARCH__`` in the sources of the CUDA back end: where, how, with what."""
    values = dict(NAME.findall((sources / "common.cuh").read_text()))
    for path in sorted((*sources.rglob("*.cu"), *sources.rglob("*.cuh"))):
        for sign, value in CONDITION.findall(path.read_text()):
            number = values.get(value, value)
            assert number.isdigit(), (path.name, value)
            yield path.name, sign, int(number)


def tells_apart(sign: str, value: int, architectures: tuple[int, ...]) -> bool:
    """Whether ``__CUDA_ARCH__ sign value`` is true for some of them only; the macro is ten times the number."""
    return len({OPERATORS[sign](10 * one, value) for one in architectures}) > 1


@pytest.mark.parametrize(("version", "group"), GROUPS)
def test_no_condition_tells_architectures_of_the_same_ptx_apart(
    version: str,
    group: tuple[int, ...],
    shared_store: Store,
    reporter,  # type: ignore[no-untyped-def]
) -> None:
    found = list(conditions(folder(version, shared_store, reporter)))
    assert len(found) > 20
    assert not [condition for condition in found if tells_apart(*condition[1:], group)]


def test_the_conditions_tell_generations_apart(shared_store: Store, reporter) -> None:  # type: ignore[no-untyped-def]
    found = list(conditions(folder("0.3.36", shared_store, reporter)))
    for pair in ((75, 80), (80, 89), (89, 90), (90, 120), (120, 121)):
        assert any(tells_apart(sign, value, pair) for _, sign, value in found), pair


@pytest.mark.parametrize(("version", "group"), GROUPS)
def test_the_compiler_makes_the_same_ptx_of_them(
    version: str,
    group: tuple[int, ...],
    shared_store: Store,
    reporter,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    cell = Cell(
        llama=version, cuda="13.0", architectures=tuple(Architecture(number=n) for n in group), platform="linux-x86_64"
    )
    toolkit = provision_toolkit(
        in_context(shared_store, downloads=Downloads(shared_store, reporter)), cell, ingredient_choices(cell)[0]
    )
    sources = folder(version, shared_store, reporter)
    words = [
        toolkit.nvcc,
        "-ccbin",
        find_compilers()[0].cxx,
        "-std=c++17",
        "-use_fast_math",
        "-extended-lambda",
        "-ptx",
    ]
    words += [
        f"-I{sources}/..",
        f"-I{sources}/../../include",
        "-DGGML_CUDA_NO_VMM",
        "-DGGML_CUDA_PEER_MAX_BATCH_SIZE=128",
    ]
    for source in SOURCES:
        texts = set()
        for number in group:
            output = tmp_path / f"{source}.{number}.ptx"
            compile_one = [*words, f"-arch=compute_{number}", "-o", output, sources / source]
            done = run(compile_one, env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}, cwd=tmp_path, timeout=120)
            assert done.code == 0, done.output
            texts.add(NAMED_AFTER_TARGET.sub("", output.read_text()))
        assert len(texts) == 1, source
