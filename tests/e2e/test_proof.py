"""Why a real wheel does not offload: each cause produced, and named, with no GPU at hand."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import lief
import msgspec
import pytest
from contexts import in_context
from main_job import Place
from rich.console import Console
from small_model import write_small_model

from build_matrix.diagnosis import diagnose_run
from build_matrix.downloads import Downloads
from build_matrix.model import Driver, Finding, Gpu, Machine, Verdict
from build_matrix.platforms import find_platform
from build_matrix.report import LineReporter
from build_matrix.store import Store
from build_matrix.trial.environment import install_wheel
from build_matrix.verify.smoke import SmokeTest, prepare_smoke_test, run_on_cpu, run_on_gpu
from build_matrix.verify.static import check_static
from build_matrix.wheelfile.archive import read_members, record_hash
from build_matrix.wheelfile.file import WheelFile
from build_matrix.wheelfile.sidecar import verdict_path
from lab import Lab, LabGpu

pytestmark = [pytest.mark.build, pytest.mark.compiler, pytest.mark.index]

NEW = "580.95.05"
UNDEFINED_INSTRUCTION = b"\x0f\x0b"  # UD2, which no x86 processor knows


def verdict_of(wheel: Path) -> Verdict:
    return msgspec.json.decode(verdict_path(wheel).read_bytes(), type=Verdict)


@pytest.mark.parametrize(
    ("lab", "visible", "offload", "rule"),
    [
        (Lab(NEW, init_error=804), None, "failed", "forward compatibility"),
        (Lab(NEW, init_error=999), None, "failed", "kernel module"),
        (Lab(NEW, init_error=803), None, "failed", "kernel module"),
        (Lab(NEW), "", "failed", "hidden"),
        (Lab(NEW), None, "failed", "no GPU"),
        (Lab(NEW, gpus=(LabGpu("NVIDIA RTX 2060", "7.5"),)), None, "impossible_here", "code for the GPU"),
        (Lab("576.52", 12090), None, "impossible_here", "driver runs toolkit"),
    ],
)
def test_a_driver_that_cannot_run_it_is_named(
    place: Place, tmp_path: Path, lab: Lab, visible: str | None, offload: str, rule: str
) -> None:
    variables = lab.install(tmp_path / "lab") | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    done = place.run("verify", "--require-gpu", **variables)
    assert done.returncode == 7, done.stderr
    verdict = verdict_of(place.wheel)
    assert verdict.offload == offload, verdict
    assert verdict.cause is not None
    assert verdict.cause.rule == rule, verdict.cause
    assert verdict.cause.remedy in done.stderr
    assert [gpu.offload for gpu in verdict.gpus] == [offload]
    assert lab.gpus[0].uuid not in verdict_path(place.wheel).read_text()


def test_a_wheel_without_its_cuda_back_end_is_a_cpu_build(place: Place, tmp_path: Path) -> None:
    wheel = tmp_path / place.wheel.name
    members = {name: data for name, data in read_members(place.wheel).items() if not name.endswith("libggml-cuda.so")}
    (record,) = (name for name in members if name.endswith(".dist-info/RECORD"))
    rows = [f"{name},{record_hash(data)},{len(data)}" for name, data in members.items() if name != record]
    members[record] = "\n".join([*rows, f"{record},,"]).encode() + b"\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert place.run("verify", str(wheel)).returncode == 7
    cause = verdict_of(wheel).cause
    assert cause is not None
    assert cause.rule == "CPU build"


@pytest.fixture
def installed(place: Place, tmp_path: Path) -> SmokeTest:
    """The wheel in a fresh environment, ready to be tried."""
    store = Store(place.store)
    label = check_static(WheelFile(place.wheel), find_platform("linux-x86_64"))[1]
    assert label is not None
    downloads = Downloads(store, LineReporter(Console(stderr=True)))
    environment = install_wheel(in_context(store, downloads=downloads), WheelFile(place.wheel), label, tmp_path)
    return prepare_smoke_test(in_context(store, cpus=2), environment, None)


def site_of(test: SmokeTest) -> Path:
    (site,) = test.environment.python.parents[1].glob("lib/python*/site-packages")
    return site


def tried_with_a_gpu(test: SmokeTest, folder: Path, machine: Machine) -> Finding:
    """Why it does not offload, where the lab's driver shows a GPU that it could run on."""
    lab = Lab(NEW)
    here = msgspec.structs.replace(machine, driver=Driver(version=NEW, cuda="13.0"))
    gpu = Gpu(name="x", uuid=lab.gpus[0].uuid, compute_capability="8.9")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in lab.install(folder / "lab").items():
            patch.setenv(name, value)
        result = run_on_gpu(test, gpu, gpu.uuid)
    assert not all(check.passed for check in result.checks)
    return diagnose_run(result.facts, result.checks, here, gpu, 13)


