"""The time left while compiling: from the work left, as Ninja's own log of a build shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_matrix.compile.progress import (
    CUDA_SECONDS,
    HOST_SECONDS,
    HOST_SECONDS_A_KILOBYTE,
    Step,
    Times,
    planned_steps,
    seconds_left,
)

# Of 0.3.16+cu130.sm89 with the check profile, on two cores that others used too: when each source began and ended
# (milliseconds), its language, bytes (with what a unity source includes), object.
RECORDED = Path(__file__).parents[1] / "helpers" / "recorded_build.tsv"
JOBS = 2
FACTOR = 1.6  # how far an estimate may be off

NINJA_FILE = """\
build unrelated: phony x.o
build a.dir/one.c.o: C_COMPILER__a_unscanned_Release /seen/src/one.c || order
  FLAGS = -O3
build a.dir/Unity/unity_0_cxx.cxx.o: CXX_COMPILER__a_unscanned_Release /seen/build/unity_0_cxx.cxx
build b.dir/kernel.cu.o: CUDA_COMPILER__b_unscanned_Release /seen/src/kernel.cu | header.h
build libb.so: CUDA_MODULE_LIBRARY_LINKER__b_Release b.dir/kernel.cu.o
"""


class Recorded:
    """A build: what was to do, and when what had ended."""

    def __init__(self) -> None:
        rows = [line.split("\t") for line in RECORDED.read_text(encoding="utf-8").splitlines()]
        self.ends = {output: int(end) / 1000 for _, end, _, _, output in rows}
        self.times = {output: (int(end) - int(start)) / 1000 for start, end, _, _, output in rows}
        self.steps = {
            output: Step(language, CUDA_SECONDS if language == "CUDA" else host_seconds(int(size)))
            for _, _, language, size, output in rows
        }
        self.length = max(self.ends.values())

    def times_at(self, moment: float) -> dict[str, float]:
        return {output: self.times[output] for output, end in self.ends.items() if end <= moment}


def host_seconds(size: int) -> float:
    return HOST_SECONDS + HOST_SECONDS_A_KILOBYTE * size / 1000


@pytest.mark.parametrize("part", [0.1, 0.25, 0.5, 0.75])
def test_of_a_recorded_build_the_time_left_is_right_within_a_factor(part: float) -> None:
    recorded = Recorded()
    moment = part * recorded.length
    left = seconds_left(recorded.steps, recorded.times_at(moment), JOBS)
    assert left is not None
    true = recorded.length - moment
    assert true / FACTOR <= left <= true * FACTOR, (left, true)


@pytest.mark.parametrize("slower", [0.5, 3.0, 8.0])
def test_kernels_that_take_longer_than_expected_count_longer_as_soon_as_some_are_done(slower: float) -> None:
    """As the release profile, and a list of architectures, take longer than what was recorded."""
    recorded = Recorded()
    kernels = {output: step for output, step in recorded.steps.items() if step.language == "CUDA"}
    times = {output: slower * recorded.times[output] for output in recorded.steps if output in kernels}
    half = dict(list(times.items())[: len(times) // 2])
    true = sum(seconds for output, seconds in times.items() if output not in half) / JOBS
    left = seconds_left(kernels, half, JOBS)
    assert left is not None
    assert true / FACTOR <= left <= true * FACTOR


def test_113_of_272_steps_that_were_small_leave_the_large_ones() -> None:
    """By the count of steps 5 minutes were left, when it was 20."""
    steps = {f"{number}.c.o": Step("C", 3.0) for number in range(113)}
    steps |= {f"{number}.cu.o": Step("CUDA", CUDA_SECONDS) for number in range(159)}
    times = {f"{number}.c.o": 3.0 for number in range(113)}
    left = seconds_left(steps, times, JOBS)
    assert left == pytest.approx(159 * CUDA_SECONDS / JOBS)


def test_before_anything_is_done_nothing_is_known_and_at_the_end_nothing_is_left() -> None:
    steps = {"a.o": Step("C", 3.0)}
    assert seconds_left(steps, {}, JOBS) is None
    assert seconds_left(steps, {"a.o": 1.0}, JOBS) == 0
    assert seconds_left({}, {"a.o": 1.0}, JOBS) is None


def test_what_is_compiled_is_read_from_build_ninja_with_the_sizes_of_sources(tmp_path: Path) -> None:
    build, src = tmp_path / "build", tmp_path / "src"
    build.mkdir()
    src.mkdir()
    (build / "build.ninja").write_text(NINJA_FILE)
    (src / "one.c").write_text("x" * 1000)
    (src / "two.cpp").write_text("y" * 5000)
    unity = f'#include "{Path("/seen/src/two.cpp")}"\n'
    (build / "unity_0_cxx.cxx").write_text(unity)
    steps = planned_steps(build, 3, {Path("/seen"): tmp_path})
    assert steps == {
        "a.dir/one.c.o": Step("C", host_seconds(1000)),
        "a.dir/Unity/unity_0_cxx.cxx.o": Step("CXX", host_seconds(5000 + len(unity))),
        "b.dir/kernel.cu.o": Step("CUDA", 3 * CUDA_SECONDS),
    }
    assert planned_steps(tmp_path, 3, {}) == {}


def test_ninjas_log_is_read_while_it_is_written_and_an_earlier_run_is_told_apart(tmp_path: Path) -> None:
    log = tmp_path / ".ninja_log"
    assert (Times(tmp_path).read(), Times(tmp_path).earlier()) == ({}, set())
    log.write_text("# ninja log v7\n0\t1500\t1\tx.o\tabc\n")
    times = Times(tmp_path)
    assert (times.earlier(), times.read()) == ({"x.o"}, {})
    log.write_text(log.read_text() + "500\t3000\t2\ty.o\tdef\n10\t20\t3\tz.")  # the last line is being written
    assert times.read() == {"y.o": 2.5}
    log.write_text("# ninja log v7\n0\t4000\t2\tx.o\tabc\n")  # Ninja has written it anew
    assert times.read() == {"x.o": 4.0}
