"""One plan for every subcommand: what is asked is checked the same way, whether it is only shown or built too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from build_matrix.errors import ConfigurationError
from build_matrix.model import CudaVersion, Machine, Plan, Request


def make_checked_plan(request: Request, machine: Machine, available: Sequence[str]) -> Plan:
    """The plan for the GPUs that a program may use here, with every define known to the sources.

    ``available`` are the CUDA minors that some source has. Raises ConfigurationError.
    """
    from build_matrix.locks import locked_llama_releases
    from build_matrix.resolve import choose_release, make_plan

    releases = locked_llama_releases()
    if request.defines:
        check_request_defines(request, choose_release(request.llama, releases).version)
    visible, note = visible_machine(machine)
    plan = make_plan(request, visible, releases, available)
    return msgspec.structs.replace(plan, notes=(*plan.notes, note)) if note else plan


def require_possible(request: Request, machine: Machine) -> None:
    """Stop before anything is written if no toolkit would do; raises what planning raises."""
    from build_matrix.downloads import available_toolkits
    from build_matrix.resolve import require_cell

    available = available_toolkits(machine.platform)
    require_cell(make_checked_plan(request, machine, available), machine, available)


def check_request_defines(request: Request, version: str) -> None:
    """Refuse a define that the release's sources do not declare, or that the build sets itself; ConfigurationError."""
    from build_matrix.compile import FIXED
    from build_matrix.locks import locked_options
    from build_matrix.source import check_defines, check_values

    options = locked_options(version)
    check_defines(request.defines, options.names, FIXED, version)
    check_values(request.defines, options.switches)


def visible_machine(machine: Machine) -> tuple[Machine, str]:
    """The machine with the GPUs that CUDA_VISIBLE_DEVICES leaves, and a note where those are not all.

    Where it hides every GPU, the plan is for all of them: a wheel outlives a variable. Claimed GPUs are all meant.
    """
    from build_matrix.diagnosis import usable

    value = machine.environment.visible_devices
    if value is None or machine.overrides or not machine.gpus:
        return machine, ""
    uuids = {choice.gpu.uuid for choice in usable(machine)}
    gpus = tuple(gpu for gpu in machine.gpus if uuids.intersection((gpu.uuid, *gpu.mig_devices)))
    names = ", ".join(gpu.name for gpu in gpus)
    if not gpus:
        return machine, f"CUDA_VISIBLE_DEVICES={value!r} hides every GPU; this plan is for all of them"
    if len(gpus) == len(machine.gpus):
        return machine, ""
    note = f"CUDA_VISIBLE_DEVICES={value!r} leaves {len(gpus)} of {len(machine.gpus)} GPUs: planned for {names}"
    return msgspec.structs.replace(machine, gpus=gpus), note


def require_requested_cuda(requested: str, minor: str, root: Path) -> None:
    """Check that the installed toolkit is the one that --cuda asks for; raises ConfigurationError."""
    if not CudaVersion.parse(minor).matches(requested):
        raise ConfigurationError(
            f"--toolkit-root {root} is CUDA {minor}, but --cuda asks for {requested}.",
            "Remove --cuda, or name another toolkit's folder.",
        )
