"""Local version labels, written and read: ``cu130.sm89`` is CUDA 13.0, with machine code for sm_89."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from build_matrix.model.base import Record, digest_of
from build_matrix.model.cuda import Architecture, CudaVersion

RELEASE = "release"  # the profile that a label leaves out
_OURS = re.compile(r"check|d[0-9a-f]{8}")  # a profile that must not be released, and the digest of its --define
_CODE = re.compile(r"(?P<kind>sm|ptx)(?P<number>[1-9]\d{1,2})(?P<feature>[af]?)")
_KINDS = {"sm": "real", "ptx": "virtual"}
_CUDA = re.compile(r"(?:cu|cuda)(?:(?P<old>[5-9])(?P<digit>\d)|(?P<family>[1-4]\d)(?P<minor>\d|[1-9]\d)?)")
_CLAIM = re.compile(r"cu\d|cuda")


class Label(Record, frozen=True, kw_only=True):
    """What a local version label claims: ``cu130.sm89`` is CUDA 13.0 with machine code for sm_89.

    ``cuda`` may be a major alone (``cu12``), or empty where it is not understood; ``unknown`` are the parts that are
    not understood.
    """

    text: str
    cuda: str
    codes: tuple[str, ...]
    unknown: tuple[str, ...] = ()

    @property
    def architectures(self) -> tuple[Architecture, ...]:
        """The codes, as architectures."""
        matches = [match for code in self.codes if (match := _CODE.fullmatch(code))]
        texts = [f"{match['number']}{match['feature']}-{_KINDS[match['kind']]}" for match in matches]
        return tuple(Architecture.parse(text) for text in texts)

    @property
    def family(self) -> int:
        """CUDA major version; 0 where it is not understood."""
        return CudaVersion.parse(self.cuda).major if self.cuda else 0

    @property
    def problem(self) -> str:
        """Why the label does not say all that a prediction needs; an empty text where it does."""
        if self.unknown:
            return f"its label {self.text!r} is not understood ({', '.join(self.unknown)})"
        if "." not in self.cuda:
            return f"its label {self.text!r} names no CUDA minor version"
        return "" if self.codes else f"its label {self.text!r} names no architecture"


def write_label(
    cuda: CudaVersion,
    architectures: Iterable[Architecture],
    defines: Mapping[str, str] | None = None,
    profile: str = RELEASE,
) -> str:
    """The label of a wheel; one with ``defines`` has a digest of them, one that must not be released its profile.

    ``parse_label`` reads it again.
    """
    parts = [cuda.label, *(architecture.label for architecture in architectures)]
    if defines:
        parts.append("d" + digest_of(defines)[:8])
    if profile != RELEASE:
        parts.append(profile)
    return ".".join(parts)


def parse_label(local: str) -> Label | None:
    """What a local version label claims of CUDA, or None for one that claims nothing of it.

    Ours are ``cu130.sm89.ptx90``, with ``.d`` and eight hexadecimal digits, and ``.check``. Others write ``cu124``,
    ``cuda12.8``, ``cu12``, and parts of their own, which are then ``unknown``.
    """
    parts = local.lower().replace("-", ".").replace("_", ".").split(".")
    claims = [number for number, part in enumerate(parts) if _CLAIM.match(part)]
    if not claims:
        return None
    first = claims[0]
    cuda, rest = _cuda_version(parts[first], parts[first + 1 :])
    rest = parts[:first] + rest
    unknown = [part for part in rest if not (_CODE.fullmatch(part) or _OURS.fullmatch(part))]
    if not cuda:
        unknown.insert(0, parts[first])
    codes = tuple(sorted({part for part in rest if _CODE.fullmatch(part)}))
    return Label(text=local, cuda=cuda, codes=codes, unknown=tuple(unknown))


def _cuda_version(part: str, rest: list[str]) -> tuple[str, list[str]]:
    """The version in ``cu130``, ``cu1310``, ``cu92``, ``cu12``, ``cuda12.8`` or ``cuda.13.0``; the parts behind it."""
    if part == "cuda" and rest:
        part, rest = part + rest[0], rest[1:]
    match = _CUDA.fullmatch(part)
    if not match:
        return "", rest
    if match["old"]:
        return f"{match['old']}.{match['digit']}", rest
    if match["minor"]:
        return f"{match['family']}.{match['minor']}", rest
    if rest and re.fullmatch(r"\d|[1-9]\d", rest[0]):
        return f"{match['family']}.{rest[0]}", rest[1:]
    return match["family"], rest
