"""How the child that imports llama_cpp ended, and who builds what it imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from build_matrix.catalog import llama_releases
from build_matrix.model import Distribution, ImportEnd
from build_matrix.probe import installed, installed_child
from build_matrix.probe.installed import SYMBOL_VERSION, crashed_frames, fork_of, how_it_ended
from build_matrix.process.runner import Completed

CRASH = """\
Fatal Python error: Illegal instruction

Thread 0x00007f0000000001 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait

Current thread 0x00007f0000000002 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 376 in __init__
  File "/site/llama_cpp/_ctypes_extensions.py", line 67 in load_shared_library
  File "<frozen importlib._bootstrap>", line 241 in _call_with_frames_removed
  File "/site/llama_cpp/llama_cpp.py", line 38 in <module>

Extension modules: numpy.core._multiarray_umath (total: 1)
""".splitlines()
HANG = """\
Timeout (0:00:12)!
Thread 0x00007f0000000001 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait
Thread 0x00007f0000000002 (most recent call first):
  File "/site/llama_cpp/__init__.py", line 1 in <module>
""".splitlines()


def completed(code: int, *, timed_out: bool = False) -> Completed:
    return Completed(["python"], code, [], timed_out=timed_out)


def test_the_crashed_thread_is_the_current_one_else_the_main_one() -> None:
    assert crashed_frames(CRASH)[1] == ("/site/llama_cpp/_ctypes_extensions.py", 67, "load_shared_library")
    assert crashed_frames(HANG) == [("/site/llama_cpp/__init__.py", 1, "<module>")]
    assert crashed_frames(["nothing"]) == []


def test_a_signal_is_named_with_the_library_that_was_loaded() -> None:
    facts = {"step": "import", "seconds": 12.0, "loading": "/site/llama_cpp/lib/libllama.so"}
    assert how_it_ended(completed(-4), facts, CRASH) == ImportEnd(
        step="import",
        signal="SIGILL",
        where="/site/llama_cpp/_ctypes_extensions.py, line 67, in load_shared_library",
        loading="/site/llama_cpp/lib/libllama.so",
    )


def test_a_library_that_was_loaded_before_is_not_blamed() -> None:
    end = how_it_ended(completed(1), {"step": "import", "seconds": 12.0, "loading": "/lib/a.so"}, HANG)
    assert end == ImportEnd(
        step="import", seconds=12.0, code=1, where="/site/llama_cpp/__init__.py, line 1, in <module>"
    )


@pytest.mark.parametrize(
    ("done", "facts", "end"),
    [
        (completed(0), {"step": "end"}, None),
        (completed(0), {"step": "import", "failure": "ImportError: x"}, None),
        (None, {}, None),
        (completed(3), {"step": "import", "seconds": 12.0}, ImportEnd(step="import", code=3)),
        (completed(-9, timed_out=True), {}, ImportEnd(step="start", seconds=20.0)),
        (completed(-9, timed_out=True), {"step": "devices", "seconds": 6.0}, ImportEnd(step="devices", seconds=6.0)),
        (completed(-99), {"step": "import"}, ImportEnd(step="import", signal="signal 99")),
    ],
)
def test_an_end_by_itself_is_none_and_any_other_is_a_fact(
    done: Completed | None, facts: dict[str, Any], end: ImportEnd | None
) -> None:
    assert how_it_ended(done, facts, []) == end


@pytest.mark.parametrize(
    ("name", "homepage", "version", "modules", "who"),
    [
        ("llama_cpp_python", "https://github.com/abetlen/llama-cpp-python", "0.3.36", ["llama.py"], ""),
        ("llama_cpp_python", "", "0.3.36+cu124", [], ""),
        ("llama_cpp_python", "", "0.3.36+cu130.sm89", [], ""),
        ("llama_cpp_python", "https://github.com/JamePeng/llama-cpp-python", "0.3.20", [], "JamePeng"),
        ("llama_cpp_python", "", "0.3.37", ["llama_embedding.py"], "JamePeng"),
        ("llama_cpp_python", "", "99.0+cuda13.0.sm86.ampere", [], "dougeeai"),
        ("llama_cpp_python", "", "0.3.20", ["llama_embedding.py"], "JamePeng"),
        ("llama_cpp_python", "", "0.3.16+cuda13.0.sm86.ampere", [], "dougeeai"),
        ("llama_cpp_python_ampere", "", "0.3.16", [], "Ampere"),
        ("llama_cpp_python", "", "unknown", [], ""),
    ],
)
def test_a_build_by_others_is_recognised(name: str, homepage: str, version: str, modules: list[str], who: str) -> None:
    fork = fork_of(Distribution(name=name, version=version, homepage=homepage), version, modules)
    assert fork.startswith(who)
    assert bool(fork) == bool(who)


def test_a_number_after_upstreams_newest_known_release_is_no_certainty(monkeypatch: pytest.MonkeyPatch) -> None:
    def built_by(version: str) -> str:
        return fork_of(Distribution(name="llama_cpp_python", version=version), version, [])

    newest = max(llama_releases(), key=Version)
    expected = "perhaps JamePeng's fork: the newest upstream release known to this tool is "
    assert built_by(newest) == ""
    assert built_by(f"{newest}.post1") == expected + newest
    monkeypatch.setattr(installed, "llama_releases", lambda: {"0.3.9": None, "0.3.40": None})
    assert built_by("0.3.40") == ""
    assert built_by("0.3.41") == expected + "0.3.40"


@pytest.mark.parametrize(
    ("text", "version", "by"),
    [
        ("/lib/libc.so.6: version `GLIBC_2.38' not found (required by /x/libllama.so)", "GLIBC_2.38", "/x/libllama.so"),
        ("OSError: /c/lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found", "GLIBCXX_3.4.30", None),
        ("/usr/lib/libgomp.so.1: version `GOMP_5.0' not found (required by /x/a.so)", "GOMP_5.0", "/x/a.so"),
    ],
)
def test_the_version_that_is_asked_for_is_read_from_the_loaders_line(text: str, version: str, by: str | None) -> None:
    match = SYMBOL_VERSION.search(text)
    assert match is not None
    assert (match["version"], match["by"]) == (version, by)


def test_only_the_folder_of_an_editable_install_is_reported(tmp_path: Path) -> None:
    local = {"url": "file:///home/a%20b/src", "dir_info": {"editable": True}}
    assert installed_child.editable(json.dumps(local)) == "/home/a b/src"
    assert installed_child.editable(json.dumps({**local, "dir_info": {}})) == ""
    remote = {"url": "https://user:s3cret@host/x.git", "dir_info": {"editable": True}}
    assert installed_child.editable(json.dumps(remote)) == ""
    assert [installed_child.editable(text) for text in ("[", "[]", None, "1")] == ["", "", "", ""]


def test_a_chain_of_exceptions_is_told_once_each() -> None:
    inner = OSError("libcudart.so.12: cannot open shared object file")
    outer = RuntimeError(f"Failed to load shared library: {inner}")
    outer.__cause__ = inner
    assert installed_child.describe(outer) == f"RuntimeError: {outer}"
    other = RuntimeError("failed")
    other.__cause__ = inner
    assert installed_child.describe(other) == f"RuntimeError: failed <- OSError: {inner}"
    other.__cause__ = other
    assert installed_child.describe(other) == "RuntimeError: failed"


def test_the_module_that_is_missing_is_found_in_the_chain() -> None:
    outer = ImportError("llama_cpp needs numpy")
    outer.__cause__ = ModuleNotFoundError("No module named 'numpy'", name="numpy")
    assert installed_child.missing_module(outer) == "numpy"
    assert installed_child.missing_module(ValueError("x")) == ""
