"""A sha256 in the docs stands beside the commit that gives it, and was written by the tool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from build_matrix.errors import ConfigurationError
from build_matrix.model import BuildFacts, BuildInputs, SystemNeeds, WheelRecord
from build_matrix.reproduce import clean_commit, note
from build_matrix.reproduce.figures import END, PAGE, START, TABLE, Figure, read_figures, rewritten

ROOT = Path(__file__).parents[2]


def git(folder: Path, *argv: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *argv], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone with the page, and nothing else."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    folder = tmp_path / "clone"
    for path in (PAGE, TABLE):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text(f"Before.\n\n{START}\n{END}\n\nAfter.\n")
    (folder / ".gitignore").write_text("wheels/\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


@pytest.fixture
def record(inputs: BuildInputs) -> WheelRecord:
    facts = BuildFacts(
        generator="Ninja", architectures=(), cuda_compiler="", cuda_compiler_version="", cxx_compiler_version="",
        cmake_version="", steps=1,
    )  # fmt: skip
    return WheelRecord(
        filename="llama_cpp_python-0.3.16+cu130.sm89-py3-none-manylinux_2_27_x86_64.whl",
        sha256="a" * 64,
        size=13_400_000,
        unpacked_size=1,
        cell=inputs.cell,
        sdist=inputs.source.sdist,
        patches=(),
        toolkit=(),
        toolkit_release="",
        build_environment=(),
        sysroot=(),
        host_compiler=msgspec.structs.replace(inputs.compiler, description="gcc 12.2.0 (Debian)"),
        python="3.11.2",
        flags={},
        facts=facts,
        libraries=(),
        system=SystemNeeds(tag="manylinux_2_27_x86_64", symbols={}),
        tool="build-matrix",
    )


def test_the_commit_is_named_only_where_nothing_differs_from_it(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = clean_commit(checkout)
    assert len(commit) == 40
    (checkout / "wheels").mkdir()
    (checkout / "wheels" / "a.whl").touch()  # git does not look there
    assert clean_commit(checkout) == commit
    (checkout / "new.py").touch()
    with pytest.raises(ConfigurationError, match=r"has uncommitted changes \(new\.py\)") as caught:
        clean_commit(checkout)
    assert caught.value.exit_code == 2
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ConfigurationError, match="git finds no commit"):
        clean_commit(tmp_path)


def test_a_git_that_hangs_or_fails_names_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[dict[str, object]] = []

    def run(argv: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        given.append(how)
        if len(given) > 2:
            raise subprocess.TimeoutExpired(argv, 30)
        return subprocess.CompletedProcess(argv, 0, stdout=" 1234\n" if argv[3] == "rev-parse" else "")

    monkeypatch.setattr(subprocess, "run", run)
    assert clean_commit(tmp_path) == "1234"
    assert [(how["timeout"], how["check"], how["encoding"]) for how in given] == [(30, True, "utf-8")] * 2
    with pytest.raises(ConfigurationError, match=r"git finds no commit here: .*30 seconds"):
        clean_commit(tmp_path)


def test_a_wheel_is_noted_in_the_table_and_on_the_page_once(checkout: Path, record: WheelRecord) -> None:
    note(record, "1" * 40, "glibc 2.36", checkout)
    other = msgspec.structs.replace(record, filename="llama_cpp_python-0.3.36.whl", sha256="b" * 64)
    note(other, "2" * 40, "glibc 2.36", checkout)
    note(msgspec.structs.replace(record, sha256="c" * 64), "3" * 40, "glibc 2.36", checkout)
    figures = read_figures(checkout / TABLE).wheel
    assert [(one.sha256[0], one.commit[0]) for one in figures] == [("c", "3"), ("b", "2")]
    page = (checkout / PAGE).read_text()
    assert page.startswith("Before.\n")
    assert page.endswith("After.\n")
    row = f"| `{record.filename}` | `{'c' * 64}` | 13.4 | `333333333333` | gcc 12.2.0 (Debian); glibc 2.36 |"
    assert row in page
    assert "a" * 64 not in page


def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert read_figures(tmp_path / "absent.toml").wheel == ()
    (tmp_path / "wheels.toml").write_text("[[wheel]]\nfilename = 1\n")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_figures(tmp_path / "wheels.toml")


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks"):
        rewritten("no marks", [])


def test_the_table_stands_between_its_marks_and_nothing_does_where_there_is_no_figure() -> None:
    figure = Figure(
        filename="a.whl", sha256="b" * 64, size=12_340_000, commit="c" * 40, compiler="gcc 12", libc="glibc 2.36"
    )
    rows = [
        "| wheel | sha256 | MB | commit | built with |",
        "|---|---|---|---|---|",
        f"| `a.whl` | `{'b' * 64}` | 12.3 | `cccccccccccc` | gcc 12; glibc 2.36 |",
        f"| `d.whl` | `{'b' * 64}` | 12.3 | `cccccccccccc` | gcc 12; glibc 2.36 |",
    ]
    page = f"Before {START} what was there {END} after {START} {END}."
    figures = [figure, msgspec.structs.replace(figure, filename="d.whl")]
    table = "\n".join(rows)
    assert rewritten(page, figures) == f"Before {START}\n\n{table}\n\n{END} after {START} {END}."
    assert rewritten(page, []) == f"Before {START}\n{END} after {START} {END}."
    for half in (START, END, f"{END}{START}"):
        with pytest.raises(ValueError, match="generated"):
            rewritten(half, figures)


def test_the_page_shows_the_table_and_names_no_other_wheel() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    figures = read_figures(ROOT / TABLE).wheel
    assert rewritten(page, figures) == page
    outside = page.partition(START)[0] + page.partition(END)[2]
    assert not [word for word in outside.split("`") if len(word) == 64]


def test_a_figure_is_of_a_whole_file() -> None:
    for figure in read_figures(ROOT / TABLE).wheel:
        assert isinstance(figure, Figure)
        assert (len(figure.sha256), len(figure.commit)) == (64, 40)
