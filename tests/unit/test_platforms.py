"""A platform is one module and one row of the catalog; one without a module is a sentence and an exit code."""

from __future__ import annotations

import ast
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from records import make_record

from build_matrix import catalog, platforms
from build_matrix.cli import main
from build_matrix.compile.flags import definitions
from build_matrix.downloads.origins import available_toolkits, ingredient_choices
from build_matrix.errors import NoCompatibleChoiceError
from build_matrix.locks import locked_llama_releases
from build_matrix.locks.needed import Target
from build_matrix.model import BuildInputs, Machine, Request, WheelRecord
from build_matrix.pipeline.matrix import read_matrix
from build_matrix.platforms import Platform, find_platform, supported_platforms
from build_matrix.reproduce import read_record
from build_matrix.reproduce.record import require_platform
from build_matrix.resolve import make_plan
from wheels import make_wheel

PACKAGE = Path(platforms.__file__).parents[1]
MADE_UP = "linux-vax"
UNSUPPORTED = f"The platform {MADE_UP} is not supported."
SUPPORTED = " or ".join(one.title for one in supported_platforms().values())

# --- who names a platform ------------------------------------------------------------------------------

MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent.name != "platforms"]
# Modules that look into what lies on a machine, for whatever platform it is.
EXAMINES = {
    "probe/evidence.py": "the folders in which distributions put the driver, on every processor",
    "wheelfile/native.py": "the numbers by which a library names its processor, whichever it is",
}


def platform_words() -> set[str]:
    """What a module would name if a platform were wired into it: names, tags, names in archives, loader, target."""
    words = {"$ORIGIN"}
    for row in catalog.platforms().values():
        words |= {row.name, row.name.replace("-", "_"), row.debian, *re.findall(r"[a-z]\w{6,}", row.tags)}
    for platform in supported_platforms().values():
        system = platform.oldest_system
        words |= {system.policy, system.loader, system.target, f"__{system.architecture}__"}
    return words - {""}


def texts(path: Path) -> Iterator[str]:
    """Every text in a module's code; its docstrings are no code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    described = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, described)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docstrings:
            yield node.value


def test_the_words_of_a_platform_are_those_of_its_row_and_its_module() -> None:
    assert {"linux-x86_64", "linux_x86_64", "manylinux", "windows-x86_64", "win_amd64", "amd64"} <= platform_words()
    assert {"ld-linux-x86-64.so.2", "x86_64-linux-gnu", "manylinux_2_28", "__x86_64__"} <= platform_words()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_outside_the_platforms_names_one(path: Path) -> None:
    words = platform_words()
    named = {word for text in texts(path) for word in words if word in text}
    assert not named or path.relative_to(PACKAGE).as_posix() in EXAMINES, named


# --- the protocol --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", supported_platforms())
def test_a_platform_answers_all_that_the_stages_ask(name: str) -> None:
    platform = find_platform(name)
    assert platform.name == name
    asked = [member for member in vars(Platform) if not member.startswith("_")]
    assert len(asked) > 10
    assert not [member for member in asked if not getattr(platform, member, None)]


def test_linux_is_as_it_is_on_every_distribution() -> None:
    linux = find_platform("linux-x86_64")
    assert linux.environment_python(Path("/environment")) == Path("/environment/bin/python")
    assert linux.run_path("../../nvidia/cu13/lib") == "$ORIGIN/../../nvidia/cu13/lib"
    assert (linux.program("cuobjdump"), linux.library_suffix) == ("cuobjdump", ".so")
    assert linux.link_library("cudart") == "libcudart.so"
    names = (
        "libcudart.so.13",
        "libcudart.so.11.0",
        "libcublasLt.so.12",
        "libcudart.so",
        "libcudart.so.12.4.127",
        "x.h",
    )
    assert list(map(linux.unversioned, names)) == ["libcudart.so", "libcudart.so", "libcublasLt.so", "", "", ""]
    assert {"libc.so.6", "libstdc++.so.6", linux.oldest_system.loader} <= linux.system_libraries
    assert set(linux.options.values()) == {"OFF"}


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        ("x86_64-linux-gnu", True),
        ("x86_64-pc-linux-gnu", True),
        ("x86_64-redhat-linux", True),
        ("x86_64-alpine-linux-musl", False),
        ("x86_64-linux-gnux32", False),
        ("aarch64-linux-gnu", False),
    ],
)
def test_a_compiler_is_for_the_platform_by_its_target(tag: str, fits: bool) -> None:
    assert bool(re.fullmatch(find_platform("linux-x86_64").compiler_target, tag)) == fits


# --- one without a module ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", MADE_UP, "windows-x86_64", "linux", "system-needs", "../linux-x86_64"])
def test_a_platform_without_a_module_is_one_sentence_and_exit_code_4(name: str) -> None:
    with pytest.raises(NoCompatibleChoiceError, match="is not supported") as caught:
        find_platform(name)
    assert caught.value.exit_code == 4
    assert caught.value.remedy == f"Use {SUPPORTED}."


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A platform that nobody knows, without compilers; nothing may be downloaded."""
    monkeypatch.setattr("platform.machine", lambda: "VAX")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("BUILD_MATRIX_STORE", str(tmp_path / "store"))


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    """The command line in this process, where the platform is another; its exit code."""
    monkeypatch.setattr(sys, "argv", ["build-matrix", *argv])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize(
    "argv",
    [
        ("plan",),
        ("plan", "--json"),
        ("build",),
        ("build", "--all"),
        ("build", "--cell", "0.3.36+cu130.sm89"),
        ("fetch", "--list"),
        ("fetch", "--all", "--list"),
        ("reproduce",),
        ("reproduce", "WHEEL"),
        ("verify", "WHEEL"),
    ],
    ids=" ".join,
)
def test_every_command_that_needs_the_platform_says_so(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    machine: Machine,
    argv: tuple[str, ...],
) -> None:
    wheel = make_wheel(tmp_path / "wheels")
    make_record(wheel)
    monkeypatch.setattr("build_matrix.probe.probe", lambda *_: msgspec.structs.replace(machine, platform=MADE_UP))
    code = run(monkeypatch, *(str(wheel) if word == "WHEEL" else word for word in argv))
    output = capsys.readouterr()
    assert (code, output.err.strip().splitlines()[-2:]) == (4, [UNSUPPORTED, f"Use {SUPPORTED}."])
    assert output.out == ""


