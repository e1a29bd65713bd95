"""What can be built here, and why not the rest? Pure: a request, a machine and the catalog in, one cell out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packaging.version import Version

from build_matrix.catalog import default_architecture, llama_releases, toolkits
from build_matrix.errors import ConfigurationError, MissingPrerequisiteError, NoCompatibleChoiceError
from build_matrix.model import (
    Architecture,
    Cell,
    HostCompiler,
    LlamaRelease,
    Machine,
    Record,
    Request,
    Toolkit,
)
from build_matrix.resolve.rules import Finding, as_compiled, compiler_accepted, toolkit_targets

__all__ = ["Choice", "Finding", "choose", "compiler_accepted", "toolkit_targets"]


class Choice(Record, frozen=True, kw_only=True):
    """The cell, the host compiler that builds it, and what a person should know of the choice."""

    cell: Cell
    compiler: HostCompiler
    notes: tuple[str, ...]


def choose(request: Request, machine: Machine, locked_llama: Sequence[str], locked_cuda: Sequence[str]) -> Choice:
    """Make every choice that the request leaves open, and check those that it does not.

    ``locked_llama`` and ``locked_cuda`` are what the locks hold, oldest first.
    Raises ConfigurationError (2), NoCompatibleChoiceError (4).
    """
    notes: list[str] = []
    release = _llama(request.llama, locked_llama)
    architectures = _architectures(request.architectures, machine, notes)
    architectures = tuple(as_compiled(release, architecture) for architecture in architectures)
    toolkit = _toolkit(request.cuda, machine, locked_cuda)
    _require(toolkit_targets(toolkit, architecture) for architecture in architectures)
    compiler = _compiler(machine, toolkit, release)
    cell = Cell(
        llama=release.version,
        cuda=toolkit.cuda,
        architectures=architectures,
        platform=machine.platform,
        profile=request.profile,
        defines=dict(sorted(request.defines.items())),
    )
    return Choice(cell=cell, compiler=compiler, notes=tuple(notes))


def _require(findings: Iterable[Finding]) -> None:
    for finding in findings:
        if not finding.passed:
            raise NoCompatibleChoiceError(finding.fact, finding.remedy)


def _llama(wanted: str, locked: Sequence[str]) -> LlamaRelease:
    known = [version for version in locked if version in llama_releases()]
    version = wanted or known[-1]
    if version not in known:
        raise ConfigurationError(
            f"llama-cpp-python {version} is not among the locked releases.",
            f"Choose one of {', '.join(known)}, or add it to locks/inputs.toml and catalog/llama.toml, "
            "then run `nox -s lock`.",
        )
    return llama_releases()[version]


def _architectures(wanted: Sequence[str], machine: Machine, notes: list[str]) -> tuple[Architecture, ...]:
    if not wanted:
        wanted = sorted({gpu.architecture for gpu in machine.gpus}, key=int)
        if wanted:
            notes.append(f"architecture {', '.join(wanted)}: the GPU of this machine")
        else:
            wanted = [default_architecture()]
            why = machine.driver_problem or "no NVIDIA GPU"
            notes.append(f"architecture {wanted[0]}: the default, since this machine has {why} (--arch changes it)")
    parsed: dict[Architecture, None] = {}
    for text in (word for item in wanted for word in item.replace(";", ",").split(",")):
        try:
            parsed[Architecture.parse(text)] = None
        except ValueError:
            raise ConfigurationError(
                f"{text!r} is not a CUDA architecture.",
                "Write compute capability 8.9 as --arch 89, PTX for 9.0 as --arch 90-virtual.",
            ) from None
    return tuple(sorted(parsed, key=lambda a: (a.kind, a.number, a.feature)))


def _toolkit(wanted: str, machine: Machine, locked: Sequence[str]) -> Toolkit:
    """The minor that is asked for, or, of a family, the newest that the driver speaks, else the first."""
    family = [minor for minor in locked if minor in toolkits() and (minor + ".").startswith(wanted + ".")]
    if not wanted:
        newest = locked[-1].partition(".")[0]
        family = [minor for minor in locked if minor in toolkits() and minor.startswith(newest + ".")]
    if not family:
        raise ConfigurationError(
            f"CUDA {wanted} is not among the locked toolkits.", f"Choose one of {', '.join(locked)}."
        )
    spoken = [minor for minor in family if machine.driver and Version(minor) <= Version(machine.driver.cuda)]
    return toolkits()[spoken[-1] if spoken else family[0]]


def _compiler(machine: Machine, toolkit: Toolkit, release: LlamaRelease) -> HostCompiler:
    findings: list[Finding] = []
    for compiler in machine.compilers:
        finding = compiler_accepted(toolkit, release, compiler)
        if finding.passed:
            return compiler
        findings.append(finding)
    if findings:
        _require(findings)
    raise MissingPrerequisiteError(
        "There is no C++ compiler on this machine.",
        "Install one: `apt install g++`, `dnf install gcc-c++`, or let CXX name it.",
    )
