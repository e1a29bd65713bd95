"""What do the system's files show of the driver? Reads only; what cannot be read is left out, and nothing raises."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from build_matrix.model import DriverLibrary, PciGpu, Record
from build_matrix.probe.devices import find_nvidia_devices

DRIVER_LIBRARY = "libcuda.so.1"
MODULES = ("nvidia", "nvidia_uvm", "nouveau", "nova_core")
ELF_MAGIC = b"\x7fELF"
ELF_BITS = {1: 32, 2: 64}  # EI_CLASS, elf(5)
# Where packages put the driver library; the loader searches only some of them.
FOLDERS = (
    "/usr/lib/wsl/lib",  # WSL
    "/run/opengl-driver/lib",  # NixOS
    "/usr/local/nvidia/lib64",  # Kubernetes of Google, CoreOS
    "/usr/lib64-nvidia",  # Google Colab
    "/usr/lib/x86_64-linux-gnu",  # Debian, Ubuntu
    "/usr/lib/x86_64-linux-gnu/nvidia/current",  # Debian
    "/usr/lib/aarch64-linux-gnu",  # Debian, Ubuntu
    "/usr/lib/aarch64-linux-gnu/nvidia",  # JetPack 6
    "/usr/lib/aarch64-linux-gnu/tegra",  # JetPack 5 and before
    "/usr/lib64",  # Fedora, openSUSE
    "/usr/lib64/nvidia",  # RPM Fusion before 2017, Gentoo
    "/usr/lib",  # Arch
    "/usr/lib/nvidia",
    "/usr/lib/i386-linux-gnu",
    "/usr/lib32",
)
VERSION = re.compile(r"\b(\d{3}\.\d+(?:\.\d+)?)\b")
EFI_VARIABLE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"  # UEFI specification 3.3


class FileEvidence(Record, frozen=True, kw_only=True):
    """What the files of the system show; see DriverEvidence for each."""

    libraries: tuple[DriverLibrary, ...] = ()
    modules: tuple[str, ...] = ()
    module_version: str = ""
    pci: tuple[PciGpu, ...] | None = None
    secure_boot: bool = False


def read_evidence(environ: Mapping[str, str], root: Path = Path("/")) -> FileEvidence:
    """Read it below ``root``."""
    return FileEvidence(
        libraries=tuple(find_libraries(environ, root)),
        modules=tuple(name for name in MODULES if exists(root / "sys/module" / name)),
        module_version=_module_version(root),
        pci=_pci_gpus(root),
        secure_boot=_read_bytes(below(root, EFI_VARIABLE))[4:5] == b"\x01",
    )


def find_libraries(environ: Mapping[str, str], root: Path) -> Iterator[DriverLibrary]:
    """The files called libcuda.so.1 in the folders of LD_LIBRARY_PATH and in the usual ones."""
    searched = [folder for folder in environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    for folder in dict.fromkeys((*searched, *FOLDERS)):
        path = below(root, folder) / DRIVER_LIBRARY
        if exists(path):
            yield DriverLibrary(path=as_text(f"{folder.rstrip('/')}/{DRIVER_LIBRARY}"), bits=_bits(path))


def library_version(path: str) -> str:
    """The driver version in a file's name: ``580.65.06`` of libcuda.so.580.65.06; an empty text for none."""
    match = VERSION.search(path.rpartition("/")[2].partition(".so")[2])
    return match[1] if match else ""


def as_text(value: str) -> str:
    """A value of the environment, of which bytes that are no text are written as escapes: records travel as JSON."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def below(root: Path, path: str) -> Path:
    """An absolute path, below another root."""
    return root / path.lstrip("/")


def exists(path: Path) -> bool:
    """Whether it is there and may be seen."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """A file's text; an empty one where it cannot be read."""
    return _read_bytes(path).decode("utf-8", "replace")


def _module_version(root: Path) -> str:
    """Version of the loaded kernel module: of /proc/driver/nvidia/version, or of sysfs."""
    for name in ("proc/driver/nvidia/version", "sys/module/nvidia/version"):
        if match := VERSION.search(read_text(root / name)):
            return match[1]
    return ""


def _pci_gpus(root: Path) -> tuple[PciGpu, ...] | None:
    bus = root / "sys/bus/pci/devices"
    if not exists(bus):
        return None
    return tuple(PciGpu(address=address, driver=_bound_driver(bus / address)) for address in find_nvidia_devices(bus))


def _bound_driver(device: Path) -> str:
    try:
        return (device / "driver").readlink().name
    except OSError:
        return ""


def _bits(path: Path) -> int:
    head = _read_bytes(path, 5)
    return ELF_BITS.get(head[4], 0) if head[:4] == ELF_MAGIC and len(head) == 5 else 0  # noqa: PLR2004


def _read_bytes(path: Path, size: int = 1 << 16) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except (OSError, ValueError):
        return b""
