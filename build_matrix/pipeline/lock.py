"""Writes the locks: what the package index carries today, every file by sha256, no index named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import tomli_w
from packaging.requirements import Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from build_matrix.catalog import project_of, sources
from build_matrix.context import Context
from build_matrix.downloads import Downloads, IndexConfiguration, read_configuration
from build_matrix.downloads.install import resolve, uv_compile
from build_matrix.errors import ConfigurationError, DownloadError
from build_matrix.locks import (
    DEV,
    FOLDER,
    TOOL,
    Options,
    ReleaseOptions,
    locked_llama_releases,
    locked_options,
    read_lock,
    select_sdist,
    wheel_platforms,
)
from build_matrix.model import CudaVersion, Lock, LockedFile, LockedPackage, Record
from build_matrix.report import Reporter
from build_matrix.resources import patches_folder
from build_matrix.source import declared_switches, prepare_source
from build_matrix.store import write_atomically

HEADER = "# Written by `nox -s lock`; do not edit.\n\n"
PYTHONS = ("py3", "py2", "cp310", "cp311", "cp312", "cp313", "cp314")


class ToolkitInputs(Record, frozen=True, kw_only=True):
    """Which toolkits are locked."""

    metapackage: str
    components: dict[int, tuple[str, ...]]


class LlamaInputs(Record, frozen=True, kw_only=True):
    """Which llama-cpp-python releases are locked."""

    project: str
    versions: tuple[str, ...]


class Inputs(Record, frozen=True, kw_only=True):
    """``inputs.toml``."""

    toolkit: ToolkitInputs
    llama: LlamaInputs
    sets: dict[str, tuple[str, ...]]


class Updater:
    """Resolves with uv, lists the files with the simple repository API, both through the user's index."""

    def __init__(
        self, configuration: IndexConfiguration, downloads: Downloads, cache: Path, reporter: Reporter
    ) -> None:
        self._variables = configuration.uv_variables(cache)
        self._downloads = downloads
        self._cache = cache
        self._reporter = reporter

    def update(self, project: Path) -> list[Path]:
        """Write every lock, those of this tool's own dependencies from ``project``'s pyproject.toml; returns the files.

        Raises DownloadError, ConfigurationError, MissingPrerequisiteError.
        """
        inputs = msgspec.toml.decode((FOLDER / "inputs.toml").read_bytes(), type=Inputs, strict=False)
        written = []
        for minor, release in self.toolkit_releases(inputs.toolkit).items():
            written.append(self.update_toolkit(inputs.toolkit, minor, release))
        for name, requirements in inputs.sets.items():
            lines = resolve("\n".join(requirements), self._variables, self._cache)
            written.append(self._write(name, Lock(packages=self._packages(lines))))
        sdists = tuple(self._sdist(inputs.llama.project, version) for version in inputs.llama.versions)
        written.append(self._write("llama", Lock(packages=sdists)))
        return [*written, *self._write_tool(project)]

    def update_toolkit(self, inputs: ToolkitInputs, minor: str, release: str) -> Path:
        """Write the lock of one toolkit; returns the file. Raises DownloadError, ConfigurationError."""
        extras = ",".join(inputs.components[CudaVersion.parse(minor).major])
        lines = resolve(f"{inputs.metapackage}[{extras}]=={release}", self._variables, self._cache)
        packages = self._packages(line for line in lines if Requirement(line).name != inputs.metapackage)
        check_same_release(minor, packages)
        return self._write(f"cuda-{minor}", Lock(release=release, packages=packages))

    def toolkit_releases(self, inputs: ToolkitInputs) -> dict[str, str]:
        """The newest release of each minor of the wanted families, oldest first."""
        versions = set()
        for filename, _, _ in self._downloads.listing(inputs.metapackage):
            try:
                versions.add(parse_wheel_filename(filename)[1])
            except InvalidWheelFilename:
                continue
        newest = {
            f"{version.major}.{version.minor}": str(version)
            for version in sorted(versions)
            if version.major in inputs.components and not version.is_prerelease
        }
        if not newest:
            raise DownloadError(
                f"Your package index carries no {inputs.metapackage} of the families {sorted(inputs.components)}.",
                "Configure an index that does (pip's index-url, or UV_DEFAULT_INDEX).",
            )
        return newest

    def _packages(self, lines: Iterable[str]) -> tuple[LockedPackage, ...]:
        return tuple(self._wheels(Requirement(line)) for line in lines)

    def _wheels(self, requirement: Requirement) -> LockedPackage:
        version = str(next(iter(requirement.specifier)).version)
        files = self._files(requirement.name, {name for name in self._names(requirement.name) if _fits(name, version)})
        return LockedPackage(
            project=requirement.name, version=version, marker=str(requirement.marker or ""), files=files
        )

    def _sdist(self, project: str, version: str) -> LockedPackage:
        filenames = {name for name in self._names(project) if _is_sdist(name, version)}
        return LockedPackage(project=project, version=version, files=self._files(project, filenames))

    def _names(self, project: str) -> list[str]:
        return [filename for filename, _, _ in self._downloads.listing(project)]

    def _files(self, project: str, filenames: set[str]) -> tuple[LockedFile, ...]:
        sizes = self._downloads.sizes(project)
        hashes = {name: sha256 for name, _, sha256 in self._downloads.listing(project) if name in filenames and sha256}
        if not filenames or set(hashes) != filenames:
            raise DownloadError(
                f"Your package index gives no sha256 for {sorted(filenames - set(hashes)) or project}.",
                "Lock with an index that gives hashes (PEP 503 or PEP 691).",
            )
        return tuple(LockedFile(filename=n, sha256=hashes[n], size=sizes.get(n, 0)) for n in sorted(hashes))

    def _write(self, name: str, lock: Lock) -> Path:
        path = FOLDER / f"{name}.toml"
        data: dict[str, Any] = msgspec.to_builtins(lock)
        write_atomically(path, (HEADER + tomli_w.dumps(data)).encode())
        count = sum(len(package.files) for package in lock.packages)
        self._reporter.say(f"{path.name}: {len(lock.packages)} packages, {count} files")
        return path

    def _write_tool(self, project: Path) -> Iterator[Path]:
        """This tool's own dependencies, in the form that both pip and uv install with --require-hashes.

        ``dev.txt`` holds all of ``tool.txt``, in the same versions.
        """
        for path, options in ((TOOL, ()), (DEV, ("--extra", "dev", "--constraint", str(TOOL)))):
            argv = ["--generate-hashes", "--no-annotate", *options, "pyproject.toml"]
            text = uv_compile(argv, self._variables, self._cache, cwd=project)
            write_atomically(path, (HEADER + text).encode())
            self._reporter.say(path.name)
            yield path


