"""What is laid out before a wheel runs: its dependencies, the models and their answers, the machine code inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contexts import in_context

from build_matrix.errors import MissingPrerequisiteError
from build_matrix.locks import locked_toolkits, read_lock, select_platform, select_wheels
from build_matrix.model import Check, Component, parse_label
from build_matrix.process.runner import Completed
from build_matrix.store import Store
from build_matrix.trial import environment as installing
from build_matrix.trial.environment import Environment, install_wheel
from build_matrix.verify import cubins, model_file, reference, smoke
from build_matrix.verify.cubins import check_cubins
from build_matrix.verify.model_file import MODELS, Model, prompt
from build_matrix.verify.smoke import SmokeTest, prepare_smoke_test
from build_matrix.wheelfile.file import WheelFile
from wheels import make_wheel


class FakeDownloads:
    """Gives every file that is asked for, without content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.asked: list[tuple[tuple[Component, ...], str]] = []

    def fetch(self, files: tuple[Component, ...], what: str) -> list[Path]:
        self.asked.append((tuple(files), what))
        paths = [self._folder / file.filename for file in files]
        for path in paths:
            path.touch()
        return paths


@pytest.fixture
def downloads(store: Store) -> FakeDownloads:
    folder = store.root / "downloads"
    folder.mkdir()
    return FakeDownloads(folder)


@pytest.mark.parametrize(
    ("label", "lock"), [("cu130.sm89", "13.0"), ("cu124.sm89", "12.4"), ("cu139.sm89", "newest of 13")]
)
def test_a_wheel_is_installed_with_what_its_cuda_version_locks_and_nothing_else(
    store: Store, downloads: FakeDownloads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str, lock: str
) -> None:
    done: list[tuple[Any, ...]] = []

    def create(folder: Path, cache: Path) -> Path:
        done.append((folder, cache))
        return folder / "bin/python"

    def install(wheels: list[Path], cache: Path, **options: Any) -> None:
        done.append((wheels, cache, options))

    monkeypatch.setattr(installing, "create_environment", create)
    monkeypatch.setattr(installing, "install_wheels", install)
    claimed = parse_label(label)
    assert claimed
    python = install_wheel(in_context(store, downloads=downloads), WheelFile(Path("x.whl")), claimed, tmp_path).python  # type: ignore[arg-type]
    minor = [one for one in locked_toolkits() if one.startswith("13.")][-1] if "newest" in lock else lock
    files = (*select_wheels(read_lock("runtime")), *select_platform(read_lock(f"cuda-{minor}"), "linux-x86_64"))
    assert downloads.asked == [(files, "the wheel's dependencies")]
    assert python == tmp_path / "environment/bin/python"
    cache = store.root / "uv-cache"
    assert done[0] == (tmp_path / "environment", cache)
    wheels, used, options = done[1]
    assert (wheels, used) == ([Path("x.whl")], cache)
    links = options.pop("find_links")
    assert options == {"python": python}
    assert sorted(path.name for path in links.iterdir()) == sorted(file.filename for file in files)
    for path in links.iterdir():
        assert not path.readlink().is_absolute(), "the store can be moved"
        assert path.resolve() == (store.root / "downloads" / path.name).resolve()


