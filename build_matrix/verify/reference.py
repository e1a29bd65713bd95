"""What a model of ``model_file`` must answer, computed by NumPy alone in single precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from build_matrix.verify import model_file
from build_matrix.verify.model_file import MODELS, Model, prompt, weights

if TYPE_CHECKING:
    import numpy as np


CODE = ("verify/reference.py", "verify/model_file.py")


def write_references(folder: Path, tokens: int, first: int) -> None:
    """Write what each model must answer into ``folder``, as ``<name>.f32``: 32-bit floats, a row for each token.

    That is for a prompt of ``tokens`` tokens, or the ``first`` of them where a token depends on those before it.
    """
    all_tokens = prompt(tokens)
    for model in MODELS:
        logits = reference_logits(model, all_tokens if model.product else all_tokens[:first])
        logits.astype("<f4").tofile(folder / f"{model.name}.f32")


def reference_logits(model: Model, tokens: Sequence[int]) -> np.ndarray:
    """Logits after each token; shape (tokens, vocabulary). The llama architecture, as its paper has it."""
    import gguf
    import numpy as np

    matrix = {
        name: gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind]).astype(np.float32)
        for name, kind, blocks in weights(model)
    }
    hidden = matrix["token_embd.weight"][list(tokens)]
    for layer in range(model.layers):
        block = {name.split(".")[2]: value for name, value in matrix.items() if name.startswith(f"blk.{layer}.")}
        x = _norm(hidden)
        hidden = (
            hidden
            + _attention(*(x @ block[name].T for name in ("attn_q", "attn_k", "attn_v"))) @ block["attn_output"].T
        )
        x = _norm(hidden)
        gate = x @ block["ffn_gate"].T
        hidden = hidden + (gate / (1 + np.exp(-gate)) * (x @ block["ffn_up"].T)) @ block["ffn_down"].T
    return np.asarray(_norm(hidden) @ matrix["output.weight"].T)


def _norm(x: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(model_file.EPSILON)))


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Causal, with positions turned into angles, several heads of questions for each head of keys."""
    import numpy as np

    count = len(q)
    q, k, v = (x.reshape(count, -1, model_file.HEAD_WIDTH).transpose(1, 0, 2) for x in (q, k, v))
    q, k = _rope(q), _rope(k)
    k, v = (np.repeat(x, model_file.HEADS // model_file.KV_HEADS, axis=0) for x in (k, v))
    scores = q @ k.transpose(0, 2, 1) / np.float32(np.sqrt(model_file.HEAD_WIDTH))
    scores = np.where(np.tril(np.ones((count, count), dtype=bool)), scores, -np.inf)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = scores / scores.sum(axis=-1, keepdims=True) @ v
    return np.asarray(mixed.transpose(1, 0, 2).reshape(count, -1), dtype=np.float32)


def _rope(x: np.ndarray) -> np.ndarray:
    """Pairs of neighbours, turned by their position; shape (heads, tokens, width of a head)."""
    import numpy as np

    frequencies = model_file.ROPE_BASE ** (-np.arange(0, model_file.HEAD_WIDTH, 2) / model_file.HEAD_WIDTH)
    angles = np.outer(np.arange(x.shape[1]), frequencies)
    pairs = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    return np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape).astype(np.float32)
