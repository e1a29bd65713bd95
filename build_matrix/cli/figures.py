"""``figures``: the sha256 of a wheel, with the commit that gives it, for the pages that show it."""

from __future__ import annotations

from pathlib import Path

from build_matrix.cli.options import (
    WHEELS,
    ArchOption,
    CudaOption,
    JobsOption,
    LlamaOption,
    ProfileOption,
    StoreOption,
    WheelsOption,
    parse_cache,
    parse_request,
)
from build_matrix.model import Conditions
from build_matrix.pipeline.setup import cache_in_store, choose_jobs, open_context


def command(
    cuda: CudaOption = "13.0",
    llama: LlamaOption = "",
    arch: ArchOption = None,
    profile: ProfileOption = "release",
    jobs: JobsOption = None,
    folder: WheelsOption = WHEELS,
    store_folder: StoreOption = None,
) -> None:
    """Build a wheel, and write its sha256 with the commit into docs/evidence/wheels.toml and the page that shows it."""
    from build_matrix.pipeline.build import BuildOptions
    from build_matrix.pipeline.figures import note_figure
    from build_matrix.report import make_reporter

    request = parse_request(cuda, llama, arch or ["89"], None, profile, ignore_driver=True)
    context = open_context(store_folder, make_reporter())
    cache = cache_in_store(context, parse_cache(None, ""))
    conditions = Conditions(jobs=choose_jobs(context, jobs), cache=cache)
    figure = note_figure(context, request, BuildOptions(conditions, folder, verify=False), Path.cwd())
    context.reporter.say(f"recorded: {figure.filename}  sha256 {figure.sha256}  commit {figure.commit}")
