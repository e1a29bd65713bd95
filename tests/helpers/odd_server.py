"""An HTTP server that answers as private indexes, portals and proxies in the field do, and keeps what it was asked."""

from __future__ import annotations

import base64
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

LOGIN = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form><input name='u'></form></body></html>"


class Asked(NamedTuple):
    """One request: its target as sent (absolute when the server is used as a proxy) and its headers."""

    target: str
    authorization: str
    proxy_authorization: str

    @property
    def credentials(self) -> str:
        """USER:PASSWORD of a basic authorization header."""
        return base64.b64decode(self.authorization.partition(" ")[2]).decode()


class OddServer:
    """``answer`` is called with each request's handler; ``log`` has all requests.

    With a ``certificate`` (a PEM file, with its key) it speaks TLS.
    """

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None], certificate: Path | None = None) -> None:
        self.answer = answer
        self.log: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers = (self.headers.get("Authorization", ""), self.headers.get("Proxy-Authorization", ""))
                outer.log.append(Asked(self.path, *headers))
                self.close_connection = True
                outer.answer(self)

            def do_CONNECT(self) -> None:
                self.do_GET()

            def log_message(self, *args: object) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self._server.server_port
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if certificate else 'http'}://{self.host}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Answer nothing any more."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None], certificate: Path | None = None) -> Iterator[OddServer]:
    """A server for as long as the context lasts."""
    server = OddServer(answer, certificate)
    try:
        yield server
    finally:
        server.close()


def reply(
    handler: BaseHTTPRequestHandler, code: int, body: bytes = b"", kind: str = "text/html", **headers: str
) -> None:
    """A whole answer."""
    handler.send_response(code)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def drop(handler: BaseHTTPRequestHandler) -> None:
    """End the connection without an answer."""
    handler.connection.close()


def silent(handler: BaseHTTPRequestHandler) -> None:
    """Accept, and never answer."""
    time.sleep(30)


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """A byte of a header now and then, so that no time limit between two bytes ends it."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(300):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def trickle_body(handler: BaseHTTPRequestHandler) -> None:
    """The same with the body of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/octet-stream" if "/files/" in handler.path else "text/html")
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _ in range(300):
        handler.wfile.write(b"x")
        time.sleep(0.1)
