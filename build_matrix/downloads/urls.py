"""What is in a URL: whether it is one, and what of it people may see."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit, urlunsplit

SCHEMES = ("http", "https", "file")


def is_url(text: str) -> bool:
    """Whether this is the URL of a page or a folder that can be asked."""
    try:
        parts = urlsplit(text)
        place = parts.path if parts.scheme == "file" else parts.hostname
        parts.port  # noqa: B018 - raises ValueError for what is no number
    except ValueError:
        return False
    return parts.scheme in SCHEMES and bool(place) and not any(map(str.isspace, text))


def user_info(url: str) -> tuple[str, str]:
    """User and password in ``url``, percent-decoded; a token that stands alone is the user."""
    parts = urlsplit(url)
    return unquote(parts.username or ""), unquote(parts.password or "")


def without_user_info(url: str) -> str:
    """``url`` without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def host_of(url: str) -> str:
    """HOST or HOST:PORT; the path for a ``file:`` URL."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path
