"""The command line: one sentence, a remedy, an exit code, and never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run_tool

from build_matrix import errors
from build_matrix.cli import main
from build_matrix.downloads import transport


def tool(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_tool(argv, os.environ | variables)


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("build", "--arch", "banana"), 2, "'banana' is not a CUDA architecture"),
        (("build", "--arch", "52", "--cuda", "13"), 4, "cannot compile for architecture 52"),
        (("build", "--llama", "9.9.9"), 2, "9.9.9 is not locked"),
        (("build", "--cuda", "14"), 2, "CUDA 14 is not in the catalog"),
        (("build", "--cuda", "12.0"), 4, "CUDA 12.0 is not locked"),
        (("build", "--cell", "banana"), 2, "matrix.toml has no cell 'banana'"),
        (("build", "--all", "--cuda", "13"), 2, "--all and --cell take the CUDA version"),
        (("build", "--toolkit-root", "/nowhere"), 2, "holds no CUDA toolkit"),
        (("build", "--define", "GGML_AVX"), 2, "is not NAME=VALUE"),
        (("build", "--profile", "debug"), 2, "no profile 'debug'"),
        (("build", "--jobs", "0"), 2, "--jobs"),
        (("build", "--no-such-option"), 2, "No such option"),
        (("verify", "absent.whl"), 2, "no wheel absent.whl"),
    ],
)
def test_bad_input_is_a_sentence_and_an_exit_code(
    tmp_path: Path, argv: tuple[str, ...], code: int, message: str
) -> None:
    done = tool(*argv, BUILD_MATRIX_STORE=str(tmp_path / "store"))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_no_compiler_is_exit_code_3(tmp_path: Path) -> None:
    done = tool("build", PATH=str(tmp_path), BUILD_MATRIX_STORE=str(tmp_path / "store"), CXX="")
    assert (done.returncode, "apt install g++" in done.stderr) == (3, True)


def test_a_cxx_that_is_no_compiler_is_exit_code_3(tmp_path: Path) -> None:
    done = tool("build", CXX=sys.executable, BUILD_MATRIX_STORE=str(tmp_path / "store"))
    assert (done.returncode, "not a C++ compiler" in done.stderr) == (3, True)


@pytest.mark.compiler
def test_a_store_that_cannot_be_written_is_exit_code_3() -> None:
    done = tool("build", "--store", "/proc/build-matrix")
    assert (done.returncode, "--store" in done.stderr) == (3, True)


@pytest.mark.compiler
def test_an_index_that_cannot_be_reached_is_exit_code_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, where the pauses between attempts can be left out: they add up to half a minute."""
    monkeypatch.setattr(transport, "BACKOFF", 0.0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple/")
    monkeypatch.setattr(sys, "argv", ["build-matrix", "build", "--store", str(tmp_path / "store")])
    with pytest.raises(SystemExit) as caught:
        main()
    shown = capsys.readouterr().err
    assert caught.value.code == 5, shown
    assert "127.0.0.1 cannot be reached" in shown
    assert "Traceback" not in shown
    assert not [p for p in (tmp_path / "store" / "work").iterdir() if p.name.endswith(".new")]


def test_no_wheel_to_verify_is_exit_code_2(tmp_path: Path) -> None:
    done = tool("verify", "--wheels", str(tmp_path), BUILD_MATRIX_STORE=str(tmp_path / "store"))
    assert (done.returncode, "nox -s build-cuda13" in done.stderr) == (2, True)


def test_help_names_every_subcommand() -> None:
    done = tool("--help")
    assert done.returncode == 0
    for name in ("build", "verify", "lock"):
        assert name in done.stdout


def test_every_kind_of_failure_has_an_exit_code_of_the_table() -> None:
    kinds = [errors.BuildMatrixError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {kind.exit_code for kind in kinds[1:]} == {2, 3, 4, 5, 6, 7, 8, 70, 130}
    assert all(kind.__doc__ for kind in kinds)
