"""The tree is what docs/explanation/architecture.md says it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "build_matrix"
STAGES = ("probe", "resolve", "provision", "source", "compile", "wheel", "verify", "reproduce")
MODULES = [path for stage in STAGES for path in sorted((PACKAGE / stage).glob("*.py"))]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_stage_imports_no_other_stage_and_no_command(path: Path) -> None:
    own = path.parent.name
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("build_matrix."):
            imported.add((node.module or "").split(".")[1])
    assert not imported & ({*STAGES, "cli"} - {own})


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_opens_with_a_sentence(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
