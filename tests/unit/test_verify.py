"""A verdict follows from what the checks show: whole verifications, with stand-ins for what installs and runs."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from contexts import in_context
from records import make_record

import build_matrix
from build_matrix import verify
from build_matrix.cli.common import print_verdicts
from build_matrix.context import Context
from build_matrix.downloads import Downloads
from build_matrix.errors import ConfigurationError, InstallError, VerificationError
from build_matrix.model import (
    Check,
    Driver,
    Finding,
    Gpu,
    GpuVerdict,
    HostEnvironment,
    Label,
    Machine,
    RunFacts,
    Verdict,
    file_sha256,
    parse_label,
)
from build_matrix.pipeline.verification import require_verified
from build_matrix.platforms import Platform
from build_matrix.store import Store
from build_matrix.trial.environment import Environment
from build_matrix.verify import Target, known_verdict, verify_wheel
from build_matrix.verify.smoke import SmokeResult, SmokeTest
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.sidecar import record_path, verdict_path
from wheels import make_wheel

L4 = Gpu(name="NVIDIA L4", uuid="GPU-l4", compute_capability="8.9")
T4 = Gpu(name="Tesla T4", uuid="GPU-t4", compute_capability="7.5")
RULE = Finding(rule="gpu", kind="run", passed=False, fact="no code for sm_75", remedy="Build for 75.")
GOOD = Check(name="x", passed=True, detail="fine")
BAD = Check(name="numbers on the GPU", passed=False, detail="wrong: F16")
LABEL = parse_label("cu130.sm89")
DONE = RunFacts(version="0.3.16", folder="/verify/x", offload=True, finished=True, log=("load_tensors: good",))


class Stages:
    """What the steps of a verification answer; ``ran`` are those that were run, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.static = [Check(name="RECORD", passed=True, detail="")]
        self.label = LABEL
        self.cubins = GOOD
        self.install: Exception | None = None
        self.cpu = SmokeResult(checks=(GOOD, GOOD), facts=DONE)
        self.gpus: dict[str, SmokeResult] = {}
        self.ran: list[str] = []
        self.prepared: dict[str, Any] = {}
        self.cubins_of: tuple[object, ...] = ()
        self.installed: tuple[object, ...] = ()
        for name in ("check_static", "check_cubins", "install_wheel", "prepare_smoke_test", "run_on_cpu", "run_on_gpu"):
            monkeypatch.setattr(verify, name, getattr(self, f"_{name}"))

    def _check_static(self, wheel: WheelFile, platform: Platform, store: Store) -> tuple[list[Check], Any]:
        return list(self.static), self.label

    def _check_cubins(self, context: Context, wheel: WheelFile, label: Label, scratch: Path) -> Check:
        self.ran.append("cubins")
        self.cubins_of = (wheel.path, label, scratch, context.store, context.downloads)
        return self.cubins

    def _install_wheel(self, context: Context, wheel: WheelFile, label: Label, scratch: Path) -> Environment:
        self.ran.append("install")
        self.installed = (wheel.path, label, scratch, context.store, context.downloads)
        assert context.machine.platform == "linux-x86_64"
        if self.install:
            raise self.install
        return Environment(python=Path("python"), folder=scratch)

    def _prepare_smoke_test(self, context: Context, environment: Environment, model: Path | None) -> SmokeTest:
        cpus = context.machine.cpus
        assert environment.folder == self.installed[2]
        self.prepared = {"python": environment.python, "cpus": cpus, "model": model}
        return SmokeTest(environment=environment, threads=cpus, references={}, model=model)

    def _run_on_cpu(self, test: SmokeTest, version: str) -> SmokeResult:
        assert isinstance(test, SmokeTest)
        self.ran.append(f"cpu {version}")
        return self.cpu

    def _run_on_gpu(self, test: SmokeTest, gpu: Gpu, visible: str) -> SmokeResult:
        assert isinstance(test, SmokeTest)
        self.ran.append(f"{gpu.name} {visible}")
        return self.gpus.get(gpu.name, SmokeResult(checks=(GOOD,), facts=DONE))


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return Stages(monkeypatch)


@pytest.fixture
def here(machine: Machine) -> Machine:
    driver = Driver(version="580.95.05", cuda="13.0")
    return msgspec.structs.replace(machine, driver=driver, driver_problem="", gpus=(L4,))


