"""What is downloaded."""

from __future__ import annotations

from typing import Literal

from build_matrix.model.base import Record

# Whose file it is: the package index's, NVIDIA's own archives', Debian's archive's, or this machine's already.
Origin = Literal["index", "redist", "debian", "installed"]


class LockedFile(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a package index, by content; ``size`` in bytes (0: the index did not report it)."""

    filename: str
    sha256: str
    size: int = 0


class LockedPackage(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One release of one project, with the files for every platform that is supported."""

    project: str
    version: str
    marker: str = ""
    files: tuple[LockedFile, ...]


class Lock(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A set of packages that belong together; ``release`` is a CUDA toolkit's own version."""

    release: str = ""
    packages: tuple[LockedPackage, ...]


class Content(Record, frozen=True, kw_only=True):
    """What a file is, wherever it comes from; ``size`` in bytes (0: unknown)."""

    project: str
    version: str
    filename: str
    sha256: str
    size: int = 0


class Component(Content, frozen=True, kw_only=True):
    """One file that is downloaded: what it is, and where it comes from.

    ``path`` is where it lies below an address of its origin; a package index is asked for the project instead.
    What is ``installed`` is not downloaded: ``sha256`` is then a digest of all its files.
    """

    origin: Origin = "index"
    path: str = ""

    @property
    def content(self) -> Content:
        """The same without its origin, which must not change what is made of it."""
        names = ("project", "version", "filename", "sha256", "size")
        return Content(**{name: getattr(self, name) for name in names})


class Ingredients(Record, frozen=True, kw_only=True):
    """Every file that is downloaded for one wheel; ``toolkit_release`` is the CUDA toolkit's own version."""

    sdist: Component
    toolkit: tuple[Component, ...]
    toolkit_release: str
    environment: tuple[Component, ...]
    sysroot: tuple[Component, ...]
