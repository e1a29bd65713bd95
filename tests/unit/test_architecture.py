"""The tree is what docs/explanation/architecture.md says it is."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from build_matrix.model import Record

PACKAGE = Path(__file__).parents[2] / "build_matrix"
STAGES = ("probe", "resolve", "provision", "source", "compile", "wheel", "verify", "reproduce")
MODULES = [path for stage in STAGES for path in sorted((PACKAGE / stage).glob("*.py"))]


def imported_parts(tree: ast.Module, stage: str) -> set[str]:
    """The parts of the package that a module of ``stage`` imports, by whatever form of import."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ["", f"build_matrix.{stage}.", "build_matrix."][node.level] + (node.module or "")
            names += [f"{package.rstrip('.')}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names += [word.value for word in node.args if isinstance(word, ast.Constant)]
    return {name.split(".")[1] for name in names if name.startswith("build_matrix.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_stage_imports_no_other_stage_and_no_command(path: Path) -> None:
    own = path.parent.name
    assert not imported_parts(ast.parse(path.read_text()), own) & ({*STAGES, "cli"} - {own})


@pytest.mark.parametrize(
    "line",
    [
        "import build_matrix.verify",
        "import json, build_matrix.verify.smoke as smoke",
        "from build_matrix import verify",
        "from build_matrix import model, verify as check",
        "from build_matrix.verify import Target",
        "from build_matrix.verify.smoke import Bench",
        "from .. import verify",
        "from ..verify import Target",
        "def f():\n    from build_matrix import verify",
        "importlib.import_module('build_matrix.verify.smoke')",
    ],
)
def test_every_form_of_an_import_is_seen(line: str) -> None:
    assert "verify" in imported_parts(ast.parse(line), "resolve")


def test_a_module_of_the_same_stage_is_none_of_another(tmp_path: Path) -> None:
    assert imported_parts(ast.parse("from . import verify\nfrom .verify import x"), "resolve") == {"resolve"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_a_module_promises_is_there_and_its_records_do_not_change(path: Path) -> None:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert not [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)]
    records = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Record)]
    assert not [kind for kind in records if not kind.__struct_config__.frozen]
    fields = [(kind, field) for kind in records for field in inspect.signature(kind).parameters.values()]
    assert not [(kind, field) for kind, field in fields if field.kind is not field.KEYWORD_ONLY]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_opens_with_a_sentence(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_name_that_a_module_exports_is_bound_in_it(path: Path) -> None:
    exported: list[str] = []
    bound: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
            bound |= names
            if "__all__" in names:
                exported += ast.literal_eval(node.value) if node.value else []
    assert [name for name in exported if name not in bound] == []
    assert len(set(exported)) == len(exported)
