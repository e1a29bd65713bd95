"""CUDA and driver versions are numbers, not text, wherever they are compared."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_matrix.catalog import branch_for, cuda_of_driver, toolkits
from build_matrix.model import CudaVersion, Driver, DriverVersion

PACKAGE = Path(__file__).parents[2] / "build_matrix"
NUMBERS = st.integers(0, 40)


@given(st.integers(1, 40), NUMBERS)
def test_a_version_is_read_as_it_was_written(major: int, minor: int) -> None:
    version = CudaVersion(major, minor)
    assert CudaVersion.parse(str(version)) == version
    assert CudaVersion.parse(str(major)) == CudaVersion(major, 0)


@pytest.mark.parametrize("text", ["", "13.", ".0", "v13.0", "13.0.2", "13.00", "013", "13 ", "13.x", "1\u0663.0"])
def test_a_text_that_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a CUDA version"):
        CudaVersion.parse(text)


@given(st.tuples(st.integers(1, 40), NUMBERS), st.tuples(st.integers(1, 40), NUMBERS))
def test_versions_sort_by_number(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (CudaVersion(*one) < CudaVersion(*other)) == (one < other)


def test_ten_is_newer_than_nine() -> None:
    texts = ["13.10", "12.9", "13.9", "9.2", "13.0"]
    assert sorted(texts, key=CudaVersion.parse) == ["9.2", "12.9", "13.0", "13.9", "13.10"]


@pytest.mark.parametrize(
    ("text", "matches"),
    [("", True), ("13", True), ("13.1", True), (" 13.1 ", True), ("1", False), ("13.10", False), ("13.", False)],
)
def test_a_request_admits_a_version_or_a_family(text: str, *, matches: bool) -> None:
    assert CudaVersion(13, 1).matches(text) is matches


def test_every_toolkit_of_the_catalog_is_named_by_its_version() -> None:
    versions = [toolkit.cuda_version for toolkit in toolkits().values()]
    assert [str(version) for version in versions] == list(toolkits())
    assert versions == sorted(versions)


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("580.95.05", (580, 95, 5)), ("580", (580,)), ("576.52", (576, 52)), ("535.161.07-grid", (535, 161, 7))],
)
def test_a_driver_version_is_its_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert DriverVersion.parse(version) == DriverVersion(numbers)
    assert DriverVersion.parse(version).branch == numbers[0]


@pytest.mark.parametrize("version", ["unknown", "claimed", "", "v580"])
def test_a_driver_of_unknown_version_has_none(version: str) -> None:
    assert Driver(version=version, cuda="13.0").driver_version is None
    assert cuda_of_driver(version) == ""


def test_the_table_of_branches_answers_both_ways() -> None:
    assert cuda_of_driver("576.52") == "12.9"
    assert branch_for(CudaVersion(12, 9)) == 575
    assert branch_for(CudaVersion(99, 0)) is None


def cuts_a_cuda_version(node: ast.AST) -> bool:
    """Whether a call cuts or compares the text of a CUDA version itself: ``cell.cuda.partition(".")``."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute) and node.func.attr in {"partition", "rpartition", "split", "replace"}:
        subject = ast.unparse(node.func.value)
    elif ast.unparse(node.func).rpartition(".")[2] == "Version" and node.args:
        subject = ast.unparse(node.args[0])
    else:
        return False
    return subject.rpartition(".")[2] in {"cuda", "kernel_cuda", "minor"}


@pytest.mark.parametrize(
    "line",
    [
        "cell.cuda.partition('.')",
        "int(minor.split('.')[0])",
        "Version(driver.cuda) < Version(x)",
        "cuda.replace('.', '')",
    ],
)
def test_a_version_that_is_cut_by_hand_is_seen(line: str) -> None:
    assert any(map(cuts_a_cuda_version, ast.walk(ast.parse(line))))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_cuts_a_cuda_version_by_hand(path: Path) -> None:
    assert not [node.lineno for node in ast.walk(ast.parse(path.read_text())) if cuts_a_cuda_version(node)]  # type: ignore[attr-defined]
