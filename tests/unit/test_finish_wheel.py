"""A finished wheel declares what it needs, carries licences and a bill of materials, and nothing that it must not."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
import pytest
from contexts import in_context

import build_matrix
from build_matrix import wheel as stage
from build_matrix.catalog import library_finder
from build_matrix.errors import VerificationError
from build_matrix.model import (
    AppliedPatch,
    BuildFacts,
    BuildInputs,
    Component,
    HostCompiler,
    Member,
    RawWheel,
    SystemNeeds,
    Wheel,
    WheelRecord,
    file_sha256,
)
from build_matrix.platforms import Platform
from build_matrix.store import Store
from build_matrix.wheel import finish_wheel
from build_matrix.wheel.hygiene import check_members
from build_matrix.wheel.sbom import write_sbom
from build_matrix.wheelfile import file
from build_matrix.wheelfile.archive import Members, headers, read_members, relabel, write_wheel
from build_matrix.wheelfile.native import Library
from build_matrix.wheelfile.sidecar import record_path
from wheels import raw_members

CUDA, BASE = b"\x7fELF cuda", b"\x7fELF base"
INFO = "llama_cpp_python-0.3.16+cu130.sm89.dist-info"
NEEDS = SystemNeeds(tag="manylinux_2_27_x86_64", symbols={"GLIBC": "2.27"})
BUDGET = 10_000_000


def component(project: str, version: str, **changes: str) -> Component:
    part = Component(
        project=project, version=version, filename=f"{project}-{version}.whl", sha256=f"{len(project):064x}"
    )
    return msgspec.structs.replace(part, **changes)


GLIBC = component("glibc", "2.28", origin="debian", filename="glibc_2.28_amd64.deb")


TOOLKIT = (
    component("nvidia-cuda-runtime", "13.0.96"),
    component("nvidia-cublas", "13.1.0.3"),
    component("nvidia-cuda-nvcc", "13.0.88"),
)


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, Library]:
    """What lief would say of each file."""
    known = {
        CUDA: Library(soname="libggml-cuda.so", needed=("libcudart.so.13", "libcublas.so.13"), runpath=("$ORIGIN",)),
        BASE: Library(soname="libggml-base.so", needed=("libc.so.6",), runpath=("$ORIGIN",)),
    }
    monkeypatch.setattr(file, "read_library", known.get)
    monkeypatch.setattr(stage, "known_system_needs", known_needs)
    return known


def known_needs(
    platform: Platform,
    libraries: Mapping[str, bytes],
    provided: Iterable[str],
    store: Store,
    write: Callable[[Path], Path],
) -> SystemNeeds:
    """In the place of auditwheel, which gets the finished wheel in all but its tag, and its libraries' packages."""
    assert platform.name == "linux-x86_64"
    assert {"libcudart.so.13", "libcublas.so.13"} <= set(provided)
    with store.scratch("needs") as folder:
        written = read_members(write(folder))
    assert {CUDA, BASE} == set(libraries.values())
    assert libraries.items() <= written.items()
    return NEEDS


@pytest.fixture
def work(inputs: BuildInputs, tmp_path: Path) -> BuildInputs:
    """Sources with the licences of llama.cpp and of what it carries."""
    vendored = tmp_path / "source" / "vendor" / "llama.cpp"
    (vendored / "licenses").mkdir(parents=True)
    (vendored / "LICENSE").write_text("MIT of llama.cpp")
    (vendored / "licenses" / "LICENSE-jsonhpp").write_text("MIT of json")
    (vendored / "README.md").write_text("no licence")
    patches = (AppliedPatch(name="0001.patch", sha256="1" * 64),)
    return msgspec.structs.replace(
        inputs,
        source=msgspec.structs.replace(inputs.source, root=tmp_path / "source", patches=patches),
        toolchain=msgspec.structs.replace(inputs.toolchain, components=TOOLKIT),
        environment=msgspec.structs.replace(inputs.environment, components=(component("cmake", "4.0"),)),
        sysroot=msgspec.structs.replace(inputs.sysroot, components=(GLIBC,)),
    )


