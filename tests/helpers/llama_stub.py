"""Makes environments with a stand-in llama_cpp: real shared libraries, real metadata, a Python of choice."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
import venv
from pathlib import Path

from build_matrix.probe import find_compilers

TRUE = "def llama_supports_gpu_offload(): return True\n"
FALSE = "def llama_supports_gpu_offload(): return False\n"
# Loads its library as upstream does since 0.3.0 (llama_cpp/_ctypes_extensions.py).
LOADER = """
import ctypes, os, pathlib
_folder = os.environ.get("LLAMA_CPP_LIB_PATH") or pathlib.Path(__file__).parent / "lib"
_path = pathlib.Path(_folder) / "libllama.so"
if not _path.exists():
    raise FileNotFoundError("Shared library with base name 'llama' not found")
try:
    _lib = ctypes.CDLL(str(_path))
except Exception as e:
    raise RuntimeError(f"Failed to load shared library '{_path}': {e}")
"""
ASKING = LOADER + "def llama_supports_gpu_offload(): return bool(_lib.llama_supports_gpu_offload())\n"
REGISTRY = """
#include <stddef.h>
static const char *names[] = { %(names)s 0 }, *texts[] = { %(texts)s 0 }, *backends[] = { %(backends)s 0 };
static int kinds[] = { %(kinds)s -1 };
size_t ggml_backend_dev_count(void) { return %(count)d; }
void *ggml_backend_dev_get(size_t n) { return (void *)(n + 1); }
const char *ggml_backend_dev_name(void *d) { return names[(size_t)d - 1]; }
const char *ggml_backend_dev_description(void *d) { return texts[(size_t)d - 1]; }
int ggml_backend_dev_type(void *d) { return kinds[(size_t)d - 1]; }
void *ggml_backend_dev_backend_reg(void *d) { return d; }
const char *ggml_backend_reg_name(void *r) { return backends[(size_t)r - 1]; }
int llama_supports_gpu_offload(void) { return %(offload)d; }
const char *llama_print_system_info(void) { return "CPU : AVX2 = 1 | "; }
"""


def registry(*devices: tuple[str, str, str, int], offload: bool) -> str:
    """The C source of a ggml registry with these devices: name, description, back end, ggml_backend_dev_type."""
    quoted = [[f'"{device[n]}",' for device in devices] for n in range(3)]
    return REGISTRY % {
        "names": " ".join(quoted[0]),
        "texts": " ".join(quoted[1]),
        "backends": " ".join(quoted[2]),
        "kinds": " ".join(f"{device[3]}," for device in devices),
        "count": len(devices),
        "offload": offload,
    }


@dataclasses.dataclass(frozen=True)
class Workshop:
    """Compiles small libraries, each once."""

    folder: Path
    compiler: str = dataclasses.field(default_factory=lambda: find_compilers()[0].cc)

    def library(
        self, name: str, needs: tuple[str, ...] = (), code: str = "int stub;", flags: tuple[str, ...] = ()
    ) -> Path:
        """A library of this name that needs these, each an empty one unless it has been made here before."""
        key = hashlib.sha256(repr((name, needs, code, flags)).encode()).hexdigest()[:12]
        place = self.folder / key
        if (place / name).exists():
            return place / name
        place.mkdir()
        others = [str(self.library(needed)) for needed in needs]
        source = place / "stub.c"
        source.write_text(code)
        argv = [
            self.compiler,
            "-shared",
            "-fPIC",
            "-w",
            f"-Wl,-soname,{name}",
            "-Wl,--no-as-needed",
            "-o",
            str(place / name),
        ]
        subprocess.run([*argv, str(source), *others, *flags], check=True)
        return place / name


class Stub:
    """An environment whose llama_cpp a test puts together."""

    def __init__(self, folder: Path, workshop: Workshop) -> None:
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
        self.root = folder
        self.python = folder / "bin" / "python"
        (self.site,) = folder.glob("lib/python*/site-packages")
        self._workshop = workshop

    def clear(self) -> None:
        """Uninstall everything."""
        for path in self.site.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def package(self, code: str = FALSE, folder: Path | None = None) -> Path:
        """Write llama_cpp with this code; its folder."""
        package = (folder or self.site) / "llama_cpp"
        (package / "lib").mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text(code)
        return package

    def add(
        self,
        name: str,
        *needs: str,
        folder: Path | None = None,
        code: str = "int stub;",
        flags: tuple[str, ...] = (),
    ) -> Path:
        """Put a library into the package, or into a folder."""
        target = (folder or self.site / "llama_cpp" / "lib") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._workshop.library(name, needs, code, flags), target)
        return target

    def distribution(
        self,
        version: str = "0.3.16",
        name: str = "llama_cpp_python",
        record: str = "llama_cpp/__init__.py,,\n",
        **files: str,
    ) -> Path:
        """Write its metadata; ``files`` by their names, the dot written as two underscores."""
        info = self.site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text(record)
        for file, text in files.items():
            (info / file.replace("__", ".")).write_text(text)
        return info
