"""What every stage is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from build_matrix.downloads import Downloads
    from build_matrix.model import Machine
    from build_matrix.report import Reporter
    from build_matrix.store import Store


class Context(NamedTuple):
    """The machine, where results are kept, where files come from, and who is told of the progress."""

    machine: Machine
    store: Store
    downloads: Downloads
    reporter: Reporter
