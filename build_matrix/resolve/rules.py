"""The compatibility rules: each a small pure function that says whether, which fact decided, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packaging.version import Version

from build_matrix.catalog import branch_for, cuda_of_driver, fatbin_compression, target_platform
from build_matrix.model import Architecture, Driver, Finding, Gpu, HostCompiler, LlamaRelease, Machine, Toolkit

BUILD_ROOM = 4_000_000_000  # bytes: toolkit 1.7 GB with its packages, sources and objects 1.2 GB, the rest 0.6 GB
ROOM_RULE = "room on the disk"
DRIVER_RULE = "driver runs toolkit"
COMPRESSION = "GGML_CUDA_COMPRESSION_MODE"
UNCOMPRESSED = ("none", "speed")  # values with which every driver reads the machine code


# --- can it be built? ----------------------------------------------------------------------------------


def toolkit_available(toolkit: Toolkit, locked: Sequence[str], platform: str) -> Finding:
    """Whether there is a source of this toolkit for this platform."""
    passed = toolkit.cuda in locked
    return Finding(
        rule="toolkit available",
        kind="build",
        passed=passed,
        fact=f"A source of CUDA {toolkit.cuda} for {platform} is {'locked' if passed else 'not known'}.",
        remedy="" if passed else f"Locked are {', '.join(locked)}; `nox -s lock` writes the locks.",
    )


def toolkit_targets(toolkit: Toolkit, architectures: Iterable[Architecture]) -> Finding:
    """Whether this toolkit can compile for all of these architectures (``ptxas --help``)."""
    missing = [a for a in architectures if str(a.number) not in toolkit.architectures]
    names = ", ".join(f"{a.number} (sm_{a.number})" for a in missing)
    return Finding(
        rule="toolkit targets architecture",
        kind="build",
        passed=not missing,
        fact=f"CUDA {toolkit.cuda} cannot compile for architecture {names}."
        if missing
        else f"CUDA {toolkit.cuda} compiles for all that are wanted.",
        remedy=f"It can for {', '.join(toolkit.architectures)}; another --cuda may support yours." if missing else "",
    )


def compiler_accepted(toolkit: Toolkit, release: LlamaRelease, compiler: HostCompiler) -> Finding:
    """Whether the toolkit's headers (crt/host_config.h) and the sources accept this host compiler."""
    accepted, needed = {
        "gcc": (toolkit.gcc, release.min_gcc),
        "clang": (toolkit.clang, release.min_clang),
        "msvc": (toolkit.msvc, toolkit.msvc.min),
    }[compiler.name]
    oldest = max(accepted.min, needed)
    passed = oldest <= compiler.major <= accepted.max
    return Finding(
        rule="host compiler accepted",
        kind="build",
        passed=passed,
        fact=f"CUDA {toolkit.cuda} and llama-cpp-python {release.version} accept {compiler.name} "
        f"{_span(oldest, accepted.max)}; this one is {compiler.version} ({compiler.cxx}).",
        remedy="" if passed else f"Install {compiler.name} {_span(oldest, accepted.max)} and let CXX name it.",
    )


def glibc_accepted(toolkit: Toolkit, machine: Machine) -> Finding:
    """Whether the toolkit's headers agree with those of the glibc that is compiled against.

    That is the sysroot's, whatever glibc this machine has.
    """
    glibc = target_platform(machine.platform).glibc if machine.glibc else ""
    passed = not (toolkit.max_glibc and glibc) or Version(glibc) <= Version(toolkit.max_glibc)
    return Finding(
        rule="glibc accepted",
        kind="build",
        passed=passed,
        fact=f"The headers of CUDA {toolkit.cuda} accept glibc up to {toolkit.max_glibc or 'any'}; wheels are compiled "
        f"against {glibc or 'none'}, and this machine has {machine.glibc or 'none'}.",
        remedy="" if passed else "Choose CUDA 13.",
    )


def room_on_disk(machine: Machine) -> Finding:
    """Whether the store's disk has room for toolkit, sources, objects and verification."""
    passed = not machine.disk_free or machine.disk_free >= BUILD_ROOM
    return Finding(
        rule=ROOM_RULE,
        kind="build",
        passed=passed,
        fact=f"A build needs {BUILD_ROOM / 1e9:.0f} GB; {machine.disk_free / 1e9:.1f} GB are free.",
        remedy="" if passed else "Free some room, or name a folder on another disk with --store.",
    )


