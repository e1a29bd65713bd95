"""Runs in the environment that is examined: what ``import llama_cpp`` leads to there, and what it answers.

``locate`` finds it without importing it; ``import`` imports it and asks it, within so many seconds for the import and
for each question, which follow. Only the standard library is used, and the
syntax of Python 3.7: the environment may be that old. Each fact is one line of JSON behind ``PREFIX``, written at once,
so that a crash takes none with it. A step that does not end in its time is ended by faulthandler, which prints where
it was.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib.util
import json
import os
import platform
import re
import struct
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, Iterator  # noqa: UP035 - this runs on Python 3.7 too
from urllib.parse import unquote

try:
    from importlib import metadata
except ImportError:  # Python 3.7
    metadata = None  # type: ignore[assignment]

PREFIX = "build-matrix-installed "
NAME = "llama_cpp"
PROJECT = "llama-cpp-python"
OTHER_PROJECTS = ("llama-cpp-binaries",)  # builds of llama.cpp, which bring modules of other names
VARIABLES = ("LLAMA_CPP_LIB_PATH", "LLAMA_CPP_LIB")  # a folder; a file, in versions before 0.2.88
MAPPED = re.compile(r"/lib(llama|ggml|mtmd|cuda|cudart|cublas|amdhip64|hipblas|vulkan|sycl|OpenCL)[^/]*\.so[^/]*$")
OUTPUT = sys.stdout
LONGEST = 2000  # characters of a message that are kept
CAUSES = 5  # exceptions of a chain that are kept: one may be circular


def report(**facts: Any) -> None:
    """Report facts at once, on a line of their own."""
    OUTPUT.write("\n" + PREFIX + json.dumps(facts) + "\n")
    OUTPUT.flush()


def set_path() -> None:
    """Have sys.path as a program has it that is started in this folder."""
    folder = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != folder]
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path.insert(0, "")


# --- locate ----------------------------------------------------------------------------------------------


def locate() -> None:
    """Where Python finds llama_cpp, who brought it, and where it looks for its libraries."""
    report(
        python=platform.python_version(),
        machine=platform.machine(),
        bits=struct.calcsize("P") * 8,
        libc=" ".join(platform.libc_ver()),
        executable=os.path.realpath(sys.executable),
        prefix=sys.prefix,
        path=[os.path.abspath(entry) for entry in sys.path],
    )
    report(distributions=[facts for installed in distributions() for facts in distribution(installed)])
    spec, problem = find()
    if spec is None:
        report(located=True, found="", problem=problem, remains=list(remains()))
        return
    folders = [os.path.abspath(folder) for folder in spec.submodule_search_locations or ()]
    origin = os.path.abspath(spec.origin) if spec.origin and spec.origin != "namespace" else ""
    report(
        located=True,
        found=origin,
        folders=folders,
        others=hidden_packages(origin, folders),
        **libraries(origin, folders),
    )


def find() -> tuple[ModuleSpec | None, str]:
    """The module's spec by Python's own finders, hooks of editable installs included; or None, and why."""
    try:
        return importlib.util.find_spec(NAME), ""
    except Exception as error:  # noqa: BLE001 - a hook of an editable install may raise anything
        return None, describe(error)


def hidden_packages(origin: str, folders: list[str]) -> list[str]:
    """Further llama_cpp behind the first one, as files or folders; a folder without __init__.py hides nothing."""
    known = {os.path.realpath(place) for place in [*folders, origin] if place}
    hidden = []
    for entry in sys.path:
        try:
            spec = PathFinder.find_spec(NAME, [entry or os.getcwd()])
        except Exception:  # noqa: BLE001, S112 - an entry that cannot be read holds no llama_cpp
            continue
        if spec is None or spec.origin is None or spec.origin == "namespace":
            continue
        place = next(iter(spec.submodule_search_locations or [spec.origin]))
        if os.path.realpath(place) not in known:
            known.add(os.path.realpath(place))
            hidden.append(os.path.abspath(place))
    return hidden


def distributions() -> Iterator[Any]:
    """Every installed distribution that can be listed."""
    if metadata is None:
        return
    try:
        yield from metadata.distributions()
    except Exception as error:  # noqa: BLE001 - broken metadata of others does not end the examination
        report(metadata_problem=describe(error))


def distribution(installed: Any) -> Iterator[dict[str, Any]]:
    """Name, version and place of a distribution that brings llama_cpp; nothing for any other."""
    try:
        directory = os.path.basename(str(getattr(installed, "_path", "")))
        fields = header(installed)
        name = first(fields, "Name") or directory.partition("-")[0]
        normalized = re.sub(r"[-_.]+", "-", name).lower()
        record = metadata_file(installed, "RECORD")
        top_level = metadata_file(installed, "top_level.txt")
        listing = record + "\n" + top_level
        claims = re.search(r'(?m)^"?llama_cpp(/|$)', listing)
        place = os.path.abspath(str(installed.locate_file("")))
        other = "" if claims or normalized == PROJECT else other_module(normalized, listing, place)
        by_name = PROJECT in normalized and not listing.strip() and os.path.isdir(os.path.join(place, NAME))
        if not (claims or other or by_name or normalized == PROJECT):
            return
        yield {
            "name": name,
            "version": first(fields, "Version") or directory.partition("-")[2].rpartition(".")[0],
            "folder": place,
            "homepage": homepage(fields),
            "requires_python": first(fields, "Requires-Python"),
            "editable": editable(metadata_file(installed, "direct_url.json")),
            "module": other,
            "tags": re.findall(r"(?m)^Tag: *(\S+)", metadata_file(installed, "WHEEL")),
        }
    except Exception as error:  # noqa: BLE001 - see above
        report(metadata_problem=describe(error))


def other_module(project: str, listing: str, place: str) -> str:
    """The module of another name by which ``project`` brings what llama_cpp is; an empty text for other projects.

    Taken from the files that it lists, else from the folders beside it: RECORD may be absent.
    """
    names = re.findall(r'(?m)^"?(\w*llama_cpp\w*)(?:/|$)', listing)
    module = project.replace("-", "_")
    names += [name for name in (module, module.replace("_python", "")) if os.path.isdir(os.path.join(place, name))]
    for name in names:
        if name != NAME and (
            PROJECT in project or project in OTHER_PROJECTS or has_libraries(os.path.join(place, name))
        ):
            return str(name)
    return ""


def has_libraries(folder: str) -> bool:
    """Whether a module's folder has libraries or programs of llama.cpp."""
    places = [os.path.join(folder, name) for name in ("", "lib", "bin")]
    return any(re.match(r"lib(llama|ggml)\b|llama-", name) for place in places for name in listed(place))


