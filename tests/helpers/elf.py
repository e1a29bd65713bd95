"""Makes ELF files without a compiler: sections with contents, and nothing that could run."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr: elf(5)
_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_PROGBITS, _STRTAB = 1, 3
ADDRESS = 0x1000  # of the first section


def make_elf(sections: Mapping[str, bytes]) -> bytes:
    """An x86-64 shared object with these sections, in this order; the first one lies at ``ADDRESS``."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    body, headers = b"", [_SECTION.pack(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    offset = _HEADER.size
    for name, content in {**sections, ".shstrtab": names}.items():
        kind = _STRTAB if name == ".shstrtab" else _PROGBITS
        address = 0 if kind == _STRTAB else ADDRESS + len(body)
        place = names.index(b"\0" + name.encode() + b"\0") + 1
        headers.append(_SECTION.pack(place, kind, 2, address, offset + len(body), len(content), 0, 0, 1, 0))
        body += content
    identity = b"\x7fELF\2\1\1" + bytes(9)
    start = offset + len(body)
    count = len(headers)
    header = _HEADER.pack(identity, 3, 62, 1, 0, 0, start, 0, _HEADER.size, 56, 0, _SECTION.size, count, count - 1)
    return header + body + b"".join(headers)
