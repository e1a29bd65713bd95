"""Does a wheel run? Installed with its declared dependencies into a fresh environment, in processes of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from build_matrix.context import Context
from build_matrix.digests import code_digest, library_versions
from build_matrix.downloads import create_environment, install_wheels
from build_matrix.locks import locked_toolkits, read_lock, select_platform, select_wheels
from build_matrix.model import Check, CudaVersion, Gpu, Label, Record, RunFacts, digest_of
from build_matrix.process.runner import Completed, run
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
from build_matrix.verify.numbers import ALONE, BOUNDS, PRODUCT, Agreement, compare, read_logits
from build_matrix.verify.reference import write_references
from build_matrix.verify.sample import Watch

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
DRIVER_LIBRARY = "libcuda.so.1"
SCRATCH = "/verify"  # how a verdict calls the folder in which a wheel was installed and run
TEXT = "The quick brown fox jumps over the lazy dog, and the dog sleeps on. " * 64

_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")  # llama.cpp's own log


class Job(Record, frozen=True, kw_only=True):
    """One model loaded and computed by the child; ``logits`` is where it writes them, ``every`` how many layers it has.

    The output counts as a layer.
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


class Bench(Record, frozen=True, kw_only=True):
    """What all children of a verification share."""

    python: Path
    scratch: Path
    threads: int
    references: dict[str, Path]
    model: Path | None = None


class CpuResult(Record, frozen=True, kw_only=True):
    """What running with the GPU hidden showed; ``facts`` tells why it failed, if it did."""

    checks: tuple[Check, ...]
    facts: RunFacts

    @property
    def passed(self) -> bool:
        """Whether everything holds."""
        return all(check.passed for check in self.checks)


class GpuResult(Record, frozen=True, kw_only=True):
    """What running on one GPU showed."""

    checks: tuple[Check, ...]
    facts: RunFacts


def install_wheel(context: Context, wheel: Path, label: Label, scratch: Path) -> Path:
    """A fresh environment with the wheel and what it declares, from locked files only; its Python.

    Raises InstallError, DownloadError and its kinds, DiskFullError.
    """
    files = select_wheels(read_lock("runtime"))
    family = [minor for minor in locked_toolkits() if CudaVersion.parse(minor).major == label.family]
    cuda = label.cuda if label.cuda in family or not family else family[-1]
    files += select_platform(read_lock(f"cuda-{cuda}"), context.machine.platform)
    paths = context.downloads.fetch(files, "the wheel's dependencies")

    targets = {path.name: os.path.relpath(path, context.store.root / "stage" / "result") for path in paths}

    def link(folder: Path) -> None:
        for name, target in targets.items():
            (folder / name).symlink_to(target)

    # Always the same folder: uv knows what it has unpacked by the path, and would keep a copy of all for each.
    links = context.store.obtain("runtime-links", digest_of(targets), link)
    python = create_environment(scratch / "environment", context.store.root / "uv-cache")
    install_wheels([wheel], context.store.root / "uv-cache", python=python, find_links=links)
    return python


def prepare_bench(context: Context, python: Path, scratch: Path, model: Path | None) -> Bench:
    """Lay out the models; they (0.2 GB) and what they must answer are made once for a store."""
    libraries = library_versions(*LIBRARIES)
    models = context.store.obtain("smoke-model", digest_of(code_digest(*model_file.CODE), libraries), write_models)
    for path in models.iterdir():
        (scratch / path.name).symlink_to(path)
    folder = context.store.obtain(
        "smoke-reference",
        digest_of(code_digest(*reference.CODE), libraries, TOKENS, REFERENCE_TOKENS),
        lambda aside: write_references(aside, TOKENS, REFERENCE_TOKENS),
    )
    return Bench(
        python=python,
        scratch=scratch,
        threads=min(context.machine.cpus, MOST_THREADS),
        references={one.name: folder / f"{one.name}.f32" for one in MODELS},
        model=model,
    )


