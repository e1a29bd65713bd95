"""``lock``: write down by sha256 what may be downloaded."""

from __future__ import annotations

from pathlib import Path

from build_matrix.cli.options import StoreOption


def command(store_folder: StoreOption = None) -> None:
    """Resolve locks/inputs.toml against your package index and write the locks."""
    from build_matrix.cli.common import open_store
    from build_matrix.index import Downloads, read_configuration
    from build_matrix.locks.update import Updater
    from build_matrix.report import make_reporter

    reporter = make_reporter()
    store = open_store(store_folder, reporter)
    configuration = read_configuration()
    downloads = Downloads(store, reporter, configuration)
    Updater(configuration, downloads, store.root / "uv-cache", reporter).update(Path.cwd())
