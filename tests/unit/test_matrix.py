"""matrix.toml: what a wheel may weigh."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from build_matrix.catalog import toolkits
from build_matrix.errors import ConfigurationError
from build_matrix.locks import locked_llama_releases, locked_toolkits
from build_matrix.model import Architecture, Cell
from build_matrix.pipeline.matrix import Matrix, read_matrix
from build_matrix.resolve.rules import toolkit_targets

CELL = Cell(llama="0.3.16", cuda="13.0", architectures=(Architecture(number=89),), platform="linux-x86_64")
TEXT = 'max_mb = 50\n[[cell]]\nllama = "0.3.16"\ncuda = "13.0"\narchitectures = ["89"]\nmax_mb = 1.5\n'


def write(folder: Path, text: str) -> Path:
    (folder / "matrix.toml").write_text(text)
    return folder / "matrix.toml"


def test_a_cells_own_budget_comes_before_the_matrixs(tmp_path: Path) -> None:
    matrix = read_matrix(write(tmp_path, TEXT))
    assert matrix.budget(CELL) == 1_500_000
    assert matrix.budget(msgspec.structs.replace(CELL, cuda="13.1")) == 50_000_000
    more = (*CELL.architectures, Architecture(number=90))
    assert matrix.budget(msgspec.structs.replace(CELL, architectures=more)) == 50_000_000


def test_without_a_matrix_the_index_own_limit_holds(tmp_path: Path) -> None:
    assert read_matrix(tmp_path / "absent.toml") == Matrix()
    assert Matrix().budget(CELL) == 100_000_000


@pytest.mark.parametrize(
    "text",
    [
        "max_mb = 'a'",
        "cells = 1",
        "[[cell]]\nllama = '1'",
        TEXT.replace("0.3.16", "0.0.1"),
        TEXT.replace('"89"', '"banana"'),
    ],
)
def test_a_matrix_that_cannot_be_understood_is_exit_code_2(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"matrix\.toml is not valid"):
        read_matrix(write(tmp_path, text))


def test_cells_are_found_by_the_name_that_their_wheels_have(tmp_path: Path) -> None:
    more = TEXT + '[[cell]]\nllama = "0.3.16"\ncuda = "12.4"\narchitectures = ["89", "90-virtual"]\n'
    matrix = read_matrix(write(tmp_path, more))
    assert [cell.cuda for cell in matrix.find(["0.3.16+cu124.sm89.ptx90"], "linux-x86_64")] == ["12.4"]
    assert len(matrix.find([cell.name for cell in matrix.cell], "linux-x86_64")) == 2
    with pytest.raises(ConfigurationError, match=r"no cell '0\.3\.16'") as caught:
        matrix.find(["0.3.16"], "linux-x86_64")
    assert "0.3.16+cu130.sm89" in caught.value.remedy


def test_the_matrix_names_only_what_is_locked() -> None:
    cells = read_matrix(Path(__file__).parents[2] / "matrix.toml").cell
    assert cells
    assert {cell.llama for cell in cells} <= set(locked_llama_releases())
    assert {cell.cuda for cell in cells} <= set(locked_toolkits())
    for cell in cells:
        assert toolkit_targets(toolkits()[cell.cuda], cell.compiled).passed, cell.name


def test_a_release_holds_more_than_upstreams_wheels() -> None:
    """.github/workflows/build-wheels-cuda.yaml of abetlen/llama-cpp-python: its machine code, and PTX of 9.0."""
    upstream = {"13.0": {75, 80, 86, 89, 90}, "12.4": {60, 61, 70, 75, 80, 86, 89, 90}}
    for cell in read_matrix(Path(__file__).parents[2] / "matrix.toml").all("linux-x86_64"):
        real = {one.number for one in cell.compiled if one.kind == "real"}
        assert real >= upstream.get(cell.cuda, set()), cell.name
        assert bool(real & {100, 120}) == ("120" in toolkits()[cell.cuda].architectures), cell.name
        assert any(one.kind == "virtual" for one in cell.compiled), cell.name


def test_a_cell_is_named_as_its_sources_compile_it(tmp_path: Path) -> None:
    rows = "".join(
        f'[[cell]]\nllama = "{llama}"\ncuda = "13.0"\narchitectures = ["90-virtual", "120"]\nmax_mb = {size}\n'
        for llama, size in (("0.3.16", 1), ("0.3.36", 2))
    )
    matrix = read_matrix(write(tmp_path, rows))
    assert [cell.name for cell in matrix.cell] == ["0.3.16+cu130.sm120.ptx90", "0.3.36+cu130.sm120a.ptx90"]
    ptx = Architecture(number=90, kind="virtual")
    exact = msgspec.structs.replace(CELL, llama="0.3.36", architectures=(Architecture(number=120, feature="a"), ptx))
    assert matrix.budget(exact) == 2_000_000


def test_only_the_release_of_this_platform_is_built_at_once(tmp_path: Path) -> None:
    local = TEXT + 'set = "local"\n'
    windows = TEXT.partition("[[cell]]")[2].replace("13.0", "13.1") + 'platform = "windows-x86_64"\n'
    matrix = read_matrix(write(tmp_path, f"{local}[[cell]]{windows}"))
    assert [cell.cuda for cell in matrix.all("windows-x86_64")] == ["13.1"]
    with pytest.raises(ConfigurationError, match="no cell of the release for linux"):
        matrix.all("linux-x86_64")
    with pytest.raises(ConfigurationError, match="twice"):
        read_matrix(write(tmp_path, local + local.partition("\n")[2]))
