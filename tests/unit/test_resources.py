"""The cells and the patches are the current folder's where it has a matrix.toml, else the tool's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_matrix import resources
from build_matrix.errors import ConfigurationError
from build_matrix.pipeline.matrix import read_matrix
from build_matrix.resources import matrix_file, patches_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_in_an_empty_folder_they_are_those_of_the_checkout_that_the_tool_runs_from() -> None:
    assert matrix_file() == ROOT / "matrix.toml"
    assert patches_folder() == ROOT / "patches"
    assert read_matrix() == read_matrix(ROOT / "matrix.toml")


def test_a_folder_with_cells_of_its_own_uses_them_with_the_tools_patches(elsewhere: Path) -> None:
    (elsewhere / "matrix.toml").write_text("max_mb = 7\n")
    assert read_matrix().max_mb == 7
    assert patches_folder() == ROOT / "patches"


def test_patches_beside_a_folders_own_cells_are_used(elsewhere: Path) -> None:
    (elsewhere / "patches").mkdir()
    assert patches_folder() == ROOT / "patches"  # a folder of somebody else's project
    (elsewhere / "matrix.toml").touch()
    assert patches_folder().absolute() == elsewhere / "patches"


def test_a_wheel_of_the_tool_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = tmp_path / "bundled"
    (bundled / "patches").mkdir(parents=True)
    monkeypatch.setattr(resources, "BUNDLED", bundled)
    assert (matrix_file(), patches_folder()) == (bundled / "matrix.toml", bundled / "patches")


def test_an_installation_without_patches_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "PACKAGE", tmp_path / "site-packages" / "build_matrix")
    with pytest.raises(ConfigurationError, match="has no patches folder"):
        patches_folder()