def target(gpu: Gpu = L4, impossible: Finding | None = None) -> Target:
    return Target(gpu=gpu, visible=gpu.uuid, impossible=impossible)


@pytest.fixture
def judge(tmp_path: Path, store: Store, reporter, here: Machine):  # type: ignore[no-untyped-def]
    wheel = make_wheel(tmp_path / "wheels")

    def run(*targets: Target, machine: Machine = here, model: Path | None = None) -> Verdict:
        return verify_wheel(
            in_context(store, downloads=Downloads(store, reporter), reporter=reporter, machine=machine),
            WheelFile(wheel),
            targets,
            model,
        )

    run.wheel = wheel  # type: ignore[attr-defined]
    return run


def test_a_wheel_whose_checks_all_hold_on_a_gpu_is_proven(stages: Stages, judge, here: Machine, reporter) -> None:  # type: ignore[no-untyped-def]
    verdict = judge(target())
    assert stages.ran == ["cubins", "install", "cpu 0.3.16+cu130.sm89", "NVIDIA L4 GPU-l4"]
    assert (verdict.offload, verdict.cause, verdict.passed) == ("proven", None, True)
    assert verdict.reason == "1 of 1 checks passed on NVIDIA L4"
    assert [check.name for check in verdict.checks] == ["RECORD", "record", "x", "x", "x"]
    assert verdict.gpus == (
        GpuVerdict(
            name="NVIDIA L4",
            uuid_sha256=hashlib.sha256(b"GPU-l4").hexdigest(),
            compute_capability="8.9",
            offload="proven",
            reason="1 of 1 checks passed on NVIDIA L4",
            checks=(GOOD,),
        ),
    )
    assert (verdict.filename, verdict.sha256) == (judge.wheel.name, file_sha256(judge.wheel))
    assert (verdict.driver, verdict.libc, verdict.log) == (here.driver, here.libc, ())
    assert (verdict.python, verdict.tool) == (platform.python_version(), f"build-matrix {build_matrix.__version__}")
    assert WheelFile(judge.wheel).read_verdict() == verdict
    text = verdict_path(judge.wheel).read_text()
    assert text.startswith('{\n  "schema": "build-matrix/verdict/')
    assert text.endswith("\n}\n")
    assert [line.strip() for line in reporter.lines] == [
        f"verifying {judge.wheel.name}",
        "running it with all GPUs hidden",
        "running it on NVIDIA L4",
    ]


def test_each_step_gets_the_wheel_its_label_and_one_empty_folder(stages: Stages, judge, store: Store) -> None:  # type: ignore[no-untyped-def]
    judge(target())
    assert stages.installed == stages.cubins_of
    wheel, label, scratch, used, downloads = stages.installed
    assert (wheel, label, used) == (judge.wheel, LABEL, store)
    assert isinstance(downloads, Downloads)
    assert isinstance(scratch, Path)
    assert scratch.name.startswith(f"verify-{file_sha256(judge.wheel)[:24]}.")
    assert not scratch.exists(), "removed afterwards"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_check_that_fails_on_a_gpu_is_no_proof(stages: Stages, judge, place: int) -> None:  # type: ignore[no-untyped-def]
    checks = [GOOD, GOOD, GOOD]
    checks[place] = BAD
    log = tuple(f"line {number}" for number in range(100))
    facts = msgspec.structs.replace(DONE, log=log)
    stages.gpus["NVIDIA L4"] = SmokeResult(checks=tuple(checks), facts=facts)
    verdict = judge(target())
    assert (verdict.offload, verdict.passed) == ("failed", False)
    (found,) = verdict.gpus
    assert (found.offload, found.checks) == ("failed", tuple(checks))
    assert found.log == log[-80:]
    assert found.cause
    assert found.cause.rule == "wrong numbers"
    assert verdict.cause == found.cause
    assert verdict.reason == found.reason == found.cause.fact
    with pytest.raises(VerificationError, match="is not verified: The wheel computes wrong numbers"):
        require_verified([verdict], require_gpu=False)