def header(installed: Any) -> list[tuple[str, str]]:
    """The fields of METADATA: it may be empty or cut off."""
    text = metadata_file(installed, "METADATA") or metadata_file(installed, "PKG-INFO")
    return re.findall(r"(?m)^([A-Za-z-]+): *(.*?)\s*$", text.partition("\n\n")[0])


def first(fields: list[tuple[str, str]], name: str) -> str:
    """The first value of a field, or an empty text."""
    return next((value for field, value in fields if field.lower() == name.lower()), "")


def homepage(fields: list[tuple[str, str]]) -> str:
    """The project's page: Home-page, or the Project-URL of that label."""
    urls = [value.partition(",") for field, value in fields if field.lower() == "project-url"]
    pages = [url.strip() for label, _, url in urls if label.strip().lower() in {"homepage", "home-page", "source"}]
    return first(fields, "Home-page") or next(iter(pages), "")


def metadata_file(found: Any, name: str) -> str:
    """A file of a distribution's metadata, or an empty text; bytes that are not UTF-8 are replaced."""
    try:
        return found.read_text(name) or ""
    except UnicodeDecodeError:
        return read(os.path.join(str(getattr(found, "_path", "")), name))


def editable(text: str | None) -> str:
    """The source folder of an editable install. Other addresses are not reported: they may hold a password."""
    try:
        facts = json.loads(text or "{}")
        url = str(facts.get("url", ""))
        local = facts.get("dir_info", {}).get("editable") and url.startswith("file://")
    except (ValueError, AttributeError):
        return ""
    return unquote(url[len("file://") :]) if local else ""


def remains() -> Iterator[str]:
    """Folders that an interrupted pip left behind: their names begin with ~."""
    for entry in sys.path:
        for name in listed(entry or "."):
            if re.match(r"~+l?ama_cpp", name):
                yield os.path.join(os.path.abspath(entry), name)


def libraries(origin: str, folders: list[str]) -> dict[str, Any]:
    """Where this version looks for its libraries, the variable that decides it, and what its code shows."""
    package = folders or ([os.path.dirname(origin)] if origin else [])
    code = "".join(read(os.path.join(folder, "llama_cpp.py")) for folder in package)
    version = re.search(
        r"(?m)^__version__\s*=\s*[\"']([^\"']+)",
        "".join(read(os.path.join(folder, "__init__.py")) for folder in package),
    )
    facts: dict[str, Any] = {
        "places": [os.path.join(folder, name) for folder in package for name in ("lib", "bin", "")],
        "module_version": version.group(1) if version else "",
        "modules": sorted({name for folder in package for name in listed(folder) if name.endswith(".py")}),
    }
    for variable in VARIABLES:
        value = os.environ.get(variable)
        honoured = not code or re.search(r"[\"']" + variable + r"[\"']", code)
        if value is not None and honoured:
            folder = os.path.dirname(value) if variable == "LLAMA_CPP_LIB" else value
            return dict(
                facts, variable=variable, variable_target_exists=os.path.exists(value), places=[os.path.abspath(folder)]
            )
    return facts


def read(path: str) -> str:
    """A file's text, or an empty one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def listed(folder: str) -> list[str]:
    """The names in a folder, or none."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


# --- import ----------------------------------------------------------------------------------------------


