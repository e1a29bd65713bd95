"""Options that were renamed work under their old names for one more release, and say so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import run_tool

from build_matrix.cli import SUBCOMMANDS, page
from build_matrix.cli.renamed import RENAMED, current_names

OPTIONS = {name for module in SUBCOMMANDS for one in page.parameters(module.command) for name in one.names}
VALUED = {name for module in SUBCOMMANDS for p in page.parameters(module.command) for name in p.names if p.value}


def test_each_old_name_stands_for_an_option_and_is_none_itself() -> None:
    assert set(RENAMED.values()) <= OPTIONS
    assert not set(RENAMED) & OPTIONS


@pytest.mark.parametrize(
    ("given", "current"),
    [
        (["--cross"], ["--ignore-driver"]),
        (["--in-the-open", "--arch", "89"], ["--no-sandbox", "--arch", "89"]),
        (["--under", "nice"], ["--wrapper", "nice"]),
        (["--cache-with=ccache"], ["--cache-program=ccache"]),
        (["--under=a=b"], ["--wrapper=a=b"]),
    ],
)
def test_an_old_name_is_replaced(given: list[str], current: list[str]) -> None:
    assert current_names(given, RENAMED, VALUED) == (current, [given[0].partition("=")[0]])


@pytest.mark.parametrize(
    "given",
    [
        ["--wrapper", "--cross"],
        ["--define=A=--cross"],
        ["--", "--cross", "--wrapper"],
        ["--arch"],
        ["--ignore-driver", "wheel.whl"],
    ],
)
def test_a_value_and_what_follows_two_dashes_is_left_as_it_is(given: list[str]) -> None:
    assert current_names(given, RENAMED, VALUED) == (given, [])


def test_a_value_of_an_old_name_is_left_as_it_is() -> None:
    assert current_names(["--under", "--cross", "--cross"], RENAMED, VALUED) == (
        ["--wrapper", "--cross", "--ignore-driver"],
        ["--under", "--cross"],
    )


def test_the_tool_takes_an_old_name_and_gives_a_hint_once(tmp_path: Path) -> None:
    environment = os.environ | {"BUILD_MATRIX_STORE": str(tmp_path / "store")}
    done = run_tool(("build", "--cross", "--cross", "--cuda", "14"), environment)
    assert (done.returncode, "CUDA 14 is not in the catalog" in done.stderr) == (2, True)
    assert done.stderr.count("--cross is now --ignore-driver; the old name stops working in the next release.") == 1


def test_an_old_name_is_no_option_of_a_subcommand_without_the_new_one(tmp_path: Path) -> None:
    done = run_tool(("plan", "--cross"), os.environ | {"BUILD_MATRIX_STORE": str(tmp_path / "store")})
    assert (done.returncode, "No such option: --cross" in done.stderr) == (2, True)


def test_help_shows_no_old_name() -> None:
    done = run_tool(("build", "--help"), os.environ | {"NO_COLOR": "1", "TERM": "dumb"})
    assert done.returncode == 0
    assert not [old for old in RENAMED if f"{old} " in done.stdout]
