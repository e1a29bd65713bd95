"""Where two wheels differ: the result of ``reproduce``."""

from __future__ import annotations

from build_matrix.model.base import Record


class Difference(Record, frozen=True, kw_only=True):
    """Where two wheels differ: the member, the part of it (an ELF section, perhaps a symbol), and what is there."""

    member: str
    part: str
    detail: str
