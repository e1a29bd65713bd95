"""Options under their old names: they work for one more release, with a hint, and are not in ``--help``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Any

from typer.core import TyperCommand, TyperOption

from build_matrix.cli.terminal import write_error

RENAMED = {
    "--cross": "--ignore-driver",
    "--isolate": "--sandbox",
    "--in-the-open": "--no-sandbox",
    "--cache-with": "--cache-program",
    "--under": "--wrapper",
}


class CommandWithOldNames(TyperCommand):
    """A subcommand whose options also have the old names of ``RENAMED``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments with current names; each old name that was used gives a hint on standard error."""
        options = {name: option for option in self.params for name in (*option.opts, *option.secondary_opts)}
        renamed = {old: new for old, new in RENAMED.items() if new in options}
        valued = {name for name, option in options.items() if isinstance(option, TyperOption) and not option.is_flag}
        current, used = current_names(args, renamed, valued)
        for old in used:
            write_error(f"{old} is now {renamed[old]}; the old name stops working in the next release.\n")
        return super().parse_args(ctx, current)


def current_names(
    args: Iterable[str], renamed: Mapping[str, str], valued: Collection[str]
) -> tuple[list[str], list[str]]:
    """The arguments with each old name replaced by its new one, and the old names that were used, each once.

    ``valued`` are the options that take a value: a value is never replaced, nor anything behind ``--``.
    """
    current: list[str] = []
    used: dict[str, None] = {}
    rest = iter(args)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in renamed:
            used[name] = None
            name = renamed[name]
        current.append(name + equals + value)
        if name == "--":
            current += rest
        elif name in valued and not equals:
            current += islice(rest, 1)
    return current, list(used)
