"""``plan``: every toolkit that was considered, and why."""

from __future__ import annotations

from build_matrix.cli.options import (
    ArchOption,
    CapabilityOption,
    CudaOption,
    DefineOption,
    DriverCudaOption,
    JsonOption,
    LlamaOption,
    SchemaOption,
    StoreOption,
    override_variables,
    parse_request,
)
from build_matrix.model import Plan
from build_matrix.pipeline.planning import make_checked_plan
from build_matrix.pipeline.setup import examine_machine


def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    cuda: CudaOption = "",
    llama: LlamaOption = "",
    arch: ArchOption = None,
    define: DefineOption = None,
    driver_cuda: DriverCudaOption = None,
    compute_capability: CapabilityOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - typer's way
    schema: SchemaOption = False,  # noqa: FBT002
    store_folder: StoreOption = None,
) -> None:
    """Show which CUDA toolkits can build for this machine, which one is chosen, and what rules out the others."""
    from build_matrix.cli.common import print_json
    from build_matrix.downloads import available_toolkits
    from build_matrix.resolve import require_cell

    if schema:
        import msgspec

        print_json(msgspec.json.schema(Plan))
        return
    request = parse_request(cuda, llama, arch, define, ignore_driver=False)
    machine = examine_machine(store_folder, override_variables(driver_cuda, compute_capability))
    available = available_toolkits(machine.platform)
    plan = make_checked_plan(request, machine, available)
    if as_json:
        print_json(plan)
    else:
        print_plan(plan)
    require_cell(plan, machine, available)


def print_plan(plan: Plan) -> None:
    """The table of candidates, the newest first, and the choice."""
    from rich.table import Table
    from rich.text import Text

    from build_matrix.cli.common import standard_output

    shared = _shared(plan)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("CUDA", "builds", "runs here", "why not"):
        table.add_column(name, overflow="fold")
    for candidate in reversed(plan.candidates):
        mark = "→ " if plan.cell and plan.cell.cuda == candidate.cuda else "  "
        table.add_row(
            mark + candidate.cuda,
            candidate.answer("build"),
            candidate.answer("run"),
            Text("\n".join(finding.fact for finding in candidate.failed() if finding.fact not in shared)),
        )
    console = standard_output()
    console.print(table)
    for fact in shared:
        console.print(f"none of them: {fact}", highlight=False, markup=False)
    for fact in _not_known(plan):
        console.print(fact, highlight=False, markup=False)
    for note in plan.notes:
        console.print(note, highlight=False, markup=False)
    if plan.cell:
        console.print(f"chosen: llama-cpp-python {plan.cell.llama}+{plan.cell.label}", highlight=False)
    else:
        console.print("chosen: none of them")


def _shared(plan: Plan) -> list[str]:
    """What rules out every toolkit, such as a missing compiler: printed once, not in each row."""
    facts = [[finding.fact for finding in candidate.failed()] for candidate in plan.candidates]
    return [fact for fact in facts[0] if len(facts) > 1 and all(fact in row for row in facts)]


def _not_known(plan: Plan) -> list[str]:
    """Why it is not known whether a toolkit's wheel runs here, each reason once."""
    open_ones = [candidate for candidate in plan.candidates if candidate.answer("run") == "not known"]
    return list(dict.fromkeys(finding.fact for candidate in open_ones for finding in candidate.unknown("run")))
