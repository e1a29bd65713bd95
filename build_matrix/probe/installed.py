"""What is the llama_cpp of an environment, and what does it report? It is examined from outside, and in a child."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from packaging.version import InvalidVersion, Version

from build_matrix.catalog import llama_releases
from build_matrix.catalog.installations import forks, is_gpu
from build_matrix.errors import ConfigurationError
from build_matrix.model import BackendDevice, Distribution, ImportEnd, InstalledLlama
from build_matrix.probe import installed_child
from build_matrix.probe.libraries import Environment, Survey, family_of, survey, with_named
from build_matrix.process.runner import Completed, run
from build_matrix.wheelfile.native import newest_version

LOCATE_SECONDS = 10.0  # to start Python, and to find llama_cpp without importing it
IMPORT_SECONDS = 12.0
QUESTION_SECONDS = 6.0  # for each question after the import
TOTAL_SECONDS = 20.0
EXPLAIN = "LLAMA_CPP_BACKENDS"  # our wheels then say which back ends they tried, and why one was not loaded
LOG_LINES = 100
LOG_COLUMNS = 500
SYMBOL_VERSION = re.compile(
    r"(?P<file>/\S+?): version [`'](?P<version>(?P<family>[A-Z]+)_[\w.]+)' not found(?: \(required by (?P<by>[^)]+)\))?"
)
# The instruction sets for which llama.cpp has code of its own, oldest first, as /proc/cpuinfo names them.
# Source: ggml/src/ggml-cpu/CMakeLists.txt.
INSTRUCTION_SETS = ("sse4_2", "avx", "f16c", "fma", "bmi2", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni")
_FRAME = re.compile(r'^\s*File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)$')
_STACK = re.compile(
    r"^(Current thread|Thread|Stack|Timeout|Fatal Python error|Extension modules|<truncated|\s*\.\.\.$)"
)
_DEVICE_GPU, _DEVICE_INTEGRATED = 1, 2  # ggml_backend_dev_type; before August 2025, 2 were accelerators, as BLAS


class _Answer:
    """What a child reported, what else it printed, and how it ended."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.lines: list[str] = []
        self.result: Completed | None = None

    def collect(self, line: str) -> None:
        """Take a line of its output."""
        if line.startswith(installed_child.PREFIX):
            try:
                self.facts.update(json.loads(line.removeprefix(installed_child.PREFIX)))
            except ValueError:  # cut off by the end of the process
                return
        elif line.strip() and len(self.lines) < LOG_LINES:
            self.lines.append(line.rstrip()[:LOG_COLUMNS])


def examine_environment(python: Path, environ: Mapping[str, str]) -> InstalledLlama:
    """Examine the llama_cpp that ``python`` would import; raises ConfigurationError when it is no Python."""
    python = _interpreter(python)
    located = _ask(python, "locate", environ, LOCATE_SECONDS)
    facts = located.facts
    if "executable" not in facts:
        raise ConfigurationError(f"{python} is not a working Python{_why(located)}.", _remedy(located))
    if not facts.get("folders") and not facts.get("found"):
        return _nothing(python, located)
    environment = Environment(
        machine="i686" if (facts["machine"], facts["bits"]) == ("x86_64", 32) else facts["machine"],
        executable=facts["executable"],
        prefix=facts["prefix"],
        path=tuple(facts["path"]),
    )
    with ThreadPoolExecutor(1) as pool:
        surveyed = pool.submit(survey, facts["places"], environment, environ)
        answer = _ask(python, "import", {**environ, EXPLAIN: "explain"}, TOTAL_SECONDS)
        libraries = with_named(surveyed.result(), str(answer.facts.get("failure", "")), environment, environ)
    return _assemble(python, facts, answer, libraries)


def _interpreter(python: Path) -> Path:
    """The interpreter of an environment that is named by its folder."""
    if not python.is_dir():
        return python
    candidates = [python / "bin" / "python", python / "bin" / "python3", python / "Scripts" / "python.exe"]
    return next((path for path in candidates if path.exists()), python)


def _ask(python: Path, question: str, environ: Mapping[str, str], seconds: float) -> _Answer:
    answer = _Answer()
    limits = (str(IMPORT_SECONDS), str(QUESTION_SECONDS))
    argv = [str(python), installed_child.__file__, question, *limits]
    try:
        answer.result = run(argv, env=dict(environ), on_line=answer.collect, timeout=seconds)
    except OSError as error:
        answer.lines.append(error.strerror or str(error))
    return answer


