"""A result in the store is found by all that it depends on: change any of it, and it is made again."""

from __future__ import annotations

import ast
import importlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from contexts import in_context

from build_matrix import compile as compiling
from build_matrix import digests, verify, wheel
from build_matrix.compile import cache_probe, digest_of_inputs, flags
from build_matrix.digests import CONTENT, PACKAGE, code_digest, content_digest, note_content, tree_digest
from build_matrix.downloads import Downloads, IndexConfiguration
from build_matrix.downloads.origins import debian
from build_matrix.locks import select_sdist
from build_matrix.model import (
    AppliedPatch,
    BuildFacts,
    BuildInputs,
    CacheProgram,
    Component,
    Driver,
    Gpu,
    HostEnvironment,
    Machine,
    RawWheel,
)
from build_matrix.platforms import find_platform
from build_matrix.platforms.system_needs import known_system_needs
from build_matrix.process import nvcc_launcher
from build_matrix.provision import provision_environment, self_test
from build_matrix.provision import toolkit as toolkits
from build_matrix.source import prepare_source
from build_matrix.store import Store
from build_matrix.trial import child, harness, watch
from build_matrix.trial.environment import Environment
from build_matrix.verify import model_file, numbers, reference, smoke
from build_matrix.wheelfile.file import WheelFile

replace = msgspec.structs.replace

# --- compile ---------------------------------------------------------------------------------------------


def recipe_of(inputs: BuildInputs) -> flags.Recipe:
    return flags.recipe(inputs, compiling._runpath(inputs))


def changed(inputs: BuildInputs, monkeypatch: pytest.MonkeyPatch, name: str, function: Callable[..., object]) -> str:
    """The digest of the same inputs when a function of the flags answers something else."""
    with monkeypatch.context() as patch:
        patch.setattr(flags, name, function)
        return digest_of_inputs(inputs)


