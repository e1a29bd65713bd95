"""Several cells in one command: one that fails does not stop the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from contexts import in_context

from build_matrix.cli.build import build_cells
from build_matrix.errors import CellsFailedError, CompileError, ConfigurationError, DownloadError
from build_matrix.model import Conditions, Request
from build_matrix.pipeline import build

MATRIX = "".join(
    f'[[cell]]\nllama = "{llama}"\ncuda = "{cuda}"\narchitectures = ["89"]\n'
    for llama, cuda in (("0.3.16", "12.4"), ("0.3.16", "13.0"), ("0.3.36", "13.0"))
)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Request]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matrix.toml").write_text(MATRIX)
    return build.requests_of_matrix(Request(profile="check"), None, "linux-x86_64")


class _Wheel:
    class record:  # noqa: N801
        size = 2_000_000

    path = Path("a.whl")


def test_each_cell_is_a_request_for_another_machine(asked: dict[str, Request]) -> None:
    assert list(asked) == ["0.3.16+cu124.sm89", "0.3.16+cu130.sm89", "0.3.36+cu130.sm89"]
    assert {(request.profile, request.ignore_driver) for request in asked.values()} == {("check", True)}
    assert list(build.requests_of_matrix(Request(), ["0.3.36+cu130.sm89"], "linux-x86_64")) == ["0.3.36+cu130.sm89"]
    with pytest.raises(ConfigurationError, match="Leave out"):
        build.requests_of_matrix(Request(llama="0.3.16"), None, "linux-x86_64")


def test_cells_that_fail_are_named_at_the_end_with_the_first_ones_exit_code(
    asked: dict[str, Request],
    monkeypatch: pytest.MonkeyPatch,
    reporter: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tried = []

    def one(_context: object, request: Request, _options: object) -> Any:
        tried.append(request)
        if request.cuda == "12.4":
            raise DownloadError("No archive.", "Mend it.")
        if request.llama == "0.3.36":
            raise CompileError("No.", "Mend it.")
        return build.Built(_Wheel)  # type: ignore[arg-type]

    monkeypatch.setattr(build, "build_one", one)
    options = build.BuildOptions(Conditions(jobs=1), Path("wheels"), verify=False)
    with pytest.raises(
        CellsFailedError, match=r"2 of 3 cells failed: 0\.3\.16\+cu124\.sm89, 0\.3\.36\+cu130\.sm89"
    ) as caught:
        build_cells(in_context(None, reporter=reporter), asked, options)
    assert len(tried) == 3
    assert caught.value.exit_code == DownloadError.exit_code
    printed = capsys.readouterr().out
    assert "failed (5): No archive." in printed
    assert "a.whl" in printed
