"""``doctor``: what is here, what is wrong, what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from build_matrix.cli.options import (
    WHEELS,
    CapabilityOption,
    DriverCudaOption,
    StoreOption,
    WheelsOption,
    override_variables,
)
from build_matrix.model import Finding, Machine


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
    from build_matrix.diagnosis import diagnose, diagnose_installed
    from build_matrix.probe import examine_environment, probe
    from build_matrix.store import default_store

    machine = probe(store_folder or default_store(), override_variables(driver_cuda, compute_capability))
    installed = examine_environment(python, os.environ) if python else None
    findings = diagnose(machine)
    if installed:
        findings += diagnose_installed(installed, machine)
    wheels = {wheel.name: _prediction(wheel, machine) for wheel in sorted(folder.glob("*.whl"))}
    if as_json:
        from build_matrix.cli.common import print_json

        print_json({"machine": machine, "installed": installed, "findings": findings, "wheels": wheels})
        return
    _print(machine, findings, wheels)
    if installed:
        typer.echo(f"\n{installed.python}: llama-cpp-python {installed.version or '(not installed)'}")


def _prediction(wheel: Path, machine: Machine) -> str:
    from build_matrix.cli.verify import targets

    if machine.driver is None:
        return f"cannot be judged: {machine.driver_problem}"
    reasons = [target.impossible.fact for target in targets(wheel, machine) if target.impossible]
    return " ".join(dict.fromkeys(reasons)) or "runs here: nox -s verify"


def _print(machine: Machine, findings: list[Finding], wheels: dict[str, str]) -> None:
    from rich.table import Table

    from build_matrix.cli.common import standard_output

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows(machine):
        table.add_row(name, value)
    for name, prediction in wheels.items():
        table.add_row("wheel", f"{name}\n{prediction}")
    console = standard_output()
    console.print(table)
    wrong = [finding for finding in findings if not finding.passed]
    console.print("\nNothing is wrong." if not wrong else "")
    for finding in wrong:
        console.print(f"✗ {finding.fact}", style="red", highlight=False)
        console.print(f"  {finding.remedy}", highlight=False)


def rows(machine: Machine) -> list[tuple[str, str]]:
    """What is here, as the table's rows."""
    driver: Any = machine.driver
    found = [("system", f"{machine.platform}, {machine.libc}, Python {machine.python}")]
    found.append(
        ("hardware", f"{machine.cpus} CPUs, {machine.memory / 2**30:.0f} GiB, {machine.disk_free / 1e9:.0f} GB free")
    )
    if driver:
        kernel = f"; its kernel module CUDA {driver.kernel_cuda}" if driver.kernel_cuda not in {"", driver.cuda} else ""
        found.append(("driver", f"{driver.version}, speaks CUDA {driver.cuda}{kernel}"))
    else:
        found.append(("driver", machine.driver_problem))
    for gpu in machine.gpus:
        mig = ", MIG" if gpu.mig else ""
        found.append(("GPU", f"{gpu.name}, sm_{gpu.architecture}, {gpu.memory / 2**30:.0f} GiB{mig}"))
    found += [("compiler", f"{c.name} {c.version} ({c.cxx})") for c in machine.compilers]
    for number, toolkit in enumerate(machine.toolkits):
        wins = ", would win by accident" if number == 0 else ""
        found.append(
            (
                "toolkit",
                f"{toolkit.version or toolkit.problem} in {toolkit.root} (by {toolkit.found_by}{wins}); not used",
            )
        )
    found += [("claimed", f"{name}={value}") for name, value in machine.overrides.items()]
    return found
