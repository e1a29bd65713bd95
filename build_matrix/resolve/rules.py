"""The compatibility rules: each a small pure function that returns whether it holds, the deciding fact, the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from packaging.version import Version

from build_matrix.catalog import branch_for, cuda_of_driver, fatbin_compression, toolkits
from build_matrix.model import (
    BLACKWELL,
    NO_DRIVER,
    Architecture,
    CudaVersion,
    Driver,
    DriverVersion,
    Finding,
    Gpu,
    HostCompiler,
    LlamaRelease,
    Machine,
    Toolkit,
)
from build_matrix.platforms import find_platform

BUILD_ROOM = 4_000_000_000  # bytes: toolkit 1.7 GB with its packages, sources and objects 1.2 GB, the rest 0.6 GB
ROOM_RULE = "room on the disk"
DOCTOR = "`nox -s doctor` shows what is wrong and how to fix it."
ANSWER_RULE = "driver answers"
DRIVER_RULE = "driver runs toolkit"
COMPRESSION_RULE = "compressed code read"
CODE_RULE = "code for the GPU"
COMPRESSION = "GGML_CUDA_COMPRESSION_MODE"
UNCOMPRESSED = ("none", "speed")  # values with which every driver reads the machine code
LAST_WITHOUT = 12  # the newest CUDA major with drivers that do not read compressed machine code
OLDEST_ARCH_SPECIFIC = 90
OLDEST_FAMILY_SPECIFIC = 100


# --- can it be built? ----------------------------------------------------------------------------------


def toolkit_available(toolkit: Toolkit, locked: Sequence[str], platform: str) -> Finding:
    """Whether there is a source of this toolkit for this platform."""
    passed = toolkit.cuda in locked
    return Finding(
        rule="toolkit available",
        kind="build",
        passed=passed,
        fact=f"CUDA {toolkit.cuda} is {'' if passed else 'not '}locked for {platform}.",
        remedy="" if passed else f"Choose one of {', '.join(locked)}; `nox -s lock` writes the locks.",
    )


def toolkit_targets(toolkit: Toolkit, architectures: Sequence[Architecture]) -> Finding:
    """Whether this toolkit can compile for all of these architectures (``ptxas --help``)."""
    missing = [a for a in architectures if not _targets(toolkit, a)]
    names = ", ".join(f"{a.number}{a.feature} ({a.code})" for a in missing)
    return Finding(
        rule="toolkit targets architecture",
        kind="build",
        passed=not missing,
        fact=f"CUDA {toolkit.cuda} cannot compile for architecture {names}."
        if missing
        else f"CUDA {toolkit.cuda} can compile for all requested architectures.",
        remedy=_other_target(toolkit, architectures) if missing else "",
    )


def _targets(toolkit: Toolkit, architecture: Architecture) -> bool:
    """CUDA Programming Guide, "Feature availability": ``a`` from compute capability 9.0 on, ``f`` from 10.0 on."""
    if str(architecture.number) not in toolkit.architectures:
        return False
    allowed = {
        "": True,
        "a": toolkit.arch_specific and architecture.number >= OLDEST_ARCH_SPECIFIC,
        "f": toolkit.family_specific and architecture.number >= OLDEST_FAMILY_SPECIFIC,
    }
    return allowed[architecture.feature]


def _other_target(toolkit: Toolkit, architectures: Sequence[Architecture]) -> str:
    """What this toolkit compiles for, and the toolkits that compile for all of these architectures."""
    supported = f"It can compile for {', '.join(toolkit.architectures)}"
    alternatives = [other.cuda for other in toolkits().values() if all(_targets(other, a) for a in architectures)]
    if alternatives:
        versions = f"{alternatives[0]} to {alternatives[-1]}" if len(alternatives) > 1 else alternatives[0]
        return f"{supported}. For all requested architectures, use --cuda {versions}."
    if all(any(_targets(other, a) for other in toolkits().values()) for a in architectures):
        return (
            f"{supported}. No toolkit can compile for all requested architectures: build several wheels, "
            "or leave one out."
        )
    numbers = [int(number) for number in toolkit.architectures]
    oldest = min(int(number) for other in toolkits().values() for number in other.architectures)
    if any(a.number < oldest for a in architectures):
        return f"{supported}. No toolkit of the catalog can compile for less than {oldest / 10}: leave out that GPU."
    if any(a.number > numbers[-1] for a in architectures):
        ptx = max(number for number in numbers if number not in BLACKWELL)  # which some sources compile for it alone
        return f"{supported}. For a newer GPU, add PTX, which the driver compiles when it starts: --arch {ptx}-virtual."
    return (
        f"{supported}. Compute capability 8.9 is --arch 89 "
        "(`nvidia-smi --query-gpu=compute_cap --format=csv` shows it)."
    )


def sources_compile(toolkit: Toolkit, release: LlamaRelease, architectures: Iterable[Architecture]) -> Finding:
    """Whether this toolkit compiles the release's sources for these architectures (``limit`` in catalog/llama.toml)."""
    requested = tuple(architectures)
    limits = [(limit, [a for a in requested if limit.excludes(toolkit.cuda, a)]) for limit in release.limit]
    limit, excluded = next((pair for pair in limits if pair[1]), (None, []))
    names = ", ".join(a.code for a in excluded)
    return Finding(
        rule="sources compile",
        kind="build",
        passed=limit is None,
        fact=f"CUDA {toolkit.cuda} cannot compile llama-cpp-python {release.version} for {names}: {limit.fact}."
        if limit
        else f"CUDA {toolkit.cuda} can compile llama-cpp-python {release.version}, as far as is known.",
        remedy=limit.remedy if limit else "",
    )


