"""Small real models, made on the spot: llama architecture, one for each kind of weights, a vocabulary of bytes.

The weights are random blocks of the kind itself, from a fixed seed: nothing is rounded, so the bytes are the same on
every machine, and ``reference`` knows each weight exactly. Their scale keeps the signal at the same size from layer to
layer, as a trained model does; so an error in one layer arrives at the end, and rounding is not blown up.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import gguf
    import numpy as np

Kind = Literal["F16", "Q8_0", "Q4_0", "Q4_K"]
KINDS: tuple[Kind, ...] = ("F16", "Q8_0", "Q4_0", "Q4_K")

VOCABULARY = 259  # <unk>, <s>, </s> and one token for each byte
WIDTH = 512  # Q4_K needs multiples of 256
HEADS = 8
KV_HEADS = 2
HEAD_WIDTH = WIDTH // HEADS
LAYERS = 24
FEED_FORWARD = 1024
CONTEXT = 1024
ROPE_BASE = 10000.0
EPSILON = 1e-5
SEED = 20250822
VERSION = 1  # of the weights; results that were computed from them are kept under it

# A block's scale, as a power of two, that gives weights a standard deviation of 0.03 (see ``_blocks``).
_SCALES: dict[str, int] = {"F16": -11, "Q8_0": -11, "Q4_0": -7, "Q4_K": -13}
_LOUDER = {"token_embd.weight": 5, "output.weight": 3}  # powers of two


def matrices(layers: int = LAYERS) -> Iterator[tuple[str, int, int]]:
    """Name, rows and columns of each matrix, in the order of the file."""
    kv_width = HEAD_WIDTH * KV_HEADS
    yield "token_embd.weight", VOCABULARY, WIDTH
    for layer in range(layers):
        yield f"blk.{layer}.attn_q.weight", WIDTH, WIDTH
        yield f"blk.{layer}.attn_k.weight", kv_width, WIDTH
        yield f"blk.{layer}.attn_v.weight", kv_width, WIDTH
        yield f"blk.{layer}.attn_output.weight", WIDTH, WIDTH
        yield f"blk.{layer}.ffn_gate.weight", FEED_FORWARD, WIDTH
        yield f"blk.{layer}.ffn_up.weight", FEED_FORWARD, WIDTH
        yield f"blk.{layer}.ffn_down.weight", WIDTH, FEED_FORWARD
    yield "output.weight", VOCABULARY, WIDTH


def weights(kind: Kind, layers: int = LAYERS) -> Iterator[tuple[str, np.ndarray]]:
    """Name and content of each matrix as the file holds it: rows of blocks, in bytes (halves for F16)."""
    import numpy as np

    random = np.random.RandomState(SEED)  # its stream is frozen by NumPy's policy (NEP 19)
    for name, rows, columns in matrices(layers):
        scale = np.float16(2.0 ** (_SCALES[kind] + _LOUDER.get(name, 0)))
        yield name, _blocks(random, kind, rows, columns, scale)


def layer_bytes(kind: Kind) -> int:
    """Bytes of one layer's matrices."""
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    return sum(rows * columns // block * size for name, rows, columns in matrices(1) if name.startswith("blk.0."))


def write_model(path: Path, kind: Kind, layers: int = LAYERS) -> None:
    """Write the model as GGUF (30 to 108 MB); the same bytes every time."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(f"build-matrix smoke model, {kind}")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_vocab_size(VOCABULARY)
    _add_tokenizer(writer)
    ones = np.ones(WIDTH, dtype=np.float32)
    for layer in range(layers):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
    writer.add_tensor("output_norm.weight", ones)
    for name, tensor in weights(kind, layers):
        writer.add_tensor(name, tensor, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def prompt(count: int) -> list[int]:
    """So many tokens, the first one <s>; the same every time."""
    import numpy as np

    return [1, *np.random.RandomState(SEED).randint(3, VOCABULARY, size=count - 1).tolist()]


def _blocks(random: np.random.RandomState, kind: Kind, rows: int, columns: int, scale: np.float16) -> np.ndarray:
    """Random blocks, laid out as ggml-common.h says, each with the same scale."""
    import numpy as np

    def draw(per_row: int, low: int = 0, high: int = 256) -> np.ndarray:
        return random.randint(low, high, size=(rows, per_row))

    if kind == "F16":
        return np.asarray(draw(columns, -127, 128).astype(np.float16) * scale)
    head = [scale]
    if kind == "Q8_0":  # a half and 32 signed bytes
        block, body = 32, draw(columns, -127, 128).astype(np.int8).view(np.uint8)
    elif kind == "Q4_0":  # a half and 32 numbers of 4 bits, of which 8 is nought; no 0, so that the mean is nought
        block = 32
        body = (draw(columns // 2, 1, 16) + 16 * draw(columns // 2, 1, 16)).astype(np.uint8)
    else:  # Q4_K: scale, minimum, eight scales and minima of 6 bits each, and 256 numbers of 4 bits
        block, body = 256, draw(columns // 256 * 140).astype(np.uint8)
        head.append(np.float16(7.5) * scale)  # the mean of a number times that of a scale, so that the mean is nought
    count = columns // block
    start = np.tile(np.array(head, dtype="<f2").view(np.uint8), (rows, count, 1))
    return np.concatenate([start, body.reshape(rows, count, -1)], axis=2).reshape(rows, -1)


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
