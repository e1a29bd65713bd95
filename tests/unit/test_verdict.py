"""A verdict is of one file; one failed GPU fails a wheel; a proven one proves it where rules exclude the others."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from build_matrix.errors import ConfigurationError
from build_matrix.model import Check, Finding, Gpu, GpuVerdict, HostEnvironment, Machine, Offload, Verdict, file_sha256
from build_matrix.pipeline.verification import visible_gpus
from build_matrix.verify import _judge, _Outcome, known_verdict
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.sidecar import verdict_path

GOOD = (Check(name="RECORD", passed=True, detail=""),)
RULE = Finding(rule="gpu", kind="run", passed=False, fact="no code for sm_75", remedy="Build for 75.")


def gpu(offload: Offload, name: str = "A") -> GpuVerdict:
    return GpuVerdict(
        name=name,
        uuid_sha256="0" * 64,
        compute_capability="9.0",
        offload=offload,
        reason=f"{offload} on {name}",
        cause=None if offload == "proven" else RULE,
    )


@pytest.mark.parametrize(
    ("offloads", "expected"),
    [
        (("proven",), "proven"),
        (("proven", "proven"), "proven"),
        (("proven", "failed"), "failed"),
        (("proven", "impossible_here"), "proven"),
        (("impossible_here",), "impossible_here"),
        (("impossible_here", "failed"), "failed"),
        ((), "untested"),
    ],
)
def test_the_gpus_decide_together(machine: Machine, offloads: tuple[Offload, ...], expected: Offload) -> None:
    found = tuple(gpu(offload, name) for offload, name in zip(offloads, "AB", strict=False))
    offload, reason, cause = _judge(_Outcome(checks=GOOD, gpus=found), machine)
    assert offload == expected
    assert (cause is None) == (expected == "proven")
    if offloads == ("proven", "impossible_here"):
        assert "B: impossible_here on B" in reason


def test_a_failed_check_fails_whatever_the_gpus_say(machine: Machine) -> None:
    bad = (Check(name="cubins", passed=False, detail="inside sm80"),)
    assert _judge(_Outcome(checks=bad, gpus=(gpu("proven"),)), machine)[:2] == ("failed", "cubins: inside sm80")


def test_a_verdict_of_another_file_is_refused(tmp_path: Path, machine: Machine) -> None:
    wheel = tmp_path / "x.whl"
    wheel.write_bytes(b"one")
    verdict = Verdict(
        filename=wheel.name,
        sha256=file_sha256(wheel),
        offload="untested",
        reason="",
        checks=(),
        python="3.11",
        tool="t",
        inputs="i",
    )
    with pytest.raises(ConfigurationError, match="no readable verdict"):
        WheelFile(wheel).read_verdict()
    verdict_path(wheel).write_bytes(msgspec.json.encode(verdict))
    assert WheelFile(wheel).read_verdict() == verdict
    assert known_verdict(WheelFile(wheel), machine) is None, "of another machine"
    wheel.write_bytes(b"two")
    with pytest.raises(ConfigurationError, match="is the verdict for another file"):
        WheelFile(wheel).read_verdict()


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, ["GPU-aa", "GPU-bb", ""]),
        ("1", ["GPU-bb"]),
        ("1,0", ["GPU-bb", "GPU-aa"]),
        ("GPU-b", ["GPU-bb"]),
        ("MIG-xyz", ["MIG-xyz"]),
        ("", ["GPU-aa", "GPU-bb", ""]),
        ("nonsense", ["GPU-aa", "GPU-bb", ""]),
    ],
)
def test_only_gpus_that_the_environment_leaves_are_tried(
    machine: Machine, variable: str | None, expected: list[str]
) -> None:
    gpus = [
        Gpu(name="x", uuid=f"GPU-{name}", compute_capability="9.0", mig=name == "cc") for name in ("aa", "bb", "cc")
    ]
    here = msgspec.structs.replace(machine, gpus=tuple(gpus), environment=HostEnvironment(visible_devices=variable))
    assert [visible for _, visible in visible_gpus(here)] == expected
