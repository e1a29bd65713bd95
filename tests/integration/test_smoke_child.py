"""Crash, hang, abort, too much memory: results with a cause. Real processes, a hollow llama_cpp."""

from __future__ import annotations

import subprocess
import sys

import pytest
from contexts import in_context

from build_matrix.diagnosis import diagnose_run
from build_matrix.model import Machine
from build_matrix.store import Store
from build_matrix.trial.environment import Environment
from build_matrix.verify import smoke
from build_matrix.verify.smoke import SmokeTest, prepare_smoke_test, run_on_cpu

HOLLOW = "__version__ = '0.3.16'\ndef llama_supports_gpu_offload(): return False\n"


@pytest.fixture(scope="module")
def smoke_test(tmp_path_factory: pytest.TempPathFactory) -> SmokeTest:
    folder = tmp_path_factory.mktemp("smoke")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "environment"], check=True)
    environment = Environment(python=folder / "environment" / "bin" / "python", folder=folder)
    return prepare_smoke_test(in_context(Store(folder / "store"), cpus=2), environment, None)


def package(test: SmokeTest, text: str) -> None:
    (site,) = test.environment.python.parents[1].glob("lib/python*/site-packages")
    (site / "llama_cpp").mkdir(exist_ok=True)
    (site / "llama_cpp" / "__init__.py").write_text(text)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("text", "rule", "words"),
    [
        ("import os; os.abort()", "unknown", "SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "illegal instruction", "SIGILL"),
        ("import time; time.sleep(60)", "no end", "no end within 5 s"),
        ("x = b'x' * (3 << 29)\nimport time; time.sleep(60)", "too much memory", "too much memory"),
        (
            "raise OSError('libcudart.so.13: cannot open shared object file: No such file')",
            "library of CUDA missing",
            "cudart",
        ),
        (HOLLOW.replace("0.3.16", "0.0.1"), "shadowed", "0.0.1 from"),
        (HOLLOW, "unknown", "AttributeError"),
        ("print('\\x00\\xff garbage')\nraise SystemExit(3)", "unknown", "exit code 3"),
    ],
)
def test_whatever_the_wheel_does_is_a_result(
    smoke_test: SmokeTest, machine: Machine, monkeypatch: pytest.MonkeyPatch, text: str, rule: str, words: str
) -> None:
    monkeypatch.setattr(smoke, "SECONDS", 5.0 if rule == "no end" else 300.0)  # a machine may be busy
    monkeypatch.setattr(smoke, "MEMORY", 1 << 30)
    package(smoke_test, text)
    result = run_on_cpu(smoke_test, "0.3.16+cu130.sm89")
    assert not result.passed
    finding = diagnose_run(result.facts, result.checks, machine, None, 13)
    assert (finding.rule, words in finding.fact) == (rule, True), finding
    assert str(smoke_test.folder) not in "".join(result.facts.log)
