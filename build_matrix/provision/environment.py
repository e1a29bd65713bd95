"""The Python environment that builds: PEP 517 front end, scikit-build-core, CMake and Ninja, all from the lock."""

from __future__ import annotations

import platform
from pathlib import Path

from build_matrix.context import Context
from build_matrix.digests import code_digest
from build_matrix.downloads import create_environment, install_wheels
from build_matrix.model import BuildEnvironment, Component, digest_of
from build_matrix.platforms import find_platform

CODE = ("provision/environment.py", "downloads/install.py")
READY = "environment"


def provision_environment(context: Context, files: tuple[Component, ...]) -> BuildEnvironment:
    """The build environment in the store; raises DownloadError and its kinds, MissingPrerequisiteError.

    Its digest is the same on every machine; the store also tells interpreters apart by their place.
    """
    content = tuple(file.content for file in files)
    digest = digest_of("build-environment", code_digest(*CODE), content, platform.python_version())

    def install(folder: Path) -> None:
        paths = context.downloads.fetch(files, "CMake, Ninja, scikit-build-core")
        python = create_environment(folder / READY, context.store.root / "uv-cache")
        install_wheels(paths, context.store.root / "uv-cache", python=python)

    root = context.store.obtain("build-environment", digest_of(digest, _interpreter()), install) / READY
    python = find_platform(context.machine.platform).environment_python(root)
    return BuildEnvironment(root=root, python=python, components=files, digest=digest)


def _interpreter() -> str:
    """An environment links to the interpreter that made it: another one needs another environment."""
    import sys

    return str(Path(sys.executable).resolve())
