"""The proof itself: what a child answers holds, or one check says what does not. No wheel runs, no GPU is needed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_child import (
    FakeChild,
    FakeWatch,
    make_smoke_test,
    model_of,
    right_layers,
    right_logits,
    truth,
    with_error,
    write_cpu_logits,
)

from build_matrix.model import Check, Gpu, RunFacts
from build_matrix.trial import child, harness
from build_matrix.verify import child as program
from build_matrix.verify.model_file import MODELS, Model, layer_bytes
from build_matrix.verify.numbers import BOUNDS, PRODUCT, SINGLE
from build_matrix.verify.smoke import SmokeResult, run_on_cpu, run_on_gpu

GPU = Gpu(name="NVIDIA L4", uuid="GPU-0123", compute_capability="8.9")
SOME, EVERY = "gpu-F16-8", "gpu-F16-99"
WEIGHTS = 16 * layer_bytes("F16")  # what the process must hold more with all 24 layers than with 8
GOOD_MEMORY = {SOME: 1_000_000, EVERY: 1_000_000 + WEIGHTS}
GIB = 1 << 30
DEEP = [model for model in MODELS if not model.product]
PRODUCTS = [model for model in MODELS if model.product]

Change = Callable[[Mapping[str, Any]], Any]


@pytest.fixture(autouse=True)
def watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "Watch", FakeWatch)
    monkeypatch.setattr(FakeWatch, "process_memory", GOOD_MEMORY)
    monkeypatch.setattr(FakeWatch, "device_memory", {})


def on_cpu(
    monkeypatch: pytest.MonkeyPatch, scratch: Path, answer: FakeChild, model: Path | None = None
) -> dict[str, Check]:
    return by_name(cpu_result(monkeypatch, scratch, answer, model))


def cpu_result(
    monkeypatch: pytest.MonkeyPatch, scratch: Path, answer: FakeChild, model: Path | None = None
) -> SmokeResult:
    monkeypatch.setattr(child, "run", answer)
    return run_on_cpu(make_smoke_test(scratch, model), "0.3.16+cu130.sm89")


def on_gpu(
    monkeypatch: pytest.MonkeyPatch, scratch: Path, answer: FakeChild, visible: str = "GPU-0123"
) -> dict[str, Check]:
    return by_name(gpu_result(monkeypatch, scratch, answer, visible))


def gpu_result(
    monkeypatch: pytest.MonkeyPatch,
    scratch: Path,
    answer: FakeChild,
    visible: str = "GPU-0123",
    model: Path | None = None,
) -> SmokeResult:
    monkeypatch.setattr(child, "run", answer)
    test = make_smoke_test(scratch, model)
    write_cpu_logits(test)
    return run_on_gpu(test, GPU, visible)


def by_name(result: SmokeResult) -> dict[str, Check]:
    assert all(isinstance(check.passed, bool) for check in result.checks)
    return {check.name: check for check in result.checks}


def failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if not check.passed}


def only(name: str, wrong: Change, right: Change = right_logits) -> Change:
    """``wrong`` for the job or the model of this name, ``right`` for all others."""
    return lambda job: wrong(job) if name in {job["name"], model_of(job)} else right(job)


# --- with the GPU hidden -------------------------------------------------------------------------------


def test_a_wheel_that_answers_right_on_the_cpu_passes_every_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = FakeChild(tmp_path)
    result = cpu_result(monkeypatch, tmp_path, answer)
    assert result.passed
    assert [check.name for check in result.checks] == ["import", "offload registered", "numbers on the CPU"]
    assert result.checks[0].detail == "0.3.16"
    assert result.checks[1].detail == "llama_supports_gpu_offload() is True with the GPU hidden"
    for model in MODELS:
        assert f"{model.name} " in result.checks[2].detail
    assert result.facts.finished
    assert (result.facts.code, result.facts.timed_out, result.facts.memory_exceeded) == (0, 0.0, False)
    assert result.facts.backends == ("cuda: loaded",)


def test_the_child_sees_no_gpu_and_nothing_of_the_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver = tmp_path / "driver"
    driver.mkdir()
    (driver / "libcuda.so.1").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/usr/local/cuda/lib64::{driver}")
    monkeypatch.setenv("PYTHONPATH", "/leak")
    answer = FakeChild(tmp_path)
    cpu_result(monkeypatch, tmp_path, answer)
    assert answer.argv == [
        str(tmp_path / "bin/python"),
        "-I",
        harness.__file__,
        program.__file__,
        str(tmp_path / "jobs.json"),
    ]
    assert answer.env.pop("CUDA_VISIBLE_DEVICES") == ""
    assert answer.env.pop("LD_LIBRARY_PATH") == str(driver)
    assert answer.env.pop("HOME") == answer.env.pop("TMPDIR") == str(tmp_path)
    assert set(answer.env) == {"PATH", "LC_ALL"}
    assert answer.timeout == 180
    assert answer.started_in == tmp_path
    assert (FakeWatch.last.uuid, FakeWatch.last.memory_limit, FakeWatch.last.pids) == ("", 8 * GIB, [4711])


def test_each_model_is_computed_on_the_cpu_alone_token_by_token_and_in_one_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = FakeChild(tmp_path)
    cpu_result(monkeypatch, tmp_path, answer)
    assert [job["name"] for job in answer.jobs] == [f"cpu-{model.name}-0" for model in MODELS]
    for job, model in zip(answer.jobs, MODELS, strict=True):
        assert (job["layers"], job["every"], job["flash"], job["threads"]) == (0, model.layers + 1, False, 2)
        assert (job["single"], job["context"], len(job["tokens"]), job["text"]) == (8, 768, 528, "")
        assert (job["model"], job["logits"]) == (
            str(tmp_path / f"{model.name}.gguf"),
            str(tmp_path / job["name"]) + ".f32",
        )


@pytest.mark.parametrize(
    ("facts", "check", "detail"),
    [
        ({"version": "0.3.17"}, "import", "0.3.17 from "),
        ({"folder": "/usr/lib/python3/dist-packages/llama_cpp"}, "import", "0.3.16 from /usr/lib/python3"),
        ({"folder": None}, "import", "0.3.16 from "),
        ({"version": None}, "import", "exit code 0"),
        ({"offload": None}, "offload registered", "llama_supports_gpu_offload() is None"),
        ({"finished": False}, "numbers on the CPU", "exit code 0"),
        ({"code": 1}, "numbers on the CPU", "exit code 1"),
        ({"code": -int(signal.SIGSEGV)}, "numbers on the CPU", "ended by signal 11 (SIGSEGV)"),
    ],
)
def test_an_answer_that_is_wrong_on_the_cpu_fails_its_own_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, facts: dict[str, Any], check: str, detail: str
) -> None:
    result = cpu_result(monkeypatch, tmp_path, FakeChild(tmp_path, **facts))
    assert failed(by_name(result)) == {check}
    assert by_name(result)[check].detail.startswith(detail)
    assert not result.passed


def test_an_offload_that_is_off_is_still_registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not failed(on_cpu(monkeypatch, tmp_path, FakeChild(tmp_path, offload=False)))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_numbers_on_the_cpu_hold_up_to_the_bound_of_their_kind_and_no_further(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Model
) -> None:
    rows = 528 if model.product else 48  # so many are compared

    def off(factor: float) -> Change:
        right = truth(model.name)
        wrong = np.concatenate([with_error(right[:rows], factor * BOUNDS[model.kind]), right[rows:]])
        return only(model.name, lambda _: wrong)

    assert not failed(on_cpu(monkeypatch, tmp_path, FakeChild(tmp_path, logits=off(0.98))))
    checks = on_cpu(monkeypatch, tmp_path, FakeChild(tmp_path, logits=off(1.02)))
    assert failed(checks) == {"numbers on the CPU"}
    none = FakeChild(tmp_path / "none", logits=only(model.name, lambda _: None))
    (tmp_path / "none").mkdir()
    assert failed(on_cpu(monkeypatch, tmp_path / "none", none)) == {"numbers on the CPU"}


def test_nothing_of_this_machine_is_in_the_facts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = f"ImportError: {tmp_path}/environment/x.so"
    facts = cpu_result(monkeypatch, tmp_path, FakeChild(tmp_path, extra=[line, "  "])).facts
    assert facts.log == (
        "ImportError: /verify/environment/x.so",
        *(line for line in facts.log if line.startswith("load_tensors")),
    )
    assert facts.job == "cpu-Q4_K-product-0"


# --- on a GPU ------------------------------------------------------------------------------------------


def test_a_wheel_that_answers_right_on_the_gpu_passes_every_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = FakeChild(tmp_path)
    checks = on_gpu(monkeypatch, tmp_path, answer)
    assert list(checks) == ["layers offloaded", "GPU memory", "numbers on the GPU"]
    assert not failed(checks)
    assert checks["layers offloaded"].detail == "0/25, 8/25, 16/25, 7/7, 25/25, 2/2"
    names = [job["name"] for job in answer.jobs]
    assert names[:3] == ["gpu-F16-0", "gpu-F16-8", "gpu-F16-16"]
    whole = [name for m in DEEP for name in (f"gpu-{m.name}-99", f"gpu-{m.name}-99-flash")]
    assert names[3:] == [*whole, *(f"gpu-{model.name}-99" for model in PRODUCTS)]
    assert [job["flash"] for job in answer.jobs] == [name.endswith("-flash") for name in names]
    for name in names:
        assert f"{name.removeprefix('gpu-')} " in checks["numbers on the GPU"].detail
    assert FakeWatch.last.uuid == GPU.uuid
    assert FakeWatch.last.stages == [stage for name in names for stage in ("", name, "")]


@pytest.mark.parametrize(("visible", "expected"), [("GPU-0123", "GPU-0123"), ("", None)])
def test_the_gpu_is_named_to_cuda_unless_the_choice_is_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str, expected: str | None
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    answer = FakeChild(tmp_path)
    on_gpu(monkeypatch, tmp_path, answer, visible)
    assert answer.env.get("CUDA_VISIBLE_DEVICES") == expected


@pytest.mark.parametrize("name", ["gpu-F16-0", "gpu-F16-8", "gpu-F16-16", "gpu-F32-99", "gpu-Q4_K-99-flash"])
@pytest.mark.parametrize("wrong", ["another layer", "one layer more in all", "nothing"])
def test_a_layer_that_is_not_where_it_was_asked_for_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, wrong: str
) -> None:
    def layers(job: Mapping[str, Any]) -> tuple[int, int] | None:
        some, every = right_layers(job) or (0, 0)
        return {"another layer": (abs(some - 1), every), "one layer more in all": (some, every + 1)}.get(wrong)

    checks = on_gpu(monkeypatch, tmp_path, FakeChild(tmp_path, layers=only(name, layers, right_layers)))
    assert failed(checks) == {"layers offloaded"}
    assert ("none" in checks["layers offloaded"].detail) == (wrong == "nothing")


@pytest.mark.parametrize("grown", [WEIGHTS, WEIGHTS - 1, 0])
@pytest.mark.parametrize("whose", ["process", "device"])
def test_the_memory_must_grow_by_the_weights_of_the_layers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, grown: int, whose: str
) -> None:
    monkeypatch.setattr(FakeWatch, "process_memory", {})
    monkeypatch.setattr(FakeWatch, f"{whose}_memory", {SOME: 5, EVERY: 5 + grown})
    check = on_gpu(monkeypatch, tmp_path, FakeChild(tmp_path))["GPU memory"]
    assert check.passed == (grown == WEIGHTS)
    name = {"process": "the process's own memory", "device": "the GPU's memory in use"}[whose]
    assert check.detail == f"{name} grew by {grown / 1e6:.0f} MB from 8 layers to all, weights {WEIGHTS / 1e6:.0f} MB"


@pytest.mark.parametrize("seen", [{}, {SOME: 5}, {EVERY: 5 + WEIGHTS}])
def test_memory_that_nothing_shows_is_no_proof(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen: dict[str, int]
) -> None:
    monkeypatch.setattr(FakeWatch, "process_memory", seen)
    check = on_gpu(monkeypatch, tmp_path, FakeChild(tmp_path))["GPU memory"]
    assert not check.passed
    assert "NVML shows no memory" in check.detail


def test_what_the_process_itself_holds_counts_before_what_is_in_use_on_the_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(FakeWatch, "device_memory", {SOME: 5, EVERY: 6})
    assert on_gpu(monkeypatch, tmp_path, FakeChild(tmp_path))["GPU memory"].passed
    monkeypatch.setattr(FakeWatch, "process_memory", {SOME: 5, EVERY: 6})
    monkeypatch.setattr(FakeWatch, "device_memory", GOOD_MEMORY)
    assert not on_gpu(monkeypatch, tmp_path, FakeChild(tmp_path))["GPU memory"].passed


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("gpu-F16-0", BOUNDS["F16"]),
        ("gpu-F16-16", BOUNDS["F16"]),
        *((f"gpu-{model.name}-99", BOUNDS[model.kind]) for model in DEEP),
        *((f"gpu-{model.name}-99-flash", BOUNDS[model.kind]) for model in DEEP),
        *((f"gpu-{model.name}-99", PRODUCT) for model in PRODUCTS),
    ],
)
def test_numbers_on_the_gpu_hold_up_to_the_bound_of_their_kind_and_no_further(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, bound: float
) -> None:
    def off(factor: float) -> Change:
        def wrong(job: Mapping[str, Any]) -> np.ndarray:
            right = truth(model_of(job))
            first = 0 if "product" in name else 8  # the first tokens alone have a sharper bound
            error = (
                factor * bound * (right.astype(np.float64) ** 2).sum() / (right[first:].astype(np.float64) ** 2).sum()
            )
            return np.concatenate([right[:first], with_error(right[first:], error)])

        return only(name, wrong)

    assert not failed(on_gpu(monkeypatch, tmp_path, FakeChild(tmp_path, logits=off(0.98))))
    checks = on_gpu(monkeypatch, tmp_path, FakeChild(tmp_path, logits=off(1.02)))
    assert failed(checks) == {"numbers on the GPU"}
    assert checks["numbers on the GPU"].detail.startswith(f"wrong: {name.removeprefix('gpu-')} ")


@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_the_first_tokens_alone_have_a_sharper_bound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    def off(factor: float, row: int) -> Change:
        right = truth(kind)
        wrong = right.astype(np.float64)
        power = (wrong[:8] ** 2).sum()
        wrong[row, 0] += np.sqrt(factor * SINGLE[kind] * power)  # type: ignore[index]
        return only(f"gpu-{kind}-99", lambda _: wrong)

    assert not failed(on_gpu(monkeypatch, tmp_path, FakeChild(tmp_path, logits=off(0.9, 7))))
    assert not failed(on_gpu(monkeypatch, tmp_path, FakeChild(tmp_path, logits=off(1.1, 8))))
    checks = on_gpu(monkeypatch, tmp_path, FakeChild(tmp_path, logits=off(1.1, 7)))
    assert failed(checks) == {"numbers on the GPU"}
    assert f"{kind}-99, first 8 alone" in checks["numbers on the GPU"].detail


def test_a_product_is_compared_with_numpy_and_not_with_the_wheels_own_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A wheel that is wrong in the same way on both sides is wrong."""
    both = FakeChild(tmp_path, logits=only("Q8_0-product", lambda job: with_error(truth(model_of(job)), 5e-5)))
    assert not failed(on_cpu(monkeypatch, tmp_path, both)), "within the CPU's own bound"
    monkeypatch.setattr(child, "run", both)
    assert failed(by_name(run_on_gpu(make_smoke_test(tmp_path), GPU, ""))) == {"numbers on the GPU"}


