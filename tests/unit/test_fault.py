"""What no stage explains: a cause of the system in one sentence, or a fault with a report that holds no secret."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from pathlib import Path

import pytest

from build_matrix import cli, redact
from build_matrix.cli import fault, terminal
from build_matrix.errors import (
    BuildMatrixError,
    ConfigurationError,
    DiskFullError,
    DownloadError,
    InternalError,
    MissingPrerequisiteError,
    explain_os_error,
)

KNOWN = [
    *("EACCES", "EPERM", "EROFS", "EIO", "ESTALE", "ENOLCK", "ENOTCONN", "ELOOP", "ENAMETOOLONG", "ENOTDIR"),
    *("EISDIR", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "ENOSPC", "EDQUOT", "EFBIG", "ENOEXEC"),
]


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    return ["build-matrix", "doctor", "--store", str(tmp_path / "store")]


def raised(error: Exception) -> Exception:
    """The same, with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize("name", KNOWN)
def test_what_the_system_refuses_is_a_sentence_with_the_path_and_exit_code_3(name: str, argv: list[str]) -> None:
    number = getattr(errno, name)
    if name == "ENOLCK":
        result: BuildMatrixError | None = explain_os_error(OSError(number, os.strerror(number)), Path("/some/where"))
    else:
        result = fault.explain(OSError(number, os.strerror(number), "/some/where"), argv)
    assert isinstance(result, MissingPrerequisiteError)
    assert result.exit_code == 3
    assert "/some/where" in result.problem
    assert result.remedy.endswith(".")


def test_a_full_disk_names_its_folder_where_it_is_known() -> None:
    assert isinstance(explain_os_error(OSError(errno.ENOSPC, "full"), Path("/store")), DiskFullError)
    unknown = explain_os_error(OSError(errno.ENOSPC, "full"))
    assert unknown
    assert unknown.problem.startswith("A disk is full")


def test_a_lack_of_memory_and_of_threads_are_no_faults_of_the_tool(argv: list[str]) -> None:
    for error in (MemoryError(), RuntimeError("can't start new thread")):
        assert isinstance(fault.explain(error, argv), MissingPrerequisiteError)


def test_a_connection_that_fails_is_exit_code_5_and_tells_no_password(argv: list[str]) -> None:
    result = fault.explain(ConnectionResetError("http://user:hunter2hunter2@127.0.0.1/simple reset"), argv)
    assert isinstance(result, DownloadError)
    assert "hunter2" not in str(result)


def test_a_failure_that_explains_itself_stays_as_it_is(argv: list[str]) -> None:
    error = ConfigurationError("This is wrong.", "Do that.")
    assert fault.explain(error, argv) is error


@pytest.mark.parametrize("error", [ValueError("odd"), RecursionError("deep"), KeyError("k"), OSError("no number")])
def test_the_rest_is_a_fault_with_its_place_in_the_code_and_a_report(error: Exception, argv: list[str]) -> None:
    result = fault.explain(raised(error), argv)
    assert isinstance(result, InternalError)
    assert result.exit_code == 70
    assert type(error).__name__ in result.problem
    report = report_of(result)
    assert report.parent == Path(argv[-1]) / "logs"
    text = report.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert f"{type(error).__name__}" in text
    assert platform_facts(text)
    assert report.stat().st_mode & 0o077 == 0, "others may read it"


def report_of(error: InternalError) -> Path:
    match = re.search(r"\S*fault-\S+\.txt", error.remedy)
    assert match
    return Path(match[0])


def platform_facts(text: str) -> bool:
    return all(
        label in text for label in ("python: ", "platform: ", "arguments: ", "msgspec==", "environment variables")
    )


def test_the_report_holds_names_of_variables_and_neither_values_nor_credentials(
    argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "tok-1234567890abcdef")
    monkeypatch.setenv("ORDINARY_VARIABLE", "an-ordinary-value")
    monkeypatch.setattr(redact, "_known", redact._Known())
    redact.remember_environment(os.environ)
    url = "https://user:hunter2hunter2@index.test/simple"
    result = fault.explain(raised(ValueError(f"{url} tok-1234567890abcdef")), [*argv, "--remote-cache", url])
    assert isinstance(result, InternalError)
    text = report_of(result).read_text(encoding="utf-8") + str(result)
    assert "SOME_SERVICE_TOKEN" in text
    assert "ORDINARY_VARIABLE" in text
    for secret in ("tok-1234567890abcdef", "hunter2", "an-ordinary-value"):
        assert secret not in text


def test_a_report_that_the_store_does_not_take_goes_to_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BUILD_MATRIX_STORE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = fault.explain(raised(ValueError("odd")), ["build-matrix", "doctor", f"--store={tmp_path / 'file' / 'x'}"])
    assert isinstance(result, InternalError)
    assert report_of(result).parent == tmp_path


def test_where_no_report_can_be_written_the_sentence_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BUILD_MATRIX_STORE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    result = fault.explain(raised(ValueError("odd")), ["build-matrix", "doctor"])
    assert isinstance(result, InternalError)
    assert "ValueError: odd" in result.problem
    assert "No report could be written" in result.remedy


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "→ ✗ ü x\\xff"),
        ("ascii", "-> x ? x\\xff"),
        ("latin-1", "-> x ü x\\xff"),
        ("cp1252", "-> x ü x\\xff"),
    ],
)
def test_what_an_output_cannot_encode_has_an_ascii_form(
    monkeypatch: pytest.MonkeyPatch, encoding: str, expected: str
) -> None:
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", None)
    terminal.prepare_streams()
    sys.stdout.write("→ ✗ ü x\udcff")
    sys.stdout.flush()
    assert data.getvalue().decode(encoding) == expected
    sys.stderr.write("goes nowhere")


@pytest.mark.parametrize("columns", ["²", "0", "-5", "garbage", "", "9" * 30])
def test_a_width_that_is_none_is_not_believed(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    from rich.console import Console

    monkeypatch.setenv("COLUMNS", columns)
    terminal.prepare_streams()
    assert Console().width > 0


class _Full(io.RawIOBase):
    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def write(self, _: object) -> int:
        raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize(("number", "code"), [(errno.EPIPE, 141), (errno.ENOSPC, 3), (errno.EIO, 3)])
def test_an_output_that_takes_nothing_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    full = io.TextIOWrapper(io.BufferedWriter(_Full(number)), encoding="utf-8")
    full.write("something")
    monkeypatch.setattr(sys, "stdout", full)
    assert cli._flush() == code
    printed = capsys.readouterr().err
    assert ("cannot be written" in printed) == (code == 3)
