"""Small real models, made on the spot: llama architecture, several kinds of weights, a vocabulary of bytes.

The weights are random blocks of the kind itself, from a fixed seed: nothing is rounded, so the bytes are the same on
every machine, and ``reference`` knows each weight exactly. Their scale keeps the signal at the same size from layer to
layer, as a trained model does; so an error in one layer arrives at the end, and rounding is not blown up.

With quantised weights the other factor of a product is rounded to 8 bits, which hides small faults. So there are models
of a single product too, whose other factor needs no more than 8 bits: their answer is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from build_matrix.model import Record

if TYPE_CHECKING:
    import gguf
    import numpy as np

Kind = Literal["F32", "F16", "Q8_0", "Q4_0", "Q4_K"]

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
CODE = ("verify/model_file.py",)
LIBRARIES = ("gguf", "numpy")


class Model(Record, frozen=True, kw_only=True):
    """One model; of a ``product`` nothing is left but its last matrix times the token's own vector."""

    name: str
    kind: Kind
    layers: int = LAYERS
    product: bool = False


MODELS = (
    Model(name="F32", kind="F32", layers=6),  # what is rounded least shows the smallest faults: few layers do
    *(Model(name=kind, kind=kind) for kind in ("F16", "Q8_0", "Q4_0", "Q4_K")),
    *(Model(name=f"{kind}-product", kind=kind, layers=1, product=True) for kind in ("Q8_0", "Q4_0", "Q4_K")),
)

# A block's scale, as a power of two, that gives weights a standard deviation of 0.03 (see ``_blocks``).
_SCALES: dict[str, int] = {"F32": -11, "F16": -11, "Q8_0": -11, "Q4_0": -7, "Q4_K": -13}
_LOUDER = {"token_embd.weight": 5, "output.weight": 3}  # powers of two
_SILENCED = ("attn_output.weight", "ffn_down.weight")  # without these a layer adds nothing
_GROUP = 32  # numbers that llama.cpp's CUDA kernels round to 8 bits with one scale
_LARGEST = 127  # of 8 bits


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


def weights(model: Model) -> Iterator[tuple[str, Kind, np.ndarray]]:
    """Name, kind and content of each matrix as the file holds it: rows of blocks, in bytes (numbers for F32, F16)."""
    import numpy as np

    random = np.random.RandomState(SEED)  # its stream is frozen by NumPy's policy (NEP 19)
    for name, rows, columns in matrices(model.layers):
        scale = np.float16(2.0 ** (_SCALES[model.kind] + _LOUDER.get(name, 0)))
        if model.product and name.startswith("token_embd."):
            yield name, "F32", _whole_numbers(random, rows, columns)
            continue
        blocks = _blocks(random, model.kind, rows, columns, scale)
        silent = model.product and name.endswith(_SILENCED)
        yield name, model.kind, np.zeros_like(blocks) if silent else blocks


def layer_bytes(kind: Kind) -> int:
    """Bytes of one layer's matrices."""
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    return sum(rows * columns // block * size for name, rows, columns in matrices(1) if name.startswith("blk.0."))


def write_models(folder: Path) -> None:
    """Write every model into ``folder``, as ``<name>.gguf`` (0.2 GB)."""
    for model in MODELS:
        write_model(folder / f"{model.name}.gguf", model)


def write_model(path: Path, model: Model) -> None:
    """Write the model as GGUF (2 to 108 MB); the same bytes every time."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(f"build-matrix smoke model, {model.name}")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_vocab_size(VOCABULARY)
    _add_tokenizer(writer)
    ones = np.ones(WIDTH, dtype=np.float32)
    for layer in range(model.layers):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
    writer.add_tensor("output_norm.weight", ones)
    for name, kind, tensor in weights(model):
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

    if kind in {"F32", "F16"}:
        numbers = draw(columns, -_LARGEST, _LARGEST + 1).astype(np.float16) * scale
        return np.asarray(numbers.astype(np.float32) if kind == "F32" else numbers)
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


def _whole_numbers(random: np.random.RandomState, rows: int, columns: int) -> np.ndarray:
    """Whole numbers of 8 bits, the largest in each group: rounding a group to 8 bits with one scale changes nothing."""
    import numpy as np

    numbers = random.randint(-_LARGEST, _LARGEST + 1, size=(rows, columns // _GROUP, _GROUP))
    numbers[..., 0] = _LARGEST
    return np.asarray(numbers.reshape(rows, columns).astype(np.float32))


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
