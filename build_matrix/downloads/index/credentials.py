"""The user and the password that are configured for an address."""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import quote

KeyringProvider = Literal["disabled", "subprocess", "import"]
# auto: when there are credentials; always: ask the keyring before the first request; never: send none
Authenticate = Literal["auto", "always", "never"]


class Credential(NamedTuple):
    """User and password for all addresses below ``url``; either can be empty."""

    url: str
    username: str = ""
    password: str = ""
    authenticate: Authenticate = "auto"

    def __repr__(self) -> str:
        return f"Credential({self.url}, ***)"

    @property
    def with_user_info(self) -> str:
        """The URL with user and password in it, for a program that takes them so; never for people."""
        if self.authenticate == "never" or not (self.username or self.password):
            return self.url
        scheme, _, rest = self.url.partition("://")
        password = f":{quote(self.password, safe='')}" if self.password else ""
        return f"{scheme}://{quote(self.username, safe='')}{password}@{rest}"
