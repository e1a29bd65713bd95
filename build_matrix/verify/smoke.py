"""Does a wheel run? On the CPU with every GPU hidden, and on one GPU: layers, memory, numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from build_matrix.context import Context
from build_matrix.digests import code_digest, library_versions
from build_matrix.model import Check, Gpu, Record, RunFacts, digest_of
from build_matrix.trial.child import ChildResult, JobResult, Limits, replace_text, run_child
from build_matrix.trial.environment import Environment
from build_matrix.verify import child, model_file, reference
from build_matrix.verify.model_file import (
    LIBRARIES,
    MODELS,
    VOCABULARY,
    Model,
    layer_bytes,
    prompt,
    write_models,
)
from build_matrix.verify.numbers import BOUNDS, PRODUCT, SINGLE, Agreement, compare, read_logits
from build_matrix.verify.reference import write_references

if TYPE_CHECKING:
    import numpy as np

SECONDS = 180.0  # for one child
MODEL_SECONDS = 1800.0  # with a model of the user's
MEMORY = 8 << 30  # bytes that a child may hold of its own; of a user's model twice its size more
PROMPT_TOKENS = 512
SINGLE_TOKENS = 8  # computed one by one before the prompt, and as many after it
TOKENS = SINGLE_TOKENS + PROMPT_TOKENS + SINGLE_TOKENS
CONTEXT = 768
REFERENCE_TOKENS = 48
MOST_THREADS = 16
ALL_LAYERS = 99
PARTIAL = next(model for model in MODELS if model.name == "F16")
PARTS = (0, 8, 16)  # layers of its partial offloads
SCRATCH = "/verify"  # how a verdict calls the folder in which a wheel was installed and run
TEXT = "The quick brown fox jumps over the lazy dog, and the dog sleeps on. " * 64

_USERS = "model"  # how the jobs of a user's model are named


class Inference(Record, frozen=True, kw_only=True):
    """A job of the child: one model loaded and computed.

    ``layers`` are to be offloaded, ``every`` is how many the model has, its output counted as one; ``logits`` is the
    file that they are written to; the prompt is ``tokens``, or ``text`` where there are none, of which ``single`` at
    each end are computed one by one.
    """

    name: str
    model: str
    layers: int
    every: int = 0
    flash: bool
    logits: str
    threads: int
    tokens: tuple[int, ...] = ()
    text: str = ""
    single: int = SINGLE_TOKENS
    context: int = CONTEXT


class SmokeTest(Record, frozen=True, kw_only=True):
    """What all runs of a wheel share: its environment, the models there, and what each must answer.

    ``model`` is a GGUF of the user's.
    """

    environment: Environment
    threads: int
    references: dict[str, Path]
    model: Path | None = None

    @property
    def limits(self) -> Limits:
        """Of one run; a model of the user's gets more."""
        if self.model is None:
            return Limits(seconds=SECONDS, memory=MEMORY)
        return Limits(seconds=MODEL_SECONDS, memory=MEMORY + 2 * self.model.stat().st_size)

    @property
    def folder(self) -> Path:
        """Where the models are, and the logits go."""
        return self.environment.folder


class SmokeResult(Record, frozen=True, kw_only=True):
    """What a run showed; ``facts`` tell why a check failed."""

    checks: tuple[Check, ...]
    facts: RunFacts

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)


def prepare_smoke_test(context: Context, environment: Environment, model: Path | None) -> SmokeTest:
    """Lay out the models; they (0.2 GB) and what they must answer are made once for a store."""
    libraries = library_versions(*LIBRARIES)
    models = context.store.obtain("smoke-model", digest_of(code_digest(*model_file.CODE), libraries), write_models)
    for path in models.iterdir():
        (environment.folder / path.name).symlink_to(path)
    folder = context.store.obtain(
        "smoke-reference",
        digest_of(code_digest(*reference.CODE), libraries, TOKENS, REFERENCE_TOKENS),
        lambda target: write_references(target, TOKENS, REFERENCE_TOKENS),
    )
    return SmokeTest(
        environment=environment,
        threads=min(context.machine.cpus, MOST_THREADS),
        references={synthetic.name: folder / f"{synthetic.name}.f32" for synthetic in MODELS},
        model=model,
    )


def run_on_cpu(test: SmokeTest, version: str) -> SmokeResult:
    """With every GPU hidden: ``n_gpu_layers=0`` alone would still compute large batches on one.

    ``version`` is that of the wheel.
    """
    jobs = [_inference(test, "cpu", model, 0, flash=False) for model in MODELS]
    if test.model:
        jobs.append(_users_inference(test, "cpu", 0, flash=False))
    result = _run(test, jobs, {"CUDA_VISIBLE_DEVICES": ""})
    facts = result.facts
    checks = [
        _check_import(facts, version.partition("+")[0], test.folder),
        Check(
            name="offload registered",
            passed=facts.offload is not None,
            detail=f"llama_supports_gpu_offload() is {facts.offload} with the GPU hidden",
        ),
        _check_numbers_on_cpu(test, facts),
    ]
    if test.model:
        checks.append(_check_users_model_on_cpu(test, result, test.model.name))
    return SmokeResult(checks=tuple(checks), facts=facts)


