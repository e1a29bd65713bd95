"""What is requested, and what can be built: the result of ``resolve``."""

from __future__ import annotations

from typing import Literal

from build_matrix.model.base import Record
from build_matrix.model.cuda import Architecture, CudaVersion
from build_matrix.model.finding import Answer, Finding, RuleKind
from build_matrix.model.label import write_label
from build_matrix.model.machine import HostCompiler

Profile = Literal["release", "check"]


class Request(Record, frozen=True, kw_only=True):
    """What the user requested; an empty value leaves the choice to the tool."""

    cuda: str = ""
    llama: str = ""
    architectures: tuple[str, ...] = ()
    profile: Profile = "release"
    defines: dict[str, str] = {}
    ignore_driver: bool = False


class Cell(Record, frozen=True, kw_only=True):
    """One wheel to build, with all choices made; ``platform`` is a name such as ``linux-x86_64``."""

    llama: str
    cuda: str
    architectures: tuple[Architecture, ...]
    platform: str
    profile: Profile = "release"
    defines: dict[str, str] = {}

    @property
    def label(self) -> str:
        """Local version label: ``cu130.sm89``; a wheel that must not be released ends in ``.check``."""
        return write_label(self.cuda_version, self.architectures, self.defines, self.profile)

    @property
    def cuda_version(self) -> CudaVersion:
        """``cuda``, for comparing and for its major."""
        return CudaVersion.parse(self.cuda)


class Candidate(Record, frozen=True, kw_only=True):
    """A toolkit that was considered, with every rule's result."""

    cuda: str
    architectures: tuple[Architecture, ...]
    findings: tuple[Finding, ...]

    @property
    def cuda_version(self) -> CudaVersion:
        """``cuda``, for comparing and for its major."""
        return CudaVersion.parse(self.cuda)

    def failed(self, kind: RuleKind | None = None) -> tuple[Finding, ...]:
        """The rules that do not hold, of one kind or of both."""
        return tuple(f for f in self.findings if f.failed and kind in {None, f.kind})

    def unknown(self, kind: RuleKind | None = None) -> tuple[Finding, ...]:
        """The rules that could not be judged, of one kind or of both."""
        return tuple(f for f in self.findings if not f.known and kind in {None, f.kind})

    def answer(self, kind: RuleKind) -> Answer:
        """Whether it builds, or runs here: a rule that does not hold decides, one that is not known leaves it open."""
        if self.failed(kind):
            return "no"
        return "not known" if self.unknown(kind) else "yes"


class Plan(Record, frozen=True, kw_only=True):
    """What can be built here, and why not the rest; ``cell`` is None when nothing can.

    ``llama`` is the release that was judged, of the request or the newest.
    """

    request: Request
    llama: str
    candidates: tuple[Candidate, ...]
    cell: Cell | None = None
    compiler: HostCompiler | None = None
    notes: tuple[str, ...] = ()
