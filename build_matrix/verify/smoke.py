"""Does a wheel run? Installed with its declared dependencies into a fresh environment, in a process of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from build_matrix.errors import InstallError
from build_matrix.index import Downloads, create_environment, install_wheels
from build_matrix.locks import locked_toolkits, read_lock, select_platform, select_wheels
from build_matrix.model import Check, Machine, Platform, Record
from build_matrix.runner import Completed, run
from build_matrix.store import Store
from build_matrix.verify import child
from build_matrix.verify.model_file import EXPECTED, PROMPT, write_model
from build_matrix.verify.static import Label

SECONDS = 180.0
ALL_LAYERS = 99
DRIVER_LIBRARY = "libcuda.so.1"

_ERROR = re.compile(r"\berror\b|Error:", re.IGNORECASE)
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")  # llama.cpp's own log


class SmokeResult(Record, frozen=True, kw_only=True):
    """What running the wheel showed."""

    checks: tuple[Check, ...]
    offloaded: bool = False
    offload_detail: str = ""


def run_smoke(
    wheel: Path, label: Label, machine: Machine, scratch: Path, store: Store, downloads: Downloads, *, gpu: bool
) -> SmokeResult:
    """Install, import, generate on the CPU; with a GPU, generate there too and compare. All of it in ``scratch``.

    Raises DownloadError and its kinds, DiskFullError.
    """
    try:
        python = install_wheel(wheel, label, machine.platform, scratch, store, downloads)
    except InstallError as error:
        return SmokeResult(checks=(Check(name="install", passed=False, detail=error.problem),))
    model = scratch / "smoke.gguf"
    write_model(model)
    return _run_children(python, model, machine if gpu else msgspec.structs.replace(machine, gpus=()), scratch)


def install_wheel(
    wheel: Path, label: Label, platform: Platform, scratch: Path, store: Store, downloads: Downloads
) -> Path:
    """A fresh environment with the wheel and what it declares, from locked files only."""
    files = select_wheels(read_lock("runtime"))
    cuda = label.cuda if label.cuda in locked_toolkits() else locked_toolkits()[0]
    files += select_platform(read_lock(f"cuda-{cuda}"), platform)
    links = scratch / "files"
    links.mkdir()
    for path in downloads.fetch(files, "the wheel's dependencies"):
        (links / path.name).symlink_to(path)
    python = create_environment(scratch / "environment", store.root / "uv-cache")
    install_wheels([wheel], store.root / "uv-cache", python=python, find_links=links)
    return python


def _run_children(python: Path, model: Path, machine: Machine, scratch: Path) -> SmokeResult:
    cpu = _run_child(python, model, 0, scratch, {"CUDA_VISIBLE_DEVICES": ""})
    checks = [
        Check(name="import", passed="version" in cpu, detail=_said(cpu, "version")),
        Check(
            name="offload registered",
            passed="offload" in cpu,
            detail=f"llama_supports_gpu_offload() is {cpu.get('offload', 'unknown')} with the GPU hidden",
        ),
        _check_tokens("generation on the CPU", cpu),
    ]
    if not machine.gpus or not all(check.passed for check in checks):
        return SmokeResult(checks=tuple(checks))
    gpu = _run_child(python, model, ALL_LAYERS, scratch, {})
    layers = gpu.get("offloaded_layers", (0, -1))
    tokens = _check_tokens("generation on the GPU", gpu)
    offloaded = bool(gpu.get("offload")) and layers[0] == layers[1] and tokens.passed
    detail = f"{layers[0]}/{layers[1]} layers on {machine.gpus[0].name}; {tokens.detail}"
    checks.append(Check(name="generation on the GPU", passed=offloaded, detail=detail))
    return SmokeResult(checks=tuple(checks), offloaded=offloaded, offload_detail=detail)


def _said(answer: Mapping[str, Any], key: str) -> str:
    return str(answer.get(key) or answer.get("failure") or "nothing was said")


def _check_tokens(name: str, answer: Mapping[str, Any]) -> Check:
    tokens = answer.get("tokens")
    passed = tokens == list(EXPECTED)
    if tokens is None:
        detail = _said(answer, "tokens")
    else:
        detail = f"{len(EXPECTED)} tokens as expected" if passed else f"{tokens} instead of {list(EXPECTED)}"
    return Check(name=name, passed=passed, detail=detail)


def _run_child(python: Path, model: Path, layers: int, scratch: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """What the child reported, one JSON object a line; how it ended stands under ``failure``."""
    environment = _environment(scratch) | dict(variables)
    words: list[str | Path] = [python, "-I", child.__file__, model, str(layers), str(len(EXPECTED)), *map(str, PROMPT)]
    answer: dict[str, Any] = {}

    def collect(line: str) -> None:
        if line.startswith(child.PREFIX):
            answer.update(msgspec.json.decode(line.removeprefix(child.PREFIX), type=dict[str, Any]))
        elif match := _OFFLOADED.search(line):
            answer["offloaded_layers"] = (int(match[1]), int(match[2]))

    done = run(words, env=environment, cwd=scratch, on_line=collect, timeout=SECONDS)
    if done.code:
        answer["failure"] = _failure(done)
    return answer


def _failure(done: Completed) -> str:
    if done.timed_out:
        return f"no end within {SECONDS:.0f} s"
    how = f"ended by signal {-done.code}" if done.code < 0 else f"exit code {done.code}"
    said = [line.strip() for line in done.tail if line.strip()]
    telling = next((line for line in said if _ERROR.search(line)), said[-1] if said else "no output")
    return f"{how}: {telling}"


def _environment(scratch: Path) -> dict[str, str]:
    """Nothing of the surroundings but the way to the driver: no toolkit of this machine can help the wheel."""
    kept = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "SYSTEMROOT") if name in os.environ}
    folders = [f for f in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if f]
    driver = [folder for folder in folders if (Path(folder) / DRIVER_LIBRARY).exists()]
    if driver:
        kept["LD_LIBRARY_PATH"] = os.pathsep.join(driver)
    return kept | {"PATH": os.defpath, "HOME": str(scratch), "TMPDIR": str(scratch), "LC_ALL": "C.UTF-8"}