def test_a_verdict_says_how_long_it_took(stages: Stages, judge, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(verify, "time", SimpleNamespace(monotonic=iter([100.0, 102.34]).__next__))
    assert judge(target()).seconds == 2.3


def test_what_the_wheels_own_loader_says_of_the_gpu_is_the_cause(stages: Stages, judge) -> None:  # type: ignore[no-untyped-def]
    facts = RunFacts(version="0.3.16", backends=("cuda: no kernel image is available",), offload=False, finished=True)
    stages.gpus["NVIDIA L4"] = SmokeResult(checks=(Check(name="layers", passed=False, detail="0/25"),), facts=facts)
    verdict = judge(target())
    assert verdict.cause
    assert verdict.cause.rule == "no code for this GPU"
    assert verdict.gpus[0].log == ()


def test_a_wheel_that_fails_on_the_cpu_is_not_tried_on_a_gpu(stages: Stages, judge) -> None:  # type: ignore[no-untyped-def]
    bad = Check(name="numbers on the CPU", passed=False, detail="wrong")
    log = tuple(f"line {number}" for number in range(100))
    stages.cpu = SmokeResult(checks=(GOOD, bad), facts=msgspec.structs.replace(DONE, log=log))
    verdict = judge(target())
    assert stages.ran[-1].startswith("cpu")
    assert (verdict.offload, verdict.passed, verdict.gpus) == ("failed", False, ())
    assert verdict.cause
    assert verdict.cause.rule == "wrong numbers"
    assert verdict.checks[-1] == bad
    assert verdict.log == log[-80:]


@pytest.mark.parametrize("bad", ["static", "record", "label"])
def test_a_wheel_that_contradicts_itself_is_not_run(stages: Stages, judge, bad: str) -> None:  # type: ignore[no-untyped-def]
    if bad == "static":
        stages.static.append(Check(name="tags", passed=False, detail="other tags"))
    elif bad == "record":
        record_path(judge.wheel).write_text("{}")
    else:
        stages.label = None
        stages.static = [Check(name="label", passed=False, detail="none")]
    verdict = judge(target())
    assert stages.ran == []
    assert (verdict.offload, verdict.gpus) == ("failed", ())
    assert verdict.cause


def test_other_machine_code_than_the_label_says_fails_a_wheel_that_runs(stages: Stages, judge) -> None:  # type: ignore[no-untyped-def]
    stages.cubins = Check(name="cubins", passed=False, detail="inside sm80")
    verdict = judge(target())
    assert (verdict.offload, verdict.reason) == ("failed", "cubins: inside sm80")


def test_a_wheel_that_cannot_be_installed_fails(stages: Stages, judge) -> None:  # type: ignore[no-untyped-def]
    stages.install = InstallError("No solution.", "Try.")
    verdict = judge(target())
    assert verdict.offload == "failed"
    assert verdict.checks[-1] == Check(name="install", passed=False, detail="No solution.")
    assert stages.ran == ["cubins", "install"]


def test_a_gpu_that_a_rule_excludes_is_not_tried(stages: Stages, judge) -> None:  # type: ignore[no-untyped-def]
    verdict = judge(target(T4, RULE), target())
    assert stages.ran[-1] == "NVIDIA L4 GPU-l4"
    assert [gpu.offload for gpu in verdict.gpus] == ["impossible_here", "proven"]
    assert (verdict.offload, verdict.cause) == ("proven", None)
    assert verdict.reason == "1 of 1 checks passed on NVIDIA L4; Tesla T4: no code for sm_75"
    alone = judge(target(T4, RULE))
    assert (alone.offload, alone.reason, alone.cause) == ("impossible_here", "no code for sm_75", RULE)
    assert alone.passed
    assert alone.gpus[0].checks == ()


@pytest.mark.parametrize("value", ["", "-1", " -1 ", "NoDevFiles"])
def test_a_gpu_that_the_environment_hides_is_a_failure_and_not_impossible(
    stages: Stages, judge, here: Machine, value: str
) -> None:  # type: ignore[no-untyped-def]
    hidden = msgspec.structs.replace(here, environment=HostEnvironment(visible_devices=value))
    for impossible in (None, RULE):
        verdict = judge(target(impossible=impossible), machine=hidden)
        assert (verdict.offload, verdict.gpus[0].offload) == ("failed", "failed")
        assert verdict.cause
        assert "CUDA_VISIBLE_DEVICES" in verdict.cause.fact
        assert verdict.gpus[0].checks == ()


def test_without_a_gpu_offload_is_untested_and_the_reason_is_named(stages: Stages, judge, machine: Machine) -> None:  # type: ignore[no-untyped-def]
    verdict = judge(machine=machine)
    assert (verdict.offload, verdict.reason, verdict.passed) == ("untested", "no NVIDIA driver", True)
    unknown = msgspec.structs.replace(machine, driver_problem="")
    assert judge(machine=unknown).reason == "no NVIDIA driver"
    driver = msgspec.structs.replace(unknown, driver=Driver(version="580.1", cuda="13.0"))
    assert judge(machine=driver).reason == "no NVIDIA GPU"


def test_a_model_and_a_wheel_that_are_not_there_are_refused(stages: Stages, judge, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigurationError, match=r"no model .*absent\.gguf") as caught:
        judge(model=tmp_path / "absent.gguf")
    assert caught.value.remedy == "Name a GGUF file."
    (tmp_path / "there.gguf").touch()
    judge(model=tmp_path / "there.gguf")
    assert stages.prepared == {"python": Path("python"), "cpus": 2, "model": tmp_path / "there.gguf"}
    judge()
    assert stages.prepared["model"] is None
    judge.wheel.unlink()
    with pytest.raises(ConfigurationError, match="There is no wheel") as caught:
        judge()
    assert caught.value.remedy == "Build one: `nox -s build-cuda13`."


# --- a record beside the wheel -------------------------------------------------------------------------


def test_a_record_of_this_file_is_accepted_and_none_is_too(stages: Stages, judge) -> None:  # type: ignore[no-untyped-def]
    assert judge().checks[1] == Check(
        name="record", passed=True, detail="none next to the wheel: it was not built here"
    )
    make_record(judge.wheel)
    check = judge().checks[1]
    assert (check.passed, check.detail) == (True, f"{judge.wheel.name}.json belongs to this file")


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"filename": "other.whl"}])
def test_a_record_of_another_file_fails(stages: Stages, judge, change: dict[str, str]) -> None:  # type: ignore[no-untyped-def]
    record = msgspec.structs.replace(make_record(judge.wheel), **change)
    record_path(judge.wheel).write_bytes(msgspec.json.encode(record))
    verdict = judge(target())
    assert not verdict.checks[1].passed
    assert "belongs to another file, with sha256 " + record.sha256 in verdict.checks[1].detail
    assert verdict.offload == "failed"


