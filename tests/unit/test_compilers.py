"""Compilers are told apart by what they say, and known by what they consist of."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from build_matrix.catalog import llama_releases, toolkits
from build_matrix.errors import MissingPrerequisiteError
from build_matrix.model import HostCompiler
from build_matrix.probe.compilers import examine_msvc, find_compilers
from build_matrix.resolve import compiler_accepted


def script(path: Path, text: str, code: int = 0) -> Path:
    path.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_msvc_is_read_from_its_banner(tmp_path: Path) -> None:
    banner = "Microsoft (R) C/C++ Optimizing Compiler Version 19.44.35207 for x64"
    found = examine_msvc(script(tmp_path / "cl", banner, code=2))
    assert found is not None
    assert (found.name, found.version, found.major) == ("msvc", "19.44.35207", 1944)
    assert examine_msvc(script(tmp_path / "other", "usage: cl")) is None


@pytest.mark.parametrize(
    ("version", "cuda", "accepted"),
    [("19.44", "13.0", True), ("19.50", "13.0", False), ("19.50", "13.2", True), ("19.44", "12.3", False)],
)
def test_msvc_is_accepted_as_host_config_says(gcc: HostCompiler, version: str, cuda: str, accepted: bool) -> None:
    compiler = msgspec.structs.replace(gcc, name="msvc", version=version)
    assert compiler_accepted(toolkits()[cuda], llama_releases()["0.3.16"], compiler).passed == accepted


@pytest.mark.compiler
def test_the_same_compiler_by_another_name_is_one_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_compilers()[0]
    (tmp_path / "g++").symlink_to(Path(real.cxx).resolve())
    (tmp_path / "gcc").symlink_to(Path(real.cc).resolve())
    monkeypatch.setenv("CXX", str(tmp_path / "g++"))
    (named,) = find_compilers()
    assert named.identity == real.identity


def test_a_cxx_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingPrerequisiteError, match="no-such-compiler"):
        find_compilers()