def compiler_accepted(toolkit: Toolkit, release: LlamaRelease, compiler: HostCompiler) -> Finding:
    """Whether the toolkit's headers (crt/host_config.h), its own front end and the sources accept this host compiler.

    The front end reads the headers of libstdc++, which a Clang borrows from the newest GCC: that of 11.8 turns those of
    GCC 12 into C++ that Clang 14 refuses ("expression contains unexpanded parameter pack '_Args'", in ggml-cuda.cu).
    """
    accepted, needed = {
        "gcc": (toolkit.gcc, release.min_gcc),
        "clang": (toolkit.clang, release.min_clang),
        "msvc": (toolkit.msvc, toolkit.msvc.min),
    }[compiler.name]
    oldest = max(accepted.min, needed)
    in_range = oldest <= compiler.major <= accepted.max
    passed = in_range and compiler.libstdcxx <= toolkit.gcc.max
    fact = (
        f"CUDA {toolkit.cuda} and llama-cpp-python {release.version} accept {compiler.name} "
        f"{_range(oldest, accepted.max)}; {compiler.cxx} is {compiler.version}."
    )
    remedy = f"Install {compiler.name} {_range(oldest, accepted.max)} and set CXX to it."
    if in_range and not passed:
        gcc = _range(max(toolkit.gcc.min, release.min_gcc), toolkit.gcc.max)
        fact = (
            f"CUDA {toolkit.cuda} accepts the libstdc++ headers of GCC {toolkit.gcc.max} and older; "
            f"{compiler.name} {compiler.version} ({compiler.cxx}) uses those of GCC {compiler.libstdcxx}."
        )
        remedy = f"Install gcc {gcc} and set CXX to its g++."
    return Finding(
        rule="host compiler accepted", kind="build", passed=passed, fact=fact, remedy="" if passed else remedy
    )


def glibc_accepted(toolkit: Toolkit, machine: Machine) -> Finding:
    """Whether the toolkit's headers agree with those of the glibc that is compiled against.

    That is the sysroot's, whatever glibc this machine has.
    """
    glibc = find_platform(machine.platform).oldest_system.glibc if machine.glibc else ""
    passed = not (toolkit.max_glibc and glibc) or Version(glibc) <= Version(toolkit.max_glibc)
    accepted = f"glibc {toolkit.max_glibc} and older" if toolkit.max_glibc else "any glibc"
    return Finding(
        rule="glibc accepted",
        kind="build",
        passed=passed,
        fact=f"CUDA {toolkit.cuda} accepts {accepted}; wheels are compiled against {glibc or 'none'}, and this "
        f"machine has {machine.glibc or 'none'}.",
        remedy="" if passed else "Choose CUDA 13.",
    )


def room_on_disk(machine: Machine) -> Finding:
    """Whether the store's disk has room for toolkit, sources, objects and verification."""
    passed = not machine.disk_free or machine.disk_free >= BUILD_ROOM
    return Finding(
        rule=ROOM_RULE,
        kind="build",
        passed=passed,
        fact=f"A build needs {BUILD_ROOM / 1e9:.0f} GB of disk space; {machine.disk_free / 1e9:.1f} GB are free.",
        remedy="" if passed else "Free some space, or choose a folder on another disk with --store.",
    )


