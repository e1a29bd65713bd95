"""A label is read as it was written; one of others is understood whole, or says which of its parts are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from build_matrix.catalog import toolkits
from build_matrix.model import Architecture, Cell, CudaVersion, Label, parse_label, write_label

CUDA = st.sampled_from(tuple(toolkits())) | st.builds(
    "{}.{}".format, st.integers(10, 49), st.integers(0, 20)
) | st.builds("{}.{}".format, st.integers(5, 9), st.integers(0, 9))  # fmt: skip
CODES = st.lists(
    st.builds(
        Architecture,
        number=st.integers(50, 199),
        feature=st.sampled_from(["", "a", "f"]),
        kind=st.sampled_from(["real", "virtual"]),
    ),
    min_size=1,
    max_size=6,
    unique=True,
)


def understood(label: str) -> Label:
    found = parse_label(label)
    assert found is not None
    return found


@given(CUDA, CODES, st.dictionaries(st.text(min_size=1), st.text()), st.sampled_from(["release", "check"]))
def test_every_label_of_ours_is_understood_again(
    cuda: str, codes: list[Architecture], defines: dict[str, str], profile: str
) -> None:
    cell = Cell(
        llama="0.3.36",
        cuda=cuda,
        architectures=tuple(codes),
        platform="linux-x86_64",
        defines=defines,
        profile=profile,  # type: ignore[arg-type]
    )
    local = Version(f"0.3.36+{cell.label}").local
    assert local == cell.label
    label = understood(cell.label)
    assert label.cuda == cuda
    assert set(label.architectures) == set(codes)
    assert not label.problem


@pytest.mark.parametrize("major", range(11, 21))
@given(minor=st.integers(0, 20), codes=CODES, defines=st.dictionaries(st.text(min_size=1), st.text(), max_size=2))
def test_a_label_is_read_as_the_version_that_it_was_written_for(
    major: int, minor: int, codes: list[Architecture], defines: dict[str, str]
) -> None:
    cuda = CudaVersion(major, minor)
    label = understood(write_label(cuda, codes, defines, "check"))
    assert CudaVersion.parse(label.cuda) == cuda
    assert set(label.architectures) == set(codes)
    assert not label.problem


def test_no_two_versions_share_a_label() -> None:
    versions = [CudaVersion(major, minor) for major in range(11, 21) for minor in range(21)]
    labels = [write_label(version, []) for version in versions]
    assert len(set(labels)) == len(versions)
    assert [CudaVersion.parse(understood(label).cuda) for label in labels] == versions


def test_the_labels_of_todays_toolkits_stay_what_they_are() -> None:
    labels = [write_label(CudaVersion.parse(cuda), []) for cuda in toolkits()]
    assert labels == ["cu118", "cu120", "cu121", "cu122", "cu123", "cu124", "cu125", "cu126", "cu128", "cu129",
                      "cu130", "cu131", "cu132", "cu133", "cu134", "cu135"]  # fmt: skip


@pytest.mark.parametrize(
    ("local", "cuda", "codes"),
    [
        ("cu130.sm89", "13.0", ("sm89",)), ("cu1310.sm89", "13.10", ("sm89",)), ("cu92.sm70", "9.2", ("sm70",)),
        ("cu102.sm75", "10.2", ("sm75",)), ("cu1210.ptx90", "12.10", ("ptx90",)), ("cuda13.0.sm89", "13.0", ("sm89",)),
        ("cuda130.sm89", "13.0", ("sm89",)), ("cuda.12.4.sm89", "12.4", ("sm89",)), ("CU130.SM89", "13.0", ("sm89",)),
        ("cu130.sm120a.ptx90.d0123abcd.check", "13.0", ("ptx90", "sm120a")), ("sm89.cu130", "13.0", ("sm89",)),
    ],
)  # fmt: skip
def test_a_label_that_is_understood_whole(local: str, cuda: str, codes: tuple[str, ...]) -> None:
    label = understood(local)
    assert (label.cuda, label.codes, label.problem) == (cuda, codes, "")
    assert label.family == int(cuda.partition(".")[0])


@pytest.mark.parametrize(
    ("local", "family", "why"),
    [
        ("cuda12.8.sm89.ada", 12, "not understood (ada)"), ("cu124", 12, "names no architecture"),
        ("cu12.sm89", 12, "names no CUDA minor version"), ("cu128.avx2", 12, "(avx2)"), ("cuda", 0, "(cuda)"),
        ("cu12torch2.3", 0, "cu12torch2, 3"), ("cu130.sm5", 13, "(sm5)"), ("cu130.sm089", 13, "(sm089)"),
        ("cu130.sm89.cu124", 13, "(cu124)"), ("cu1300.sm89", 0, "(cu1300)"), ("cu130.d0123", 13, "(d0123)"),
        ("cu130.sm89.basic", 13, "(basic)"), ("cu5.sm89", 0, "cu5"),
    ],
)  # fmt: skip
def test_a_label_that_claims_cuda_and_is_not_understood_says_so(local: str, family: int, why: str) -> None:
    label = understood(local)
    assert label.family == family
    assert why in label.problem


@pytest.mark.parametrize("local", ["", "metal", "cpu", "rocm6.2", "vulkan", "curl", "sm89", "acu130"])
def test_a_label_that_claims_nothing_of_cuda_is_none(local: str) -> None:
    assert parse_label(local) is None


@given(st.text(alphabet="acdfkmpstux0123456789._-", max_size=24))
def test_any_label_is_parsed_without_an_error(local: str) -> None:
    label = parse_label(local)
    if label:
        assert label.family >= 0
        assert len(label.architectures) == len(label.codes)
        assert label.problem or (label.cuda and label.codes)
