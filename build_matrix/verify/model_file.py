"""A small real model, made on the spot: llama architecture, byte vocabulary, weights from a fixed seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gguf
    import numpy as np

VOCABULARY = 259  # <unk>, <s>, </s> and one token for each byte
WIDTH = 128
HEADS = 4
KV_HEADS = 2
LAYERS = 4
FEED_FORWARD = 256
CONTEXT = 256
SEED = 20250822

# The model continues PROMPT with EXPECTED. Both were chosen so that at each step the best token leads the second by
# more than MARGIN standard deviations of the logits: far more than the rounding by which CPUs and GPUs differ.
PROMPT = (1, 122, 101, 101, 100, 118, 121, 107)
EXPECTED = (193, 154, 28, 148, 98, 229, 6, 236, 199, 229, 77, 182, 148, 47, 73, 182)
MARGIN = 0.15


def write_model(path: Path) -> None:
    """Write the model as GGUF (2.5 MB, F32); the same bytes every time."""
    import gguf

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("build-matrix smoke model")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCABULARY)
    _add_tokenizer(writer)
    for name, tensor in _tensors():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    from gguf import TokenType as kinds  # noqa: N813

    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *([kinds.BYTE] * 256)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _tensors() -> list[tuple[str, np.ndarray]]:
    """Names and weights; integers scaled by a power of two, so that no machine rounds them differently."""
    import numpy as np

    random = np.random.RandomState(SEED)  # its stream is frozen by NumPy's policy (NEP 19)

    def matrix(rows: int, columns: int, scale: float) -> np.ndarray:
        values = random.randint(-127, 128, size=(rows, columns)).astype(np.float32)
        return np.asarray(values * np.float32(scale / 128))

    ones = np.ones(WIDTH, dtype=np.float32)
    kv_width = WIDTH // HEADS * KV_HEADS
    tensors = [("token_embd.weight", matrix(VOCABULARY, WIDTH, 1.0))]
    for layer in range(LAYERS):
        tensors += [
            (f"blk.{layer}.attn_norm.weight", ones),
            (f"blk.{layer}.attn_q.weight", matrix(WIDTH, WIDTH, 0.25)),
            (f"blk.{layer}.attn_k.weight", matrix(kv_width, WIDTH, 0.25)),
            (f"blk.{layer}.attn_v.weight", matrix(kv_width, WIDTH, 0.25)),
            (f"blk.{layer}.attn_output.weight", matrix(WIDTH, WIDTH, 0.25)),
            (f"blk.{layer}.ffn_norm.weight", ones),
            (f"blk.{layer}.ffn_gate.weight", matrix(FEED_FORWARD, WIDTH, 0.25)),
            (f"blk.{layer}.ffn_up.weight", matrix(FEED_FORWARD, WIDTH, 0.25)),
            (f"blk.{layer}.ffn_down.weight", matrix(WIDTH, FEED_FORWARD, 0.125)),
        ]
    return [*tensors, ("output_norm.weight", ones), ("output.weight", matrix(VOCABULARY, WIDTH, 1.0))]
