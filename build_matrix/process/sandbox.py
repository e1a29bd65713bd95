"""Runs a command without network, and with its folders at fixed places, in Linux namespaces that need no privilege.

One place outside can be let in, for a compile cache that machines share: a relay carries its bytes, and its name leads
to the relay. The package starts this file as a program of its own; it needs nothing but Python itself. See
user_namespaces(7), mount_namespaces(7), network_namespaces(7), netdevice(7). Where a system forbids them (many
containers do), the compilation runs without it; the bytes are the same.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

ROOT = Path("/srv")  # the Filesystem Hierarchy Standard has it everywhere, and compilers lie elsewhere
UNAVAILABLE = 95  # exit code: the system does not allow this
NETWORK = 96  # exit code: something tried to reach the network
END = "--"
POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000  # linux/sched.h
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000  # linux/mount.h
SIOCSIFFLAGS, SIOCSIFADDR = 0x8914, 0x8916  # linux/sockios.h
IFF_UP, IFF_RUNNING = 0x1, 0x40  # linux/if.h

HOSTS = Path("/etc/hosts")
DOOR = "door:"


def sandbox(
    python: str | Path, binds: Mapping[Path, Path], cwd: Path, door: tuple[str, int] | None = None
) -> list[str]:
    """The arguments before a command's own: each real folder of ``binds`` appears as the other one, below ROOT.

    ``door`` is a host (name or IPv4 address) and a TCP port that can be reached all the same.
    Start them as the leader of a process group of their own (as runner does): all of it is ended at the first
    attempt to reach the network.
    """
    argv = [str(python), "-I", "-S", __file__, str(cwd)]
    if door:
        argv.append(f"{DOOR}{door[0]}:{door[1]}")
    return [*argv, *(f"{real}={visible}" for real, visible in binds.items()), END]


def main(argv: Sequence[str]) -> int:
    """Run the command to its end; its exit code, or one of those above."""
    end = argv.index(END)
    cwd, *binds = argv[:end]
    door = binds.pop(0)[len(DOOR) :].rpartition(":") if binds and binds[0].startswith(DOOR) else None
    relay = _relay(door[0], int(door[2])) if door else None  # it starts outside, where the network is
    try:
        _enter([tuple(bind.split("=", 1)) for bind in binds])
        if door and relay:
            _open_door(relay, door[0], int(door[2]))
        os.chdir(cwd)
    except OSError as error:
        sys.stdout.write(f"this system allows no namespaces: {error}\n")
        return UNAVAILABLE
    return _run(argv[end + 1 :])


def network_attempts(statistics: Path) -> int:
    """How often something was sent that found no route, or nobody who listens on this host.

    The kernel counts it for each network namespace (RFC 1213, RFC 2011).
    """
    counters: dict[str, int] = {}
    lines = [line.split() for line in (statistics / "snmp").read_text().splitlines()]
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        counters |= {names[0] + name: int(value) for name, value in zip(names[1:], values[1:], strict=True)}
    count = sum(counters.get(name, 0) for name in ("Ip:OutNoRoutes", "Tcp:AttemptFails", "Udp:NoPorts"))
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
    opened = [(os.open(real, os.O_PATH), visible) for real, visible in binds]
    _call("mount", b"tmpfs", os.fsencode(ROOT), b"tmpfs", 0, b"mode=755")
    for handle, visible in opened:
        os.makedirs(visible)  # noqa: PTH103 - one import less to start
        _call("mount", f"/proc/self/fd/{handle}".encode(), os.fsencode(visible), None, MS_BIND | MS_REC, None)
        os.close(handle)


def _relay(host: str, port: int) -> socket.socket:
    """A relay to ``host``, which lives as long as the socket that is returned, and waits there for its listener."""
    import socket
    import subprocess

    ours, theirs = socket.socketpair()
    relay = str(Path(__file__).with_name("relay.py"))
    with theirs:
        argv = [sys.executable, "-I", "-S", relay, host, str(port), str(theirs.fileno())]
        subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    return ours


def _open_door(relay: socket.socket, host: str, port: int) -> None:
    """Let ``host`` lead to the relay, which lives outside: sockets stay in the namespace that they were made in."""
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP | IFF_RUNNING))
        try:
            address = socket.inet_aton(host)
        except OSError:
            address = socket.inet_aton("127.0.0.1")
            hosts = ROOT / ".hosts"
            hosts.write_text(f"127.0.0.1 localhost\n127.0.0.1 {host}\n")
            _call("mount", os.fsencode(hosts), os.fsencode(HOSTS), None, MS_BIND, None)
        if address[0] != 127:  # noqa: PLR2004 - RFC 1122: the loopback network
            name = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, address)
            fcntl.ioctl(control, SIOCSIFADDR, name)
    with socket.create_server((socket.inet_ntoa(address), port)) as listener:
        socket.send_fds(relay, [b"x"], [listener.fileno()])


def _call(name: str, *arguments: int | bytes | None) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _run(argv: Sequence[str]) -> int:
    """The command's exit code; NETWORK as soon as something tries to reach one, and then everything is ended.

    Ctrl-C is for the command, which belongs to the same process group.
    """
    child = os.fork()
    if not child:
        try:
            os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is what is wanted
        except OSError as error:
            sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
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
