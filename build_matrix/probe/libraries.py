"""What the libraries of an installed package hold, and whether the system's loader finds all that they need."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from build_matrix.catalog.installations import backends, places
from build_matrix.model import ForeignLibrary, MissingLibrary, Record
from build_matrix.process.runner import run
from build_matrix.wheelfile.native import LibraryFile, inspect_library, interpreter_of, platform_of

SECONDS = 10.0  # for one library: the loader only maps files
WORKERS = 4
SUFFIXES = re.compile(r"\.(so(\.[\w.]+)?|dylib|dll)$")
_FAMILIES = (
    re.compile(r"libcudart(?:-[0-9a-f]{8})?\.so\.(\d+)"),
    re.compile(r"libcublas(?:Lt)?(?:-[0-9a-f]{8})?\.so\.(\d+)"),
)
_LABEL = re.compile(r"\bcu(?:da)?[-_.]?(\d\d)(?:\.?\d)?\b")
_LLAMA = re.compile(r"lib(llama|ggml|mtmd|llava)\b")
_RESOLVED = re.compile(r"^\s*(?P<name>\S+) => (?P<target>not found|/.*?)(?: \(0x[0-9a-f]+\))?$")
_MUSL = re.compile(r"Error loading shared library (?P<name>[^:]+): No such file")
_NAMED = re.compile(r"(?<![\w/.-])(lib[\w+.-]*?\.so[\w.]*): cannot open")
_PROBLEM = re.compile(r"error while loading|: version `|not defined in file|symbol not found")


class Environment(Record, frozen=True, kw_only=True):
    """What of an environment decides where libraries are looked for."""

    machine: str
    executable: str
    prefix: str
    path: tuple[str, ...] = ()


class Survey(Record, frozen=True, kw_only=True):
    """What the libraries of a package hold and need; the fields are those of InstalledLlama."""

    libraries: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    modules: bool = False
    cuda_family: int = 0
    finds_packages: bool = False
    strays: tuple[str, ...] = ()
    missing_libraries: tuple[MissingLibrary, ...] = ()
    foreign_libraries: tuple[ForeignLibrary, ...] = ()
    loader_problems: tuple[str, ...] = ()


class Trace(Record, frozen=True, kw_only=True):
    """What the loader says of one library: what it finds where, what it does not find, what else is wrong."""

    resolved: dict[str, str] = msgspec.field(default_factory=dict)
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def survey(folders: Iterable[str], environment: Environment, environ: Mapping[str, str]) -> Survey:
    """Read the libraries in these folders, and ask the loader for each that this Python could load."""
    markers = tuple(row.marker for row in backends() if row.marker)
    files = {path: _inspect(path, markers) for path in _files(folders)}
    native = {
        path: library for path, library in files.items() if library.elf and library.platform == environment.machine
    }
    traces = _trace_all(native, environment, environ)
    return Survey(
        libraries=tuple(str(path) for path in files),
        backends=backends_of(native),
        modules=_are_modules(native),
        cuda_family=family_of(name for library in native.values() for name in library.needed),
        finds_packages=any(
            "nvidia" in folder for library in native.values() for folder in library.runpath + library.rpath
        )
        or any((path.parents[1] / "_backends.py").is_file() for path in native),
        strays=strays_of(native, traces.values()),
        missing_libraries=_missing(native, traces, environment, environ),
        foreign_libraries=tuple(
            ForeignLibrary(file=str(path), platform=library.platform)
            for path, library in files.items()
            if path not in native
        ),
        loader_problems=tuple(dict.fromkeys(line for trace in traces.values() for line in trace.problems)),
    )


def _inspect(path: Path, markers: tuple[str, ...]) -> LibraryFile:
    try:
        return inspect_library(path, markers)
    except OSError:
        return LibraryFile(platform="nobody: it cannot be read", elf=False)


def backends_of(libraries: Mapping[Path, LibraryFile]) -> tuple[str, ...]:
    """The back ends that these libraries hold, in the order of the table."""
    names = {_backend_of(path.name, library) for path, library in libraries.items()}
    return tuple(row.name for row in backends() if row.name in names)


def _backend_of(name: str, library: LibraryFile) -> str:
    for row in backends():
        needs = row.needs and any(re.match(row.needs, needed) for needed in library.needed)
        has_marker = row.marker in library.constants
        if needs or has_marker or (not row.needs and re.match(row.file, name)):
            return row.name
    return ""


def strays_of(libraries: Iterable[Path], traces: Iterable[Trace]) -> tuple[str, ...]:
    """Libraries of llama.cpp that the loader takes from elsewhere, though these here have the same name."""
    names = {path.name for path in libraries if _LLAMA.match(path.name)}
    folders = {path.resolve().parent for path in libraries}
    targets = {target for trace in traces for name, target in trace.resolved.items() if name in names}
    return tuple(sorted(target for target in targets if Path(target).resolve().parent not in folders))


def _are_modules(libraries: Mapping[Path, LibraryFile]) -> bool:
    """Whether there are back ends here that no other library needs: they are loaded at run time (GGML_BACKEND_DL)."""
    needed = {name for library in libraries.values() for name in library.needed}
    names = {library.soname or path.name for path, library in libraries.items() if _backend_of(path.name, library)}
    main = any(path.name.startswith("libggml-base.") for path in libraries)
    return main and bool(names) and not any(name in needed for name in names)


def family_of(names: Iterable[str], label: str = "") -> int:
    """The CUDA major of a build: of the runtime that it needs, else of cuBLAS, else of its label; 0 where none says."""
    known = tuple(names)
    for pattern in _FAMILIES:
        majors = [int(match[1]) for name in known if (match := pattern.search(name))]
        if majors:
            return max(majors)
    match = _LABEL.search(label)
    return int(match[1]) if match else 0


def _files(folders: Iterable[str]) -> list[Path]:
    """The libraries in these folders and in those that auditwheel makes beside them, each once."""
    libraries: dict[Path, Path] = {}
    for folder in map(Path, folders):
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        for path in entries:
            if SUFFIXES.search(path.name) and path.is_file():
                libraries.setdefault(path.resolve(), path)
    return list(libraries.values())


# --- the loader ---------------------------------------------------------------------------------------------


def _trace_all(
    libraries: Mapping[Path, LibraryFile], environment: Environment, environ: Mapping[str, str]
) -> dict[Path, Trace]:
    if sys.platform != "linux":
        return {}
    program = Path(environment.executable)
    try:
        loader = interpreter_of(program)
        variables = {**environ, "LD_LIBRARY_PATH": _library_path(program, environ), "LC_ALL": "C"}
    except OSError:
        return {}
    if not loader or not Path(loader).exists():
        return {}
    with ThreadPoolExecutor(WORKERS) as pool:
        traces = pool.map(lambda path: _trace(loader, path, variables), libraries)
        return dict(zip(libraries, traces, strict=True))


def _library_path(program: Path, environ: Mapping[str, str]) -> str:
    """LD_LIBRARY_PATH, after the interpreter's own RPATH, which counts for all that it loads (conda's Python)."""
    rpath = [_expand(folder, program) for folder in inspect_library(program).rpath]
    return ":".join(filter(None, [*rpath, environ.get("LD_LIBRARY_PATH", "")]))


def _expand(folder: str, file: Path) -> str:
    return re.sub(r"\$\{?ORIGIN\}?", str(file.parent), folder)


def _trace(loader: str, library: Path, variables: Mapping[str, str]) -> Trace:
    """Ask the loader as ldd does; no code of the library runs."""
    option = ["--list"] if "ld-musl" in loader else []
    result = run([loader, *option, library], env={**variables, "LD_TRACE_LOADED_OBJECTS": "1"}, timeout=SECONDS)
    return parse_trace(result.tail)


def parse_trace(lines: Sequence[str]) -> Trace:
    """What the lines of ld.so (as ldd prints them) or of musl's loader say."""
    resolved = {match["name"]: match["target"] for line in lines if (match := _RESOLVED.match(line))}
    missing = [name for name, target in resolved.items() if target == "not found"]
    missing += [match["name"] for line in lines if (match := _MUSL.search(line))]
    return Trace(
        resolved={name: target for name, target in resolved.items() if target != "not found"},
        missing=tuple(dict.fromkeys(missing)),
        problems=tuple(line.strip() for line in lines if _PROBLEM.search(line)),
    )


