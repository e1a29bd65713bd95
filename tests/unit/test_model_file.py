"""The smoke models are the same on every machine, are what gguf reads, and have weights that keep a signal alive."""

from __future__ import annotations

from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest

from build_matrix.model import file_sha256
from build_matrix.verify import model_file
from build_matrix.verify.model_file import MODELS, Model, layer_bytes, prompt, weights, write_model
from build_matrix.verify.reference import reference_logits

GOLDEN = {
    "F32": "629731312938e799d8e4cfe1eee41871b51fd20b0ee4ee8635b58522d3d21600",
    "F16": "d5b68b2be1da08b28d8c2ed0ddf2c80b34bcc429c8485e4b27266efc96354b52",
    "Q4_0": "8213b11045e6a647fc157e184ff2ef843bcf02ba4acb6e5a02af074881646133",
    "Q4_K": "4d0052f5c53709fc5466306d140c702e3a7942bbda862b0aebabb728a3ee8a47",
    "Q8_0": "0bbf9f2d7fda67f8ce5169d1c140c22476b5d8105f8ee2e0eb345218cd4bd1df",
    "Q8_0-product": "3bbd3f918c9619808d436066e6839abb914b40a77c0bd4d656d17116acfded05",
    "Q4_0-product": "7b2d387b446b47705ece54538f64df4a23a54ef050f649b8973c920600f12c1b",
    "Q4_K-product": "59c41b04a5b0180b71889dad1edc545e809c683796894c282485666998c7e49e",
}
SMALL = [msgspec.structs.replace(model, layers=min(model.layers, 2)) for model in MODELS]
DEEP = [model for model in SMALL if not model.product]
PRODUCTS = [model for model in SMALL if model.product]


def named(model: Model) -> str:
    return model.name


@pytest.mark.parametrize("model", SMALL, ids=named)
def test_the_model_has_the_same_bytes_every_time(tmp_path: Path, model: Model) -> None:
    write_model(tmp_path / "a.gguf", model)
    assert file_sha256(tmp_path / "a.gguf") == GOLDEN[model.name]


@pytest.mark.parametrize("model", DEEP, ids=named)
def test_gguf_reads_the_weights_back(tmp_path: Path, model: Model) -> None:
    write_model(tmp_path / "a.gguf", model)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert {tensor.tensor_type.name for name, tensor in tensors.items() if "norm" not in name} == {model.kind}
    own = [tensor for name, tensor in tensors.items() if name.startswith("blk.1.") and "norm" not in name]
    assert sum(tensor.n_bytes for tensor in own) == layer_bytes(model.kind)


@pytest.mark.parametrize("model", DEEP, ids=named)
def test_weights_are_of_one_size_and_have_no_bias(model: Model) -> None:
    for name, kind, blocks in weights(msgspec.structs.replace(model, layers=1)):
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
        louder = 2.0 ** {"token_embd.weight": 5, "output.weight": 3}.get(name, 0)
        assert 0.02 < values.std() / louder < 0.05, name
        assert abs(values.mean()) < 0.02 * values.std(), name


@pytest.mark.parametrize("model", PRODUCTS, ids=named)
def test_the_factor_of_a_product_is_not_rounded_to_8_bits(model: Model) -> None:
    """As llama.cpp's quantize_q8_1 does: groups of 32, scale largest/127, nearest whole number."""
    matrices = {name: values for name, _, values in weights(model)}
    vectors = matrices["token_embd.weight"]
    vectors = vectors / np.sqrt((vectors**2).mean(axis=1, keepdims=True) + np.float32(model_file.EPSILON))
    groups = vectors.reshape(len(vectors), -1, 32)
    scale = np.abs(groups).max(axis=2, keepdims=True) / np.float32(127)
    rounded = np.round(groups / scale) * scale
    assert np.allclose(rounded, groups, rtol=1e-6, atol=0)
    logits = reference_logits(model, prompt(4))
    output = gguf.quants.dequantize(matrices["output.weight"], gguf.GGMLQuantizationType[model.kind])
    assert np.allclose(logits, vectors[prompt(4)] @ output.T, rtol=1e-4, atol=1e-4)


def test_what_a_token_is_decides_what_comes_next() -> None:
    """A model whose logits were always the same would prove nothing."""
    logits = reference_logits(Model(name="x", kind="Q4_0", layers=4), prompt(32))
    apart = logits - logits.mean(axis=0)
    assert apart.std() > 0.9 * logits.std()
    assert len(set(logits.argmax(axis=1).tolist())) > 24


def test_a_prompt_is_as_long_as_asked_and_of_real_tokens() -> None:
    tokens = prompt(520)
    assert len(tokens) == 520
    assert tokens[0] == 1
    assert np.all((np.array(tokens[1:]) >= 3) & (np.array(tokens[1:]) < model_file.VOCABULARY))
    assert set(prompt(10_000)[1:]) == set(range(3, model_file.VOCABULARY)), "every byte"
