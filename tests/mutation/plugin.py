"""A pytest plugin: records which test reaches which line of the package, or runs the tests that were chosen alone.

``MUTATION_REACH`` names the file to record into, ``MUTATION_ONLY`` a file with the tests to run, one id on each line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

PACKAGE = "build_matrix"


class Recorder:
    """Lines by test, and seconds by test."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._seconds: dict[str, float] = {}
        self._coverage = coverage.Coverage(
            data_file=str(target.with_suffix(".coverage")), include=[f"{PACKAGE}/*"], config_file=False
        )
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Count what happens from the first fixture to the last to this test."""
        self._coverage.switch_context(item.nodeid)
        result = yield
        self._coverage.switch_context("")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the seconds of a test's setup, call and teardown."""
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        """Write what was recorded; a line that runs on import belongs to the test \"\"."""
        self._coverage.stop()
        data = self._coverage.get_data()
        lines = {
            Path(path).relative_to(Path.cwd()).as_posix(): data.contexts_by_lineno(path)
            for path in data.measured_files()
        }
        self._target.write_text(json.dumps({"lines": lines, "seconds": self._seconds}), encoding="utf-8")


class Selection:
    """Only the tests that were chosen, the fastest first."""

    def __init__(self, chosen: list[str]) -> None:
        self._order = {nodeid: place for place, nodeid in enumerate(chosen)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the chosen ones, in their order."""
        items[:] = sorted((i for i in items if i.nodeid in self._order), key=lambda i: self._order[i.nodeid])


def pytest_configure(config: pytest.Config) -> None:
    """Do what the environment asks for."""
    if chosen := os.environ.get("MUTATION_ONLY"):
        config.pluginmanager.register(Selection(Path(chosen).read_text(encoding="utf-8").splitlines()))


if _target := os.environ.pop("MUTATION_REACH", None):  # before conftest.py imports the package
    _recorder = Recorder(Path(_target))
    pytest_runtest_protocol = _recorder.pytest_runtest_protocol
    pytest_runtest_logreport = _recorder.pytest_runtest_logreport
    pytest_sessionfinish = _recorder.pytest_sessionfinish
