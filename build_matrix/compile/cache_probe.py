"""Does a program of the compile cache work with this toolkit and this host compiler? A kernel is compiled twice to see.

Needed because it often does not: sccache follows nvcc's own list of commands, which NVIDIA changes (0.17 and older
lose files with nvcc 13.3 and newer, https://github.com/mozilla/sccache/pull/2722; 0.18 fails where only PTX of
compute_90 is asked for, https://github.com/mozilla/sccache/issues/2862).
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from build_matrix.catalog import toolkits
from build_matrix.compile.cache import SCCACHE_STATISTICS, CacheChoice, cache_environment, cache_use, server
from build_matrix.compile.flags import WORK, anywhere, definitions
from build_matrix.context import Context
from build_matrix.digests import code_digest
from build_matrix.model import BuildInputs, CacheProgram, CompileCache, digest_of, file_sha256
from build_matrix.process.runner import Completed, run

CODE = (
    "compile/cache_probe.py", "compile/cache.py", "compile/flags.py", "compile/remote.py", "process/nvcc_launcher.py",
    "compile/sccache_server.py", "sysroot_flags.py",
)  # fmt: skip
SECONDS = 120
WHY = "why-not"

KERNEL = """\
namespace { __device__ float factor; }
static __global__ void scale(float *values) { values[threadIdx.x] *= factor; }
void run(float *values) { scale<<<1, 32>>>(values); }
"""


def why_unfit(context: Context, name: CacheProgram, program: Path, inputs: BuildInputs) -> str:
    """Why this program cannot be used for these inputs; empty when it can. Tried once for each combination."""
    flags = definitions(anywhere(inputs), WORK, ())["CMAKE_CUDA_FLAGS"]
    seed = toolkits()[inputs.cell.cuda].random_seed
    parts = (inputs.toolchain.digest, inputs.compiler.identity, inputs.sysroot.digest, flags, seed)
    digest = digest_of("cache-probe", code_digest(*CODE), name, file_sha256(program), parts)

    def probe(folder: Path) -> None:
        reason = _try(name, program, inputs, folder)
        (folder / WHY).write_text(reason, encoding="utf-8")

    return (context.store.obtain("cache-probe", digest, probe) / WHY).read_text(encoding="utf-8")


def _try(name: CacheProgram, program: Path, inputs: BuildInputs, folder: Path) -> str:
    for place in ("src", "build", "cache"):
        (folder / place).mkdir()
    (folder / "src" / "kernel.cu").write_text(KERNEL, encoding="utf-8")
    without = CacheChoice()
    with_cache = CacheChoice(ccache=program) if name == "ccache" else CacheChoice(sccache=program)
    with tempfile.TemporaryDirectory() as short:  # a socket's path may have 107 bytes
        attempt = partial(_compile, inputs, folder, Path(short) / "socket")
        for title, choice in (("without", without), ("first", with_cache), ("second", with_cache)):
            result = attempt(title, choice)
            if result.code:
                message = next((line for line in result.tail if line.strip()), f"exit code {result.code}")
                return f"a small kernel could not be compiled with it: {message.strip()}"
    if not cache_use(folder).hits:
        return "it does not find a small kernel that it has compiled before"
    if len({file_sha256(folder / f"{title}.so") for title in ("without", "first", "second")}) != 1:
        return "it changes the machine code of a small kernel"
    return ""


def _compile(inputs: BuildInputs, folder: Path, socket: Path, title: str, choice: CacheChoice) -> Completed:
    """Compile the kernel as CMake would, and link it as a wheel's library is linked: without symbols of files."""
    chosen = definitions(inputs, folder, ())
    argv: list[str | Path] = [*chosen["CMAKE_CUDA_COMPILER_LAUNCHER"].split(";"), inputs.toolchain.nvcc]
    argv += [f"-ccbin={inputs.compiler.cxx}", *chosen["CMAKE_CUDA_FLAGS"].split(), "-O3", "-Xcompiler=-fPIC"]
    argv += ["-MD", "-MT", "kernel.o", "-MF", "kernel.d", "-x", "cu", "-c", folder / "src" / "kernel.cu"]
    if choice.sccache:
        (folder / SCCACHE_STATISTICS).unlink(missing_ok=True)
        argv = [*server(choice, inputs, folder), *argv]
    variables = {"PATH": f"{Path(inputs.compiler.cxx).parent}:/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    variables["TMPDIR"] = str(folder)
    variables |= cache_environment(choice, CompileCache(folder=folder / "cache"), None, inputs, folder)
    variables["SCCACHE_SERVER_UDS"] = str(socket)
    result = run([*argv, "-o", "kernel.o"], env=variables, cwd=folder / "build", timeout=SECONDS)
    if result.code:
        return result
    link: list[str | Path] = [inputs.compiler.cxx, "-shared", "-s", "-nostdlib", "-Wl,--build-id=none"]
    return run([*link, "-o", folder / f"{title}.so", "kernel.o"], env=variables, cwd=folder / "build", timeout=SECONDS)
