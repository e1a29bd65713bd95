"""Runs inside the fresh environment, where only the wheel is installed: imports it, loads a model, generates.

Arguments: model file, layers to offload, tokens to generate, the prompt's tokens. Each thing learned is one line of
JSON behind ``PREFIX``, so that a crash loses nothing that came before it; llama.cpp's own log goes to standard error.
"""

from __future__ import annotations

import json
import sys

PREFIX = "build-matrix-smoke "


def tell(**facts: object) -> None:
    """Report facts to the parent at once, on a line of their own."""
    sys.stdout.write("\n" + PREFIX + json.dumps(facts) + "\n")
    sys.stdout.flush()


def main(model: str, layers: int, count: int, prompt: list[int]) -> None:
    """Report version, offload, and the tokens that the model generates greedily."""
    import llama_cpp

    tell(version=llama_cpp.__version__)
    tell(offload=bool(llama_cpp.llama_supports_gpu_offload()))
    llm = llama_cpp.Llama(model, n_gpu_layers=layers, n_ctx=256, n_threads=2, seed=0, verbose=True)
    tokens: list[int] = []
    for token in llm.generate(prompt, temp=0.0, top_k=1):
        tokens.append(int(token))
        if len(tokens) == count:
            break
    tell(tokens=tokens)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [int(word) for word in sys.argv[4:]])
