"""Why the llama_cpp of an environment does not import, or does not offload: one finding a cause."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from build_matrix.catalog.installations import Provider, is_gpu, project_of_module, provider_of
from build_matrix.diagnosis.causes import BUILD, by_text, cause
from build_matrix.diagnosis.machine import evidence_of_use, good, why_no_gpu, why_not_judged
from build_matrix.model import Distribution, Finding, ImportEnd, InstalledLlama, Machine, MissingLibrary

PACKAGE = "llama_cpp"
OF_THE_MACHINE = ("driver", "GPU")  # groups of causes for which the machine is examined too
REPORT = "Report this with the output of `nox -s doctor -- --python … --json`."
_ARCHIVE = re.compile(r"\.(zip|egg|whl|pyz)[/\\]", re.IGNORECASE)
_FILE_MISSING = re.compile(r"cannot open(?! shared object file: Permission)|base name '\w+' not found|Failed to load '")
# What no library can be the reason of.
_OF_PYTHON_CODE = re.compile(
    r"(SyntaxError|IndentationError|TabError|NameError|UnicodeDecodeError|TypeError|SystemExit)\b"
)
_NAMED_VERSION = re.compile(r"(?P<file>/\S+?): version [`'](?P<version>\w+?_[\w.]+)' not found")


def diagnose_installed(installed: InstalledLlama, machine: Machine, by_label: Sequence[Finding] = ()) -> list[Finding]:
    """Why it does not import or offload; the one finding that holds is for an installation that does both.

    ``by_label`` is what its version's label says against this machine.
    """
    if not installed.folder:
        return [_absent(installed)]
    if not installed.origin or _is_other(installed):
        return [_other(installed)]
    findings = [*_hiding(installed), *_mixed(installed), *_variable(installed)]
    findings += _foreign(installed)
    findings += _stray(installed)
    findings += _missing(installed)
    findings += _import(installed, findings)
    findings += _build(installed, machine)
    findings += by_label
    return findings or _offload(installed, machine)


def _title(installed: InstalledLlama) -> str:
    return f"llama-cpp-python {installed.version}".strip()


# --- where it is ----------------------------------------------------------------------------------------------


def _absent(installed: InstalledLlama) -> Finding:
    """Python finds no llama_cpp: pip may say otherwise, and why."""
    listed = [_listed(row) for row in installed.distributions]
    parts = [f"pip lists {' and '.join(listed)}"] if listed else []
    if installed.problem:
        parts.append(f"the search for it failed ({installed.problem})")
    if installed.remains:
        parts.append(f"an interrupted pip left {', '.join(installed.remains)}")
    modules = [row.module for row in installed.distributions]
    if modules and all(modules):
        named = " and ".join(dict.fromkeys(modules))
        return cause("another module's name").finding("; ".join(parts), python=installed.python, modules=named)
    return cause("not installed").finding("; ".join(parts), python=installed.python)


def _listed(row: Distribution) -> str:
    """How pip lists it, with what else explains why there is no llama_cpp."""
    editable = f" (editable, {row.editable})" if row.editable else ""
    module = f" (which provides {row.module})" if row.module else ""
    return f"{row.name} {row.version}{editable}{module}"


def _is_other(installed: InstalledLlama) -> bool:
    """Whether what is imported is no package, or none whose libraries can be loaded."""
    return bool(_ARCHIVE.search(installed.origin)) or not re.search(r"[/\\]__init__\.\w+$", installed.origin)


def _other(installed: InstalledLlama) -> Finding:
    if not installed.origin:
        return cause("folder without package").finding(folder=installed.folder)
    hides = f"it hides {', '.join(installed.others)}" if installed.others else ""
    if _ARCHIVE.search(installed.origin):
        return cause("package in an archive").finding(hides, file=installed.origin)
    return cause("another module").finding(hides, file=installed.origin)


def _hiding(installed: InstalledLlama) -> list[Finding]:
    if not installed.others:
        return []
    return [cause("hides another").finding(folder=installed.folder, others=", ".join(installed.others))]


def _mixed(installed: InstalledLlama) -> list[Finding]:
    """More than one distribution in the folder, code of another version than recorded, a Python that is too old."""
    findings = []
    first = installed.distribution
    if first is None:
        return []
    owners = [row for row in installed.distributions if row.folder == first.folder and not row.editable]
    if len(owners) > 1:
        names = " and ".join(f"{row.name} {row.version}" for row in owners)
        findings.append(cause("installed over one another").finding(names=names, folder=installed.folder))
    elif (
        installed.module_version and not first.editable and _public(installed.module_version) != _public(first.version)
    ):
        findings.append(
            cause("code of another version").finding(
                folder=installed.folder, module_version=installed.module_version, version=first.version
            )
        )
    if not _accepts(first.requires_python, installed.python_version):
        findings.append(
            cause("Python too old for it").finding(
                name=first.name,
                version=first.version,
                requires=first.requires_python,
                python_version=installed.python_version,
            )
        )
    return findings


def _public(version: str) -> str:
    return version.partition("+")[0]


def _accepts(requires: str, version: str) -> bool:
    try:
        return SpecifierSet(requires).contains(version, prereleases=True) if requires and version else True
    except InvalidSpecifier:
        return True


def _variable(installed: InstalledLlama) -> list[Finding]:
    if not installed.variable:
        return []
    if not installed.variable_target_exists:
        return [cause("library folder absent").finding(variable=installed.variable)]
    if not installed.libraries:
        facts = {"variable": installed.variable, "folder": ", ".join(installed.places)}
        return [cause("library folder empty").finding(**facts)]
    return []


# --- its libraries ----------------------------------------------------------------------------------------------


def _foreign(installed: InstalledLlama) -> list[Finding]:
    """Libraries that this Python cannot load; no matter where the import succeeds."""
    if installed.imports or not installed.foreign_libraries:
        return []
    tags = installed.distribution.tags if installed.distribution else ()
    evidence = f"the wheel that was installed is tagged {', '.join(tags)}" if tags else ""
    findings = []
    for platform in dict.fromkeys(library.platform for library in installed.foreign_libraries):
        files = [library.file for library in installed.foreign_libraries if library.platform == platform]
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        of_nothing, _, why = platform.partition(": ")
        if of_nothing in {"nothing", "nobody"}:
            findings.append(cause("damaged library").finding(f"{files[0]}{more}: {why}"))
            continue
        facts = {"files": files[0] + more, "are": "are" if more else "is", "platform": platform}
        findings.append(cause("library for another platform").finding(evidence, **facts))
    return findings


def _stray(installed: InstalledLlama) -> list[Finding]:
    """Libraries of llama.cpp that the loader takes from elsewhere, though the package has its own."""
    folders = dict.fromkeys(path.rpartition("/")[0] for path in installed.strays)
    findings = []
    for folder in folders:
        names = [path.rpartition("/")[2] for path in installed.strays if path.rpartition("/")[0] == folder]
        findings.append(cause("library from elsewhere").finding(names=", ".join(names), folder=folder))
    return findings


def _missing(installed: InstalledLlama) -> list[Finding]:
    """Libraries that the loader does not find: by the folder that holds them, else by who brings them."""
    if installed.offload:  # a search of the package's own may have found them elsewhere
        return []
    relevant = [library for library in installed.missing_libraries if _matters(library, installed)]
    off = [library for library in relevant if library.folders]
    findings = []
    for folder in dict.fromkeys(library.folders[0] for library in off):
        libraries = [library for library in off if library.folders[0] == folder]
        findings.append(cause("library off the path").finding(folder=folder, **_named(libraries)))
    for libraries, provider in _by_provider([library for library in relevant if not library.folders]):
        remedy = _brought_by(libraries, provider, installed)
        evidence = f"it is {provider.title}" if provider else ""
        findings.append(cause("library missing").finding(evidence, remedy=remedy, **_named(libraries)))
    return findings


def _matters(library: MissingLibrary, installed: InstalledLlama) -> bool:
    """The driver's own libraries matter only to the import: that there is no driver is a finding on the machine."""
    provider = provider_of(library.name)
    return not installed.imports or provider is None or provider.title != "NVIDIA's driver"