def update_locks(context: Context, project: Path) -> None:
    """Write every lock, the CMake options of the locked releases among them; ``project`` is this tool's checkout.

    Raises DownloadError, ConfigurationError, MissingPrerequisiteError, PatchError.
    """
    store, reporter = context.store, context.reporter
    configuration = read_configuration()
    downloads = Downloads(store, reporter, configuration)
    Updater(configuration, downloads, store.root / "uv-cache", reporter).update(project)
    read_lock.cache_clear()  # it has just been written
    locked_options.cache_clear()
    options = [read_options(context, version, patches_folder()) for version in locked_llama_releases()]
    reporter.say(f"{write_options(options).name}: {', '.join(f'{o.version} has {len(o.names)}' for o in options)}")


def read_options(context: Context, version: str, patches: Path) -> ReleaseOptions:
    """The CMake options that the patched sources of a release declare; raises DownloadError, PatchError."""
    source = prepare_source(context, select_sdist(version), patches)
    switches = declared_switches(source.root)
    values = tuple(name for name in source.options if name not in switches)
    return ReleaseOptions(version=version, switches=switches, values=values)


def write_options(rows: Iterable[ReleaseOptions]) -> Path:
    """Write the CMake options that each release declares, its patches applied; returns the file."""
    path = FOLDER / "options.toml"
    data: dict[str, Any] = msgspec.to_builtins(Options(release=tuple(rows)))
    write_atomically(path, (HEADER + tomli_w.dumps(data)).encode())
    return path


def check_same_release(minor: str, packages: Iterable[LockedPackage]) -> None:
    """Check that the compiler's parts are of one version, and of this minor; raises ConfigurationError.

    ``nvidia-cuda-nvcc`` does not pin the parts that it needs: installed alone, it pulls them from the newest
    release, and the mixture compiles wrong code or none.
    """
    versions: Mapping[str, str] = {package.project: package.version for package in packages}
    family = CudaVersion.parse(minor).major
    whole = family in sources().index_families
    compiler = ("cuda-nvcc", "nvvm", "cuda-crt") if whole else ("cuda-nvcc",)
    parts = {versions.get(project_of(f"nvidia-{name}", family), "") for name in compiler}
    runtime = versions.get(project_of("nvidia-cuda-runtime", family), "")
    if len(parts) != 1 or not all(version.startswith(f"{minor}.") for version in {*parts, runtime}):
        raise ConfigurationError(
            f"The components of CUDA {minor} are not from one release: {dict(versions)}.",
            "Lock the cuda-toolkit metapackage, which pins them.",
        )


def _fits(filename: str, version: str) -> bool:
    """A wheel of this version, for a platform of the catalog and a supported Python (no free-threaded builds)."""
    try:
        _, parsed, _, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return False
    if parsed != Version(version) or not wheel_platforms(filename):
        return False
    stable = any(tag.abi == "abi3" for tag in tags)
    usable = any(tag.interpreter in PYTHONS and not tag.abi.endswith("t") for tag in tags)
    return usable or stable


def _is_sdist(filename: str, version: str) -> bool:
    try:
        return parse_sdist_filename(filename)[1] == Version(version)
    except InvalidSdistFilename:
        return False
