"""Runs a command beside an sccache server, which compiles for it, and ends the server with it.

The package starts this file as a program of its own, in the sandbox where there is one: the server must see what the
compilers see, and reach no more than they. It needs nothing but Python itself. See sccache's README, "Usage".
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

FAILED = 97  # exit code: the server did not start, and the command was not run
END = "--"
SOCKET = "SCCACHE_SERVER_UDS"
# What the server's clients need; the rest may hold passwords.
CLIENT_VARIABLES = {SOCKET, "SCCACHE_C_CUSTOM_CACHE_BUSTER"}
START_SECONDS = 20.0
ORPHAN_SECONDS = "30"  # how long a server may idle that a client started in place of one that died


def with_server(python: str | Path, program: Path, statistics: Path) -> list[str]:
    """The arguments before a command's own; what the server counted is in ``statistics`` afterwards, as JSON.

    The environment names the server's socket (SCCACHE_SERVER_UDS) and its storage.
    """
    return [str(python), "-I", "-S", __file__, str(program), str(statistics), END]


def main(argv: Sequence[str]) -> int:
    """Run the command to its end; its exit code, or FAILED."""
    end = argv.index(END)
    program, statistics = argv[:end]
    place = Path(os.environ[SOCKET])
    place.unlink(missing_ok=True)  # of a run that was killed
    settings = {"SCCACHE_START_SERVER": "1", "SCCACHE_NO_DAEMON": "1", "SCCACHE_IDLE_TIMEOUT": "0"}
    server = subprocess.Popen([program], env=os.environ | settings, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the command, which belongs to the same process group
    try:
        if not _answers(place, server):
            sys.stdout.write(f"sccache did not start (exit code {server.poll()})\n")
            return FAILED
        variables = {
            name: value
            for name, value in os.environ.items()
            if name in CLIENT_VARIABLES or not name.startswith(("SCCACHE_", "AWS_"))
        }
        variables["SCCACHE_IDLE_TIMEOUT"] = ORPHAN_SECONDS
        command = list(argv[end + 1 :])
        status = subprocess.call(command, env=variables, preexec_fn=_default_interrupt)
        if server.poll() is None:  # Ctrl-C has ended it; asked for anything, the program would start another
            show = [program, "--show-stats", "--stats-format=json"]
            Path(statistics).write_bytes(subprocess.run(show, stdout=subprocess.PIPE, check=False).stdout)
    finally:
        if server.poll() is None:
            stop = [program, "--stop-server"]
            subprocess.run(stop, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        server.terminate()
        server.wait()
        place.unlink(missing_ok=True)
    return status if status >= 0 else 128 - status


def _answers(place: Path, server: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place))
            return True
        time.sleep(0.02)
    return False


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
