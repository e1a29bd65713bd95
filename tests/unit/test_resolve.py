"""Every choice is made before anything is downloaded, and what cannot be built is refused in one sentence."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_matrix.catalog import llama_releases, toolkits
from build_matrix.errors import (
    BuildMatrixError,
    ConfigurationError,
    MissingPrerequisiteError,
    NoCompatibleChoiceError,
)
from build_matrix.locks import locked_llama_releases, locked_toolkits
from build_matrix.model import Architecture, Driver, Gpu, HostCompiler, Machine, Request
from build_matrix.resolve import Choice, choose


def pick(machine: Machine, **wishes: object) -> Choice:
    return choose(Request(**wishes), machine, locked_llama_releases(), locked_toolkits())  # type: ignore[arg-type]


def with_gpu(machine: Machine, capability: str, cuda: str) -> Machine:
    gpu = Gpu(name="GPU", uuid="GPU-1", compute_capability=capability, memory=1 << 34)
    driver = Driver(version="580.1", cuda=cuda)
    return msgspec.structs.replace(machine, driver=driver, driver_problem="", gpus=(gpu,))


def test_without_a_driver_the_default_is_the_first_minor_architecture_89_and_the_newest_release(
    machine: Machine,
) -> None:
    choice = pick(machine, cuda="13")
    assert (choice.cell.cuda, choice.cell.label) == ("13.0", "cu130.sm89")
    assert choice.cell.llama == locked_llama_releases()[-1]
    assert any("89" in note and "no NVIDIA driver" in note for note in choice.notes)


def test_with_a_gpu_its_own_architecture_and_the_newest_minor_that_the_driver_speaks(
    machine: Machine,
) -> None:
    choice = pick(with_gpu(machine, "9.0", "13.2"), cuda="13")
    assert (choice.cell.cuda, choice.cell.architectures) == ("13.2", (Architecture(number=90),))


@pytest.mark.parametrize(
    ("wishes", "error", "words"),
    [
        ({"architectures": ("banana",)}, ConfigurationError, "'banana' is not a CUDA architecture"),
        ({"architectures": ("89,",)}, ConfigurationError, "'' is not a CUDA architecture"),
        (
            {"architectures": ("52",), "cuda": "13"},
            NoCompatibleChoiceError,
            "cannot compile for architecture 52",
        ),
        ({"llama": "0.0.1"}, ConfigurationError, "0.0.1 is not among the locked releases"),
        ({"cuda": "14"}, ConfigurationError, "CUDA 14 is not among the locked toolkits"),
    ],
)
def test_bad_wishes_are_refused_with_their_exit_code(
    machine: Machine, wishes: dict[str, object], error: type[BuildMatrixError], words: str
) -> None:
    with pytest.raises(error) as caught:
        pick(machine, **wishes)
    assert words in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize("version", ["7.5.0", "17.1.0"])
def test_a_compiler_that_is_too_old_or_too_new_is_refused(machine: Machine, gcc: HostCompiler, version: str) -> None:
    other = msgspec.structs.replace(machine, compilers=(msgspec.structs.replace(gcc, version=version),))
    with pytest.raises(NoCompatibleChoiceError, match=f"this one is {version}"):
        pick(other, cuda="13.0")


def test_of_several_compilers_the_first_accepted_one_is_taken(machine: Machine, gcc: HostCompiler) -> None:
    new = msgspec.structs.replace(gcc, version="17.1.0")
    choice = pick(msgspec.structs.replace(machine, compilers=(new, gcc)), cuda="13.0")
    assert choice.compiler == gcc


def test_no_compiler_is_exit_code_3(machine: Machine) -> None:
    with pytest.raises(MissingPrerequisiteError, match="no C\\+\\+ compiler") as caught:
        pick(msgspec.structs.replace(machine, compilers=()))
    assert caught.value.exit_code == 3


def test_blackwell_is_compiled_as_the_sources_rewrite_it(machine: Machine) -> None:
    assert pick(machine, llama="0.3.36", architectures=("120",)).cell.label == "cu130.sm120a"
    assert pick(machine, llama="0.3.16", architectures=("120",)).cell.label == "cu130.sm120"


@given(st.sets(st.sampled_from(toolkits()["13.0"].architectures), min_size=1), st.randoms())
def test_the_order_of_architectures_does_not_change_the_cell(wanted: set[str], random: object) -> None:
    machine = Machine(
        platform="linux-x86_64",
        python="3",
        libc="glibc",
        cpus=1,
        memory=1,
        compilers=(HostCompiler(name="gcc", version="12.2", description="", cc="gcc", cxx="g++", identity=""),),
    )
    shuffled = list(wanted)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = pick(machine, cuda="13.0", architectures=tuple(sorted(wanted)))
    two = pick(machine, cuda="13.0", architectures=(",".join(shuffled),))
    assert one.cell == two.cell


@given(st.text(max_size=12))
def test_any_text_is_an_architecture_or_a_value_error(text: str) -> None:
    try:
        parsed = Architecture.parse(text)
    except ValueError:
        return
    assert Architecture.parse(parsed.cmake) == parsed


def test_every_locked_release_and_toolkit_has_its_row_in_the_catalog() -> None:
    assert set(locked_llama_releases()) <= set(llama_releases())
    assert set(locked_toolkits()) <= set(toolkits())
