"""``figures``: the sha256 of a wheel, with the commit that gives it, for the pages that show it."""

from __future__ import annotations

from pathlib import Path

from build_matrix.cli.options import (
    CACHE_FOLDER,
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
from build_matrix.context import Context


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
    from build_matrix.cli.build import Job, build_one
    from build_matrix.cli.common import open_store
    from build_matrix.compile import choose_jobs
    from build_matrix.downloads import Downloads
    from build_matrix.model import Conditions
    from build_matrix.probe import probe
    from build_matrix.report import make_reporter
    from build_matrix.reproduce import clean_commit, note

    checkout = Path.cwd()
    commit = clean_commit(checkout)
    request = parse_request(cuda, llama, arch or ["89"], None, profile, cross=True)
    reporter = make_reporter()
    store = open_store(store_folder, reporter)
    machine = probe(store.root)
    at_once, _ = choose_jobs(jobs, machine.cpus, machine.memory_free)
    conditions = Conditions(jobs=at_once, cache=parse_cache(store.root / CACHE_FOLDER, None, ""))
    job = Job(
        context=Context(machine, store, Downloads(store, reporter), reporter),
        conditions=conditions,
        folder=folder,
        toolkit_root=None,
        verify=False,
        require_gpu=False,
    )
    figure = note(build_one(request, job).record, commit, machine.libc, checkout)
    reporter.say(f"noted: {figure.filename}  sha256 {figure.sha256}  commit {figure.commit}")
