"""matrix.toml: what a wheel may weigh."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from build_matrix.errors import ConfigurationError
from build_matrix.locks import locked_llama_releases, locked_toolkits
from build_matrix.matrix import Matrix, read_matrix
from build_matrix.model import Architecture, Cell

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
    "text", ["max_mb = 'a'", "cells = 1", "[[cell]]\nllama = '1'", TEXT.replace('"89"', '"banana"')]
)
def test_a_matrix_that_cannot_be_understood_is_exit_code_2(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"matrix\.toml cannot be understood"):
        read_matrix(write(tmp_path, text))


def test_cells_are_found_by_the_name_that_their_wheels_have(tmp_path: Path) -> None:
    more = TEXT + '[[cell]]\nllama = "0.3.16"\ncuda = "12.4"\narchitectures = ["89", "90-virtual"]\n'
    matrix = read_matrix(write(tmp_path, more))
    assert [cell.cuda for cell in matrix.find(["0.3.16+cu124.sm89.ptx90"])] == ["12.4"]
    assert len(matrix.find([cell.name for cell in matrix.cell])) == 2
    with pytest.raises(ConfigurationError, match=r"no cell '0\.3\.16'") as caught:
        matrix.find(["0.3.16"])
    assert "0.3.16+cu130.sm89" in caught.value.remedy


def test_the_matrix_names_only_what_is_locked() -> None:
    cells = read_matrix(Path(__file__).parents[2] / "matrix.toml").cell
    assert cells
    assert {cell.llama for cell in cells} <= set(locked_llama_releases())
    assert {cell.cuda for cell in cells} <= set(locked_toolkits())
