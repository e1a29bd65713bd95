"""Writes the tables of docs/how-to/diagnose.md from the table of causes: ``python -m build_matrix.diagnosis.page``."""

from __future__ import annotations

import re
import string
from pathlib import Path

from build_matrix.diagnosis.causes import CAUSES, Cause, Group

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "diagnose.md"
BEGIN = "<!-- generated from build_matrix/diagnosis/causes/ by `python -m build_matrix.diagnosis.page` -->"
END = "<!-- end of what is generated -->"
HEADINGS: dict[Group, str] = {
    "driver": "The driver",
    "GPU": "The GPUs",
    "machine": "The rest of the machine",
    "installed": "An installed llama_cpp",
    "wheel": "A wheel that `verify` runs",
    "process": "How its process ended",
}
CODE = re.compile(r"(`[^`]*`)")


def tables() -> str:
    """A table for each group, a row for each cause, sorted by name; every group has a heading."""
    parts = []
    for group, heading in HEADINGS.items():
        rows = sorted((cause for cause in CAUSES if cause.group == group), key=lambda cause: cause.name.lower())
        lines = [f"### {heading}", "", "| cause | recognized by | message | fix |", "|---|---|---|---|"]
        parts.append("\n".join([*lines, *(_row(cause) for cause in rows)]))
    return "\n\n".join(parts)


def _row(cause: Cause) -> str:
    name = f"{cause.name} (rule: {cause.rule})" if cause.rule else cause.name
    cells = [_escape(name), _escape(cause.signature), _shown(cause.sentence), _shown(cause.remedy)]
    return f"| {' | '.join(cells)} |"


def _shown(template: str) -> str:
    """A sentence, with the names of its placeholders in italics."""
    parts = string.Formatter().parse(template)
    return "".join(_escape(text) + (f"*{name.replace('_', ' ')}*" if name else "") for text, name, _, _ in parts)


def _escape(text: str) -> str:
    """Markdown of a table's cell, in which nothing but code between backquotes has a meaning."""
    pieces = CODE.split(text.replace("|", "\\|"))
    return "".join(piece if piece.startswith("`") else re.sub(r"([*_<\[])", r"\\\1", piece) for piece in pieces)


def render(page: str) -> str:
    """``page`` with its generated part made anew; ValueError where the marks are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page holds no {BEGIN!r} before {END!r}")
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
