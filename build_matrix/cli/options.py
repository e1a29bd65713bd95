"""The options that several subcommands have; light, so that ``doctor`` starts at once."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from build_matrix.errors import ConfigurationError
from build_matrix.model import CacheProgram, CompileCache, Profile, Request

WHEELS = Path("wheels")
DEFINE_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
MOST_JOBS = 1024


def parse_folder(text: str | Path) -> Path:
    """A folder's path; raises typer.BadParameter for an empty text, which would be the current folder."""
    if not str(text).strip():
        raise typer.BadParameter("the path is empty.")
    return Path(text)


StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        envvar="BUILD_MATRIX_STORE",
        help="Where results are kept.",
        show_default="user's cache",
        parser=parse_folder,
        metavar="FOLDER",
    ),
]
WheelsOption = Annotated[
    Path, typer.Option("--wheels", help="Folder of the finished wheels.", parser=parse_folder, metavar="FOLDER")
]
RequireGpuOption = Annotated[
    bool, typer.Option("--require-gpu", help="Fail (exit 7) unless the offload is proven on a GPU here.")
]
CudaOption = Annotated[
    str, typer.Option("--cuda", help="CUDA version or family: 13.1, or 13.", show_default="what the driver speaks")
]
LlamaOption = Annotated[
    str, typer.Option("--llama", help="llama-cpp-python version.", show_default="newest in the lock")
]
ArchOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arch",
        help="Architecture, such as 89, 8.9 or 90-virtual; repeat it.",
        show_default="this machine's GPU, or 89",
    ),
]
DefineOption = Annotated[
    list[str] | None,
    typer.Option("--define", help="A CMake option of llama.cpp, NAME=VALUE; repeat it.", show_default=False),
]
ProfileOption = Annotated[
    str, typer.Option("--profile", help="release, or check: compiled fast, never to be released.")
]
JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", min=1, max=MOST_JOBS, help="Compilers at a time.", show_default="one for each CPU"),
]
IsolateOption = Annotated[
    bool,
    typer.Option(
        "--isolate/--in-the-open", help="Compile without network and at fixed places, where the system allows it."
    ),
]
CacheOption = Annotated[bool, typer.Option("--cache/--no-cache", help="Use the compile cache in the store.")]
CacheWithOption = Annotated[
    str | None,
    typer.Option("--cache-with", help="Cache with this program alone: ccache or sccache.", show_default="what fits"),
]
RemoteCacheOption = Annotated[
    str,
    typer.Option(
        "--remote-cache",
        envvar="BUILD_MATRIX_REMOTE_CACHE",
        help="URL of a storage that machines share: redis, http, https or s3.",
        show_default="none",
    ),
]
ToolkitRootOption = Annotated[
    Path | None,
    typer.Option("--toolkit-root", help="Build with the CUDA toolkit installed there.", show_default="one is fetched"),
]
DriverCudaOption = Annotated[
    str | None,
    typer.Option(
        "--driver-cuda", help="Claim a driver of this CUDA version (or none).", show_default="the driver's own"
    ),
]
CapabilityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--compute-capability", help="Claim a GPU of this compute capability; repeat it.", show_default="NVML's"
    ),
]


def override_variables(driver_cuda: str | None, capabilities: list[str] | None) -> dict[str, str]:
    """The environment, with these claims in it (see build_matrix.probe.overrides)."""
    variables = dict(os.environ)
    if driver_cuda is not None:
        variables["BUILD_MATRIX_DRIVER_CUDA"] = driver_cuda
    if capabilities:
        variables["BUILD_MATRIX_COMPUTE_CAPABILITIES"] = ",".join(capabilities)
    return variables


def parse_request(
    cuda: str, llama: str, arch: list[str] | None, define: list[str] | None, profile: str = "release", *, cross: bool
) -> Request:
    """What these options ask for; raises ConfigurationError."""
    return Request(
        cuda=cuda,
        llama=llama,
        architectures=tuple(arch or ()),
        profile=parse_profile(profile),
        defines=parse_defines(define or []),
        cross=cross,
    )


def parse_defines(words: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` words as a mapping; raises ConfigurationError, also for a name that is given two values."""
    defines: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (equals and value and DEFINE_NAME.fullmatch(name)):
            raise ConfigurationError(f"--define {word!r} is not NAME=VALUE.", "Write it as --define GGML_AVX512=ON.")
        if not value.isprintable():
            raise ConfigurationError(f"--define {name} has a value that is not text: {value!r}.", "Write it anew.")
        if defines.setdefault(name, value) != value:
            raise ConfigurationError(
                f"--define {name} is given twice: {defines[name]} and {value}.", "Leave one of the two out."
            )
    return defines


def parse_profile(text: str) -> Profile:
    """``release`` or ``check``; raises ConfigurationError."""
    import msgspec

    try:
        profile: Profile = msgspec.convert(text, Profile)
    except msgspec.ValidationError:
        raise ConfigurationError(
            f"There is no profile {text!r}.", "Use --profile release or --profile check."
        ) from None
    return profile


def parse_cache(program: str | None, remote: str) -> CompileCache:
    """The compile cache that these options ask for, in a store that is not open yet; raises ConfigurationError."""
    import msgspec

    from build_matrix.compile import parse_remote

    parse_remote(remote, os.environ)
    if program is None:
        return CompileCache(folder=Path(), remote=remote)
    try:
        return CompileCache(folder=Path(), programs=(msgspec.convert(program, CacheProgram),), remote=remote)
    except msgspec.ValidationError:
        raise ConfigurationError(
            f"There is no compile cache {program!r}.", "Use --cache-with ccache, --cache-with sccache, or --no-cache."
        ) from None
