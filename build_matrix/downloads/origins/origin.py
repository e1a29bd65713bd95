"""What every origin of files answers: which files make a toolkit, where they lie, how they are unpacked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from build_matrix import model
from build_matrix.errors import ArchiveLacksFileError, ArchiveUnreachableError, DownloadError
from build_matrix.model import Cell, Component

if TYPE_CHECKING:
    from packageurl import PackageURL

    from build_matrix.downloads.client import Downloads
    from build_matrix.downloads.index.locations import Locations


class ToolkitChoice(NamedTuple):
    """The locked files that make a CUDA toolkit, and the toolkit's own version (``12.9.2``)."""

    files: tuple[Component, ...]
    release: str


class Origin(ABC):
    """One origin of files. A module of this folder implements it, and ``ORIGINS`` lists it.

    ``name`` is ``Component.origin`` in records. ``title`` and ``mirror_setting`` are parts of sentences: "TITLE cannot
    be reached", "Check the network, or MIRROR_SETTING". ``listed``: pages list the files with their URLs, as those of
    an index do; otherwise each file has a known path below an address. ``downloaded``: the files come over the network
    or from a mirror; otherwise they are taken from a folder that the user names with --toolkit-root.
    """

    name: ClassVar[model.Origin]
    title: ClassVar[str]
    mirror_setting: ClassVar[str]
    listed: ClassVar[bool] = False
    downloaded: ClassVar[bool] = True
    missing_error: ClassVar[type[DownloadError]] = ArchiveLacksFileError
    unreachable_error: ClassVar[type[DownloadError]] = ArchiveUnreachableError

    @abstractmethod
    def choices(self, cuda: str, platform: str) -> Iterable[ToolkitChoice]:
        """The toolkits of this CUDA minor that the locks and the catalog have of this origin, the preferred one first.

        Raises ConfigurationError, NoCompatibleChoiceError.
        """

    def expand(self, file: Component, cell: Cell, downloads: Downloads) -> tuple[Component, ...]:  # noqa: ARG002
        """The files that ``file`` stands for: itself, or what a manifest names, which is downloaded for that.

        Raises DownloadError and its kinds, DiskFullError.
        """
        return (file,)

    @abstractmethod
    def locate(self, files: Sequence[Component], index: Locations) -> list[list[str]]:
        """The URLs of each of these files, the best one first; ``index`` is the user's package index.

        Raises DownloadError and its kinds, ConfigurationError.
        """

    @abstractmethod
    def unpack(self, paths: Sequence[Path], toolkit: Path, cache: Path) -> None:
        """Unpack these files of a toolkit into ``toolkit``, which may hold those of other origins already.

        ``cache`` is uv's. Raises InstallError, UnsafeArchiveError, DiskFullError.
        """

    def unpacking_data(self) -> Mapping[str, str]:
        """The data of the catalog that decides what ``unpack`` makes of a file."""
        return {}

    @abstractmethod
    def purl(self, file: Component) -> PackageURL:
        """What the file is, as a package URL (https://github.com/package-url/purl-spec)."""

    def place(self, file: Component) -> str:
        """Where ``fetch`` puts the file, as a path below its folder."""
        return file.filename

    def mirror_variables(self, folder: Path) -> Mapping[str, str]:  # noqa: ARG002
        """The environment variables by which a machine without network takes the files from what ``fetch`` filled."""
        return {}

    def file_missing(self, file: Component) -> DownloadError:
        """The error for a file that is not there."""
        return self.missing_error(
            f"{self.subject} does not carry {file.filename}.",
            f"It is needed for {file.project} {file.version}. Add it to your mirror, or {self.mirror_setting}.",
        )

    @property
    def subject(self) -> str:
        """The title at the beginning of a sentence."""
        return self.title[:1].upper() + self.title[1:]