def run_on_gpu(test: SmokeTest, gpu: Gpu, visible: str) -> SmokeResult:
    """On one GPU: layers, memory, numbers against those of the CPU.

    ``visible`` is what CUDA_VISIBLE_DEVICES is set to; it is not set when that is empty.
    """
    partial = [_inference(test, "gpu", PARTIAL, layers, flash=False) for layers in PARTS]
    full = [
        _inference(test, "gpu", model, ALL_LAYERS, flash=flash)
        for model in MODELS
        for flash in ((False,) if model.product else (False, True))
    ]
    jobs = [*partial, *full]
    if test.model:
        jobs += [_users_inference(test, "gpu", ALL_LAYERS, flash=flash) for flash in (False, True)]
    result = _run(test, jobs, {"CUDA_VISIBLE_DEVICES": visible} if visible else {}, gpu.uuid)
    every = _name("gpu", PARTIAL.name, ALL_LAYERS, flash=False)
    checks = [
        _check_layers(result, [*partial, *full]),
        _check_memory(result.job(partial[1].name), result.job(every)),
        _check_numbers(test, result, [*partial, *full]),
    ]
    if test.model:
        checks.append(_check_users_model(test, result, test.model.name))
    return SmokeResult(checks=tuple(checks), facts=_anonymous(result.facts, visible or gpu.uuid))


def _run(test: SmokeTest, jobs: Sequence[Inference], variables: Mapping[str, str], gpu: str = "") -> ChildResult:
    program = Path(child.__file__)
    result = run_child(test.environment, program, jobs, test.limits, variables=variables, gpu=gpu)
    return ChildResult(facts=replace_text(result.facts, str(test.folder), SCRATCH), jobs=result.jobs)


def _anonymous(facts: RunFacts, uuid: str) -> RunFacts:
    """Without the GPU's name for CUDA, which is nobody's business and here no cause."""
    named = replace_text(facts, f" (CUDA_VISIBLE_DEVICES={uuid!r})", "")
    return named if uuid.isdecimal() else replace_text(named, uuid, "GPU")  # a number names no GPU to others


def _name(where: str, model: str, layers: int, *, flash: bool) -> str:
    return f"{where}-{model}-{layers}{'-flash' if flash else ''}"


def _inference(test: SmokeTest, where: str, model: Model, layers: int, *, flash: bool) -> Inference:
    name = _name(where, model.name, layers, flash=flash)
    return Inference(
        name=name,
        model=str(test.folder / f"{model.name}.gguf"),
        layers=layers,
        every=model.layers + 1,
        flash=flash,
        logits=str(test.folder / f"{name}.f32"),
        threads=test.threads,
        tokens=tuple(prompt(TOKENS)),
    )


def _users_inference(test: SmokeTest, where: str, layers: int, *, flash: bool) -> Inference:
    name = _name(where, _USERS, layers, flash=flash)
    return Inference(
        name=name,
        model=str(test.model),
        layers=layers,
        flash=flash,
        logits=str(test.folder / f"{name}.f32"),
        threads=test.threads,
        text=TEXT,
    )


def _logits(test: SmokeTest, name: str, vocabulary: int = VOCABULARY) -> np.ndarray | None:
    return read_logits(test.folder / f"{name}.f32", vocabulary)


def _describe(agreements: Mapping[str, Agreement]) -> str:
    return "; ".join(f"{name} {agreement}" for name, agreement in agreements.items())


# --- on the CPU ----------------------------------------------------------------------------------------


def _check_import(facts: RunFacts, version: str, folder: Path) -> Check:
    """It is this wheel that was imported, and no other one that shadows it."""
    is_this_wheel = Path(facts.folder).is_relative_to(folder) if facts.folder else False
    passed = is_this_wheel and facts.version == version
    detail = facts.version + ("" if passed else f" from {facts.folder}") if facts.version else facts.end
    return Check(name="import", passed=passed, detail=detail)


def _check_numbers_on_cpu(test: SmokeTest, facts: RunFacts) -> Check:
    agreements = {model.name: _compare_with_reference(test, model, "cpu", 0, BOUNDS[model.kind]) for model in MODELS}
    return Check(
        name="numbers on the CPU",
        passed=facts.finished and all(agreement.passed for agreement in agreements.values()),
        detail=_describe(agreements) if facts.finished else facts.end,
    )