def try_import(seconds: float, seconds_of_a_question: float) -> None:
    """Import it, and ask it; each step within its own time."""
    faulthandler.enable(file=OUTPUT)
    if hasattr(sys, "addaudithook"):
        sys.addaudithook(watch)
    begin("import", seconds)
    try:
        module = __import__(NAME)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the import raises is the fact
        faulthandler.cancel_dump_traceback_later()
        report(failure=describe(error), missing_module=missing_module(error))
        return
    report(imported=True, module_version=str(getattr(module, "__version__", "")), loaded=mapped())
    steps = (("load", load_modules), ("offload", ask_offload), ("devices", ask_devices), ("system", ask_system))
    for step, query in steps:
        begin(step, seconds_of_a_question)
        try:
            query(module)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - see above
            report(**{step + "_failure": describe(error)})
    faulthandler.cancel_dump_traceback_later()
    report(loaded=mapped(), step="end")
    os._exit(0)  # all is answered: what the package does when Python ends may take any time


def begin(step: str, seconds: float) -> None:
    """Say what comes, and end the process if it takes longer than it may."""
    report(step=step, seconds=seconds, loading="")
    faulthandler.dump_traceback_later(seconds, exit=True, file=OUTPUT)


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Say which library is about to be loaded."""
    if event == "ctypes.dlopen" and arguments and arguments[0]:
        report(loading=str(arguments[0]))


def describe(error: BaseException | None) -> str:
    """Type and text of an exception, then those of its causes that say more."""
    parts: list[str] = []
    for _ in range(CAUSES):
        if error is None:
            break
        if not any(str(error) in part for part in parts):
            parts.append((type(error).__name__ + ": " + str(error)).rstrip(": "))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return " <- ".join(parts)[:LONGEST]


def missing_module(error: BaseException | None) -> str:
    """The module that Python does not find, or an empty text."""
    for _ in range(CAUSES):
        if isinstance(error, ModuleNotFoundError):
            return str(error.name or "")
        error = error and (error.__cause__ or error.__context__)
    return ""


def mapped() -> list[str]:
    """The libraries of llama.cpp and of its back ends that this process has loaded."""
    lines = read("/proc/self/maps").splitlines()
    return sorted({line[line.index("/") :] for line in lines if "/" in line and MAPPED.search(line)})


def load_modules(_module: Any) -> None:
    """Load the back ends that are modules, where the package does so itself at its first model (JamePeng's fork)."""
    part = sys.modules.get(NAME + "._ggml")
    load = getattr(part, "ggml_backend_load_all_from_path", None)
    for folder in getattr(part, "libggml_base_paths", None) or [getattr(part, "libggml_base_path", None)]:
        if load and folder and os.path.isdir(str(folder)):
            load(os.fsencode(str(folder)))


def ask_offload(module: Any) -> None:
    """Whether it says that it offloads; nothing where the version is too old to say."""
    if hasattr(module, "llama_supports_gpu_offload"):
        report(offload=bool(module.llama_supports_gpu_offload()))


def ask_system(module: Any) -> None:
    """What it was compiled with."""
    if hasattr(module, "llama_print_system_info"):
        text = module.llama_print_system_info()
        report(system_info=text_of(text) or str(text))


def ask_devices(_module: Any) -> None:
    """The devices in ggml's registry; nothing where the libraries have none."""
    parts = [vars(part) for name, part in sorted(sys.modules.items()) if name.partition(".")[0] == NAME]
    handles = [value for part in parts for value in list(part.values()) if isinstance(value, ctypes.CDLL)]
    count = function(handles, "ggml_backend_dev_count", ctypes.c_size_t)
    get = function(handles, "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    if not count or not get:
        return
    name = function(handles, "ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    description = function(handles, "ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
    kind = function(handles, "ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    registry = function(handles, "ggml_backend_dev_backend_reg", ctypes.c_void_p, ctypes.c_void_p)
    registry_name = function(handles, "ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    report(
        devices=[
            {
                "name": text_of(name and name(device)),
                "description": text_of(description and description(device)),
                "backend": text_of(registry and registry_name and registry_name(registry(device))),
                "kind": kind(device) if kind else -1,
            }
            for device in map(get, range(count()))
        ]
    )


def function(handles: list[ctypes.CDLL], name: str, result: Any, *arguments: Any) -> Any:
    """A function of one of these libraries, with a prototype of its own; None where none has it."""
    for handle in handles:
        try:
            symbol = handle[name]  # unlike the attribute, an object that nobody else has
        except (AttributeError, OSError):
            continue
        symbol.restype = result
        symbol.argtypes = arguments
        return symbol
    return None


def text_of(value: Any) -> str:
    """A C string as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


if __name__ == "__main__":
    OUTPUT = os.fdopen(os.dup(1), "w")  # of its own: a package may redirect or close the other one
    set_path()
    if sys.argv[1] == "locate":
        locate()
    else:
        try_import(float(sys.argv[2]), float(sys.argv[3]))
