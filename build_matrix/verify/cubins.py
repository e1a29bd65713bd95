"""Which machine code is in a wheel? Read with NVIDIA's own cuobjdump, from the package index."""

from __future__ import annotations

import re
from pathlib import Path

from build_matrix.context import Context
from build_matrix.digests import code_digest
from build_matrix.downloads import install_wheels
from build_matrix.errors import MissingPrerequisiteError
from build_matrix.locks import read_lock, select_wheels
from build_matrix.model import Check, Label, digest_of
from build_matrix.platforms import find_platform
from build_matrix.process.runner import run
from build_matrix.wheelfile.file import WheelFile

CODE = ("downloads/install.py",)  # unpacks the wheels of cuobjdump; nothing else decides what is kept
SECONDS = 300
_ELF = re.compile(r"\.(?P<code>sm_\d+[af]?)\.cubin\s*$")
_PTX = re.compile(r"\.(?P<code>(?:sm|compute)_\d+[af]?)\.ptx\s*$")


def check_cubins(context: Context, wheel: WheelFile, label: Label, scratch: Path) -> Check:
    """Check that the wheel holds exactly the machine code and the PTX of its label."""
    codes = read_codes(context, wheel, scratch)
    passed = codes == set(label.codes)
    detail = f"label: {' '.join(label.codes)}; found: {' '.join(sorted(codes)) or 'none'}"
    return Check(name="cubins", passed=passed, detail=detail)


def read_codes(context: Context, wheel: WheelFile, scratch: Path) -> set[str]:
    """The architectures inside a wheel's libraries: ``sm89`` for machine code, ``ptx90`` for PTX.

    Raises DownloadError and its kinds; MissingPrerequisiteError when cuobjdump does not run here.
    """
    platform = find_platform(context.machine.platform)
    program = _cuobjdump(context, platform.program("cuobjdump"))
    codes: set[str] = set()
    for name, data in wheel.members.items():
        if name.endswith(platform.library_suffix) and b".nv_fatbin" in data:
            library = scratch / Path(name).name
            library.write_bytes(data)
            codes |= {"sm" + code for code in _list(program, "--list-elf", library, _ELF)}
            codes |= {"ptx" + code for code in _list(program, "--list-ptx", library, _PTX)}
    return codes


def _list(program: Path, option: str, library: Path, pattern: re.Pattern[str]) -> set[str]:
    result = run([program, option, library], env={"PATH": ""}, timeout=SECONDS)
    codes = {match["code"].partition("_")[2] for line in result.tail if (match := pattern.search(line))}
    if result.code and not codes and "does not contain" not in result.output:
        raise MissingPrerequisiteError(
            f"cuobjdump {option} failed with exit code {result.code}: {result.output}", "Report this."
        )
    return codes


def _cuobjdump(context: Context, name: str) -> Path:
    files = select_wheels(read_lock("inspect"))
    digest = digest_of("inspect", code_digest(*CODE), tuple(file.content for file in files))

    def install(folder: Path) -> None:
        install_wheels(context.downloads.fetch(files, "cuobjdump"), context.store.root / "uv-cache", target=folder)

    (program,) = context.store.obtain("inspect", digest, install).glob(f"nvidia/cu*/bin/{name}")
    return program