def _why(answer: _Answer) -> str:
    if answer.result and answer.result.timed_out:
        return f": it did not start within {LOCATE_SECONDS:.0f} s"
    return f": {answer.lines[-1].strip()}" if answer.lines else ""


def _remedy(answer: _Answer) -> str:
    if any("SyntaxError" in line or "future feature" in line for line in answer.lines):
        return "Choose Python 3.7 or newer with --python; llama-cpp-python needs 3.8."
    return "Choose an interpreter with --python."


def _nothing(python: Path, located: _Answer) -> InstalledLlama:
    """An environment in which Python finds no llama_cpp, with what pip says of it."""
    facts = located.facts
    distributions = tuple(Distribution(**row) for row in facts.get("distributions", ()))
    version = next((row.version for row in distributions if not row.module), "")
    problem = str(facts.get("problem", ""))
    if "located" not in facts:
        problem = "the search for it ended: " + (located.lines[-1] if located.lines else "no output")
    return InstalledLlama(
        python=str(python),
        python_version=facts["python"],
        version=version,
        distributions=distributions,
        problem=_text(problem),
        remains=tuple(map(_text, facts.get("remains", ()))),
    )


def _assemble(python: Path, located: Mapping[str, Any], answer: _Answer, surveyed: Survey) -> InstalledLlama:
    """What was found without importing it, then what the import showed."""
    distributions = _sorted(located.get("distributions", ()), located["folders"])
    module_version = str(answer.facts.get("module_version") or located.get("module_version") or "")
    version = distributions[0].version if distributions else module_version
    loaded = [Path(path).name for path in answer.facts.get("loaded", ())]
    family = surveyed.cuda_family or (
        family_of(loaded, version + " " + module_version) if "CUDA" in surveyed.backends else 0
    )
    examined = InstalledLlama(
        python=str(python),
        python_version=located["python"],
        version=_text(version),
        origin=_text(located["found"]),
        folder=_text((located["folders"] or [str(Path(located["found"]).parent)])[0]),
        others=tuple(map(_text, located.get("others", ()))),
        distributions=distributions,
        module_version=module_version,
        fork=fork_of(distributions[0] if distributions else None, version, located.get("modules", ())),
        variable=str(located.get("variable", "")),
        variable_target_exists=bool(located.get("variable_target_exists", True)),
        places=tuple(map(_text, located["places"])),
        libraries=tuple(map(_text, surveyed.libraries)),
        backends=surveyed.backends,
        modules=surveyed.modules,
        cuda_family=family,
        finds_packages=surveyed.finds_packages,
        strays=tuple(map(_text, surveyed.strays)),
        missing_libraries=surveyed.missing_libraries,
        foreign_libraries=surveyed.foreign_libraries,
        loader_problems=surveyed.loader_problems,
    )
    return _with_import(examined, answer)


def _with_import(examined: InstalledLlama, answer: _Answer) -> InstalledLlama:
    facts = answer.facts
    failure = _text(str(facts.get("failure", "")))
    end = how_it_ended(answer.result, facts, answer.lines)
    log = tuple(_text(line.strip()) for line in answer.lines if not _FRAME.match(line) and not _STACK.match(line))
    return msgspec.structs.replace(
        examined,
        imports=bool(facts.get("imported")),
        offload=facts.get("offload"),
        offload_failure=_text(str(facts.get("offload_failure", ""))),
        devices=_devices(facts.get("devices")),
        system_info=str(facts.get("system_info", "")),
        end=end,
        failure=failure,
        missing_module=str(facts.get("missing_module", "")),
        symbol_version=_newest_symbol_version("\n".join((failure, *examined.loader_problems))),
        missing_instructions=_missing_instructions() if end and end.signal == "SIGILL" else (),
        log=log,
        message=_message(failure, end, log),
    )


def _message(failure: str, end: ImportEnd | None, log: Sequence[str]) -> str:
    """What it reports of what is wrong, in one line."""
    if failure:
        return failure
    if end:
        return f"the import ended the process ({end.signal or f'exit code {end.code}'})"
    return next((line for line in log if "CUDA" in line), "")


def _sorted(rows: Sequence[Mapping[str, Any]], folders: Sequence[str]) -> tuple[Distribution, ...]:
    """The distributions, that of the folder which is imported first."""
    parents = {str(Path(folder).parent) for folder in folders}
    distributions = [Distribution(**row) for row in rows if not row["module"]]
    return tuple(sorted(distributions, key=lambda row: row.folder not in parents and not row.editable))