def test_every_define_and_flag_of_cmake_is_in_the_digest(inputs: BuildInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    before, original = digest_of_inputs(inputs), flags.definitions
    names = list(original(inputs, flags.WORK, ()))
    assert {"CMAKE_CUDA_FLAGS_RELEASE", "CMAKE_CXX_FLAGS", "GGML_AVX2", "LLAMA_CUDA_RUNPATH"} <= set(names)
    after = set()
    for name in names:

        def other(*arguments: object, name: str = name) -> dict[str, str]:
            values = original(*arguments)  # type: ignore[arg-type]
            return values | {name: values[name] + " -O1"}

        after.add(changed(inputs, monkeypatch, "definitions", other))
    assert len(after) == len(names)
    assert before not in after


def test_every_environment_variable_is_in_the_digest(inputs: BuildInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    before, original = digest_of_inputs(inputs), flags.environment
    names = [*recipe_of(inputs).environment, "ONE_MORE"]
    after = set()
    for name in names:

        def other(*arguments: object, name: str = name) -> dict[str, str]:
            values = original(*arguments)  # type: ignore[arg-type]
            return values | {name: values.get(name, "") + "/changed"}

        after.add(changed(inputs, monkeypatch, "environment", other))
    assert len(after) == len(names)
    assert before not in after


def test_every_argument_of_the_front_end_and_setting_of_the_back_end_is_in_the_digest(
    inputs: BuildInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, original = digest_of_inputs(inputs), flags.command
    argv = recipe_of(inputs).argv
    assert "-Cwheel.reproducible=true" in argv
    after = set()
    for position in range(len(argv)):

        def other(*arguments: object, position: int = position) -> list[str]:
            values = original(*arguments)  # type: ignore[arg-type]
            return [*values[:position], values[position] + "x", *values[position + 1 :]]

        after.add(changed(inputs, monkeypatch, "command", other))
    assert len(after) == len(argv)
    assert before not in after


def test_the_launcher_that_adds_to_nvccs_arguments_is_in_the_digest(
    inputs: BuildInputs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = digest_of_inputs(inputs)
    other = tmp_path / "nvcc_launcher.py"
    text = Path(nvcc_launcher.__file__).read_text()
    other.write_text(text)
    monkeypatch.setattr(nvcc_launcher, "__file__", str(other))
    assert digest_of_inputs(inputs) == before  # where it lies does not matter
    other.write_text(text.replace("-objtemp", "-keep"))
    assert digest_of_inputs(inputs) != before


INPUTS: dict[str, Callable[[BuildInputs], BuildInputs]] = {
    "sources": lambda i: replace(i, source=replace(i.source, digest="other")),
    "toolkit": lambda i: replace(i, toolchain=replace(i.toolchain, digest="other")),
    "build environment": lambda i: replace(i, environment=replace(i.environment, digest="other")),
    "sysroot": lambda i: replace(i, sysroot=replace(i.sysroot, digest="other")),
    "its glibc": lambda i: replace(i, sysroot=replace(i.sysroot, glibc="2.31")),
    "compiler": lambda i: replace(i, compiler=replace(i.compiler, identity="other")),
    "option": lambda i: replace(i, release=replace(i.release, options={**i.release.options, "GGML_AVX": "OFF"})),
    "same PTX": lambda i: replace(i, release=replace(i.release, same_ptx=((80, 89),)), cell=two(i)),
    "define": lambda i: replace(i, cell=replace(i.cell, defines={"GGML_CUDA_F16": "ON"})),
    "profile": lambda i: replace(i, cell=replace(i.cell, profile="check")),
    "CUDA": lambda i: replace(i, cell=replace(i.cell, cuda="12.8")),
}


def two(inputs: BuildInputs):  # type: ignore[no-untyped-def]
    from build_matrix.model import Architecture

    return replace(inputs.cell, architectures=(Architecture(number=80), Architecture(number=89)))


def test_every_input_is_in_the_digest(inputs: BuildInputs) -> None:
    found = {name: digest_of_inputs(change(inputs)) for name, change in INPUTS.items()}
    found["as it is"] = digest_of_inputs(inputs)
    found["two architectures"] = digest_of_inputs(replace(inputs, cell=two(inputs)))
    assert len(set(found.values())) == len(found)


def test_the_digest_is_the_same_on_every_machine(inputs: BuildInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the number of compilers at a time change it, nor anything of the surroundings."""
    elsewhere = replace(
        inputs,
        source=replace(inputs.source, root=Path("/home/somebody/store/source")),
        toolchain=replace(inputs.toolchain, root=Path("/home/somebody/store/toolkit")),
        environment=replace(inputs.environment, root=Path("/x/env"), python=Path("/x/env/bin/python")),
        sysroot=replace(
            inputs.sysroot,
            root=Path("/x/sysroot"),
            c_includes=tuple(f"/opt{folder}" for folder in inputs.sysroot.c_includes),
            cxx_includes=tuple(f"/opt{folder}" for folder in inputs.sysroot.cxx_includes),
        ),
        compiler=replace(inputs.compiler, cc="/opt/gcc/bin/gcc", cxx="/opt/gcc/bin/g++"),
    )
    before = digest_of_inputs(inputs)
    for name in ("PATH", "HOME", "TMPDIR", "CXX", "CUDA_PATH", "CMAKE_ARGS"):
        monkeypatch.setenv(name, "/elsewhere")
    assert digest_of_inputs(elsewhere) == before
    text = msgspec.json.encode(recipe_of(elsewhere)).decode()
    assert "/opt" not in text
    assert "/x/" not in text
    assert str(PACKAGE) not in text


def test_what_the_record_says_of_the_flags_is_what_was_compiled_with(
    inputs: BuildInputs,
    store: Store,
    reporter,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    """A store that was filled with other flags is not asked: its wheel would get a record with the new ones."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "x.whl").touch()
    facts = BuildFacts(
        generator="Ninja", architectures=(), cuda_compiler="", cuda_compiler_version="", cxx_compiler_version="",
        cmake_version="", steps=1,
    )  # fmt: skip
    (raw / compiling.FACTS).write_bytes(msgspec.json.encode(facts))
    kept = store.keep("raw", digest_of_inputs(inputs), raw)
    conditions = compiling.Conditions(jobs=1)
    assert compiling.compile_wheel(in_context(store, reporter=reporter), inputs, conditions).path == kept / "x.whl"
    original = flags.definitions
    for module in (flags, compiling):
        monkeypatch.setattr(module, "definitions", lambda *a: original(*a) | {"CMAKE_CUDA_FLAGS_RELEASE": "-O3"})
    monkeypatch.setattr(compiling, "_build", lambda *_: pytest.fail("compiled again"))
    with pytest.raises(pytest.fail.Exception, match="compiled again"):
        compiling.compile_wheel(in_context(store, reporter=reporter), inputs, conditions)


# --- the other stages ------------------------------------------------------------------------------------

SOURCE_MODULES = [
    importlib.import_module(
        ".".join(("build_matrix", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    )
    for path in sorted(PACKAGE.rglob("*.py"))
    if "CODE = (" in path.read_text(encoding="utf-8")
]

# What the results do not depend on: how they are kept, reported, downloaded and checked by hash; and what is in the
# digests by its value (records, rows of the catalog and of the locks).
NEUTRAL = (
    "__init__.py", "context.py", "digests.py", "errors.py", "model/", "redact.py", "process/relay.py", "report.py",
    "process/runner.py", "process/sandbox.py", "store.py", "catalog/__init__.py", "locks/__init__.py",
    "downloads/__init__.py", "downloads/authentication.py", "downloads/client.py", "downloads/download.py",
    "downloads/index/", "downloads/tasks.py", "downloads/transport.py", "downloads/urls.py",
    "platforms/__init__.py",
)  # fmt: skip
# Modules whose result is less than all that they do.
PART = {
    "build_matrix.compile": "the arguments and the environment of the compilation are in the digest themselves",
    "build_matrix.verify.cubins": "only the unpacked program is kept",
}


def imports(path: Path) -> Iterator[Path]:
    """The files of this package that a file imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "build_matrix":
            base = PACKAGE.joinpath(*(node.module or "").split(".")[1:])
            for place in (base / alias.name for alias in node.names):
                yield next(p for p in (*_modules(place), *_modules(base)) if p.is_file())


def _modules(place: Path) -> tuple[Path, Path]:
    return place.with_suffix(".py"), place / "__init__.py"


def closure(paths: list[Path]) -> set[str]:
    found: set[str] = set()
    while paths:
        path = paths.pop()
        name = path.relative_to(PACKAGE).as_posix()
        if name not in found and not name.startswith(NEUTRAL):
            found.add(name)
            paths += imports(path) if path.suffix == ".py" else []
    return found


@pytest.mark.parametrize("module", SOURCE_MODULES, ids=lambda module: module.__name__)
def test_what_decides_a_stages_result_is_in_its_digest(module) -> None:  # type: ignore[no-untyped-def]
    named = {path.relative_to(PACKAGE).as_posix() for path in digests.code_files(*module.CODE)}
    assert all((PACKAGE / name).is_file() for name in named)
    if module.__name__ in PART:
        return
    assert closure([Path(module.__file__)]) <= named


def test_every_stage_of_the_store_has_its_code_in_its_digest() -> None:
    """Each call of the store's obtain, find and keep is in a module that has CODE, or keeps what is in its name."""
    callers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"obtain", "keep"}
        and ast.unparse(node.func.value) in {"store", "context.store"}
    }
    having = {Path(module.__file__).relative_to(PACKAGE).as_posix() for module in SOURCE_MODULES}
    # The models and answers of smoke: the code of model_file and reference; the links of a trial: by content.
    assert callers - having == {"verify/smoke.py", "trial/environment.py"}
    assert not [path for path in PACKAGE.rglob("*.py") if re.search(r"^VERSION = \d", path.read_text(), re.MULTILINE)]


@pytest.mark.parametrize("name", ["one.py", "part/two.py", "part/data.toml"])
def test_a_change_of_code_or_data_changes_the_digest_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(digests, "PACKAGE", tmp_path)
    (tmp_path / "part").mkdir()
    for each in ("one.py", "part/two.py", "part/data.toml"):
        (tmp_path / each).write_text("one")
    code_digest.cache_clear()
    before = code_digest("one.py", "part")
    (tmp_path / name).write_text("two")
    code_digest.cache_clear()
    assert code_digest("one.py", "part") != before
    code_digest.cache_clear()


class RecordedError(Exception):
    """The stage asked the store for this result."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What a stage asks of the store, instead of an answer."""
    found: list[tuple[str, str]] = []

    def obtain(_store: Store, stage: str, digest: str, _make: object) -> Path:
        found.append((stage, digest))
        raise RecordedError

    monkeypatch.setattr(Store, "obtain", obtain)
    return found


def test_a_filled_store_is_not_asked_for_what_other_code_made(
    asked: list[tuple[str, str]],
    store: Store,
    reporter,  # type: ignore[no-untyped-def]
    inputs: BuildInputs,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every stage, with its own code and with another's."""
    downloads = Downloads(store, reporter, IndexConfiguration(endpoints=()))
    facts = BuildFacts(
        generator="", architectures=(), cuda_compiler="", cuda_compiler_version="", cxx_compiler_version="",
        cmake_version="", steps=1,
    )  # fmt: skip
    raw = RawWheel(path=tmp_path / "x.whl", facts=facts, flags={}, digest="r")
    program = tmp_path / "ccache"
    program.touch()
    name: CacheProgram = "ccache"
    environment = Environment(python=Path("python"), folder=tmp_path)
    stages: dict[str, Callable[[], object]] = {
        "source": lambda: prepare_source(in_context(store, downloads=downloads), select_sdist("0.3.16"), tmp_path),
        "build-environment": lambda: provision_environment(in_context(store, downloads=downloads), ()),
        "self-test": lambda: self_test(
            in_context(store), inputs.toolchain, inputs.cell.architectures, inputs.compiler, inputs.sysroot
        ),
        "cache-probe": lambda: cache_probe.why_unfit(in_context(store), name, program, inputs),
        "system-needs": lambda: known_system_needs(find_platform("linux-x86_64"), {}, (), store, Path),
        "wheel": lambda: wheel.finish_wheel(in_context(store), raw, inputs, 1, tmp_path),
        "smoke-model": lambda: smoke.prepare_smoke_test(in_context(store, cpus=1), environment, None),
    }
    before = {stage: ask(asked, stage, call) for stage, call in stages.items()}
    for module in ("source", "provision.environment", "provision.small_kernel", "platforms.system_needs", "wheel",
                   "verify.smoke", "compile.cache_probe"):  # fmt: skip
        monkeypatch.setattr(f"build_matrix.{module}.code_digest", lambda *_: "other code")
    after = {stage: ask(asked, stage, call) for stage, call in stages.items()}
    assert {stage for stage in stages if before[stage] == after[stage]} == set()
    for module in ("source", "platforms.system_needs", "wheel", "verify.smoke"):
        monkeypatch.setattr(f"build_matrix.{module}.library_versions", lambda *_: {"a library": "of another version"})
    last = {stage: ask(asked, stage, call) for stage, call in stages.items()}
    assert {stage for stage in stages if last[stage] != after[stage]} == {
        "source", "system-needs", "wheel", "smoke-model",
    }  # fmt: skip


def ask(asked: list[tuple[str, str]], stage: str, call: Callable[[], object]) -> str:
    asked.clear()
    with pytest.raises(RecordedError):
        call()
    ((found, digest),) = asked
    assert found == stage
    return digest


def test_a_toolkit_depends_on_its_code_its_files_and_the_places_of_debians(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Component(project="p", version="1", filename="p.deb", sha256="0" * 64, origin="debian")
    before = toolkits._digest((file,))
    assert toolkits._digest((replace(file, sha256="1" * 64),)) != before
    assert toolkits._digest((replace(file, path="pool/elsewhere"),)) == before
    places = debian.sources()
    monkeypatch.setattr(debian, "sources", lambda: replace(places, debian=replace(places.debian, places={"a": "b"})))
    assert toolkits._digest((file,)) != before
    monkeypatch.undo()
    monkeypatch.setattr(toolkits, "code_digest", lambda *_: "other code")
    assert toolkits._digest((file,)) != before


WHEEL: dict[str, Callable[[BuildInputs], BuildInputs]] = {
    "patch": lambda i: replace(i, source=replace(i.source, patches=(AppliedPatch(name="p", sha256="0"),))),
    "origin of the sdist": lambda i: replace(i, source=replace(i.source, sdist=replace(i.source.sdist, path="x"))),
    "toolkit's release": lambda i: replace(i, toolchain=replace(i.toolchain, release="other")),
    "compiler's name": lambda i: replace(i, compiler=replace(i.compiler, description="other")),
    "cell": lambda i: replace(i, cell=replace(i.cell, profile="check")),
}


def test_a_wheel_depends_on_all_that_its_record_says(inputs: BuildInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = BuildFacts(
        generator="", architectures=(), cuda_compiler="", cuda_compiler_version="", cxx_compiler_version="",
        cmake_version="", steps=1,
    )  # fmt: skip
    raw = RawWheel(path=Path("x.whl"), facts=facts, flags={"A": "1"}, digest="r")
    found = [wheel._digest(raw, inputs)]
    found += [wheel._digest(raw, change(inputs)) for change in WHEEL.values()]
    found += [wheel._digest(replace(raw, flags={"A": "2"}), inputs), wheel._digest(replace(raw, digest="s"), inputs)]
    for target, value in (
        ("build_matrix.wheel.platform.python_version", lambda: "3.99.0"),
        ("build_matrix.wheel.library_versions", lambda *_: {"deflate": "99"}),
        ("build_matrix.wheel.code_digest", lambda *_: "other code"),
        ("build_matrix.wheel.TOOL", "build-matrix 99"),
        ("build_matrix.wheel.WheelRecord", Gpu),  # another schema
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, value)
            found.append(wheel._digest(raw, inputs))
    assert len(set(found)) == len(found)
    elsewhere = replace(inputs, compiler=replace(inputs.compiler, cc="/opt/bin/gcc", cxx="/opt/bin/g++"))
    assert wheel._digest(raw, elsewhere) == found[0]  # a record holds no folder of the machine


def test_a_verdict_depends_on_the_wheel_its_record_the_machine_and_all_that_verifies(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b").mkdir()
    for path, content in ((tmp_path / "x.whl", b"a"), (tmp_path / "b" / "x.whl", b"b")):
        path.write_bytes(content)
    wheel = WheelFile(tmp_path / "x.whl")
    gpu = Gpu(name="L4", uuid="GPU-1", compute_capability="8.9")
    found = [verify._inputs(wheel, machine), verify._inputs(WheelFile(tmp_path / "b" / "x.whl"), machine)]
    found += [
        verify._inputs(wheel, replace(machine, **change))
        for change in (
            {"driver_problem": "x"},
            {"libc": "glibc 2.41"},
            {"python": "3.99"},
            {"cpus": 99},
            {"driver": Driver(version="1", cuda="13.0")},
            {"environment": HostEnvironment(container="docker")},
            {"gpus": (gpu,)},
            {"gpus": (gpu, gpu)},
            {"gpus": (replace(gpu, uuid="GPU-2"),)},
            {"gpus": (replace(gpu, compute_capability="9.0"),)},
            {"gpus": (replace(gpu, mig=True),)},
        )
    ]
    for name in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "/somewhere")
            found.append(verify._inputs(wheel, machine))
    with monkeypatch.context() as patch:
        patch.setattr(verify, "library_versions", lambda *_: {"numpy": "99"})
        found.append(verify._inputs(wheel, machine))
    with monkeypatch.context() as patch:
        patch.setattr(verify, "code_digest", lambda *_: "other bounds")
        found.append(verify._inputs(wheel, machine))
    with monkeypatch.context() as patch:
        patch.setattr(verify, "Verdict", Gpu)  # another schema
        found.append(verify._inputs(wheel, machine))
    (tmp_path / "x.whl.json").write_text("{}")
    found.append(verify._inputs(wheel, machine))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    "module", [numbers, smoke, model_file, reference, verify.static, verify.child, child, harness, watch]
)
def test_bounds_tokens_models_and_checks_are_in_the_digest_of_a_verdict(module) -> None:  # type: ignore[no-untyped-def]
    assert Path(module.__file__) in set(digests.code_files(*verify.CODE))


# --- content ---------------------------------------------------------------------------------------------


def tree(folder: Path) -> Path:
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "file").write_text("text")
    (folder / "link").symlink_to("a/file")
    return folder


def test_a_folders_digest_is_of_names_contents_links_and_what_can_be_run(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree")
    found = [tree_digest(root)]
    assert tree_digest(tree(tmp_path / "elsewhere")) == found[0]
    os.utime(root / "a" / "file", (1, 1))
    (root / "empty").mkdir()
    assert tree_digest(root) == found[0]
    (root / "a" / "file").write_text("texT")
    found.append(tree_digest(root))
    (root / "a" / "file").chmod(0o755)
    found.append(tree_digest(root))
    (root / "a" / "file").rename(root / "a" / "other")
    found.append(tree_digest(root))
    (root / "link").unlink()
    (root / "link").symlink_to("a/other")
    found.append(tree_digest(root))
    assert len(set(found)) == len(found)


def test_a_results_content_is_noted_when_it_is_made(tmp_path: Path) -> None:
    root = tree(tmp_path / "result")
    before = tree_digest(root)
    note_content(root, root)
    assert content_digest(root, root) == before == tree_digest(root)
    (root / "a" / "file").write_text("changed later")
    assert content_digest(root, root) == before
    (root / CONTENT).unlink()
    assert content_digest(root, root) == tree_digest(root)


def test_facts_that_gain_a_field_are_not_looked_for_in_an_old_store(
    inputs: BuildInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    class More(BuildFacts, frozen=True, kw_only=True):
        linker: str = ""

    before = digest_of_inputs(inputs)
    monkeypatch.setattr(compiling, "BuildFacts", More)
    assert digest_of_inputs(inputs) != before
