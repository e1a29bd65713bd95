"""``lock``: write down by sha256 what may be downloaded."""

from __future__ import annotations

from pathlib import Path

from build_matrix.cli.options import StoreOption
from build_matrix.pipeline.setup import open_context


def command(store_folder: StoreOption = None) -> None:
    """Resolve locks/inputs.toml against your package index and write the locks."""
    from build_matrix.pipeline.lock import update_locks
    from build_matrix.report import make_reporter

    update_locks(open_context(store_folder, make_reporter()), Path.cwd())
