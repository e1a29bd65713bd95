"""A program of a stage does its jobs in a wheel's environment: real processes, with a stand-in for llama_cpp."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from build_matrix.model import Record, RunFacts
from build_matrix.trial import harness
from build_matrix.trial.child import ChildResult, JobResult, Limits, replace_text, run_child
from build_matrix.trial.environment import Environment, child_variables

LLAMA = "__version__ = '0.3.16'\ndef llama_supports_gpu_offload(): return 1\n"
LIMITS = Limits(seconds=60, memory=8 << 30)


class Job(Record, frozen=True, kw_only=True):
    """A job of these tests' program."""

    name: str
    code: str = ""


PROGRAM = """
import os, sys, time

def work(job, report):
    print("load_tensors: offloaded 3/4 layers to GPU", file=sys.stderr, flush=True)
    report(job=job["name"], state="loaded")
    exec(job["code"])
    report(job=job["name"], tokens=len(job["name"]), vocabulary=99)
    return {"load": 0.5, "prompt": 2}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("trial")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "environment"], check=True)
    python = folder / "environment" / "bin" / "python"
    (site,) = (folder / "environment").glob("lib/python*/site-packages")
    (site / "llama_cpp").mkdir()
    (site / "llama_cpp" / "__init__.py").write_text(LLAMA)
    (folder / "program.py").write_text(PROGRAM)
    return Environment(python=python, folder=folder)


def run(environment: Environment, *jobs: Job, limits: Limits = LIMITS, **variables: str) -> ChildResult:
    return run_child(environment, environment.folder / "program.py", jobs, limits, variables=variables)


def test_each_job_is_done_and_what_it_reports_is_typed(environment: Environment) -> None:
    result = run(environment, Job(name="a"), Job(name="longer"))
    facts = result.facts
    assert (facts.version, facts.offload, facts.backends) == ("0.3.16", True, ())
    assert Path(facts.folder).is_relative_to(environment.folder)
    assert (facts.finished, facts.code, facts.job) == (True, 0, "longer")
    assert facts.log == ("load_tensors: offloaded 3/4 layers to GPU",) * 2
    seconds = {"load": 0.5, "prompt": 2.0}
    assert result.jobs == {
        "a": JobResult(layers=(3, 4), tokens=1, vocabulary=99, seconds=seconds),
        "longer": JobResult(layers=(3, 4), tokens=6, vocabulary=99, seconds=seconds),
    }
    assert result.job("a") == result.jobs["a"]
    assert result.job("never begun") == JobResult()


def test_a_child_that_ends_early_leaves_what_came_before(environment: Environment) -> None:
    result = run(environment, Job(name="good"), Job(name="bad", code="os.abort()"), Job(name="never"))
    assert (result.facts.finished, result.facts.code, result.facts.job) == (False, -6, "bad")
    assert result.job("good").seconds
    assert result.job("bad") == JobResult(layers=(3, 4))
    assert "never" not in result.jobs


def test_a_child_is_ended_at_its_limits(environment: Environment) -> None:
    slow = run(environment, Job(name="slow", code="time.sleep(60)"), limits=Limits(seconds=2, memory=8 << 30))
    assert (slow.facts.timed_out, slow.facts.memory_exceeded, slow.facts.finished) == (2, False, False)
    code = "x = b'x' * (1 << 28); time.sleep(60)"
    greedy = run(environment, Job(name="greedy", code=code), limits=Limits(seconds=60, memory=1 << 27))
    assert (greedy.facts.timed_out, greedy.facts.memory_exceeded, greedy.facts.finished) == (0.0, True, False)


def test_a_child_has_the_variables_that_it_is_given_and_no_others(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    result = run(environment, Job(name="a", code="print(sorted(os.environ), os.getcwd())"), OURS="1")
    names = ["HOME", "LC_ALL", "OURS", "PATH", "TMPDIR"]
    assert f"{names} {environment.folder}" in result.facts.log


@pytest.mark.parametrize("text", ["no JSON", '{"unknown": 1}', '{"tokens": "many"}', "[]"])
def test_a_line_that_only_looks_like_a_report_is_part_of_the_log(environment: Environment, text: str) -> None:
    line = harness.PREFIX + text
    result = run(environment, Job(name="a", code=f"print({line!r})"))
    assert result.facts.finished
    assert line in result.facts.log
    assert result.job("a").tokens == 1


def test_layers_that_are_logged_before_any_job_belong_to_none(environment: Environment) -> None:
    (site,) = (environment.folder / "environment").glob("lib/python*/site-packages")
    try:
        (site / "llama_cpp" / "__init__.py").write_text("print('offloaded 1/2 layers to GPU', flush=True)\n" + LLAMA)
        assert run(environment).jobs == {}
    finally:
        (site / "llama_cpp" / "__init__.py").write_text(LLAMA)


def test_the_driver_is_found_where_this_process_would_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("driver", "toolkit"):
        (tmp_path / name).mkdir()
    (tmp_path / "driver" / "libcuda.so.1").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", os.pathsep.join(["", str(tmp_path / "toolkit"), str(tmp_path / "driver")]))
    assert child_variables(tmp_path)["LD_LIBRARY_PATH"] == str(tmp_path / "driver")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "toolkit"))
    folder = str(tmp_path)
    assert child_variables(tmp_path) == {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LC_ALL": "C.UTF-8"}


def test_a_private_text_is_replaced_in_whatever_is_published() -> None:
    facts = RunFacts(log=("in /tmp/x/y", "none"), backends=("/tmp/x",), folder="/tmp/x")
    public = replace_text(facts, "/tmp/x", "/verify")
    assert (public.log, public.backends) == (("in /verify/y", "none"), ("/verify",))
    assert facts.log[0] == "in /tmp/x/y"
