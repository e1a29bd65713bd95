"""What is on a machine: the result of ``probe``."""

from __future__ import annotations

from typing import Literal

import msgspec

from build_matrix.model.base import Record
from build_matrix.model.cuda import CudaVersion, DriverVersion
from build_matrix.model.finding import Finding


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


UNKNOWN = "unknown"  # version of a driver that nothing reports


CLAIMED = "claimed"  # version of a driver, and beginning of a GPU's UUID, that are claimed for another machine


class Driver(Record, frozen=True, kw_only=True):
    """NVIDIA's driver.

    ``cuda`` is the CUDA version that the driver library supports (cuDriverGetVersion), ``kernel_cuda`` the one that
    the kernel module's driver version supports; they differ under cuda-compat and WSL. ``init_error`` is what
    cuInit answered (0: no error).
    """

    version: str
    cuda: str
    kernel_cuda: str = ""
    init_error: int = 0

    @property
    def cuda_version(self) -> CudaVersion:
        """``cuda``, for comparing and for its major."""
        return CudaVersion.parse(self.cuda)

    @property
    def driver_version(self) -> DriverVersion | None:
        """``version``, for comparing; None where it is unknown or claimed."""
        try:
            return DriverVersion.parse(self.version)
        except ValueError:
            return None

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
    """A CUDA toolkit that is installed on this machine.

    ``source`` is what would lead a build to it: PATH, a variable such as CUDA_PATH, or a usual folder.
    """

    root: str
    version: str
    source: str = msgspec.field(name="found_by")
    problem: str = ""


class HostEnvironment(Record, frozen=True, kw_only=True):
    """What else decides whether CUDA works here.

    ``device_order`` is CUDA_DEVICE_ORDER; ``container_devices`` and ``container_capabilities`` are
    NVIDIA_VISIBLE_DEVICES and NVIDIA_DRIVER_CAPABILITIES, which NVIDIA's container runtime reads. ``ignored`` are the
    names of variables that are set and have no effect on a build of this tool.
    """

    visible_devices: str | None = None
    device_order: str = ""
    wsl: bool = False
    wsl_1: bool = False
    container: str = ""
    container_devices: str | None = None
    container_capabilities: str | None = None
    compat_folders: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


class PciGpu(Record, frozen=True, kw_only=True):
    """An NVIDIA GPU on the PCI bus; ``driver`` is the kernel driver that is bound to it (empty: none)."""

    address: str
    driver: str = ""


class DriverLibrary(Record, frozen=True, kw_only=True):
    """A libcuda.so.1 in one of the usual folders; ``bits`` is its ELF class (0: not a library)."""

    path: str
    bits: int = 64


class DriverEvidence(Record, frozen=True, kw_only=True):
    """What distinguishes one failure of the driver from another.

    ``library`` is the file that was loaded as libcuda.so.1, ``library_error`` why none was, ``libraries`` the files
    of that name in the usual folders. ``version_error`` and ``init_error`` are the results of cuDriverGetVersion and
    cuInit, ``nvml_error`` that of nvmlInit (None: no result), ``cuda_problem`` and ``nvml_problem`` what became of the
    processes that called the libraries.
    ``version_odd`` is the number that cuDriverGetVersion gave, where it is no version of CUDA.
    ``visible`` are the GPUs that CUDA shows this process, ``numbered`` those that it shows without
    CUDA_VISIBLE_DEVICES; both in CUDA's order. ``nodes`` are the device files with "ok", "missing" or the error of
    opening them; ``pci`` is None where the bus cannot be read. ``address_space`` is the process's limit of virtual
    memory in bytes (0: none).
    """

    library: str = ""
    library_version: str = ""
    library_error: str = ""
    libraries: tuple[DriverLibrary, ...] = msgspec.field(default=(), name="found")
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


class Machine(Record, frozen=True, kw_only=True):
    """What is on this machine; memory and free disk in bytes; ``overrides`` is what was claimed instead of found.

    ``platform`` is the system and the processor, such as ``linux-x86_64``; it need not be supported
    (see ``build_matrix.platforms``).
    ``memory_free`` is what new processes can take, in a container no more than its limit (0: unknown).
    ``compiler_problems`` are the compilers that were refused, each with why; ``compiler_notes`` say what of CXX
    was ignored.
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
    environment: HostEnvironment = msgspec.field(default=HostEnvironment(), name="surroundings")
    evidence: DriverEvidence = DriverEvidence()
    overrides: dict[str, str] = {}
    problems: tuple[str, ...] = ()

    @property
    def compilers_known(self) -> bool:
        """Whether the compilers were examined: otherwise that there is none means nothing."""
        return not any(problem.startswith(COMPILERS) for problem in self.problems)

    @property
    def glibc(self) -> str:
        """Version of glibc, or an empty text."""
        name, _, version = self.libc.partition(" ")
        return version if name == "glibc" else ""
