"""``build``: from nothing to a verified wheel."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from build_matrix.catalog import llama_releases
from build_matrix.cli.common import (
    WHEELS,
    RequireGpuOption,
    StoreOption,
    WheelsOption,
    open_store,
    parse_defines,
    print_verdicts,
)
from build_matrix.cli.verify import raise_for
from build_matrix.compile import FIXED, compile_wheel
from build_matrix.errors import ConfigurationError
from build_matrix.index import Downloads
from build_matrix.locks import locked_llama_releases, locked_toolkits
from build_matrix.model import BuildInputs, Profile, Request, Wheel
from build_matrix.probe import probe
from build_matrix.provision import provision_environment, provision_toolkit, self_test
from build_matrix.report import Reporter, make_reporter
from build_matrix.resolve import Choice, choose
from build_matrix.source import check_defines, prepare_source
from build_matrix.store import Store
from build_matrix.verify import known_verdict, verify_wheel
from build_matrix.wheel import finish_wheel

PATCHES = Path("patches")


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    cuda: Annotated[str, typer.Option(help="CUDA version or family: 13.1, or 13.", show_default="newest family")] = "",
    llama: Annotated[str, typer.Option(help="llama-cpp-python version.", show_default="newest in the lock")] = "",
    arch: Annotated[
        list[str] | None,
        typer.Option(
            help="Architecture, such as 89 or 90-virtual; repeat it.",
            show_default="this machine's GPU, or 89",
        ),
    ] = None,
    profile: Annotated[str, typer.Option(help="release, or check: compiled fast, never to be released.")] = "release",
    define: Annotated[
        list[str] | None,
        typer.Option(help="A CMake option of llama.cpp, NAME=VALUE; repeat it.", show_default=False),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Compilers at a time.", show_default="one for each CPU")
    ] = None,
    folder: WheelsOption = WHEELS,
    verify: Annotated[bool, typer.Option(help="Verify the wheel after building it.")] = True,  # noqa: FBT002
    require_gpu: RequireGpuOption = False,  # noqa: FBT002
    store_folder: StoreOption = None,
) -> None:
    """Build a wheel, install it in a fresh environment, and test it as far as this machine allows."""
    started = time.monotonic()
    reporter = make_reporter()
    request = Request(
        cuda=cuda,
        llama=llama,
        architectures=tuple(arch or ()),
        profile=_profile(profile),
        defines=parse_defines(define or []),
    )
    machine = probe()
    choice = choose(request, machine, locked_llama_releases(), locked_toolkits())
    store = open_store(store_folder, reporter)
    downloads = Downloads(store, reporter)
    wheel = build_wheel(choice, jobs or machine.cpus, store, downloads, reporter, folder)
    size = f"{wheel.record.size / 1e6:.1f} MB"
    reporter.say(f"{wheel.path}  {size}  sha256 {wheel.record.sha256}  ({time.monotonic() - started:.0f} s)")
    if not verify:
        return
    verdict = known_verdict(wheel.path, machine)
    if not verdict or not verdict.passed:
        verdict = verify_wheel(wheel.path, machine, store, downloads, reporter)
    print_verdicts([verdict])
    raise_for([verdict], require_gpu=require_gpu)


def build_wheel(
    choice: Choice, jobs: int, store: Store, downloads: Downloads, reporter: Reporter, folder: Path
) -> Wheel:
    """Provision, prepare, compile and finish one cell; raises what the stages raise."""
    cell = choice.cell
    reporter.say(f"llama-cpp-python {cell.llama}+{cell.label} with {choice.compiler.name} {choice.compiler.version}")
    for note in choice.notes:
        reporter.say(f"  {note}")
    source = prepare_source(cell, PATCHES, store, downloads)
    check_defines(cell.defines, source.options, FIXED, cell.llama)
    environment = provision_environment(store, downloads)
    toolchain = provision_toolkit(cell, store, downloads)
    self_test(toolchain, cell.architectures, choice.compiler, store)
    inputs = BuildInputs(
        cell=cell,
        release=llama_releases()[cell.llama],
        source=source,
        toolchain=toolchain,
        environment=environment,
        compiler=choice.compiler,
    )
    raw = compile_wheel(inputs, jobs, store, reporter)
    return finish_wheel(raw, inputs, store, folder)


def _profile(text: str) -> Profile:
    try:
        profile: Profile = msgspec.convert(text, Profile)
    except msgspec.ValidationError:
        raise ConfigurationError(
            f"There is no profile {text!r}.", "Use --profile release or --profile check."
        ) from None
    return profile