@pytest.fixture
def finish(work: BuildInputs, store: Store, tmp_path: Path, libraries: dict[bytes, Library]):  # type: ignore[no-untyped-def]
    def run(
        change: Callable[[Members], Members] = lambda members: members,
        inputs: BuildInputs = work,
        budget: int = BUDGET,
        digest: str = "raw",
    ) -> Wheel:
        members = change(raw_members({"libggml-cuda.so": CUDA, "libggml-base.so": BASE}))
        members = {name: data for name, data in members.items() if not name.endswith("/RECORD")}
        (tmp_path / "raw").mkdir(exist_ok=True)
        raw = RawWheel(
            path=write_wheel(members, tmp_path / "raw"),
            facts=BuildFacts(
                generator="Ninja",
                architectures=("89-real",),
                cuda_compiler="/store/toolkit/bin/nvcc",
                cuda_compiler_version="13.0.88",
                cxx_compiler_version="12.2.0",
                cmake_version="4.0.0",
                steps=7,
            ),
            flags={"A": "1"},
            digest=digest,
        )
        return finish_wheel(in_context(store), raw, inputs, budget, tmp_path / "wheels")

    return run


def requirements(path: Path) -> list[str]:
    text = read_members(path)[f"{INFO}/METADATA"].decode()
    return [value for name, value in headers(text) if name == "Requires-Dist" and "extra" not in value]


def test_a_wheel_declares_the_packages_of_the_libraries_that_it_needs_within_their_major(finish) -> None:  # type: ignore[no-untyped-def]
    finder = library_finder()
    assert requirements(finish().path) == [
        "numpy>=1.20.0",
        f"{finder.project}{finder.specifier}",
        "nvidia-cublas<14,>=13.1",
        "nvidia-cuda-runtime<14,>=13.0",
    ]


def test_a_package_whose_libraries_are_not_needed_is_not_declared(finish, libraries: dict[bytes, Library]) -> None:  # type: ignore[no-untyped-def]
    libraries[CUDA] = Library(soname="libggml-cuda.so", needed=("libcudart.so.13",), runpath=())
    assert not [line for line in requirements(finish().path) if "cublas" in line]


