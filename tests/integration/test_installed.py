"""Environments whose llama_cpp does not offload, each made for real, each told apart."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from build_matrix.diagnosis import diagnose_installed
from build_matrix.downloads import create_environment
from build_matrix.errors import ConfigurationError
from build_matrix.model import Driver, Machine
from build_matrix.probe.installed import examine_environment
from libraries import library

pytestmark = pytest.mark.compiler

MODULE = "def llama_supports_gpu_offload():\n    return {}\n"


def environment(folder: Path, needs: tuple[str, ...], offload: bool = False, body: str = MODULE) -> Path:
    """A real environment with a llama_cpp whose library needs these libraries."""
    python = create_environment(folder / "env", folder / "cache")
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    (site / "llama_cpp" / "lib").mkdir(parents=True)
    (site / "llama_cpp" / "__init__.py").write_text(body.format(offload))
    data = library(folder / "built", needs=needs)
    (site / "llama_cpp" / "lib" / "libggml-cuda.so").write_bytes(data)
    return python


def facts(python: Path, machine: Machine) -> str:
    findings = diagnose_installed(examine_environment(python, os.environ), machine)
    return " ".join(finding.fact for finding in findings if not finding.passed)


def with_driver(machine: Machine, cuda: str) -> Machine:
    return msgspec.structs.replace(machine, driver=Driver(version="576.52", cuda=cuda), driver_problem="")


def test_a_cpu_build_is_called_one(tmp_path: Path, machine: Machine) -> None:
    assert "is a CPU build" in facts(environment(tmp_path, ()), machine)


def test_a_wrong_toolkit_is_named_with_the_driver(tmp_path: Path, machine: Machine) -> None:
    said = facts(environment(tmp_path, ("libcudart.so.13",)), with_driver(machine, "12.9"))
    assert "built with CUDA 13, but driver 576.52 supports CUDA up to 12.9" in said
    assert "will not help" in said


def test_missing_libraries_are_named(tmp_path: Path, machine: Machine) -> None:
    assert "libcublas.so.99" in facts(environment(tmp_path, ("libcudart.so.13", "libcublas.so.99")), machine)


def test_a_shadowed_install_is_named(tmp_path: Path, machine: Machine) -> None:
    python = environment(tmp_path, ("libcudart.so.13",))
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    other = tmp_path / "other" / "llama_cpp"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    (site / "other.pth").write_text(str(tmp_path / "other"))
    assert f"hides another llama_cpp: {other}" in facts(python, machine)


def test_an_import_that_ends_the_process_is_a_fact(tmp_path: Path) -> None:
    python = environment(tmp_path, ("libcudart.so.13",), body="import os\nos.abort()\n")
    installed = examine_environment(python, os.environ)
    assert not installed.imports
    assert "ended the process" in installed.message


def test_no_llama_cpp_and_no_python_are_told_apart(tmp_path: Path, machine: Machine) -> None:
    python = create_environment(tmp_path / "env", tmp_path / "cache")
    assert "has no llama_cpp" in facts(python, machine)
    with pytest.raises(ConfigurationError, match="not a working Python"):
        examine_environment(tmp_path / "absent", os.environ)
