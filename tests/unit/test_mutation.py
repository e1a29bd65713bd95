"""The runner of ``nox -s mutants``: what it changes, what it leaves alone, and which tests it asks."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

ROOT = Path(__file__).parents[2]

MODULE = '''"""Text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    LIMIT = 1

BOUND = 1e-3


class Agreement:
    @property
    def holds(self) -> bool | None:
        return self.error <= BOUND and not self.missing


def describe(count: int, unit: str = "MB") -> str:
    """Two words."""
    if count < 2:
        raise ValueError("this is a sentence for people")
    return f"{count + 1}" + unit
'''


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    pytest.importorskip("mutmut", reason="mutmut is not installed (the dev extra has it)")
    monkeypatch.syspath_prepend(ROOT / "tests" / "mutation")
    for name in ("mutants", "trial"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("mutants"), importlib.import_module("trial")


def changes(mutants: ModuleType, folder: Path, text: str = MODULE) -> dict[str, tuple[int, str]]:
    """Every change of the module, as ``before > after``, with its line and its function."""
    (folder / "m.py").write_text(text)
    found = {}
    for one in mutants.mutants_of(folder, "m.py", "seed"):
        change = mutants.change(text, mutants.apply(folder, one))
        found[f"{' / '.join(change.before)} > {' / '.join(change.after)}"] = (one.line, one.scope)
    return found


def test_constants_properties_and_defaults_are_changed_too(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    found = changes(modules[0], tmp_path)
    expected = {
        "BOUND = 1e-3 > BOUND = 1.001": (8, ""),
        "BOUND = 1e-3 > BOUND = None": (8, ""),
        "return self.error <= BOUND and not self.missing > return self.error < BOUND and not self.missing": (
            14,
            "Agreement.holds",
        ),
        "return self.error <= BOUND and not self.missing > return self.error <= BOUND or not self.missing": (
            14,
            "Agreement.holds",
        ),
        "return self.error <= BOUND and not self.missing > return self.error <= BOUND and self.missing": (
            14,
            "Agreement.holds",
        ),
        "if count < 2: > if count <= 2:": (19, "describe"),
        'return f"{count + 1}" + unit > return f"{count - 1}" + unit': (21, "describe"),
    }
    assert expected.items() <= found.items()
    assert any(change.endswith('unit: str = "mb") -> str:') for change in found)


def test_annotations_messages_and_what_only_type_checkers_read_stay(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    found = changes(modules[0], tmp_path)
    assert not [change for change in found if "LIMIT" in change or "bool & None" in change or "Two words" in change]
    assert not [change for change in found if "XXthis" in change or "THIS IS" in change]


def test_an_edit_elsewhere_leaves_the_order_of_the_sample(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    mutants, _ = modules

    def keys(text: str) -> set[str]:
        (tmp_path / "m.py").write_text(text)
        return {one.key for one in mutants.mutants_of(tmp_path, "m.py", "seed")}

    before = keys(MODULE)
    after = keys(MODULE.replace("BOUND = 1e-3", "import os\n\n\ndef added() -> int:\n    return 1\n\n\nBOUND = 1e-3"))
    assert before < after
    (tmp_path / "m.py").write_text(MODULE)
    assert not before & {one.key for one in mutants.mutants_of(tmp_path, "m.py", "another seed")}


def test_a_line_is_tried_by_the_tests_that_reach_it_the_fastest_first(modules: tuple[ModuleType, ModuleType]) -> None:
    tree = "tests/unit/test_architecture.py::test"
    slow, fast, other, beside = (f"t.py::{name}" for name in ("slow", "fast", "other", "beside"))
    reach = modules[1].Reach(
        lines={
            "p/a.py": {1: frozenset({""}), 5: frozenset({slow, fast}), 6: frozenset({other}), 9: frozenset()},
            "p/child.py": {},
            "p/b.py": {1: frozenset({"", "u.py::starts the child"})},
            "q/c.py": {1: frozenset({"v.py::far"})},
        },
        seconds={slow: 2.0, fast: 0.1, other: 1.0, beside: 0.5, tree: 3.0, "v.py::far": 0.1},
    )
    assert reach.tests("p/a.py", {5}) == [fast, slow]
    assert reach.tests("p/a.py", {5, 6}) == [fast, other, slow]
    assert reach.tests("p/a.py", {1}) == [fast, beside, other, slow, tree], "on import: whoever uses the file sees it"
    assert reach.tests("p/child.py", {3}) == ["u.py::starts the child", fast, other, slow], "perhaps a program"
    assert reach.tests("r/d.py", {1}) == []


def test_a_mutant_is_killed_by_a_failing_test_and_the_copy_is_as_it_was(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    mutants, trial = modules
    copy = tmp_path / "copy" / "checkout"
    (copy / "tests/unit").mkdir(parents=True)
    (copy / "p").mkdir()
    (copy / "p/a.py").write_text("def f(x):\n    return x > 1\n")
    test = "import sys; sys.path.insert(0, 'p')\nfrom a import f\ndef test_f():\n    assert f(2) and not f({})\n"
    for value, name in ((1, "test_edge.py"), (0, "test_far.py")):
        (copy / "tests/unit" / name).write_text(test.replace("{}", str(value)))
    (one,) = [one for one in mutants.mutants_of(copy, "p/a.py", "s") if ">=" in mutants.apply(copy, one)]

    def tried(name: str) -> bool:
        nodeid = f"tests/unit/{name}::test_f"
        reach = trial.Reach({"p/a.py": {2: frozenset({nodeid})}}, {nodeid: 0.1})
        result = trial.try_mutant(copy, one, reach)
        assert result.tests == 1
        assert (copy / "p/a.py").read_text() == "def f(x):\n    return x > 1\n"
        return bool(result.killed)

    assert (tried("test_edge.py"), tried("test_far.py")) == (True, False)
    assert not trial.try_mutant(copy, one, trial.Reach({}, {})).killed, "no test reaches it"


def test_what_may_survive_is_in_the_code_as_it_is() -> None:
    decisions = msgspec.toml.decode((ROOT / "tests/mutation/accepted.toml").read_bytes())
    for row in decisions["excluded"]:
        assert (ROOT / row["path"]).is_file(), row["path"]
    for row in decisions["accepted"]:
        lines = {line.strip() for line in (ROOT / row["path"]).read_text(encoding="utf-8").splitlines()}
        assert set(row["before"].splitlines()) <= lines, row
        assert row["reason"].strip()
