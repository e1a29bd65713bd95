"""One cause, one sentence, one remedy: the table is whole, and every use of it gives the facts that it needs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from build_matrix.diagnosis import page
from build_matrix.diagnosis.causes import BY_NAME, CAUSES, Cause, by_code, by_text, cause

PACKAGE = Path(__file__).parents[2] / "build_matrix"


@pytest.mark.parametrize("row", CAUSES, ids=lambda row: row.name)
def test_every_row_is_whole(row: Cause) -> None:
    assert row.sentence.endswith((".", "}"))
    assert row.remedy.endswith((".", "}", "`"))
    assert row.signature
    assert row.source
    re.compile(row.line_pattern)
    if row.codes or row.pattern:
        assert not row.placeholders, "a code or a line of a log gives no facts to fill them with"


def test_names_and_codes_are_of_one_row_each() -> None:
    assert len(BY_NAME) == len(CAUSES)
    codes = [code for row in CAUSES for code in row.codes]
    assert len(codes) == len(set(codes))
    assert all(by_code(code) == row for row in CAUSES for code in row.codes)
    assert by_code(12345) is None


def test_a_placeholder_without_its_fact_is_an_error() -> None:
    with pytest.raises(KeyError):
        cause("hidden").finding(value="1")
    with pytest.raises(KeyError):
        cause("no such cause")


def test_a_finding_has_sentence_evidence_and_remedy() -> None:
    finding = cause("driver mismatch").finding(evidence=" library 580.1, module 575.2. ")
    assert finding.fact.endswith("of different versions: library 580.1, module 575.2.")
    assert (finding.rule, finding.kind, finding.passed) == ("kernel module", "run", False)
    assert finding.remedy == cause("driver mismatch").remedy
    plain = cause("no driver").finding()
    assert (plain.rule, plain.fact) == ("no driver", "There is no NVIDIA driver.")


def uses() -> Iterator[tuple[str, ast.Call, str]]:
    """Each ``cause("name").finding(...)`` of the package: the name, the call, where it is."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            row: Any = node.func.value
            if node.func.attr == "finding" and isinstance(row, ast.Call) and getattr(row.func, "id", "") == "cause":
                name = row.args[0]
                if isinstance(name, ast.Constant):
                    yield str(name.value), node, f"{path.relative_to(PACKAGE)}:{node.lineno}"


def test_every_use_names_a_row_and_gives_its_facts() -> None:
    found = list(uses())
    assert len(found) > 20
    for name, call, where in found:
        assert name in BY_NAME, where
        given = {keyword.arg for keyword in call.keywords}
        if None not in given:  # no ** that brings more
            assert given - {"evidence"} == BY_NAME[name].placeholders, where


def test_the_page_is_generated_from_the_table() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.render(text), "run `python -m build_matrix.diagnosis.page`"
    assert all(f"| {row.name}" in text for row in CAUSES)


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no"):
        page.render("# nothing")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (2, "out of GPU memory"),
        (3, "driver not initialized"),
        (34, "stub library"),
        (46, "GPU busy"),
        (100, "no GPU"),
        (101, "invalid GPU number"),
        (102, "GPU not licensed"),
        (209, "no code for this GPU"),
        (214, "GPU lost"),
        (222, "PTX too new"),
        (304, "not permitted"),
        (500, "library incomplete"),
        (801, "not supported"),
        (802, "fabric manager"),
        (803, "driver mismatch"),
        (804, "forward compatibility"),
        (805, "MPS"),
        (999, "unknown error"),
    ],
)
def test_each_result_of_the_driver_has_its_own_cause(code: int, name: str) -> None:
    row = by_code(code)
    assert row is not None
    assert row.name == name


# Lines of logs in public reports, with the result of the driver API that they stand for.
REPORTED = [
    ("ggml_cuda_init: failed to initialize CUDA: forward compatibility was attempted on non supported HW", 804),
    ("ggml_cuda_init: failed to initialize CUDA: system not yet initialized", 802),
    ("ggml_cuda_init: failed to initialize CUDA: unknown error", 999),
    ("ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected", 100),
    ("ggml_cuda_init: failed to initialize CUDA: invalid device ordinal", 101),
    ("Failed to initialize NVML: Driver/library version mismatch", 803),
    ("RuntimeError: system has unsupported display driver / cuda driver combination (803)", 803),
    ("cuInit failed with 802", 802),
    ("cuInit(0) returned 3", 3),
    ("CUDA error: CUDA driver is a stub library", 34),
    ("the driver found no usable GPU: CUDA_ERROR_STUB_LIBRARY", 34),
    ("the driver found no usable GPU: CUDA_ERROR_OPERATING_SYSTEM", 304),
    ("the driver found no usable GPU: error 802", 802),
    ("the driver found no usable GPU: CUDA_ERROR_MPS_CONNECTION_FAILED", 805),
    ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", 46),
    ("CUDA error: unspecified launch failure", None),
    ("llama_model_load: error loading model: unknown error", None),
]


@pytest.mark.parametrize(("line", "code"), REPORTED)
def test_a_line_of_a_log_means_what_the_code_means(line: str, code: int | None) -> None:
    matched = by_text(("before", f"  {line}  ", "after"))
    if code is None:
        assert matched is None
    else:
        assert matched is not None
        assert matched == (by_code(code), line)


def test_the_order_of_the_table_decides_before_that_of_the_lines() -> None:
    matched = by_text(("libcuda.so.1: cannot open shared object file", "CUDA error: out of memory"))
    assert matched is not None
    assert matched[0].name == "out of GPU memory"