def test_what_is_no_record_fails(stages: Stages, judge) -> None:  # type: ignore[no-untyped-def]
    record_path(judge.wheel).write_text('{"schema": "other"}')
    check = judge().checks[1]
    assert (check.name, check.passed) == ("record", False)
    assert f"{judge.wheel.name}.json is not a record" in check.detail


# --- a verdict that is known already -------------------------------------------------------------------


def test_a_verdict_is_known_on_the_machine_that_it_is_of(stages: Stages, judge, here: Machine) -> None:  # type: ignore[no-untyped-def]
    assert known_verdict(WheelFile(judge.wheel), here) is None
    verdict = judge(target())
    assert known_verdict(WheelFile(judge.wheel), here) == verdict


@pytest.mark.parametrize(
    "change",
    [
        {"driver": Driver(version="570.10", cuda="13.0")},
        {"driver": Driver(version="580.95.05", cuda="12.9")},
        {"driver": None},
        {"driver_problem": "it hangs"},
        {"gpus": ()},
        {"gpus": (L4, T4)},
        {"gpus": (msgspec.structs.replace(L4, uuid="GPU-other"),)},
        {"gpus": (msgspec.structs.replace(L4, compute_capability="9.0"),)},
        {"python": "3.12.0"},
    ],
)
def test_a_verdict_is_not_known_on_another_machine(
    stages: Stages, judge, here: Machine, change: dict[str, Any]
) -> None:  # type: ignore[no-untyped-def]
    judge(target())
    assert known_verdict(WheelFile(judge.wheel), msgspec.structs.replace(here, **change)) is None


def test_a_verdict_is_not_known_for_other_visible_gpus_or_other_bytes(
    monkeypatch: pytest.MonkeyPatch, stages: Stages, judge, here: Machine
) -> None:  # type: ignore[no-untyped-def]
    judge(target())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert known_verdict(WheelFile(judge.wheel), here) is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert known_verdict(WheelFile(judge.wheel), here)
    judge.wheel.write_bytes(judge.wheel.read_bytes() + b"x")
    assert known_verdict(WheelFile(judge.wheel), here) is None


