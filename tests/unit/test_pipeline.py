"""Joined stages: what is chosen when an archive is out of reach, what one cell and many give, what is built again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from contexts import in_context
from records import make_record

from build_matrix.cli import build as build_command
from build_matrix.cli import page
from build_matrix.errors import (
    ArchiveUnreachableError,
    BuildMatrixError,
    CompileError,
    HashMismatchError,
    MissingPrerequisiteError,
    NotReproducibleError,
    VerificationError,
)
from build_matrix.model import (
    Architecture,
    Cell,
    Component,
    Conditions,
    HostCompiler,
    Ingredients,
    Machine,
    Request,
    Verdict,
    Wheel,
    WheelRecord,
)
from build_matrix.pipeline import build, fetch, reproduce, setup, verification
from build_matrix.pipeline.build import BuildOptions, Built, Recipe
from build_matrix.process.runner import Completed
from build_matrix.reproduce.variation import Disturbance, Variation
from build_matrix.store import Store
from build_matrix.wheelfile.file import WheelFile
from wheels import make_wheel

NOTHING = Ingredients(sdist=Component(project="p", version="1", filename="p", sha256="0"), toolkit=(),
                      toolkit_release="", environment=(), sysroot=())  # fmt: skip
OPTIONS = BuildOptions(Conditions(jobs=1), Path("wheels"))
VERDICT = Verdict(filename="x.whl", sha256="0", offload="untested", reason="no NVIDIA GPU", checks=(), python="3.11",
                  tool="build-matrix", inputs="i")  # fmt: skip

# --- which toolkit ---------------------------------------------------------------------------------------


class Archives:
    """Stands for ``fetch_toolkit``: the toolkits that can be reached, and what was tried, with its origin."""

    def __init__(self, *reachable: tuple[str, str], error: type[BuildMatrixError] = ArchiveUnreachableError) -> None:
        self.reachable = reachable
        self.error = error
        self.tried: list[tuple[str, str]] = []

    def __call__(self, _context: object, cell: Cell, ingredients: Ingredients) -> Ingredients:
        attempt = (cell.cuda, ingredients.toolkit[-1].origin)
        self.tried.append(attempt)
        if attempt in self.reachable:
            return ingredients
        raise self.error(f"{attempt[1]} has no {attempt[0]}.", "Try later.")


@pytest.fixture
def choose(machine: Machine, reporter: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    """``choose`` on a machine with room, with these archives."""
    roomy = msgspec.structs.replace(machine, disk_free=10**12)

    def call(archives: Archives, **request: Any) -> Recipe:
        monkeypatch.setattr(build, "fetch_toolkit", archives)
        return build.choose(in_context(None, reporter=reporter, machine=roomy), Request(**request))

    return call


def test_the_plans_choice_is_taken_if_it_can_be_downloaded(choose: Callable[..., Recipe], reporter: Any) -> None:
    archives = Archives(("13.0", "index"))
    recipe = choose(archives)
    assert (recipe.cell.cuda, recipe.compiler.name) == ("13.0", "gcc")
    assert archives.tried == [("13.0", "index")]
    assert not reporter.lines


def test_the_next_origin_of_the_same_toolkit_is_taken_silently(choose: Callable[..., Recipe], reporter: Any) -> None:
    archives = Archives(("12.4", "debian"))
    recipe = choose(archives, cuda="12.4")
    assert recipe.ingredients.toolkit[-1].origin == "debian"
    assert archives.tried == [("12.4", "redist"), ("12.4", "debian")]
    assert not reporter.lines


def test_the_next_toolkit_is_taken_when_no_origin_of_the_first_answers(
    choose: Callable[..., Recipe], reporter: Any
) -> None:
    archives = Archives(("13.2", "index"))
    assert choose(archives, cuda="13").cell.cuda == "13.2"
    assert archives.tried == [
        ("13.0", "index"), ("13.0", "redist"), ("13.1", "index"), ("13.1", "redist"), ("13.2", "index"),
    ]  # fmt: skip
    assert reporter.lines == ["skipped CUDA 13.0: redist has no 13.0.", "skipped CUDA 13.1: redist has no 13.1."]


def test_toolkits_that_are_skipped_for_the_same_reason_are_one_line(
    choose: Callable[..., Recipe], reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = Archives(("13.2", "index"))
    monkeypatch.setattr(archives, "error", lambda *_: ArchiveUnreachableError("No answer.", "Try later."))
    choose(archives, cuda="13")
    assert reporter.lines == ["skipped CUDA 13.0, 13.1: No answer."]


def test_when_nothing_can_be_reached_the_first_error_counts(choose: Callable[..., Recipe]) -> None:
    archives = Archives()
    with pytest.raises(ArchiveUnreachableError, match=r"index has no 13\.0"):
        choose(archives, cuda="13")
    assert len(archives.tried) == len(set(archives.tried)) > 3
    assert {cuda.partition(".")[0] for cuda, _ in archives.tried} == {"13"}


def test_a_download_that_is_wrong_is_no_reason_to_take_another_toolkit(choose: Callable[..., Recipe]) -> None:
    archives = Archives(error=HashMismatchError)
    with pytest.raises(HashMismatchError):
        choose(archives, cuda="13")
    assert len(archives.tried) == 1


def test_an_installed_toolkit_decides_the_version(
    machine: Machine, reporter: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    taken: list[tuple[str, Path]] = []

    def take(_context: object, cell: Cell, ingredients: Ingredients, root: Path) -> Ingredients:
        taken.append((cell.cuda, root))
        return ingredients

    monkeypatch.setattr(build, "read_installed", lambda _root: ("12.8", ()))
    monkeypatch.setattr(build, "take_installed", take)
    roomy = msgspec.structs.replace(machine, disk_free=10**12)
    recipe = build.choose(in_context(None, reporter=reporter, machine=roomy), Request(cuda="12"), tmp_path)
    assert (recipe.cell.cuda, taken) == ("12.8", [("12.8", tmp_path)])


# --- one cell and many -----------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path: Path, gcc: HostCompiler) -> WheelRecord:
    return make_record(make_wheel(tmp_path / "recorded"), gcc)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, record: WheelRecord, gcc: HostCompiler) -> list[Recipe]:
    """``choose`` and ``build_wheel`` without any work: what is built."""
    recipes: list[Recipe] = []

    def build_wheel(_context: object, recipe: Recipe, _conditions: Conditions, folder: Path) -> Wheel:
        recipes.append(recipe)
        return Wheel(path=folder / "x.whl", record=record)

    monkeypatch.setattr(build, "choose", lambda *_: Recipe(record.cell, gcc, NOTHING, ("a note",)))
    monkeypatch.setattr(build, "build_wheel", build_wheel)
    monkeypatch.setattr(build, "verify_once", lambda *_: VERDICT)
    return recipes


def test_a_wheel_is_built_and_verified_and_the_choice_explained(
    built: list[Recipe], machine: Machine, reporter: Any
) -> None:
    claimed = msgspec.structs.replace(machine, overrides={"BUILD_MATRIX_DRIVER_CUDA": "13.0"})
    result = build.build_one(in_context(None, reporter=reporter, machine=claimed), Request(), OPTIONS)
    assert (result.wheel.path, result.verdict) == (Path("wheels/x.whl"), VERDICT)
    assert reporter.lines[:3] == [
        "llama-cpp-python 0.3.16+cu130.sm89 with gcc 12.2.0", "  a note", "  claimed: BUILD_MATRIX_DRIVER_CUDA=13.0",
    ]  # fmt: skip
    assert result.wheel.record.sha256 in reporter.lines[3]


def test_a_wheel_that_is_not_to_be_verified_has_no_verdict(built: list[Recipe], reporter: Any) -> None:
    options = OPTIONS._replace(verify=False)
    assert build.build_one(in_context(None, reporter=reporter), Request(), options).verdict is None
    assert len(built) == 1


def test_of_many_cells_one_that_fails_or_is_not_verified_does_not_stop_the_others(
    built: list[Recipe], reporter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = build.build_one

    def one(context: Any, request: Request, options: BuildOptions) -> Built:
        if request.cuda == "12.4":
            raise CompileError("No.", "Fix it.")
        return original(context, request, options)

    monkeypatch.setattr(build, "build_one", one)
    requests = {cuda: Request(cuda=cuda) for cuda in ("12.4", "13.0", "13.1")}
    context = in_context(None, reporter=reporter)
    results = list(build.build_all(context, requests, OPTIONS))
    assert [(one.name, type(one.error), one.built is not None) for one in results] == [
        ("12.4", CompileError, False), ("13.0", type(None), True), ("13.1", type(None), True),
    ]  # fmt: skip
    results = list(build.build_all(context, requests, OPTIONS._replace(require_gpu=True)))
    assert [type(one.error) for one in results] == [CompileError, VerificationError, VerificationError]
    assert results[1].built
    assert results[1].built.verdict == VERDICT


@pytest.mark.parametrize(
    ("known", "verified"),
    [
        (None, True),
        (VERDICT, False),
        (msgspec.structs.replace(VERDICT, offload="failed"), True),
    ],
)
def test_a_wheel_is_verified_again_unless_a_passing_verdict_still_holds(
    known: Verdict | None, verified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = msgspec.structs.replace(VERDICT, offload="proven")
    monkeypatch.setattr(verification, "known_verdict", lambda *_: known)
    monkeypatch.setattr(verification, "verify_wheel", lambda *_: new)
    assert verification.verify_once(in_context(None), WheelFile(Path("x.whl"))) == (new if verified else VERDICT)


# --- what is downloaded ----------------------------------------------------------------------------------


def test_a_file_that_two_builds_need_is_listed_once(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, reporter: Any
) -> None:
    files = {cuda: Component(project="p", version="1", filename=f"{cuda}.whl", sha256="0") for cuda in ("a", "b", "c")}
    cells = {"13.0": ["b", "a"], "12.4": ["c", "a"]}
    monkeypatch.setattr(fetch, "read_tool_lock", list)
    monkeypatch.setattr(
        fetch, "cell_files", lambda _context, cell, _targets, _obtain: [files[name] for name in cells[cell.cuda]]
    )
    context = in_context(None, downloads=Path(), reporter=reporter, machine=machine)
    monkeypatch.setattr(fetch, "tool_files", lambda *_: ())
    requests = [Request(cuda=cuda, ignore_driver=True) for cuda in cells]
    needed = fetch.needed_files(context, requests, [], lambda _: None)
    assert needed == [files["a"], files["b"], files["c"]]
    assert reporter.lines == ["llama-cpp-python 0.3.36 with CUDA 13.0", "llama-cpp-python 0.3.36 with CUDA 12.4"]


# --- built again -----------------------------------------------------------------------------------------

CELL = Cell(
    llama="0.3.16",
    cuda="13.0",
    architectures=(Architecture(number=89), Architecture.parse("90-virtual")),
    platform="linux-x86_64",
    profile="check",
    defines={"GGML_AVX512": "ON"},
)


class Runs:
    """Stands for the runner: each build writes a wheel, and a store with a compile cache."""

    def __init__(self, *contents: bytes | None) -> None:
        self.contents = list(contents)
        self.argv: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.masks: list[int] = []
        self.caches: list[bool] = []

    def __call__(self, argv: Sequence[str], *, env: dict[str, str], on_line: Callable[[str], None]) -> Completed:
        self.masks.append(os.umask(0))
        os.umask(self.masks[-1])
        self.argv.append(list(argv))
        self.environments.append(env)
        cache = Path(self.value("--store")) / setup.CACHE_FOLDER
        self.caches.append(cache.is_dir())
        cache.mkdir(exist_ok=True)
        on_line("built")
        content = self.contents.pop(0)
        if content is None:
            return Completed(argv, 6, ("It broke.", "Fix it."), timed_out=False)
        make_wheel(Path(self.value("--wheels")), {"libx.so": content})
        return Completed(argv, 0, (), timed_out=False)

    def value(self, option: str) -> str:
        return self.argv[-1][self.argv[-1].index(option) + 1]


@pytest.fixture
def vary(
    monkeypatch: pytest.MonkeyPatch, store: Store, reporter: Any, gcc: HostCompiler, tmp_path: Path
) -> Callable[..., list[object]]:
    """``vary`` with these runs; what was shown."""
    other = Disturbance(variables={"TZ": "Pacific/Kiritimati"}, umask=0o077, wrapper=("nice", "-n", "19"))
    monkeypatch.setattr(reproduce, "choose", lambda *_: Recipe(CELL, gcc, NOTHING))
    monkeypatch.setattr(reproduce, "choose_variations", lambda *_, **__: (Variation("load", "none", "much"),))
    monkeypatch.setattr(reproduce, "disturbance", lambda *_: other)

    class Nothing:
        def fetch(self, _files: object, _what: str) -> None:
            return None

    def call(runs: Runs, *, cached: bool = True) -> list[object]:
        shown: list[object] = []
        monkeypatch.setattr(reproduce, "cache_program", lambda _: "ccache" if cached else None)
        monkeypatch.setattr(reproduce, "run", runs)
        context = in_context(store, downloads=Nothing(), reporter=reporter)
        reproduce.vary(context, Request(), 4, tmp_path / "wheels", shown.append)
        return shown

    return call


def test_a_cell_is_built_plainly_then_varied_then_from_the_cache(
    vary: Callable[..., list[object]], reporter: Any
) -> None:
    runs = Runs(b"x", b"x", b"x")
    assert vary(runs) == [(Variation("load", "none", "much"),)]
    plain, varied, cached = runs.argv
    assert [plain[plain.index("--jobs") + 1], varied[varied.index("--jobs") + 1]] == ["4", "1"]
    assert {"--no-cache", "--no-sandbox"} <= set(varied)
    assert varied[varied.index("--wrapper") + 1] == "nice -n 19"
    assert not {"--no-cache", "--no-sandbox", "--wrapper"} & {*plain, *cached}
    assert [one["TZ"] for one in runs.environments] == ["UTC", "Pacific/Kiritimati", "UTC"]
    assert runs.masks == [0o022, 0o077, 0o022]
    assert runs.caches == [False, False, True]
    assert reporter.lines[-1].startswith("identical: llama_cpp_python-0.3.16+cu130.sm89-")


def test_each_build_is_of_the_same_cell_with_options_that_the_command_line_has(
    vary: Callable[..., list[object]],
) -> None:
    runs = Runs(b"x", b"x")
    vary(runs, cached=False)
    known = {name for one in page.parameters(build_command.command) for name in one.names}
    for argv in runs.argv:
        assert argv[1:4] == ["-m", "build_matrix", "build"]
        assert {argument for argument in argv[4:] if argument.startswith("--")} <= known
        pairs = list(pairwise(argv))
        assert {("--cuda", "13.0"), ("--llama", "0.3.16"), ("--profile", "check"), ("--arch", "89-real"),
                ("--arch", "90-virtual"), ("--define", "GGML_AVX512=ON")} <= set(pairs)  # fmt: skip


def test_a_varied_build_that_gives_other_bytes_is_not_reproducible(
    vary: Callable[..., list[object]], tmp_path: Path
) -> None:
    with pytest.raises(NotReproducibleError, match=r"is not reproducible: llama_cpp/lib/libx\.so"):
        vary(Runs(b"x", b"y"))
    assert len(list((tmp_path / "wheels" / "different").glob("*/*.whl"))) == 2


def test_a_build_from_the_cache_that_gives_other_bytes_is_not_reproducible(vary: Callable[..., list[object]]) -> None:
    with pytest.raises(NotReproducibleError, match="is not reproducible"):
        vary(Runs(b"x", b"x", b"y"))


def test_a_varied_build_that_fails_says_which_and_why(vary: Callable[..., list[object]]) -> None:
    before = os.umask(0o022)
    os.umask(before)
    with pytest.raises(NotReproducibleError, match=r"The second build failed: It broke\."):
        vary(Runs(b"x", None))
    assert os.umask(before) == before


@pytest.fixture
def recorded(tmp_path: Path, gcc: HostCompiler) -> Path:
    """A wheel and its record, whose toolkit was downloaded."""
    wheel = make_wheel(tmp_path / "recorded", {"libx.so": b"x"})
    write_record(wheel, gcc, origin="index")
    return wheel


def write_record(wheel: Path, compiler: HostCompiler, origin: Any) -> None:
    toolkit = Component(project="cuda", version="13.0", filename="t", sha256="0", origin=origin)
    record = msgspec.structs.replace(make_record(wheel, compiler), toolkit=(toolkit,), tool="build-matrix 0.1.0")
    wheel.with_name(f"{wheel.name}.json").write_bytes(msgspec.json.encode(record))


@pytest.fixture
def rebuild(
    monkeypatch: pytest.MonkeyPatch, store: Store, reporter: Any, machine: Machine, tmp_path: Path
) -> Callable[..., list[Recipe]]:
    """``rebuild`` with a build that gives a library of this content."""

    def call(wheel: Path, content: bytes, here: Machine = machine, root: Path | None = None) -> list[Recipe]:
        recipes: list[Recipe] = []

        def build_wheel(context: Any, recipe: Recipe, _conditions: Conditions, folder: Path) -> Wheel:
            assert context.store.root != store.root
            recipes.append(recipe)
            again = make_wheel(folder, {"libx.so": content})
            return Wheel(path=again, record=make_record(again))

        monkeypatch.setattr(reproduce, "build_wheel", build_wheel)
        context = in_context(store, reporter=reporter, machine=here)
        reproduce.rebuild(context, wheel, 1, tmp_path / "wheels", root)
        return recipes

    return call


def test_a_wheel_is_built_again_from_what_its_record_names(
    rebuild: Callable[..., list[Recipe]], recorded: Path, gcc: HostCompiler, reporter: Any
) -> None:
    (recipe,) = rebuild(recorded, b"x")
    assert (recipe.cell.cuda, recipe.compiler, recipe.ingredients.toolkit[0].project) == ("13.0", gcc, "cuda")
    assert reporter.lines[-1].startswith(f"identical: {recorded.name}")


def test_a_rebuild_that_gives_other_bytes_names_another_compiler_as_its_cause(
    rebuild: Callable[..., list[Recipe]], recorded: Path, machine: Machine, gcc: HostCompiler
) -> None:
    with pytest.raises(NotReproducibleError, match=r"is not reproducible: llama_cpp/lib/libx\.so"):
        rebuild(recorded, b"y")
    newer = msgspec.structs.replace(gcc, identity="j", description="gcc 13")
    with pytest.raises(NotReproducibleError, match="the compiler is gcc 13 instead of the recorded gcc"):
        rebuild(recorded, b"y", msgspec.structs.replace(machine, compilers=(newer,)))


def test_a_wheel_of_an_installed_toolkit_needs_that_toolkit_again(
    rebuild: Callable[..., list[Recipe]], recorded: Path, gcc: HostCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(recorded, gcc, origin="installed")
    with pytest.raises(MissingPrerequisiteError) as caught:
        rebuild(recorded, b"x")
    assert "--toolkit-root" in caught.value.remedy
    monkeypatch.setattr(reproduce, "take_installed", lambda *_: NOTHING)
    with pytest.raises(MissingPrerequisiteError, match="differs from the recorded one"):
        rebuild(recorded, b"x", root=Path("/opt/cuda"))


def test_fewer_compilers_than_cpus_are_explained(machine: Machine, reporter: Any) -> None:
    small = msgspec.structs.replace(machine, cpus=8, memory_free=3_200_000_000)
    context = in_context(None, reporter=reporter, machine=small)
    assert (setup.choose_jobs(context, None), setup.choose_jobs(context, 7)) == (2, 7)
    assert len(reporter.lines) == 1
    assert "2 jobs on 8 CPUs" in reporter.lines[0]