def test_a_child_that_does_not_finish_proves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checks = on_gpu(monkeypatch, tmp_path, FakeChild(tmp_path, finished=False))
    assert failed(checks) == {"numbers on the GPU"}
    assert checks["numbers on the GPU"].detail == "exit code 0; 23 of 23 computed"
    half = FakeChild(tmp_path / "b", code=-6, logits=lambda j: None if "Q4" in j["name"] else right_logits(j))
    (tmp_path / "b").mkdir()
    checks = on_gpu(monkeypatch, tmp_path / "b", half)
    assert checks["numbers on the GPU"].detail == "ended by signal 6 (SIGABRT); 17 of 23 computed"


def test_a_child_that_computes_nothing_proves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = gpu_result(monkeypatch, tmp_path, FakeChild(tmp_path, code=-6, finished=False, logits=lambda _: None))
    assert by_name(result)["numbers on the GPU"].detail == "ended by signal 6 (SIGABRT); 0 of 23 computed"
    cpu = cpu_result(monkeypatch, tmp_path, FakeChild(tmp_path, code=-6, finished=False, logits=lambda _: None))
    assert by_name(cpu)["numbers on the CPU"].detail == "ended by signal 6 (SIGABRT)"


def test_of_a_child_that_says_nothing_only_its_end_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silent: dict[str, Any] = dict.fromkeys(("version", "folder", "offload", "backends"))
    answer = FakeChild(tmp_path, code=3, finished=False, logits=lambda _: None, layers=lambda _: None, **silent)
    facts = cpu_result(monkeypatch, tmp_path, answer).facts
    assert facts == RunFacts(code=3, job=f"cpu-{MODELS[-1].name}-0")