def test_a_verdict_is_known_though_variables_hold_bytes_that_are_no_text(
    monkeypatch: pytest.MonkeyPatch, stages: Stages, judge, here: Machine
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.fsdecode(b"0\xff"))
    monkeypatch.setenv("LD_LIBRARY_PATH", os.fsdecode(b"/\xfe"))
    verdict = judge(target())
    assert known_verdict(WheelFile(judge.wheel), here) == verdict
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.fsdecode(b"0\xfe"))
    assert known_verdict(WheelFile(judge.wheel), here) is None


def test_a_verdict_beside_a_wheel_of_another_name_is_refused(stages: Stages, judge) -> None:  # type: ignore[no-untyped-def]
    judge(target())
    moved = judge.wheel.with_name("other.whl")
    moved.write_bytes(judge.wheel.read_bytes())
    verdict_path(moved).write_bytes(verdict_path(judge.wheel).read_bytes())
    with pytest.raises(
        ConfigurationError, match=r"other\.whl\.verdict\.json is the verdict for another file"
    ) as caught:
        WheelFile(moved).read_verdict()
    assert caught.value.remedy == f"Verify it: `nox -s verify -- {moved}`."


# --- what the command line makes of it -----------------------------------------------------------------


def verdict_with(**changes: Any) -> Verdict:
    good = Verdict(
        filename="x.whl",
        sha256="0" * 64,
        offload="proven",
        reason="3 of 3 checks passed",
        checks=(GOOD,),
        python="3.11",
        tool="t",
        inputs="i",
    )
    return msgspec.structs.replace(good, **changes)


def test_a_gpu_that_is_required_must_have_proven_every_wheel() -> None:
    proven = verdict_with()
    require_verified([proven, proven], require_gpu=True)
    require_verified([], require_gpu=True)
    for offload in ("untested", "impossible_here"):
        other = verdict_with(filename="y.whl", offload=offload, reason="no NVIDIA GPU", cause=RULE)
        require_verified([proven, other], require_gpu=False)
        with pytest.raises(VerificationError, match=r"y\.whl is not verified") as caught:
            require_verified([proven, other], require_gpu=True)
        assert caught.value.exit_code == 7


def test_why_a_wheel_is_not_verified_is_its_cause_its_checks_or_its_offload() -> None:
    with pytest.raises(VerificationError) as caught:
        require_verified([verdict_with(offload="untested", reason="no NVIDIA GPU", cause=RULE)], require_gpu=True)
    assert caught.value.problem == "x.whl is not verified: offload is untested (no NVIDIA GPU)."
    assert caught.value.remedy.endswith("or remove --require-gpu.")
    with pytest.raises(VerificationError) as caught:
        require_verified([verdict_with(offload="impossible_here", cause=RULE)], require_gpu=True)
    assert (caught.value.problem, caught.value.remedy) == (
        "x.whl is not verified: no code for sm_75.",
        "Build for 75.",
    )
    with pytest.raises(VerificationError) as caught:
        require_verified([verdict_with(offload="failed", checks=(GOOD, BAD, BAD))], require_gpu=False)
    both = "numbers on the GPU: wrong: F16; numbers on the GPU: wrong: F16"
    assert caught.value.problem == f"x.whl is not verified: {both}."
    assert caught.value.remedy == "The verdict next to the wheel lists every check."


def test_a_failed_check_fails_also_without_a_gpu_being_required() -> None:
    with pytest.raises(VerificationError):
        require_verified([verdict_with(offload="untested", checks=(BAD,))], require_gpu=False)


def test_the_table_shows_each_gpu_and_each_check_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    on_gpu = GpuVerdict(
        name="NVIDIA L4",
        uuid_sha256="0",
        compute_capability="8.9",
        offload="failed",
        reason="r",
        checks=(GOOD, GOOD, BAD),
    )
    not_run = msgspec.structs.replace(on_gpu, name="Tesla T4", offload="impossible_here", checks=())
    print_verdicts([verdict_with(offload="failed", reason="r", cause=RULE, gpus=(on_gpu, not_run))])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "wheel checks offload",
        "x.whl 1 of 1 passed failed (r)",
        "Build for 75.",
        "on NVIDIA L4 2 of 3 passed failed",
        "on Tesla T4 not run impossible_here",
        "numbers on the GPU: wrong: F16",
    ]