# --- what is missing ------------------------------------------------------------------------------------------


def _missing(
    libraries: Mapping[Path, LibraryFile],
    traces: Mapping[Path, Trace],
    environment: Environment,
    environ: Mapping[str, str],
) -> tuple[MissingLibrary, ...]:
    missing: dict[str, MissingLibrary] = {}
    for path, trace in traces.items():
        for name in trace.missing:
            if name not in missing:
                missing[name] = MissingLibrary(
                    name=name,
                    needed_by=_needed_by(name, path, libraries[path], trace),
                    folders=holding(name, [*{str(file.parent) for file in libraries}], environment, environ),
                )
    return tuple(missing[name] for name in sorted(missing))


def with_named(surveyed: Survey, text: str, environment: Environment, environ: Mapping[str, str]) -> Survey:
    """The survey, with the libraries that an error of the loader names as missing."""
    known = {library.name for library in surveyed.missing_libraries}
    named = [name for name in dict.fromkeys(_NAMED.findall(text)) if name not in known]
    folders = [*{str(Path(path).parent) for path in surveyed.libraries}]
    added = tuple(MissingLibrary(name=name, folders=holding(name, folders, environment, environ)) for name in named)
    return msgspec.structs.replace(surveyed, missing_libraries=surveyed.missing_libraries + added)


def _needed_by(name: str, path: Path, library: LibraryFile, trace: Trace) -> str:
    """The file that needs it: the library itself, or one of those that it needs."""
    if name in library.needed:
        return path.name
    for target in map(Path, trace.resolved.values()):
        try:
            if name in inspect_library(target).needed:
                return target.name
        except OSError:
            continue
    return path.name


def holding(name: str, folders: Sequence[str], environment: Environment, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Folders that hold a library of this name for this machine, the environment's own first."""
    table = places()
    roots = [environment.prefix, *(environ[variable] for variable in table.variables if environ.get(variable))]
    patterns = [(Path(entry), pattern) for entry in environment.path for pattern in table.environment]
    patterns += [(Path(root), pattern) for root in roots for pattern in table.prefix]
    patterns += [(Path("/"), pattern.lstrip("/")) for pattern in table.system]
    candidates = [Path(folder) for folder in folders]
    candidates += [folder for root, pattern in patterns for folder in _glob(root, pattern)]
    result: dict[Path, str] = {}
    for folder in candidates:
        if _is_library_for(folder / name, environment.machine):
            result.setdefault(folder.resolve(), str(folder))
    return tuple(result.values())


def _glob(root: Path, pattern: str) -> list[Path]:
    try:
        return sorted(root.glob(pattern))
    except OSError:
        return []


def _is_library_for(file: Path, machine: str) -> bool:
    try:
        return file.is_file() and platform_of(file)[0] == machine
    except OSError:
        return False
