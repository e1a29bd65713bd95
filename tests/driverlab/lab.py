"""Compiles stand-in driver libraries that claim what a test wants them to claim."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent
FAULTS = ("NONE", "HANG", "CRASH", "ERROR", "LOST")


@dataclasses.dataclass(frozen=True)
class LabGpu:
    """A GPU that the lab claims; memory in bytes."""

    name: str = "NVIDIA GeForce RTX 4090"
    capability: str = "8.9"
    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    memory: int = 24 << 30


FOUNDING = LabGpu("NVIDIA GeForce RTX 4070 Laptop GPU", "8.9", memory=8 << 30)


@dataclasses.dataclass(frozen=True)
class Lab:
    """A driver that the lab claims; ``cuda`` as cuDriverGetVersion gives it (12090 is 12.9).

    ``version_error``, ``init_error`` and ``nvml_error`` are what cuDriverGetVersion, cuInit and nvmlInit answer.
    ``gpus`` are in the order of the PCI bus, ``order`` their numbers in CUDA's (empty: the same). One that ``obeys``
    reads CUDA_VISIBLE_DEVICES as a real driver does.
    """

    driver: str = "580.65.06"
    cuda: int = 13000
    gpus: tuple[LabGpu, ...] = (LabGpu(),)
    fault: str = "NONE"
    init_error: int = 0
    compute_mode: int = 0
    libraries: tuple[str, ...] = ("cuda", "nvml")
    version_error: int = 0
    nvml_error: int = 0
    mig: bool = False
    order: tuple[int, ...] = ()
    obeys: bool = False

    def install(self, folder: Path) -> dict[str, str]:
        """Compile into ``folder``; the environment variables with which a process meets this driver."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for number, gpu in enumerate(self.gpus):
            uuid = gpu.uuid if gpu.uuid != LabGpu.uuid else f"{gpu.uuid[:-2]}{number:02x}"
            major, _, minor = gpu.capability.partition(".")
            rows.append(f'{{ "{gpu.name}", {major}, {minor}, "{uuid}", {gpu.memory}ULL }},')
        lines = [f"#define FAULT_{name} {number}" for number, name in enumerate(FAULTS)]
        lines += [f"#define LAB_FAULT FAULT_{self.fault}", f"#define LAB_CUDA {self.cuda}"]
        lines += [f'#define LAB_DRIVER "{self.driver}"', f"#define LAB_INIT_ERROR {self.init_error}"]
        lines += [f"#define LAB_COMPUTE_MODE {self.compute_mode}", f"#define LAB_GPUS {' '.join(rows)}"]
        lines += [f"#define LAB_VERSION_ERROR {self.version_error}", f"#define LAB_NVML_ERROR {self.nvml_error}"]
        lines += [f"#define LAB_MIG {int(self.mig)}", f"#define LAB_OBEYS {int(self.obeys)}"]
        lines += [f"#define LAB_ORDER {''.join(f'{number}, ' for number in self.order)}"]
        (folder / "claims.h").write_text("\n".join(lines) + "\n")
        names = {"cuda": "libcuda.so.1", "nvml": "libnvidia-ml.so.1"}
        for library in self.libraries:
            target = folder / names[library]
            words = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{names[library]}", f"-I{folder}"]
            subprocess.run([*words, "-o", target, HERE / f"{library}.c"], check=True)
        return _found_first(folder, os.environ)


@dataclasses.dataclass(frozen=True)
class Front:
    """Stands in front of the driver library ``real`` and answers for it: a CUDA version, or an error (0: nothing)."""

    real: Path
    cuda: int = 0
    context_error: int = 0
    launch_error: int = 0

    def install(self, folder: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Compile into ``folder``; the variables with which a process that had ``environ`` meets it."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"#define FRONT_CUDA {self.cuda}", f"#define FRONT_CONTEXT_ERROR {self.context_error}"]
        lines += [f"#define FRONT_LAUNCH_ERROR {self.launch_error}"]
        (folder / "front.h").write_text("\n".join(lines) + "\n")
        (folder / "empty.c").write_text("")
        behind = folder / "libbehind.so"
        words = ["cc", "-shared", "-fPIC"]
        subprocess.run([*words, "-Wl,-soname,libbehind.so", "-o", behind, folder / "empty.c"], check=True)
        words += [f"-I{folder}", "-Wl,-soname,libcuda.so.1", "-Wl,--no-as-needed", f"-Wl,-rpath,{folder}"]
        subprocess.run([*words, "-o", folder / "libcuda.so.1", HERE / "front.c", behind], check=True)
        behind.unlink()
        behind.symlink_to(self.real)
        return _found_first(folder, environ)


def _found_first(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, (str(folder), environ.get("LD_LIBRARY_PATH", ""))))}
