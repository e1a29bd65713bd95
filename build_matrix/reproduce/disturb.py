"""Changes the surroundings of a compilation, which should not matter, and runs it.

A program of its own that needs nothing but Python itself; ``variation`` starts it. It runs in the sources' folder.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWUTS = 0x00020000, 0x10000000, 0x04000000  # linux/sched.h
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000  # linux/mount.h
MOUNT_SECONDS = 10


def main() -> int:
    """Disturb as the options say, and run the command; its exit code."""
    options = _parse()
    if options.host_name or options.reverse:
        _enter()
    if options.host_name:
        name = options.host_name.encode()
        _call("sethostname", name, len(name))
    if options.modified is not None:
        for path in Path.cwd().rglob("*"):
            os.utime(path, (options.modified, options.modified), follow_symlinks=False)
    variables = dict(os.environ)
    if options.clock:
        variables["LD_PRELOAD"] = options.clock
    # Ctrl-C is for the command, which is in the same process group; what is ignored (SIG_IGN) it would ignore too.
    signal.signal(signal.SIGINT, lambda *_: None)
    helpers = [_reverse(Path.cwd())] if options.reverse else []
    try:
        helpers += [_start("nice", "-n", "19", sys.executable, "-c", "while True: pass") for _ in range(options.load)]
        return subprocess.call(options.command, env=variables)
    finally:
        for process in helpers:
            process.kill()


def _reverse(folder: Path) -> subprocess.Popen[bytes]:
    """Let disorderfs show ``folder`` backwards from here on, to this process and those that it starts.

    disorderfs itself must go on seeing the folder as it is: it would ask itself otherwise, without end. So it stays in
    the mount namespace of now, and the folder is covered in the next one.
    """
    place = Path(tempfile.mkdtemp())
    process = _start("disorderfs", "-f", "--sort-dirents=yes", "--reverse-dirents=yes", str(folder), str(place))
    deadline = time.monotonic() + MOUNT_SECONDS
    while not place.is_mount():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            sys.exit("disorderfs cannot mount here")
        time.sleep(0.01)
    _call("unshare", CLONE_NEWNS)
    _call("mount", os.fsencode(place), os.fsencode(folder), None, MS_BIND, None)
    os.chdir(folder)
    return process


def _start(*argv: str) -> subprocess.Popen[bytes]:
    """A process of which nothing is heard: whoever reads this one's output must not wait for it."""
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host-name")
    parser.add_argument("--modified", type=float, help="seconds since 1970: the time of every source")
    parser.add_argument("--reverse", action="store_true", help="list folders backwards (disorderfs)")
    parser.add_argument("--clock", help="a library to preload, with another clock")
    parser.add_argument("--load", type=int, default=0, help="processes that do nothing, busily")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args()


def _enter() -> None:
    user, group = os.getuid(), os.getgid()
    _call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def _call(name: str, *arguments: int | bytes | None) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main())
