"""The tree is what docs/explanation/architecture.md says it is."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import get_args

import pytest

from build_matrix.cli import SUBCOMMANDS
from build_matrix.model import Origin, Record

PACKAGE = Path(__file__).parents[2] / "build_matrix"
STAGES = frozenset({"probe", "resolve", "provision", "source", "compile", "wheel", "verify", "reproduce"})
# A folder or a module of the package belongs to one layer, and imports from the layers below.
LAYERS = (
    frozenset({"__main__", "cli"}),
    frozenset({"pipeline"}),
    STAGES,
    frozenset({"context", "diagnosis", "downloads", "platforms", "sysroot_flags", "trial", "wheelfile"}),
    frozenset({
        "__init__", "catalog", "digests", "errors", "locks", "model", "process", "redact", "report", "resources",
        "store", "unpacking",
    }),
)  # fmt: skip
DISPLAY = frozenset({"rich", "typer"})

ALL = sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The folder of the package that a file is in, or its module."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def package_of(path: Path) -> str:
    """The package that relative imports of a file start from."""
    return ".".join(path.parent.relative_to(PACKAGE.parent).parts)


MODULES = [path for path in ALL if unit_of(path) in STAGES]


def layer_of(unit: str) -> int:
    """The number of the layer, the highest is 0; IndexError for a unit that has none."""
    return [unit in layer for layer in LAYERS].index(True)


def imported(tree: ast.Module, package: str) -> Iterator[str]:
    """The full names of what a module of ``package`` imports, by whatever form of import.

    A name that is put together when it runs counts by its constant beginning; one that is all variable cannot be seen.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + f"{node.module}." * bool(node.module)
            yield from (absolute(module + alias.name, package) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield absolute(beginning(node.args[0]), package)


def absolute(name: str, package: str) -> str:
    """A name without the dots that it starts with: one is ``package``, two the package around it."""
    rest = name.lstrip(".")
    dots = len(name) - len(rest)
    return ".".join([*package.split(".")[: 1 - dots or None], rest]) if dots else name


def beginning(name: ast.expr) -> str:
    """The text of an expression as far as it is constant."""
    part = name.values[0] if isinstance(name, ast.JoinedStr) and name.values else name
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else ""


def imported_units(tree: ast.Module, package: str) -> set[str]:
    """The units that a module of ``package`` imports: ``__init__`` for build_matrix itself, ``*`` for any of them."""
    names = [name for name in imported(tree, package) if name.split(".")[0] == "build_matrix"]
    parts = {"*" if name == "build_matrix." else name.partition(".")[2].split(".")[0] for name in names}
    return {part if part == "*" or is_unit(part) else "__init__" for part in parts}


def is_unit(name: str) -> bool:
    return any(name in layer for layer in LAYERS)


def not_below(unit: str, imported: set[str]) -> set[str]:
    """Which of these units a module of ``unit`` must not import: those above it, and beside it if it is a stage."""
    own = layer_of(unit)
    beside = own if unit in STAGES else own - 1
    return {one for one in imported - {unit} if one == "*" or layer_of(one) <= beside}


def named(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_every_folder_and_module_has_one_layer() -> None:
    listed = [unit for layer in LAYERS for unit in layer]
    assert len(set(listed)) == len(listed)
    assert {unit_of(path) for path in ALL} <= set(listed)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_stage_imports_no_other_stage_and_no_command(path: Path) -> None:
    own = unit_of(path)
    assert not imported_units(ast.parse(path.read_text()), package_of(path)) & ({*STAGES, "cli"} - {own})


@pytest.mark.parametrize("path", ALL, ids=named)
def test_a_module_imports_only_from_the_layers_below(path: Path) -> None:
    assert not_below(unit_of(path), imported_units(ast.parse(path.read_text()), package_of(path))) == set()


def test_no_two_units_need_each_other() -> None:
    needs: dict[str, set[str]] = {}
    for path in ALL:
        imports = imported_units(ast.parse(path.read_text()), package_of(path))
        needs.setdefault(unit_of(path), set()).update(imports - {unit_of(path), "__init__"})
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the units


def test_the_foundation_loads_no_stage_when_it_is_imported() -> None:
    names = ", ".join(f"build_matrix.{unit}" for unit in sorted(LAYERS[-1] - {"__init__"}))
    code = f"import sys, {names}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[1] for name in done.stdout.split() if name.startswith("build_matrix.")}
    assert "model" in loaded
    assert loaded <= LAYERS[-1]


@pytest.mark.parametrize("path", ALL, ids=named)
def test_only_the_command_line_and_the_reporter_know_how_things_are_displayed(path: Path) -> None:
    libraries = {name.split(".")[0] for name in imported(ast.parse(path.read_text()), package_of(path))}
    assert unit_of(path) in {"cli", "report"} or not libraries & DISPLAY


def test_no_subcommand_imports_another() -> None:
    subcommands = {module.__name__ for module in SUBCOMMANDS}
    for module in SUBCOMMANDS:
        names = imported(ast.parse(inspect.getsource(module)), "build_matrix.cli")
        modules = {".".join(name.split(".")[:3]) for name in names}
        assert not modules & subcommands - {module.__name__}, module.__name__


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
        "from ..verify.smoke import Bench",
        "def f():\n    from build_matrix import verify",
        "if TYPE_CHECKING:\n    from build_matrix.verify import Target",
        "try:\n    import build_matrix.verify\nexcept ImportError:\n    pass",
        "importlib.import_module('build_matrix.verify.smoke')",
        "import_module('..verify.smoke', __package__)",
        "import_module(f'build_matrix.verify.{name}')",
        "__import__('build_matrix.verify')",
    ],
)
def test_every_form_of_an_import_is_seen(line: str) -> None:
    units = imported_units(ast.parse(line), "build_matrix.resolve")
    assert "verify" in units
    assert not_below("resolve", units) == {"verify"}


