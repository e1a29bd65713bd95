"""Which C++ compilers are here? The one in CXX, or those on the PATH; each is tried before it is offered."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Literal

from build_matrix.model import Finding, HostCompiler, Record, digest_of, file_sha256
from build_matrix.platforms import platform_name, supported_platforms
from build_matrix.process.runner import Completed, run

SECONDS = 10.0  # for each question to a compiler
TRIAL_SECONDS = 60.0
RULE = "host compiler works"
CHANGE_CXX = "Unset CXX, or set it to g++ or clang++."
# Programs that run a compiler, or stand in for it, and are ignored.
NOT_USED = "is ignored: the build has its own compile cache, and compiles on this machine"
LAUNCHERS = frozenset({"ccache", "sccache", "distcc", "icecc", "buildcache"})
PROGRAMS = ("cc1", "cc1plus", "as", "ld")  # the compilers proper, the assembler, the linker
SYSTEM_FOLDERS = (Path("/usr/bin"), Path("/bin"))  # with the compiler's own folder, the PATH of the compilation

_MSVC = re.compile(r"Microsoft \(R\) C/C\+\+ .*Version (?P<version>\d+\.\d+(?:\.\d+)*) for x64")
_VERSIONED = re.compile(r"g\+\+-\d+")
_CLANG = re.compile(r"clang version (\d+(?:\.\d+)*)")
_NUMBERS = re.compile(r"^(\d+(?:\.\d+)*)", re.MULTILINE)
_C_COMPILER = re.compile(r"(?P<prefix>.*-)?(?P<name>gcc|clang|cc)(?P<suffix>-[\d.]+)?")
_CXX_OF = {"gcc": "g++", "clang": "clang++", "cc": "c++"}
_INSTRUMENTING = re.compile(r"afl-|hfuzz-|scan-build|c\+\+-analyzer")
_TRIAL_MARK = re.compile(rb"build-matrix: libstdc\+\+ (\d+)")

# Headers that are read, libstdc++ and libm: <cmath> alone would take as long as all the rest.
TRIAL = """\
#include <new>
#if !__has_include(<cmath>) || !__has_include(<thread>)
#error "its C++ library lacks <cmath> or <thread>"
#elif !(@MACROS@)
#error "it does not compile for @TITLE@ as it is called"
#elif !defined __GLIBC__
#error "its C library is not glibc"
#elif !defined _GLIBCXX_RELEASE
#error "its C++ library is not libstdc++"
#endif
#define TEXT(value) #value
#define TEXT_OF(value) TEXT(value)
extern "C" double hypot(double, double);
extern const char build_matrix_mark[] = "build-matrix: libstdc++ " TEXT_OF(_GLIBCXX_RELEASE);
int main(int count, char **) {
    if (count > 99) throw std::bad_alloc();
    return hypot(1.0, count) > 9 ? build_matrix_mark[count] : 0;
}
"""


class CompilerSearch(Record, frozen=True, kw_only=True):
    """The usable compilers, the preferred one first; those that were refused; what of CXX was left out."""

    compilers: tuple[HostCompiler, ...] = ()
    problems: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


class _RefusedError(Exception):
    """Why a program is not used as a compiler; ``remedy`` where there is a better one than naming another."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why, remedy)
        self.why = why
        self.remedy = remedy


def find_compilers() -> tuple[HostCompiler, ...]:
    """Every usable C++ compiler, the preferred one first."""
    return search_compilers().compilers


def search_compilers(environ: Mapping[str, str] | None = None) -> CompilerSearch:
    """The compiler that CXX names, or those on the PATH; a compiler that cannot be used is a problem, not an error."""
    environ = os.environ if environ is None else environ
    folders = path_folders(environ)
    named = environ.get("CXX", "").strip()
    if not named:
        return _search_path(folders)
    notes: list[str] = []
    try:
        compiler = _examine(_find_named(named, folders, notes))
    except _RefusedError as refused:
        fact = f"CXX is set to {named!r}, which is not a C++ compiler that works here: {refused.why}."
        return CompilerSearch(problems=(_problem(fact, refused.remedy or CHANGE_CXX),), notes=tuple(notes))
    return CompilerSearch(compilers=(compiler,), notes=tuple(notes))