def replace_file(path: Path, data: bytes) -> None:
    """Installed files are links into the store's cache: another file, not other bytes in the same one."""
    path.unlink()
    path.write_bytes(data)


def test_missing_cuda_libraries_and_a_shadowing_package_are_named(
    place: Place, installed: SmokeTest, tmp_path: Path, machine: Machine
) -> None:
    version = place.wheel.name.split("-")[1]
    site = site_of(installed)
    assert run_on_cpu(installed, version).passed
    shutil.rmtree(site / "nvidia")
    shutil.rmtree(site / "cuda", ignore_errors=True)
    finding = tried_with_a_gpu(installed, tmp_path, machine)
    assert finding.rule == "library of CUDA missing"
    assert "libcudart.so.13" in finding.fact or "libcublas.so.13" in finding.fact

    other = tmp_path / "other" / "llama_cpp"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("__version__ = '0.0.1'\ndef llama_supports_gpu_offload(): return True\n")
    (site / "zz-shadow.pth").write_text(f"import sys; sys.path.insert(0, {str(other.parent)!r})\n")
    shadowed = run_on_cpu(installed, version)
    assert diagnose_run(shadowed.facts, shadowed.checks, machine, None, 13).rule == "shadowed"


def test_a_back_end_that_is_cut_off_is_named(installed: SmokeTest, tmp_path: Path, machine: Machine) -> None:
    replace_file(site_of(installed) / "llama_cpp" / "lib" / "libggml-cuda.so", b"cut off on its way here")
    finding = tried_with_a_gpu(installed, tmp_path, machine)
    assert (finding.rule, "libggml-cuda.so: file too short" in finding.fact) == ("damaged library", True), finding


def test_an_instruction_that_the_processor_does_not_know_is_named(
    place: Place, installed: SmokeTest, machine: Machine
) -> None:
    library = site_of(installed) / "llama_cpp" / "lib" / "libllama.so"
    parsed = lief.ELF.parse(str(library))
    assert parsed is not None
    symbol = next(one for one in parsed.dynamic_symbols if one.name == "llama_model_load_from_file")
    data = bytearray(library.read_bytes())
    offset = parsed.virtual_address_to_offset(symbol.value)
    data[offset : offset + 2] = UNDEFINED_INSTRUCTION
    replace_file(library, bytes(data))
    result = run_on_cpu(installed, place.wheel.name.split("-")[1])
    finding = diagnose_run(result.facts, result.checks, machine, None, 13)
    assert (finding.rule, "SIGILL" in finding.fact) == ("illegal instruction", True), finding


def test_a_real_model_can_be_tried_and_verdicts_are_json_with_a_schema(place: Place, tmp_path: Path) -> None:
    model = tmp_path / "small.gguf"
    write_small_model(model)
    done = place.run("verify", "--json", "--model", str(model))
    assert done.returncode == 0, done.stderr
    (verdict,) = json.loads(done.stdout)
    assert verdict["schema"] == "build-matrix/verdict/2"
    assert any(check["name"] == "small.gguf" and check["passed"] for check in verdict["checks"])
    schema = json.loads(place.run("verify", "--schema").stdout)
    assert "Verdict" in schema["$defs"]
    missing = place.run("verify", "--model", str(tmp_path / "none.gguf"))
    assert (missing.returncode, "There is no model" in missing.stderr) == (2, True)
