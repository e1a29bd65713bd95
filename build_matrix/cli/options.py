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
        help="Folder where downloads and results are kept.",
        show_default="user's cache",
        parser=parse_folder,
        metavar="FOLDER",
    ),
]
WheelsOption = Annotated[
    Path, typer.Option("--wheels", help="Folder of finished wheels.", parser=parse_folder, metavar="FOLDER")
]
VerifyOption = Annotated[bool, typer.Option("--verify/--no-verify", help="Verify the wheel after building it.")]
RequireGpuOption = Annotated[
    bool, typer.Option("--require-gpu", help="Fail (exit code 7) unless GPU offload is proven on this machine.")
]
CudaOption = Annotated[
    str,
    typer.Option(
        "--cuda",
        metavar="VERSION",
        help="CUDA version, such as 13.1, or 13 for any 13.x.",
        show_default="what the driver supports",
    ),
]
LlamaOption = Annotated[
    str,
    typer.Option("--llama", metavar="VERSION", help="Version of llama-cpp-python.", show_default="newest in the locks"),
]
ArchOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arch",
        metavar="ARCH",
        help="CUDA architecture, such as 89, 8.9 or 90-virtual. Can be given several times.",
        show_default="this machine's GPU, or 89",
    ),
]
DefineOption = Annotated[
    list[str] | None,
    typer.Option(
        "--define",
        metavar="NAME=VALUE",
        help="CMake option of llama.cpp, as NAME=VALUE. Can be given several times.",
        show_default=False,
    ),
]
ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Build profile: release, or check, which compiles faster and must not be released.",
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Use all cells of the set 'release' in matrix.toml.")]
CellOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cell", metavar="NAME", help="Use this cell of matrix.toml. Can be given several times.", show_default=False
    ),
]
IgnoreDriverOption = Annotated[
    bool, typer.Option("--ignore-driver", help="Build even if this machine's driver or GPU cannot run the wheel.")
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        min=1,
        max=MOST_JOBS,
        help="Number of parallel compile jobs.",
        show_default="CPU count, if memory suffices",
    ),
]
SandboxOption = Annotated[
    bool,
    typer.Option(
        "--sandbox/--no-sandbox", help="Compile without network and at fixed paths, where the system allows it."
    ),
]
WrapperOption = Annotated[
    str,
    typer.Option(
        "--wrapper",
        metavar="COMMAND",
        help="Run the compilation under this command, such as 'nice -n 19'.",
        show_default=False,
    ),
]
CacheOption = Annotated[bool, typer.Option("--cache/--no-cache", help="Use the compile cache in the store.")]
CacheProgramOption = Annotated[
    str | None,
    typer.Option(
        "--cache-program",
        metavar="NAME",
        help="Use only this program as compile cache: ccache or sccache.",
        show_default="what suits the wheel",
    ),
]
RemoteCacheOption = Annotated[
    str,
    typer.Option(
        "--remote-cache",
        metavar="URL",
        envvar="BUILD_MATRIX_REMOTE_CACHE",
        help="URL of a compile cache that machines share: redis, http, https or s3.",
        show_default="none",
    ),
]
ToolkitRootOption = Annotated[
    Path | None,
    typer.Option(
        "--toolkit-root",
        metavar="FOLDER",
        help="Build with the CUDA toolkit installed in this folder.",
        show_default="downloaded",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SchemaOption = Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of the result and exit.")]
DriverCudaOption = Annotated[
    str | None,
    typer.Option(
        "--driver-cuda",
        metavar="VERSION",
        help="Assume a driver that supports CUDA up to this version, or 'none' for no driver.",
        show_default="detected",
    ),
]
CapabilityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--compute-capability",
        metavar="X.Y",
        help="Assume a GPU of this compute capability. Can be given several times.",
        show_default="detected",
    ),
]


def override_variables(driver_cuda: str | None, capabilities: list[str] | None) -> dict[str, str]:
    """The environment with what is to be assumed in it (see build_matrix.probe.overrides)."""
    variables = dict(os.environ)
    if driver_cuda is not None:
        variables["BUILD_MATRIX_DRIVER_CUDA"] = driver_cuda
    if capabilities:
        variables["BUILD_MATRIX_COMPUTE_CAPABILITIES"] = ",".join(capabilities)
    return variables


def parse_request(
    cuda: str,
    llama: str,
    arch: list[str] | None,
    define: list[str] | None = None,
    profile: str = "release",
    *,
    ignore_driver: bool,
) -> Request:
    """What these options ask for; raises ConfigurationError."""
    return Request(
        cuda=cuda,
        llama=llama,
        architectures=tuple(arch or ()),
        profile=parse_profile(profile),
        defines=parse_defines(define or []),
        ignore_driver=ignore_driver,
    )


def parse_defines(definitions: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as a mapping; raises ConfigurationError, also for a name with two different values."""
    defines: dict[str, str] = {}
    for text in definitions:
        name, equals, value = text.partition("=")
        if not (equals and value and DEFINE_NAME.fullmatch(name)):
            raise ConfigurationError(f"--define {text!r} is not NAME=VALUE.", "Write it as --define GGML_AVX512=ON.")
        if not value.isprintable():
            raise ConfigurationError(
                f"--define {name} has a value with unprintable characters: {value!r}.", "Type it again."
            )
        if defines.setdefault(name, value) != value:
            raise ConfigurationError(
                f"--define {name} is given twice: {defines[name]} and {value}.", "Remove one of them."
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
            f"There is no compile cache {program!r}.",
            "Use --cache-program ccache, --cache-program sccache, or --no-cache.",
        ) from None
