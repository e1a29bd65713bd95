"""An installed llama_cpp: the other result of ``probe``."""

from __future__ import annotations

import msgspec

from build_matrix.model.base import Record


class Distribution(Record, frozen=True, kw_only=True):
    """An installed distribution that brings llama_cpp, or a ``module`` of another name that holds the same.

    ``editable`` is its source folder, ``tags`` are its wheel's.
    """

    name: str
    version: str
    folder: str = ""
    homepage: str = ""
    requires_python: str = ""
    editable: str = ""
    tags: tuple[str, ...] = ()
    module: str = ""


class MissingLibrary(Record, frozen=True, kw_only=True):
    """A library that the loader does not find for the file ``needed_by``; ``folders`` have it, but are not searched."""

    name: str
    needed_by: str = ""
    folders: tuple[str, ...] = ()


class ForeignLibrary(Record, frozen=True, kw_only=True):
    """A library that this Python cannot load; ``platform`` says what it is for."""

    file: str
    platform: str


class BackendDevice(Record, frozen=True, kw_only=True):
    """A device in ggml's registry; ``gpu``: layers can be offloaded to it."""

    name: str
    description: str = ""
    backend: str = ""
    gpu: bool = False


class ImportEnd(Record, frozen=True, kw_only=True):
    """How the process ended that imported llama_cpp, where it did not end by itself, without a fault.

    ``step`` is what it did then: import, or one of the questions after it. ``seconds`` is the time limit that ended it
    (0: none did), ``signal`` the signal, ``code`` its exit code; ``where`` is the place in the code, ``loading`` the
    library that was being loaded.
    """

    step: str
    seconds: float = 0.0
    signal: str = ""
    code: int = 0
    where: str = ""
    loading: str = ""


class InstalledLlama(Record, frozen=True, kw_only=True):
    """The llama_cpp that an environment's Python finds, and what it answers.

    ``origin`` is the file that is imported (empty: a folder without __init__.py), ``folder`` the package's folder
    (empty: Python finds none, for ``problem``), ``others`` are further ones that it hides, ``remains`` what an
    interrupted pip left. ``module_version`` is what the code says of itself, ``fork`` who builds it, if not upstream.

    ``places`` are the folders of its libraries; ``variable`` is the environment variable that names them
    (``variable_target_exists``: its value is a path that exists). ``backends`` are those that the libraries hold,
    ``cuda_family`` is the CUDA major that they are built with (0: none, or not known), ``modules``: back ends are
    loaded at run time. ``finds_packages``: it looks for NVIDIA's packages by itself. ``strays`` are libraries of
    llama.cpp that the loader takes from elsewhere. ``loader_problems`` are the loader's own lines.

    ``offload`` is None where it did not say; ``offload_failure`` is the exception of that question. ``devices`` is None
    where its libraries have no registry. ``failure`` is the exception of the import, ``symbol_version`` the newest that
    this system has of the kind that it names, ``missing_instructions`` the instruction sets that this processor lacks.
    ``message`` is the one line of its output that says what is wrong.
    """

    python: str
    python_version: str = ""
    version: str = ""
    origin: str = ""
    folder: str = ""
    problem: str = ""
    others: tuple[str, ...] = ()
    remains: tuple[str, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    module_version: str = ""
    fork: str = ""
    variable: str = ""
    variable_target_exists: bool = msgspec.field(default=True, name="variable_leads")
    places: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    modules: bool = False
    cuda_family: int = 0
    finds_packages: bool = False
    strays: tuple[str, ...] = ()
    missing_libraries: tuple[MissingLibrary, ...] = ()
    foreign_libraries: tuple[ForeignLibrary, ...] = ()
    loader_problems: tuple[str, ...] = ()
    imports: bool = False
    offload: bool | None = None
    offload_failure: str = ""
    devices: tuple[BackendDevice, ...] | None = None
    system_info: str = ""
    end: ImportEnd | None = None
    failure: str = ""
    missing_module: str = ""
    symbol_version: str = msgspec.field(default="", name="here")
    missing_instructions: tuple[str, ...] = msgspec.field(default=(), name="lacks")
    log: tuple[str, ...] = ()
    message: str = msgspec.field(default="", name="said")

    @property
    def distribution(self) -> Distribution | None:
        """The distribution that brought the folder which is imported, as far as is known."""
        return next(iter(self.distributions), None)
