"""``doctor``: what is here, what is wrong, what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from build_matrix.cli.options import (
    WHEELS,
    CapabilityOption,
    DriverCudaOption,
    StoreOption,
    WheelsOption,
    override_variables,
)
from build_matrix.model import UNKNOWN, Finding, InstalledLlama, Machine


def command(
    python: Annotated[
        Path | None, typer.Option("--python", help="Examine the llama_cpp of this interpreter's environment.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, for a bug report.")] = False,  # noqa: FBT002
    driver_cuda: DriverCudaOption = None,
    compute_capability: CapabilityOption = None,
    folder: WheelsOption = WHEELS,
    store_folder: StoreOption = None,
) -> None:
    """Say what is on this machine, what is wrong with it, and what to do."""
    from build_matrix.cli.installed_rows import print_installed
    from build_matrix.cli.prediction import NO_FILE, judge_installed, predict_wheel
    from build_matrix.diagnosis import diagnose, diagnose_installed
    from build_matrix.probe import probe
    from build_matrix.store import default_store
    from build_matrix.wheelfile.recorded import recorded_defines

    machine = probe(store_folder or default_store(), override_variables(driver_cuda, compute_capability))
    installed = _examine(python) if python else None
    findings = diagnose(machine)
    if installed:
        findings += diagnose_installed(installed, machine, judge_installed(installed, machine))
        findings = list(dict.fromkeys(findings))  # what the machine shows may be all that is wrong with the package
    wheels = {
        wheel.name: predict_wheel(wheel.name, machine, recorded_defines(wheel)) if wheel.is_file() else NO_FILE
        for wheel in sorted(folder.glob("*.whl"))
    }
    if as_json:
        from build_matrix.cli.common import print_json

        answer = {"machine": machine, "installed": installed, "findings": findings, "wheels": wheels}
        print_json(answer | {"verdict": verdict(machine, findings)})
        return
    _print(machine, findings, wheels)
    if installed:
        print_installed(installed)


def _examine(python: Path) -> InstalledLlama:
    """What is installed beside this interpreter; imported here, because most runs do not ask for it."""
    from build_matrix.probe.installed import examine_environment

    return examine_environment(python, os.environ)


def verdict(machine: Machine, findings: list[Finding]) -> str:
    """The one sentence: nothing is wrong, with its evidence; how much is wrong; or why nothing can be judged."""
    from build_matrix.diagnosis import evidence_of_use, why_not_judged

    wrong = [finding for finding in findings if not finding.passed]
    if wrong:
        return f"{len(wrong)} {'problem' if len(wrong) == 1 else 'problems'}:"
    if works := evidence_of_use(machine):
        return f"Nothing is wrong: {works}."
    return f"Whether CUDA works here cannot be judged: {why_not_judged(machine)}."


def _print(machine: Machine, findings: list[Finding], wheels: dict[str, str]) -> None:
    from rich.table import Table
    from rich.text import Text

    from build_matrix.cli.common import standard_output

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in (*rows(machine), *(("wheel", f"{name}\n{text}") for name, text in wheels.items())):
        table.add_row(name, Text(value))  # names and paths hold brackets, which are no markup
    console = standard_output()
    console.print(table)
    console.print(f"\n{verdict(machine, findings)}", markup=False, highlight=False, soft_wrap=True)
    for finding in findings:
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
        *(("compiler", f"{one.name} {one.version} ({one.cxx})") for one in machine.compilers),
        *(("compiler", note) for note in machine.compiler_notes),
        *_toolkit_rows(machine),
        *_variable_rows(machine),
    ]


def _system(machine: Machine) -> str:
    places = ["WSL"] if machine.surroundings.wsl else []
    places += [f"in a container ({machine.surroundings.container})"] if machine.surroundings.container else []
    return ", ".join([machine.platform, machine.libc, f"Python {machine.python}", *places])


def _driver_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    from build_matrix.diagnosis import evidence_of_use

    driver, evidence = machine.driver, machine.evidence
    if driver:
        kernel = f"; its kernel module CUDA {driver.kernel_cuda}" if driver.kernel_cuda not in {"", driver.cuda} else ""
        version = "unknown version" if driver.version == UNKNOWN else driver.version
        yield "driver", f"{version}, speaks CUDA {driver.cuda}{kernel}"
    else:
        yield "driver", machine.driver_problem
    if works := evidence_of_use(machine):
        yield "CUDA", works
    if evidence.nvml_problem:
        yield "NVML", evidence.nvml_problem


def _gpu_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    from build_matrix.diagnosis import usable

    left = {choice.gpu.uuid for choice in usable(machine)}
    identified = "" not in left and all(gpu.uuid for gpu in machine.gpus)
    restricted = machine.surroundings.visible_devices is not None and identified
    for gpu in machine.gpus:
        mig = ", MIG" if gpu.mig else ""
        gone = restricted and not left.intersection((gpu.uuid, *gpu.mig_devices)) and not gpu.mig
        hidden = ", hidden from this process" if gone else ""
        memory = f", {gpu.memory / 2**30:.0f} GiB" if gpu.memory else ""
        yield "GPU", f"{gpu.name}, sm_{gpu.architecture}{memory}{mig}{hidden}"
    if not machine.gpus:
        for device in machine.evidence.pci or ():
            bound = f"driver {device.driver}" if device.driver else "no driver"
            yield "GPU", f"an NVIDIA GPU on the PCI bus ({device.address}, {bound}), of which nothing else is known"


def _toolkit_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    for number, toolkit in enumerate(machine.toolkits):
        wins = ", would win by accident" if number == 0 else ""
        what = toolkit.version or toolkit.problem
        yield "toolkit", f"{what} in {toolkit.root} (by {toolkit.found_by}{wins}); not used"


def _variable_rows(machine: Machine) -> Iterator[tuple[str, str]]:
    if ignored := machine.surroundings.ignored:
        yield "variables", f"set, and without effect on a build of this tool: {', '.join(ignored)}"
    for name, value in machine.overrides.items():
        yield "claimed", f"{name}={value}"
