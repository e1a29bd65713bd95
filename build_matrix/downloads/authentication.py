"""Which user and password belong to an address? Those of the index's URL, uv's variables, netrc, the keyring."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from threading import Lock
from urllib.parse import SplitResult, urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import get_netrc_auth

from build_matrix.downloads.index.credentials import Credential, KeyringProvider
from build_matrix.downloads.urls import user_info
from build_matrix.redact import remember

KEYRING_SECONDS = 30
PORTS = {"http": 80, "https": 443}


class Authentication(AuthBase):
    """Adds credentials to the requests that they belong to, and to no other ones."""

    def __init__(self, credentials: Iterable[Credential] = (), keyring: KeyringProvider = "disabled") -> None:
        self._credentials = list(credentials)
        self._keyring = _keyring_argv(keyring)
        self._asked: set[str] = set()
        self._lock = Lock()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Requests calls this with each request before it is sent."""
        if pair := self._find(request.url or ""):
            remember(pair[1] or pair[0])
            HTTPBasicAuth(*(part.encode(errors="surrogateescape") for part in pair))(request)
        return request

    def has_more(self, refused: requests.PreparedRequest) -> bool:
        """After a request was refused: whether the keyring, asked once for each index, has other credentials for it."""
        if not self._keyring:
            return False
        self._ask_keyring(refused.url or "")
        retried = self(requests.Request("GET", refused.url or "").prepare())
        return retried.headers.get("Authorization") not in {None, refused.headers.get("Authorization")}

    def _ask_keyring(self, url: str) -> bool:
        """Whether the keyring has credentials for ``url``, which are then the first choice; it is asked once."""
        with self._lock:
            entry = self._match(url) or Credential(_root(url))
            if not self._keyring or entry.url in self._asked or entry.authenticate == "never":
                return False
            self._asked.add(entry.url)
            for service in (entry.url, urlsplit(url).netloc.rpartition("@")[2]):
                if pair := _ask(self._keyring, service, entry.username):
                    self._credentials.insert(0, Credential(entry.url, *pair))
                    return True
            return False

    def _find(self, url: str) -> tuple[str, str] | None:
        in_url = user_info(url)
        if any(in_url):
            return in_url
        entry = self._match(url)
        if entry and entry.authenticate == "never":
            return None
        if (
            entry
            and not entry.password
            and (entry.username or entry.authenticate == "always")
            and self._ask_keyring(url)
        ):
            return self._find(url)
        if entry and (entry.username or entry.password):
            return entry.username, entry.password
        try:
            return get_netrc_auth(url)
        except UnicodeDecodeError:  # requests passes over a netrc file that is wrong in any other way
            return None

    def _match(self, url: str) -> Credential | None:
        """The credentials of the index with the longest path above ``url``, else of any on the same server."""
        target = urlsplit(url)
        same_server = [entry for entry in self._credentials if _server(urlsplit(entry.url)) == _server(target)]
        above = [
            entry for entry in same_server if f"{target.path}/".startswith(f"{urlsplit(entry.url).path.rstrip('/')}/")
        ]
        if above:
            return max(above, key=lambda entry: len(urlsplit(entry.url).path))
        return same_server[0] if same_server else None


def _server(parts: SplitResult) -> tuple[str, str, int | None]:
    return parts.scheme, (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme)


def _root(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"


def _keyring_argv(provider: KeyringProvider) -> list[str]:
    if provider == "import":
        return [sys.executable, "-m", "keyring"]
    program = shutil.which("keyring") if provider == "subprocess" else None
    return [program] if program else []


def _ask(keyring: Sequence[str], service: str, username: str) -> tuple[str, str] | None:
    """User and password for ``service``: asked as uv does when the user is known, else as pip (keyring >= 25.2.1)."""
    if username and (password := _output([*keyring, "get", service, username])):
        return username, password
    named = [username] if username else []
    text = _output([*keyring, "--mode=creds", "--output=json", "get", service, *named])
    try:
        answer = json.loads(text)
        return str(answer["username"] or ""), str(answer["password"])
    except (ValueError, KeyError, TypeError):
        return None


def _output(argv: Sequence[str]) -> str:
    """What the keyring prints, remembered as a secret; empty when it fails or waits for somebody."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    try:
        result = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=KEYRING_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    text = result.stdout.strip("\r\n") if result.returncode == 0 else ""
    remember(text)
    return text
