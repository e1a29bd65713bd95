"""Numbers agree within a bound, or they do not; what is missing agrees with nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from build_matrix.verify.numbers import compare, read_logits

RIGHT = np.random.RandomState(0).normal(size=(8, 32)).astype(np.float32)


def test_the_same_agrees_and_a_little_noise_too() -> None:
    assert compare(RIGHT, RIGHT, 1e-4).holds
    noise = np.random.RandomState(1).normal(size=RIGHT.shape).astype(np.float32)
    found = compare(RIGHT + noise * np.float32(1e-3), RIGHT, 1e-4)
    assert found.holds
    assert 5e-7 < found.error < 2e-6


def test_more_than_the_bound_does_not_agree() -> None:
    assert not compare(RIGHT * np.float32(1.02), RIGHT, 1e-4).holds


def test_a_clear_best_token_that_changes_does_not_agree_whatever_the_error() -> None:
    wrong = RIGHT.copy()
    row = int((np.sort(RIGHT, axis=1)[:, -1] - np.sort(RIGHT, axis=1)[:, -2]).argmax())
    wrong[row, RIGHT[row].argmax()] = RIGHT[row].min()
    found = compare(wrong, RIGHT, 1e-3)
    assert found.clear
    assert found.same == found.clear - 1
    assert not found.holds


def test_what_is_missing_not_finite_or_of_another_shape_agrees_with_nothing(tmp_path: Path) -> None:
    for wrong in (None, RIGHT[:4], np.where(RIGHT > 1, np.float32("nan"), RIGHT)):
        assert not compare(wrong, RIGHT, 1.0).holds
    assert not compare(RIGHT, None, 1.0).holds
    (tmp_path / "half").write_bytes(b"1234567")
    assert read_logits(tmp_path / "half", 4) is None
    assert read_logits(tmp_path / "none", 4) is None
    RIGHT.tofile(tmp_path / "whole")
    assert (read_logits(tmp_path / "whole", 32) == RIGHT).all()
