"""What did CMake choose? Asked of its File API, not of its log (cmake-file-api(7))."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from build_matrix.errors import CompileError
from build_matrix.model import Architecture, BuildFacts, Cell, Toolchain

API = Path(".cmake/api/v1")
CLIENT = "client-build-matrix"
KINDS = ("codemodel-v2", "toolchains-v1", "cmakeFiles-v1")

_CUDA_VERSION = re.compile(r'set\(CMAKE_CUDA_COMPILER_VERSION "(?P<version>[\d.]+)"\)')
_GENCODE = re.compile(r"--generate-code=arch=\w+,code=(?P<code>\w+)")
_CODE = re.compile(r"(?P<kind>sm|compute)_(?P<number>\d+)(?P<feature>[af]?)")


def write_query(build: Path) -> None:
    """Ask CMake to leave its answers in ``build`` when it configures."""
    folder = build / API / "query" / CLIENT
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (folder / kind).touch()


def read_facts(build: Path, cmake_path: Path | None = None) -> BuildFacts:
    """CMake's answers from ``build``, which CMake saw as ``cmake_path``; raises CompileError when there are none."""
    reply = build / API / "reply"
    indexes = sorted(reply.glob("index-*.json"))
    if not indexes:
        raise CompileError("CMake's File API gave no answer.", "Report this with the full log.")
    index = _read(indexes[-1])
    answers = index["reply"][CLIENT]
    compilers = {
        item["language"]: item["compiler"] for item in _read(reply / answers["toolchains-v1"]["jsonFile"])["toolchains"]
    }
    if "CUDA" not in compilers:
        raise CompileError("CMake configured a build without CUDA.", "Report this with the full log.")
    codemodel = _read(reply / answers["codemodel-v2"]["jsonFile"])
    return BuildFacts(
        generator=index["cmake"]["generator"]["name"],
        architectures=_architectures(reply, codemodel),
        cuda_compiler=compilers["CUDA"]["path"],
        cuda_compiler_version=_cuda_version(
            build, cmake_path or build, _read(reply / answers["cmakeFiles-v1"]["jsonFile"])
        ),
        cxx_compiler_version=compilers["CXX"]["version"],
        cmake_version=index["cmake"]["version"]["string"],
        steps=0,
    )


def check_facts(facts: BuildFacts, cell: Cell, toolchain: Toolchain) -> None:
    """Check that CMake chose what was asked of it; raises CompileError naming what differs."""
    requested = tuple(sorted(a.cmake for a in cell.architectures))
    expectations = (
        ("generator", facts.generator, "Ninja"),
        ("architectures", facts.architectures, requested),
        ("CUDA compiler", facts.cuda_compiler, str(toolchain.nvcc)),
        ("CUDA compiler version", facts.cuda_compiler_version, toolchain.nvcc_version),
    )
    for name, actual, expected in expectations:
        if actual != expected:
            raise CompileError(
                f"CMake chose another {name}: {actual} instead of {expected}.",
                "Nothing was compiled. Remove the last --define, or report this with the full log.",
            )


def _cuda_version(build: Path, cmake_path: Path, files: dict[str, Any]) -> str:
    """Version of nvcc, from the file in which CMake wrote what it found; the File API lists it among its inputs.

    llama.cpp enables CUDA in a subfolder, and then the toolchains answer leaves the version out.
    """
    for entry in files["inputs"]:
        if entry["path"].endswith("/CMakeCUDACompiler.cmake"):
            path = Path(entry["path"])
            path = build / (path.relative_to(cmake_path) if path.is_relative_to(cmake_path) else path)
            match = _CUDA_VERSION.search(path.read_text(encoding="utf-8"))
            return match["version"] if match else ""
    return ""


def _architectures(reply: Path, codemodel: dict[str, Any]) -> tuple[str, ...]:
    """The architectures in the CUDA compile lines of all targets, as CMake writes them."""
    names: set[str] = set()
    for entry in codemodel["configurations"][0]["targets"]:
        for group in _read(reply / entry["jsonFile"]).get("compileGroups", []):
            if group["language"] != "CUDA":
                continue
            for fragment in group.get("compileCommandFragments", []):
                names |= {_cmake_name(gencode["code"]) for gencode in _GENCODE.finditer(fragment["fragment"])}
    return tuple(sorted(names))


def _cmake_name(code: str) -> str:
    match = _CODE.fullmatch(code)
    if not match:
        return code
    kind: Literal["real", "virtual"] = "real" if match["kind"] == "sm" else "virtual"
    return Architecture(number=int(match["number"]), feature=match["feature"], kind=kind).cmake


def _read(path: Path) -> dict[str, Any]:
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
