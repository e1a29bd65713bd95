"""An archive beside the package index: each file lies at a known path below its address, or that of a mirror."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from build_matrix.downloads.origins.origin import Origin
from build_matrix.downloads.urls import is_url
from build_matrix.errors import ConfigurationError
from build_matrix.model import Component

if TYPE_CHECKING:
    from build_matrix.downloads.index.locations import Locations


class Archive(Origin):
    """``variable`` is the environment variable that takes the URL of a mirror, or several with spaces between them."""

    variable: ClassVar[str]

    @abstractmethod
    def default_addresses(self) -> tuple[str, ...]:
        """Where the archive is when no variable names a mirror; empty: nowhere."""

    def addresses(self, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Where files are looked for, in order; raises ConfigurationError for a variable whose value is not a URL."""
        environ = os.environ if environ is None else environ
        named = tuple(environ.get(self.variable, "").split())
        for url in named:
            if not is_url(url):
                raise ConfigurationError(
                    f"{self.variable} is {url!r}, which is not a URL.", "Write it as https://HOST/PATH."
                )
        return named or self.default_addresses()

    def locate(self, files: Sequence[Component], index: Locations) -> list[list[str]]:  # noqa: ARG002
        """One URL for each address."""
        bases = [address.rstrip("/") for address in self.addresses()]
        return [[f"{base}/{file.path}" for base in bases] for file in files]

    def place(self, file: Component) -> str:
        """In a folder of its own, as it lies in the archive: that folder is a mirror."""
        return f"{self.name}/{file.path}"

    def mirror_variables(self, folder: Path) -> Mapping[str, str]:
        """The folder in which `place` puts the files, as an address of the archive."""
        return {self.variable: (folder / self.name).as_uri()}
