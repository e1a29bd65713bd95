"""Pip's configuration without pip, whose start takes half a second: its file and its variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path


def pip_settings(environ: Mapping[str, str], *, needed: bool) -> list[tuple[str, str]]:
    """Stands in for ``build_matrix.downloads.index.configuration._pip_config``."""
    text = Path(environ.get("PIP_CONFIG_FILE", os.devnull)).read_text(encoding="utf-8")
    found = [(f"global.{k}", v) for k, v in re.findall(r"^([\w-]+) = (.*)$", text, re.MULTILINE)]
    variables = {name[4:].lower().replace("_", "-"): environ[name].strip() for name in environ if name[:4] == "PIP_"}
    return found + [(f":env:.{name}", value) for name, value in variables.items()]
