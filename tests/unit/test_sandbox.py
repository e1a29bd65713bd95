"""What runs in the sandbox sees fixed places and no network, and its attempts are counted."""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from build_matrix.platforms import find_platform, platform_name
from build_matrix.process.runner import Completed, run
from build_matrix.process.sandbox import NETWORK, ROOT, UNAVAILABLE, network_attempts, sandbox

HERE = Path(sys.executable)
WHY_NOT = find_platform(platform_name()).why_no_sandbox(HERE)
needs_namespaces = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


def inside(folder: Path, code: str, door: tuple[str, int] | None = None) -> Completed:
    words: list[str | Path] = [*sandbox(HERE, {folder: ROOT / "work"}, ROOT / "work", door), HERE, "-c", code]
    return run(words, env={"PATH": os.defpath}, timeout=60)


@needs_namespaces
def test_a_folder_appears_at_its_fixed_place_and_what_is_written_there_stays(tmp_path: Path) -> None:
    done = inside(tmp_path, "import os; open('made', 'w').write('x'); print(os.getcwd(), os.listdir('..'))")
    assert done.output == "/srv/work ['work']"
    assert (tmp_path / "made").read_text() == "x"
    assert (tmp_path / "made").stat().st_uid == os.getuid()


@needs_namespaces
@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('192.0.2.1', 443))",
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket\ntry: socket.getaddrinfo('example.com', 80)\nexcept OSError: pass",  # it hides its failure
    ],
)
def test_an_attempt_to_reach_the_network_fails_the_build(tmp_path: Path, attempt: str) -> None:
    done = inside(tmp_path, attempt)
    assert done.code == NETWORK
    assert "attempts to reach the network: " in done.output


@needs_namespaces
@pytest.mark.parametrize(
    ("code", "exit_code"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_commands_own_exit_code_comes_through(tmp_path: Path, code: str, exit_code: int) -> None:
    assert inside(tmp_path, code).code == exit_code


@needs_namespaces
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "192.0.2.7"])
def test_one_place_outside_can_be_let_in_and_no_other(tmp_path: Path, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            with suppress(OSError):  # the listener closes before anybody came
                client, _ = listener.accept()
                with client:
                    client.sendall(client.recv(100).upper())

        threading.Thread(target=answer, daemon=True).start()
        ask = (
            f"import socket\ns = socket.create_connection(('{host}', {port}))\n"
            "try: s.sendall(b'x'); print(s.recv(9))\nexcept ConnectionError: print('hung up')"
        )
        done = inside(tmp_path, ask, (host, port))
        # Nobody lives at an address of RFC 5737.
        assert (done.code, done.output) == (0, "hung up" if host.startswith("192") else "b'X'")
        done = inside(tmp_path, ask.replace(str(port), "9"), (host, port))
    assert done.code == NETWORK


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = run([*sandbox(HERE, {tmp_path / "no": ROOT / "x"}, ROOT), HERE], env={}, timeout=60)
    assert done.code == UNAVAILABLE
    assert done.output.startswith("this system allows no namespaces: ")


def test_the_kernels_counters_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "snmp").write_text("Ip: Forwarding OutNoRoutes X\nIp: 2 3 9\nIcmp: A\nIcmp: 1\n")
    assert network_attempts(tmp_path) == 3
    with (tmp_path / "snmp").open("a") as file:
        file.write("Tcp: AttemptFails\nTcp: 5\nUdp: NoPorts\nUdp: 2\n")
    assert network_attempts(tmp_path) == 10
    (tmp_path / "snmp6").write_text("Ip6InReceives 5\nIp6OutNoRoutes \t4\n")
    assert network_attempts(tmp_path) == 14
