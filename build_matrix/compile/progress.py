"""How long will the rest of a compilation take? From the work that is left, not from the count of steps.

Ninja compiles llama.cpp's small C files first and the CUDA kernels, of which each takes a minute, last. Here each
source has an expected time by its kind and size, which the times of those that are done correct while it runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

# Seconds of one core of a shared host, for 0.3.16 with CUDA 13.0 and one architecture. Only their ratios count.
CUDA_SECONDS = 50.0  # whatever the size: a template instance of one line is a minute's work
HOST_SECONDS, HOST_SECONDS_A_KILOBYTE = 3.0, 0.12
# How much expected time must be done before a kind's own ratio of time to expectation outweighs that of all kinds.
WEIGHT_OF_ALL = 30.0

_EDGE = re.compile(r"build (?P<output>\S+): (?P<language>C|CXX|CUDA)_COMPILER\S* (?P<source>\S+)")
_INCLUDE = re.compile(r'#include "(/[^"]+)"')  # as CMake writes the sources of a unity build


class Step(NamedTuple):
    """One source that is compiled: its language, and the expected time in seconds."""

    language: str
    expected: float


class Times:
    """Ninja's own log of a build folder, which it writes a line to for each step that has ended.

    https://ninja-build.org/manual.html#ref_log: start and end in milliseconds since Ninja's start, and the output.
    """

    def __init__(self, build: Path) -> None:
        self._path = build / ".ninja_log"
        self._earlier = self._read()

    def read(self) -> dict[str, float]:
        """Seconds by output of what ended since this object was made."""
        lines = self._read()
        earlier = len(self._earlier) if lines[: len(self._earlier)] == self._earlier else 0
        return dict(map(_time, lines[earlier:]))

    def earlier(self) -> set[str]:
        """The outputs of a run before."""
        return {_time(line)[0] for line in self._earlier}

    def _read(self) -> list[list[str]]:
        """The whole lines; none where there is no log yet."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        rows = [line.split("\t") for line in text[: text.rfind("\n") + 1].splitlines()]
        return [row for row in rows if len(row) == 5 and row[0].isdecimal() and row[1].isdecimal()]  # noqa: PLR2004


def _time(row: list[str]) -> tuple[str, float]:
    return row[3], (int(row[1]) - int(row[0])) / 1000


def planned_steps(build: Path, architectures: int, folders: Mapping[Path, Path]) -> dict[str, Step]:
    """What ``build``/build.ninja compiles, by output; nothing where it cannot be read.

    ``folders`` maps what the compilers see to where it is. nvcc compiles one of the ``architectures`` after the other.
    """
    try:
        text = (build / "build.ninja").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    steps = {}
    for match in _EDGE.finditer(text):
        if match["language"] == "CUDA":
            expected = CUDA_SECONDS * architectures
        else:
            size = source_size(build / match["source"], folders)
            expected = HOST_SECONDS + HOST_SECONDS_A_KILOBYTE * size / 1000
        steps[match["output"]] = Step(match["language"], expected)
    return steps


def source_size(source: Path, folders: Mapping[Path, Path]) -> int:
    """Bytes of a source, and of what a unity source includes; 0 where it cannot be read."""
    try:
        text = real_path(source, folders).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    included = (real_path(Path(name), folders) for name in set(_INCLUDE.findall(text)))
    return len(text) + sum(path.stat().st_size for path in included if path.is_file())


def real_path(path: Path, folders: Mapping[Path, Path]) -> Path:
    """Where a path lies that the compilers see."""
    for visible, real in folders.items():
        if path.is_relative_to(visible):
            return real / path.relative_to(visible)
    return path


def seconds_left(steps: Mapping[str, Step], times: Mapping[str, float], jobs: int) -> float | None:
    """Seconds until all ``steps`` are done, ``jobs`` at a time; None as long as none of them is.

    ``times`` are the seconds that those took which are done.
    """
    completed = {output: step for output, step in steps.items() if output in times}
    if not completed:
        return None
    overall = _ratio(completed, times)
    remaining = 0.0
    for language in {step.language for step in steps.values()}:
        same_language = {output: step for output, step in completed.items() if step.language == language}
        weight = sum(step.expected for step in same_language.values())
        ratio = (_ratio(same_language, times) * weight + overall * WEIGHT_OF_ALL) / (weight + WEIGHT_OF_ALL)
        rest = (step for output, step in steps.items() if output not in times and step.language == language)
        remaining += ratio * sum(step.expected for step in rest)
    return remaining / jobs


def _ratio(completed: Mapping[str, Step], times: Mapping[str, float]) -> float:
    """How many times as long as expected these took; 1 for none."""
    expected = sum(step.expected for step in completed.values())
    return sum(times[output] for output in completed) / expected if expected else 1.0
