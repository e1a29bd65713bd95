"""The records that pass from stage to stage: frozen, typed, one definition for Python, TOML and JSON."""

from __future__ import annotations

import hashlib
import json
import re
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from packaging.specifiers import SpecifierSet

from build_matrix.errors import MissingPrerequisiteError
from build_matrix.redact import redact_all

Platform = Literal["linux-x86_64", "windows-x86_64"]
Profile = Literal["release", "check"]
CacheProgram = Literal["ccache", "sccache"]
Offload = Literal["proven", "failed", "impossible_here", "untested"]
# Whose file it is: the package index's, NVIDIA's own archives', Debian's archive's, or this machine's already.
Origin = Literal["index", "redist", "debian", "installed"]

BLACKWELL = range(120, 130)  # ggml-cuda/CMakeLists.txt: ^12[0-9](-real|-virtual)?$


def supported_platform(name: str) -> Platform:
    """The platform of this name; raises MissingPrerequisiteError for one that is not supported."""
    platforms: tuple[Platform, ...] = get_args(Platform)
    if found := next((platform for platform in platforms if platform == name), None):
        return found
    raise MissingPrerequisiteError(
        f"Building on {name.replace('-', ' ', 1)} is not supported.", "Use Linux x86-64 with glibc."
    )


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all records (msgspec inherits these settings, but not kw_only).

    Defaults are written out, because a digest must not depend on how a value came to be the default: msgspec leaves
    a default out when it is the same object, which an equal text read from the command line is not.
    """


def digest_of(*parts: Any) -> str:
    """Sha256 (hex) of the canonical JSON of ``parts``: the name of whatever they are the inputs of."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def readable_json(value: Any) -> bytes:
    """Indented JSON of records, for people and for files that travel: without credentials."""
    plain = redact_all(msgspec.to_builtins(value))
    try:
        return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"
    except UnicodeEncodeError:  # a path that is no text: its bytes as PEP 383 has them, escaped
        return json.dumps(plain, indent=2).encode("ascii") + b"\n"


def file_sha256(path: Path) -> str:
    """Sha256 (hex) of a file's bytes."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()


# --- locks ---------------------------------------------------------------------------------------------


class LockedFile(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a package index, by content; ``size`` in bytes (0: the index did not tell)."""

    filename: str
    sha256: str
    size: int = 0


