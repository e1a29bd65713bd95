"""Small wrong changes to a module, one at a time: mutmut's operators, applied to the file as it is written.

mutmut's own runner calls a mutated function through a wrapper in the same process, so it leaves out module constants
and decorated functions (bounds and properties decide a verdict here), and a program that a test starts never meets the
change. Its operators need none of that: here each change is written to a copy of the module.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

# What a message says to people is not mutated: its wording decides nothing. Two words in a row make a sentence.
_SENTENCE = re.compile(r"[A-Za-z]{2,} [a-z]{2,}")


SCOPES = (cst.FunctionDef, cst.ClassDef)
STATEMENTS = (cst.SimpleStatementLine, cst.BaseCompoundStatement)


class Mutant(NamedTuple):
    """One change: the ``number``-th of its file. ``line`` is where it begins, ``scope`` the function (or empty).

    ``statement`` is the line of the statement around it, the one that coverage.py counts.

    ``key`` orders mutants for the sample. It depends on the change and its function alone, so that an edit elsewhere
    leaves the rest of the sample as it is.
    """

    path: str
    number: int
    line: int
    statement: int
    scope: str
    key: str

    @property
    def name(self) -> str:
        """As it is reported."""
        return f"{self.path}:{self.line}" + (f" {self.scope}" if self.scope else "")


class Change(NamedTuple):
    """The lines that a mutant takes away and those that it puts in their place, without indentation."""

    before: tuple[str, ...]
    after: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*(f"    - {line}" for line in self.before), *(f"    + {line}" for line in self.after)])


def mutants_of(root: Path, path: str, seed: str) -> list[Mutant]:
    """Every mutant of the file ``path`` below ``root``; ``seed`` decides their keys."""
    seen: Counter[str] = Counter()
    found = []
    for number, one in enumerate(_mutations(_parse(root / path))):
        text = "\0".join((seed, path, one.scope, _code(one.original), _code(one.mutated)))
        seen[text] += 1
        key = hashlib.sha256(f"{text}\0{seen[text]}".encode()).hexdigest()
        found.append(Mutant(path, number, one.line, one.statement, one.scope, key))
    return found


def apply(root: Path, mutant: Mutant) -> str:
    """The text of the mutant's file with its change in it."""
    wrapper = _parse(root / mutant.path)
    for number, one in enumerate(_mutations(wrapper)):
        if number == mutant.number:
            changed = wrapper.module.deep_replace(one.original, one.mutated)
            assert isinstance(changed, cst.Module)
            return changed.code
    raise IndexError(mutant.name)


def change(old: str, new: str) -> Change:
    """The lines that differ, from the first to the last."""
    before, after = old.splitlines(), new.splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return Change(tuple(line.strip() for line in before), tuple(line.strip() for line in after))


def _parse(path: Path) -> MetadataWrapper:
    return MetadataWrapper(cst.parse_module(path.read_text(encoding="utf-8")))


class _Mutation(NamedTuple):
    """A node, what stands in its place, and where that is."""

    original: cst.CSTNode
    mutated: cst.CSTNode
    line: int
    statement: int
    scope: str


def _mutations(wrapper: MetadataWrapper) -> list[_Mutation]:
    """Each mutation of a module, in the order of the file."""
    finder = _Finder()
    wrapper.visit(finder)
    return finder.found


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Mutation] = []
        self._scopes: list[str] = []
        self._statements: list[int] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, (cst.Annotation, cst.Decorator)) or _only_for_type_checkers(node):
            return False
        if isinstance(node, SCOPES):
            self._scopes.append(node.name.value)
        if isinstance(node, STATEMENTS):
            self._statements.append(self._line(node))
        if self._statements and not _is_sentence(node):
            self._mutate(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, SCOPES):
            self._scopes.pop()
        if isinstance(original_node, STATEMENTS) and not _only_for_type_checkers(original_node):
            self._statements.pop()

    def _mutate(self, node: cst.CSTNode) -> None:
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                for mutated in operator(node):
                    place = (self._line(node), self._statements[-1], ".".join(self._scopes))
                    self.found.append(_Mutation(node, mutated, *place))

    def _line(self, node: cst.CSTNode) -> int:
        return int(self.get_metadata(PositionProvider, node).start.line)


def _only_for_type_checkers(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.If) and isinstance(node.test, cst.Name) and node.test.value == "TYPE_CHECKING"


def _is_sentence(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.SimpleString) and bool(_SENTENCE.search(node.value))


def _code(node: cst.CSTNode) -> str:
    return cst.Module(body=[]).code_for_node(node)
