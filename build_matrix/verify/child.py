"""Runs inside the fresh environment, where only the wheel is installed: imports it, loads models, computes logits.

Argument: a JSON file with ``jobs``. Each thing learned is one line of JSON behind ``PREFIX``, so that a crash loses
nothing that came before it; llama.cpp's own log goes to standard error. Logits go to a file for each job: 32-bit floats
in the machine's order, one row of the vocabulary's length for each token.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

PREFIX = "build-matrix-smoke "
LINGER_SECONDS = 0.1  # a model on the GPU stays so long at least, for the parent to see its memory


def tell(**facts: object) -> None:
    """Report facts to the parent at once, on a line of their own."""
    sys.stdout.write("\n" + PREFIX + json.dumps(facts) + "\n")
    sys.stdout.flush()


def main(path: str) -> None:
    """Report version, place, back ends and offload, then do the jobs one after the other."""
    import llama_cpp

    tell(version=llama_cpp.__version__, folder=llama_cpp.__path__[0])
    tell(offload=bool(llama_cpp.llama_supports_gpu_offload()))
    try:
        from llama_cpp import _backends
    except ImportError:  # another producer's wheel
        pass
    else:
        tell(backends=_backends.report())
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - one import less
        jobs = json.load(file)["jobs"]
    for job in jobs:
        tell(job=job["name"], state="started")
        tell(job=job["name"], state="done", seconds=work(job))
    tell(finished=True)


def work(job: dict[str, Any]) -> dict[str, float]:
    """Load the model, compute some tokens one by one, the prompt in one batch, the rest one by one; seconds of each."""
    import llama_cpp

    times = [time.monotonic()]
    tokens, single = job["tokens"], job["single"]
    llm = llama_cpp.Llama(
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
    times.append(time.monotonic())
    tell(job=job["name"], state="loaded")
    if not tokens:
        tokens = llm.tokenize(job["text"].encode())[: job["context"]]
    last = len(tokens) - single
    for batch in (*([t] for t in tokens[:single]), tokens[single:last], *([t] for t in tokens[last:])):
        llm.eval(batch)
        times.append(time.monotonic())
    llm.scores[: len(tokens)].tofile(job["logits"])
    tell(job=job["name"], tokens=len(tokens), vocabulary=llm.n_vocab())
    if job["layers"]:
        time.sleep(LINGER_SECONDS)
    llm.close()
    loaded, before, after = times[1], times[1 + single], times[2 + single]
    return {
        "load": loaded - times[0], "alone": before - loaded, "prompt": after - before, "single": times[-1] - after
    }  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