def test_a_child_that_takes_too_long_or_too_much_memory_proves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = gpu_result(monkeypatch, tmp_path, FakeChild(tmp_path, code=-9, timed_out=True))
    assert by_name(result)["numbers on the GPU"].detail.startswith("did not finish within 180 s; ")
    assert (result.facts.timed_out, result.facts.finished) == (180.0, False)
    monkeypatch.setattr(FakeWatch, "stage", lambda self, _: setattr(self, "exceeded", True))
    result = gpu_result(monkeypatch, tmp_path, FakeChild(tmp_path, code=-9))
    assert result.facts.memory_exceeded
    assert by_name(result)["numbers on the GPU"].detail.startswith("stopped because it took too much memory")


def test_the_gpus_name_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = ["cuda: no (CUDA_VISIBLE_DEVICES='GPU-0123')", "device GPU-0123 is lost"]
    answer = FakeChild(tmp_path, extra=lines, backends=lines)
    facts = gpu_result(monkeypatch, tmp_path, answer).facts
    assert facts.log[:2] == facts.backends == ("cuda: no", "device GPU is lost")
    assert "GPU-0123" not in str(gpu_result(monkeypatch, tmp_path, answer, visible="").facts)


# --- with a model of the user's ------------------------------------------------------------------------


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"x" * 1000)
    return path