# --- will it run on this machine? ----------------------------------------------------------------------


def driver_answers(machine: Machine) -> Finding:
    """Whether the driver library initialises (cuInit): without that, nothing is known of what runs here."""
    driver, code = machine.driver, machine.evidence.init_error
    if driver is None:
        return _not_known(ANSWER_RULE, _no_driver(machine), DOCTOR)
    if machine.overrides or code == 0:
        return Finding(rule=ANSWER_RULE, kind="run", passed=True, fact=f"{driver.title} works.")
    why = machine.driver_problem or (
        f"cuInit fails with error {code}" if code else "the driver library did not respond"
    )
    return _not_known(ANSWER_RULE, f"Whether CUDA works here is not known: {why}.", DOCTOR)


def driver_accepts(toolkit: Toolkit, machine: Machine) -> Finding:
    """Whether the driver runs programs of this toolkit.

    A driver runs programs of every older major, and of its own major from the driver on that NVIDIA names as the
    oldest for minor-version compatibility.
    """
    driver = machine.driver
    if driver is None:
        return _not_known(
            DRIVER_RULE, _no_driver(machine), "To plan for another machine, set its driver with --driver-cuda."
        )
    family = driver.cuda_version.major
    minimum = _for_system(toolkit.min_driver, machine)
    passed = toolkit.family < family or (toolkit.family == family and not _older(driver, minimum))
    return Finding(
        rule=DRIVER_RULE,
        kind="run",
        passed=passed,
        fact=f"{driver.title} supports CUDA up to {driver.cuda}; CUDA {toolkit.cuda} programs need driver {minimum} "
        "or newer.",
        remedy="" if passed else f"Update the driver to {minimum} or newer.",
    )


def _for_system(versions: Mapping[str, str], machine: Machine) -> str:
    """The driver version for this machine's system; that of the first one where the catalog has no such system."""
    return versions.get(machine.platform.partition("-")[0], next(iter(versions.values())))


def _older(driver: Driver, minimum: str) -> bool:
    """Whether the driver is of the same major as ``minimum`` and older; a library of cuda-compat is not compared."""
    kernel = CudaVersion.parse(driver.kernel_cuda or driver.cuda)
    if driver.driver_version is None or kernel.major != driver.cuda_version.major:
        return False
    return driver.driver_version < DriverVersion.parse(minimum)


def unknown_toolkit(cuda: str, driver: Driver | None) -> Finding:
    """The driver's rule for a toolkit that the catalog does not know: only a newer major can be judged."""
    if cuda and driver and CudaVersion.parse(cuda).major > driver.cuda_version.major:
        return Finding(
            rule=DRIVER_RULE,
            kind="run",
            passed=False,
            fact=f"{driver.title} supports CUDA up to {driver.cuda}; this is CUDA {cuda}.",
            remedy=f"Update to a driver that supports CUDA {cuda}.",
        )
    fact = f"CUDA {cuda} is not in the catalog" if cuda else "The CUDA version is unknown"
    return _not_known(DRIVER_RULE, f"{fact}, so the driver that it needs is unknown.", "Try it: nox -s verify.")


def compressed_code_read(toolkit: Toolkit, machine: Machine, defines: dict[str, str]) -> Finding:
    """Whether the driver reads machine code that nvcc has compressed."""
    rule = COMPRESSION_RULE
    driver = machine.driver
    mode = defines.get(COMPRESSION, "size")
    if not toolkit.compress_mode or mode in UNCOMPRESSED or toolkit.family > LAST_WITHOUT:
        fact = f"Every driver that runs CUDA {toolkit.cuda} programs can read this machine code."
        return Finding(rule=rule, kind="run", passed=True, fact=fact)
    table = fatbin_compression()
    minimum = _for_system(table.min_driver, machine)
    if driver is None:
        return _not_known(rule, _no_driver(machine), f"The driver must be {minimum} or newer.")
    # The driver library reads it: its own version decides where it is not the kernel module's, or only that is claimed.
    version = driver.driver_version if driver.kernel_cuda in {"", driver.cuda} else None
    if version:
        passed = version >= DriverVersion.parse(minimum)
    else:
        passed = driver.cuda_version >= CudaVersion.parse(cuda_of_driver(minimum))
    return Finding(
        rule=rule,
        kind="run",
        passed=passed,
        fact=f"CUDA {toolkit.cuda} compresses machine code, which only driver {minimum} and newer can read; this is "
        f"{driver.name}.",
        remedy="" if passed else f"Add --define {COMPRESSION}=none, or update the driver.",
    )


