"""The launcher adds what makes nvcc's output depend on the source alone, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from build_matrix.process.nvcc_launcher import BEHIND, CACHE, IDENTITY, SEED, additions, launcher

MAPS = ("/x/src=/src", "/x/build=/build")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/x/src/ggml/acc.cu", "/src/ggml/acc.cu"),
        ("/x/build/Unity/unity_0.cu", "/build/Unity/unity_0.cu"),
        ("/x/src2/acc.cu", "/x/src2/acc.cu"),
    ],
)
def test_a_source_is_named_after_its_place_in_the_tree(source: str, name: str) -> None:
    words = ["nvcc", "-x", "cu", "-c", source, "-o", "a.o"]
    assert additions([*MAPS, SEED], words) == [
        "-objtemp",
        f"--frandom-seed={name}",
        f"-Xcudafe=--orig_src_path_name={name}",
    ]
    assert not [word for word in additions(MAPS, words) if "seed" in word]


def test_a_relative_source_is_found_where_the_compiler_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert additions([f"{tmp_path}=/src"], ["nvcc", "-c", "a.cu"])[-1].endswith("=/src/a.cu")


def test_the_cache_knows_nvcc_by_its_own_name(tmp_path: Path) -> None:
    program = tmp_path / "ccache"
    program.write_text('#!/bin/sh\necho "$CCACHE_COMPILERCHECK $CCACHE_PREFIX$@"\n')
    program.chmod(0o755)
    variables = {CACHE: str(program), IDENTITY: "nvcc", "CCACHE_COMPILERCHECK": "string:gcc"}
    words = launcher(sys.executable, {}, random_seed=True)
    done = subprocess.run([*words, "nvcc", "--version"], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "string:nvcc nvcc --version\n"
    variables[BEHIND] = "/bin/sccache"
    done = subprocess.run([*words, "nvcc", "-c", "/a.cu"], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("string:nvcc /bin/sccachenvcc -c /a.cu --frandom-seed=/a.cu ")
    assert "-objtemp" not in done.stdout


def test_what_compiles_no_source_is_left_as_it_is(tmp_path: Path) -> None:
    program = tmp_path / "nvcc"
    program.write_text('#!/bin/sh\necho "$@"; exit 3\n')
    program.chmod(0o755)
    words = launcher(sys.executable, {"/x/src": "/src"}, random_seed=True)
    done = subprocess.run([*words, program, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "--version\n")
    done = subprocess.run([*words, program, "-c", "/x/src/a.cu"], capture_output=True, text=True, check=False)
    assert done.stdout.split()[2:] == [
        "-objtemp",
        "--frandom-seed=/src/a.cu",
        "-Xcudafe=--orig_src_path_name=/src/a.cu",
    ]
