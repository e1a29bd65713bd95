"""``lock``: write down by sha256 what may be downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from build_matrix.cli.options import StoreOption
from build_matrix.context import Context

if TYPE_CHECKING:
    from build_matrix.locks import ReleaseOptions


def command(store_folder: StoreOption = None) -> None:
    """Resolve locks/inputs.toml against your package index and write the locks."""
    from build_matrix.cli.common import open_store
    from build_matrix.downloads import Downloads, read_configuration
    from build_matrix.locks import locked_llama_releases, locked_options, read_lock
    from build_matrix.locks.update import Updater, write_options
    from build_matrix.probe import probe
    from build_matrix.report import make_reporter
    from build_matrix.resources import patches_folder

    reporter = make_reporter()
    store = open_store(store_folder, reporter)
    configuration = read_configuration()
    downloads = Downloads(store, reporter, configuration)
    Updater(configuration, downloads, store.root / "uv-cache", reporter).update(Path.cwd())
    read_lock.cache_clear()  # it has just been written
    locked_options.cache_clear()
    context = Context(probe(store.root), store, downloads, reporter)
    options = [read_options(context, version, patches_folder()) for version in locked_llama_releases()]
    reporter.say(f"{write_options(options).name}: {', '.join(f'{o.version} has {len(o.names)}' for o in options)}")


def read_options(context: Context, version: str, patches: Path) -> ReleaseOptions:
    """The CMake options that the patched sources of a release declare; raises DownloadError, PatchError."""
    from build_matrix.locks import ReleaseOptions, select_sdist
    from build_matrix.source import declared_switches, prepare_source

    source = prepare_source(context, select_sdist(version), patches)
    switches = declared_switches(source.root)
    values = tuple(name for name in source.options if name not in switches)
    return ReleaseOptions(version=version, switches=switches, values=values)
