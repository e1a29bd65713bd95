"""What can be built, what will run here, and why not the rest? Pure: records and the catalog in, one plan out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from build_matrix.catalog import default_architecture, llama_releases, toolkits
from build_matrix.diagnosis import hints_at_gpu
from build_matrix.errors import ConfigurationError, MissingPrerequisiteError, NoCompatibleChoiceError
from build_matrix.model import (
    CLAIMED,
    NO_DRIVER,
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
from build_matrix.platforms import find_platform
from build_matrix.resolve.rules import (
    CODE_RULE,
    DRIVER_RULE,
    ROOM_RULE,
    code_for_gpus,
    compiler_accepted,
    compressed_code_read,
    driver_accepts,
    driver_answers,
    glibc_accepted,
    room_on_disk,
    sources_compile,
    toolkit_available,
    toolkit_targets,
    unknown_toolkit,
)

__all__ = [
    "CODE_RULE",
    "choose_release",
    "compiler_accepted",
    "make_plan",
    "parse_architectures",
    "predict",
    "require_cell",
    "why_not_compiled",
]

IGNORE_DRIVER = "--ignore-driver builds it anyway, for another machine."


def make_plan(request: Request, machine: Machine, locked_llama: Sequence[str], locked_cuda: Sequence[str]) -> Plan:
    """Judge every toolkit of the catalog that the request admits, and choose one.

    ``locked_llama`` and ``locked_cuda`` are what the locks hold, oldest first. Raises ConfigurationError for a
    request that no plan could answer, NoCompatibleChoiceError for a platform that is not supported; a plan without a
    cell says why in its candidates.
    """
    find_platform(machine.platform)
    release = choose_release(request.llama, locked_llama)
    notes = list(machine.compiler_notes)
    architectures = release.as_compiled(_architectures(request.architectures, machine, notes))
    admitted = _admitted(request.cuda, locked_cuda)
    candidates = tuple(
        _judge(toolkit, release, architectures, machine, request.defines, locked_cuda) for toolkit in admitted
    )
    chosen = _choose(candidates, machine, notes, ignore_driver=request.ignore_driver)
    if chosen is None:
        return Plan(request=request, llama=release.version, candidates=candidates, notes=tuple(notes))
    compiler = _compilers(toolkits()[chosen.cuda], release, machine)[0]
    cell = Cell(
        llama=release.version,
        cuda=chosen.cuda,
        architectures=architectures,
        platform=machine.platform,
        profile=request.profile,
        defines=dict(sorted(request.defines.items())),
    )
    return Plan(
        request=request,
        llama=release.version,
        candidates=candidates,
        cell=cell,
        compiler=compiler,
        notes=tuple(notes),
    )


def predict(
    cuda: str, architectures: Sequence[Architecture], machine: Machine, defines: dict[str, str]
) -> list[Finding]:
    """The rules that decide whether a wheel of this toolkit with this code runs on ``machine``.

    Each holds, does not hold, or is not known (``Finding.known``): without a driver, without a GPU, for a toolkit that
    the catalog does not know, and for a wheel whose label names no architecture.
    """
    toolkit = toolkits().get(cuda)
    if toolkit is None:
        return [unknown_toolkit(cuda, machine.driver)]
    findings = [
        driver_answers(machine),
        driver_accepts(toolkit, machine),
        compressed_code_read(toolkit, machine, defines),
    ]
    return findings + code_for_gpus(toolkit, architectures, machine)


def why_not_compiled(cuda: str, release: LlamaRelease, architectures: Sequence[Architecture]) -> Finding | None:
    """The rule by which this toolkit compiles no such wheel, whatever machine it is built on; None where there is none.

    Raises ConfigurationError for a toolkit that the catalog does not know.
    """
    toolkit = toolkits().get(cuda)
    if toolkit is None:
        raise ConfigurationError(f"CUDA {cuda} is not in the catalog.", f"Choose one of {', '.join(toolkits())}.")
    findings = (toolkit_targets(toolkit, architectures), sources_compile(toolkit, release, architectures))
    return next((finding for finding in findings if finding.failed), None)


def require_cell(plan: Plan, machine: Machine, locked_cuda: Sequence[str]) -> tuple[Cell, HostCompiler]:
    """The plan's cell and compiler.

    Raises NoCompatibleChoiceError with the rule that decided, whether rebuilding could help, and both ways out;
    MissingPrerequisiteError where there is no compiler, or no room on the disk.
    """
    if plan.cell and plan.compiler:
        return plan.cell, plan.compiler
    if not machine.compilers:
        missing = _refused(machine)
        raise MissingPrerequisiteError(missing.fact, missing.remedy)
    nearest = _nearest(plan)
    if unbuildable := nearest.failed("build"):
        if unbuildable[0].rule == ROOM_RULE:
            raise MissingPrerequisiteError(unbuildable[0].fact, unbuildable[0].remedy)
        raise NoCompatibleChoiceError(unbuildable[0].fact, unbuildable[0].remedy)
    finding = nearest.failed("run")[0]
    alternative = _alternative(plan, machine, locked_cuda) if finding.rule == DRIVER_RULE else IGNORE_DRIVER
    raise NoCompatibleChoiceError(
        f"A CUDA {nearest.cuda} wheel cannot run on this machine. {finding.fact}{_rebuild_note(finding)}",
        f"{finding.remedy}\n{alternative}",
    )


def _nearest(plan: Plan) -> Candidate:
    """The toolkit that lacks least; of several the newest that cannot be built with, or else the oldest."""

    def failure_counts(candidate: Candidate) -> tuple[int, int]:
        return len(candidate.failed("build")), len(candidate.failed("run"))

    least = min(map(failure_counts, plan.candidates))
    nearest = [candidate for candidate in plan.candidates if failure_counts(candidate) == least]
    return nearest[-1] if least[0] else nearest[0]


def _rebuild_note(finding: Finding) -> str:
    """No build with this toolkit can change which CUDA version the driver supports."""
    return " Rebuilding will not help." if finding.rule == DRIVER_RULE else ""


def _alternative(plan: Plan, machine: Machine, locked: Sequence[str]) -> str:
    """The command for a wheel that runs on the driver as it is, or why there is none; and what builds all the same."""
    newest = machine.driver.cuda_version.major if machine.driver else 0
    family = max((t.family for t in toolkits().values() if t.family <= newest), default=None)
    if family is None:
        return IGNORE_DRIVER
    release, architectures = llama_releases()[plan.llama], plan.candidates[0].architectures
    candidates = [
        _judge(toolkit, release, architectures, machine, plan.request.defines, locked)
        for toolkit in toolkits().values()
        if toolkit.family == family
    ]
    if any(not candidate.failed() for candidate in candidates):
        return f"Or build a wheel that runs on this driver: nox -s build-cuda{family}. {IGNORE_DRIVER}"
    nearest = min(candidates, key=lambda candidate: len(candidate.failed()))
    reason = nearest.failed()[0]
    return f"A CUDA {family} wheel is not an option: {reason.fact} {reason.remedy}\n{IGNORE_DRIVER}"


def choose_release(requested: str, locked: Sequence[str]) -> LlamaRelease:
    """The release of this version, or the newest of ``locked``; raises ConfigurationError for one that is not known."""
    known = [version for version in locked if version in llama_releases()]
    version = requested.strip() or known[-1]
    if version not in known:
        raise ConfigurationError(
            f"llama-cpp-python {version} is not locked.",
            f"Choose one of {', '.join(known)}, or add it to locks/inputs.toml and catalog/llama.toml, "
            "then run `nox -s lock`.",
        )
    return llama_releases()[version]


def _architectures(requested: Sequence[str], machine: Machine, notes: list[str]) -> tuple[Architecture, ...]:
    native = tuple(Architecture.parse(text) for text in sorted({gpu.architecture for gpu in machine.gpus}, key=int))
    names = ", ".join(str(a.number) for a in native)
    if requested:
        return parse_architectures(requested, native)
    if native:
        origin = "the claimed GPU" if machine.gpus[0].uuid.startswith(CLAIMED) else "the GPU of this machine"
        notes.append(f"architecture {names}: {origin}")
        return native
    if not _claimed(machine) and (hint := _gpu_hint(machine)):
        raise ConfigurationError(
            f"{hint[:1].upper()}{hint[1:]}. The compute capability of the GPU is therefore not known.",
            "Set the architecture, for example --arch 89 for compute capability 8.9. `nox -s doctor` shows what is "
            "wrong with the driver.",
        )
    default = default_architecture()
    where = " in this container" if machine.environment.container else ""
    why = "no GPU is claimed" if _claimed(machine) else f"there is {NO_DRIVER}{where}"
    notes.append(f"architecture {default}: the default, because {why} (--arch changes it)")
    return (Architecture.parse(default),)


def _claimed(machine: Machine) -> bool:
    """Whether this is a plan for another machine, whose driver or GPUs are claimed."""
    return bool(machine.overrides)


def _gpu_hint(machine: Machine) -> str:
    """What says that there is, or may be, an NVIDIA GPU although none could be read; an empty text for nothing."""
    if machine.driver:
        return (
            "; ".join(machine.gpu_problems).rstrip(".")
            or machine.driver_problem
            or "There is a driver, but no GPU responds"
        )
    if not hints_at_gpu(machine.evidence):
        return ""
    if machine.driver_problem in {"", NO_DRIVER} and machine.evidence.pci:
        return f"there is an NVIDIA device ({machine.evidence.pci[0].address}), but no working driver"
    return machine.driver_problem or NO_DRIVER


_SPELLING = re.compile(
    r"(?P<prefix>sm_?|compute_?|ptx_?)?(?P<number>[1-9]\d{1,2}|[1-9]\d?\.\d)(?P<feature>[af]?)(?P<kind>-real|-virtual)?"
    r"(?P<ptx>\+ptx)?",
    re.ASCII,
)


def parse_architectures(requested: Sequence[str], native: Sequence[Architecture] = ()) -> tuple[Architecture, ...]:
    """Architectures as people write them, each once, in the order given; the text "native" stands for ``native``.

    CMake's ``89``, ``89-real``, ``90-virtual``; nvcc's ``sm_89`` and ``compute_90``; PyTorch's ``8.9`` and ``8.9+PTX``.
    Raises ConfigurationError for anything else.
    """
    parsed: dict[Architecture, None] = {}
    for text in (part for item in requested for part in re.split(r"\s*[,;]\s*|\s+", item.strip())):
        if text.lower() == "native" and native:
            parsed |= dict.fromkeys(native)
        else:
            parsed |= dict.fromkeys(_parse_architecture(text))
    return tuple(parsed)


def _parse_architecture(text: str) -> tuple[Architecture, ...]:
    match = _SPELLING.fullmatch(text.lower())
    if not match:
        raise ConfigurationError(f"{text!r} is not a CUDA architecture.", _spelling_remedy(text.lower()))
    number, feature = int(match["number"].replace(".", "")), match["feature"]
    code = (match["prefix"] or "").removesuffix("_")
    kinds = {
        {"sm": "real", "compute": "virtual", "ptx": "virtual"}.get(code, ""),
        (match["kind"] or "").removeprefix("-"),
    }
    kinds -= {""}
    if len(kinds) > 1 or (kinds and match["ptx"]):
        raise ConfigurationError(
            f"{text!r} names both machine code and PTX.", "Write 89 or 89-virtual, or 8.9+PTX for both."
        )
    if match["ptx"]:
        kinds = {"real", "virtual"}
    spelled = [f"{number}{feature}-{kind}" for kind in sorted(kinds or {"real"})]
    return tuple(Architecture.parse(spelling) for spelling in spelled)


def _spelling_remedy(text: str) -> str:
    if text == "native":
        return "No GPU of this machine is known. Write its compute capability, such as 8.9, as --arch 89."
    if text in {"all", "all-major", "auto", "common"}:
        return "Name each one, as in --arch 80,89,90-virtual. `nox -s build -- --all` builds the wheels of a release."
    return "Write compute capability 8.9 as --arch 89, and PTX for 9.0 as --arch 90-virtual."


def _admitted(requested: str, locked: Sequence[str]) -> list[Toolkit]:
    """The toolkits of the catalog of this minor, of this family, or all, oldest first."""
    admitted = [toolkit for toolkit in toolkits().values() if toolkit.cuda_version.matches(requested)]
    if not admitted:
        raise ConfigurationError(
            f"CUDA {requested.strip()} is not in the catalog.",
            f"Choose one of {', '.join(locked)}, or a family such as 13.",
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
    best = next((finding for finding in compilers if finding.passed), compilers[0] if compilers else _refused(machine))
    findings = [
        toolkit_available(toolkit, locked, machine.platform),
        toolkit_targets(toolkit, architectures),
        sources_compile(toolkit, release, architectures),
        best,
        glibc_accepted(toolkit, machine),
        room_on_disk(machine),
        *predict(toolkit.cuda, architectures, machine, defines),
    ]
    return Candidate(cuda=toolkit.cuda, architectures=architectures, findings=tuple(findings))


def _refused(machine: Machine) -> Finding:
    """Why there is no compiler: the first one that was refused, or that there is none, or that this is not known."""
    fact = "There is no C++ compiler on this machine."
    remedy = "Install one: `apt install g++`, `dnf install gcc-c++`, or set CXX to one."
    if not machine.compilers_known:
        fact, remedy = "The C++ compilers of this machine could not be examined.", "`nox -s doctor` shows why."
    missing = Finding(rule="host compiler accepted", kind="build", passed=False, fact=fact, remedy=remedy)
    return next(iter(machine.compiler_problems), missing)


def _compilers(toolkit: Toolkit, release: LlamaRelease, machine: Machine) -> list[HostCompiler]:
    return [c for c in machine.compilers if compiler_accepted(toolkit, release, c).passed]


def _choose(
    candidates: Iterable[Candidate], machine: Machine, notes: list[str], *, ignore_driver: bool
) -> Candidate | None:
    """With a driver the newest that is not newer than its CUDA version, else the next newer of its family.

    Without a driver, the first minor of the newest family, which every driver of that family runs.
    """
    usable = [c for c in candidates if not (c.failed("build") if ignore_driver else c.failed())]
    if not usable:
        return None
    if machine.driver is None:
        return next(c for c in usable if c.cuda_version.major == usable[-1].cuda_version.major)
    supported = [c for c in usable if c.cuda_version <= machine.driver.cuda_version]
    if supported:
        return supported[-1]
    same_family = [c for c in usable if c.cuda_version.major == machine.driver.cuda_version.major]
    if same_family:
        notes.append(
            f"CUDA {same_family[0].cuda}: newer than the driver's {machine.driver.cuda}, because no older one can be "
            "built here for all GPUs; its machine code runs by minor-version compatibility, PTX would not"
        )
        return same_family[0]
    notes.append(f"CUDA {usable[0].cuda}: this machine's driver cannot run it")
    return usable[0]
