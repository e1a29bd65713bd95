"""Runs the command line in random surroundings, each in a fork of one warm process; prints one JSON object a case.

``python surroundings.py FOLDER SEED FIRST END`` runs the cases FIRST to END - 1 of a seed. What a case consists of
depends on the seed and its number alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import platform
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SECONDS = 60.0
GONE = "{F}/gone"  # a current folder that is removed before the command starts
CLOSED = "{F}/closed"  # a current folder that nobody may read
NOT_OURS = 99  # exit code: something came out of main() that is no SystemExit
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2  # linux/capability.h
CAPABILITY_VERSION = 0x20080522

ENCODINGS = ("utf-8", "utf-8", "ascii", "latin-1", "cp1252", "cp437", "koi8-r", "shift_jis", "utf-16")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("doctor",),
    ("doctor",),
    ("doctor", "--json"),
    ("doctor", "--wheels", "wheels"),
    ("doctor", "--json", "--wheels", "{F}/wheels"),
    ("doctor", "--store", "{F}/file"),
    ("doctor", "--store", "{F}/loop/x", "--wheels", "{F}/closed"),
    ("doctor", "--python", "{F}/file"),
    ("doctor", "--store", "relative", "--wheels", "{F}/file"),
)
FOLDERS = (
    "", " ", ".", "relative", "~", "~nobody-of-this-name/x", "{F}/absent", "{F}/file", "{F}/file/x", "{F}/closed",
    "{F}/closed/x", "{F}/dangling", "{F}/loop", "{F}/loop/x", "{F}/b\udcff", "{F}/ü ö", "{F}/" + "x" * 300, "/",
    "{F}/empty", "/dev/null", "{F}/line\nbreak", "{F}/[bold]",
)  # fmt: skip
PROGRAMS = (
    "", " ", "nvcc", "g++", "no-such-program", "ccache nvcc", "ccache g++", '"never closed', "{F}/bin/garbage",
    "{F}/bin/crash", "{F}/bin/folder", "{F}/bin/closed", "{F}/bin/loop", "{F}/b\udcff/g++", "env A=1 nvcc", "-v",
    "{F}/closed/g++", "nvcc -ccbin g++", "{F}/bin/garbage -m32",
)  # fmt: skip
PATHS = (
    "", ":", "relative:.", "{F}/bin", "{F}/closed:{F}/bin", "{F}/file", "{F}/b\udcff:{F}/empty", "{F}/loop:{F}/absent",
    "~/bin", ("{F}/absent:" * 40), "{F}/fake", "{F}/closed:{F}/fake", "{F}/loops",
)  # fmt: skip
PROXIES = ("http://user:secret@127.0.0.1:9", "socks5://127.0.0.1:9", "://", "\udcff", "127.0.0.1", "http://[::1")
VALUES: dict[str, Sequence[str]] = {
    "HOME": FOLDERS,
    "XDG_CACHE_HOME": FOLDERS,
    "XDG_CONFIG_HOME": FOLDERS,
    "BUILD_MATRIX_STORE": FOLDERS,
    "TMPDIR": FOLDERS,
    **dict.fromkeys(("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDAToolkit_ROOT", "CUDA_PATH_V12_4"), (
        *FOLDERS, "{F}/a:{F}/b", "{F}/closed:{F}/toolkit", "{F}/toolkit", "{F}/toolkit/bin/nvcc", ":")),
    **dict.fromkeys(("CUDACXX", "CXX", "CC", "CUDAHOSTCXX"), PROGRAMS),
    "LD_LIBRARY_PATH": ("", ":", "compat", "{F}/closed/compat", "{F}/b\udcff/compat", "{F}/loop/compat:{F}/file"),
    "CUDA_VISIBLE_DEVICES": ("", "-1", "0,0", "GPU-deadbeef", "NoDevFiles", "²", "9" * 30, "\udcff", "MIG-x", ","),
    "CUDA_DEVICE_ORDER": ("", "PCI_BUS_ID", "FASTEST_FIRST", "x"),
    "NVIDIA_VISIBLE_DEVICES": ("", "all", "none", "void", "\udcff"),
    "NVIDIA_DRIVER_CAPABILITIES": ("", "all", "utility", "graphics,display"),
    "BUILD_MATRIX_DRIVER_CUDA": ("", " ", "none", "12.9", "banana", "²²", "12.9\udcff"),
    "BUILD_MATRIX_COMPUTE_CAPABILITIES": ("", "8.9", "8.9,", ",", "x", "²", "12.0,8.9"),
    **dict.fromkeys(("LANG", "LC_ALL", "LC_CTYPE", "LANGUAGE"), ("", "C", "POSIX", "de_DE", "xx_YY.x", "\udcff")),
    "TERM": ("", "dumb", "xterm-256color", "no-such-terminal", "\udcff"),
    "COLUMNS": ("", "0", "1", "-5", "²", "garbage", "100000", "9" * 30, "7"),
    "LINES": ("", "0", "²", "x"),
    **dict.fromkeys(("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"), ("", "0", "1", "x")),
    **dict.fromkeys(("http_proxy", "HTTPS_PROXY", "ALL_PROXY"), PROXIES),
    **dict.fromkeys(("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "PIP_CONFIG_FILE", "UV_CONFIG_FILE"), (
        *PROXIES, "{F}/closed/x", "name=http://user:secret@127.0.0.1:9")),
    **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), FOLDERS),
    **dict.fromkeys(("CMAKE_ARGS", "CUDAARCHS", "NVCC_APPEND_FLAGS", "GGML_CUDA"), ("", "x", "\udcff", "a\nb")),
    "container": ("", "docker", "\udcff"),
    "SECRET_TOKEN": ("\udcff" * 12, "", "12345678"),
    "PWD": FOLDERS,
    "BUILD_MATRIX_REMOTE_CACHE": ("", "redis://x:secret@h", "://"),
}  # fmt: skip


CLAIMS = ("BUILD_MATRIX_DRIVER_CUDA", "BUILD_MATRIX_COMPUTE_CAPABILITIES")  # a wrong one ends doctor at once


class Case(NamedTuple):
    """What one run meets; ``{F}`` in a value is the folder of `lay_out`."""

    number: int
    words: tuple[str, ...]
    variables: dict[str, str]
    encoding: str
    output: str  # file; unread: nobody reads it; none: it was closed
    place: str
    without: tuple[str, ...]  # privileges, passwd, proc, libc, affinity, files
    strict: bool  # warnings are errors

    def __str__(self) -> str:
        return f"case {self.number}: {self._asdict()!r}"


def make_case(seed: int, number: int) -> Case:
    """The case of this number."""
    chance = random.Random(f"{seed} {number}")
    often = chance.choice((0.05, 0.2, 0.6))
    names = [name for name in VALUES if chance.random() < often * (0.2 if name in CLAIMS else 1)]
    variables = {name: chance.choice(VALUES[name]) for name in names}
    variables["PATH"] = chance.choice((*PATHS, "/usr/bin:/bin")) if chance.random() < 0.97 else "/usr/bin:/bin:{F}/fake"
    if chance.random() < 0.5:
        variables.setdefault("HOME", "{F}/home")
    lacks = ("privileges", "passwd", "proc", "libc", "affinity", "files")
    return Case(
        number=number,
        words=chance.choice(COMMANDS),
        variables=variables,
        encoding=chance.choice(ENCODINGS),
        output=chance.choice(("file",) * 8 + ("unread", "none")),
        place=chance.choice(("{F}/empty", "{F}/empty", "{F}", "{F}/b\udcff", GONE, "/", CLOSED)),
        without=tuple(lack for lack in lacks if chance.random() < {"privileges": 0.5, "files": 0.04}.get(lack, 0.15)),
        strict=chance.random() < 0.2,
    )


def lay_out(folder: Path) -> None:
    """Folders, files, links and programs that are not as they should be."""
    for name in (
        "empty",
        "home",
        "bin",
        "fake",
        "b\udcff",
        "ü ö",
        "wheels",
        "toolkit/bin",
        "closed",
        "loops",
        "[bold]",
    ):
        (folder / name).mkdir(parents=True)
    (folder / "file").write_text("no folder")
    (folder / "dangling").symlink_to(folder / "absent")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "loops" / "g++").symlink_to(folder / "loops" / "g++")
    programs = {
        "bin/garbage": "#!/bin/sh\nprintf '\\377\\376 g++ Free Software Foundation 99\\n'\n",
        "bin/crash": "#!/bin/sh\nkill -SEGV $$\n",
        "bin/nvcc": "#!/bin/sh\necho 'release 99.9, V99.9.9'\n",
        "bin/g++": "#!/bin/sh\necho 'g++ (GCC) 12.2.0 Free Software Foundation'\n",
        "bin/g++-99": "not executable",
        "fake/g++": "#!/no/such/interpreter\n",
        "fake/clang++": "\x7fELF nonsense",
        "fake/nvcc": "#!/bin/sh\nexit 3\n",
        "toolkit/bin/nvcc": "#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.131'\n",
        "b\udcff/g++": "#!/bin/sh\necho g++\n",
        "bin/closed": "#!/bin/sh\n",
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0 if name == "bin/closed" else 0o644 if name == "bin/g++-99" else 0o755)
    (folder / "bin" / "folder").mkdir()
    (folder / "bin" / "loop").symlink_to(folder / "bin" / "loop")
    label = "llama_cpp_python-0.3.16+cu130.sm89-py3-none-linux_x86_64.whl"
    for name in (label, "x.whl", "b\udcff.whl", "a-1-py3-none-any.whl", f"{'x' * 200}.whl", "[red]-1-py3-none-any.whl"):
        (folder / "wheels" / name).touch()
    (folder / "wheels" / "folder.whl").mkdir()
    (folder / "closed").chmod(0)


def run_case(case: Case, folder: Path) -> dict[str, Any]:
    """Run it in a fork; its exit code (negative: the signal), output, and seconds."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if not child:
            _child(case, folder, output.fileno())
        status = None
        while status is None and time.monotonic() - started < SECONDS:
            pid, answer = os.waitpid(child, os.WNOHANG)
            status = answer if pid else time.sleep(0.005)
        if status is None:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        output.seek(0)
        data = output.read()
    text = data.decode(
        "utf-16" if case.encoding == "utf-16" and data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "latin-1", "replace"
    )
    seconds = time.monotonic() - started
    return {"number": case.number, "code": os.waitstatus_to_exitcode(status), "output": text, "seconds": seconds}


