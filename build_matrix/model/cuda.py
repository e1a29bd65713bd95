"""CUDA versions, driver versions and architectures, as NVIDIA, CMake and nvcc write them."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from build_matrix.model.base import Record

_CUDA = re.compile(r"(?P<major>[1-9][0-9]*)(?:\.(?P<minor>0|[1-9][0-9]*))?")
_DRIVER = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_ARCHITECTURE = re.compile(r"(?P<number>[0-9]{2,3})(?P<feature>[af]?)(?:-(?P<kind>real|virtual))?")


class CudaVersion(msgspec.Struct, frozen=True, order=True):
    """A CUDA version, such as 13.0; versions compare as numbers, so that 13.10 is newer than 13.9.

    Records hold it as text, because their JSON does; each has a property ``cuda_version``.
    """

    major: int
    minor: int = 0

    @classmethod
    def parse(cls, text: str) -> CudaVersion:
        """Read ``13.0``, or ``13``, which is 13.0 too; ValueError otherwise."""
        match = _CUDA.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is not a CUDA version")
        return cls(int(match["major"]), int(match["minor"] or 0))

    def matches(self, request: str) -> bool:
        """Whether ``request`` admits it: its own text (``13.0``), its major (``13``), or an empty text."""
        return request.strip() in {"", str(self), str(self.major)}

    @property
    def label(self) -> str:
        """As a local version label writes it: ``cu130``; build_matrix.model.label reads it again."""
        return f"cu{self.major}{self.minor}"

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class DriverVersion(msgspec.Struct, frozen=True, order=True):
    """A version of NVIDIA's driver, such as 580.95.05; versions compare number by number."""

    numbers: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> DriverVersion:
        """Read the numbers that ``text`` begins with; ValueError where it begins with none."""
        match = _DRIVER.match(text)
        if not match:
            raise ValueError(f"{text!r} is not a driver version")
        return cls(tuple(int(number) for number in match[0].split(".")))

    @property
    def branch(self) -> int:
        """The driver branch, which is the first number."""
        return self.numbers[0]


class Architecture(Record, frozen=True, kw_only=True):
    """One entry of CMake's CUDA_ARCHITECTURES: ``89-real`` is machine code, ``90-virtual`` is PTX."""

    number: int
    feature: str = ""
    kind: Literal["real", "virtual"] = "real"

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Read ``89``, ``89-real``, ``120a-real`` or ``90-virtual``; ValueError otherwise."""
        match = _ARCHITECTURE.fullmatch(text.strip())
        if not match:
            raise ValueError(text)
        kind: Any = match["kind"] or "real"
        return cls(number=int(match["number"]), feature=match["feature"], kind=kind)

    @property
    def cmake(self) -> str:
        """As CMake writes it."""
        return f"{self.number}{self.feature}-{self.kind}"

    @property
    def code(self) -> str:
        """As nvcc writes it: ``sm_89`` for machine code, ``compute_90`` for PTX."""
        return f"{'sm' if self.kind == 'real' else 'compute'}_{self.number}{self.feature}"

    @property
    def label(self) -> str:
        """As a local version label writes it: ``sm89`` or ``ptx90``."""
        return f"{'sm' if self.kind == 'real' else 'ptx'}{self.number}{self.feature}"
