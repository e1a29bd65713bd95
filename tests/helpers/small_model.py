"""A model of two layers, and what it must continue its prompt with: computed by NumPy, not by the wheel."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from build_matrix.verify.model_file import prompt, write_model
from build_matrix.verify.reference import reference_logits

LAYERS = 2
PROMPT = tuple(prompt(8))
COUNT = 12


def write_small_model(path: Path) -> None:
    write_model(path, "F16", LAYERS)


@lru_cache
def expected() -> tuple[int, ...]:
    """Greedily, token by token."""
    tokens = list(PROMPT)
    for _ in range(COUNT):
        tokens.append(int(reference_logits("F16", tokens, LAYERS)[-1].argmax()))
    return tuple(tokens[len(PROMPT) :])
