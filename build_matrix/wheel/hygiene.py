"""What must not be in a wheel: second copies, files outside the package, paths of the machine that built it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from build_matrix.errors import VerificationError
from build_matrix.wheelfile.archive import dist_info_folder
from build_matrix.wheelfile.native import Library

PACKAGE = "llama_cpp"
ADVICE = "Report this with the wheel's record; the build's result is kept in the store."


def check_members(members: Mapping[str, bytes], libraries: Mapping[str, Library], forbidden: Sequence[str]) -> None:
    """Raise VerificationError, naming the file, for the first thing that must not be there.

    ``libraries`` are the native ones among the members, ``forbidden`` texts that no file may hold.
    """
    info = dist_info_folder(members)
    names: dict[str, str] = {}
    for name, data in members.items():
        top = name.partition("/")[0]
        if top not in {PACKAGE, info}:
            raise VerificationError(f"{name} would land outside the package {PACKAGE}.", ADVICE)
        for text in forbidden:
            if text.encode() in data:
                raise VerificationError(f"{name} contains a path of this machine ({text}).", ADVICE)
        if library := libraries.get(name):
            twin = names.setdefault(hashlib.sha256(data).hexdigest(), name)
            if twin != name:
                raise VerificationError(f"{name} is a second copy of {twin}.", ADVICE)
            _check_library(name, library)
    if not any(name.startswith(f"{info}/licenses/") for name in members):
        raise VerificationError("The wheel contains no licence text.", ADVICE)


def _check_library(name: str, library: Library) -> None:
    if library.soname not in {"", name.rpartition("/")[2]}:  # a module has none, since nothing is linked to it
        raise VerificationError(
            f"{name} has the SONAME {library.soname}, so libraries that need it cannot find it.", ADVICE
        )
    if not library.stripped:
        raise VerificationError(f"{name} still has its symbol table.", ADVICE)
    if library.exported_cxx:
        raise VerificationError(
            f"{name} exports its own copy of libstdc++ ({len(library.exported_cxx)} definitions, "
            f"{library.exported_cxx[0]} among them): Python would crash at the first model.",
            "Set CXX to a host compiler that links libstdc++ dynamically (`CXX=/usr/bin/g++`).",
        )