def _devices(rows: Sequence[Mapping[str, Any]] | None) -> tuple[BackendDevice, ...] | None:
    if rows is None:
        return None
    return tuple(
        BackendDevice(name=row["name"], description=row["description"], backend=row["backend"], gpu=_is_gpu(row))
        for row in rows
    )


def _is_gpu(row: Mapping[str, Any]) -> bool:
    if row["kind"] == _DEVICE_INTEGRATED:
        return not row["backend"] or is_gpu(row["backend"])
    return bool(row["kind"] == _DEVICE_GPU) and row["backend"] != "RPC"


def fork_of(distribution: Distribution | None, version: str, modules: Sequence[str]) -> str:
    """Who builds it, if not upstream, and how that shows; an empty text for upstream's own, or an unknown one."""
    name = re.sub(r"[-_.]+", "-", distribution.name).lower() if distribution else ""
    page = distribution.homepage if distribution else ""
    public, _, label = version.partition("+")
    for row in forks():
        if row.homepage and re.match(row.homepage, page, re.IGNORECASE):
            return f"{row.name} ({page}): {row.note}"
        if (row.distribution and row.distribution == name) or (row.label and re.match(row.label, label)):
            return f"{row.name}: {row.note}"
        if set(row.files) & set(modules):
            return f"{row.name} (it has {', '.join(sorted(set(row.files) & set(modules)))}): {row.note}"
    return _perhaps(public)


def _perhaps(version: str) -> str:
    """Who may have built it, by a number after upstream's newest known release; upstream may have reached it since."""
    newest = max(llama_releases(), key=Version)
    row = next((row for row in forks() if row.ahead), None)
    try:
        is_after = Version(version) > Version(newest)
    except InvalidVersion:
        return ""
    if row is None or not is_after:
        return ""
    return f"perhaps {row.name}: the newest upstream release known to this tool is {newest}"


# --- how it ended ---------------------------------------------------------------------------------------------


def how_it_ended(result: Completed | None, facts: Mapping[str, Any], lines: Sequence[str]) -> ImportEnd | None:
    """How the process ended, from its exit, its last step and faulthandler's frames; None for an end without fault."""
    if result is None or facts.get("step") == "end" or "failure" in facts:
        return None
    hung = result.timed_out or any(line.startswith("Timeout (") for line in lines)
    frames = crashed_frames(lines)
    where, in_loader = _place(frames)
    return ImportEnd(
        step=str(facts.get("step", "start")),
        seconds=float(facts.get("seconds", TOTAL_SECONDS)) if hung else 0.0,
        signal=_signal_name(-result.code) if result.code < 0 and not hung else "",
        code=max(result.code, 0),
        where=where,
        loading=_text(str(facts.get("loading", ""))) if in_loader or not frames else "",
    )


def crashed_frames(lines: Sequence[str]) -> list[tuple[str, int, str]]:
    """(file, line, function) of the thread that matters, innermost first: the current one, else the main one."""
    stacks: list[tuple[bool, list[tuple[str, int, str]]]] = []
    for line in lines:
        if line.startswith(("Current thread", "Thread ")) and "most recent call first" in line:
            stacks.append((line.startswith("Current"), []))
        elif stacks and (match := _FRAME.match(line)):
            stacks[-1][1].append((match["file"], int(match["line"]), match["function"]))
    current = next((frames for is_current, frames in stacks if is_current), None)
    return current if current is not None else (stacks[-1][1] if stacks else [])


def _place(frames: Sequence[tuple[str, int, str]]) -> tuple[str, bool]:
    """Where it was, in the package's own code, and whether a library was being loaded."""
    in_loader = bool(frames) and frames[0][0].endswith("ctypes/__init__.py") and frames[0][2] == "__init__"
    for file, line, function in frames:
        if "importlib" not in file and "ctypes/__init__" not in file and file != installed_child.__file__:
            return _text(f"{file}, line {line}, in {function}"), in_loader
    return "", in_loader


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _newest_symbol_version(text: str) -> str:
    """The newest version that the library has which lacks one, for the first line of the loader about that."""
    match = SYMBOL_VERSION.search(text)
    try:
        return newest_version(Path(match["file"]), match["family"]) if match else ""
    except OSError:
        return ""


def _missing_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """The instruction sets that this processor lacks; none where that cannot be read."""
    try:
        match = re.search(r"(?m)^flags\s*:(.*)$", cpuinfo.read_text())
    except OSError:
        return ()
    has = set(match[1].split()) if match else set()
    return tuple(name for name in INSTRUCTION_SETS if name not in has) if has else ()


def _text(value: str) -> str:
    """Text that can be written anywhere: a name of a file may hold bytes that are no text."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
