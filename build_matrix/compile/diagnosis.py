"""Why did the build fail? The first real error of a log of ten thousand lines, in one sentence."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

from build_matrix.errors import BuildMatrixError, CompileError, DiskFullError, NetworkAccessError
from build_matrix.process.runner import NO_SPACE

_KILLED = re.compile(r"died due to signal 9|Killed signal terminated program|out of memory allocating")
_ERRORS = (
    re.compile(r"^CMake Error"),
    re.compile(r"(: |\b)(fatal )?error( #\d+)?\s*:", re.IGNORECASE),
    re.compile(r"^nvcc (fatal|error)"),
    re.compile(r"undefined reference to|multiple definition of"),
    re.compile(r"^ninja: (error|fatal)"),
    re.compile(r"^(ERROR|\*\*\*|ModuleNotFoundError|ImportError)\b.*"),
)
_NETWORK = re.compile(
    r"[Cc]ould ?n[o']t resolve|[Nn]ame or service not known|name resolution|[Nn]etwork is unreachable"
    r"|[Cc]ould ?n[o']t connect|[Ff]ailed to connect|status_code: (6|7)\b|127\.0\.0\.1:9\b|127\.0\.0\.1 port 9\b"
)
CONTEXT = 3  # lines after a bare "CMake Error at ..."


def explain_failure(log: Path, store: Path, jobs: int) -> BuildMatrixError:
    """The error for a failed build, from its log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    text = "\n".join(lines)
    if NO_SPACE.search(text):
        return DiskFullError(store)
    if _NETWORK.search(text):
        return explain_network(log)
    first = first_error(lines)
    if _KILLED.search(text):
        fewer = max(1, jobs // 2)
        return CompileError(
            f"The system killed a compiler, most likely because memory ran out: {first}",
            f"Try again with --jobs {fewer}; compiled files are kept. Full log: {log}",
        )
    return CompileError(f"Compiling failed: {first}", f"Full log: {log}")


def explain_network(log: Path) -> NetworkAccessError:
    """The error for a build in which something tried to reach the network, with the line that tells, if one does."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    evidence = next((line.strip() for line in lines if _NETWORK.search(line)), "the log does not show which")
    return NetworkAccessError(
        f"A step of the build tried to reach the network: {evidence}",
        "Everything that is compiled must be locked: remove the --define or the patch that downloads something. "
        f"Full log: {log}",
    )


def first_error(lines: list[str]) -> str:
    """The first line that reports an error; of CMake's, with the lines that say what it was."""
    for number, line in enumerate(lines):
        if any(pattern.search(line) for pattern in _ERRORS) and not line.startswith("["):
            if line.startswith("CMake Error"):
                details = takewhile(str.strip, lines[number + 1 : number + 1 + CONTEXT])
                return " ".join([line.strip(), *(text.strip() for text in details)])
            return line.strip()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")
