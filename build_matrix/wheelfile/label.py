"""What does the local version label of a wheel claim? ``cu130.sm89``: CUDA 13.0, with machine code for sm_89."""

from __future__ import annotations

import re

from build_matrix.model import Architecture, Record

_OURS = re.compile(r"check|d[0-9a-f]{8}")  # a profile that must not be released, and the digest of its --define
_CODE = re.compile(r"(?P<kind>sm|ptx)(?P<number>[1-9]\d{1,2})(?P<feature>[af]?)")
_KINDS = {"sm": "real", "ptx": "virtual"}
_CUDA = re.compile(r"(?:cu|cuda)(?:(?P<old>[5-9])(?P<digit>\d)|(?P<family>[1-4]\d)(?P<minor>\d|[1-9]\d)?)")
_CLAIM = re.compile(r"cu\d|cuda")


class Label(Record, frozen=True, kw_only=True):
    """What a local version label claims: ``cu130.sm89`` is CUDA 13.0 with machine code for sm_89.

    ``cuda`` may be a major alone (``cu12``), or empty where it is not understood; ``unknown`` are the words that are
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
        return int(self.cuda.partition(".")[0] or 0)

    @property
    def problem(self) -> str:
        """Why the label does not say all that a prediction needs; an empty text where it does."""
        if self.unknown:
            return f"its label {self.text!r} is not understood ({', '.join(self.unknown)})"
        if "." not in self.cuda:
            return f"its label {self.text!r} names no CUDA minor version"
        return "" if self.codes else f"its label {self.text!r} names no architecture"


def parse_label(local: str) -> Label | None:
    """What a local version label claims of CUDA, or None for one that claims nothing of it.

    Ours are ``cu130.sm89.ptx90``, with ``.d`` and eight hexadecimal digits, and ``.check``. Others write ``cu124``,
    ``cuda12.8``, ``cu12``, and words of their own, which are then ``unknown``.
    """
    words = local.lower().replace("-", ".").replace("_", ".").split(".")
    claims = [number for number, word in enumerate(words) if _CLAIM.match(word)]
    if not claims:
        return None
    first = claims[0]
    cuda, rest = _cuda_version(words[first], words[first + 1 :])
    rest = words[:first] + rest
    unknown = [word for word in rest if not (_CODE.fullmatch(word) or _OURS.fullmatch(word))]
    if not cuda:
        unknown.insert(0, words[first])
    codes = tuple(sorted({word for word in rest if _CODE.fullmatch(word)}))
    return Label(text=local, cuda=cuda, codes=codes, unknown=tuple(unknown))


def _cuda_version(word: str, rest: list[str]) -> tuple[str, list[str]]:
    """The version in ``cu130``, ``cu1310``, ``cu92``, ``cu12``, ``cuda12.8``, ``cuda.13.0``, and the words after it."""
    if word in {"cu", "cuda"} and rest:
        word, rest = word + rest[0], rest[1:]
    match = _CUDA.fullmatch(word)
    if not match:
        return "", rest
    if match["old"]:
        return f"{match['old']}.{match['digit']}", rest
    if match["minor"]:
        return f"{match['family']}.{match['minor']}", rest
    if rest and re.fullmatch(r"\d|[1-9]\d", rest[0]):
        return f"{match['family']}.{rest[0]}", rest[1:]
    return match["family"], rest
