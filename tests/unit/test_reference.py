"""What a wheel is compared with, against the llama architecture's formulas written out, number by number."""

from __future__ import annotations

import math

import gguf
import numpy as np
import pytest

from build_matrix.verify.model_file import Model, prompt, weights
from build_matrix.verify.reference import reference_logits

HEADS, KV_HEADS, WIDTH = 8, 2, 64  # of the models: eight heads of questions, two of keys, 64 numbers in each
EPSILON, BASE = 1e-5, 10000.0


def normalised(vector: np.ndarray) -> np.ndarray:
    """RMSNorm: Zhang and Sennrich 2019."""
    return vector / math.sqrt(sum(x * x for x in vector) / len(vector) + EPSILON)


def turned(head: np.ndarray, position: int) -> np.ndarray:
    """Rotary position: each pair of neighbours is turned by the position times a falling frequency (Su et al. 2021)."""
    result = head.copy()
    for pair in range(len(head) // 2):
        angle = position * BASE ** (-2 * pair / len(head))
        x, y = head[2 * pair], head[2 * pair + 1]
        result[2 * pair] = x * math.cos(angle) - y * math.sin(angle)
        result[2 * pair + 1] = x * math.sin(angle) + y * math.cos(angle)
    return result


def attention(queries: list[np.ndarray], keys: list[np.ndarray], values: list[np.ndarray], position: int) -> np.ndarray:
    """What one token takes from itself and those before it; four heads of questions share one of keys and values."""
    heads = []
    for head in range(HEADS):
        own, shared = (slice(n * WIDTH, (n + 1) * WIDTH) for n in (head, head // (HEADS // KV_HEADS)))
        query = turned(queries[position][own], position)
        scores = [float(query @ turned(keys[other][shared], other)) / math.sqrt(WIDTH) for other in range(position + 1)]
        powers = [math.exp(score - max(scores)) for score in scores]
        heads.append(sum(power / sum(powers) * values[other][shared] for other, power in enumerate(powers)))
    return np.concatenate(heads)


def written_out(model: Model, tokens: list[int]) -> np.ndarray:
    """The whole model, a token at a time, in double precision."""
    matrix = {
        name: gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind]).astype(np.float64)
        for name, kind, blocks in weights(model)
    }
    hidden = [matrix["token_embd.weight"][token] for token in tokens]
    for layer in range(model.layers):
        own = {name.split(".")[2]: value for name, value in matrix.items() if name.startswith(f"blk.{layer}.")}
        inputs = [normalised(vector) for vector in hidden]
        q, k, v = ([own[name] @ x for x in inputs] for name in ("attn_q", "attn_k", "attn_v"))
        hidden = [h + own["attn_output"] @ attention(q, k, v, place) for place, h in enumerate(hidden)]
        for place, vector in enumerate(hidden):
            x = normalised(vector)
            gate = own["ffn_gate"] @ x
            silu = np.array([g / (1 + math.exp(-g)) for g in gate])
            hidden[place] = vector + own["ffn_down"] @ (silu * (own["ffn_up"] @ x))
    return np.stack([matrix["output.weight"] @ normalised(vector) for vector in hidden])


@pytest.mark.parametrize(("kind", "layers"), [("F32", 2), ("Q4_K", 1)])
def test_the_answers_are_those_of_the_formulas(kind: str, layers: int) -> None:
    model = Model(name=kind, kind=kind, layers=layers)  # type: ignore[arg-type]
    tokens = prompt(7)
    found, right = reference_logits(model, tokens), written_out(model, tokens)
    assert found.shape == (7, 259)
    assert float(((found - right) ** 2).sum() / (right**2).sum()) < 1e-10
