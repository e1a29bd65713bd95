"""The sources that builds compile: an sdist of the lock, with the patches of its release."""

from __future__ import annotations

from pathlib import Path

from contexts import in_context

from build_matrix.downloads import Downloads
from build_matrix.locks import select_sdist
from build_matrix.report import Reporter
from build_matrix.source import prepare_source
from build_matrix.store import Store

PATCHES = Path(__file__).parents[2] / "patches"


def ggml_sources(version: str, store: Store, reporter: Reporter) -> Path:
    """The folder ``ggml/src`` of a release."""
    source = prepare_source(in_context(store, downloads=Downloads(store, reporter)), select_sdist(version), PATCHES)
    return source.root / "vendor/llama.cpp/ggml/src"
