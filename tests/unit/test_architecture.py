"""The tree is what docs/explanation/architecture.md says it is."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import get_args

import pytest

from build_matrix.model import Origin, Record

PACKAGE = Path(__file__).parents[2] / "build_matrix"
STAGES = ("probe", "resolve", "provision", "source", "compile", "wheel", "verify", "reproduce")
MODULES = [path for stage in STAGES for path in sorted((PACKAGE / stage).glob("*.py"))]
SHARED = [path for part in ("trial", "wheelfile") for path in sorted((PACKAGE / part).glob("*.py"))]


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


@pytest.mark.parametrize("path", MODULES + SHARED, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_stage_imports_no_other_stage_and_no_command_and_what_they_share_none(path: Path) -> None:
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
        "from build_matrix.verify.smoke import SmokeTest",
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


@pytest.mark.parametrize("path", MODULES + SHARED, ids=lambda p: str(p.relative_to(PACKAGE)))
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


# --- origins of files --------------------------------------------------------------------------------------------

NAMES = frozenset(get_args(Origin))
OUTSIDE = [p for p in sorted(PACKAGE.rglob("*.py")) if "downloads" not in p.relative_to(PACKAGE).parts]


def decided_by_origin(tree: ast.Module) -> set[str]:
    """The origins whose names are compared, matched, collected to choose between them, or given to a component."""
    found: set[str] = set()
    for node in ast.walk(tree):
        names = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)} & NAMES
        collected = isinstance(node, ast.Dict | ast.Set | ast.Tuple | ast.List) and len(names) > 1
        given = isinstance(node, ast.keyword) and node.arg == "origin"
        if isinstance(node, ast.Compare | ast.match_case) or collected or given:
            found |= names
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("build_matrix.downloads.origins."):
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_downloads_know_one_origin_from_another(path: Path) -> None:
    if path != PACKAGE / "model" / "locks.py":  # which says how records write them
        assert decided_by_origin(ast.parse(path.read_text())) == set()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("x = file.origin == 'debian'", {"debian"}),
        ("x = 'redist' != one", {"redist"}),
        ("x = file.origin in ('redist',)", {"redist"}),
        ("x = {'redist': 1, 'debian': 2}[file.origin]", {"redist", "debian"}),
        ("match file.origin:\n    case 'installed':\n        pass", {"installed"}),
        ("for name, origin in ('A', 'redist'), ('B', 'debian'): pass", {"redist", "debian"}),
        ("Component(origin='index')", {"index"}),
        ("from build_matrix.downloads.origins.debian import Debian", {"build_matrix.downloads.origins.debian"}),
        ("from build_matrix.downloads.origins import origin_of", set()),
        ("print({'installed': 1}, file.origin)", set()),
    ],
)
def test_every_decision_by_the_name_of_an_origin_is_seen(line: str, names: set[str]) -> None:
    assert decided_by_origin(ast.parse(line)) == names
