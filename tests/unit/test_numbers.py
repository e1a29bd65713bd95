"""Numbers agree within a bound, or they do not; what is missing agrees with nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from build_matrix.verify.numbers import BOUNDS, CLEAR, PRODUCT, SINGLE, Agreement, compare, read_logits

RIGHT = np.random.RandomState(0).normal(size=(8, 32)).astype(np.float32)


def test_the_same_agrees_and_a_little_noise_too() -> None:
    assert compare(RIGHT, RIGHT, 1e-4).passed
    noise = np.random.RandomState(1).normal(size=RIGHT.shape).astype(np.float32)
    found = compare(RIGHT + noise * np.float32(1e-3), RIGHT, 1e-4)
    assert found.passed
    assert 5e-7 < found.error < 2e-6


def test_more_than_the_bound_does_not_agree() -> None:
    assert not compare(RIGHT * np.float32(1.02), RIGHT, 1e-4).passed


def test_a_clear_best_token_that_changes_does_not_agree_whatever_the_error() -> None:
    wrong = RIGHT.copy()
    row = int((np.sort(RIGHT, axis=1)[:, -1] - np.sort(RIGHT, axis=1)[:, -2]).argmax())
    wrong[row, RIGHT[row].argmax()] = RIGHT[row].min()
    found = compare(wrong, RIGHT, 1e-3)
    assert found.clear
    assert found.same == found.clear - 1
    assert not found.passed


def test_what_is_missing_not_finite_or_of_another_shape_agrees_with_nothing(tmp_path: Path) -> None:
    for wrong in (None, RIGHT[:4], np.where(RIGHT > 1, np.float32("nan"), RIGHT)):
        assert not compare(wrong, RIGHT, 1.0).passed
    assert not compare(RIGHT, None, 1.0).passed
    (tmp_path / "half").write_bytes(b"1234567")
    assert read_logits(tmp_path / "half", 4) is None
    assert read_logits(tmp_path / "none", 4) is None
    RIGHT.tofile(tmp_path / "whole")
    assert (read_logits(tmp_path / "whole", 32) == RIGHT).all()


LOUD = (RIGHT * 7 + 3).astype(np.float64)  # its mean square is not 1: an error that is not normalised shows


def off_by(error: float) -> np.ndarray:
    """``LOUD`` with squared differences of ``error`` times its squares; the best tokens stay."""
    noise = np.random.RandomState(1).normal(size=LOUD.shape)
    noise[np.arange(len(LOUD)), LOUD.argmax(axis=1)] = 0
    return LOUD + noise * np.sqrt(error * (LOUD**2).sum() / (noise**2).sum())


def test_the_bounds_are_those_that_were_measured() -> None:
    """docs/explanation/what-verify-shows.md says how: who changes one measures again."""
    assert BOUNDS == {"F32": 2e-6, "F16": 2e-5, "Q8_0": 1e-3, "Q4_0": 1e-3, "Q4_K": 4e-3}
    assert SINGLE == {"F32": 1e-7, "F16": 3e-6}
    assert (PRODUCT, CLEAR) == (1e-5, 10.0)


def test_the_error_is_of_the_squares_whatever_the_size_of_the_numbers() -> None:
    assert compare(off_by(1e-4), LOUD, 1.0).error == pytest.approx(1e-4)
    assert compare(off_by(1e-4) * 1000, LOUD * 1000, 1.0).error == pytest.approx(1e-4)


def test_an_error_holds_up_to_its_bound() -> None:
    found = compare(off_by(1e-4), LOUD, 1.0)
    assert Agreement(error=1e-4, bound=1e-4, clear=2, same=2).passed
    assert not Agreement(error=1.01e-4, bound=1e-4, clear=2, same=2).passed
    assert not Agreement(error=0, bound=1e-4, clear=2, same=1).passed
    assert compare(off_by(0.99e-4), LOUD, 1e-4).passed
    assert not compare(off_by(1.01e-4), LOUD, 1e-4).passed
    assert str(found) == f"1.0e-04 of 1e+00, {found.same}/{found.clear} best tokens"


@pytest.mark.parametrize(("lead", "clear"), [(10.1, 2), (9.9, 1)])
def test_a_best_token_leads_clearly_by_ten_times_the_error_that_the_bound_allows(lead: float, clear: int) -> None:
    """Two rows of mean square 1, in which the bound of 1e-4 allows an error of 0.01."""
    rows = np.zeros((2, 4))
    rows[0] = [2.0, 0.0, 0.0, 0.0]
    best = (-0.01 * lead + np.sqrt(2 * 4 - (0.01 * lead) ** 2)) / 2  # best² + (best + lead)² = 4
    rows[1] = [best, best + 0.01 * lead, 0.0, 0.0]
    assert (rows[1] ** 2).mean() == pytest.approx(1)
    found = compare(rows, rows, 1e-4)
    assert (found.clear, found.same) == (clear, clear)
    swapped = rows[:, [1, 0, 2, 3]]
    assert compare(np.stack([rows[0], swapped[1]]), rows, 1e-4).same == 1


def test_a_table_of_another_width_or_height_is_no_table(tmp_path: Path) -> None:
    RIGHT[:4].tofile(tmp_path / "four")
    table = read_logits(tmp_path / "four", 32)
    assert table is not None
    assert table.shape == (4, 32)
    assert table.dtype == np.float32
    assert read_logits(tmp_path / "four", 33) is None
    assert read_logits(tmp_path, 32) is None
    (tmp_path / "empty").touch()
    assert read_logits(tmp_path / "empty", 32) is None


def test_what_cannot_be_compared_has_no_best_tokens() -> None:
    assert compare(None, RIGHT, 0.5) == Agreement(error=float("inf"), bound=0.5, clear=0, same=0)
    assert not compare(np.full_like(RIGHT, np.inf), RIGHT, float("inf")).same