def test_a_model_of_the_users_is_computed_too_with_room_and_time_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gguf: Path
) -> None:
    answer = FakeChild(tmp_path)
    checks = on_cpu(monkeypatch, tmp_path, answer, gguf)
    assert not failed(checks)
    assert checks["mine.gguf"].detail == "40 tokens computed on the CPU"
    assert (answer.timeout, FakeWatch.last.memory_limit) == (1800, 8 * GIB + 2000)
    job = answer.jobs[-1]
    assert (job["name"], job["model"], job["layers"], job["flash"]) == ("cpu-model-0", str(gguf), 0, False)
    assert job["text"]
    assert job["tokens"] == []
    assert job["threads"] == 2
    whole = FakeChild(tmp_path)
    result = gpu_result(monkeypatch, tmp_path, whole, model=gguf)
    assert not failed(by_name(result))
    assert by_name(result)["mine.gguf"].detail.startswith("33/33 layers; gpu-model-99 0.0e+00 of 4e-03, ")
    assert [(job["name"], job["layers"], job["flash"]) for job in whole.jobs[-2:]] == [
        ("gpu-model-99", 99, False),
        ("gpu-model-99-flash", 99, True),
    ]


@pytest.mark.parametrize("name", ["gpu-model-99", "gpu-model-99-flash"])
def test_a_model_of_the_users_that_is_wrong_on_the_gpu_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gguf: Path, name: str
) -> None:
    def off(factor: float) -> Change:
        return only(name, lambda job: with_error(right_logits(job), factor * max(BOUNDS.values())))  # type: ignore[arg-type]

    def wrong(answer: FakeChild) -> set[str]:
        return failed(by_name(gpu_result(monkeypatch, tmp_path, answer, model=gguf)))

    assert not wrong(FakeChild(tmp_path, logits=off(0.98)))
    assert wrong(FakeChild(tmp_path, logits=off(1.02))) == {"mine.gguf"}
    assert wrong(FakeChild(tmp_path, layers=only(name, lambda _: (32, 33), right_layers))) == {"mine.gguf"}
    assert wrong(FakeChild(tmp_path, layers=only(name, lambda _: None, right_layers))) == {"mine.gguf"}
    result = gpu_result(monkeypatch, tmp_path, FakeChild(tmp_path, layers=lambda _: None), model=gguf)
    assert by_name(result)["mine.gguf"].detail.startswith("0/-1 layers; ")


def test_a_model_of_the_users_that_is_not_computed_on_the_cpu_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gguf: Path
) -> None:
    checks = on_cpu(monkeypatch, tmp_path, FakeChild(tmp_path, code=1, logits=only("mine", lambda _: None)), gguf)
    assert not checks["mine.gguf"].passed
    assert checks["mine.gguf"].detail == "exit code 1"
