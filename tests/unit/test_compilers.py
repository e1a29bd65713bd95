"""Compilers are told apart by what they answer, known by what they consist of, and tried before they are offered."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from build_matrix.catalog import llama_releases, toolkits
from build_matrix.model import HostCompiler
from build_matrix.probe import compilers
from build_matrix.probe.compilers import CompilerSearch, examine_msvc, find_compilers, search_compilers
from build_matrix.resolve import compiler_accepted

GNU = "g++ (Debian 12.2.0) 12.2.0\nCopyright (C) 2022 Free Software Foundation, Inc."
TARGET = "x86_64-linux-gnu"


def script(path: Path, text: str, code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    path.chmod(0o755)
    return path


def stand_in(
    path: Path,
    banner: str = GNU,
    *,
    target: str = TARGET,
    version: str = "12.2.0",
    compiles: str = 'for last; do :; done; printf "build-matrix: libstdc++ 12" > "$last"',
    sibling: str = "gcc",
) -> Path:
    """A program that answers like a compiler, and the C compiler beside it."""
    script(path, "")
    path.write_text(
        f"""#!/bin/sh
case "$1" in
--version) cat <<'END'
{banner}
END
;;
-dumpmachine) echo "{target}" ;;
-dumpfullversion) echo "{version}" ;;
-dumpspecs) echo specs ;;
-print-prog-name=*) echo "" ;;
*) {compiles} ;;
esac
"""
    )
    if sibling:
        script(path.with_name(sibling), "")
    return path


def named(cxx: object, path: str = "/usr/bin:/bin") -> CompilerSearch:
    return search_compilers({"CXX": str(cxx), "PATH": path})


def refusal(search: CompilerSearch) -> str:
    assert not search.compilers
    (problem,) = search.problems
    assert not problem.passed
    assert problem.remedy.endswith(".")
    return problem.fact


def test_msvc_is_read_from_its_banner(tmp_path: Path) -> None:
    banner = "Microsoft (R) C/C++ Optimizing Compiler Version 19.44.35207 for x64"
    found = examine_msvc(script(tmp_path / "cl", banner, code=2))
    assert found is not None
    assert (found.name, found.version, found.major) == ("msvc", "19.44.35207", 1944)
    assert found.description == banner
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
    (found,) = find_compilers()
    assert found.identity == real.identity


@pytest.mark.compiler
def test_the_compilers_here_compile_and_link_and_say_whose_library_they_use() -> None:
    for found in search_compilers({"PATH": os.environ["PATH"]}).compilers:
        assert found.libstdcxx >= 5
        assert found.name == "clang" or found.libstdcxx == found.major


def test_a_stand_in_that_answers_like_a_compiler_is_one(tmp_path: Path) -> None:
    found = named(stand_in(tmp_path / "g++")).compilers[0]
    assert (found.name, found.version, found.libstdcxx) == ("gcc", "12.2.0", 12)
    assert found.description == "(Debian 12.2.0) 12.2.0"
    assert (found.cc, found.cxx) == (str(tmp_path / "gcc"), str(tmp_path / "g++"))


CLANG = "clang version 18.1.3 (1ubuntu1)\nTarget: x86_64-pc-linux-gnu"


@pytest.mark.parametrize(
    ("name", "sibling", "banner", "target"),
    [
        ("x86_64-conda-linux-gnu-c++", "x86_64-conda-linux-gnu-cc", GNU, "x86_64-conda-linux-gnu"),
        ("g++-11", "gcc-11", GNU, "x86_64-redhat-linux"),
        ("c++", "cc", GNU, "x86_64-pc-linux-gnu"),
        ("clang++-18", "clang-18", CLANG, "x86_64-unknown-linux-gnu"),
    ],
)
def test_compilers_of_distributions_and_of_conda_are_taken(
    tmp_path: Path, name: str, sibling: str, banner: str, target: str
) -> None:
    found = named(stand_in(tmp_path / name, banner, target=target, sibling=sibling)).compilers[0]
    assert found.cc == str(tmp_path / sibling)


@pytest.mark.parametrize(
    "target",
    ["aarch64-linux-gnu", "x86_64-w64-mingw32", "x86_64-alpine-linux-musl", "i686-linux-gnu", "x86_64-linux-gnux32",
     "arm64-apple-darwin23", "x86_64-linux-android", "wasm32-unknown-emscripten", "x86_64-unknown-freebsd14"],
)  # fmt: skip
@pytest.mark.parametrize("banner", [GNU, CLANG], ids=["gcc", "clang"])
def test_a_compiler_for_another_system_is_refused_by_its_target(tmp_path: Path, banner: str, target: str) -> None:
    cxx = stand_in(tmp_path / "g++", banner, target=target)
    assert f"it compiles for {target}, not for x86-64 Linux with glibc" in refusal(named(cxx))


@pytest.mark.parametrize(
    ("banner", "why"),
    [
        ("", "it prints nothing for --version"),
        ("Python 3.11.7", "'Python 3.11.7' for --version; only g++ and clang++ are supported"),
        ("nvc++ 24.3-0 64-bit target on x86-64 Linux -tp znver3", "only g++ and clang++"),
        ("Intel(R) oneAPI DPC++/C++ Compiler 2024.0.0", "only g++ and clang++"),
        ("icpc (ICC) 2021.10.0\nCopyright (C) 1985-2023 Intel Corporation", "only g++ and clang++"),
        (f"afl-cc 4.04c by Michal Zalewski\n{GNU}", "instruments what it compiles"),
        (f"afl-cc++4.21c\n{CLANG}", "instruments what it compiles"),
    ],
)
def test_what_is_neither_gcc_nor_clang_is_refused_with_what_it_answers(tmp_path: Path, banner: str, why: str) -> None:
    assert why in refusal(named(stand_in(tmp_path / "cxx", banner, sibling="")))


@pytest.mark.parametrize(
    ("name", "better"),
    [("gcc", "g++"), ("cc", "c++"), ("clang", "clang++"), ("gcc-11", "g++-11"), ("x86_64-conda-linux-gnu-cc", None)],
)
def test_a_c_compiler_is_refused_with_the_name_of_its_sibling(tmp_path: Path, name: str, better: str | None) -> None:
    search = named(stand_in(tmp_path / name))
    assert "it is a C compiler" in refusal(search)
    assert search.problems[0].remedy == f"Set CXX to {better or 'x86_64-conda-linux-gnu-c++'}."


@pytest.mark.parametrize(
    ("compiles", "why"),
    [
        ("echo \"trial.cpp:1:10: fatal error: 'cmath' file not found\"; exit 1", "fatal error: 'cmath' file not found"),
        ("echo 'g++: fatal error: cannot execute cc1plus: No such file'; exit 1", "cannot execute cc1plus"),
        ("echo 'undefined reference to `__cxa_throw'; echo 'ld returned 1'; exit 1", "undefined reference"),
        ("echo 'trial.cpp:6:2: error: #error \"its C++ library is not libstdc++\"'; exit 1", "is not libstdc++"),
        ("exit 3", "exit code 3"),
        ("exit 0", "exit code 0"),
    ],
)
def test_a_compiler_that_cannot_link_cxx_is_refused_with_its_first_error(
    tmp_path: Path, compiles: str, why: str
) -> None:
    fact = refusal(named(stand_in(tmp_path / "g++", compiles=compiles)))
    assert "cannot compile and link a small C++ program" in fact
    assert why in fact


def test_a_clang_without_the_cxx_library_that_it_chooses_leaves_the_others_alone(tmp_path: Path) -> None:
    stand_in(tmp_path / "g++")
    stand_in(tmp_path / "clang++", CLANG, compiles="echo \"error: 'cmath' file not found\"; exit 1", sibling="clang")
    search = search_compilers({"PATH": str(tmp_path)})
    assert [found.name for found in search.compilers] == ["gcc"]
    (problem,) = search.problems
    assert problem.fact.startswith(f"{tmp_path / 'clang++'} is not a C++ compiler that works here: ")
    assert "'cmath' file not found" in problem.fact


def test_a_compiler_without_a_c_compiler_beside_it_is_refused(tmp_path: Path) -> None:
    assert "no C compiler beside it (gcc)" in refusal(named(stand_in(tmp_path / "g++", sibling="")))
    assert "gcc, clang or cc" in refusal(named(stand_in(tmp_path / "compiler", sibling="")))


def test_a_program_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cxx = stand_in(tmp_path / "g++")

    def forbidden(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(compilers, "_content", forbidden)
    assert f"{cxx} cannot be read" in refusal(named(cxx))


def test_a_compiler_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilers, "SECONDS", 0.2)
    (tmp_path / "g++").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "g++").chmod(0o755)
    assert "did not respond to --version within" in refusal(named(tmp_path / "g++"))


def test_a_program_of_another_processor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g++").write_bytes(b"\x7fELF and then nothing that runs")
    (tmp_path / "g++").chmod(0o755)
    assert "it cannot be run (Exec format error)" in refusal(named(tmp_path / "g++"))


@pytest.mark.parametrize(
    ("cxx", "why"),
    [
        ("no-such-compiler", "there is no such program on the PATH"),
        ("/nonexistent/g++", "there is no such file"),
        ("/usr", "it is a folder"),
        (__file__, "it is not executable"),
        ("g++ -m64", "it has more than a program in it (-m64)"),
        ("env FOO=1 g++", "it has more than a program in it (FOO=1 g++)"),
        ("zig c++", "it has more than a program in it (c++)"),
        ("ccache", "it names no compiler"),
        ("'g++", "it cannot be read"),
    ],
)
def test_a_cxx_that_names_no_compiler_is_refused_with_why(cxx: str, why: str) -> None:
    fact = refusal(named(cxx))
    assert fact.startswith(f"CXX is set to {cxx!r}, which is not a C++ compiler")
    assert why in fact


@pytest.mark.parametrize(
    ("cxx", "remedy"),
    [
        ("g++ -m64", "Set CXX to g++ alone, "),
        ("clang++ -stdlib=libc++", "Set CXX to clang++ alone, "),
        ("env A=1 g++", "Unset CXX, or set it to g++ or clang++."),
        ("zig c++", "Unset CXX, or set it to g++ or clang++."),
        ("ccache zig c++", "Unset CXX, or set it to g++ or clang++."),
    ],
)
def test_the_remedy_for_options_names_the_program_alone_where_that_is_a_compiler(cxx: str, remedy: str) -> None:
    assert named(cxx).problems[0].remedy.startswith(remedy)


def test_a_wrapper_that_warns_changes_nothing_of_what_the_compiler_is(tmp_path: Path) -> None:
    gcc = shutil.which("g++", path="/usr/bin:/bin") or ""
    for name in ("g++", "gcc"):
        real = Path(gcc).with_name(name)
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "wrapper: warning: disk full" >&2\nexec {real} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    wrapped, plain = named(str(tmp_path / "g++")).compilers[0], named(gcc).compilers[0]
    assert (wrapped.version, wrapped.description) == (plain.version, plain.description)
    assert wrapped.programs.keys() == plain.programs.keys()


def test_a_compiler_that_begins_with_an_empty_line_is_named_by_the_next(tmp_path: Path) -> None:
    banner = "nvc++ 23.11-0 64-bit target on x86-64 Linux -tp znver3"
    program = tmp_path / "nvc++"
    program.write_text(f"#!/bin/sh\necho; echo '{banner}'\n", encoding="utf-8")
    program.chmod(0o755)
    assert f"it prints {banner!r} for --version; only g++ and clang++" in refusal(named(str(program)))


@pytest.mark.parametrize("launchers", ["ccache", "sccache", "distcc", "ccache distcc", "/opt/bin/ccache"])
def test_a_launcher_before_the_compiler_is_left_out_with_a_note(tmp_path: Path, launchers: str) -> None:
    cxx = stand_in(tmp_path / "g++")
    search = named(f"{launchers} {cxx}")
    assert search.compilers[0].cxx == str(cxx)
    assert len(search.notes) == len(launchers.split())
    assert search.notes[0].startswith("CXX: ")


def test_a_launcher_by_the_compilers_name_is_passed_over(tmp_path: Path) -> None:
    cxx = stand_in(tmp_path / "bin" / "g++")
    ccache = script(tmp_path / "ccache", GNU)
    (tmp_path / "masquerade").mkdir()
    for name in ("g++", "gcc"):
        (tmp_path / "masquerade" / name).symlink_to(ccache)
    path = f"{tmp_path}/masquerade:{tmp_path}/bin"
    assert search_compilers({"PATH": path}).compilers[0].cxx == str(cxx)
    search = named(tmp_path / "masquerade" / "g++", path)
    assert search.compilers[0].cxx == str(cxx)
    assert "ccache is ignored" in search.notes[0]
    alone = named(tmp_path / "masquerade" / "g++", f"{tmp_path}/masquerade")
    assert "it is a link to ccache" in refusal(alone)


def test_a_path_with_spaces_is_one_program(tmp_path: Path) -> None:
    cxx = stand_in(tmp_path / "my tools" / "g++")
    assert named(cxx).compilers[0].cxx == str(cxx)
    assert named(f"'{cxx}'").compilers[0].cxx == str(cxx)


def test_a_folder_whose_name_is_not_utf_8_is_refused_and_its_name_can_be_printed(tmp_path: Path) -> None:
    cxx = stand_in(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")) / "g++")
    assert "not UTF-8" in refusal(named(cxx))
    (problem,) = search_compilers({"PATH": str(cxx.parent)}).problems
    assert problem.fact.encode()


def test_an_empty_cxx_is_as_none(tmp_path: Path) -> None:
    stand_in(tmp_path / "g++")
    assert len(search_compilers({"CXX": "  ", "PATH": str(tmp_path)}).compilers) == 1


def test_a_path_with_entries_that_are_no_folders_is_searched_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "here" / "g++")
    stand_in(tmp_path / "g++", target="i686-linux-gnu")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    monkeypatch.chdir(tmp_path)
    path = f":.:relative:{__file__}:/nonexistent:{closed}:{tmp_path}/here"
    search = search_compilers({"PATH": path})
    assert [found.cxx for found in search.compilers] == [str(tmp_path / "here" / "g++")]
    assert not search.problems


def test_no_path_is_the_systems_own_and_an_empty_one_is_none() -> None:
    assert compilers.path_folders({}) == tuple(map(Path, os.defpath.split(":")))
    assert compilers.path_folders({"PATH": ""}) == ()
    assert search_compilers({"PATH": ""}) == CompilerSearch()


def test_the_first_of_several_is_preferred_and_each_is_listed_once(tmp_path: Path) -> None:
    stand_in(tmp_path / "g++", GNU.replace("12.2.0)", "first)"))
    stand_in(tmp_path / "g++-11", GNU.replace("12.2.0)", "eleven)"), sibling="gcc-11")
    for other in ("c++", "g++-12"):
        (tmp_path / other).symlink_to("g++")
    stand_in(tmp_path / "clang++", CLANG, sibling="clang")
    found = [Path(one.cxx).name for one in search_compilers({"PATH": str(tmp_path)}).compilers]
    assert found == ["g++", "clang++", "g++-11"]


def test_where_nothing_can_be_written_a_compiler_is_taken_untried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cxx = stand_in(tmp_path / "g++", compiles="exit 1")

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compilers.tempfile, "TemporaryDirectory", full)
    assert named(cxx).compilers[0].libstdcxx == 0
