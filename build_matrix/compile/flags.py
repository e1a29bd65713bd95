"""Arguments and environment of CMake and the compilers: pure functions of cell, toolkit and host compiler."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from build_matrix.catalog import toolkits
from build_matrix.model import (
    Architecture,
    BuildEnvironment,
    BuildInputs,
    HostCompiler,
    LlamaRelease,
    Record,
    file_sha256,
)
from build_matrix.platforms import find_platform
from build_matrix.process import nvcc_launcher
from build_matrix.process.nvcc_launcher import launcher
from build_matrix.sysroot_flags import c_flags, cxx_flags, link_flags

EPOCH = "315532800"  # 1980-01-01, the first moment that a zip file can hold

WORK = Path("/work")  # how a recipe calls the folder of a compilation

NOWHERE = "http://127.0.0.1:9"  # the discard port (RFC 863): downloads fail also where a network cannot be taken away

# Chosen by this tool for every wheel: a --define may not change them.
FIXED = frozenset(
    {
        "CMAKE_BUILD_TYPE", "CMAKE_C_COMPILER", "CMAKE_CXX_COMPILER", "CMAKE_CUDA_COMPILER", "CMAKE_CUDA_HOST_COMPILER",
        "CMAKE_CUDA_ARCHITECTURES", "CUDAToolkit_ROOT", "GGML_CUDA", "GGML_NATIVE", "BUILD_SHARED_LIBS",
        "LLAMA_BUILD", "LLAMA_BUILD_COMMON", "LLAMA_CUDA_RUNPATH", "GGML_CCACHE",
        "GGML_BACKEND_DL", "GGML_CPU_ALL_VARIANTS", "CMAKE_CUDA_COMPILER_LAUNCHER", "FETCHCONTENT_FULLY_DISCONNECTED",
        "LLAMA_BUILD_NUMBER", "LLAMA_BUILD_COMMIT", "CMAKE_PLATFORM_NO_VERSIONED_SONAME",
    }
)  # fmt: skip


def definitions(inputs: BuildInputs, work: Path, runpath: Sequence[str]) -> dict[str, str]:
    """The CMake definitions of a cell, built below ``work``; ``runpath`` is where NVIDIA's packages put libraries."""
    cell, release, compiler = inputs.cell, inputs.release, inputs.compiler
    platform = find_platform(cell.platform)
    names = {f"{work}/src": "/src", f"{work}/build": "/build"}
    before = launcher(inputs.environment.python, names, random_seed=toolkits()[cell.cuda].random_seed)
    flags = compiler_flags(inputs, names)
    chosen = {
        "CMAKE_C_COMPILER": compiler.cc,
        "CMAKE_CXX_COMPILER": compiler.cxx,
        "CMAKE_CUDA_COMPILER": str(inputs.toolchain.nvcc),
        "CMAKE_CUDA_HOST_COMPILER": compiler.cxx,
        "CMAKE_CUDA_COMPILER_LAUNCHER": ";".join(before),
        "CMAKE_CUDA_ARCHITECTURES": "OFF",  # CMake cannot say that one's machine code comes from another's PTX
        "CUDAToolkit_ROOT": str(inputs.toolchain.root),
        "GGML_CUDA": "ON",
        "LLAMA_CUDA_RUNPATH": ";".join(map(platform.run_path, runpath)),
        "LLAMA_BUILD_NUMBER": "0",
        "LLAMA_BUILD_COMMIT": "unknown",
        "CMAKE_PLATFORM_NO_VERSIONED_SONAME": "ON",  # a wheel stores a link as a copy: one name a library
        "FETCHCONTENT_FULLY_DISCONNECTED": "ON",
    }
    defines = dict(cell.defines)
    for name, value in flags.items():
        flags[name] = f"{value} {defines.pop(name, '')}".strip()
    return {**platform.options, **release.options, **defines, **chosen, **flags}


def compiler_flags(inputs: BuildInputs, names: Mapping[str, str]) -> dict[str, str]:
    """The definitions that hold flags of the compilers and the linker; ``names`` are those of the work's folders."""
    cell, sysroot = inputs.cell, inputs.sysroot
    folders = {**names, str(inputs.toolchain.root): "/cuda", str(sysroot.root): "/sysroot"}
    maps = [f"-ffile-prefix-map={real}={name}" for real, name in folders.items()]
    cxx = [*maps, *cxx_flags(sysroot)]
    cuda = [f"--generate-code={text}" for text in gencodes(inputs.release, cell.architectures)]
    cuda += [f"-Xcompiler={flag}" for flag in cxx]
    if cell.profile == "check" and toolkits()[cell.cuda].fast_compile:
        cuda.insert(0, "-Ofc=max")
    link = " ".join(link_flags(sysroot))
    return {
        "CMAKE_C_FLAGS": " ".join([*maps, *c_flags(sysroot)]),
        "CMAKE_CXX_FLAGS": " ".join(cxx),
        "CMAKE_CUDA_FLAGS": " ".join(cuda),
        "CMAKE_CUDA_FLAGS_RELEASE": "-O1 -DNDEBUG",  # nvcc's -O is for the host's share, which only launches kernels
        "CMAKE_SHARED_LINKER_FLAGS": link,
        "CMAKE_MODULE_LINKER_FLAGS": link,
    }