def run_on_cpu(bench: Bench, version: str) -> CpuResult:
    """With every GPU hidden: ``n_gpu_layers=0`` alone would still compute large batches on one.

    ``version`` is that of the wheel.
    """
    jobs = [_job(bench, "cpu", model, 0, flash=False) for model in MODELS]
    if bench.model:
        jobs.append(_model_job(bench, "cpu", 0, flash=False))
    answer = _run_child(bench, "cpu", jobs, {"CUDA_VISIBLE_DEVICES": ""}, Watch("", _memory(bench)))
    facts = answer.facts
    found = {model.name: _agreement_with_reference(bench, model, "cpu", 0, BOUNDS[model.kind]) for model in MODELS}
    own = Path(facts.folder).is_relative_to(bench.scratch) if facts.folder else False
    same = facts.version == version.partition("+")[0]
    checks = [
        Check(
            name="import",
            passed=own and same,
            detail=facts.version + ("" if own and same else f" from {facts.folder}") if facts.version else facts.end,
        ),
        Check(
            name="offload registered",
            passed=facts.offload is not None,
            detail=f"llama_supports_gpu_offload() is {facts.offload} with the GPU hidden",
        ),
        Check(
            name="numbers on the CPU",
            passed=facts.finished and all(item.holds for item in found.values()),
            detail=_said(found) if facts.finished else facts.end,
        ),
    ]
    if bench.model:
        found_size = next((size for name, size in answer.vocabulary.items() if "-model-" in name), 1)
        logits = _logits(bench, "cpu-model-0", found_size)
        detail = f"{len(logits)} tokens computed on the CPU" if logits is not None else facts.end
        checks.append(Check(name=bench.model.name, passed=logits is not None, detail=detail))
    return CpuResult(checks=tuple(checks), facts=facts)


def run_on_gpu(bench: Bench, gpu: Gpu, visible: str) -> GpuResult:
    """On one GPU: layers, memory, numbers against those of the CPU.

    ``visible`` is what CUDA_VISIBLE_DEVICES is set to; it is not set when that is empty.
    """
    partial = [_job(bench, "gpu", PARTIAL, layers, flash=False) for layers in PARTS]
    whole = [
        _job(bench, "gpu", model, ALL_LAYERS, flash=flash)
        for model in MODELS
        for flash in ((False,) if model.product else (False, True))
    ]
    jobs = [*partial, *whole]
    if bench.model:
        jobs += [_model_job(bench, "gpu", ALL_LAYERS, flash=flash) for flash in (False, True)]
    watch = Watch(gpu.uuid, _memory(bench))
    answer = _run_child(bench, "gpu", jobs, {"CUDA_VISIBLE_DEVICES": visible} if visible else {}, watch)
    checks = [
        _check_layers(answer, [*partial, *whole]),
        _check_memory(watch, partial[1].name, _name("gpu", PARTIAL, ALL_LAYERS, flash=False)),
        _check_numbers(bench, answer, [*partial, *whole]),
    ]
    if bench.model:
        checks.append(_check_model(bench, answer))
    return GpuResult(checks=tuple(checks), facts=_anonymous(answer.facts, visible or gpu.uuid))


def _anonymous(facts: RunFacts, uuid: str) -> RunFacts:
    """Without the GPU's name for CUDA, which is nobody's business and here no cause."""
    named = _without(facts, f" (CUDA_VISIBLE_DEVICES={uuid!r})", "")
    return named if uuid.isdecimal() else _without(named, uuid, "GPU")  # a number names no GPU to others


def _without(facts: RunFacts, private: str, name: str) -> RunFacts:
    """With ``name`` in the place of what a verdict must not tell of this machine."""
    log, backends = (tuple(line.replace(private, name) for line in lines) for lines in (facts.log, facts.backends))
    return structs.replace(facts, log=log, backends=backends)


