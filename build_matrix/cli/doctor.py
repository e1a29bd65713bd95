"""``doctor``: what is here, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from build_matrix.cli.options import (
    WHEELS,
    CapabilityOption,
    DriverCudaOption,
    JsonOption,
    StoreOption,
    WheelsOption,
    override_variables,
)
from build_matrix.model import UNKNOWN, Machine
from build_matrix.pipeline.setup import examine_machine

if TYPE_CHECKING:
    from build_matrix.pipeline.examine import Examination


def command(
    python: Annotated[
        Path | None,
        typer.Option("--python", metavar="PROGRAM", help="Also check the llama_cpp that is installed for this Python."),
    ] = None,
    as_json: JsonOption = False,  # noqa: FBT002 - typer's way
    driver_cuda: DriverCudaOption = None,
    compute_capability: CapabilityOption = None,
    folder: WheelsOption = WHEELS,
    store_folder: StoreOption = None,
) -> None:
    """Show what is on this machine, what is wrong with it, and how to fix it."""
    from build_matrix.cli.common import print_json
    from build_matrix.cli.installed_rows import print_installed
    from build_matrix.pipeline.examine import examine

    machine = examine_machine(store_folder, override_variables(driver_cuda, compute_capability))
    examination = examine(machine, python, folder)
    if as_json:
        print_json(examination)
        return
    print_examination(examination)
    if examination.installed:
        print_installed(examination.installed)


def print_examination(examination: Examination) -> None:
    """The table of what is here, the verdict, and each problem with its remedy, on standard output."""
    from rich.table import Table
    from rich.text import Text

    from build_matrix.cli.common import standard_output

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    wheels = (("wheel", f"{name}\n{text}") for name, text in examination.wheels.items())
    for name, value in (*rows(examination.machine), *wheels):
        table.add_row(name, Text(value))  # names and paths hold brackets, which are no markup
    console = standard_output()
    console.print(table)
    console.print(f"\n{examination.verdict}", markup=False, highlight=False, soft_wrap=True)
    for finding in examination.findings:
        if not finding.passed:
            console.print(f"✗ {finding.fact}", style="red", markup=False, highlight=False, soft_wrap=True)
            console.print(f"  {finding.remedy}", markup=False, highlight=False, soft_wrap=True)


def rows(machine: Machine) -> list[tuple[str, str]]:
    """What is here, as the table's rows."""
    return [
        ("system", _system(machine)),
        ("hardware", f"{machine.cpus} CPUs, {machine.memory / 2**30:.0f} GiB, {machine.disk_free / 1e9:.0f} GB free"),
        *_driver_rows(machine),
        *_gpu_rows(machine),
        *(("compiler", f"{compiler.name} {compiler.version} ({compiler.cxx})") for compiler in machine.compilers),
        *(("compiler", note) for note in machine.compiler_notes),
        *_toolkit_rows(machine),
        *_variable_rows(machine),
    ]


def _system(machine: Machine) -> str:
    places = ["WSL"] if machine.environment.wsl else []
    places += [f"in a container ({machine.environment.container})"] if machine.environment.container else []
    return ", ".join([machine.platform, machine.libc, f"Python {machine.python}", *places])


def _driver_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    from build_matrix.diagnosis import evidence_of_use

    driver, evidence = machine.driver, machine.evidence
    if driver:
        kernel = (
            f"; its kernel module supports CUDA {driver.kernel_cuda}"
            if driver.kernel_cuda not in {"", driver.cuda}
            else ""
        )
        version = "unknown version" if driver.version == UNKNOWN else driver.version
        yield "driver", f"{version}, supports CUDA up to {driver.cuda}{kernel}"
    else:
        yield "driver", machine.driver_problem
    if works := evidence_of_use(machine):
        yield "CUDA", works
    if evidence.nvml_problem:
        yield "NVML", evidence.nvml_problem


def _gpu_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    from build_matrix.diagnosis import usable

    uuids = {choice.gpu.uuid for choice in usable(machine)}
    identified = "" not in uuids and all(gpu.uuid for gpu in machine.gpus)
    restricted = machine.environment.visible_devices is not None and identified
    for gpu in machine.gpus:
        mig = ", MIG" if gpu.mig else ""
        is_hidden = restricted and not uuids.intersection((gpu.uuid, *gpu.mig_devices)) and not gpu.mig
        hidden = ", hidden from this process" if is_hidden else ""
        memory = f", {gpu.memory / 2**30:.0f} GiB" if gpu.memory else ""
        yield "GPU", f"{gpu.name}, sm_{gpu.architecture}{memory}{mig}{hidden}"
    if not machine.gpus:
        for device in machine.evidence.pci or ():
            bound = f"driver {device.driver}" if device.driver else "no driver"
            yield "GPU", f"an NVIDIA GPU on the PCI bus ({device.address}, {bound}); nothing else is known about it"


def _toolkit_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    for number, toolkit in enumerate(machine.toolkits):
        wins = "; other builds would use it" if number == 0 else ""
        description = toolkit.version or toolkit.problem
        yield "toolkit", f"{toolkit.root}: {description} (from {toolkit.source}{wins}); not used"


def _variable_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    if ignored := machine.environment.ignored:
        yield "variables", f"set, but ignored by this tool: {', '.join(ignored)}"
    for name, value in machine.overrides.items():
        yield "claimed", f"{name}={value}"