def path_folders(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The absolute folders of PATH; an empty or a relative entry means another folder in each working folder."""
    entries = environ.get("PATH", os.defpath).split(os.pathsep)
    return tuple(dict.fromkeys(Path(entry) for entry in entries if Path(entry).is_absolute()))


def examine_msvc(cl: Path) -> HostCompiler | None:
    """MSVC's cl, which says its version when it is called without a file; None for anything else."""
    try:
        banner = _ask(cl, codes=range(256))
    except _RefusedError:
        return None
    match = _MSVC.search(banner)
    if not match:
        return None
    return HostCompiler(
        name="msvc",
        version=match["version"],
        description=match[0],
        cc=str(cl),
        cxx=str(cl),
        identity=digest_of(match[0], _content(cl.resolve())),
    )


# --- where they are ------------------------------------------------------------------------------------


def _search_path(folders: Sequence[Path]) -> CompilerSearch:
    paths: dict[Path, Path] = {}
    for path in _candidates(folders):
        paths.setdefault(path.resolve(), path)  # one program may have several names
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(_examined, paths.values()))
    compilers: dict[str, HostCompiler] = {}
    if os.name == "nt" and (cl := shutil.which("cl")) and (msvc := examine_msvc(Path(cl))):
        compilers[msvc.identity] = msvc
    for result in results:
        if isinstance(result, HostCompiler):
            compilers.setdefault(result.identity, result)
    problems = tuple(result for result in results if isinstance(result, Finding))
    return CompilerSearch(compilers=tuple(compilers.values()), problems=problems)


def _examined(cxx: Path) -> HostCompiler | Finding:
    try:
        return _examine(cxx)
    except _RefusedError as refused:
        remedy = refused.remedy or "Install another (`apt install g++`, `dnf install gcc-c++`), or set CXX to one."
        return _problem(f"{ascii(str(cxx))[1:-1]} is not a C++ compiler that works here: {refused.why}.", remedy)


def _problem(fact: str, remedy: str) -> Finding:
    return Finding(rule=RULE, kind="build", passed=False, fact=fact, remedy=remedy)


def _candidates(folders: Sequence[Path]) -> Iterator[Path]:
    for name in ("g++", "c++", "clang++"):
        if first := _which(name, folders):
            yield first
    for folder in folders:
        try:
            versioned = sorted(path for path in folder.iterdir() if _VERSIONED.fullmatch(path.name))
        except OSError:  # not there, not a folder, or not readable
            continue
        yield from (path for path in versioned if _is_compiler(path))


def _which(name: str, folders: Sequence[Path]) -> Path | None:
    """The first program of this name that is not a launcher by another name (/usr/lib/ccache/g++)."""
    return next((folder / name for folder in folders if _is_compiler(folder / name)), None)


def _is_compiler(path: Path) -> bool:
    return _is_program(path) and not _is_launcher(path)


def _is_program(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.X_OK)
    except OSError:  # a folder that may not be searched
        return False


def _is_launcher(path: Path) -> bool:
    return path.resolve().name in LAUNCHERS


def _find_named(named: str, folders: Sequence[Path], notes: list[str]) -> Path:
    """`_named_program`; a folder on the way that cannot be entered, or a link to itself, is a refusal too."""
    try:
        return _named_program(named, folders, notes)
    except (OSError, RuntimeError) as error:
        raise _RefusedError(f"it cannot be reached ({getattr(error, 'strerror', None) or error})") from error


def _named_program(named: str, folders: Sequence[Path], notes: list[str]) -> Path:
    """The program that CXX names, without the launchers before it; raises _RefusedError."""
    if os.sep in named and Path(named).exists():  # a path may hold spaces
        return _without_masquerade(Path(named).absolute(), folders, notes)
    try:
        argv = shlex.split(named)
    except ValueError as error:
        raise _RefusedError(f"it cannot be read ({error})") from error
    while argv and Path(argv[0]).name in LAUNCHERS:
        notes.append(f"CXX: {Path(argv.pop(0)).name} {NOT_USED}")
    if not argv:
        raise _RefusedError("it names no compiler")
    if len(argv) > 1:
        more = f"it has more than a program in it ({shlex.join(argv[1:])})"
        if not argv[1].startswith("-"):  # env, zig, or another launcher: alone it is no compiler
            raise _RefusedError(more)
        raise _RefusedError(
            f"{more}, and this tool sets the options itself",
            f"Set CXX to {argv[0]} alone, and add options with --define CMAKE_CXX_FLAGS=VALUE.",
        )
    if os.sep in argv[0]:
        return _without_masquerade(Path(argv[0]).absolute(), folders, notes)
    path = _which(argv[0], folders)
    if not path:
        raise _RefusedError("there is no such program on the PATH")
    return path


