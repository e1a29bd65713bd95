"""``verify``: whether wheels are what they say, and whether they offload."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import structs

from build_matrix.cli.options import WHEELS, RequireGpuOption, StoreOption, WheelsOption
from build_matrix.context import Context
from build_matrix.errors import ConfigurationError
from build_matrix.model import Gpu, Machine

if TYPE_CHECKING:
    from build_matrix.verify import Target
    from build_matrix.wheelfile.file import WheelFile


def command(
    wheels: Annotated[
        list[Path] | None, typer.Argument(help="Wheels to verify.", show_default="all in wheels/")
    ] = None,
    folder: WheelsOption = WHEELS,
    model: Annotated[
        Path | None, typer.Option("--model", help="A GGUF to load and compute too.", show_default="none")
    ] = None,
    require_gpu: RequireGpuOption = False,  # noqa: FBT002 - typer's way
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,  # noqa: FBT002
    schema: Annotated[bool, typer.Option("--schema", help="Print the verdict's JSON Schema, and do nothing.")] = False,  # noqa: FBT002
    store_folder: StoreOption = None,
) -> None:
    """Check wheels against their labels, install each in a fresh environment and run it on every GPU here."""
    import msgspec

    from build_matrix.cli.common import open_store, print_json, print_verdicts, raise_for
    from build_matrix.downloads import Downloads
    from build_matrix.model import Verdict
    from build_matrix.probe import probe
    from build_matrix.report import make_reporter
    from build_matrix.verify import verify_wheel
    from build_matrix.wheelfile.file import WheelFile

    if schema:
        print_json(msgspec.json.schema(Verdict))
        return
    reporter = make_reporter()
    store = open_store(store_folder, reporter)
    chosen = wheels or sorted(folder.glob("*.whl"))
    if not chosen:
        raise ConfigurationError(f"There is no wheel in {folder}.", "Build one: `nox -s build-cuda13`.")
    context = Context(probe(store.root), store, Downloads(store, reporter), reporter)
    files = (WheelFile(path) for path in chosen)
    verdicts = [verify_wheel(context, wheel, targets(wheel, context.machine), model) for wheel in files]
    if as_json:
        print_json(verdicts)
    else:
        print_verdicts(verdicts)
    raise_for(verdicts, require_gpu=require_gpu)


def targets(wheel: WheelFile, machine: Machine) -> tuple[Target, ...]:
    """Each GPU of this machine, with the rule by which this wheel cannot run there.

    The rule may depend on the options that it was built with; where those are not known, the wheel is tried.
    """
    from build_matrix.resolve import predict
    from build_matrix.verify import Target
    from build_matrix.wheelfile.recorded import MAY_RUN, recorded_defines

    label = wheel.label
    recorded = recorded_defines(wheel)
    defines = MAY_RUN if recorded is None else recorded
    found = []
    for gpu, visible in visible_gpus(machine):
        alone = structs.replace(machine, gpus=(gpu,))
        findings = predict(label.cuda, label.architectures, alone, defines) if label else []
        found.append(
            Target(gpu=gpu, visible=visible, impossible=next((item for item in findings if item.failed), None))
        )
    return tuple(found)


def visible_gpus(machine: Machine) -> list[tuple[Gpu, str]]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, each with a value that leaves it alone; all of them when it hides all.

    The driver library's own list and order where it answered, else CUDA's rules (build_matrix.diagnosis.visible).
    """
    from build_matrix.diagnosis import usable

    chosen = usable(machine) or usable(
        structs.replace(machine, surroundings=structs.replace(machine.surroundings, visible_devices=None))
    )
    return [(choice.gpu, choice.value) for choice in chosen]
