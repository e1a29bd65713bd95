"""Which CMake options do the sources declare? Read from the sources, so that a misspelt one is refused."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from build_matrix.errors import ConfigurationError, UnknownOptionError

_DECLARATION = re.compile(
    r"^\s*(?:option\s*\(\s*(?P<option>\w+)|set\s*\(\s*(?P<cached>\w+)\b[^)]*?\bCACHE\b)",
    re.IGNORECASE | re.MULTILINE,
)
_SWITCH_VALUES = frozenset({"on", "off", "yes", "no", "true", "false", "y", "n", "1", "0"})
# What --arch and CXX decide, written into nvcc's flags, where it would win without a trace in the wheel's label.
_CHOSEN_FLAGS = re.compile(
    r"(?<!\S)--?(arch|gencode|code|gpu-architecture|generate-code|gpu-code|ccbin|compiler-bindir)(?![\w-])"
)
_COMPILER_VARIABLES = re.compile(r"CMAKE_(C|CXX|CUDA)_FLAGS(_RELEASE)?|CMAKE_SHARED_LINKER_FLAGS(_RELEASE)?")
SIMILAR = 0.75


def declared_options(root: Path) -> tuple[str, ...]:
    """The names of all options and cache variables that the CMake files below ``root`` declare, sorted."""
    names: set[str] = set()
    for path in [*root.rglob("CMakeLists.txt"), *root.rglob("*.cmake")]:
        for match in _DECLARATION.finditer(path.read_text(encoding="utf-8", errors="replace")):
            names.add(match["option"] or match["cached"])
    return tuple(sorted(names))


def declared_switches(root: Path) -> tuple[str, ...]:
    """Those of ``declared_options`` that are on or off, whatever file declares them."""
    switches: set[str] = set()
    variables: set[str] = set()
    for path in [*root.rglob("CMakeLists.txt"), *root.rglob("*.cmake")]:
        for match in _DECLARATION.finditer(path.read_text(encoding="utf-8", errors="replace")):
            switches.add(match["option"] or "")
            variables.add(match["cached"] or "")
    return tuple(sorted(switches - variables - {""}))


def check_values(defines: Mapping[str, str], switches: Iterable[str]) -> None:
    """Refuse a value that CMake would take for something else without a word; raises ConfigurationError.

    CMake's if() takes any word that it does not know for off: https://cmake.org/cmake/help/latest/command/if.html
    """
    known = set(switches)
    for name, value in defines.items():
        if name in known and value.lower() not in _SWITCH_VALUES:
            raise ConfigurationError(
                f"--define {name}={value}: the option is a switch.", f"Write {name}=ON or {name}=OFF."
            )
        if name.startswith("CMAKE_CUDA_FLAGS") and (match := _CHOSEN_FLAGS.search(value)):
            raise ConfigurationError(
                f"--define {name} contains {match[0]}, which the build sets itself.",
                "Remove it; use --arch for architectures and CXX for the host compiler.",
            )


def check_defines(defines: Mapping[str, str], known: Iterable[str], fixed: Iterable[str], llama: str) -> None:
    """Refuse a define that the sources do not know, or that a choice of this tool fixes.

    Raises UnknownOptionError with the nearest name that they do know.
    """
    names = set(known)
    fixed_names = set(fixed)
    for name in defines:
        if name in fixed_names:
            raise UnknownOptionError(
                f"--define {name} is an option that the build sets itself.",
                "Remove it; use --cuda, --arch, --profile and CXX instead.",
            )
        if name not in names and not _COMPILER_VARIABLES.fullmatch(name):
            raise UnknownOptionError(f"llama-cpp-python {llama} has no option {name}.", _nearest(name, names))


def _nearest(name: str, known: set[str]) -> str:
    """llama.cpp renamed LLAMA_X to GGML_X: the part after the prefix says more than the prefix."""
    bare = name.partition("_")[2]
    renamed = sorted(other for other in known if bare and other.partition("_")[2] == bare)
    close = renamed or difflib.get_close_matches(name, known, n=1, cutoff=SIMILAR)
    if close:
        return f"The closest match is {close[0]}."
    return "It has no similar option, and CMake would silently ignore this one."
