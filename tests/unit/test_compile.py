"""What the compilers are told, what CMake answers, and what a failed build says."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from build_matrix.catalog import llama_releases
from build_matrix.compile import cache
from build_matrix.compile.cache import CacheUse, cache_environment, cache_program, cache_use
from build_matrix.compile.diagnosis import explain_failure, first_error
from build_matrix.compile.file_api import API, check_facts, read_facts, write_query
from build_matrix.compile.flags import definitions, environment, portable
from build_matrix.compile.isolation import fixed_places
from build_matrix.compile.jobs import choose_jobs
from build_matrix.errors import CompileError, DiskFullError, NetworkAccessError
from build_matrix.locks import locked_llama_releases, select_sdist
from build_matrix.model import (
    Architecture,
    BuildEnvironment,
    BuildFacts,
    BuildInputs,
    Cell,
    HostCompiler,
    LlamaRelease,
    SourceTree,
    Sysroot,
    Toolchain,
)
from build_matrix.nvcc_launcher import CACHE, IDENTITY
from build_matrix.probe import free_memory

INSTRUCTION_SETS = {
    "GGML_SSE42", "GGML_AVX", "GGML_AVX2", "GGML_BMI2", "GGML_FMA", "GGML_F16C", "GGML_AVX_VNNI", "GGML_AVX512",
    "GGML_AVX512_VBMI", "GGML_AVX512_VNNI", "GGML_AVX512_BF16", "GGML_AMX_TILE", "GGML_AMX_INT8", "GGML_AMX_BF16",
}  # fmt: skip


SYSROOT = Sysroot(
    root=Path("/store/sysroot"),
    glibc="2.28",
    c_includes=("/usr/lib/gcc/include",),
    cxx_includes=("/usr/include/c++/12", "/usr/lib/gcc/include"),
    components=(),
    digest="s",
)


@pytest.fixture
def cell() -> Cell:
    return Cell(llama="0.3.16", cuda="13.0", architectures=(Architecture(number=89),), platform="linux-x86_64")


@pytest.fixture
def toolchain() -> Toolchain:
    return Toolchain(
        root=Path("/store/toolkit"),
        cuda="13.0",
        release="13.0.3.0",
        nvcc_version="13.0.88",
        components=(),
        digest="t",
    )


@pytest.fixture
def inputs(cell: Cell, toolchain: Toolchain, gcc: HostCompiler, release: LlamaRelease) -> BuildInputs:
    return BuildInputs(
        cell=cell,
        release=release,
        source=SourceTree(
            root=Path("/store/source"),
            llama=cell.llama,
            sdist=select_sdist(cell.llama),
            patches=(),
            options=(),
            digest="s",
        ),
        toolchain=toolchain,
        environment=BuildEnvironment(
            root=Path("/store/env"), python=Path("/store/env/bin/python"), components=(), digest="e"
        ),
        compiler=gcc,
        sysroot=SYSROOT,
    )


def with_cell(inputs: BuildInputs, **changes: object) -> BuildInputs:
    return msgspec.structs.replace(inputs, cell=msgspec.structs.replace(inputs.cell, **changes))


@pytest.mark.parametrize("version", locked_llama_releases())
def test_every_cpu_instruction_set_is_set_explicitly(version: str) -> None:
    options = llama_releases()[version].options
    assert set(options) >= INSTRUCTION_SETS | {"GGML_NATIVE"}
    assert options["GGML_NATIVE"] == "OFF"


def test_no_path_of_this_machine_survives_in_the_flags_of_the_record(inputs: BuildInputs) -> None:
    work = Path("/store/work/compile-1")
    found = definitions(inputs, work, ["a/lib", "b/lib"])
    assert found["CMAKE_CUDA_COMPILER"] == "/store/toolkit/bin/nvcc"
    assert found["CMAKE_CUDA_ARCHITECTURES"] == "89-real"
    assert found["LLAMA_CUDA_RUNPATH"] == "$ORIGIN/a/lib;$ORIGIN/b/lib"
    assert f"-ffile-prefix-map={work}/src=/src" in found["CMAKE_CXX_FLAGS"]
    assert f"-Xcompiler=-ffile-prefix-map={work}/src=/src" in found["CMAKE_CUDA_FLAGS"]
    assert f"-Xcompiler=-isystem{SYSROOT.root}/include" in found["CMAKE_CUDA_FLAGS"]
    recorded = portable(found, inputs, work)
    assert not [v for v in recorded.values() if "/store" in v or str(Path.cwd()) in v]
    assert recorded["CMAKE_CUDA_COMPILER_LAUNCHER"].startswith("<python>;-I;-S;<launcher>;<work>/src=/src;")


def test_the_check_profile_compiles_fast_and_says_so_in_the_label(inputs: BuildInputs) -> None:
    check = with_cell(inputs, profile="check")
    assert "-Ofc=max" in definitions(check, Path("/w"), ["x"])["CMAKE_CUDA_FLAGS"]
    assert "-Ofc=max" not in definitions(inputs, Path("/w"), ["x"])["CMAKE_CUDA_FLAGS"]
    assert (inputs.cell.label, check.cell.label) == ("cu130.sm89", "cu130.sm89.check")


def test_a_define_wins_over_the_release_and_changes_the_label(inputs: BuildInputs) -> None:
    other = with_cell(inputs, defines={"GGML_AVX2": "OFF", "CMAKE_CUDA_FLAGS": "-v"})
    found = definitions(other, Path("/w"), ["x"])
    assert found["GGML_AVX2"] == "OFF"
    assert found["CMAKE_CUDA_FLAGS"].endswith(" -v")
    assert "-ffile-prefix-map" in found["CMAKE_CUDA_FLAGS"]
    assert other.cell.label != inputs.cell.label


def test_at_fixed_places_nothing_names_the_store(inputs: BuildInputs) -> None:
    view = fixed_places(inputs, Path("/store/work/compile-1"))
    found = definitions(view.inputs, view.work, ["x"])
    texts = [text for text in found.values() if "/store" in text]
    assert texts == [found["CMAKE_CUDA_COMPILER_LAUNCHER"]]  # the program that starts nvcc is not compiled in
    assert found["CMAKE_CUDA_COMPILER"] == "/srv/toolkit/bin/nvcc"
    assert {"/store/work/compile-1=/srv/work", "/store/toolkit=/srv/toolkit"} <= set(view.before)


def test_nothing_of_the_surroundings_reaches_the_compilation(
    monkeypatch: pytest.MonkeyPatch, gcc: HostCompiler
) -> None:
    leaks = (
        "CUDA_PATH",
        "CUDA_HOME",
        "NVCC_PREPEND_FLAGS",
        "NVCC_APPEND_FLAGS",
        "CPATH",
        "LIBRARY_PATH",
        "CMAKE_ARGS",
    )
    for name in (*leaks, "CFLAGS", "LD_LIBRARY_PATH", "CUDAFLAGS", "SKBUILD_CMAKE_ARGS"):
        monkeypatch.setenv(name, "/leak")
    monkeypatch.setenv("PATH", "/leak/bin:/usr/bin")
    build = BuildEnvironment(root=Path("/env"), python=Path("/env/bin/python"), components=(), digest="e")
    found = environment(build, gcc, Path("/work"), 2)
    assert "leak" not in json.dumps(found)
    assert found["PATH"].split(":")[:2] == ["/env/bin", "/usr/bin"]


def test_what_cmake_chose_is_read_from_its_file_api(tmp_path: Path) -> None:
    _reply(tmp_path, code="89")
    facts = read_facts(tmp_path)
    assert facts == BuildFacts(
        generator="Ninja",
        architectures=("89-real",),
        cuda_compiler="/store/toolkit/bin/nvcc",
        cuda_compiler_version="13.0.88",
        cxx_compiler_version="12.2.0",
        cmake_version="4.0.0",
        steps=0,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generator": "Unix Makefiles"}, "another generator"),
        ({"architectures": ("52-real", "89-real")}, "another architectures"),
        ({"cuda_compiler": "/usr/local/cuda/bin/nvcc"}, "another CUDA compiler"),
        ({"cuda_compiler_version": "12.1.66"}, "another CUDA compiler version"),
    ],
)
def test_a_choice_that_was_not_asked_for_is_refused(
    tmp_path: Path, cell: Cell, toolchain: Toolchain, change: dict[str, object], words: str
) -> None:
    _reply(tmp_path, code="89")
    facts = read_facts(tmp_path)
    check_facts(facts, cell, toolchain)
    with pytest.raises(CompileError, match=words):
        check_facts(msgspec.structs.replace(facts, **change), cell, toolchain)


def test_a_build_without_cuda_is_refused(tmp_path: Path) -> None:
    _reply(tmp_path, code="89", languages=("C", "CXX"))
    with pytest.raises(CompileError, match="without CUDA"):
        read_facts(tmp_path)


def test_the_query_lies_where_cmake_looks_for_it(tmp_path: Path) -> None:
    write_query(tmp_path)
    assert (tmp_path / API / "query" / "client-build-matrix" / "codemodel-v2").is_file()


LOG = """\
[1/157] /env/bin/nvcc -Werror all-warnings -c error.cu
/src/a.cpp:3:1: warning: unused error_code
FAILED: [code=1] a.o
/src/a.cu(12): error: identifier "foo" is undefined
ninja: build stopped: subcommand failed.
"""


def test_the_first_real_error_is_shown_not_the_first_line_with_the_word() -> None:
    assert first_error(LOG.splitlines()) == '/src/a.cu(12): error: identifier "foo" is undefined'


def test_an_error_of_cmake_is_shown_with_what_it_was() -> None:
    lines = ["-- ok", "CMake Error at CMakeLists.txt:3 (find_package):", "  Could not find X", "", "more"]
    assert first_error(lines) == "CMake Error at CMakeLists.txt:3 (find_package): Could not find X"


def test_a_full_disk_and_too_little_memory_have_their_own_remedies(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("fatal error: error writing to /x: No space left on device\n")
    assert isinstance(explain_failure(log, tmp_path, 8), DiskFullError)
    log.write_text("nvcc error   : 'cicc' died due to signal 9 (Kill signal)\n")
    assert "--jobs 4" in explain_failure(log, tmp_path, 8).remedy
    log.write_text(LOG)
    error = explain_failure(log, tmp_path, 8)
    assert (error.exit_code, str(log) in error.remedy) == (6, True)


def _reply(build: Path, code: str, languages: tuple[str, ...] = ("C", "CXX", "CUDA")) -> None:
    reply = build / API / "reply"
    reply.mkdir(parents=True)
    (build / "CMakeFiles").mkdir()
    (build / "CMakeFiles" / "CMakeCUDACompiler.cmake").write_text('set(CMAKE_CUDA_COMPILER_VERSION "13.0.88")\n')
    paths = {"C": "/usr/bin/gcc", "CXX": "/usr/bin/g++", "CUDA": "/store/toolkit/bin/nvcc"}
    toolchains = [
        {
            "language": name,
            "compiler": {"path": paths[name], **({} if name == "CUDA" else {"version": "12.2.0"})},
        }
        for name in languages
    ]
    fragment = f"-O3 --generate-code=arch=compute_{code},code=[sm_{code}] -Xcompiler=-fPIC"
    files = {
        "toolchains.json": {"toolchains": toolchains},
        "files.json": {"inputs": [{"path": "CMakeFiles/CMakeCUDACompiler.cmake"}]},
        "target.json": {"compileGroups": [{"language": "CUDA", "compileCommandFragments": [{"fragment": fragment}]}]},
        "codemodel.json": {"configurations": [{"targets": [{"jsonFile": "target.json"}]}]},
        "index-1.json": {
            "cmake": {"generator": {"name": "Ninja"}, "version": {"string": "4.0.0"}},
            "reply": {
                "client-build-matrix": {
                    "toolchains-v1": {"jsonFile": "toolchains.json"},
                    "codemodel-v2": {"jsonFile": "codemodel.json"},
                    "cmakeFiles-v1": {"jsonFile": "files.json"},
                }
            },
        },
    }
    for name, content in files.items():
        (reply / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    "line",
    [
        "  Could not resolve host: example.com",
        "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>",
        "curl: (7) Failed to connect to 127.0.0.1 port 9 after 0 ms: Couldn't connect to server",
        "    status_code: 7\n",
    ],
)
def test_a_failed_download_is_named_as_what_it_is(tmp_path: Path, line: str) -> None:
    log = tmp_path / "log"
    log.write_text(f"-- Configuring\n{line}\nCMake Error at CMakeLists.txt:1 (file):\n  no\n")
    error = explain_failure(log, tmp_path, 2)
    assert isinstance(error, NetworkAccessError)
    assert error.exit_code == 6
    assert line.strip() in error.problem


def test_without_a_folder_or_a_program_nothing_is_cached(inputs: BuildInputs, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    off = {"CCACHE_DISABLE": "1"}
    assert cache_environment(None, inputs, tmp_path / "log") == off
    monkeypatch.setattr(cache, "cache_program", lambda: None)
    assert cache_environment(tmp_path, inputs, tmp_path / "log") == off


def test_all_compilers_are_cached_and_identified_by_digest(inputs: BuildInputs, tmp_path: Path) -> None:
    variables = cache_environment(tmp_path / "cache", inputs, tmp_path / "log")
    program = str(cache_program())
    assert Path(program).is_file()
    assert {variables[name] for name in (CACHE, "CMAKE_C_COMPILER_LAUNCHER", "CMAKE_CXX_COMPILER_LAUNCHER")} == {
        program
    }
    assert variables["CCACHE_COMPILERCHECK"].startswith("string:")


@pytest.mark.parametrize(
    ("asked", "cpus", "free", "jobs"),
    [(None, 16, 64 * 10**9, 16), (None, 16, 6 * 10**9, 4), (None, 2, 10**8, 1), (None, 4, 0, 4), (8, 2, 10**8, 8)],
)
def test_the_memory_bounds_the_jobs_unless_they_are_asked_for(asked: int, cpus: int, free: int, jobs: int) -> None:
    found, why = choose_jobs(asked, cpus, free)
    assert found == jobs
    assert bool(why) == (not asked and jobs < cpus)


def test_a_containers_limit_bounds_the_free_memory(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("1000000\n")
    assert free_memory(limit) == 1000000
    limit.write_text("max\n")
    assert free_memory(limit) > 1000000
    assert free_memory(tmp_path / "none") > 1000000


def test_another_toolkit_leaves_what_is_no_cuda_in_the_cache(inputs: BuildInputs, tmp_path: Path) -> None:
    other = msgspec.structs.replace(inputs, toolchain=msgspec.structs.replace(inputs.toolchain, digest="u"))
    compiler = msgspec.structs.replace(inputs, compiler=msgspec.structs.replace(inputs.compiler, identity="other"))
    one, two, three = (cache_environment(tmp_path, each, tmp_path / "log") for each in (inputs, other, compiler))
    assert one["CCACHE_COMPILERCHECK"] == two["CCACHE_COMPILERCHECK"] != three["CCACHE_COMPILERCHECK"]
    assert len({each[IDENTITY] for each in (one, two, three)}) == 3


def test_the_use_is_counted_from_the_log(tmp_path: Path) -> None:
    assert not cache_use(tmp_path / "none")
    log = tmp_path / "log"
    log.write_text(
        "# a.cu\ncache_miss\ndirect_cache_miss\n# b.cu\ndirect_cache_hit\n# c.cpp\npreprocessed_cache_hit\n"
        "# /srv/work/build/CMakeFiles/CMakeScratch/TryCompile-x/src.c\ncache_miss\n"
    )
    assert cache_use(log) == CacheUse(hits=2, misses=1)
