"""The arguments of the compilers, what CMake answers, and what a failed build says."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from contexts import in_context

from build_matrix import compile as compiling
from build_matrix.catalog import llama_releases
from build_matrix.compile import FIXED, cache, choose_programs
from build_matrix.compile.cache import (
    CacheChoice,
    CacheUse,
    cache_environment,
    cache_program,
    cache_use,
    choose_cache,
    server,
)
from build_matrix.compile.compilation import Compilation, lay_out
from build_matrix.compile.diagnosis import explain_failure, first_error
from build_matrix.compile.file_api import API, check_facts, read_facts, write_query
from build_matrix.compile.flags import anywhere, definitions, environment, portable, recipe
from build_matrix.compile.isolation import fixed_places
from build_matrix.compile.jobs import choose_jobs
from build_matrix.compile.remote import parse_remote
from build_matrix.compile.sccache_server import SOCKET
from build_matrix.errors import CompileError, ConfigurationError, DiskFullError, NetworkAccessError
from build_matrix.locks import locked_llama_releases
from build_matrix.model import (
    Architecture,
    BuildEnvironment,
    BuildFacts,
    BuildInputs,
    CacheProgram,
    Cell,
    CompileCache,
    Conditions,
    HostCompiler,
    Toolchain,
    digest_of,
)
from build_matrix.platforms import find_platform
from build_matrix.probe import free_memory
from build_matrix.process.nvcc_launcher import BEHIND, CACHE, IDENTITY
from build_matrix.store import Store
from build_matrix.sysroot_flags import c_flags, cxx_flags

INSTRUCTION_SETS = {
    "GGML_SSE42", "GGML_AVX", "GGML_AVX2", "GGML_BMI2", "GGML_FMA", "GGML_F16C", "GGML_AVX_VNNI", "GGML_AVX512",
    "GGML_AVX512_VBMI", "GGML_AVX512_VNNI", "GGML_AVX512_BF16", "GGML_AMX_TILE", "GGML_AMX_INT8", "GGML_AMX_BF16",
}  # fmt: skip


def with_cell(inputs: BuildInputs, **changes: object) -> BuildInputs:
    return msgspec.structs.replace(inputs, cell=msgspec.structs.replace(inputs.cell, **changes))


@pytest.mark.parametrize("version", locked_llama_releases())
def test_every_cpu_instruction_set_is_set_explicitly(version: str) -> None:
    options = {**llama_releases()[version].options, **find_platform("linux-x86_64").options}
    assert set(options) >= INSTRUCTION_SETS | {"GGML_NATIVE"}
    assert options["GGML_NATIVE"] == "OFF"


def test_no_path_of_this_machine_survives_in_the_flags_of_the_record(inputs: BuildInputs) -> None:
    work = Path("/store/work/compile-1")
    found = definitions(inputs, work, ["a/lib", "b/lib"])
    assert found["CMAKE_CUDA_COMPILER"] == "/store/toolkit/bin/nvcc"
    assert found["CMAKE_CUDA_ARCHITECTURES"] == "OFF"
    assert "--generate-code=arch=compute_89,code=sm_89 " in found["CMAKE_CUDA_FLAGS"]
    assert found["CMAKE_CUDA_FLAGS_RELEASE"] == "-O1 -DNDEBUG"
    assert found["LLAMA_CUDA_RUNPATH"] == "$ORIGIN/a/lib;$ORIGIN/b/lib"
    assert f"-ffile-prefix-map={work}/src=/src" in found["CMAKE_CXX_FLAGS"]
    assert f"-Xcompiler=-ffile-prefix-map={work}/src=/src" in found["CMAKE_CUDA_FLAGS"]
    assert f"-Xcompiler=-isystem{inputs.sysroot.root}/include" in found["CMAKE_CUDA_FLAGS"]
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


def test_the_compilation_has_exactly_this_environment(gcc: HostCompiler) -> None:
    """Every variable here decides bytes or keeps the network away; one that is missing is seen by two builds alone."""
    build = BuildEnvironment(root=Path("/env"), python=Path("/env/bin/python"), components=(), digest="e")
    other = msgspec.structs.replace(gcc, cxx="/opt/gcc/bin/g++")
    nowhere = "http://127.0.0.1:9"
    assert environment(build, other, Path("/work"), 3) == {
        "PATH": "/env/bin:/opt/gcc/bin:/usr/bin:/bin",
        "HOME": "/work/home",
        "TMPDIR": "/work/tmp",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": "315532800",
        "GIT_DIR": "/nonexistent",
        "PYTHONDONTWRITEBYTECODE": "1",
        "CMAKE_GENERATOR": "Ninja",
        "CMAKE_BUILD_PARALLEL_LEVEL": "3",
        "NINJA_STATUS": "[%f/%t] ",
        "TERM": "dumb",
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        "ftp_proxy": nowhere,
        "all_proxy": nowhere,
    }
    assert environment(build, gcc, Path("/work"), 1)["PATH"] == "/env/bin:/usr/bin:/bin"


def test_every_folder_gets_another_name_in_what_is_compiled_and_linked(inputs: BuildInputs) -> None:
    found = definitions(inputs, Path("/w"), ["x"])
    maps = [
        "-ffile-prefix-map=/w/src=/src",
        "-ffile-prefix-map=/w/build=/build",
        "-ffile-prefix-map=/store/toolkit=/cuda",
        "-ffile-prefix-map=/store/sysroot=/sysroot",
    ]
    c, cxx = ([*maps, *flags] for flags in (c_flags(inputs.sysroot), cxx_flags(inputs.sysroot)))
    assert found["CMAKE_C_FLAGS"].split() == c
    assert found["CMAKE_CXX_FLAGS"].split() == cxx
    cuda = ["--generate-code=arch=compute_89,code=sm_89", *(f"-Xcompiler={flag}" for flag in cxx)]
    assert found["CMAKE_CUDA_FLAGS"].split() == cuda
    link = "-L/store/sysroot/lib -Wl,-z,defs -Wl,--exclude-libs,ALL"
    assert found["CMAKE_SHARED_LINKER_FLAGS"] == found["CMAKE_MODULE_LINKER_FLAGS"] == link
    check = definitions(with_cell(inputs, profile="check"), Path("/w"), ["x"])
    assert check["CMAKE_CUDA_FLAGS"].split() == ["-Ofc=max", *cuda]


def test_a_recipe_names_every_folder_the_same_on_every_machine(inputs: BuildInputs) -> None:
    named = anywhere(inputs)
    assert (named.source.root, named.toolchain.root, named.sysroot.root) == (
        Path("/source"),
        Path("/toolkit"),
        Path("/sysroot"),
    )
    assert (named.environment.root, named.environment.python) == (Path("/environment"), Path("/environment/bin/python"))
    assert (named.compiler.cc, named.compiler.cxx) == ("/usr/bin/cc", "/usr/bin/c++")
    assert named.sysroot.c_includes == ("/c_includes/0",)
    assert named.sysroot.cxx_includes == ("/cxx_includes/0", "/cxx_includes/1")
    (launcher,) = [text for text in recipe(inputs, ["x"]).argv if "CMAKE_CUDA_COMPILER_LAUNCHER" in text]
    start = "-Ccmake.define.CMAKE_CUDA_COMPILER_LAUNCHER=/environment/bin/python;-I;-S;/launcher;/work/src=/src;"
    assert launcher.startswith(start)


def test_a_toolkit_that_cannot_compile_fast_is_not_asked_to(inputs: BuildInputs) -> None:
    check = with_cell(inputs, profile="check", cuda="12.4")
    assert "-Ofc" not in definitions(check, Path("/w"), ["x"])["CMAKE_CUDA_FLAGS"]


def test_what_the_tool_chooses_itself_is_chosen_for_every_wheel(inputs: BuildInputs) -> None:
    found = definitions(
        with_cell(inputs, defines={"CMAKE_SHARED_LINKER_FLAGS": "-s", "X": "1"}), Path("/w"), ["a", "b"]
    )
    chosen = {
        "CMAKE_C_COMPILER": "/usr/bin/gcc",
        "CMAKE_CXX_COMPILER": "/usr/bin/g++",
        "CMAKE_CUDA_COMPILER": "/store/toolkit/bin/nvcc",
        "CMAKE_CUDA_HOST_COMPILER": "/usr/bin/g++",
        "CMAKE_CUDA_ARCHITECTURES": "OFF",
        "CUDAToolkit_ROOT": "/store/toolkit",
        "GGML_CUDA": "ON",
        "LLAMA_CUDA_RUNPATH": "$ORIGIN/a;$ORIGIN/b",
        "LLAMA_BUILD_NUMBER": "0",
        "LLAMA_BUILD_COMMIT": "unknown",
        "CMAKE_PLATFORM_NO_VERSIONED_SONAME": "ON",
        "FETCHCONTENT_FULLY_DISCONNECTED": "ON",
        "X": "1",
    }
    assert {name: found[name] for name in chosen} == chosen
    assert found["CMAKE_SHARED_LINKER_FLAGS"].endswith(" -Wl,--exclude-libs,ALL -s")
    assert found["CMAKE_MODULE_LINKER_FLAGS"].endswith(" -Wl,--exclude-libs,ALL")
    assert {name: found[name] for name in inputs.release.options} == inputs.release.options


def test_what_decides_the_wheel_cannot_be_defined() -> None:
    assert {
        "CMAKE_BUILD_TYPE", "CMAKE_C_COMPILER", "CMAKE_CXX_COMPILER", "CMAKE_CUDA_COMPILER",
        "CMAKE_CUDA_HOST_COMPILER", "CMAKE_CUDA_ARCHITECTURES", "CUDAToolkit_ROOT", "GGML_CUDA", "GGML_NATIVE",
        "BUILD_SHARED_LIBS", "LLAMA_BUILD", "LLAMA_BUILD_COMMON", "LLAMA_CUDA_RUNPATH", "GGML_CCACHE",
        "GGML_BACKEND_DL", "GGML_CPU_ALL_VARIANTS", "CMAKE_CUDA_COMPILER_LAUNCHER", "FETCHCONTENT_FULLY_DISCONNECTED",
    } <= FIXED  # fmt: skip


def test_the_flags_of_a_record_are_sorted_and_name_each_place_by_what_it_is(inputs: BuildInputs) -> None:
    work = Path("/store/work/compile-1")
    recorded = portable({"B": "/store/toolkit/bin /store/sysroot/lib", "A": f"{work}/src", "C": "plain"}, inputs, work)
    assert list(recorded.items()) == [("A", "<work>/src"), ("B", "<toolkit>/bin <sysroot>/lib"), ("C", "plain")]


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
    fragment = f"-O3 --generate-code=arch=compute_{code},code=sm_{code} -Xcompiler=-fPIC"
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


def fits(name: CacheProgram, program: Path) -> str:
    assert program.name == name
    return ""


def several(inputs: BuildInputs) -> BuildInputs:
    cell = msgspec.structs.replace(inputs.cell, architectures=tuple(map(Architecture.parse, ("80", "89"))))
    return msgspec.structs.replace(inputs, cell=cell)


def test_without_a_cache_or_a_program_nothing_is_cached(inputs: BuildInputs, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    off = {"CCACHE_DISABLE": "1"}
    assert cache_environment(CacheChoice(), None, None, inputs, tmp_path) == off
    monkeypatch.setattr(cache, "cache_program", lambda _: None)
    choice = choose_cache(CompileCache(folder=tmp_path), None, inputs, fits)
    assert (choice.first, len(choice.notes)) == (None, 2)
    assert cache_environment(choice, CompileCache(folder=tmp_path), None, inputs, tmp_path) == off


def test_one_architecture_is_cached_whole_and_several_also_by_themselves(inputs: BuildInputs, tmp_path: Path) -> None:
    settings = CompileCache(folder=tmp_path)
    one, list_of_two = (choose_cache(settings, None, each, fits) for each in (inputs, several(inputs)))
    assert (one.ccache, one.sccache) == (cache_program("ccache"), None)
    assert (list_of_two.ccache, list_of_two.sccache) == (cache_program("ccache"), cache_program("sccache"))
    assert not list_of_two.behind_all
    variables = cache_environment(list_of_two, settings, None, inputs, tmp_path)
    assert (variables[CACHE], variables[BEHIND]) == (str(list_of_two.ccache), str(list_of_two.sccache))
    assert "CCACHE_PREFIX" not in variables
    assert not server(one, inputs, tmp_path)
    assert server(list_of_two, inputs, tmp_path)[4:6] == [str(list_of_two.sccache), str(tmp_path / "sccache.json")]


@pytest.mark.parametrize(
    ("unfit", "programs", "used"),
    [
        ("sccache", ("ccache", "sccache"), "ccache"),
        ("ccache", ("ccache", "sccache"), "sccache"),
        ("", ("sccache",), "sccache"),
        ("", ("ccache",), "ccache"),
    ],
)
def test_what_does_not_work_or_is_not_wanted_is_not_used(
    inputs: BuildInputs, tmp_path: Path, unfit: str, programs: tuple[CacheProgram, ...], used: str
) -> None:
    def why(name: CacheProgram, _: Path) -> str:
        return "it loses files" if name == unfit else ""

    choice = choose_cache(CompileCache(folder=tmp_path, programs=programs), None, several(inputs), why)
    assert [program.name for program in (choice.ccache, choice.sccache) if program] == [used]
    assert choice.notes == ((f"without {unfit}: it loses files",) if unfit else ())


def test_a_remote_that_only_sccache_speaks_to_serves_every_compiler(inputs: BuildInputs, tmp_path: Path) -> None:
    settings = CompileCache(folder=tmp_path)
    remote = parse_remote("s3://bucket/a/b?endpoint=http://store:9000", {"AWS_ACCESS_KEY_ID": "k", "HOME": "/"})
    assert remote
    choice = choose_cache(settings, remote, inputs, fits)
    variables = cache_environment(choice, settings, remote, inputs, tmp_path)
    assert variables["CCACHE_PREFIX"] == str(choice.sccache)
    assert (variables["SCCACHE_BUCKET"], variables["SCCACHE_ENDPOINT"]) == ("bucket", "http://store:9000")
    assert (variables["AWS_ACCESS_KEY_ID"], remote.host, remote.port) == ("k", "store", 9000)
    alone = choose_cache(msgspec.structs.replace(settings, programs=("ccache",)), remote, inputs, fits)
    assert alone.notes == ("without the remote cache: it needs sccache",)
    assert "SCCACHE_BUCKET" not in cache_environment(alone, settings, remote, inputs, tmp_path)


@pytest.mark.parametrize(
    ("url", "program", "place"),
    [
        ("redis://user:word@cache/1", "ccache", ("cache", 6379)),
        ("http://cache:8080/objects", "ccache", ("cache", 8080)),
        ("https://user:p%40ss@cache/objects", "sccache", ("cache", 443)),
        ("s3://bucket?region=eu-central-1", "sccache", ("s3.eu-central-1.amazonaws.com", 443)),
    ],
)
def test_a_remote_is_named_by_its_url(url: str, program: str, place: tuple[str, int]) -> None:
    remote = parse_remote(url, {})
    assert remote
    assert (remote.program, (remote.host, remote.port)) == (program, place)
    if program == "ccache":
        assert remote.variables == {"CCACHE_REMOTE_STORAGE": url}
    elif "user" in url:
        assert remote.variables["SCCACHE_WEBDAV_PASSWORD"] == "p@ss"
    else:
        assert remote.variables["SCCACHE_S3_NO_CREDENTIALS"] == "true"


@pytest.mark.parametrize(
    "url", ["ftp://secret@cache", "s3://", "redis:cache", "http://cache:port", "s3://b?key=secret"]
)
def test_a_remote_that_cannot_be_used_is_refused_without_its_secrets(url: str) -> None:
    assert parse_remote("", {}) is None
    with pytest.raises(ConfigurationError) as caught:
        parse_remote(url, {})
    assert "secret" not in str(caught.value)


def test_all_compilers_are_cached_and_identified_by_digest(inputs: BuildInputs, tmp_path: Path) -> None:
    settings = CompileCache(folder=tmp_path / "cache")
    choice = choose_cache(settings, None, inputs, fits)
    variables = cache_environment(choice, settings, None, inputs, tmp_path)
    program = str(cache_program("ccache"))
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
    settings = CompileCache(folder=tmp_path)
    choice = choose_cache(settings, None, several(inputs), fits)
    one, two, three = (cache_environment(choice, settings, None, each, tmp_path) for each in (inputs, other, compiler))
    for name in ("CCACHE_COMPILERCHECK", "SCCACHE_C_CUSTOM_CACHE_BUSTER"):
        assert one[name] == two[name] != three[name]
    assert len({each[IDENTITY] for each in (one, two, three)}) == 3


def test_another_sysroot_is_another_compiler_to_the_cache(inputs: BuildInputs, tmp_path: Path) -> None:
    """Its headers are compiled in, so an object of one sysroot is not one of another."""
    settings = CompileCache(folder=tmp_path)
    choice = choose_cache(settings, None, several(inputs), fits)
    other = msgspec.structs.replace(inputs, sysroot=msgspec.structs.replace(inputs.sysroot, digest="other"))
    one, two = (cache_environment(choice, settings, None, each, tmp_path) for each in (inputs, other))
    changed = {name for name in one if one[name] != two[name]}
    assert changed == {"CCACHE_COMPILERCHECK", "SCCACHE_C_CUSTOM_CACHE_BUSTER", IDENTITY}


def test_the_caches_are_told_exactly_this(inputs: BuildInputs, tmp_path: Path) -> None:
    settings = CompileCache(folder=tmp_path / "cache")
    both = CacheChoice(Path("/bin/ccache"), Path("/bin/sccache"))
    found = cache_environment(both, settings, None, inputs, tmp_path / "work")
    host = digest_of(inputs.compiler.identity, inputs.sysroot.digest)
    assert found == {
        CACHE: "/bin/ccache",
        BEHIND: "/bin/sccache",
        IDENTITY: digest_of(host, inputs.toolchain.digest),
        "CMAKE_C_COMPILER_LAUNCHER": "/bin/ccache",
        "CMAKE_CXX_COMPILER_LAUNCHER": "/bin/ccache",
        "CCACHE_DIR": str(tmp_path / "cache"),
        "CCACHE_CONFIGPATH": str(tmp_path / "cache/ccache.conf"),
        "CCACHE_MAXSIZE": "10G",
        "CCACHE_COMPILERCHECK": f"string:{host}",
        "CCACHE_DEPEND": "1",
        "CCACHE_STATSLOG": str(tmp_path / "work/cache.log"),
        SOCKET: str(tmp_path / "work/sccache.socket"),
        "SCCACHE_DIR": str(tmp_path / "cache/sccache"),
        "SCCACHE_CACHE_SIZE": "10G",
        "SCCACHE_CONF": str(tmp_path / "cache/sccache.conf"),
        "SCCACHE_C_CUSTOM_CACHE_BUSTER": host,
    }
    alone = cache_environment(CacheChoice(None, Path("/bin/sccache")), settings, None, inputs, tmp_path)
    assert alone["CCACHE_DISABLE"] == "1"
    assert alone[CACHE] == alone["CMAKE_C_COMPILER_LAUNCHER"] == "/bin/sccache"
    assert not {name for name in alone if name.startswith("CCACHE_") or name == BEHIND} - {"CCACHE_DISABLE"}


def test_the_use_is_counted_from_what_the_programs_left(tmp_path: Path) -> None:
    assert not cache_use(tmp_path)
    counts = {"cache_hits": {"counts": {"PTX": 3, "CUBIN": 1, "CUDA": 1}}, "cache_misses": {"counts": {"CUBIN": 2}}}
    (tmp_path / "sccache.json").write_text(json.dumps({"stats": counts}))
    assert cache_use(tmp_path) == CacheUse(hits=1, misses=0, part_hits=4, part_misses=2)
    (tmp_path / "cache.log").write_text(
        "# a.cu\ncache_miss\ndirect_cache_miss\n# b.cu\ndirect_cache_hit\n# c.cpp\npreprocessed_cache_hit\n"
        "# /srv/work/build/CMakeFiles/CMakeScratch/TryCompile-x/src.c\ncache_miss\n"
    )
    assert cache_use(tmp_path) == CacheUse(hits=2, misses=1, part_hits=4, part_misses=2)
    assert str(cache_use(tmp_path)) == "2 of 3 compilations were cached, and 4 of 6 parts of the others"


def test_a_run_that_goes_on_counts_its_own_compilations_alone(inputs: BuildInputs, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source = msgspec.structs.replace(inputs.source, root=tmp_path / "source")
    work = tmp_path / "work"
    work.mkdir()
    (work / "cache.log").write_text("# a.cu\ncache_miss\n")
    lay_out(msgspec.structs.replace(inputs, source=source), work, work, CacheChoice())
    assert not cache_use(work)


def test_the_caches_are_tried_out_where_the_folders_are_and_not_where_the_sandbox_shows_them(
    inputs: BuildInputs, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = Conditions(jobs=2, cache=CompileCache(folder=tmp_path, programs=("ccache",)))
    view = fixed_places(inputs, tmp_path / "work")
    compilation = Compilation(inputs, conditions, (), tmp_path / "work", view, None)
    tried = []

    def why_unfit(_context: object, name: str, _program: Path, given: BuildInputs) -> str:
        tried.append((name, given.toolchain.root, given.sysroot.root))
        return ""

    monkeypatch.setattr(compiling, "why_unfit", why_unfit)
    with choose_programs(in_context(store), compilation) as choice:
        assert choice.ccache
    assert tried == [("ccache", inputs.toolchain.root, inputs.sysroot.root)]
    assert view.inputs.toolchain.root != inputs.toolchain.root
