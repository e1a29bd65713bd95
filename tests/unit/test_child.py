"""The program that runs inside the fresh environment, with a stand-in for llama_cpp."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from build_matrix.trial import harness
from build_matrix.verify import child

WIDTH = 5


class FakeLlama:
    """Keeps what it is asked; its scores are the tokens' own numbers."""

    made: list[FakeLlama]

    def __init__(self, model: str, **settings: Any) -> None:
        self.model, self.settings = model, settings
        self.batches: list[list[int]] = []
        self.closed = False
        self.scores = np.full((settings["n_ctx"], WIDTH), -1, dtype=np.float32)
        type(self).made.append(self)

    def tokenize(self, text: bytes) -> list[int]:
        return list(text)

    def eval(self, batch: list[int]) -> None:
        start = sum(map(len, self.batches))
        self.batches.append(list(batch))
        self.scores[start : start + len(batch)] = np.array(batch, dtype=np.float32)[:, None]

    def n_vocab(self) -> int:
        return WIDTH

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    package = ModuleType("llama_cpp")
    package.__path__ = ["/environment/llama_cpp"]
    package.__version__ = "0.3.16"  # type: ignore[attr-defined]
    package.llama_supports_gpu_offload = lambda: 1  # type: ignore[attr-defined]
    package.Llama = FakeLlama  # type: ignore[attr-defined]
    FakeLlama.made = []
    monkeypatch.setitem(sys.modules, "llama_cpp", package)
    return package


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every time.sleep; time.monotonic counts 1, 3, 6, 10, and so on."""
    found: list[float] = []
    now = [0, 0]

    def monotonic() -> float:
        now[0] += 1
        now[1] += now[0]
        return float(now[1])

    monkeypatch.setattr(child, "time", SimpleNamespace(sleep=found.append, monotonic=monotonic))
    return found


def job(folder: Path, **changes: object) -> dict[str, Any]:
    base = {
        "name": "gpu-F16-99",
        "model": "F16.gguf",
        "layers": 99,
        "every": 25,
        "flash": True,
        "logits": str(folder / "logits"),
        "threads": 3,
        "tokens": [1, 2, 3, 4, 5, 6, 7],
        "text": "",
        "single": 2,
        "context": 16,
    }
    return base | changes


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[dict[str, Any]]]:
    def start(*jobs: dict[str, Any]) -> list[dict[str, Any]]:
        (tmp_path / "jobs.json").write_text(json.dumps({"jobs": jobs}))
        harness.run(child.work, str(tmp_path / "jobs.json"))
        lines = capsys.readouterr().out.splitlines()
        assert all(line == "" or line.startswith(harness.PREFIX) for line in lines)
        assert lines[0] == "", "a line of its own, whatever was written before it"
        return [json.loads(line.removeprefix(harness.PREFIX)) for line in lines if line]

    return start


def test_what_the_wheel_is_is_reported_before_anything_is_loaded(llama, run, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    facts = [{"version": "0.3.16", "folder": "/environment/llama_cpp"}, {"offload": True}]
    assert run() == [*facts, {"finished": True}]
    loader = ModuleType("llama_cpp._backends")
    loader.report = lambda: ["cuda: loaded"]  # type: ignore[attr-defined]
    llama._backends = loader
    monkeypatch.setitem(sys.modules, "llama_cpp._backends", loader)
    assert run() == [*facts, {"backends": ["cuda: loaded"]}, {"finished": True}]


def test_some_tokens_are_computed_alone_the_rest_in_one_batch(llama, run, slept: list[float], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    told = run(job(tmp_path))
    (made,) = FakeLlama.made
    assert made.model == "F16.gguf"
    assert made.settings == {
        "n_gpu_layers": 99,
        "n_ctx": 16,
        "n_batch": 16,
        "n_ubatch": 512,
        "n_threads": 3,
        "n_threads_batch": 3,
        "flash_attn": True,
        "logits_all": True,
        "seed": 0,
        "verbose": True,
    }
    assert made.batches == [[1], [2], [3, 4, 5], [6], [7]]
    assert made.closed
    logits = np.fromfile(tmp_path / "logits", dtype=np.float32).reshape(-1, WIDTH)
    assert logits[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    # The clock's readings: start 1, loaded 3, then after each batch 6, 10, 15, 21, 28.
    seconds = {"load": 2, "alone": 7, "prompt": 5, "single": 13}
    name = "gpu-F16-99"
    assert told[2:] == [
        {"job": name, "state": "started"},
        {"job": name, "state": "loaded"},
        {"job": name, "tokens": 7, "vocabulary": WIDTH},
        {"job": name, "state": "done", "seconds": seconds},
        {"finished": True},
    ]
    assert slept == [child.LINGER_SECONDS]


def test_on_the_cpu_nothing_lingers(llama, run, slept: list[float], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run(job(tmp_path, layers=0, flash=False))
    assert slept == []
    assert FakeLlama.made[0].settings["flash_attn"] is False


def test_a_text_is_made_tokens_by_the_model_itself_and_cut_to_its_context(
    llama, run, slept: list[float], tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    run(job(tmp_path, tokens=[], text="abcdefghijklmnopqrstuvwxyz"))
    assert FakeLlama.made[0].batches == [[97], [98], list(b"cdefghijklmn"), [111], [112]]


def test_it_runs_as_a_program_of_its_own(llama, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    facts = [{"version": "0.3.16", "folder": "/environment/llama_cpp"}, {"offload": True}, {"finished": True}]
    assert run() == facts
    (tmp_path / "llama_cpp.py").write_text(
        "__version__ = '0.3.16'\n__path__ = ['/environment/llama_cpp']\ndef llama_supports_gpu_offload(): return 1\n"
    )
    argv = [sys.executable, harness.__file__, child.__file__, str(tmp_path / "jobs.json")]
    done = subprocess.run(argv, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert [json.loads(line.removeprefix(harness.PREFIX)) for line in done.stdout.split("\n") if line] == facts


def test_a_crash_in_one_job_leaves_what_came_before(llama, run, tmp_path: Path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def crash(self: FakeLlama, batch: list[int]) -> None:
        raise RuntimeError("llama_decode returned -3")

    monkeypatch.setattr(FakeLlama, "eval", crash)
    with pytest.raises(RuntimeError, match="-3"):
        run(job(tmp_path))
    told = [json.loads(line.removeprefix(harness.PREFIX)) for line in capsys.readouterr().out.splitlines() if line]
    assert told[-1] == {"job": "gpu-F16-99", "state": "loaded"}
