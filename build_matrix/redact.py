"""Keeps secrets out of everything that is printed, logged or recorded: by what they look like, and by what is known.

`redact` is the one function. A text is looked through for what credentials look like (user and password in a URL,
signed query strings, authorization headers, tokens of well-known forms), then for the secrets that this process has
read from its configuration, wherever they appear. Where there is doubt, too much is hidden rather than too little.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
SHELL_FOLDERS = ("PWD", "OLDPWD")  # the shell's current folder, no password
SHORTEST = 4  # characters; a shorter secret is hidden only where it looks like one
CERTAIN = 8  # characters; a shorter secret is hidden only where no letter or digit touches it
LONG = 16  # characters; the value of a query parameter that long may be a signature, whatever its name

_NAME = r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)"
_SCHEME = r"(?<![\w.+-])((?:[A-Za-z][\w.+-]*:)?(?:\\?/){2})"  # JSON may escape the slashes
_QUERY = rf"(?:{_NAME}|sig|signature|credential|auth|jwt|key|session|policy|hmac)"
# What a text must contain in small letters (without it the search is saved), what is searched, what takes its place.
_PATTERNS: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = tuple(
    (hints, re.compile(pattern), replacement)
    for hints, pattern, replacement in (
        # user:password with blanks, quotes or slashes in it: what follows the colon is no port, so a "@" must come
        (("@",), rf"{_SCHEME}[^\s/?#:]*:(?!\d+(?:\\?/|$))(?:(?!://)[^\n])*@", rf"\1{HIDDEN}@"),
        # user:password with a number before a slash in it, all up to the last "@" before a blank
        (("@",), rf"{_SCHEME}[^\s/?#:\"'<>]*:\d+\\?/[^\s\"'<>]*@", rf"\1{HIDDEN}@"),
        # any other user; a "@" after the first slash is one of the path
        (("@",), rf"{_SCHEME}(?:[^\s/\\\"'<>]|\\(?!/))*@", rf"\1{HIDDEN}@"),
        (("@",), r"(?i)\b(https?:/?)(?![/*])[^\s/:@]+:[^\s@]+@", rf"\1{HIDDEN}@"),  # a slash was forgotten
        (("@",), r"(?<![^\s\"'=(])[^\s:/@\"'=(]+:[^\s/@\"']+@(?=[\w.-]+(?::\d|/))", f"{HIDDEN}@"),  # no scheme
        (("%40",), r"(?i)(%3A%2F%2F)(?:(?!%40|%20)[^\s&\"'])+%40", rf"\1{HIDDEN}%40"),
        # parameters of a query: by name, or by length
        (("?", "&"), rf"(?i)([?&;][\w.%-]*{_QUERY}[\w.%-]*=)[^\s&;\"'<>#]+", rf"\1{HIDDEN}"),
        (("?", "&"), rf"([?&][\w.%-]+=)[^\s&\"'<>#/:]{{{LONG},}}", rf"\1{HIDDEN}"),
        # headers
        (
            ("authorization", "cookie"),
            r"(?i)(?<![\w-])((?:proxy-)?authorization|(?:set-)?cookie)([\"']?\s*[:=]\s*[\"']?)[^\n\"']+",
            rf"\1\2{HIDDEN}",
        ),
        (
            ("-token", "-api", "-key"),
            r"(?i)(?<![\w-])([\w-]*-(?:token|api-?key)|x-jfrog-art-api)([\"']?\s*[:=]\s*[\"']?)[^\s\"',;]+",
            rf"\1\2{HIDDEN}",
        ),
        (("basic", "bearer"), r"\b(Basic|Bearer)\s+(?=[^\s\"']*(?:[0-9=]|[a-z][A-Z]))[\w+/.~-]{8,}=*", rf"\1 {HIDDEN}"),
        # variables and settings; a "token" in small letters is a word of compilers and of llama.cpp
        (
            ("password=", "secret=", "token=", "key="),
            r"(?<![A-Za-z0-9_])([A-Z0-9_]*(?:PASSWORD|SECRET|TOKEN|API_?KEY|ACCESS_KEY)=)[^\s\"']+",
            rf"\1{HIDDEN}",
        ),
        (
            ("pass",),
            r"(?i)(?<!/etc/)\b(password|passwd|passphrase)([\"']?\s*[:=]\s*[\"']?)[^\s\"',;]+",
            rf"\1\2{HIDDEN}",
        ),
        # tokens of well-known forms: PyPI, GitHub, GitLab, Artifactory, JSON Web Tokens
        (
            ("pypi-", "gh", "glpat-", "akcp", "eyj"),
            r"\b(?:pypi-[\w-]{16,}|g(?:h[pousr]|ithub_pat)_\w{20,}|glpat-[\w-]{16,}|AKCp\w{20,}|eyJ[\w-]{8,}\.[\w.-]+)",
            HIDDEN,
        ),
    )
)
_CREDENTIAL_NAME = re.compile(rf"(?i)(?:(?:^|[_-]){_NAME}|password)s?$")
_INNOCENT = {"true", "false", "none", "null", "auto", "disabled"}


class _Known:
    """The secrets of this process, the longest first, because one can contain another."""

    def __init__(self) -> None:
        self._patterns: dict[str, re.Pattern[str]] = {}
        self.longest_first: tuple[tuple[str, re.Pattern[str]], ...] = ()

    def add(self, forms: Iterable[str]) -> None:
        new = {
            form for form in forms if len(form) >= SHORTEST and form.lower() not in _INNOCENT
        } - self._patterns.keys()
        for form in new:
            exact = re.escape(form)
            bounded = exact if len(form) >= CERTAIN else rf"(?<![A-Za-z0-9]){exact}(?![A-Za-z0-9])"
            self._patterns[form] = re.compile(bounded)
        if new:
            self.longest_first = tuple(sorted(self._patterns.items(), key=lambda item: -len(item[0])))

    def clear(self) -> None:
        self._patterns, self.longest_first = {}, ()


# Module state, on purpose: a secret that one module has read must not be printed by another one that never heard of it.
_known = _Known()


def redact(text: str) -> str:
    """``text`` with ``***`` in the place of all that looks like a credential, and of every remembered secret."""
    small = text.lower()
    for hints, looks, replacement in _PATTERNS:
        if any(hint in small for hint in hints):
            text = looks.sub(replacement, text)
    for secret, pattern in _known.longest_first:
        if secret in text:
            text = pattern.sub(HIDDEN, text)
    return text


def redact_all(value: Any) -> Any:
    """`redact` for each text in nested lists and mappings; what has a credential's name as its key is hidden whole."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            redact_all(key): HIDDEN if isinstance(item, str) and item and is_credential(key) else redact_all(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_all(item) for item in value]
    return value