# --- will it run on this machine? ----------------------------------------------------------------------


def driver_accepts(toolkit: Toolkit, machine: Machine) -> Finding:
    """Whether the driver runs programs of this toolkit.

    A driver runs programs of every older major, and by minor-version compatibility of its own major.
    """
    rule = DRIVER_RULE
    driver = machine.driver
    if driver is None:
        return Finding(rule=rule, kind="run", passed=True, fact=f"There is {machine.driver_problem or 'no driver'}.")
    passed = toolkit.family <= _major(driver.cuda)
    minimum = toolkit.min_driver_windows if machine.platform.startswith("windows") else toolkit.min_driver_linux
    return Finding(
        rule=rule,
        kind="run",
        passed=passed,
        fact=f"Driver {driver.version} speaks CUDA {driver.cuda}; CUDA {toolkit.cuda} programs need driver {minimum} "
        "or newer.",
        remedy="" if passed else f"Update the driver to {minimum} or newer.",
    )


def compressed_code_read(toolkit: Toolkit, machine: Machine, defines: dict[str, str]) -> Finding:
    """Whether the driver reads machine code that nvcc has compressed."""
    rule = "compressed code read"
    driver = machine.driver
    mode = defines.get(COMPRESSION, "size")
    if driver is None or not toolkit.compress_mode or mode in UNCOMPRESSED or _major(driver.cuda) > 12:  # noqa: PLR2004
        return Finding(rule=rule, kind="run", passed=True, fact=f"The machine code's compression is {mode}.")
    table = fatbin_compression()
    minimum = table.min_driver_windows if machine.platform.startswith("windows") else table.min_driver_linux
    known = _numbers(driver.version)  # none where only a CUDA version is claimed
    passed = known >= _numbers(minimum) if known else Version(driver.cuda) >= Version(cuda_of_driver(minimum))
    return Finding(
        rule=rule,
        kind="run",
        passed=passed,
        fact=f"CUDA {toolkit.cuda} compresses machine code, which driver {minimum} and newer read; here is "
        f"{driver.version}.",
        remedy="" if passed else f"Add --define {COMPRESSION}=none, or update the driver.",
    )


def gpu_served(toolkit: Toolkit, architectures: Sequence[Architecture], gpu: Gpu, driver: Driver | None) -> Finding:
    """Whether the wheel holds code for this GPU: machine code that fits it, or PTX that its driver can compile."""
    code = next((a for a in architectures if cubin_fits(a, gpu)), None)
    ptx = next((a for a in architectures if ptx_fits(a, gpu)), None)
    rule = "code for the GPU"
    who = f"{gpu.name} (sm_{gpu.architecture})"
    if code:
        return Finding(rule=rule, kind="run", passed=True, fact=f"{who} runs the machine code for {code.label}.")
    if ptx is None:
        labels = ", ".join(a.label for a in architectures)
        return Finding(
            rule=rule,
            kind="run",
            passed=False,
            fact=f"{who} runs nothing of {labels}.",
            remedy=f"Add --arch {gpu.architecture}.",
        )
    compiles = driver is None or Version(toolkit.cuda) <= Version(driver.cuda)
    return Finding(
        rule=rule,
        kind="run",
        passed=compiles,
        fact=f"{who} has only {ptx.label}, PTX of CUDA {toolkit.cuda}, which a driver of CUDA "
        f"{driver.cuda if driver else toolkit.cuda} {'compiles' if compiles else 'cannot compile'}.",
        remedy="" if compiles else f"Add --arch {gpu.architecture}, or choose a --cuda that is not newer.",
    )


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


def driver_to_update_to(toolkit: Toolkit) -> str:
    """The driver branch that speaks this toolkit's CUDA version fully, or an empty text where it is not known."""
    branch = branch_for(toolkit.cuda)
    return str(branch) if branch else ""


def _span(oldest: int, newest: int) -> str:
    return str(oldest) if oldest == newest else f"{oldest} to {newest}"


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
