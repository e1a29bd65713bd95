"""The smoke models are the same on every machine, are what gguf reads, and have weights that keep a signal alive."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from build_matrix.model import file_sha256
from build_matrix.verify import model_file
from build_matrix.verify.model_file import KINDS, Kind, layer_bytes, prompt, weights, write_model
from build_matrix.verify.reference import reference_logits

GOLDEN = {
    "F16": "d5b68b2be1da08b28d8c2ed0ddf2c80b34bcc429c8485e4b27266efc96354b52",
    "Q4_0": "8213b11045e6a647fc157e184ff2ef843bcf02ba4acb6e5a02af074881646133",
    "Q4_K": "4d0052f5c53709fc5466306d140c702e3a7942bbda862b0aebabb728a3ee8a47",
    "Q8_0": "0bbf9f2d7fda67f8ce5169d1c140c22476b5d8105f8ee2e0eb345218cd4bd1df",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_has_the_same_bytes_every_time(tmp_path: Path, kind: Kind) -> None:
    write_model(tmp_path / "a.gguf", kind, layers=2)
    assert file_sha256(tmp_path / "a.gguf") == GOLDEN[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_gguf_reads_the_weights_back(tmp_path: Path, kind: Kind) -> None:
    write_model(tmp_path / "a.gguf", kind, layers=2)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert {tensor.tensor_type.name for name, tensor in tensors.items() if "norm" not in name} == {kind}
    own = [tensor for name, tensor in tensors.items() if name.startswith("blk.1.") and "norm" not in name]
    assert sum(tensor.n_bytes for tensor in own) == layer_bytes(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_of_one_size_and_have_no_bias(kind: Kind) -> None:
    for name, blocks in weights(kind, layers=1):
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
        louder = 2.0 ** {"token_embd.weight": 5, "output.weight": 3}.get(name, 0)
        assert 0.02 < values.std() / louder < 0.05, name
        assert abs(values.mean()) < 0.02 * values.std(), name


def test_what_a_token_is_decides_what_comes_next() -> None:
    """A model whose logits were always the same would prove nothing."""
    logits = reference_logits("Q4_0", prompt(32), layers=4)
    apart = logits - logits.mean(axis=0)
    assert apart.std() > 0.9 * logits.std()
    assert len(set(logits.argmax(axis=1).tolist())) > 24


def test_a_prompt_is_as_long_as_asked_and_of_real_tokens() -> None:
    tokens = prompt(520)
    assert len(tokens) == 520
    assert tokens[0] == 1
    assert np.all((np.array(tokens[1:]) >= 3) & (np.array(tokens[1:]) < model_file.VOCABULARY))