class _Answer:
    """What a child said, line by line."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}
        self.layers: dict[str, tuple[int, int]] = {}
        self.vocabulary: dict[str, int] = {}
        self.facts = RunFacts()
        self._job = ""

    def collect(self, line: str, watch: Watch) -> None:
        if match := _OFFLOADED.search(line):
            self.layers[self._job] = (int(match[1]), int(match[2]))
        if not line.startswith(child.PREFIX):
            return
        facts = msgspec.json.decode(line.removeprefix(child.PREFIX), type=dict[str, Any])
        self.said.update(facts)
        if "job" in facts:
            self._job = facts["job"]
        if "vocabulary" in facts:
            self.vocabulary[self._job] = facts["vocabulary"]
        if "state" in facts:
            watch.stage(self._job if facts["state"] == "loaded" else "")

    def end(self, done: Completed, watch: Watch, seconds: float) -> None:
        said = self.said
        self.facts = RunFacts(
            version=said.get("version", ""),
            folder=said.get("folder", ""),
            offload=said.get("offload"),
            backends=tuple(said.get("backends", ())),
            finished=bool(said.get("finished")) and done.code == 0,
            code=done.code,
            timed_out=seconds if done.timed_out else 0.0,
            memory_exceeded=watch.exceeded,
            job=self._job,
            log=tuple(line for line in done.tail if line.strip() and not line.startswith(child.PREFIX)),
        )


def _run_child(bench: Bench, name: str, jobs: Sequence[Job], variables: Mapping[str, str], watch: Watch) -> _Answer:
    path = bench.scratch / f"{name}.json"
    path.write_bytes(msgspec.json.encode({"jobs": jobs}))
    seconds = MODEL_SECONDS if bench.model else SECONDS
    answer = _Answer()
    with watch:
        done = run(
            [bench.python, "-I", child.__file__, path],
            env=_environment(bench.scratch) | dict(variables),
            cwd=bench.scratch,
            on_line=lambda line: answer.collect(line, watch),
            on_start=watch.attach,
            timeout=seconds,
        )
    answer.end(done, watch, seconds)
    answer.facts = _without(answer.facts, str(bench.scratch), SCRATCH)
    return answer


def _name(where: str, model: Model, layers: int, *, flash: bool) -> str:
    return f"{where}-{model.name}-{layers}{'-flash' if flash else ''}"


def _job(bench: Bench, where: str, model: Model, layers: int, *, flash: bool) -> Job:
    name = _name(where, model, layers, flash=flash)
    return Job(
        name=name,
        model=str(bench.scratch / f"{model.name}.gguf"),
        layers=layers,
        every=model.layers + 1,
        flash=flash,
        logits=str(bench.scratch / f"{name}.f32"),
        threads=bench.threads,
        tokens=tuple(prompt(TOKENS)),
    )


def _model_job(bench: Bench, where: str, layers: int, *, flash: bool) -> Job:
    name = f"{where}-model-{layers}{'-flash' if flash else ''}"
    return Job(
        name=name,
        model=str(bench.model),
        layers=layers,
        flash=flash,
        logits=str(bench.scratch / f"{name}.f32"),
        threads=bench.threads,
        text=TEXT,
    )


def _memory(bench: Bench) -> int:
    return MEMORY + (2 * bench.model.stat().st_size if bench.model else 0)


def _logits(bench: Bench, name: str, vocabulary: int = VOCABULARY) -> Any:
    return read_logits(bench.scratch / f"{name}.f32", vocabulary)


def _said(found: Mapping[str, Agreement]) -> str:
    return "; ".join(f"{name} {agreement}" for name, agreement in found.items())


def _check_layers(answer: _Answer, jobs: Sequence[Job]) -> Check:
    found = [answer.layers.get(job.name, (-1, -1)) for job in jobs]
    passed = found == [(min(job.layers, job.every), job.every) for job in jobs]
    shown = dict.fromkeys(f"{some}/{every}" if every >= 0 else "none" for some, every in found)
    return Check(name="layers offloaded", passed=passed, detail=", ".join(shown))


def _check_memory(watch: Watch, some: str, every: str) -> Check:
    """From eight layers to all: the process holds at least the weights of the other sixteen."""
    needed = (PARTIAL.layers - PARTS[1]) * layer_bytes(PARTIAL.kind)
    for whose, samples in (("the process's own memory", watch.own), ("the GPU's memory in use", watch.device)):
        if samples[some] and samples[every]:
            grown = samples[every] - samples[some]
            detail = (
                f"{whose} grew by {grown / 1e6:.0f} MB from {PARTS[1]} layers to all, weights {needed / 1e6:.0f} MB"
            )
            return Check(name="GPU memory", passed=grown >= needed, detail=detail)
    return Check(name="GPU memory", passed=False, detail="NVML shows no memory in use by this process or on this GPU")


def _check_numbers(bench: Bench, answer: _Answer, jobs: Sequence[Job]) -> Check:
    found: dict[str, Agreement] = {}
    for job in jobs:
        found |= _agreements(bench, job)
    passed = answer.facts.finished and all(item.holds for item in found.values())
    told = {name: item for name, item in found.items() if item.error != float("inf")}
    if passed:
        detail = _said(told)
    elif wrong := {name: item for name, item in told.items() if not item.holds}:
        detail = "wrong: " + _said(wrong)
    else:
        detail = f"{answer.facts.end}; {len(told)} of {len(found)} computed"
    return Check(name="numbers on the GPU", passed=passed, detail=detail)


def _agreements(bench: Bench, job: Job) -> dict[str, Agreement]:
    """All tokens against the CPU's, and where a sharper bound holds, the first ones; a product against NumPy's."""
    model = next(model for model in MODELS if f"-{model.name}-{job.layers}" in job.name)
    name = job.name.removeprefix("gpu-")
    if model.product:
        return {name: _agreement_with_reference(bench, model, "gpu", job.layers, PRODUCT)}
    found, right = (_logits(bench, own) for own in (job.name, _name("cpu", model, 0, flash=False)))
    result = {name: compare(found, right, BOUNDS[model.kind])}
    if model.kind in ALONE:
        result[f"{name}, first {SINGLE_TOKENS} alone"] = compare(_first(found), _first(right), ALONE[model.kind])
    return result


def _first(logits: Any) -> Any:
    return None if logits is None else logits[:SINGLE_TOKENS]


def _agreement_with_reference(bench: Bench, model: Model, where: str, layers: int, bound: float) -> Agreement:
    right = read_logits(bench.references[model.name], VOCABULARY)
    found = _logits(bench, _name(where, model, layers, flash=False))
    return compare(found if found is None or right is None else found[: len(right)], right, bound)


def _check_model(bench: Bench, answer: _Answer) -> Check:
    """A real model's kinds of weights are many: the widest bound."""
    vocabulary = next((size for name, size in answer.vocabulary.items() if "-model-" in name), 1)
    right = _logits(bench, "cpu-model-0", vocabulary)
    names = [f"gpu-model-{ALL_LAYERS}{flash}" for flash in ("", "-flash")]
    found = {name: compare(_logits(bench, name, vocabulary), right, max(BOUNDS.values())) for name in names}
    layers = [answer.layers.get(name, (0, -1)) for name in names]
    passed = all(item.holds for item in found.values()) and all(some == every for some, every in layers)
    detail = ", ".join(f"{some}/{every} layers" for some, every in dict.fromkeys(layers)) + f"; {_said(found)}"
    return Check(name=str(bench.model and bench.model.name), passed=passed, detail=detail)


def _environment(scratch: Path) -> dict[str, str]:
    """Nothing of the surroundings but the way to the driver: no toolkit of this machine can help the wheel."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    folders = list(_driver_folders(os.environ.get("LD_LIBRARY_PATH", "")))
    if folders:
        kept["LD_LIBRARY_PATH"] = os.pathsep.join(folders)
    return kept | {"PATH": os.defpath, "HOME": str(scratch), "TMPDIR": str(scratch), "LC_ALL": "C.UTF-8"}


def _driver_folders(path: str) -> Iterator[str]:
    return (folder for folder in path.split(os.pathsep) if folder and (Path(folder) / DRIVER_LIBRARY).exists())
