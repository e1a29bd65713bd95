"""What README and the pages under docs/ type, name and promise is there."""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from commands import ROOT, run_tool

from build_matrix.cli import SUBCOMMANDS, page
from build_matrix.downloads import ingredient_choices
from build_matrix.locks.needed import Target, build_files
from build_matrix.model import Architecture, Cell

PACKAGE = ROOT / "build_matrix"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOW_TO = [ROOT / "README.md", ROOT / "docs/tutorial.md", *sorted((ROOT / "docs/how-to").glob("*.md"))]
COMMANDS = {page.name_of(module): module.command for module in SUBCOMMANDS}

# --- commands --------------------------------------------------------------------------------------------


class Typed(NamedTuple):
    """A command of this tool that a page types."""

    page: str
    text: str
    session: str
    subcommand: str
    words: tuple[str, ...]


def sessions() -> dict[str, tuple[str, ...]]:
    """Nox's sessions, each with the words that it gives to the tool (none for those that run another program)."""
    found = {}
    for node in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef) or not any("session" in ast.unparse(d) for d in node.decorator_list):
            continue
        given = re.search(r"name=['\"]([\w-]+)", ast.unparse(node.decorator_list[0]))
        calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and ast.unparse(n.func) == "run_tool"]
        words = tuple(a.value for call in calls for a in call.args if isinstance(a, ast.Constant))
        found[given[1] if given else node.name] = words
    return found


SESSIONS = sessions()
_NOX = re.compile(r"(?:^|[\s;&(])(?:\.venv/bin/)?nox\s+-s\s+(?P<session>[\w-]+)(?:\s+--\s+(?P<words>.*))?")
_MODULE = re.compile(r"python -m build_matrix (?P<subcommand>[a-z]+) (?P<words>.*)")


def typed() -> Iterator[Typed]:
    """Each command of a code block or a code span, without the comment behind it."""
    for path in PAGES:
        name = str(path.relative_to(ROOT))
        for line in path.read_text(encoding="utf-8").splitlines():
            code = [line.strip()] if line.startswith("    ") else re.findall(r"`([^`]+)`", line)
            for text in code:
                yield from _commands(name, re.split(r"\s{2,}#|\s→", text)[0].strip())


def _commands(name: str, text: str) -> Iterator[Typed]:
    for part in re.split(r"\s&&\s", text):
        if match := _NOX.search(part):
            words = match["words"] or ""
            subcommand, *given = SESSIONS.get(match["session"], ()) or ("",)
            if subcommand:
                yield Typed(name, text, match["session"], subcommand, (*given, *_split(words)))
            else:
                yield Typed(name, text, match["session"], "", ())
        elif match := _MODULE.search(part):
            yield Typed(name, text, "", match["subcommand"], tuple(_split(match["words"])))


def _split(words: str) -> list[str]:
    """Words as a shell splits them; ``…`` stands for anything."""
    return [word for word in shlex.split(words.rstrip(".;,")) if "…" not in word or ".whl" in word]


TYPED = list(dict.fromkeys(typed()))


def label(command: Typed) -> str:
    return f"{command.page}: {command.text}"


def test_commands_are_found_on_the_pages_that_type_them() -> None:
    having = {command.page for command in TYPED}
    assert {"README.md", "docs/tutorial.md", "docs/how-to/build.md", "docs/how-to/without-network.md"} <= having
    assert len(TYPED) > 25


def test_every_session_of_nox_that_a_page_types_is_there() -> None:
    names = {command.session for command in TYPED if command.session} - {"SESSION"}
    assert names <= set(SESSIONS)


def problem_of(command: Typed) -> str:
    """What the tool would not accept of a command: an option that it has not, or one without its value."""
    options = {
        name: parameter for parameter in page.parameters(COMMANDS[command.subcommand]) for name in parameter.names
    }
    words = iter(command.words)
    for word in words:
        if not word.startswith("-"):
            continue
        name, equals, _ = word.partition("=")
        if name == "--help":
            continue
        if name not in options:
            return f"{command.subcommand} has no option {name}"
        if options[name].value and not equals and next(words, "--").startswith("--"):
            return f"{name} needs a value"
    return ""


@pytest.mark.parametrize("command", [one for one in TYPED if one.subcommand], ids=label)
def test_every_option_that_a_page_types_is_one_of_its_command(command: Typed) -> None:
    assert problem_of(command) == ""


def test_an_option_that_a_command_has_not_would_be_noticed() -> None:
    (wrong,) = _commands("page", "nox -s plan -- --profile check")
    assert problem_of(wrong) == "plan has no option --profile"
    (wrong,) = _commands("page", "nox -s build -- --llama --arch 89")
    assert problem_of(wrong) == "--llama needs a value"
    (right,) = _commands("page", "CXX=g++-11 nox -s build-cuda11")
    assert (right.words, problem_of(right)) == (("--cuda", "11"), "")


# Commands that build and download nothing; the others are only checked for their options.
QUICK = ("doctor", "plan")


def runnable() -> list[Typed]:
    """Those of them whose words name no place that only the reader has."""
    return [
        one for one in TYPED if one.subcommand in QUICK and not any("/path/" in w or "VENV" in w for w in one.words)
    ]


