"""A model of two layers, and what it must continue its prompt with: computed by NumPy, not by the wheel."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from build_matrix.verify.model_file import Model, write_model
from build_matrix.verify.reference import reference_logits

MODEL = Model(name="F16", kind="F16", layers=2)
CONTEXT = 1024  # what the model was made for; llama.cpp warns of less
# Chosen so that at each step the best token leads the second by more than MARGIN standard deviations of the logits,
# which is far more than the rounding by which CPUs and GPUs differ.
PROMPT = (1, 244, 250, 225, 99, 89, 144, 236)
COUNT = 12
MARGIN = 0.1


def write_small_model(path: Path) -> None:
    write_model(path, MODEL)


@lru_cache
def expected() -> tuple[int, ...]:
    """Greedily, token by token."""
    tokens = list(PROMPT)
    for _ in range(COUNT):
        logits = reference_logits(MODEL, tokens)[-1]
        second, best = sorted(logits)[-2:]
        assert best - second > MARGIN * logits.std(), "a near tie: choose another prompt"
        tokens.append(int(logits.argmax()))
    return tuple(tokens[len(PROMPT) :])
