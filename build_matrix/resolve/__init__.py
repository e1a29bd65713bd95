"""What can be built, what will run here, and why not the rest? Pure: records and the catalog in, one plan out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packaging.version import Version

from build_matrix.catalog import default_architecture, llama_releases, toolkits
from build_matrix.errors import ConfigurationError, MissingPrerequisiteError, NoCompatibleChoiceError
from build_matrix.model import (
    Architecture,
    Candidate,
    Cell,
    Finding,
    HostCompiler,
    LlamaRelease,
    Machine,
    Plan,
    Request,
    Toolkit,
)
from build_matrix.resolve.rules import (
    DRIVER_RULE,
    ROOM_RULE,
    compiler_accepted,
    compressed_code_read,
    driver_accepts,
    glibc_accepted,
    gpu_served,
    room_on_disk,
    toolkit_available,
    toolkit_targets,
)

__all__ = ["compiler_accepted", "make_plan", "predict", "require_cell"]

CROSS = "--cross builds it anyway, for another machine."


def make_plan(request: Request, machine: Machine, locked_llama: Sequence[str], locked_cuda: Sequence[str]) -> Plan:
    """Judge every toolkit of the catalog that the request admits, and choose one.

    ``locked_llama`` and ``locked_cuda`` are what the locks hold, oldest first. Raises ConfigurationError for a
    request that no plan could answer; a plan without a cell says why in its candidates.
    """
    release = _llama(request.llama, locked_llama)
    notes: list[str] = []
    architectures = release.as_compiled(_architectures(request.architectures, machine, notes))
    admitted = _admitted(request.cuda, locked_cuda)
    candidates = tuple(
        _judge(toolkit, release, architectures, machine, request.defines, locked_cuda) for toolkit in admitted
    )
    chosen = _choose(candidates, machine, notes, cross=request.cross)
    if chosen is None:
        return Plan(request=request, candidates=candidates, notes=tuple(notes))
    compiler = _compilers(toolkits()[chosen.cuda], release, machine)[0]
    cell = Cell(
        llama=release.version,
        cuda=chosen.cuda,
        architectures=architectures,
        platform=machine.platform,
        profile=request.profile,
        defines=dict(sorted(request.defines.items())),
    )
    return Plan(request=request, candidates=candidates, cell=cell, compiler=compiler, notes=tuple(notes))


def predict(
    cuda: str, architectures: Sequence[Architecture], machine: Machine, defines: dict[str, str]
) -> list[Finding]:
    """The rules that decide whether a wheel of this toolkit with this code runs on ``machine``.

    Empty for a toolkit that the catalog does not know.
    """
    toolkit = toolkits().get(cuda)
    if toolkit is None:
        return []
    findings = [driver_accepts(toolkit, machine), compressed_code_read(toolkit, machine, defines)]
    return findings + [gpu_served(toolkit, architectures, gpu, machine.driver) for gpu in machine.gpus]


def require_cell(plan: Plan, machine: Machine, locked_cuda: Sequence[str]) -> tuple[Cell, HostCompiler]:
    """The plan's cell and compiler.

    Raises NoCompatibleChoiceError with the rule that decided, whether rebuilding could help, and both ways out;
    MissingPrerequisiteError where there is no compiler, or no room on the disk.
    """
    if plan.cell and plan.compiler:
        return plan.cell, plan.compiler
    if not machine.compilers:
        raise MissingPrerequisiteError(
            "There is no C++ compiler on this machine.",
            "Install one: `apt install g++`, `dnf install gcc-c++`, or let CXX name it.",
        )
    nearest = min(plan.candidates, key=lambda c: (len(c.failed("build")), len(c.failed("run"))))
    if unbuildable := nearest.failed("build"):
        if unbuildable[0].rule == ROOM_RULE:
            raise MissingPrerequisiteError(unbuildable[0].fact, unbuildable[0].remedy)
        raise NoCompatibleChoiceError(unbuildable[0].fact, unbuildable[0].remedy)
    finding = nearest.failed("run")[0]
    raise NoCompatibleChoiceError(
        f"A CUDA {nearest.cuda} wheel cannot run on this machine. {finding.fact}{_hopeless(finding)}",
        f"{finding.remedy}\n{_way_out(machine, locked_cuda) if finding.rule == DRIVER_RULE else CROSS}",
    )


def _hopeless(finding: Finding) -> str:
    """What took a day to find out: no build with this toolkit can change what the driver speaks."""
    return " Rebuilding will not help." if finding.rule == DRIVER_RULE else ""


def _way_out(machine: Machine, locked: Sequence[str]) -> str:
    """The command for a wheel that runs on the driver as it is, and the one that builds all the same."""
    if machine.driver is None:
        return CROSS
    speaks = int(machine.driver.cuda.partition(".")[0])
    family = max((t.family for t in toolkits().values() if t.family <= speaks), default=None)
    if family is None:
        return CROSS
    here = any(minor.startswith(f"{family}.") for minor in locked)
    missing = "" if here else f" (no CUDA {family} toolkit has a source here)"
    return f"Or build one that runs today: nox -s build-cuda{family}{missing}. {CROSS}"


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
    return tuple(parsed)


def _admitted(wanted: str, locked: Sequence[str]) -> list[Toolkit]:
    """The toolkits of the catalog of this minor, of this family, or all, oldest first."""
    admitted = [t for t in toolkits().values() if not wanted or (t.cuda + ".").startswith(wanted + ".")]
    if not admitted:
        raise ConfigurationError(
            f"CUDA {wanted} is not in the catalog.", f"Choose one of {', '.join(locked)}, or a family such as 13."
        )
    return admitted


def _judge(
    toolkit: Toolkit,
    release: LlamaRelease,
    architectures: tuple[Architecture, ...],
    machine: Machine,
    defines: dict[str, str],
    locked: Sequence[str],
) -> Candidate:
    compilers = [compiler_accepted(toolkit, release, compiler) for compiler in machine.compilers]
    best = next((finding for finding in compilers if finding.passed), compilers[0] if compilers else _no_compiler())
    findings = [
        toolkit_available(toolkit, locked, machine.platform),
        toolkit_targets(toolkit, architectures),
        best,
        glibc_accepted(toolkit, machine),
        room_on_disk(machine),
        *predict(toolkit.cuda, architectures, machine, defines),
    ]
    return Candidate(cuda=toolkit.cuda, architectures=architectures, findings=tuple(findings))


def _no_compiler() -> Finding:
    return Finding(
        rule="host compiler accepted",
        kind="build",
        passed=False,
        fact="There is no C++ compiler.",
        remedy="Install one: `apt install g++`, or let CXX name it.",
    )


def _compilers(toolkit: Toolkit, release: LlamaRelease, machine: Machine) -> list[HostCompiler]:
    return [c for c in machine.compilers if compiler_accepted(toolkit, release, c).passed]


def _choose(candidates: Iterable[Candidate], machine: Machine, notes: list[str], *, cross: bool) -> Candidate | None:
    """With a driver the newest that is not newer than its CUDA version, else the next newer of its family.

    Without a driver, the first minor of the newest family, which every driver of that family runs.
    """
    usable = [c for c in candidates if not (c.failed("build") if cross else c.failed())]
    if not usable:
        return None
    newest_family = usable[-1].cuda.partition(".")[0]
    if machine.driver is None:
        return next(c for c in usable if c.cuda.partition(".")[0] == newest_family)
    spoken = [c for c in usable if Version(c.cuda) <= Version(machine.driver.cuda)]
    if spoken:
        return spoken[-1]
    own = [c for c in usable if c.cuda.partition(".")[0] == machine.driver.cuda.partition(".")[0]]
    if own:
        notes.append(
            f"CUDA {own[0].cuda}: newer than the driver's {machine.driver.cuda}, since no older one serves every GPU "
            "here; its machine code runs by minor-version compatibility, PTX would not"
        )
        return own[0]
    notes.append(f"CUDA {usable[0].cuda}: this machine's driver cannot run it")
    return usable[0]
