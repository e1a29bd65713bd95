"""Which installed toolkits are found, whatever the variables that should name them hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_matrix.model import InstalledToolkit
from build_matrix.probe import free_memory, named_program, probe, toolkits
from build_matrix.probe import nvidia as nvidia_module
from build_matrix.probe.toolkits import find_toolkits

ANSWER = "#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.131'\n"


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkits, "FOLDERS", ())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return toolkit(tmp_path / "cuda 12")


def toolkit(folder: Path, script: str = ANSWER) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "nvcc").write_text(script)
    (folder / "bin" / "nvcc").chmod(0o755)
    return folder


def only(**environ: str) -> InstalledToolkit:
    (found,) = find_toolkits({"PATH": "", **environ})
    return found


@pytest.mark.parametrize("text", ["nvcc", "ccache nvcc", "sccache  nvcc -Xptxas -v", " nvcc "])
def test_cudacxx_may_be_a_bare_name_with_launchers_and_flags(root: Path, text: str) -> None:
    found = only(CUDACXX=text, PATH=str(root / "bin"))
    assert (found.version, found.root, found.source) == ("12.4.131", str(root), "CUDACXX")


@pytest.mark.parametrize("text", ["{root}/bin/nvcc", "'{root}/bin/nvcc' -v", "ccache '{root}/bin/nvcc'"])
def test_cudacxx_may_be_a_path_with_blanks(root: Path, text: str) -> None:
    assert only(CUDACXX=text.format(root=root)).version == "12.4.131"


@pytest.mark.parametrize("text", ["nvcc", "/absent/nvcc", '"never closed', "ccache", "-v", "ccache absent"])
def test_a_cudacxx_that_names_nothing_is_said(text: str) -> None:
    found = only(CUDACXX=text)
    assert (found.version, found.root, found.problem) == ("", text, "it is not a program that can be run")


@pytest.mark.parametrize("name", ["CUDACXX", "CUDA_HOME", "CUDA_PATH", "CUDAToolkit_ROOT", "CUDA_PATH_V12_4"])
@pytest.mark.parametrize("value", ["", "  "])
def test_a_variable_that_is_empty_counts_as_unset(name: str, value: str) -> None:
    assert find_toolkits({"PATH": "", name: value}) == ()


def test_a_root_may_be_relative_below_home_or_one_of_several(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for value in (str(root), "cuda 12", "~/cuda 12", f"{root}:"):
        assert only(CUDA_HOME=value).version == "12.4.131"
    found = find_toolkits({"PATH": "", "CUDA_HOME": f"/absent:{root}"})
    assert [(one.version, one.problem) for one in found] == [("12.4.131", ""), ("", "there is no nvcc in that folder")]


def test_what_a_root_is_instead_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert only(CUDA_HOME=str(tmp_path / "file")).problem == "it is a file, not a folder"
    assert only(CUDA_HOME=str(tmp_path)).problem == "there is no nvcc in that folder"
    assert only(CUDA_HOME=str(tmp_path / "loop")).problem == "there is no nvcc in that folder"
    assert only(CUDA_HOME="x" * 300).problem == "there is no nvcc in that folder"


@pytest.mark.usefixtures("without_privileges")
def test_a_folder_that_cannot_be_entered_is_said_and_the_others_stand(root: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    found = find_toolkits({"PATH": f"{closed}:{root}/bin", "CUDA_HOME": str(closed / "cuda")})
    assert [one.version for one in found] == ["12.4.131", ""]
    assert found[1].problem == "this user cannot read that folder"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("#!/no/such/interpreter\n", "nvcc cannot be run: No such file or directory"),
        ("nonsense", "nvcc cannot be run: Exec format error"),
        ("#!/bin/sh\nkill -SEGV $$\n", "nvcc does not report its version"),
        ("#!/bin/sh\nexit 3\n", "nvcc does not report its version"),
        ("#!/bin/sh\nprintf '\\377\\376'\n", "nvcc does not report its version"),
        ("#!/bin/sh\nsleep 600\n", "nvcc does not respond"),
    ],
)
def test_an_nvcc_that_does_not_work_is_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: str
) -> None:
    monkeypatch.setattr(toolkits, "SECONDS", 2.0)
    assert only(CUDA_HOME=str(toolkit(tmp_path / "t", script))).problem == problem


def test_an_nvcc_that_is_a_folder_or_must_not_be_run_is_data(tmp_path: Path) -> None:
    (tmp_path / "folder" / "bin" / "nvcc").mkdir(parents=True)
    toolkit(tmp_path / "closed")
    (tmp_path / "closed" / "bin" / "nvcc").chmod(0o644)
    for name in ("folder", "closed"):
        assert only(CUDA_PATH=str(tmp_path / name)).problem == "nvcc cannot be run: Permission denied"


def test_a_program_is_named_by_path_by_name_or_behind_a_launcher(root: Path) -> None:
    environ = {"PATH": str(root / "bin")}
    expected = root / "bin" / "nvcc"
    for text in ("nvcc", str(expected), "ccache nvcc -x", f"/usr/bin/ccache '{expected}'"):
        assert named_program(text, environ) == expected
    for text in ("", "ccache", "absent", "absent nvcc"):
        assert named_program(text, environ) is None


def test_a_part_of_the_examination_that_fails_is_named_and_the_others_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise IndexError("nobody foresaw this")

    monkeypatch.setattr("build_matrix.probe.probe_nvidia", fail)
    monkeypatch.setattr("build_matrix.probe.find_toolkits", fail)
    monkeypatch.setattr("platform.libc_ver", fail)
    machine = probe(tmp_path / "absent" / "store", {"PATH": ""})
    assert [problem.partition(" (")[0] for problem in machine.problems] == [
        "the driver and the GPUs",
        "the C library",
        "the installed toolkits",
    ]
    assert all("IndexError: nobody foresaw this" in problem for problem in machine.problems)
    assert machine.driver is None
    assert machine.driver_problem == "the driver cannot be examined"
    assert (machine.cpus >= 1, machine.memory > 0, machine.disk_free > 0) == (True, True, True)
    assert nvidia_module.probe_nvidia is not fail


@pytest.mark.parametrize(("text", "bounded"), [("1000000", True), ("max", False), ("", False), ("x", False)])
def test_memory_limits_of_control_groups_are_read_where_they_are_numbers(
    tmp_path: Path, text: str, *, bounded: bool
) -> None:
    (tmp_path / "limit").write_text(text)
    assert (free_memory(tmp_path / "limit") == 1000000) == bounded
    assert free_memory(tmp_path / "limit", tmp_path / "absent") > 0


def test_a_limit_that_means_none_does_not_bound(tmp_path: Path) -> None:
    (tmp_path / "v1").write_text("9223372036854771712\n")  # "unlimited" of version 1
    assert free_memory(tmp_path / "v1") < 1 << 60
