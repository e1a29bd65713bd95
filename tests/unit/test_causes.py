"""One cause, one sentence, one remedy: the table is whole, and every use of it gives the facts that it needs."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from build_matrix.diagnosis import page
from build_matrix.diagnosis.causes import BY_NAME, CAUSES, Cause, Group, by_code, by_text, cause
from build_matrix.model import Finding

PACKAGE = Path(__file__).parents[2] / "build_matrix"


@pytest.mark.parametrize("row", CAUSES, ids=lambda row: row.name)
def test_every_row_is_whole(row: Cause) -> None:
    assert row.sentence.endswith((".", "}"))
    assert row.remedy.endswith((".", "}", "`"))
    assert row.signature
    assert row.source
    re.compile(row.line_pattern)
    if row.codes or row.line_pattern:
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


def test_every_group_of_causes_has_its_heading_on_the_page() -> None:
    assert {row.group for row in CAUSES} == set(page.HEADINGS) == set(get_args(Group))


def test_the_module_writes_the_page_when_it_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[Path, str, dict[str, str]]] = []
    monkeypatch.setattr(Path, "write_text", lambda path, text, **how: written.append((path, text, how)))
    runpy.run_path(page.__file__, run_name="another")
    assert written == []
    runpy.run_path(page.__file__, run_name="__main__")
    assert written == [(page.PAGE, page.PAGE.read_text(encoding="utf-8"), {"encoding": "utf-8"})]


def test_what_lies_around_the_generated_part_stays_as_it_is() -> None:
    after = f"\n\nAfter {page.BEGIN} and {page.END}\n"
    made = page.render(f"# Before\n\n{page.BEGIN}\nold\n{page.END}{after}")
    assert made == f"# Before\n\n{page.BEGIN}\n\n{page.tables()}\n\n{page.END}{after}"


@pytest.mark.parametrize("text", [page.BEGIN, page.END, f"{page.END} {page.BEGIN}"])
def test_one_mark_alone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="holds no"):
        page.render(text)


@pytest.mark.parametrize(
    ("sentence", "evidence", "fact"),
    [
        ("It stopped.", "", "It stopped."),
        ("It stopped.", " \n", "It stopped."),
        ("It stopped.", " at once. ", "It stopped: at once."),
        ("It needs AVX.", "not FMAX.", "It needs AVX: not FMAX."),
        ("It stopped at {place}.", "twice", "It stopped at /X/: twice."),
    ],
)
def test_evidence_follows_the_sentence_after_a_colon_and_ends_with_one_stop(
    sentence: str, evidence: str, fact: str
) -> None:
    row = Cause(name="a name", group="GPU", signature="", sentence=sentence, remedy="Look at {place}.", source="")
    finding = row.finding(evidence, place="/X/")
    assert finding == Finding(rule="a name", kind="run", passed=False, fact=fact, remedy="Look at /X/.")


def test_a_placeholder_of_the_sentence_or_of_the_remedy_needs_a_fact() -> None:
    row = Cause(name="", group="GPU", signature="", sentence="{a} {{b}} {c!r}", remedy="{d} {a}", source="")
    assert row.placeholders == {"a", "c", "d"}


# What a row may rest on: a page of the web, a manual page, or a document, a program, a file that is named.
PAGE_OF_THE_WEB = re.compile(r"https://[a-z0-9.]+/[\w./-]+")
MANUAL_PAGE = re.compile(r"[a-z.]+\(\d\)(, \w+)?")
DOCUMENTS = (
    "CUDA ", "NVML ", "UEFI ", "PEP ", "Core metadata", "glibc ", "ggml's log", "ggml-backend.h", "sysfs, /sys/",
    "build_matrix/catalog", "llama_cpp/", "llama_supports_gpu_offload", "ELF header", "DT_NEEDED",
    "ModuleNotFoundError", "Python", "importlib.", "faulthandler", "zipimport", "sys.path", "PATH, CXX",
    "observed with ", "the ", "packages of ",
)  # fmt: skip


@pytest.mark.parametrize("row", CAUSES, ids=lambda row: row.name)
def test_every_row_names_what_it_rests_on(row: Cause) -> None:
    for source in row.source.split("; "):
        known = PAGE_OF_THE_WEB.fullmatch(source) or MANUAL_PAGE.fullmatch(source) or source.startswith(DOCUMENTS)
        assert known, source


# CUDA driver API, enum cudaError_enum.
CODES = {
    2: "out of GPU memory",
    3: "driver not initialized",
    4: "driver not initialized",
    34: "stub library",
    46: "GPU busy",
    100: "no GPU",
    101: "invalid GPU number",
    102: "GPU not licensed",
    200: "unreadable code",
    209: "no code for this GPU",
    214: "GPU lost",
    222: "PTX too new",
    226: "GPU lost",
    300: "unreadable code",
    304: "not permitted",
    500: "library incomplete",
    701: "kernels too large",
    800: "not permitted",
    801: "not supported",
    802: "fabric manager",
    803: "driver mismatch",
    804: "forward compatibility",
    805: "MPS",
    806: "MPS",
    807: "MPS",
    808: "MPS",
    809: "MPS",
    810: "MPS",
    999: "unknown error",
}


@pytest.mark.parametrize("code", [*CODES, 0, 1, 5, 803 + 8])
def test_each_result_of_the_driver_has_its_own_cause(code: int) -> None:
    row = by_code(code)
    assert (row.name if row else None) == CODES.get(code)


def test_no_result_of_the_driver_is_in_the_table_that_is_not_tried_here() -> None:
    assert {code for row in CAUSES for code in row.codes} == set(CODES)


# A line for each way in which each cause is worded: by CUDA's runtime, the driver API's names, NVML, ggml, the loader.
WORDED = {
    "driver too old": (
        "CUDA driver version is insufficient for CUDA runtime version",
        "not loaded: the driver speaks CUDA 12.4, and this build needs CUDA 13.0 or newer",
        "CUDA_ERROR_INSUFFICIENT_DRIVER",
    ),
    "forward compatibility": (
        "forward compatibility was attempted on non supported HW",
        "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        "cuInit: error 804",
    ),
    "PTX too new": (
        "the provided PTX was compiled with an unsupported toolchain.",
        "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    ),
    "no code for this GPU": (
        "no kernel image is available for execution on the device",
        "CUDA_ERROR_NO_BINARY_FOR_GPU",
    ),
    "unreadable code": (
        "device kernel image is invalid",
        "CUDA_ERROR_INVALID_IMAGE",
        "CUDA_ERROR_INVALID_SOURCE",
    ),
    "out of GPU memory": (
        "CUDA error: out of memory",
        "alloc_tensor_range: failed to allocate CUDA0 buffer of size 4096",
        "unable to allocate CUDA12 buffer",
        "CUBLAS_STATUS_ALLOC_FAILED: the resource allocation failed",
        "CUDA_ERROR_MEMORY_ALLOCATION",
    ),
    "kernels too large": ("too many resources requested for launch", "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"),
    "GPU busy": (
        "CUDA-capable device(s) is/are busy or unavailable",
        "all CUDA-capable devices are busy or unavailable",
        "the device is busy or unavailable",
        "CUDA_ERROR_DEVICE_UNAVAILABLE",
    ),
    "GPU lost": (
        "GPU is lost",
        "GPU has fallen off the bus",
        "CUDA_ERROR_DEVICE_LOST",
        "uncorrectable NVLink error detected",
        "uncorrectable ECC error encountered",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "CUDA_ERROR_CONTAINED",
    ),
    "GPU needs a reset": ("GPU requires reset", "GPU requires restart"),
    "library of CUDA missing": (
        "libcudart.so.12: cannot open shared object file: No such file or directory",
        "libcublas.so.13: cannot open shared object file: No such file or directory",
        "libcublasLt.so.11: cannot open shared object file: No such file or directory",
        "libcudart.so.12: version `libcudart.so.12' not found",
        "libcublas.so.12: version `libcublas.so.12' not found",
        "/x/libcublasLt.so.12: version `libcublasLt.so.12' not found",
    ),
    "folder of DLLs not searched": (
        r"Could not find module 'C:\x\llama.dll' (or one of its dependencies)",
        "ImportError: DLL load failed while importing x",
        "[WinError 126] The specified module could not be found",
    ),
    "stub library": (
        "CUDA_ERROR_STUB_LIBRARY",
        "found no usable GPU: error 34",
        "cuInit failed: 34",
        "CUDA driver is a stub library",
    ),
    "fabric manager": (
        "CUDA_ERROR_SYSTEM_NOT_READY",
        "found no usable GPU: error 802",
        "cuInit(0) = 802",
        "system not yet initialized",
    ),
    "driver mismatch": (
        "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        "found no usable GPU: error 803",
        "cuInit returned error 803",
        "system has unsupported display driver / cuda driver combination",
        "Failed to initialize NVML: Driver/library version mismatch",
        "Failed to initialize NVML: NVML/RM version mismatch",
    ),
    "driver not initialized": (
        "CUDA_ERROR_NOT_INITIALIZED",
        "found no usable GPU: error 3",
        "cuInit answered 3.",
    ),
    "MPS": (
        "CUDA_ERROR_MPS_SERVER_NOT_READY",
        "the MPS client failed to connect",
        "an MPS server refused it",
        "MPS daemon is not ready",
        "the MPS client was terminated",
    ),
    "GPU not licensed": (
        "CUDA_ERROR_DEVICE_NOT_LICENSED",
        "found no usable GPU: error 102",
        "cuInit: 102",
    ),
    "not permitted": (
        "CUDA_ERROR_NOT_PERMITTED",
        "CUDA_ERROR_OPERATING_SYSTEM",
        "found no usable GPU: error 304",
        "found no usable GPU: error 800",
        "Insufficient Permissions",
    ),
    "library incomplete": ("CUDA_ERROR_NOT_FOUND", "found no usable GPU: error 500", "cuInit: 500"),
    "not supported": ("CUDA_ERROR_NOT_SUPPORTED", "found no usable GPU: error 801", "cuInit: 801"),
    "invalid GPU number": (
        "CUDA_ERROR_INVALID_DEVICE",
        "found no usable GPU: error 101",
        "cuInit: 101",
        "invalid device ordinal",
    ),
    "unknown error": (
        "failed to initialize CUDA: unknown error",
        "CUDA_ERROR_UNKNOWN",
        "found no usable GPU: error 999",
        "cuInit: 999",
    ),
    "no driver": ("no NVIDIA driver", "libcuda.so.1: cannot open shared object file: No such file or directory"),
    "no GPU": ("CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected", "the driver found no usable GPU: none"),
    "glibc too old": (
        "libc.so.6: version `GLIBC_2.38' not found (required by y)",
        "libm.so.6: version 'GLIBC_2.29' not found",
    ),
    "libstdc++ too old": (
        "libstdc++.so.6: version `GLIBCXX_3.4.32' not found",
        "libstdc++.so.6: version `CXXABI_1.3.15' not found",
        "undefined symbol: _ZNSt15__exception_ptr13exception_ptr9_M_addrefEv",
        "undefined symbol: _ZNKSt7__cxx1112basic_stringIcE",
        "undefined symbol: _ZSt28__throw_bad_array_new_lengthv",
        "undefined symbol: _ZNSolsEi",
    ),
    "system library too old": ("libgomp.so.1: version `GOMP_5.0' not found", "version 'OPENSSL_3.0.0' not found"),
    "mixed versions": (
        "undefined symbol: llama_kv_cache_view_init",
        "undefined symbol: ggml_backend_load",
        "undefined symbol: gguf_init_empty",
        "undefined symbol: mtmd_tokenize",
        "undefined symbol: llava_eval",
        "undefined symbol: clip_free",
        "symbol not found: llama_decode",
        "symbol(s) not found: ggml_add",
        "symbols were not found: mtmd_free",
        "symbol found: llama_x",
        "AttributeError: function 'llama_backend_init' not found",
        "function 'ggml_add' not found",
        "function 'mtmd_free' not found",
    ),
    "undefined symbol": (
        "undefined symbol: cublasGemmEx, version libcublas.so.12",
        "symbol x, version Y not defined in file libz.so.1 with link time reference",
        "symbol not found in flat namespace",
    ),
    "damaged library": (
        "invalid ELF header",
        "file too short",
        "wrong ELF class: ELFCLASS32",
        "ELF load command past end of file",
        "[WinError 193] %1 is not a valid Win32 application",
        "not a mach-o file",
    ),
    "no code from this folder": (
        "failed to map segment from shared object",
        "cannot open shared object file: Permission denied",
    ),
    "executable stack": ("cannot enable executable stack as shared object requires",),
    "static TLS": ("cannot allocate memory in static TLS block",),
    "no library in the package": (
        "Shared library with base name 'llama' not found",
        "Failed to load 'ggml' from [PosixPath('y')]",
    ),
}


def test_every_cause_that_a_log_may_name_has_its_wordings_here() -> None:
    assert {row.name for row in CAUSES if row.line_pattern} == set(WORDED)


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in WORDED.items() for line in lines])
def test_each_wording_of_a_cause_is_recognised_in_any_case_and_by_its_own_row(name: str, line: str) -> None:
    for text in (line, line.lower(), line.upper(), f"0.01.234 E x: {line} (y)"):
        matched = by_text((text,))
        assert matched is not None
        assert (matched[0].name, matched[1]) == (name, text)


@pytest.mark.parametrize(
    "line",
    [
        "terror 804",
        "error 8041",
        "MY_CUDA_ERROR_NOT_FOUND",
        "CUDA_ERROR_NOT_FOUND_HERE",
        "recuInit: 802",
        f"cuInit {'.' * 60} 802",
        "cuInit: 8023",
        "layout of memory",
        "out of memoryless",
        "failed to allocate CUDA buffer",
        "failed to allocate CPU buffer",
        "libcudart.so: cannot open shared object file",
        "devices and busy or unavailable",
        "RAMPS client failed",
        "CUDA_ERROR_MPS_",
        "the MPS client is ready",
        "version `GLIBC_2.38'",
        "function 'other_free' not found",
        "function llama_decode not found",
        "undefined symbol: ",
    ],
)
def test_what_only_resembles_a_wording_is_no_cause(line: str) -> None:
    assert by_text((line,)) is None


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