def _without_masquerade(path: Path, folders: Sequence[Path], notes: list[str]) -> Path:
    """``path`` if it is a program; the compiler of that name on the PATH where it is a launcher by another name."""
    if path.is_dir():
        raise _RefusedError("it is a folder")
    if not path.exists():
        raise _RefusedError("there is no such file")
    if not _is_program(path):
        raise _RefusedError("it is not executable")
    if not _is_launcher(path):
        return path
    launcher, compiler = path.resolve().name, _which(path.name, folders)
    if not compiler:
        raise _RefusedError(f"it is a link to {launcher}, and there is no {path.name} on the PATH")
    notes.append(f"CXX: {launcher} {NOT_USED}")
    return compiler


# --- what they are -------------------------------------------------------------------------------------


def _examine(cxx: Path) -> HostCompiler:
    """A compiler that works, has its C sibling beside it and links C++; raises _RefusedError for any other."""
    _check_name(cxx)
    banner = _ask(cxx, "--version")
    name = _name(banner)
    if match := _INSTRUMENTING.search(f"{cxx.name}\n{banner}"):
        raise _RefusedError(f"it instruments what it compiles ({match[0].strip('-')})")
    with ThreadPoolExecutor() as pool:  # the trial takes longest: the questions are asked meanwhile
        trial = pool.submit(_try_out, cxx, cxx.stat().st_mtime_ns)
        target, numbers = pool.submit(_ask, cxx, "-dumpmachine"), pool.submit(_version, cxx, name, banner)
        contents = pool.submit(_programs, cxx)
        _check_target(_last_line(target.result()))
        version, cc = numbers.result(), _c_sibling(cxx)
        try:
            programs = contents.result()
        except OSError as error:
            raise _RefusedError(f"{error.filename} cannot be read, so it cannot be recorded") from error
        libstdcxx = trial.result()
    description = _title(banner).partition(" ")[2]  # without the name that it was called by
    return HostCompiler(
        name=name,
        version=version,
        description=description,
        cc=str(cc),
        cxx=str(cxx),
        identity=digest_of(description, programs),
        programs=programs,
        libstdcxx=libstdcxx,
    )


def _check_name(cxx: Path) -> None:
    try:
        str(cxx).encode()
    except UnicodeEncodeError:
        raise _RefusedError("its path is not UTF-8, which CMake and a wheel's record need") from None
    if match := _C_COMPILER.fullmatch(cxx.name):
        sibling = f"{match['prefix'] or ''}{_CXX_OF[match['name']]}{match['suffix'] or ''}"
        raise _RefusedError("it is a C compiler, which does not link the C++ library", f"Set CXX to {sibling}.")


def _check_target(target: str) -> None:
    platform = supported_platforms().get(platform_name())
    if platform and not re.fullmatch(platform.compiler_target, target):
        raise _RefusedError(f"it compiles for {target or 'an unknown target'}, not for {platform.title}")


def _name(banner: str) -> Literal["gcc", "clang"]:
    if _CLANG.search(banner):
        return "clang"
    if "Free Software Foundation" in banner:
        return "gcc"
    first = next((line.strip() for line in banner.splitlines() if line.strip()), "")  # nvc++ begins with an empty line
    output = f"it prints {first!r} for --version" if first else "it prints nothing for --version"
    raise _RefusedError(f"{output}; only g++ and clang++ are supported")


def _title(banner: str) -> str:
    """The line that names a compiler and its version: the one with clang's version, or before GCC's copyright."""
    lines = banner.splitlines()
    copyright_line = next((number for number, line in enumerate(lines) if "Free Software Foundation" in line), 1)
    return next((line for line in lines if _CLANG.search(line)), lines[max(copyright_line - 1, 0)])