@pytest.mark.parametrize(
    ("line", "package", "units"),
    [
        ("from . import verify", "build_matrix", {"verify"}),
        ("from .verify import x", "build_matrix", {"verify"}),
        ("from ... import verify", "build_matrix.downloads.origins", {"verify"}),
        ("from ..pages import x", "build_matrix.downloads.origins", {"downloads"}),
        ("from build_matrix import __version__", "build_matrix.wheel", {"__init__"}),
        ("import_module(f'build_matrix.{name}')", "build_matrix.wheel", {"*"}),
        ("import json\nfrom rich import table", "build_matrix.wheel", set()),
    ],
)
def test_a_name_is_taken_from_the_package_that_it_is_relative_to(line: str, package: str, units: set[str]) -> None:
    assert imported_units(ast.parse(line), package) == units


def test_a_name_that_may_be_of_any_unit_must_not_be_imported() -> None:
    assert not_below("cli", {"*"}) == {"*"}


def test_a_module_of_the_same_stage_is_none_of_another(tmp_path: Path) -> None:
    tree = ast.parse("from . import verify\nfrom .verify import x")
    assert imported_units(tree, "build_matrix.resolve") == {"resolve"}


@pytest.mark.parametrize(
    ("unit", "part"),
    [
        ("pipeline", "cli"), ("resolve", "pipeline"), ("resolve", "probe"), ("downloads", "provision"),
        ("trial", "verify"), ("store", "downloads"), ("locks", "context"), ("model", "resolve"), ("errors", "cli"),
    ],
)  # fmt: skip
def test_what_lies_above_must_not_be_imported(unit: str, part: str) -> None:
    assert not_below(unit, {part, unit, "errors"}) == {part}


@pytest.mark.parametrize(
    ("unit", "part"), [("cli", "pipeline"), ("cli", "model"), ("trial", "downloads"), ("store", "errors")]
)
def test_what_lies_below_or_beside_may_be_imported(unit: str, part: str) -> None:
    assert not_below(unit, {part}) == set()


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