def _named(libraries: Sequence[MissingLibrary]) -> dict[str, str]:
    names = sorted({library.name for library in libraries})
    users = sorted({library.needed_by for library in libraries if library.needed_by})
    verb = "needs" if len(users) == 1 else "need"
    return {
        "names": ", ".join(names),
        "needed_by": f"{' and '.join(users)} {verb}" if users else "the package needs",
        "are": "is" if len(names) == 1 else "are",
    }


def _by_provider(libraries: Iterable[MissingLibrary]) -> list[tuple[list[MissingLibrary], Provider | None]]:
    """The libraries grouped by what brings them; all packages of one CUDA family are one installation."""
    groups: dict[str, tuple[list[MissingLibrary], Provider | None]] = {}
    for library in libraries:
        provider = provider_of(library.name)
        key = library.name if provider is None else provider.remedy or f"CUDA {sorted(provider.projects)}"
        groups.setdefault(key, ([], provider))[0].append(library)
    return list(groups.values())


def _brought_by(libraries: Sequence[MissingLibrary], provider: Provider | None, installed: InstalledLlama) -> str:
    if provider is None:
        return f"It is not known which package provides it. {BUILD}"
    if provider.remedy:
        return provider.remedy
    providers = [row for library in libraries if (row := provider_of(library.name))]
    groups = list(dict.fromkeys(row.projects_for(installed.cuda_family) for row in providers))
    if all(len(group) == 1 for group in groups):
        names = [f"'{name}'" if "<" in name else name for group in groups for name in group]
        how = f"`pip install {' '.join(names)}`"
    else:
        how = f"{', '.join(' or '.join(group) for group in groups)}, for the CUDA version of the build"
    path = "" if installed.finds_packages else (
        ". This package does not search NVIDIA's packages by itself, so add their folders (site-packages/nvidia/*/lib) "
        "to LD_LIBRARY_PATH"
    )  # fmt: skip
    return f"Install into that environment: {how}{path}."


