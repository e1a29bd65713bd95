"""What an environment's llama_cpp is, as the rows of a table."""

from __future__ import annotations

from build_matrix.model import InstalledLlama


def print_installed(installed: InstalledLlama) -> None:
    """Print the rows on standard output."""
    from rich.table import Table
    from rich.text import Text

    from build_matrix.cli.common import standard_output

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in installed_rows(installed):
        table.add_row(name, Text(value))
    console = standard_output()
    console.print()
    console.print(table)


def installed_rows(installed: InstalledLlama) -> list[tuple[str, str]]:
    """What it is, who brought it, what it holds, and what it answered."""
    python = f"{installed.python} (Python {installed.python_version})" if installed.python_version else installed.python
    rows = [("environment", python)]
    rows.append(("llama_cpp", f"{installed.version or 'unknown version'} in {installed.folder or '(not installed)'}"))
    for row in installed.distributions:
        editable = f", editable: {row.editable}" if row.editable else ""
        rows.append(("distribution", f"{row.name} {row.version} in {row.folder}{editable}"))
    if installed.fork:
        rows.append(("built by", installed.fork))
    if not installed.folder:
        return rows
    if installed.variable:
        rows.append(("libraries", f"where {installed.variable} leads"))
    linked = ", loaded at run time" if installed.modules else ""
    rows.append(("back ends", f"{', '.join(_backends(installed)) or 'none found in its libraries'}{linked}"))
    rows.append(("import", _import(installed)))
    if installed.offload is not None:
        rows.append(("offload", f"llama_supports_gpu_offload() is {installed.offload}"))
    if installed.devices is not None:
        names = [f"{device.name} ({device.description})" if device.description else device.name
                 for device in installed.devices]  # fmt: skip
        rows.append(("devices", "\n".join(names) or "none"))
    if installed.system_info:
        rows.append(("compiled with", installed.system_info.strip()))
    return rows


def _backends(installed: InstalledLlama) -> list[str]:
    """Their names; CUDA with its major."""
    family = f" {installed.cuda_family}" if installed.cuda_family else ""
    return [name + (family if name == "CUDA" else "") for name in installed.backends]


def _import(installed: InstalledLlama) -> str:
    end = installed.end
    if end and end.seconds:
        return f"stopped after {end.seconds:.0f} s, at: {end.step}"
    if end:
        return f"ended by {end.signal or f'exit code {end.code}'}, at: {end.step}"
    return "succeeds" if installed.imports else "fails"
