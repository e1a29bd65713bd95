"""A wheel as one object: its name, its files and libraries, and what lies beside it, each read when it is needed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from build_matrix.errors import ConfigurationError, VerificationError
from build_matrix.model import Label, Verdict, WheelRecord, file_sha256
from build_matrix.wheelfile.archive import Members, read_members
from build_matrix.wheelfile.metadata import DistInfo, read_dist_info
from build_matrix.wheelfile.name import WheelName, parse_wheel_name
from build_matrix.wheelfile.native import Library, read_library
from build_matrix.wheelfile.sidecar import UNREADABLE, load_record, load_verdict, record_path, verdict_path


class WheelFile:
    """A wheel on disk.

    Nothing is read before it is needed, and then once: the hash of a file of hundreds of megabytes, its members, the
    parsing of each library. A file that changes afterwards is another WheelFile. With ``members`` read it holds the
    whole wheel in memory, until ``release_members``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def name(self) -> WheelName:
        """What its file name says; raises VerificationError for one that no wheel may have."""
        return parse_wheel_name(self.path.name)

    @property
    def label(self) -> Label | None:
        """What its name claims of CUDA; None where it claims nothing, or is no name of a wheel."""
        try:
            return self.name.label
        except VerificationError:
            return None

    @cached_property
    def sha256(self) -> str:
        """Of the whole file (hex); raises OSError."""
        return file_sha256(self.path)

    @cached_property
    def members(self) -> Members:
        """Every file in it, by its name; raises VerificationError (see read_members)."""
        return read_members(self.path)

    @cached_property
    def dist_info(self) -> DistInfo:
        """What it says of itself; raises VerificationError where there is not one such folder."""
        return read_dist_info(self.members)

    @cached_property
    def libraries(self) -> dict[str, Library]:
        """The native libraries in it, by their name; raises VerificationError."""
        return {name: library for name, data in self.members.items() if (library := read_library(data))}

    def release_members(self) -> None:
        """Let go of the members, which may be a gigabyte; what was read from them stays, and they are read again."""
        self.__dict__.pop("members", None)

    def read_record(self) -> WheelRecord:
        """The record beside it; raises ConfigurationError when there is none or it is another file's."""
        path = record_path(self.path)
        try:
            record = load_record(self.path)
        except UNREADABLE as error:
            raise ConfigurationError(
                f"{self.path.name} has no readable record ({path.name}): {error}",
                "Get the record that was published with the wheel, and a build-matrix that knows its schema.",
            ) from error
        if self.sha256 != record.sha256:
            raise ConfigurationError(
                f"{path.name} is the record for another file: it names sha256 {record.sha256}.",
                "Get the wheel and its record from the same place.",
            )
        return record

    def read_verdict(self) -> Verdict:
        """The verdict beside it; raises ConfigurationError when there is none or it is another file's."""
        path = verdict_path(self.path)
        remedy = f"Verify it: `nox -s verify -- {self.path}`."
        try:
            verdict = load_verdict(self.path)
        except UNREADABLE as error:
            raise ConfigurationError(f"{self.path.name} has no readable verdict: {error}", remedy) from error
        if verdict.sha256 != self.sha256 or verdict.filename != self.path.name:
            raise ConfigurationError(
                f"{path.name} is the verdict for another file, with sha256 {verdict.sha256}.", remedy
            )
        return verdict
