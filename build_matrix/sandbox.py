"""Runs a command without network, and with its folders at fixed places, in Linux namespaces that need no privilege.

The package starts this file as a program of its own; it needs nothing but Python itself. See user_namespaces(7),
mount_namespaces(7) and network_namespaces(7). Where a system forbids them (many containers do), the compilation runs in
the open; the bytes are the same.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path("/srv")  # the Filesystem Hierarchy Standard has it everywhere, and compilers lie elsewhere
UNAVAILABLE = 95  # exit code: the system does not allow this
NETWORK = 96  # exit code: something tried to reach the network
END = "--"
POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000  # linux/sched.h
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000  # linux/mount.h


def sandbox(python: str | Path, binds: Mapping[Path, Path], cwd: Path) -> list[str]:
    """The words before a command's own: each real folder of ``binds`` appears as the other one, below ROOT.

    Start them as the leader of a process group of their own (as runner does): all of it is ended at the first
    attempt to reach the network.
    """
    words = [str(python), "-I", "-S", __file__, str(cwd)]
    return [*words, *(f"{real}={seen}" for real, seen in binds.items()), END]


def main(argv: Sequence[str]) -> int:
    """Run the command to its end; its exit code, or one of those above."""
    end = argv.index(END)
    cwd, *binds = argv[:end]
    try:
        _enter([tuple(bind.split("=", 1)) for bind in binds])
        os.chdir(cwd)
    except OSError as error:
        sys.stdout.write(f"this system allows no namespaces: {error}\n")
        return UNAVAILABLE
    return _run(argv[end + 1 :])


def network_attempts(statistics: Path) -> int:
    """How often something was sent that found no route; the kernel counts it for each network namespace (RFC 2011)."""
    names, values = (line.split() for line in (statistics / "snmp").read_text().splitlines() if line.startswith("Ip:"))
    count = int(values[names.index("OutNoRoutes")])
    newer = statistics / "snmp6"
    if newer.exists():  # a kernel may come without IPv6
        count += sum(int(line.split()[1]) for line in newer.read_text().splitlines() if "Ip6OutNoRoutes" in line)
    return count


def _enter(binds: Sequence[tuple[str, ...]]) -> None:
    """New namespaces, in which nothing is reachable and the folders are where they are wanted; raises OSError."""
    user, group = os.getuid(), os.getgid()
    _call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    # Opened first: a folder that lies below ROOT itself cannot be named any more once ROOT is covered.
    opened = [(os.open(real, os.O_PATH), seen) for real, seen in binds]
    _call("mount", b"tmpfs", os.fsencode(ROOT), b"tmpfs", 0, b"mode=755")
    for handle, seen in opened:
        os.makedirs(seen)  # noqa: PTH103 - one import less to start
        _call("mount", f"/proc/self/fd/{handle}".encode(), os.fsencode(seen), None, MS_BIND | MS_REC, None)
        os.close(handle)


def _call(name: str, *arguments: int | bytes | None) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _run(words: Sequence[str]) -> int:
    """The command's exit code; NETWORK as soon as something tries to reach one, and then everything is ended.

    Ctrl-C is for the command, which belongs to the same process group.
    """
    child = os.fork()
    if not child:
        try:
            os.execvp(words[0], list(words))  # noqa: S606 - no shell is what is wanted
        except OSError as error:
            sys.stderr.write(f"{words[0]}: {error.strerror}\n")
            os._exit(127)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status, attempts = None, 0
    while status is None and not attempts:
        status = _wait(child, POLL_SECONDS)
        attempts = network_attempts(Path("/proc/self/net"))
    if attempts:
        sys.stdout.write(f"attempts to reach the network: {attempts}\n")
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
        if status is None and _wait(child, GRACE_SECONDS) is None:
            os.kill(child, signal.SIGKILL)
        return NETWORK
    code = os.waitstatus_to_exitcode(status or 0)
    return code if code >= 0 else 128 - code


def _wait(child: int, seconds: float) -> int | None:
    """The child's wait status, or None when it still runs after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        if time.monotonic() > deadline:
            return None
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
