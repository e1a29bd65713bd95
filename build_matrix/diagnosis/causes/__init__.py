"""The table of causes: the signature by which each is recognised, its sentence, its remedy.

``doctor`` uses it for the machine and for an installed llama_cpp, ``verify`` for a wheel that was run. The rows are in
the TOML files beside this module; docs/how-to/diagnose.md is generated from them
(``python -m build_matrix.diagnosis.page``).
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

from build_matrix.model import Finding, Record

Group = Literal["driver", "GPU", "machine", "wheel", "installed", "process"]

FILES = ("messages", "driver", "gpu", "machine", "wheel", "installed")


class Cause(Record, frozen=True, kw_only=True):
    """One cause of a failure.

    ``name`` is unique; ``rule`` is what findings and verdicts call it (empty: its name). ``signature`` says for the
    reader how it is recognised; ``codes`` are the results of CUDA's driver API that mean it, ``error_name`` is the
    name of the first of them in cudaError_enum, ``pattern`` is a regular expression over a line that a process prints
    (case is ignored).
    ``sentence`` and ``remedy`` may hold ``{placeholders}``; those of a cause with codes or a pattern hold none.
    """

    name: str
    group: Group
    signature: str
    sentence: str
    remedy: str
    source: str
    rule: str = ""
    codes: tuple[int, ...] = ()
    error_name: str = ""
    pattern: str = ""

    @property
    def placeholders(self) -> frozenset[str]:
        """The facts that ``finding`` needs."""
        parts = [*string.Formatter().parse(self.sentence), *string.Formatter().parse(self.remedy)]
        return frozenset(name for _, name, _, _ in parts if name)

    @property
    def line_pattern(self) -> str:
        """``pattern``, and what names a result of cuInit in a log: its name, or its number after a known text."""
        if not self.error_name:
            return self.pattern
        code = self.codes[0]
        named = rf"\b{self.error_name}\b|found no usable GPU: error {code}\b|\bcuInit\b.{{0,40}}\b{code}\b"
        return f"{self.pattern}|{named}" if self.pattern else named

    def finding(self, evidence: str = "", **facts: Any) -> Finding:
        """The finding, with ``evidence`` after its sentence; KeyError if a placeholder has no fact."""
        sentence = self.sentence.format(**facts)
        if evidence.strip():
            sentence = f"{sentence.rstrip('.')}: {evidence.strip().rstrip('.')}."
        return Finding(
            rule=self.rule or self.name,
            kind="run",
            passed=False,
            fact=sentence,
            remedy=self.remedy.format(**facts),
        )


class _Table(Record, frozen=True, kw_only=True):
    cause: tuple[Cause, ...]


def _read(name: str) -> tuple[Cause, ...]:
    return msgspec.toml.decode(Path(__file__).with_name(f"{name}.toml").read_bytes(), type=_Table).cause


CAUSES: tuple[Cause, ...] = tuple(row for name in FILES for row in _read(name))
BY_NAME = {row.name: row for row in CAUSES}
BUILD = "Build one for this machine: `nox -s build`."


def cause(name: str) -> Cause:
    """The cause of this name; KeyError for one that the table does not hold."""
    return BY_NAME[name]


def by_code(code: int) -> Cause | None:
    """The cause that a result of CUDA's driver API means by itself; None for a result that is in no row."""
    return next((row for row in CAUSES if code in row.codes), None)


def by_text(lines: Iterable[str]) -> tuple[Cause, str] | None:
    """The first cause of the table that matches a line, with that line; None if none does."""
    known = tuple(lines)
    for row in CAUSES:
        if row.line_pattern:
            pattern = re.compile(row.line_pattern, re.IGNORECASE)
            if line := next((line for line in known if pattern.search(line)), ""):
                return row, line.strip()
    return None
