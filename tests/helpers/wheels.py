"""Makes small wheels for tests."""

from __future__ import annotations

import zipfile
from pathlib import Path

from build_matrix.wheelfile.archive import Members, record_hash, relabel, retag, write_wheel

METADATA = (
    "Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: 0.3.16\nRequires-Dist: numpy>=1.20.0\n"
    'Provides-Extra: server\nRequires-Dist: fastapi; extra == "server"\nSummary: x\n\n'
    "The body.\nVersion: not this one\n"
)
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: py3-none-linux_x86_64\n"
REQUIREMENTS = ("nvidia-cublas<14,>=13.1", "nvidia-cuda-runtime<14,>=13.0")


def raw_members(libraries: dict[str, bytes] | None = None) -> Members:
    """A wheel as scikit-build-core leaves it."""
    members = {
        "llama_cpp/__init__.py": b"__version__ = '0.3.16'\n",
        "llama_cpp_python-0.3.16.dist-info/METADATA": METADATA.encode(),
        "llama_cpp_python-0.3.16.dist-info/WHEEL": WHEEL.encode(),
        "llama_cpp_python-0.3.16.dist-info/RECORD": b"",
        "llama_cpp_python-0.3.16.dist-info/licenses/LICENSE.md": b"MIT\n",
    }
    return members | {f"llama_cpp/lib/{name}": data for name, data in (libraries or {}).items()}


def make_wheel(
    folder: Path,
    libraries: dict[str, bytes] | None = None,
    label: str = "cu130.sm89",
    requirements: tuple[str, ...] = REQUIREMENTS,
    platform: str = "linux_x86_64",
) -> Path:
    """A finished wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_wheel(retag(relabel(raw_members(libraries), label, requirements), platform), folder)


def repack(wheel: Path, members: Members, *, record: bool = True) -> Path:
    """Write other members into a wheel of the same name; ``record``: with a RECORD that fits them."""
    (info,) = {name.partition("/")[0] for name in members if ".dist-info/" in name}
    if record:
        rows = [f"{name},{record_hash(data)},{len(data)}" for name, data in members.items() if "/RECORD" not in name]
        members = members | {f"{info}/RECORD": "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return wheel
