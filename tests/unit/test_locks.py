"""The locks name what is downloaded, by content, and nobody's index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from build_matrix.catalog import platforms, toolkits
from build_matrix.downloads import available_toolkits, ingredient_choices
from build_matrix.errors import ConfigurationError
from build_matrix.locks import (
    DEV,
    FOLDER,
    TOOL,
    locked_llama_releases,
    locked_toolkits,
    read_lock,
    select_platform,
    select_wheels,
    wheel_platforms,
)
from build_matrix.locks.needed import read_tool_lock
from build_matrix.model import Cell, Lock, LockedFile, LockedPackage
from build_matrix.pipeline.lock import check_same_release

ROOT = Path(__file__).parents[2]
TOML_LOCKS = sorted(p.stem for p in FOLDER.glob("*.toml") if p.stem not in {"inputs", "options"})


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.*t*")), ids=lambda p: p.name)
def test_no_lock_names_an_index_or_any_other_host(path) -> None:  # type: ignore[no-untyped-def]
    assert not re.search(r"https?:|[\w-]+\.(org|com|io|net)\b|index-url", path.read_text())


def test_what_developers_install_holds_what_users_install_and_users_install_no_more_than_the_tool_needs() -> None:
    tool, dev = read_tool_lock(TOOL), read_tool_lock(DEV)
    assert set(tool) < set(dev)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    own, extra = (re.findall(r'^    "([A-Za-z0-9-]+)', part, re.MULTILINE) for part in _dependencies(project))
    names = {item.requirement.name for item in tool}
    assert {name.lower() for name in own} <= names
    assert not {"nox", "pytest", "pytest-xdist", "mypy", "ruff", "hypothesis", "mutmut"} & names
    assert {name.lower() for name in extra} <= {item.requirement.name for item in dev}


def _dependencies(project: str) -> tuple[str, str]:
    """The lines of the project's dependencies, and of those of its development."""
    own, _, rest = project.partition("dependencies = [")[2].partition("]\n")
    return own, rest.partition("dev = [")[2].partition("]\n")[0]


@pytest.mark.parametrize("name", TOML_LOCKS)
def test_every_locked_file_has_its_sha256_and_size(name: str) -> None:
    packages = read_lock(name).packages
    assert packages
    for package in packages:
        assert package.files
        for file in package.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.size > 0


def test_every_toolkit_of_the_catalog_is_locked_for_linux_and_windows() -> None:
    assert locked_toolkits() == tuple(toolkits())
    for minor in locked_toolkits():
        linux = select_platform(read_lock(f"cuda-{minor}"), "linux-x86_64")
        windows = select_platform(read_lock(f"cuda-{minor}"), "windows-x86_64")
        assert len(linux) == len(windows) >= 4
        assert not {f.sha256 for f in linux} & {f.sha256 for f in windows}


def test_sources_are_preferred_in_one_order() -> None:
    def origins(cuda: str, platform: str = "linux-x86_64") -> list[str]:
        cell = Cell(llama="0.3.16", cuda=cuda, architectures=(), platform=platform)
        return [choice.toolkit[-1].origin for choice in ingredient_choices(cell)]

    assert origins("13.0") == ["index", "redist"]
    assert origins("13.5") == ["index"]
    assert origins("12.9") == ["redist"]
    assert origins("12.4") == origins("11.8") == ["redist", "debian"]
    assert origins("12.4", "windows-x86_64") == ["redist"]
    assert "12.0" not in available_toolkits("linux-x86_64")


@pytest.mark.parametrize("minor", locked_toolkits())
def test_all_components_of_a_toolkit_are_of_the_same_release(minor: str) -> None:
    check_same_release(minor, read_lock(f"cuda-{minor}").packages)


def test_a_mixture_of_releases_is_refused() -> None:
    mixed = [
        LockedPackage(project=project, version=version, files=())
        for project, version in (
            ("nvidia-cuda-nvcc", "13.0.88"),
            ("nvidia-nvvm", "13.4.92"),
            ("nvidia-cuda-crt", "13.4.92"),
            ("nvidia-cuda-runtime", "13.4.92"),
        )
    ]
    with pytest.raises(ConfigurationError, match="not from one release"):
        check_same_release("13.0", mixed)


def test_the_sdists_of_both_releases_are_locked() -> None:
    assert {"0.3.16", "0.3.36"} <= set(locked_llama_releases())


@pytest.mark.parametrize("name", ["build", "runtime", "inspect"])
def test_this_interpreter_finds_one_wheel_of_each_package(name: str) -> None:
    chosen = select_wheels(read_lock(name))
    assert len({file.project for file in chosen}) == len(chosen)


def test_the_build_environment_brings_its_own_cmake_and_ninja() -> None:
    assert {"build", "cmake", "ninja", "scikit-build-core"} <= {p.project for p in read_lock("build").packages}


def test_a_wheel_for_another_platform_is_not_selected() -> None:
    assert wheel_platforms("a-1-py3-none-manylinux_2_17_x86_64.whl") == {"linux-x86_64"}
    assert wheel_platforms("a-1-py3-none-linux_x86_64.whl") == {"linux-x86_64"}
    assert wheel_platforms("a-1-py3-none-win_amd64.whl") == {"windows-x86_64"}
    assert wheel_platforms("a-1-py3-none-any.whl") == set(platforms())
    assert wheel_platforms("a-1-py3-none-manylinux_2_17_s390x.whl") == frozenset()
    assert wheel_platforms("a-1-py3-none-musllinux_1_2_x86_64.whl") == frozenset()
    assert wheel_platforms("not a wheel") == frozenset()


def test_markers_choose_between_two_versions_of_a_project() -> None:
    file = LockedFile(filename="a-1-py3-none-any.whl", sha256="0" * 64)
    lock = Lock(
        packages=(
            LockedPackage(project="a", version="1", marker="python_version < '3'", files=(file,)),
            LockedPackage(project="a", version="2", marker="python_version >= '3'", files=(file,)),
        )
    )
    assert [file.version for file in select_wheels(lock)] == ["2"]


def test_an_unreadable_lock_is_exit_code_2() -> None:
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        read_lock("absent")
    assert caught.value.exit_code == 2