def _last_line(text: str) -> str:
    """What a compiler answers, without the warnings of a wrapper before it."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _version(cxx: Path, name: Literal["gcc", "clang"], banner: str) -> str:
    text = banner if name == "clang" else _ask(cxx, "-dumpfullversion", "-dumpversion")
    match = (_CLANG if name == "clang" else _NUMBERS).search(text)
    if not match:
        raise _RefusedError(f"its version is not known ({text.strip()!r})")
    return match[1]


def _c_sibling(cxx: Path) -> Path:
    """The C compiler beside it: clang, gcc or cc with the same prefix and version."""
    stem = cxx.name.replace("clang++", "clang").replace("g++", "gcc").replace("c++", "cc")
    cc = cxx.with_name(stem)
    if stem == cxx.name or not _is_program(cc):
        raise _RefusedError(f"there is no C compiler beside it ({stem if stem != cxx.name else 'gcc, clang or cc'})")
    return cc


def _programs(cxx: Path) -> dict[str, str]:
    """Sha256 of what decides the machine code: the compilers proper, their specs, the assembler, the linker.

    Raises OSError for a program that cannot be read.
    """
    specs = hashlib.sha256(_ask(cxx, "-dumpspecs").encode()).hexdigest()
    with ThreadPoolExecutor() as pool:
        contents = pool.map(lambda name: _program_content(cxx, name), PROGRAMS)
        hashes = {name: content for name, content in zip(PROGRAMS, contents, strict=True) if content}
    hashes = {"specs": specs, **hashes}
    if "cc1plus" not in hashes:  # clang is one program
        hashes[cxx.name] = _content(cxx.resolve())
    return hashes


def _program_content(cxx: Path, name: str) -> str:
    """Sha256 of a program that the compiler starts, empty where it has none of this name; raises OSError."""
    answer = _last_line(_ask(cxx, f"-print-prog-name={name}"))
    path = Path(answer) if Path(answer).is_absolute() else _which(answer, (cxx.parent, *SYSTEM_FOLDERS))
    return _content(path.resolve()) if answer and path and _is_program(path) else ""


def _content(path: Path) -> str:
    status = path.stat()
    return _hash(path, status.st_size, status.st_mtime_ns)


@lru_cache
def _hash(path: Path, _size: int, _mtime: int) -> str:
    return file_sha256(path)


@lru_cache
def _try_out(cxx: Path, _mtime: int) -> int:
    """Compile and link a small C++17 program; the release of libstdc++ that it uses (0: there is no place to try).

    A Clang takes the headers of the newest GCC folder, whether they are installed or not. Raises _RefusedError with
    the first error.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="build-matrix-") as folder:
            source, program = Path(folder, "trial.cpp"), Path(folder, "trial")
            source.write_text(_trial())
            result = _run(cxx, "-std=c++17", source, "-o", program, seconds=TRIAL_SECONDS, temporary=folder)
            mark = _TRIAL_MARK.search(program.read_bytes()) if result.code == 0 and program.is_file() else None
    except OSError:  # no temporary folder can be written
        return 0
    if result.timed_out:
        raise _RefusedError(f"a small C++ program was not compiled within {TRIAL_SECONDS:.0f} s")
    if not mark:
        raise _RefusedError(
            f"it cannot compile and link a small C++ program: {_first_error(result)}",
            "Install its C++ library (`apt install g++`, `dnf install gcc-c++`), or set CXX to another compiler.",
        )
    return int(mark[1])


def _trial() -> str:
    """The program; where wheels are not built for this platform, nothing is asked of the processor."""
    platform = supported_platforms().get(platform_name())
    macros, title = (platform.compiler_macros, platform.title) if platform else ("1", "")
    return TRIAL.replace("@MACROS@", macros).replace("@TITLE@", title)


def _first_error(result: Completed) -> str:
    lines = [line.strip() for line in result.tail]
    errors = (line for line in lines if re.search(r"error|undefined reference|cannot find", line))
    text = next(errors, next((line for line in lines if line), f"exit code {result.code}"))
    return re.sub(r"^\S*trial\.cpp:[\d:]*\s*", "", text).replace("#error ", "").rstrip(".")


def _ask(program: Path, *argv: str, codes: Container[int] = (0,)) -> str:
    """The output of a program, an empty text for a failure; raises _RefusedError where it does not run, or not end."""
    try:
        result = _run(program, *argv, seconds=SECONDS)
    except OSError as error:
        raise _RefusedError(f"it cannot be run ({error.strerror})") from error
    if result.timed_out:
        raise _RefusedError(f"it did not respond to {' '.join(argv)} within {SECONDS:.0f} s")
    return result.output if result.code in codes else ""


def _run(program: Path, *argv: str | Path, seconds: float, temporary: str = "") -> Completed:
    """Run a compiler with the PATH that it will have in the compilation."""
    path = os.pathsep.join(dict.fromkeys([str(program.parent), *map(str, SYSTEM_FOLDERS)]))
    if os.name == "nt":
        path = os.environ.get("PATH", os.defpath)
    environment = {"PATH": path, "LC_ALL": "C"} | ({"TMPDIR": temporary} if temporary else {})
    return run([program, *argv], env=environment, timeout=seconds)
