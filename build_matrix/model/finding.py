"""What a rule or a cause found."""

from __future__ import annotations

from typing import Literal

from build_matrix.model.base import Record

RuleKind = Literal["build", "run"]


Answer = Literal["yes", "no", "not known"]


class Finding(Record, frozen=True, kw_only=True):
    """A compatibility rule's result: whether it holds, the fact that decided, and the remedy where it does not.

    ``kind`` is what breaks: building the wheel, or running it on this machine. ``known`` is false for a rule that
    cannot be judged: ``passed`` is then false too, since nothing shows that it holds, and ``fact`` says why.
    """

    rule: str
    kind: RuleKind
    passed: bool
    fact: str
    remedy: str = ""
    known: bool = True

    def __post_init__(self) -> None:
        """Refuse a rule that holds although it could not be judged."""
        if self.passed and not self.known:
            raise ValueError(f"{self.rule}: passed, but not known")

    @property
    def failed(self) -> bool:
        """Whether the rule was judged, and does not hold."""
        return self.known and not self.passed