# --- its import ---------------------------------------------------------------------------------------------------


def _import(installed: InstalledLlama, known: Sequence[Finding]) -> list[Finding]:
    """How the import ended; an exception that only repeats what is ``known`` already is no other cause."""
    if installed.end:
        return [_ended(installed.end, installed)]
    if installed.imports:
        return []
    if installed.failure:
        return _raised(installed, known)
    return [cause("not judged").finding(what=_title(installed), why="its import gave no result", remedy=REPORT)]


def _raised(installed: InstalledLlama, known: Sequence[Finding]) -> list[Finding]:
    if installed.missing_module:
        return [_module_missing(installed.missing_module)]
    if known and _FILE_MISSING.search(installed.failure):
        return []
    if matched := by_text([installed.failure]):
        return [matched[0].finding(_evidence(installed))]
    if known and not _OF_PYTHON_CODE.match(installed.failure):
        return []
    return [cause("import fails").finding(installed.failure)]


def _module_missing(module: str) -> Finding:
    top = module.partition(".")[0]
    if top == PACKAGE:
        return cause("package incomplete").finding(module=module)
    return cause("Python module missing").finding(module=module, project=project_of_module(top))


def _evidence(installed: InstalledLlama) -> str:
    """The exception, and what this system has of the version that it names."""
    match = _NAMED_VERSION.search(installed.failure)
    if not match:
        by_variable = f"the libraries are those that {installed.variable} selects; " if installed.variable else ""
        return by_variable + installed.failure
    newest = f" (it has up to {installed.symbol_version})" if installed.symbol_version else ""
    return f"{match['version']} is not in {match['file']}{newest}; {installed.failure}"


_STEPS = {
    "start": "The start of Python",
    "import": "`import llama_cpp`",
    "load": "Loading the back ends",
    "offload": "llama_supports_gpu_offload()",
    "devices": "The list of devices",
    "system": "llama_print_system_info()",
}


def _ended(end: ImportEnd, installed: InstalledLlama) -> Finding:
    step = _STEPS.get(end.step, end.step)
    where = ", ".join(filter(None, (end.loading and f"while it loaded {end.loading}", end.where and f"at {end.where}")))
    if end.seconds:
        return cause("import does not end").finding(where, what=step, seconds=f"{end.seconds:.0f}")
    if end.signal == "SIGILL":
        missing = f"it lacks {', '.join(installed.missing_instructions)}" if installed.missing_instructions else ""
        return cause("import by an older processor").finding(", ".join(filter(None, (missing, where))), what=step)
    if end.signal == "SIGKILL":
        return cause("import is killed").finding(where, what=step)
    how = _signal(end.signal) if end.signal else f"exit code {end.code}"
    if known := by_text(installed.log):
        return known[0].finding(f"{step} ended the process with {how} after {known[1].strip()!r}")
    evidence = ", ".join(filter(None, (where, _last(installed))))
    return cause("import crashes").finding(evidence, what=step, how=how)


def _signal(name: str) -> str:
    """A signal's name, and what it means, where this system knows it."""
    number = getattr(signal, name, None)
    meaning = signal.strsignal(number) if number else None
    return f"{name} ({meaning})" if meaning else name


def _last(installed: InstalledLlama) -> str:
    """What it printed before it crashed, where that is a complaint."""
    lines = [line for line in installed.log if re.search(r"error|assert|abort|fail", line, re.IGNORECASE)]
    return lines[-1] if lines else ""


# --- offload --------------------------------------------------------------------------------------------------------


