"""Why does an installed llama_cpp not offload? Looked at from outside, without importing it here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from build_matrix.errors import ConfigurationError
from build_matrix.model import InstalledLlama
from build_matrix.native import Library, read_library
from build_matrix.probe import installed_child
from build_matrix.runner import run

SECONDS = 60.0
EXPLAIN = "LLAMA_CPP_BACKENDS"  # our wheels then say which back ends they tried, and why one was not loaded
_CUDA_LIBRARY = re.compile(r"libcudart\.so\.(\d+)|cudart64_(\d+)")


def examine_environment(python: Path, environ: Mapping[str, str]) -> InstalledLlama:
    """Examine the llama_cpp that ``python`` would import; raises ConfigurationError when it is no Python."""
    facts = _ask(python, environ)
    if "found" not in facts:
        raise ConfigurationError(f"{python} is not a Python that answers.", "Name an interpreter with --python.")
    folders = [Path(folder) for folder in facts["found"]]
    if not folders:
        return InstalledLlama(python=str(python), version=str(facts.get("version", "")))
    libraries = _libraries(folders[0])
    names = {path.name for path in libraries}
    missing = set()
    for path, library in libraries.items():
        missing |= {n for n in library.needed if n not in names and not _resolves(n, path, library, facts)}
    families = [_family(name) for library in libraries.values() for name in library.needed]
    return InstalledLlama(
        python=str(python),
        version=str(facts.get("version", "")),
        folder=str(folders[0]),
        shadowed=tuple(str(folder) for folder in folders[1:]),
        cuda_family=max(families, default=0),
        missing_libraries=tuple(sorted(missing)),
        imports=bool(facts.get("imported")),
        offload=bool(facts.get("offload")),
        said=str(facts.get("failure") or facts.get("log") or ""),
    )


def _ask(python: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """What the child found; a crash of the import is a fact like any other."""
    facts: dict[str, Any] = {}
    other: list[str] = []

    def collect(line: str) -> None:
        if line.startswith(installed_child.PREFIX):
            facts.update(json.loads(line.removeprefix(installed_child.PREFIX)))
        elif line.strip():
            other.append(line.strip())

    try:
        variables = {**environ, EXPLAIN: "explain"}
        done = run([python, installed_child.__file__], env=variables, on_line=collect, timeout=SECONDS)
    except OSError:
        return {}
    if done.code and "failure" not in facts:
        facts["failure"] = f"the import ended the process (code {done.code}): {other[-1] if other else 'no output'}"
    facts["log"] = next((line for line in other if "CUDA" in line), "")
    return facts


def _libraries(folder: Path) -> dict[Path, Library]:
    found = {}
    for path in sorted(folder.rglob("*.so*")):
        library = read_library(path.read_bytes())
        if library:
            found[path] = library
    return found


def _family(name: str) -> int:
    match = _CUDA_LIBRARY.match(name)
    return int(match[1] or match[2]) if match else 0


def _resolves(name: str, path: Path, library: Library, facts: Mapping[str, Any]) -> bool:
    """Whether the loader finds ``name`` for this library: RUNPATH, LD_LIBRARY_PATH, or the system's own."""
    folders = [text.replace("$ORIGIN", str(path.parent)) for text in library.runpath]
    folders += os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    return any(folder and (Path(folder) / name).exists() for folder in folders) or name in facts.get("system", ())