def gencodes(release: LlamaRelease, architectures: Iterable[Architecture]) -> tuple[str, ...]:
    """The values of nvcc's --generate-code for these, one each: ``arch=compute_80,code=sm_86``.

    Of architectures with the same PTX only the oldest is compiled; the machine code of all is assembled from it.
    """
    requested = tuple(architectures)
    plain = {a.number for a in requested if a.kind == "real" and not a.feature}
    shared = [plain.intersection(group) for group in release.same_ptx]
    oldest = {f"sm_{number}": min(group) for group in shared for number in group}
    return tuple(f"arch=compute_{oldest.get(a.code, a.number)}{a.feature},code={a.code}" for a in requested)


def command(inputs: BuildInputs, work: Path, runpath: Sequence[str]) -> list[str]:
    """The arguments of the PEP 517 build of ``work``/src, with the back end's settings and the CMake definitions."""
    settings = {
        "build-dir": str(work / "build"),
        "cmake.build-type": "Release",
        "wheel.py-api": "py3",  # the package has no extension module: ctypes loads the libraries
        "wheel.reproducible": "true",
        "wheel.exclude": "/lib/**;/bin/**;/include/**",
    }
    settings |= {f"cmake.define.{name}": value for name, value in definitions(inputs, work, runpath).items()}
    argv = [str(inputs.environment.python), "-m", "build", "--wheel"]
    argv += ["--no-isolation", "--skip-dependency-check", "--outdir", str(work / "out")]
    return [*argv, *(f"-C{name}={value}" for name, value in settings.items()), str(work / "src")]


class Recipe(Record, frozen=True, kw_only=True):
    """All that a compilation is given: arguments, environment, and the sha256 of the launcher that adds to nvcc's."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    launcher: str


def recipe(inputs: BuildInputs, runpath: Sequence[str]) -> Recipe:
    """What these inputs are compiled with, the same on every machine: each of its folders has a fixed name.

    What lies in those folders is known by the digests of ``inputs``. How many compilers run at a time is left out.
    """
    named = anywhere(inputs)
    argv = (text.replace(nvcc_launcher.__file__, "/launcher") for text in command(named, WORK, runpath))
    return Recipe(
        argv=tuple(argv),
        environment=environment(named.environment, named.compiler, WORK, 1),
        launcher=file_sha256(Path(nvcc_launcher.__file__)),
    )


def anywhere(inputs: BuildInputs) -> BuildInputs:
    """The same inputs with names in the place of this machine's folders."""
    replace = msgspec.structs.replace
    home = Path("/environment")
    python = find_platform(inputs.cell.platform).environment_python(home)
    includes = {
        name: tuple(f"/{name}/{number}" for number, _ in enumerate(getattr(inputs.sysroot, name)))
        for name in ("c_includes", "cxx_includes")
    }
    return replace(
        inputs,
        source=replace(inputs.source, root=Path("/source")),
        toolchain=replace(inputs.toolchain, root=Path("/toolkit")),
        sysroot=replace(inputs.sysroot, root=Path("/sysroot"), **includes),
        environment=replace(inputs.environment, root=home, python=python),
        compiler=replace(inputs.compiler, cc="/usr/bin/cc", cxx="/usr/bin/c++"),
    )


def portable(values: dict[str, str], inputs: BuildInputs, work: Path) -> dict[str, str]:
    """The same definitions without any path of this machine's store, for the wheel's record."""
    names = {
        str(inputs.toolchain.root): "<toolkit>",
        str(inputs.sysroot.root): "<sysroot>",
        str(inputs.environment.python): "<python>",
        nvcc_launcher.__file__: "<launcher>",
        str(work): "<work>",
    }
    result = {}
    for name, text in sorted(values.items()):
        for path, placeholder in names.items():
            text = text.replace(path, placeholder)  # noqa: PLW2901
        result[name] = text
    return result


def environment(build: BuildEnvironment, compiler: HostCompiler, work: Path, jobs: int) -> dict[str, str]:
    """The whole environment of the compilation: nothing of the user's but the host compiler's folder."""
    folders = [str(build.bin), str(Path(compiler.cxx).parent)]
    folders += [folder for folder in ("/usr/bin", "/bin") if folder not in folders and Path(folder).is_dir()]
    return {
        "PATH": os.pathsep.join(folders),
        "HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": EPOCH,
        "GIT_DIR": "/nonexistent",  # 0.3.36 asks git for a commit whatever is defined
        "PYTHONDONTWRITEBYTECODE": "1",
        "CMAKE_GENERATOR": "Ninja",
        "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
        "NINJA_STATUS": "[%f/%t] ",
        "TERM": "dumb",
        **dict.fromkeys(("http_proxy", "https_proxy", "ftp_proxy", "all_proxy"), NOWHERE),
    }