def _gpu_backends(installed: InstalledLlama) -> list[str]:
    return [name for name in installed.backends if is_gpu(name)]


def _lists_gpu(installed: InstalledLlama) -> bool:
    return any(device.gpu for device in installed.devices or ())


def _build(installed: InstalledLlama, machine: Machine) -> list[Finding]:
    """What its libraries alone show: there is no back end for a GPU, or one for a newer driver."""
    if installed.offload or _lists_gpu(installed):
        pass  # its own report comes first: a back end may be linked into libllama without a trace
    elif installed.libraries and not installed.foreign_libraries and not _gpu_backends(installed):
        return [cause("CPU build").finding(what=_title(installed))]
    driver = machine.driver
    if driver is None or _lists_gpu(installed):
        return []
    major = driver.cuda_version.major
    if installed.cuda_family > major:
        newer = cause("newer CUDA than the driver's")
        return [newer.finding(family=installed.cuda_family, driver=driver.name, cuda=driver.cuda, major=major)]
    return []


def _offload(installed: InstalledLlama, machine: Machine) -> list[Finding]:
    """What it reports itself, where it imports and its libraries are in order, and whether that is plausible."""
    if _lists_gpu(installed):
        names = ", ".join(f"{device.description or device.name} ({device.backend or device.name})"
                          for device in installed.devices or () if device.gpu)  # fmt: skip
        if installed.offload is not False:
            return [good("installed", f"llama_cpp {installed.version} registers {names}.")]
        why = f"it lists {names}, but reports that it does not offload"
        return [cause("not judged").finding(what=_title(installed), why=why, remedy=REPORT)]
    if installed.offload:
        return [_claimed(installed, machine)]
    if installed.offload is None and installed.devices is None:
        why, remedy = "this version does not report it", "Update it."
        if installed.offload_failure:
            why, remedy = f"llama_supports_gpu_offload() raised {installed.offload_failure}", REPORT
        return [cause("not judged").finding(what=_title(installed), why=why, remedy=remedy)]
    return [_not_registered(installed, machine)]


def _claimed(installed: InstalledLlama, machine: Machine) -> Finding:
    """It says that it offloads, without a GPU in its registry, or without a registry."""
    backends = _gpu_backends(installed)
    why = why_no_gpu(machine) if backends in ([], ["CUDA"]) else None
    if installed.devices is not None:
        devices = ", ".join(device.name for device in installed.devices) or "nothing"
        remedy = why.remedy if why else "Check the driver of that GPU."
        return cause("offload without a GPU").finding(devices=devices, remedy=remedy)
    if why:
        reason, remedy = f"it reports that it does, but on this machine: {why.fact.rstrip('.')}", why.remedy
    elif backends != ["CUDA"]:
        gpu = " or ".join(backends) or "its GPU"
        reason = f"it reports that it does, but lists no devices, and the driver of {gpu} is not queried here"
        remedy = "Load a model with n_gpu_layers=-1 and verbose=True: its log names the device."
    elif not evidence_of_use(machine):
        reason = f"it reports that it does, but {why_not_judged(machine) or 'no GPU is known here'}"
        remedy = "See the rows on the driver."
    elif not installed.cuda_family:
        reason = "it reports that it does, but its CUDA version is not known, because the runtime is linked statically"
        remedy = "Load a model with n_gpu_layers=-1 and verbose=True: its log names the device."
    else:
        return good(
            "installed", f"llama_cpp {installed.version} reports that it offloads, and the driver shows it a GPU."
        )
    return cause("not judged").finding(what=_title(installed), why=reason, remedy=remedy)


def _not_registered(installed: InstalledLlama, machine: Machine) -> Finding:
    """It has a back end for a GPU, and registers none: the log or the machine may show why."""
    backends = " and ".join(_gpu_backends(installed)) or "GPU"
    why = why_no_gpu(machine) if "CUDA" in installed.backends else None
    if known := by_text(installed.log) or by_text(installed.loader_problems):
        if why and known[0].group in OF_THE_MACHINE:  # the machine itself shows more of the same cause
            return why
        return known[0].finding(known[1])
    if installed.modules and installed.devices is not None and not installed.log:
        devices = ", ".join(device.name for device in installed.devices) or "nothing"
        return cause("back ends not loaded").finding(backends=backends, devices=devices)
    if why:
        return cause("no GPU registered").finding(why.fact, backends=backends, remedy=why.remedy)
    remedy = f"Check that GPU's driver, and that the GPU is not hidden. {REPORT}"
    return cause("no GPU registered").finding(installed.message, backends=backends, remedy=remedy)