@pytest.mark.parametrize("command", runnable(), ids=label)
def test_what_needs_no_compiler_runs_as_it_is_typed(command: Typed, tmp_path: Path) -> None:
    claims = {"BUILD_MATRIX_DRIVER_CUDA": "13.0", "BUILD_MATRIX_COMPUTE_CAPABILITIES": "8.9"}
    store = {"BUILD_MATRIX_STORE": str(tmp_path / "store")}
    done = run_tool((command.subcommand, *command.words), os.environ | claims | store)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_subcommand_explains_itself_with_the_options_of_the_reference(name: str) -> None:
    done = run_tool((name, "--help"), os.environ | {"NO_COLOR": "1", "TERM": "dumb"})
    assert done.returncode == 0
    for parameter in page.parameters(COMMANDS[name]):
        assert parameter.names[0].casefold() in done.stdout.casefold()


def test_readme_and_the_reference_list_nox_sessions_that_are_there() -> None:
    reference = (ROOT / "docs/reference/command-line.md").read_text(encoding="utf-8").partition("\n## ")[0]
    listed = set(re.findall(r"^\| `([\w-]+)` \|", reference, re.MULTILINE))
    assert listed == set(SESSIONS)
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## More")[2]
    rows = [line for line in readme.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])} <= set(SESSIONS)


# --- the reference ---------------------------------------------------------------------------------------


def test_the_tables_of_options_are_those_of_the_command_line() -> None:
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")
    assert page.rewritten(text) == text, "run `python -m build_matrix.cli.page`"


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks"):
        page.rewritten("no marks")


def test_every_exit_code_is_in_the_reference() -> None:
    from build_matrix import errors

    codes = {c.exit_code for c in vars(errors).values() if isinstance(c, type) and hasattr(c, "exit_code")} - {1}
    text = (ROOT / page.PAGE).read_text(encoding="utf-8").partition("## Exit codes")[2]
    assert codes | {0} <= {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}


def store_folders() -> set[str]:
    """The folders that the code makes in a store: stages that it asks for by name, and places below its root."""
    found = {"locks", "logs", "work"}
    for path in PACKAGE.rglob("*.py"):
        constants = dict(_constants(path))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("context.") in {
                "store.obtain",
                "store.keep",
                "store.find",
            }:
                found |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant)}
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                left, right = ast.unparse(node.left), node.right
                name = right.value if isinstance(right, ast.Constant) else constants.get(ast.unparse(right), "")
                if left in {"store.root", "self._store.root", "context.store.root"} and name:
                    found.add(str(name))
    return found - {"stage"}  # a place for a link to be relative to


def _constants(path: Path) -> Iterator[tuple[str, str]]:
    """Module-level texts of this file and of the set-up, which it may import."""
    for source in (path, PACKAGE / "pipeline/setup.py"):
        for node in ast.parse(source.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                yield ast.unparse(node.targets[0]), str(node.value.value)


def test_the_reference_names_the_stores_folders_and_no_others() -> None:
    text = (ROOT / "docs/reference/files.md").read_text(encoding="utf-8")
    table = text.partition("## In the store")[2].partition("\n## ")[0]
    named = {
        name for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`([\w-]+)/`", row)
    }
    assert named == store_folders()


def test_every_variable_of_this_tool_that_a_page_names_is_read() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for path in PAGES:
        for name in set(re.findall(r"\bBUILD_MATRIX_[A-Z_]+\b", path.read_text(encoding="utf-8"))):
            assert f'"{name}"' in code, f"{path.name}: {name}"


def test_every_file_of_the_repository_that_a_page_names_is_there() -> None:
    tops = ("build_matrix/", "patches/", "tests/", "docs/", "benchmarks/", ".ci/")
    tops += tuple(f"{folder.name}/" for folder in PACKAGE.iterdir() if folder.is_dir())
    missing = []
    for path in PAGES:
        for name in set(re.findall(r"`([\w./*-]+)`", path.read_text(encoding="utf-8"))):
            if not name.startswith(tops):
                continue
            roots = [ROOT, PACKAGE]
            if not any((root / name).exists() or list(root.glob(f"{name}*")) for root in roots):
                missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert not missing


def test_every_link_between_pages_leads_somewhere() -> None:
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert "://" in target or (path.parent / target).exists(), f"{path.name}: {target}"


# --- figures that the code knows -------------------------------------------------------------------------


def figure(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    assert match, pattern
    return float(match[1])


def test_the_tutorials_download_is_what_the_locks_sum_up_to() -> None:
    cell = Cell(llama="0.3.36", cuda="13.0", architectures=(Architecture(number=89),), platform="linux-x86_64")
    target = Target("3.12", "linux-x86_64")
    files = {file.sha256: file.size for file in build_files(cell, ingredient_choices(cell)[0], target)}
    tutorial = " ".join((ROOT / "docs/tutorial.md").read_text(encoding="utf-8").split())
    assert figure(r"downloads ([\d.]+) GB", tutorial) == pytest.approx(sum(files.values()) / 1e9, abs=0.02)


def test_the_tutorials_disk_is_what_the_plan_asks_for() -> None:
    from build_matrix.resolve.rules import BUILD_ROOM

    tutorial = " ".join((ROOT / "docs/tutorial.md").read_text(encoding="utf-8").split())
    assert figure(r"([\d.]+) GB of free disk", tutorial) * 1e9 == BUILD_ROOM
