"""Computes logits in a wheel's environment: a program of build_matrix.trial.harness.

A job loads a model, computes a prompt, and writes the logits to its file: 32-bit floats in the machine's order, one
row of the vocabulary's length for each token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

LINGER_SECONDS = 0.1  # a model on the GPU stays so long at least, for the parent to see its memory


def work(job: dict[str, Any], report: Callable[..., None]) -> dict[str, float]:
    """Load the model, compute some tokens one by one, the prompt in one batch, the rest one by one; seconds of each."""
    times = [time.monotonic()]
    single = job["single"]
    llm = _load(job)
    times.append(time.monotonic())
    report(job=job["name"], state="loaded")
    tokens = job["tokens"] or llm.tokenize(job["text"].encode())[: job["context"]]
    for batch in _batches(tokens, single):
        llm.eval(batch)
        times.append(time.monotonic())
    llm.scores[: len(tokens)].tofile(job["logits"])
    report(job=job["name"], tokens=len(tokens), vocabulary=llm.n_vocab())
    if job["layers"]:
        time.sleep(LINGER_SECONDS)
    llm.close()
    loaded, before, after = times[1], times[1 + single], times[2 + single]
    return {
        "load": loaded - times[0], "alone": before - loaded, "prompt": after - before, "single": times[-1] - after
    }  # fmt: skip


def _load(job: dict[str, Any]) -> Any:
    import llama_cpp

    return llama_cpp.Llama(
        job["model"],
        n_gpu_layers=job["layers"],
        n_ctx=job["context"],
        n_batch=job["context"],
        n_ubatch=512,
        n_threads=job["threads"],
        n_threads_batch=job["threads"],
        flash_attn=job["flash"],
        logits_all=True,
        seed=0,
        verbose=True,
    )


def _batches(tokens: list[int], single: int) -> Iterator[list[int]]:
    """The first ``single`` tokens one by one, the last ones too, and what is between them at once."""
    last = len(tokens) - single
    yield from ([token] for token in tokens[:single])
    yield tokens[single:last]
    yield from ([token] for token in tokens[last:])