def _check_users_model_on_cpu(test: SmokeTest, result: ChildResult, name: str) -> Check:
    logits = _logits(test, _name("cpu", _USERS, 0, flash=False), _users_vocabulary(result))
    detail = f"{len(logits)} tokens computed on the CPU" if logits is not None else result.facts.end
    return Check(name=name, passed=logits is not None, detail=detail)


def _users_vocabulary(result: ChildResult) -> int:
    """As the model itself has it; 1 where none of its jobs came so far."""
    sizes = (job.vocabulary for name, job in result.jobs.items() if f"-{_USERS}-" in name and job.vocabulary)
    return next(sizes, 1)


def _compare_with_reference(test: SmokeTest, model: Model, where: str, layers: int, bound: float) -> Agreement:
    expected = read_logits(test.references[model.name], VOCABULARY)
    computed = _logits(test, _name(where, model.name, layers, flash=False))
    return compare(_first(computed, None if expected is None else len(expected)), expected, bound)


# --- on a GPU ------------------------------------------------------------------------------------------


def _check_layers(result: ChildResult, jobs: Sequence[Inference]) -> Check:
    offloaded = [result.job(job.name).layers for job in jobs]
    passed = offloaded == [(min(job.layers, job.every), job.every) for job in jobs]
    shown = dict.fromkeys(f"{layers[0]}/{layers[1]}" if layers else "none" for layers in offloaded)
    return Check(name="layers offloaded", passed=passed, detail=", ".join(shown))


def _check_memory(some: JobResult, every: JobResult) -> Check:
    """From eight layers to all: the process holds at least the weights of the other sixteen."""
    needed = (PARTIAL.layers - PARTS[1]) * layer_bytes(PARTIAL.kind)
    samples = (
        ("the process's own memory", some.process_memory, every.process_memory),
        ("the GPU's memory in use", some.device_memory, every.device_memory),
    )
    for title, before, after in samples:
        if before and after:
            grown = after - before
            detail = (
                f"{title} grew by {grown / 1e6:.0f} MB from {PARTS[1]} layers to all, weights {needed / 1e6:.0f} MB"
            )
            return Check(name="GPU memory", passed=grown >= needed, detail=detail)
    return Check(name="GPU memory", passed=False, detail="NVML shows no memory in use by this process or on this GPU")


def _check_numbers(test: SmokeTest, result: ChildResult, jobs: Sequence[Inference]) -> Check:
    agreements = dict(pair for job in jobs for pair in _agreements(test, job))
    passed = result.facts.finished and all(agreement.passed for agreement in agreements.values())
    computed = {name: agreement for name, agreement in agreements.items() if agreement.error != float("inf")}
    if passed:
        detail = _describe(computed)
    elif wrong := {name: agreement for name, agreement in computed.items() if not agreement.passed}:
        detail = "wrong: " + _describe(wrong)
    else:
        detail = f"{result.facts.end}; {len(computed)} of {len(agreements)} computed"
    return Check(name="numbers on the GPU", passed=passed, detail=detail)


def _agreements(test: SmokeTest, job: Inference) -> Iterator[tuple[str, Agreement]]:
    """All tokens against the CPU's, and where a sharper bound holds, the first ones; a product against NumPy's."""
    model = next(model for model in MODELS if f"-{model.name}-{job.layers}" in job.name)
    name = job.name.removeprefix("gpu-")
    if model.product:
        yield name, _compare_with_reference(test, model, "gpu", job.layers, PRODUCT)
        return
    computed, expected = (_logits(test, job_name) for job_name in (job.name, _name("cpu", model.name, 0, flash=False)))
    yield name, compare(computed, expected, BOUNDS[model.kind])
    if model.kind in SINGLE:
        single = compare(_first(computed, SINGLE_TOKENS), _first(expected, SINGLE_TOKENS), SINGLE[model.kind])
        yield f"{name}, first {SINGLE_TOKENS} alone", single


def _first(logits: np.ndarray | None, count: int | None) -> np.ndarray | None:
    return None if logits is None else logits[:count]


def _check_users_model(test: SmokeTest, result: ChildResult, name: str) -> Check:
    """A real model's kinds of weights are many: the widest bound."""
    vocabulary = _users_vocabulary(result)
    expected = _logits(test, _name("cpu", _USERS, 0, flash=False), vocabulary)
    jobs = [_name("gpu", _USERS, ALL_LAYERS, flash=flash) for flash in (False, True)]
    agreements = {job: compare(_logits(test, job, vocabulary), expected, max(BOUNDS.values())) for job in jobs}
    layers = [result.job(job).layers or (0, -1) for job in jobs]
    passed = all(agreement.passed for agreement in agreements.values()) and all(some == every for some, every in layers)
    offloaded = ", ".join(f"{some}/{every} layers" for some, every in dict.fromkeys(layers))
    return Check(name=name, passed=passed, detail=f"{offloaded}; {_describe(agreements)}")
