"""The smoke model is the same on every machine."""

from __future__ import annotations

from pathlib import Path

from build_matrix.model import file_sha256
from build_matrix.verify.model_file import EXPECTED, PROMPT, VOCABULARY, write_model


def test_the_model_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    write_model(tmp_path / "a.gguf")
    write_model(tmp_path / "b.gguf")
    assert file_sha256(tmp_path / "a.gguf") == file_sha256(tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes().startswith(b"GGUF")


def test_the_expectation_is_of_real_and_varied_tokens() -> None:
    assert all(0 <= token < VOCABULARY for token in (*PROMPT, *EXPECTED))
    assert len(set(EXPECTED)) >= 10