def test_a_wheel_is_named_by_its_label_and_the_system_that_it_needs(finish, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = finish().path
    assert path == tmp_path / "wheels" / "llama_cpp_python-0.3.16+cu130.sm89-py3-none-manylinux_2_27_x86_64.whl"
    assert b"Tag: py3-none-manylinux_2_27_x86_64\n" in read_members(path)[f"{INFO}/WHEEL"]


def test_a_wheel_carries_the_licences_and_a_bill_of_materials(finish, work: BuildInputs) -> None:  # type: ignore[no-untyped-def]
    members = read_members(finish().path)
    licences = {name.removeprefix(f"{INFO}/licenses/"): data for name, data in members.items() if "/licenses/" in name}
    assert licences == {
        "LICENSE.md": b"MIT\n",
        "vendor/llama.cpp/LICENSE": b"MIT of llama.cpp",
        "vendor/llama.cpp/licenses/LICENSE-jsonhpp": b"MIT of json",
    }
    assert members[f"{INFO}/sboms/build-matrix.cdx.json"] == write_sbom(work)


def test_the_record_says_what_the_wheel_is_and_what_it_was_made_of(finish, work: BuildInputs) -> None:  # type: ignore[no-untyped-def]
    wheel = finish()
    record, members = wheel.record, read_members(wheel.path)
    assert msgspec.json.decode(record_path(wheel.path).read_bytes(), type=WheelRecord) == record
    assert (record.filename, record.sha256) == (wheel.path.name, file_sha256(wheel.path))
    assert record.size == wheel.path.stat().st_size
    assert record.unpacked_size == sum(map(len, members.values()))
    assert record.libraries == (
        Member(path="llama_cpp/lib/libggml-base.so", size=len(BASE), needed=("libc.so.6",)),
        Member(path="llama_cpp/lib/libggml-cuda.so", size=len(CUDA), needed=("libcudart.so.13", "libcublas.so.13")),
    )
    assert (record.host_compiler.cc, record.host_compiler.cxx) == ("gcc", "g++")
    assert (record.facts.cuda_compiler, record.facts.steps) == ("<toolkit>/bin/nvcc", 7)
    assert (record.cell, record.sdist, record.patches) == (work.cell, work.source.sdist, work.source.patches)
    assert (record.toolkit, record.toolkit_release) == (TOOLKIT, "13.0.3.0")
    assert record.build_environment == work.environment.components
    assert record.sysroot == work.sysroot.components
    assert (record.flags, record.system, record.python) == ({"A": "1"}, NEEDS, platform.python_version())
    assert record.tool == f"build-matrix {build_matrix.__version__}"


def test_a_wheel_of_just_its_budget_is_finished_and_one_byte_less_refuses_it(finish, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    size = finish().path.stat().st_size
    finish(budget=size)
    with pytest.raises(VerificationError, match=r"has 0\.0 MB; its limit is 0\.0 MB") as caught:
        finish(budget=size - 1)
    assert "max_mb" in caught.value.remedy
    assert caught.value.exit_code == 7


def test_the_same_build_is_finished_once_and_another_again(
    finish, work: BuildInputs, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    asked = []
    monkeypatch.setattr(stage, "known_system_needs", lambda *given: asked.append(1) or known_needs(*given))
    first = finish()
    assert finish() == first
    assert len(asked) == 1
    finish(digest="other")
    assert len(asked) == 2
    cell = msgspec.structs.replace(work.cell, profile="check")
    finish(inputs=msgspec.structs.replace(work, cell=cell))
    assert len(asked) == 3


def test_a_wheel_is_finished_with_one_look_at_each_library(
    finish, libraries: dict[bytes, Library], monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    parsed: list[bytes] = []

    def read(data: bytes) -> Library | None:
        parsed.append(data)
        return libraries.get(data)

    monkeypatch.setattr(file, "read_library", read)
    finish()
    assert sorted(data for data in parsed if data in libraries) == sorted(libraries)


def test_a_wheel_that_somebody_changed_or_removed_is_put_back(finish) -> None:  # type: ignore[no-untyped-def]
    path = finish().path
    content = path.read_bytes()
    path.write_bytes(b"changed")
    record_path(path).unlink()
    assert finish().path.read_bytes() == content
    assert record_path(path).is_file()


def test_a_wheel_that_is_there_already_is_not_written_again(finish) -> None:  # type: ignore[no-untyped-def]
    path = finish().path
    before = path.stat().st_ino
    assert finish().path.stat().st_ino == before


@pytest.mark.parametrize("place", ["store", "home", "working folder", "fixed places"])
def test_a_wheel_that_names_a_folder_of_this_machine_is_refused(
    finish, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("HOME", str(tmp_path / "home-of-somebody"))
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    text = {
        "store": f"{store.root}/toolkit",
        "home": f"{tmp_path}/home-of-somebody/.cache",
        "working folder": f"{tmp_path}/checkout/x",
        "fixed places": "/srv/toolkit",
    }[place]
    with pytest.raises(VerificationError, match=r"llama_cpp/extra\.py contains a path of this machine"):
        finish(lambda members: members | {"llama_cpp/extra.py": f"# {text}".encode()})


# --- hygiene -------------------------------------------------------------------------------------------


def labelled(changes: dict[str, bytes]) -> Members:
    return relabel(raw_members(), "cu130.sm89", ()) | changes


def check(members: Members, libraries: dict[bytes, Library], forbidden: tuple[str, ...] = ()) -> None:
    check_members(members, {name: libraries[data] for name, data in members.items() if data in libraries}, forbidden)


def test_a_wheel_without_a_licence_is_refused() -> None:
    members = {name: data for name, data in labelled({}).items() if "/licenses/" not in name}
    with pytest.raises(VerificationError, match="contains no licence text"):
        check(members, {})


@pytest.mark.parametrize(
    ("library", "problem"),
    [
        (Library(soname="libx.so", needed=(), runpath=(), stripped=False), r"libx\.so still has its symbol table"),
        (Library(soname="liby.so", needed=(), runpath=()), r"libx\.so has the SONAME liby\.so"),
        (
            Library(soname="libx.so", needed=(), runpath=(), exported_cxx=("_ZNSt1a", "_ZNSt1b")),
            r"libx\.so exports its own copy of libstdc\+\+ \(2 definitions, _ZNSt1a among them\)",
        ),
    ],
)
def test_a_library_that_would_not_work_elsewhere_is_refused(
    libraries: dict[bytes, Library], library: Library, problem: str
) -> None:
    libraries[b"\x7fELF x"] = library
    with pytest.raises(VerificationError, match=problem):
        check(labelled({"llama_cpp/lib/libx.so": b"\x7fELF x"}), libraries)


@pytest.mark.parametrize("soname", ["", "libx.so"])
def test_a_library_may_have_no_name_or_its_own(libraries: dict[bytes, Library], soname: str) -> None:
    libraries[b"\x7fELF x"] = Library(soname=soname, needed=(), runpath=())
    check(labelled({"llama_cpp/lib/libx.so": b"\x7fELF x"}), libraries)


def test_a_second_copy_of_a_library_is_refused_and_of_a_text_is_not(libraries: dict[bytes, Library]) -> None:
    libraries[b"\x7fELF x"] = Library(soname="", needed=(), runpath=())
    check(labelled({"llama_cpp/a.py": b"same", "llama_cpp/b.py": b"same"}), libraries)
    twice = {"llama_cpp/lib/a.so": b"\x7fELF x", "llama_cpp/lib/b.so": b"\x7fELF x"}
    with pytest.raises(VerificationError, match=r"lib/b\.so is a second copy of llama_cpp/lib/a\.so"):
        check(labelled(twice), libraries)


def test_a_path_is_found_in_any_file_and_any_of_the_forbidden(libraries: dict[bytes, Library]) -> None:
    with pytest.raises(VerificationError, match=r"a\.bin contains a path of this machine \(/two/\)"):
        check(labelled({"llama_cpp/a.bin": b"\0\xff/two/\0"}), libraries, ("/one/", "/two/"))


# --- bill of materials ---------------------------------------------------------------------------------


def test_the_bill_of_materials_names_every_ingredient_by_its_hash(work: BuildInputs) -> None:
    bom = json.loads(write_sbom(work))
    assert write_sbom(work) == (json.dumps(bom, indent=2, sort_keys=True) + "\n").encode()
    assert bom["metadata"]["component"]["purl"] == "pkg:pypi/llama-cpp-python@0.3.16%2Bcu130.sm89"
    assert "timestamp" not in bom["metadata"]
    parts = {part["name"]: part for part in bom["components"]}
    assert set(parts) == {
        "llama-cpp-python",
        "llama.cpp",
        "patches/0001.patch",
        "nvidia-cuda-runtime",
        "nvidia-cublas",
        "nvidia-cuda-nvcc",
        "glibc",
        "gcc",
    }
    hashes = {name: part.get("hashes") for name, part in parts.items()}
    assert hashes["llama.cpp"] is None
    assert hashes["llama-cpp-python"] == [{"alg": "SHA-256", "content": work.source.sdist.sha256}]
    assert hashes["patches/0001.patch"] == [{"alg": "SHA-256", "content": "1" * 64}]
    assert parts["nvidia-cublas"]["purl"] == "pkg:pypi/nvidia-cublas@13.1.0.3"
    assert parts["glibc"]["purl"] == "pkg:deb/debian/glibc@2.28?arch=amd64"
    assert (parts["gcc"]["type"], parts["gcc"]["version"], parts["gcc"]["description"]) == (
        "application",
        "12.2.0",
        "gcc",
    )
    assert hashes["gcc"] == [{"alg": "SHA-256", "content": work.compiler.identity}]
    assert parts["patches/0001.patch"]["type"] == "file"
    assert {parts[name]["type"] for name in ("llama.cpp", "glibc", "nvidia-cublas", "llama-cpp-python")} == {"library"}
    assert parts["llama.cpp"]["version"].endswith(" 0.3.16")
    assert {name: part["bom-ref"] for name, part in parts.items()} == {
        name: name if name in {"llama.cpp", "patches/0001.patch", "gcc"} else f"{name}@{part['version']}"
        for name, part in parts.items()
    }
    (whole,) = [row for row in bom["dependencies"] if row["ref"] == "wheel"]
    assert set(whole["dependsOn"]) == {part["bom-ref"] for part in bom["components"]}


def test_a_toolkit_that_is_no_package_is_named_by_its_archive(work: BuildInputs) -> None:
    for origin in ("redist", "installed"):
        part = component("cuda_nvcc", "11.8", origin=origin, filename="cuda_nvcc.tar.xz")
        other = msgspec.structs.replace(work, toolchain=msgspec.structs.replace(work.toolchain, components=(part,)))
        purls = [item.get("purl") for item in json.loads(write_sbom(other))["components"]]
        assert "pkg:generic/nvidia/cuda_nvcc@11.8?file_name=cuda_nvcc.tar.xz" in purls


def test_the_serial_number_follows_from_the_inputs(work: BuildInputs, gcc: HostCompiler) -> None:
    def serial(inputs: BuildInputs) -> str:
        return str(json.loads(write_sbom(inputs))["serialNumber"])

    assert serial(work) == serial(msgspec.structs.replace(work, compiler=msgspec.structs.replace(gcc, version="13")))
    source = msgspec.structs.replace(work.source, patches=())
    cell = msgspec.structs.replace(work.cell, profile="check")
    others = {serial(msgspec.structs.replace(work, source=source)), serial(msgspec.structs.replace(work, cell=cell))}
    assert len({serial(work), *others}) == 3


@pytest.mark.parametrize(("folder", "private"), [("/", False), ("/tmp", False), ("", True)])
def test_a_current_folder_that_every_system_has_is_no_secret(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, private: bool
) -> None:
    monkeypatch.setattr(Path, "cwd", lambda: Path(folder or tmp_path))
    assert (str(Path.cwd()) in stage._private_paths(store)) == private
    assert str(store.root) in stage._private_paths(store)
