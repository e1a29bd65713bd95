"""Applies unified diffs exactly as they are written: no fuzz, no offset, or nothing at all."""

from __future__ import annotations

from pathlib import Path

from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchedFile, PatchSet

from build_matrix.errors import PatchError

HEADERS = ("Purpose", "Versions", "Upstream")


def read_headers(path: Path) -> dict[str, str]:
    """The header of a patch: ``Purpose``, ``Versions`` and ``Upstream``; raises PatchError when one is missing."""
    headers: dict[str, str] = {}
    name = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("--- "):
            break
        if line.startswith(" ") and name:
            headers[name] += line
        elif ": " in line:
            name, _, value = line.partition(": ")
            headers[name] = value
    if missing := [name for name in HEADERS if not headers.get(name)]:
        raise PatchError(f"{path.name} has no header {', '.join(missing)}.", "See patches/README.md.")
    return headers


def apply_patch(path: Path, root: Path) -> None:
    """Apply ``path`` to the tree ``root``; raises PatchError, and then no file has changed."""
    try:
        patch = PatchSet(path.read_text(encoding="utf-8"))
    except UnidiffParseError as error:
        raise PatchError(f"{path.name} is not a unified diff: {error}.", "Write it with `diff -u`.") from error
    if not patch:
        raise PatchError(f"{path.name} changes nothing.", "Write it with `diff -u`.")
    changed = {root / file.path: _patched(path, root / file.path, file) for file in patch}
    for target, text in changed.items():
        if not target.resolve().is_relative_to(root.resolve()):
            raise PatchError(f"{path.name} changes {target.name} outside the sources.", "Fix its paths.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="")


def _patched(path: Path, target: Path, file: PatchedFile) -> str:
    if file.is_added_file:
        if target.exists():
            raise PatchError(f"{path.name} does not apply: there is a {file.path} already.", "Fix its paths.")
        return "".join(line.value for hunk in file for line in hunk)
    try:
        lines = target.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise PatchError(f"{path.name} does not apply: there is no {file.path}.", "Fix its paths.") from error
    result: list[str] = []
    position = 0
    for hunk in file:
        start = hunk.source_start - 1
        old = [line.value for line in hunk if not line.is_added]
        if start < position or lines[start : start + hunk.source_length] != old:
            raise PatchError(
                f"{path.name} does not apply to {file.path} at line {hunk.source_start}.",
                "Write the patch again for these sources, or correct its Versions header.",
            )
        result += lines[position:start]
        result += [line.value for line in hunk if not line.is_removed]
        position = start + hunk.source_length
    return "".join(result + lines[position:])