@pytest.mark.usefixtures("made_up")
def test_doctor_reports_on_a_platform_that_is_not_supported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "doctor", "--wheels", str(tmp_path)) == 0
    output = capsys.readouterr().out
    assert "linux-vax, " in output
    assert "Wheels are not built for linux vax." in output
    assert f"Use {SUPPORTED}. The report on the driver" in output


@pytest.mark.parametrize("platform", [MADE_UP, "windows-x86_64"])
def test_a_record_of_another_platform_is_a_sentence_too(tmp_path: Path, platform: str) -> None:
    wheel = make_wheel(tmp_path)
    record = make_record(wheel)
    changed = msgspec.structs.replace(record, cell=msgspec.structs.replace(record.cell, platform=platform))
    wheel.with_name(f"{wheel.name}.json").write_bytes(msgspec.json.encode(changed))
    with pytest.raises(NoCompatibleChoiceError, match=f"The platform {platform} is not supported"):
        require_platform(read_record(wheel), "linux-x86_64")


def test_no_toolkit_is_available_for_a_platform_that_the_locks_do_not_know() -> None:
    assert available_toolkits(MADE_UP) == ()


# --- a new one -----------------------------------------------------------------------------------------

MODULE = """\
from build_matrix.platforms.linux import Linux

PLATFORM = Linux(name="linux-vax", compiler_target="vax-linux-gnu", compiler_macros="defined __vax__")
"""
ROW = r"""
[[platform]]
name = "linux-vax"
title = "VAX Linux with glibc"
tags = '(manylinux|linux)\w*_x86_64'
markers = { os_name = "posix", platform_machine = "vax", platform_system = "Linux", sys_platform = "linux" }
redist = "linux-vax"
libraries = ["libc.so.6"]
options = { GGML_VAX = "OFF" }

[[oldest_system]]
platform = "linux-vax"
policy = "manylinux_2_99"
architecture = "vax"
glibc = "2.99"
target = "vax-linux-gnu"
loader = "ld-linux-vax.so.1"
symbols = { GLIBC = "2.99" }
"""


@pytest.fixture
def newcomer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    """One module and one row of the catalog, which finds files in the locks, as another platform's tags fit it."""
    facts, modules = tmp_path / "catalog", tmp_path / "platforms"
    shutil.copytree(catalog.FOLDER, facts)
    with (facts / "platforms.toml").open("a", encoding="utf-8") as file:
        file.write(ROW)
    modules.mkdir()
    (modules / "linux_vax.py").write_text(MODULE)
    monkeypatch.setattr(catalog, "FOLDER", facts)
    monkeypatch.setattr(platforms, "__path__", [*platforms.__path__, str(modules)])
    catalog._platforms.cache_clear()
    yield find_platform(MADE_UP)
    catalog._platforms.cache_clear()
    sys.modules.pop("build_matrix.platforms.linux_vax", None)


def test_a_new_platform_is_planned_for_with_one_module_and_one_row(
    newcomer: Platform, machine: Machine, inputs: BuildInputs
) -> None:
    here = msgspec.structs.replace(machine, platform=MADE_UP)
    available = available_toolkits(MADE_UP)
    assert "13.0" in available
    assert set(available) <= set(available_toolkits("linux-x86_64"))
    plan = make_plan(Request(), here, locked_llama_releases(), available)
    assert plan.cell is not None
    assert plan.cell.platform == MADE_UP
    assert all(choice.toolkit for choice in ingredient_choices(plan.cell))
    assert list(supported_platforms())[-1] == MADE_UP
    found = definitions(msgspec.structs.replace(inputs, cell=plan.cell), Path("/work"), ["a/lib"])
    assert (found["GGML_VAX"], found["LLAMA_CUDA_RUNPATH"]) == ("OFF", "$ORIGIN/a/lib")
    assert "GGML_SSE42" not in found
    assert newcomer.oldest_system.glibc == "2.99"


@pytest.mark.usefixtures("newcomer")
def test_a_new_platform_has_cells_and_records_and_files_for_machines_without_network(tmp_path: Path) -> None:
    (tmp_path / "matrix.toml").write_text(
        f'[[cell]]\nllama = "0.3.16"\ncuda = "13.0"\narchitectures = ["89"]\nplatform = "{MADE_UP}"\n'
    )
    assert [cell.name for cell in read_matrix(tmp_path / "matrix.toml").all(MADE_UP)] == ["0.3.16+cu130.sm89"]
    assert Target("3.12", MADE_UP).accepts("a-1-py3-none-manylinux_2_17_x86_64.whl")
    record: WheelRecord = make_record(make_wheel(tmp_path))
    with pytest.raises(NoCompatibleChoiceError, match="for x86-64 Linux with glibc; this machine is VAX Linux"):
        require_platform(record, MADE_UP)
