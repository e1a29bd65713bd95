"""What can go wrong: one class for each kind of failure, with its exit code and its remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from build_matrix.redact import redact


class BuildMatrixError(Exception):
    """A failure that a user can act on: one sentence on the problem, one on the remedy, no credentials."""

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
    """This machine lacks something: a compiler, disk space, a Python."""

    exit_code = 3


class DiskFullError(MissingPrerequisiteError):
    """There is not enough space for the store or the wheels."""

    def __init__(self, folder: Path, needed: int | None = None) -> None:
        need = f"; {needed / 1e9:.1f} GB is needed" if needed else ""
        super().__init__(
            f"The disk that holds {folder} is full{need}.",
            "Free some space there, or choose a folder on another disk with --store. If there is space, its inodes "
            "(`df -i`) or your quota (`quota -s`) are used up.",
        )


class InstallError(MissingPrerequisiteError):
    """Packages cannot be resolved or installed together."""


class StoreNotWritableError(MissingPrerequisiteError):
    """The store cannot be written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"The store {folder} cannot be written: {reason}.",
            "Choose a folder that you can write to with --store or BUILD_MATRIX_STORE.",
        )


class NoLocksError(MissingPrerequisiteError):
    """The store's file system has no locks, which keep two runs from making one result at the same time."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"The file system of the store {folder} has no working file locks: {reason}.",
            "Choose a folder on a local disk with --store or BUILD_MATRIX_STORE.",
        )


# 4: no compatible choice exists for what was requested


class NoCompatibleChoiceError(BuildMatrixError):
    """What was requested cannot be built together."""

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


# of the first that failed: several cells were requested, and not all could be built


class CellsFailedError(BuildMatrixError):
    """Some cells of a matrix failed, and the others were built; with the exit code of the first that failed."""

    exit_code = CompileError.exit_code

    def __init__(self, failures: Mapping[str, BuildMatrixError], requested: int) -> None:
        first = next(iter(failures.values()))
        super().__init__(
            f"{len(failures)} of {requested} cells failed: {', '.join(failures)}.",
            "Each failure is explained above. Run the same command again to build only what is missing.",
        )
        self.exit_code = first.exit_code  # type: ignore[misc]


# 130: ended by the user


class RunInterruptedError(BuildMatrixError):
    """Ctrl-C, with the exit code that shells give it."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("Interrupted.", "Nothing is lost: run the same command again to continue.")


# 70: a fault of this tool (EX_SOFTWARE of sysexits.h)


class InternalError(BuildMatrixError):
    """Something that no other class explains; the full report is in a file."""

    exit_code = 70


# Errors of the operating system


_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_OTHER_FOLDER = "choose another folder (--store, --wheels)."
_REMEDIES = {
    errno.EACCES: f"Change its permissions, or {_OTHER_FOLDER}",
    errno.EPERM: f"Change its permissions, or {_OTHER_FOLDER}",
    errno.EROFS: f"Make that file system writable, or {_OTHER_FOLDER}",
    errno.EIO: f"Check that disk (`dmesg` shows its errors), or {_OTHER_FOLDER}",
    errno.ESTALE: f"Mount that network file system again, or {_OTHER_FOLDER}",
    errno.ENXIO: f"Check that device, or {_OTHER_FOLDER}",
    errno.ENOTCONN: f"Mount that file system again, or {_OTHER_FOLDER}",
    errno.ELOOP: f"Remove the symbolic link that points to itself, or {_OTHER_FOLDER}",
    errno.ENAMETOOLONG: f"The name is too long for the file system: {_OTHER_FOLDER}",
    errno.ENOTDIR: f"A part of this path is a file, not a folder: {_OTHER_FOLDER}",
    errno.EISDIR: f"This is a folder where a file is needed: {_OTHER_FOLDER}",
    errno.EEXIST: f"Something else has this name. Remove it, or {_OTHER_FOLDER}",
    errno.EFBIG: "Raise the limit on file size (`ulimit -f unlimited`).",
    errno.EMFILE: "Raise the limit on open files (`ulimit -n 4096`).",
    errno.ENFILE: "This machine has too many open files. Stop other programs, or raise `fs.file-max`.",
    errno.ENOMEM: "Free some memory, or run fewer compilers at a time with --jobs.",
    errno.EAGAIN: "Raise the limit on processes (`ulimit -u`, or the pids limit of a container), or lower --jobs.",
    errno.ETXTBSY: "A program was being written when it was started. Run the same command again.",
    errno.ENOEXEC: "This program is for another kind of machine, or it is damaged. Reinstall it.",
}


def explain_os_error(error: OSError, folder: Path | None = None) -> MissingPrerequisiteError | None:
    """The failure that a user can act on behind ``error`` (see errno(3)), or None where its number is too general.

    ``folder`` is what was being written, where that is known.
    """
    place = folder or (Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None)
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _FULL and place:
        return DiskFullError(place)
    if error.errno in _FULL:
        return MissingPrerequisiteError(
            f"A disk is full: {reason}.",
            "Free some space on the disks of the store, the temporary folder and the output.",
        )
    if error.errno in _LOCKS and folder:
        return NoLocksError(folder, reason)
    if error.errno not in _REMEDIES:
        return None
    return MissingPrerequisiteError(f"{place or 'The system'}: {reason}.", _REMEDIES[error.errno])