def is_credential(name: object) -> bool:
    """Whether a variable or setting of this name holds a credential, such as ``UV_INDEX_X_PASSWORD``."""
    return isinstance(name, str) and name not in SHELL_FOLDERS and bool(_CREDENTIAL_NAME.search(name))


def remember(*secrets: str) -> None:
    """Let `redact` hide these from now on, wherever they appear: plain, percent-encoded or decoded, quoted, escaped."""
    for secret in secrets:
        _known.add(_forms(secret))


def forget() -> None:
    """Remember nothing any more; for tests, which share a process."""
    _known.clear()


def remember_urls(*texts: str) -> None:
    """Remember the passwords of the URLs in these texts; in one with a scheme, a user without a password is a token."""
    for text in texts:
        for url in (*text.split(), text) if text.count("://") == 1 else text.split():
            before, scheme, rest = url.partition("://")
            user_info, at, _ = (rest if scheme else before).rpartition("@")
            user, _, password = user_info.partition(":")
            if at and (password or (user and scheme)):
                remember(password or user)
                both = f"{unquote(user)}:{unquote(password)}".encode(errors="surrogateescape")
                remember(base64.b64encode(both).decode())


def remember_environment(environ: Mapping[str, str]) -> None:
    """Remember the secrets in these variables: credentials in URLs (proxies, indexes, mirrors), passwords, tokens."""
    for name, value in environ.items():
        if "@" in value and ("://" in value or name.lower().endswith("_proxy")):
            remember_urls(value if "://" in value else f"http://{value}")
        if is_credential(name) and len(value) >= (SHORTEST if name.startswith("UV_") else CERTAIN):
            remember(value)


def _forms(secret: str) -> Iterable[str]:
    decoded = unquote(secret)
    odd = {"errors": "surrogateescape"}  # variables of the environment can hold any bytes
    plain = {secret, decoded, quote(decoded, safe="", **odd), quote(decoded, **odd), quote_plus(decoded, **odd)}
    escaped = {repr(text)[1:-1] for text in plain} | {json.dumps(text)[1:-1] for text in plain}
    return plain | escaped | {html.escape(text) for text in plain}


class _Redacting:
    """A text stream that hides credentials in what is written; in all else it is the stream behind it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_output() -> None:
    """Make standard output and standard error hide credentials, whoever writes to them; remember the environment's.

    The last line of defence: usage errors repeat the command line, and tracebacks show what they like.
    """
    remember_environment(os.environ)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Redacting):
            setattr(sys, name, _Redacting(stream))