def _child(case: Case, folder: Path, output: int) -> None:
    code = NOT_OURS
    try:
        os.setsid()
        place = Path(case.place.replace("{F}", str(folder)))
        if case.place in (GONE, CLOSED):
            place = place.with_name(f"{place.name}-{os.getpid()}")  # another process may run a case at the same time
            place.mkdir()
        os.chdir(place)
        if case.place == GONE:
            place.rmdir()
        if case.place == CLOSED:
            place.chmod(0)  # once inside: only root can enter it afterwards
        os.environ.clear()
        os.environ.update({name: value.replace("{F}", str(folder)) for name, value in case.variables.items()})
        tempfile.tempdir = None
        os.dup2(output, 2)
        os.dup2(output, 1)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding=case.encoding, write_through=True)
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding=case.encoding)
        if case.output == "none":
            sys.stdout = None  # type: ignore[assignment]
        if case.output == "unread":
            _leave_unread(1)
        sys.argv = ["build-matrix", *(word.replace("{F}", str(folder)) for word in case.words)]
        _take_away(case.without)
        if case.strict:
            warnings.simplefilter("error")
        code = _main()
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must see it
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    os._exit(code)


def _leave_unread(handle: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, handle)


def _main() -> int:
    from build_matrix.cli import main

    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()  # the interpreter's last act
    return code


