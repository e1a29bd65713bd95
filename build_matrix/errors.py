"""What can go wrong: one class for each kind of failure, with its exit code and its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from build_matrix.redact import redact


class BuildMatrixError(Exception):
    """A failure that a user can act on: one sentence on the problem, one on the remedy; neither with a credential."""

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = redact(problem)
        self.remedy = redact(remedy)
        super().__init__(self.problem, self.remedy)

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}"


# 2: the command line or a configuration file is wrong


class ConfigurationError(BuildMatrixError):
    """The command line, a configuration file, a patch or a record is wrong."""

    exit_code = 2


class UnknownOptionError(ConfigurationError):
    """A ``--define`` names an option that the source does not know."""


class PatchError(ConfigurationError):
    """A patch does not apply exactly as it is written."""


# 3: this machine lacks something that is needed


class MissingPrerequisiteError(BuildMatrixError):
    """This machine lacks something: a compiler, room on the disk, a Python."""

    exit_code = 3


class DiskFullError(MissingPrerequisiteError):
    """There is not enough room where the store or the wheels lie."""

    def __init__(self, folder: Path, needed: int | None = None) -> None:
        need = f"; {needed / 1e9:.1f} GB are needed" if needed else ""
        super().__init__(
            f"The disk that holds {folder} is full{need}.",
            "Free some room there, or name a folder on another disk with --store.",
        )


class InstallError(MissingPrerequisiteError):
    """Packages cannot be resolved or installed together."""


class StoreNotWritableError(MissingPrerequisiteError):
    """The store cannot be written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"The store {folder} cannot be written: {reason}.",
            "Name a folder of your own with --store or BUILD_MATRIX_STORE.",
        )


# 4: no compatible choice exists for what was asked


class NoCompatibleChoiceError(BuildMatrixError):
    """What was asked for cannot be built together."""

    exit_code = 4


# 5: something downloaded is missing, changed or unreachable


class DownloadError(BuildMatrixError):
    """Something from the package index is missing, changed or unreachable."""

    exit_code = 5


class IndexUnreachableError(DownloadError):
    """No package index answers."""


class NotAnIndexError(DownloadError):
    """What answers at the address of a package index is something else: a login page, a portal."""


class CredentialsError(DownloadError):
    """A package index, an archive or a proxy refuses the credentials, or got none."""


class FileMissingError(DownloadError):
    """The package index does not carry a locked file."""


class ArchiveUnreachableError(DownloadError):
    """An archive beside the package index (NVIDIA's, Debian's) does not answer, or lacks the file."""


class ArchiveLacksFileError(ArchiveUnreachableError):
    """Such an archive answers, and lacks the file."""


class HashMismatchError(DownloadError):
    """A downloaded file is not the one that was locked."""


class UnsafeArchiveError(DownloadError):
    """An archive holds a member that would land outside its folder."""


# 6: compiling failed


class CompileError(BuildMatrixError):
    """The compiler, or CMake, reported an error."""

    exit_code = 6


class NetworkAccessError(CompileError):
    """A step of the build tried to reach the network."""


# 7: verification failed


class VerificationError(BuildMatrixError):
    """A wheel is not what its label says, or does not run."""

    exit_code = 7


# 8: not reproducible


class NotReproducibleError(BuildMatrixError):
    """Two builds of the same inputs differ, or a wheel cannot be built again from its record."""

    exit_code = 8


# of the first that failed: several cells were asked for, and not all could be built


class CellsFailedError(BuildMatrixError):
    """Some cells of a matrix failed, and the others were built; with the exit code of the first that failed."""

    exit_code = CompileError.exit_code

    def __init__(self, failures: Mapping[str, BuildMatrixError], asked: int) -> None:
        first = next(iter(failures.values()))
        super().__init__(
            f"{len(failures)} of {asked} cells failed: {', '.join(failures)}.",
            "Each is explained above. The same command builds only what is missing.",
        )
        self.exit_code = first.exit_code  # type: ignore[misc]


# 130: ended by the user


class RunInterruptedError(BuildMatrixError):
    """Ctrl-C, with the exit code that shells give it."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("Interrupted.", "Nothing is broken; the same command goes on where it was.")