def test_wheels_of_one_cuda_version_share_their_links_and_others_have_others(
    store: Store, downloads: FakeDownloads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links: list[Path] = []
    monkeypatch.setattr(installing, "create_environment", lambda folder, _: folder / "bin/python")
    monkeypatch.setattr(installing, "install_wheels", lambda *_, find_links, **__: links.append(find_links))
    for text in ("cu130.sm89", "cu124.sm89", "cu130.sm90"):
        label = parse_label(text)
        assert label
        install_wheel(in_context(store, downloads=downloads), WheelFile(Path("x.whl")), label, tmp_path)  # type: ignore[arg-type]
    assert links[0] == links[2]
    assert {path.name for path in links[0].iterdir()} != {path.name for path in links[1].iterdir()}


def test_models_and_their_answers_are_made_once_and_used_by_every_smoke_test(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def write(path: Path, model: Model) -> None:
        made.append(model.name)
        path.write_text(model.name)

    def answers(model: Model, tokens: list[int]) -> np.ndarray:
        made.append(f"{model.name} {len(tokens)}")
        assert tokens == prompt(528)[: len(tokens)]
        return np.full((len(tokens), 2), len(tokens), dtype=np.float64)

    monkeypatch.setattr(model_file, "write_model", write)
    monkeypatch.setattr(reference, "reference_logits", answers)
    for number, cpus in enumerate((4, 64)):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        environment = Environment(python=Path("python"), folder=scratch)
        test = prepare_smoke_test(in_context(store, cpus=cpus), environment, tmp_path / "mine.gguf")
        assert (test.environment, test.folder, test.model) == (environment, scratch, tmp_path / "mine.gguf")
        assert test.threads == min(cpus, 16)
        assert {path.resolve().parts[-3] for path in scratch.iterdir()} == {"smoke-model"}
        assert {path.parts[-3] for path in test.references.values()} == {"smoke-reference"}
        assert sorted(path.name for path in scratch.iterdir()) == sorted(f"{model.name}.gguf" for model in MODELS)
        assert all((scratch / f"{model.name}.gguf").read_text() == model.name for model in MODELS)
        for model in MODELS:
            rows = 528 if model.product else 48
            assert np.fromfile(test.references[model.name], dtype="<f4").tolist() == [rows] * 2 * rows
    assert len(made) == 2 * len(MODELS)
    environment = Environment(python=Path("python"), folder=_folder(tmp_path))
    assert prepare_smoke_test(in_context(store, cpus=1), environment, None).model is None
    assert SmokeTest(environment=environment, threads=1, references={}).model is None


@pytest.mark.parametrize(
    ("name", "value", "stages"),
    [
        ("TOKENS", 529, {"smoke-reference"}),
        ("REFERENCE_TOKENS", 49, {"smoke-reference"}),
        ("library_versions", lambda *_: {"numpy": "another"}, {"smoke-model", "smoke-reference"}),
        ("code_digest", lambda *_: "other code", {"smoke-model", "smoke-reference"}),
        ("MOST_THREADS", 1, set()),
    ],
)
def test_what_the_models_must_answer_is_computed_anew_where_what_it_follows_from_is_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store, name: str, value: object, stages: set[str]
) -> None:
    asked: list[dict[str, str]] = []

    def obtain(_: Store, stage: str, digest: str, __: object) -> Path:
        asked[-1][stage] = digest
        return _folder(tmp_path)

    monkeypatch.setattr(Store, "obtain", obtain)
    for _ in range(2):
        asked.append({})
        prepare_smoke_test(in_context(store, cpus=1), Environment(python=Path("python"), folder=tmp_path), None)
        monkeypatch.setattr(smoke, name, value)
    assert set(asked[0]) == set(asked[1]) == {"smoke-model", "smoke-reference"}
    assert {stage for stage, digest in asked[0].items() if asked[1][stage] != digest} == stages


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "another"
    folder.mkdir(exist_ok=True)
    return folder


# --- machine code --------------------------------------------------------------------------------------

ELF = "ELF file    1: libggml-cuda.1.sm_89.cubin"
PTX = "PTX file    1: libggml-cuda.1.sm_90.ptx"


class FakeCuobjdump:
    """Answers for each library and option; keeps how it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
        self.elf: list[str] = [ELF]
        self.ptx: list[str] = ["cuobjdump info    : File 'x' does not contain device code"]
        self.code = 0
        self._cache = store.root / "uv-cache"
        self.asked: list[tuple[str, ...]] = []
        self.installed: list[Path] = []
        monkeypatch.setattr(cubins, "run", self._run)
        monkeypatch.setattr(cubins, "install_wheels", self._install)

    def _install(self, wheels: list[Path], cache: Path, *, target: Path) -> None:
        self.installed += wheels
        assert cache == self._cache
        folder = target / "nvidia/cu13/bin"
        folder.mkdir(parents=True)
        (folder / "cuobjdump").touch()

    def _run(self, argv: list[Any], **options: Any) -> Completed:
        assert options == {"env": {"PATH": ""}, "timeout": 300}
        assert argv[0].name == "cuobjdump"
        self.asked.append((argv[1], argv[2].name, argv[2].read_bytes().decode("latin-1")))
        lines = self.elf if argv[1] == "--list-elf" else self.ptx
        return Completed([], self.code, lines, timed_out=False)


@pytest.fixture
def cuobjdump(monkeypatch: pytest.MonkeyPatch, store: Store) -> FakeCuobjdump:
    return FakeCuobjdump(monkeypatch, store)


def machine_code(tmp_path: Path, store: Store, downloads: FakeDownloads, label: str = "cu130.sm89") -> Check:
    files = {"libggml-cuda.so": b"\x7fELF .nv_fatbin", "libggml-base.so": b"\x7fELF", "x.txt": b".nv_fatbin"}
    claimed = parse_label(label)
    assert claimed
    wheel = make_wheel(tmp_path / "wheels", files)
    return check_cubins(in_context(store, downloads=downloads), WheelFile(wheel), claimed, tmp_path)  # type: ignore[arg-type]


def test_the_machine_code_inside_is_that_of_the_label(
    tmp_path: Path, store: Store, downloads: FakeDownloads, cuobjdump: FakeCuobjdump
) -> None:
    check = machine_code(tmp_path, store, downloads)
    assert check == Check(name="cubins", passed=True, detail="label: sm89; found: sm89")
    library = ("libggml-cuda.so", "\x7fELF .nv_fatbin")
    assert cuobjdump.asked == [("--list-elf", *library), ("--list-ptx", *library)]
    files = select_wheels(read_lock("inspect"))
    assert downloads.asked == [(files, "cuobjdump")]
    assert machine_code(tmp_path, store, downloads).passed
    assert len(downloads.asked) == 1, "installed once"


@pytest.mark.parametrize(
    ("label", "elf", "ptx", "inside"),
    [
        ("cu130.sm89", [], [], "none"),
        ("cu130.sm89", [ELF, ELF.replace("89", "80")], [], "sm80 sm89"),
        ("cu130.sm80.sm89", [ELF], [], "sm89"),
        ("cu130.sm89", [ELF], [PTX], "ptx90 sm89"),
        ("cu130.sm89", [ELF.replace("sm_89", "sm_120a")], [], "sm120a"),
        ("cu130.sm89", ["sm_89 is mentioned", ELF + " not at its end"], [], "none"),
    ],
)
def test_other_machine_code_than_the_label_claims_fails(
    tmp_path: Path,
    store: Store,
    downloads: FakeDownloads,
    cuobjdump: FakeCuobjdump,
    label: str,
    elf: list[str],
    ptx: list[str],
    inside: str,
) -> None:
    cuobjdump.elf, cuobjdump.ptx = elf, ptx
    check = machine_code(tmp_path, store, downloads, label)
    codes = " ".join(label.split(".")[1:])
    assert check == Check(name="cubins", passed=False, detail=f"label: {codes}; found: {inside}")


@pytest.mark.parametrize("line", [PTX, PTX.replace("sm_", "compute_"), PTX + "  "])
def test_ptx_is_told_from_machine_code(
    tmp_path: Path, store: Store, downloads: FakeDownloads, cuobjdump: FakeCuobjdump, line: str
) -> None:
    cuobjdump.ptx = [line]
    assert machine_code(tmp_path, store, downloads, "cu130.ptx90.sm89").passed


def test_a_cuobjdump_that_does_not_run_here_is_no_verdict(
    tmp_path: Path, store: Store, downloads: FakeDownloads, cuobjdump: FakeCuobjdump
) -> None:
    cuobjdump.code = 255
    assert machine_code(tmp_path, store, downloads).passed, "it says so too where there is no device code"
    cuobjdump.elf = ["Exec format error"]
    with pytest.raises(
        MissingPrerequisiteError, match="cuobjdump --list-elf failed with exit code 255: Exec format error"
    ):
        machine_code(tmp_path, store, downloads)