def _take_away(without: tuple[str, ...]) -> None:
    import pwd

    import psutil

    def fail(error: Exception) -> Callable[..., Any]:
        def call(*_: object, **__: object) -> None:
            raise error

        return call

    if "passwd" in without:
        pwd.getpwuid = fail(KeyError("getpwuid(): uid not found"))
        pwd.getpwnam = fail(KeyError("getpwnam(): name not found"))
    if "proc" in without:
        psutil.virtual_memory = psutil.pids = fail(FileNotFoundError(2, "No such file or directory", "/proc/meminfo"))
    if "libc" in without:
        platform.libc_ver = fail(OSError(13, "Permission denied"))
    if "affinity" in without:
        os.sched_getaffinity = fail(OSError(22, "Invalid argument"))
    if "files" in without:
        resource.setrlimit(resource.RLIMIT_NOFILE, (14, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if "privileges" in without and os.getuid() == 0:
        _drop_file_privileges()


def _drop_file_privileges() -> None:
    """Let root be refused what is closed, as everyone else: see capabilities(7)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    for index in (0, 1, 2):  # effective, permitted, inheritable
        sets[index] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    libc.capset(header, sets)


def remember_answers() -> None:
    """Ask the driver's libraries and the compilers once: each question is a process, and no case changes the answer."""
    from build_matrix.probe import compilers, nvidia

    ask, answers = nvidia.run, {}

    def answer(
        argv: Sequence[str | Path], *, env: Mapping[str, str], on_line: Callable[[str], None], **rest: Any
    ) -> Any:
        key = tuple(map(str, argv))
        if key not in answers:
            answers[key] = ask(argv, env=env, on_line=None, **rest)
        for line in answers[key].tail:
            on_line(line)
        return answers[key]

    examine, results = compilers.run, {}

    def result(argv: Sequence[str | Path], *, env: Mapping[str, str], **rest: Any) -> Any:
        key = (tuple(map(str, argv)), env["PATH"])
        if "-o" in argv:  # a trial compiles in the folder that the case names
            return examine(argv, env=env, **rest)
        if key not in results:
            results[key] = examine(argv, env=env, **rest)
        return results[key]

    compilers.run = result
    nvidia.run = answer
    nvidia.probe_nvidia({"PATH": os.defpath, "CUDA_VISIBLE_DEVICES": "0"})


def import_everything(folder: Path) -> None:
    """Run doctor once in each form, so that no fork has to import what this process has."""
    import build_matrix.cli.fault  # noqa: F401
    from build_matrix import cli

    for words in (["doctor", "--wheels", str(folder / "wheels")], ["doctor", "--json"]):
        with contextlib.redirect_stdout(io.StringIO()):
            cli.app(words, standalone_mode=False)


def main(argv: Sequence[str]) -> None:
    """Run the cases that are asked for."""
    folder, (seed, first, end) = Path(argv[0]), map(int, argv[1:])
    remember_answers()
    import_everything(folder)
    for number in range(first, end):
        sys.stdout.write(json.dumps(run_case(make_case(seed, number), folder)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