class LockedPackage(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One release of one project, with the files for every platform that is supported."""

    project: str
    version: str
    marker: str = ""
    files: tuple[LockedFile, ...]


class Lock(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A set of packages that belong together; ``release`` is a CUDA toolkit's own version."""

    release: str = ""
    packages: tuple[LockedPackage, ...]


class Content(Record, frozen=True, kw_only=True):
    """What a file is, wherever it comes from; ``size`` in bytes (0: unknown)."""

    project: str
    version: str
    filename: str
    sha256: str
    size: int = 0


class Component(Content, frozen=True, kw_only=True):
    """One file that is downloaded: what it is, and where it comes from.

    ``path`` is where it lies below an address of its origin; a package index is asked for the project instead.
    What is ``installed`` is not downloaded: ``sha256`` is then a digest of all its files.
    """

    origin: Origin = "index"
    path: str = ""

    @property
    def content(self) -> Content:
        """The same without its origin, which must not change what is made of it."""
        names = ("project", "version", "filename", "sha256", "size")
        return Content(**{name: getattr(self, name) for name in names})


class Ingredients(Record, frozen=True, kw_only=True):
    """Every file that is downloaded for one wheel; ``toolkit_release`` is the CUDA toolkit's own version."""

    sdist: Component
    toolkit: tuple[Component, ...]
    toolkit_release: str
    environment: tuple[Component, ...]
    sysroot: tuple[Component, ...]


# --- catalog -------------------------------------------------------------------------------------------


class CompilerRange(Record, frozen=True, kw_only=True):
    """Accepted major versions of a host compiler, both ends included."""

    min: int
    max: int


class Toolkit(Record, frozen=True, kw_only=True):
    """One CUDA minor version: what it can target, with which host compilers and systems, and its features.

    ``min_driver_*`` run its programs by minor-version compatibility; ``max_glibc`` is the newest glibc whose headers
    its own headers do not contradict (empty: any). ``arch_specific`` and ``family_specific``: whether it compiles for
    architectures such as ``90a`` and ``100f``.
    """

    cuda: str
    min_driver_linux: str
    min_driver_windows: str
    architectures: tuple[str, ...]
    gcc: CompilerRange
    clang: CompilerRange
    msvc: CompilerRange
    max_glibc: str = ""
    fast_compile: bool = False
    compress_mode: bool = False
    random_seed: bool = False
    arch_specific: bool = True
    family_specific: bool = False
    source: str

    @property
    def family(self) -> int:
        """CUDA major version."""
        return int(self.cuda.partition(".")[0])


class DriverBranch(Record, frozen=True, kw_only=True):
    """A driver branch (the number before the first dot), and the CUDA version that it speaks."""

    branch: int
    cuda: str


class Limit(Record, frozen=True, kw_only=True):
    """Toolkits with which the sources of a release do not compile for some architectures, and why.

    ``cuda`` and ``architectures`` are version specifiers: ``<12`` and ``>=90``.
    """

    cuda: str
    architectures: str
    fact: str
    remedy: str
    source: str

    def excludes(self, cuda: str, architecture: Architecture) -> bool:
        """Whether this toolkit cannot compile the sources for this architecture."""
        numbers = SpecifierSet(self.architectures)
        return SpecifierSet(self.cuda).contains(cuda) and numbers.contains(str(architecture.number))


class LlamaRelease(Record, frozen=True, kw_only=True):
    """One llama-cpp-python release that this tool knows how to build.

    ``same_ptx`` lists architectures for which its sources become the same PTX, oldest first, as in ``(80, 86)``.
    """

    version: str
    min_gcc: int
    min_clang: int
    blackwell_specific: bool = False  # the sources compile 12X as 12Xa, which runs on that GPU alone
    same_ptx: tuple[tuple[int, ...], ...] = ()
    limit: tuple[Limit, ...] = ()
    options: dict[str, str]
    source: str

    def as_compiled(self, architectures: Iterable[Architecture]) -> tuple[Architecture, ...]:
        """What the sources really compile for these, in the order of a wheel's label."""
        exact = {
            msgspec.structs.replace(one, feature="a")
            if self.blackwell_specific and one.number in BLACKWELL and not one.feature
            else one
            for one in architectures
        }
        return tuple(sorted(exact, key=lambda one: (one.kind, one.number, one.feature)))

    def gencodes(self, architectures: Iterable[Architecture]) -> tuple[str, ...]:
        """What nvcc is told to generate for these, one each: ``arch=compute_80,code=sm_86``.

        Of architectures with the same PTX only the oldest is compiled; the machine code of all is assembled from it.
        """
        wanted = tuple(architectures)
        plain = {one.number for one in wanted if one.kind == "real" and not one.feature}
        shared = [plain.intersection(group) for group in self.same_ptx]
        oldest = {f"sm_{number}": min(group) for group in shared for number in group}
        return tuple(f"arch=compute_{oldest.get(one.code, one.number)}{one.feature},code={one.code}" for one in wanted)


# --- probe ---------------------------------------------------------------------------------------------


class HostCompiler(Record, frozen=True, kw_only=True):
    """A C and C++ compiler.

    ``programs`` holds the sha256 of each program that decides the machine code, ``identity`` is a digest of them.
    ``libstdcxx`` is the release of GCC that its C++ library's headers are of (0: unknown).
    """

    name: Literal["gcc", "clang", "msvc"]
    version: str
    description: str
    cc: str
    cxx: str
    identity: str
    programs: dict[str, str] = {}
    libstdcxx: int = 0

    @property
    def major(self) -> int:
        """Major version; of MSVC the value of _MSC_VER (1944 for 19.44)."""
        major, _, rest = self.version.partition(".")
        return int(major) * 100 + int(rest.partition(".")[0]) if self.name == "msvc" else int(major)


class Gpu(Record, frozen=True, kw_only=True):
    """An NVIDIA GPU; compute capability as ``8.9``, memory in bytes, MIG and compute mode as NVML names them.

    ``mig_devices`` are the UUIDs of its MIG instances, as far as NVML lists them.
    """

    name: str
    uuid: str
    compute_capability: str
    memory: int = 0
    mig: bool = False
    compute_mode: str = "default"
    mig_devices: tuple[str, ...] = ()

    @property
    def architecture(self) -> str:
        """Architecture number as nvcc writes it: ``89`` for compute capability 8.9."""
        return self.compute_capability.replace(".", "")


NO_DRIVER = "no NVIDIA driver"
COMPILERS = "the compilers"  # how Machine.problems begins where their examination failed
UNKNOWN = "unknown"  # version of a driver that nothing tells
CLAIMED = "claimed"  # version of a driver, and beginning of a GPU's UUID, that stand for what another machine has


class Driver(Record, frozen=True, kw_only=True):
    """NVIDIA's driver.

    ``cuda`` is the CUDA version that the driver library speaks (cuDriverGetVersion), ``kernel_cuda`` the one that
    the kernel module's driver version stands for; they differ under cuda-compat and WSL. ``init_error`` is what
    cuInit answered (0: no error).
    """

    version: str
    cuda: str
    kernel_cuda: str = ""
    init_error: int = 0

    @property
    def name(self) -> str:
        """What a sentence calls it: ``driver 580.95.05``."""
        if self.version == CLAIMED:
            return "the claimed driver"
        return f"driver {self.version}" if self.version != UNKNOWN else "the driver (of unknown version)"

    @property
    def title(self) -> str:
        """Its name at the beginning of a sentence."""
        return self.name[:1].upper() + self.name[1:]


class InstalledToolkit(Record, frozen=True, kw_only=True):
    """A CUDA toolkit that lies on this machine; ``found_by`` says how a build would stumble over it."""

    root: str
    version: str
    found_by: str
    problem: str = ""


class Surroundings(Record, frozen=True, kw_only=True):
    """What else decides whether CUDA works here.

    ``device_order`` is CUDA_DEVICE_ORDER; ``container_devices`` and ``container_capabilities`` are
    NVIDIA_VISIBLE_DEVICES and NVIDIA_DRIVER_CAPABILITIES, which NVIDIA's container runtime reads. ``ignored`` are the
    names of variables that are set and have no effect on a build of this tool.
    """

    visible_devices: str | None = None
    device_order: str = ""
    wsl: bool = False
    container: str = ""
    container_devices: str | None = None
    container_capabilities: str | None = None
    compat_folders: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


class PciGpu(Record, frozen=True, kw_only=True):
    """An NVIDIA GPU on the PCI bus; ``driver`` is the kernel driver that is bound to it (empty: none)."""

    address: str
    driver: str = ""


class FoundLibrary(Record, frozen=True, kw_only=True):
    """A libcuda.so.1 in one of the usual folders; ``bits`` is its ELF class (0: not a library)."""

    path: str
    bits: int = 64


class DriverEvidence(Record, frozen=True, kw_only=True):
    """What tells one failure of the driver from another.

    ``library`` is the file that was loaded as libcuda.so.1, ``library_error`` why none was, ``found`` where else it
    lies. ``version_error`` and ``init_error`` are the results of cuDriverGetVersion and cuInit, ``nvml_error`` that of
    nvmlInit (None: no result), ``cuda_problem`` and ``nvml_problem`` what became of the processes that asked.
    ``version_odd`` is the number that cuDriverGetVersion gave, where it is no version of CUDA.
    ``visible`` are the GPUs that CUDA shows this process, ``numbered`` those that it shows without
    CUDA_VISIBLE_DEVICES; both in CUDA's order. ``nodes`` are the device files with "ok", "missing" or the error of
    opening them; ``pci`` is None where the bus cannot be read. ``address_space`` is the process's limit of virtual
    memory in bytes (0: none).
    """

    library: str = ""
    library_version: str = ""
    library_error: str = ""
    found: tuple[FoundLibrary, ...] = ()
    version_error: int = 0
    version_odd: int | None = None
    init_error: int | None = None
    cuda_problem: str = ""
    nvml_error: int | None = None
    nvml_problem: str = ""
    visible: tuple[Gpu, ...] = ()
    numbered: tuple[Gpu, ...] = ()
    modules: tuple[str, ...] = ()
    module_version: str = ""
    nodes: dict[str, str] = {}
    pci: tuple[PciGpu, ...] | None = None
    secure_boot: bool = False
    address_space: int = 0

    @property
    def works(self) -> bool:
        """Whether the driver library answered, and shows this process a GPU."""
        return self.init_error == 0 and bool(self.visible)

    @property
    def library_absent(self) -> bool:
        """Whether the loader finds no driver library, by its own message; one that it cannot load is not absent."""
        return self.library_error.endswith("No such file or directory") or "not find" in self.library_error

    @property
    def hints(self) -> bool:
        """Whether anything hints at an NVIDIA GPU or at its driver, whatever answers."""
        files = any(state != "missing" for name, state in self.nodes.items() if name.startswith("nvidia"))
        broken = bool(self.library_error) and not self.library_absent
        parts = (self.library, self.found, self.cuda_problem, self.nvml_problem, self.pci, "nvidia" in self.modules)
        return files or broken or any(parts)


class Machine(Record, frozen=True, kw_only=True):
    """What is on this machine; memory and free disk in bytes; ``overrides`` is what was claimed instead of found.

    ``platform`` may be one that is not supported: see ``target``.
    ``memory_free`` is what new processes can take, in a container no more than its limit (0: unknown).
    ``compiler_problems`` are the compilers that were refused, each with why; ``compiler_notes`` say what of CXX was
    not taken as it stands.
    ``driver_problem`` is why CUDA does not work here (empty: it does, or nothing says why not), as a clause without a
    full stop; ``gpus`` are all GPUs of which something is known, in NVML's order, whether this process may use them
    or not.
    ``problems`` are the parts of the examination that failed, each with why.
    """

    platform: str
    python: str
    libc: str
    cpus: int
    memory: int
    memory_free: int = 0
    disk_free: int = 0
    compilers: tuple[HostCompiler, ...]
    compiler_problems: tuple[Finding, ...] = ()
    compiler_notes: tuple[str, ...] = ()
    driver: Driver | None = None
    driver_problem: str = ""
    gpus: tuple[Gpu, ...] = ()
    gpu_problems: tuple[str, ...] = ()
    toolkits: tuple[InstalledToolkit, ...] = ()
    surroundings: Surroundings = Surroundings()
    evidence: DriverEvidence = DriverEvidence()
    overrides: dict[str, str] = {}
    problems: tuple[str, ...] = ()

    @property
    def target(self) -> Platform:
        """The platform of this machine; raises MissingPrerequisiteError for one that is not supported."""
        return supported_platform(self.platform)

    @property
    def compilers_known(self) -> bool:
        """Whether the compilers were examined: otherwise that there is none means nothing."""
        return not any(problem.startswith(COMPILERS) for problem in self.problems)

    @property
    def glibc(self) -> str:
        """Version of glibc, or an empty text."""
        name, _, version = self.libc.partition(" ")
        return version if name == "glibc" else ""


class Distribution(Record, frozen=True, kw_only=True):
    """An installed distribution that brings llama_cpp, or a ``module`` of another name that holds the same.

    ``editable`` is its source folder, ``tags`` are its wheel's.
    """

    name: str
    version: str
    folder: str = ""
    homepage: str = ""
    requires_python: str = ""
    editable: str = ""
    tags: tuple[str, ...] = ()
    module: str = ""


class MissingLibrary(Record, frozen=True, kw_only=True):
    """A library that the loader does not find for the file ``needed_by``; ``folders`` hold it where nobody looks."""

    name: str
    needed_by: str = ""
    folders: tuple[str, ...] = ()


class ForeignLibrary(Record, frozen=True, kw_only=True):
    """A library that this Python cannot load; ``platform`` says what it is for."""

    file: str
    platform: str


class BackendDevice(Record, frozen=True, kw_only=True):
    """A device in ggml's registry; ``gpu``: layers can be offloaded to it."""

    name: str
    description: str = ""
    backend: str = ""
    gpu: bool = False


class ImportEnd(Record, frozen=True, kw_only=True):
    """How the process ended that imported llama_cpp, where it did not end by itself, without a fault.

    ``step`` is what it did then: import, or one of the questions after it. ``seconds`` is the time limit that ended it
    (0: none did), ``signal`` the signal, ``code`` its exit code; ``where`` is the place in the code, ``loading`` the
    library that was being loaded.
    """

    step: str
    seconds: float = 0.0
    signal: str = ""
    code: int = 0
    where: str = ""
    loading: str = ""


class InstalledLlama(Record, frozen=True, kw_only=True):
    """The llama_cpp that an environment's Python finds, and what it answers.

    ``origin`` is the file that is imported (empty: a folder without __init__.py), ``folder`` the package's folder
    (empty: Python finds none, for ``problem``), ``others`` are further ones that it hides, ``remains`` what an
    interrupted pip left. ``module_version`` is what the code says of itself, ``fork`` who builds it, if not upstream.

    ``places`` are the folders of its libraries; ``variable`` is the environment variable that names them
    (``variable_leads``: to something that exists). ``backends`` are those that the libraries hold, ``cuda_family`` is
    the CUDA major that they are built with (0: none, or not known), ``modules``: back ends are loaded at run time.
    ``finds_packages``: it looks for NVIDIA's packages by itself. ``strays`` are libraries of llama.cpp that the loader
    takes from elsewhere. ``loader_problems`` are the loader's own lines.

    ``offload`` is None where it did not say; ``offload_failure`` is the exception of that question. ``devices`` is None
    where its libraries have no registry. ``failure`` is the exception of the import, ``here`` what this system has of
    the symbol versions that it names, ``lacks`` the instruction sets that this processor does not have.
    """

    python: str
    python_version: str = ""
    version: str = ""
    origin: str = ""
    folder: str = ""
    problem: str = ""
    others: tuple[str, ...] = ()
    remains: tuple[str, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    module_version: str = ""
    fork: str = ""
    variable: str = ""
    variable_leads: bool = True
    places: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    modules: bool = False
    cuda_family: int = 0
    finds_packages: bool = False
    strays: tuple[str, ...] = ()
    missing_libraries: tuple[MissingLibrary, ...] = ()
    foreign_libraries: tuple[ForeignLibrary, ...] = ()
    loader_problems: tuple[str, ...] = ()
    imports: bool = False
    offload: bool | None = None
    offload_failure: str = ""
    devices: tuple[BackendDevice, ...] | None = None
    system_info: str = ""
    end: ImportEnd | None = None
    failure: str = ""
    missing_module: str = ""
    here: str = ""
    lacks: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    said: str = ""

    @property
    def distribution(self) -> Distribution | None:
        """The distribution that brought the folder which is imported, as far as can be told."""
        return next(iter(self.distributions), None)


# --- resolve -------------------------------------------------------------------------------------------


class Request(Record, frozen=True, kw_only=True):
    """What the user asked for; an empty value leaves the choice to the tool."""

    cuda: str = ""
    llama: str = ""
    architectures: tuple[str, ...] = ()
    profile: Profile = "release"
    defines: dict[str, str] = {}
    cross: bool = False


RuleKind = Literal["build", "run"]
Answer = Literal["yes", "no", "not known"]


class Finding(Record, frozen=True, kw_only=True):
    """A compatibility rule's result: whether it holds, the fact that decided, and the remedy where it does not.

    ``kind`` is what breaks: building the wheel, or running it on this machine. ``known`` is false for a rule that
    cannot be judged: ``passed`` is then false too, since nothing shows that it holds, and ``fact`` says why.
    """

    rule: str
    kind: RuleKind
    passed: bool
    fact: str
    remedy: str = ""
    known: bool = True

    def __post_init__(self) -> None:
        """Refuse a rule that holds although it could not be judged."""
        if self.passed and not self.known:
            raise ValueError(f"{self.rule}: passed, but not known")

    @property
    def failed(self) -> bool:
        """Whether the rule was judged, and does not hold."""
        return self.known and not self.passed


_ARCHITECTURE = re.compile(r"(?P<number>[0-9]{2,3})(?P<feature>[af]?)(?:-(?P<kind>real|virtual))?")


class Architecture(Record, frozen=True, kw_only=True):
    """One entry of CMake's CUDA_ARCHITECTURES: ``89-real`` is machine code, ``90-virtual`` is PTX."""

    number: int
    feature: str = ""
    kind: Literal["real", "virtual"] = "real"

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Read ``89``, ``89-real``, ``120a-real`` or ``90-virtual``; ValueError otherwise."""
        match = _ARCHITECTURE.fullmatch(text.strip())
        if not match:
            raise ValueError(text)
        kind: Any = match["kind"] or "real"
        return cls(number=int(match["number"]), feature=match["feature"], kind=kind)

    @property
    def cmake(self) -> str:
        """As CMake writes it."""
        return f"{self.number}{self.feature}-{self.kind}"

    @property
    def code(self) -> str:
        """As nvcc writes it: ``sm_89`` for machine code, ``compute_90`` for PTX."""
        return f"{'sm' if self.kind == 'real' else 'compute'}_{self.number}{self.feature}"

    @property
    def label(self) -> str:
        """As a local version label writes it: ``sm89`` or ``ptx90``."""
        return f"{'sm' if self.kind == 'real' else 'ptx'}{self.number}{self.feature}"


def label_of(cuda: str, architectures: Iterable[Architecture]) -> str:
    """What every local version label begins with: ``cu130.sm89``."""
    return ".".join(["cu" + cuda.replace(".", ""), *(one.label for one in architectures)])


class Cell(Record, frozen=True, kw_only=True):
    """One wheel to build: every choice made."""

    llama: str
    cuda: str
    architectures: tuple[Architecture, ...]
    platform: Platform
    profile: Profile = "release"
    defines: dict[str, str] = {}

    @property
    def label(self) -> str:
        """Local version label: ``cu130.sm89``; a wheel that must not be released ends in ``.check``."""
        parts = [label_of(self.cuda, self.architectures)]
        if self.defines:
            parts.append("d" + digest_of(self.defines)[:8])
        if self.profile != "release":
            parts.append(self.profile)
        return ".".join(parts)


class Candidate(Record, frozen=True, kw_only=True):
    """A toolkit that was considered, with every rule's result."""

    cuda: str
    architectures: tuple[Architecture, ...]
    findings: tuple[Finding, ...]

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


# --- the results of the building stages ----------------------------------------------------------------


class Toolchain(Record, frozen=True, kw_only=True):
    """A complete CUDA toolkit in the store.

    ``same_anywhere``: whether its output was the same in two folders when it was tested here.
    """

    root: Path
    cuda: str
    release: str
    nvcc_version: str
    components: tuple[Component, ...]
    digest: str
    same_anywhere: bool = True

    @property
    def nvcc(self) -> Path:
        """Absolute path of nvcc."""
        return self.root / "bin" / "nvcc"


class BuildEnvironment(Record, frozen=True, kw_only=True):
    """A Python environment with the PEP 517 front end, the back end, CMake and Ninja."""

    root: Path
    python: Path
    components: tuple[Component, ...]
    digest: str

    @property
    def bin(self) -> Path:
        """Where its programs lie."""
        return self.python.parent


class Sysroot(Record, frozen=True, kw_only=True):
    """Headers and link stubs of an old glibc, with what of libstdc++ its systems lack; in the store.

    ``c_includes`` and ``cxx_includes`` are the host compiler's own folders, which come before the sysroot's.
    """

    root: Path
    glibc: str
    c_includes: tuple[str, ...]
    cxx_includes: tuple[str, ...]
    components: tuple[Component, ...]
    digest: str

    @property
    def c_flags(self) -> tuple[str, ...]:
        """What makes a C compiler see its own headers and the sysroot's, and no others."""
        return self._headers(self.c_includes)

    @property
    def cxx_flags(self) -> tuple[str, ...]:
        """The same for a C++ compiler."""
        return self._headers(self.cxx_includes)

    @property
    def link_flags(self) -> tuple[str, ...]:
        """Link against the stubs: a symbol that the oldest system lacks is an error, and nothing static is exported."""
        return (f"-L{self.root}/lib", "-Wl,-z,defs", "-Wl,--exclude-libs,ALL")

    def _headers(self, own: tuple[str, ...]) -> tuple[str, ...]:
        folders = (f"{self.root}/first", *own, f"{self.root}/include")
        minor = self.glibc.partition(".")[2]
        return ("-nostdinc", *(f"-isystem{folder}" for folder in folders), f"-D__GLIBC_MINOR__={minor}")


class AppliedPatch(Record, frozen=True, kw_only=True):
    """A patch that was applied to the source."""

    name: str
    sha256: str


class SourceTree(Record, frozen=True, kw_only=True):
    """Patched sources in the store; ``options`` are the CMake options they declare."""

    root: Path
    llama: str
    sdist: Component
    patches: tuple[AppliedPatch, ...]
    options: tuple[str, ...]
    digest: str


class BuildInputs(Record, frozen=True, kw_only=True):
    """All that one wheel is compiled from."""

    cell: Cell
    release: LlamaRelease
    source: SourceTree
    toolchain: Toolchain
    environment: BuildEnvironment
    compiler: HostCompiler
    sysroot: Sysroot


class CompileCache(Record, frozen=True, kw_only=True):
    """Where what was compiled is kept: in ``folder``, by those of ``programs`` that work here.

    ``remote`` is the URL of a storage that machines share (see build_matrix.compile.remote), or empty.
    """

    folder: Path
    programs: tuple[CacheProgram, ...] = ("ccache", "sccache")
    remote: str = ""


class Conditions(Record, frozen=True, kw_only=True):
    """How a compilation runs; nothing of it may reach the bytes.

    ``isolate``: without network, and with its folders at fixed places, where the system allows it; ``under``: a
    command that runs it, such as ``nice -n 19``; ``cache``: the compile cache, if it may use one.
    """

    jobs: int
    isolate: bool = True
    under: tuple[str, ...] = ()
    cache: CompileCache | None = None


class BuildFacts(Record, frozen=True, kw_only=True):
    """What CMake itself says it chose, read from its File API."""

    generator: str
    architectures: tuple[str, ...]
    cuda_compiler: str
    cuda_compiler_version: str
    cxx_compiler_version: str
    cmake_version: str
    steps: int


class RawWheel(Record, frozen=True, kw_only=True):
    """The wheel as the PEP 517 back end left it."""

    path: Path
    facts: BuildFacts
    flags: dict[str, str]
    digest: str


class SystemNeeds(Record, frozen=True, kw_only=True):
    """What a wheel asks of a system.

    ``tag`` is the oldest policy that it meets, as a platform tag (``linux_x86_64``: none), ``symbols`` the newest
    symbol version of each family (``{"GLIBC": "2.27"}``).
    """

    tag: str
    symbols: dict[str, str]


class Member(Record, frozen=True, kw_only=True):
    """A native library in a wheel; sizes in bytes."""

    path: str
    size: int
    needed: tuple[str, ...]


class WheelRecord(Record, frozen=True, kw_only=True):
    """``<wheel>.json``: what a wheel is and everything that went into it, by digest."""

    schema: Literal["build-matrix/wheel/4"] = "build-matrix/wheel/4"
    filename: str
    sha256: str
    size: int
    unpacked_size: int
    cell: Cell
    sdist: Component
    patches: tuple[AppliedPatch, ...]
    toolkit: tuple[Component, ...]
    toolkit_release: str
    build_environment: tuple[Component, ...]
    sysroot: tuple[Component, ...]
    host_compiler: HostCompiler
    python: str
    flags: dict[str, str]
    facts: BuildFacts
    libraries: tuple[Member, ...]
    system: SystemNeeds
    tool: str

    @property
    def ingredients(self) -> Ingredients:
        """The files that it was made of."""
        return Ingredients(
            sdist=self.sdist,
            toolkit=self.toolkit,
            toolkit_release=self.toolkit_release,
            environment=self.build_environment,
            sysroot=self.sysroot,
        )


class Wheel(Record, frozen=True, kw_only=True):
    """A finished wheel."""

    path: Path
    record: WheelRecord


# --- reproduce -----------------------------------------------------------------------------------------


class Difference(Record, frozen=True, kw_only=True):
    """Where two wheels differ: the member, the part of it (an ELF section, perhaps a symbol), and what is there."""

    member: str
    part: str
    detail: str


# --- verify --------------------------------------------------------------------------------------------


class Check(Record, frozen=True, kw_only=True):
    """One thing that was verified: what, whether it holds, and the evidence."""

    name: str
    passed: bool
    detail: str


class RunFacts(Record, frozen=True, kw_only=True):
    """What a process that uses a wheel said, and how it ended.

    ``offload`` is what llama_supports_gpu_offload() answered, None when it was never asked; ``backends`` are the lines
    of the wheel's own loader; ``code`` is negative for a signal; ``timed_out`` is the limit in seconds, if that ended
    it; ``job`` is what it was at; ``log`` are the last lines.
    """

    version: str = ""
    folder: str = ""
    offload: bool | None = None
    backends: tuple[str, ...] = ()
    finished: bool = False
    code: int = 0
    timed_out: float = 0.0
    memory_exceeded: bool = False
    job: str = ""
    log: tuple[str, ...] = ()

    @property
    def end(self) -> str:
        """How it ended, in words."""
        if self.memory_exceeded:
            return "ended because it took too much memory"
        if self.timed_out:
            return f"no end within {self.timed_out:.0f} s"
        if self.code < 0:
            return f"ended by signal {-self.code} ({_signal_name(-self.code)})"
        return f"exit code {self.code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


class GpuVerdict(Record, frozen=True, kw_only=True):
    """What was verified of a wheel on one GPU; ``uuid_sha256`` names the GPU without telling its UUID.

    ``log``: the last lines of a run that failed.
    """

    name: str
    uuid_sha256: str
    compute_capability: str
    offload: Offload
    reason: str
    checks: tuple[Check, ...] = ()
    cause: Finding | None = None
    log: tuple[str, ...] = ()


class Verdict(Record, frozen=True, kw_only=True):
    """``<wheel>.verdict.json``: what was verified of a wheel, on which machine.

    ``cause`` is why it does not offload: what was found, and the remedy; ``log``: the last lines of a run with the GPU
    hidden that failed.
    """

    schema: Literal["build-matrix/verdict/2"] = "build-matrix/verdict/2"
    filename: str
    sha256: str
    offload: Offload
    reason: str
    cause: Finding | None = None
    checks: tuple[Check, ...]
    driver: Driver | None = None
    gpus: tuple[GpuVerdict, ...] = ()
    log: tuple[str, ...] = ()
    seconds: float = 0.0
    libc: str = ""
    python: str
    tool: str
    inputs: str

    @property
    def passed(self) -> bool:
        """Whether every check holds (an untested offload is not a failed check)."""
        return self.offload != "failed" and all(check.passed for check in self.checks)
