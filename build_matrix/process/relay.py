"""Carries bytes between a socket in the sandbox and one place outside: host, port, a socket that brings the listener.

The sandbox starts this file as a program of its own; it needs nothing but Python itself.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

CONNECT_SECONDS = 10.0
PIECE = 1 << 16  # bytes


def main(argv: Sequence[str]) -> int:
    """Serve until the other end of the socket ``argv[2]`` is closed; what cannot be reached is a closed connection."""
    host, port, handle = argv
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the command, which may still ask for something
    with socket.socket(fileno=int(handle)) as sandbox:
        _, handles, _, _ = socket.recv_fds(sandbox, 1, 1)
        if handles:
            listener = socket.socket(fileno=handles[0])
            threading.Thread(target=_accept, args=(listener, (host, int(port))), daemon=True).start()
            sandbox.recv(1)
    os._exit(0)  # threads may hang in a connection


def _accept(listener: socket.socket, place: tuple[str, int]) -> None:
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_serve, args=(client, place), daemon=True).start()


def _serve(client: socket.socket, place: tuple[str, int]) -> None:
    try:
        outside = socket.create_connection(place, CONNECT_SECONDS)
    except OSError:
        client.close()
        return
    outside.settimeout(None)
    threading.Thread(target=_carry, args=(outside, client), daemon=True).start()
    _carry(client, outside)


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(PIECE):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            end.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
