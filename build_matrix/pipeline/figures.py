"""The sha256 of a wheel with the commit that gives it, for the pages that show it."""

from __future__ import annotations

from pathlib import Path

from build_matrix.context import Context
from build_matrix.model import Request
from build_matrix.pipeline.build import BuildOptions, build_one
from build_matrix.reproduce import Figure, clean_commit, note


def note_figure(context: Context, request: Request, options: BuildOptions, checkout: Path) -> Figure:
    """Build a wheel from a clean ``checkout`` and write its sha256 into the tables there; returns the new row.

    Raises ConfigurationError for a checkout that differs from its commit, and what building raises.
    """
    commit = clean_commit(checkout)
    record = build_one(context, request, options).wheel.record
    return note(record, commit, context.machine.libc, checkout)