def code_for_gpus(toolkit: Toolkit, architectures: Sequence[Architecture], machine: Machine) -> list[Finding]:
    """Whether the wheel holds code for each GPU; one finding that it is not known where there is none to judge by."""
    if not architectures:
        return [_not_known(CODE_RULE, "It is not known for which GPUs the wheel has code.", "Try it: nox -s verify.")]
    if not machine.gpus:
        reason = "no GPU is claimed" if machine.overrides else "the GPUs of this machine are not known"
        remedy = "To plan for another machine, set its GPU with --compute-capability."
        return [_not_known(CODE_RULE, f"It is not known whether the wheel has code for the GPU: {reason}.", remedy)]
    return [gpu_served(toolkit, architectures, gpu, machine.driver) for gpu in machine.gpus]


def gpu_served(toolkit: Toolkit, architectures: Sequence[Architecture], gpu: Gpu, driver: Driver | None) -> Finding:
    """Whether the wheel holds code for this GPU: machine code that fits it, or PTX that its driver can compile."""
    code = next((a for a in architectures if cubin_fits(a, gpu)), None)
    ptx = next((a for a in architectures if ptx_fits(a, gpu)), None)
    name = f"{gpu.name} (sm_{gpu.architecture})"
    if code:
        return Finding(
            rule=CODE_RULE, kind="run", passed=True, fact=f"{name} can run the machine code for {code.label}."
        )
    if ptx is None:
        labels = ", ".join(a.label for a in architectures)
        return Finding(
            rule=CODE_RULE,
            kind="run",
            passed=False,
            fact=f"{name} cannot run code for {labels}.",
            remedy=f"Add --arch {gpu.architecture}.",
        )
    branch = branch_for(toolkit.cuda_version)
    update = f", or update the driver to {branch} or newer" if branch else ""
    remedy = f"Add --arch {gpu.architecture}, or choose an older --cuda{update}."
    if driver is None:
        fact = (
            f"For {name} there is only {ptx.label}; whether the driver compiles PTX of CUDA {toolkit.cuda} is unknown."
        )
        return _not_known(CODE_RULE, fact, remedy)
    compiles = toolkit.cuda_version <= driver.cuda_version
    return Finding(
        rule=CODE_RULE,
        kind="run",
        passed=compiles,
        fact=f"For {name} there is only {ptx.label}, PTX of CUDA {toolkit.cuda}, which a driver for CUDA "
        f"{driver.cuda} {'can' if compiles else 'cannot'} compile.",
        remedy="" if compiles else remedy,
    )


def _not_known(rule: str, fact: str, remedy: str) -> Finding:
    """A rule about running that cannot be judged, and what would make it known."""
    return Finding(rule=rule, kind="run", passed=False, known=False, fact=fact, remedy=remedy)


def _no_driver(machine: Machine) -> str:
    return f"It is not known which CUDA version the driver supports: {machine.driver_problem or NO_DRIVER}."


def cubin_fits(architecture: Architecture, gpu: Gpu) -> bool:
    """Whether machine code runs on a GPU: same major, minor not newer; ``a`` on that GPU alone, ``f`` like none."""
    if architecture.kind != "real":
        return False
    major, minor = divmod(architecture.number, 10)
    gpu_major, gpu_minor = divmod(int(gpu.architecture), 10)
    if architecture.feature == "a":
        return (major, minor) == (gpu_major, gpu_minor)
    return major == gpu_major and minor <= gpu_minor


def ptx_fits(architecture: Architecture, gpu: Gpu) -> bool:
    """Whether a driver can compile PTX for a GPU: that of the same or an older compute capability."""
    if architecture.kind != "virtual":
        return False
    if architecture.feature == "a":
        return architecture.number == int(gpu.architecture)
    if architecture.feature == "f":
        return divmod(architecture.number, 10)[0] == divmod(int(gpu.architecture), 10)[
            0
        ] and architecture.number <= int(gpu.architecture)
    return architecture.number <= int(gpu.architecture)


def _range(oldest: int, newest: int) -> str:
    return str(oldest) if oldest == newest else f"{oldest} to {newest}"
