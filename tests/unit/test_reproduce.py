"""Two wheels are compared down to the section and the text; a record is refused when it is another's."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from pathlib import Path

import msgspec
import pytest
from records import make_record
from typer.testing import CliRunner

from build_matrix.cli import app
from build_matrix.errors import ConfigurationError, NotReproducibleError
from build_matrix.model import AppliedPatch, HostCompiler, Machine, file_sha256
from build_matrix.pipeline.reproduce import choose_compiler, compiler_difference, conclude
from build_matrix.probe import find_compilers
from build_matrix.reproduce import choose_variations, compare_wheels, read_record, require_same_recipe
from build_matrix.reproduce.variation import disturbance
from build_matrix.wheelfile.archive import relabel, write_wheel
from build_matrix.wheelfile.sidecar import record_path
from wheels import make_wheel, raw_members

GOLDEN = "bb12d383c572501a22589f5f1fe13ae388b001eb0aed61c01b4b2b78df09f21b"  # of libdeflate 1.2x


def library(folder: Path, text: str) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "x.c"
    source.write_text(f'const char greeting[] = "{text}"; const char *same(void) {{ return greeting; }}\n')
    subprocess.run([find_compilers()[0].cc, "-shared", "-fPIC", "-s", "-o", folder / "x.so", source], check=True)
    return (folder / "x.so").read_bytes()


def test_a_wheel_is_the_same_bytes_for_every_python_and_every_zlib(tmp_path: Path) -> None:
    path = write_wheel(relabel(raw_members({"libx.so": bytes(range(256)) * 64}), "cu130.sm89", ()), tmp_path)
    assert file_sha256(path) == GOLDEN


def test_a_wheel_is_an_archive_that_everybody_reads(tmp_path: Path) -> None:
    members = relabel(raw_members({"libx.so": b"a" * 100_000, "leer.txt": b"", "größe.txt": b"x"}), "cu130.sm89", ())
    path = write_wheel(members, tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in members} == members
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}
    subprocess.run([sys.executable, "-m", "zipfile", "-t", path], check=True, capture_output=True)


def test_the_same_wheels_have_no_difference(tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path / name, {"libx.so": b"x"}) for name in ("a", "b")]
    assert compare_wheels(*wheels) == ()


@pytest.mark.compiler
def test_a_text_that_differs_is_found_in_its_section_and_symbol(tmp_path: Path) -> None:
    wheels = [
        make_wheel(tmp_path / text.replace(" ", ""), {"libx.so": library(tmp_path / "c", text)})
        for text in ("Nov 24 2026", "Dec 29 2027")
    ]
    differences = compare_wheels(*wheels)
    (rodata,) = [item for item in differences if item.part == ".rodata"]
    assert rodata.member == "llama_cpp/lib/libx.so"
    assert "in greeting" in rodata.detail
    assert "only in the first: 'Nov 24 2026'" in rodata.detail
    assert "only in the second: 'Dec 29 2027'" in rodata.detail
    assert {item.part for item in differences} <= {".rodata", ".note.gnu.build-id", "text"}


@pytest.mark.compiler
def test_a_build_id_that_differs_alone_is_explained(tmp_path: Path) -> None:
    sides = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.c").write_text("int f(void) { return 1; }\n")
        argv = [find_compilers()[0].cc, "-g", "-shared", "-fPIC", "-Wl,--build-id", "-o", "x.so", "x.c"]
        subprocess.run(argv, cwd=tmp_path / name, check=True)
        subprocess.run(["strip", "x.so"], cwd=tmp_path / name, check=True)
        sides.append(make_wheel(tmp_path / f"wheel-{name}", {"libx.so": (tmp_path / name / "x.so").read_bytes()}))
    difference, _ = compare_wheels(*sides)  # the second is RECORD, which follows
    assert difference.part == ".note.gnu.build-id"
    assert "what differed was stripped" in difference.detail


def test_a_member_that_is_in_one_wheel_only_and_a_line_that_differs_are_named(tmp_path: Path) -> None:
    first = make_wheel(tmp_path / "a", {"one.txt": b"same\nthis\n"})
    second = make_wheel(tmp_path / "b", {"one.txt": b"same\nthat\n", "two.txt": b""})
    details = {item.member: item.detail for item in compare_wheels(first, second)}
    assert details["llama_cpp/lib/one.txt"] == "this | that"
    assert details["llama_cpp/lib/two.txt"] == "only in the second"


def test_a_container_that_differs_alone_is_a_difference(tmp_path: Path) -> None:
    members = relabel(raw_members(), "cu130.sm89", ())
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    differences = compare_wheels(write_wheel(members, tmp_path / "a", 1), write_wheel(members, tmp_path / "b", 12))
    assert [item.part for item in differences] == ["archive"]


def test_a_difference_is_exit_code_8_and_leaves_both_wheels_and_a_report(tmp_path: Path, reporter) -> None:  # type: ignore[no-untyped-def]
    first = make_wheel(tmp_path / "a", {"one.txt": b"this\n"})
    second = make_wheel(tmp_path / "b", {"one.txt": b"that\n"})
    with pytest.raises(NotReproducibleError, match=r"because of the weather.*this \| that") as caught:
        conclude(first, second, ["because of the weather"], tmp_path / "wheels", reporter)
    assert caught.value.exit_code == 8
    kept = tmp_path / "wheels" / "different"
    assert (kept / "first" / first.name).read_bytes() == first.read_bytes()
    assert (kept / "second" / second.name).read_bytes() == second.read_bytes()
    assert "this | that" in (kept / f"{first.name}.txt").read_text()


def test_a_record_of_another_file_is_refused(tmp_path: Path, gcc: HostCompiler) -> None:
    wheel = make_wheel(tmp_path)
    record = make_record(wheel, gcc)
    assert read_record(wheel) == record
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(ConfigurationError, match="is the record for another file"):
        read_record(wheel)
    record_path(wheel).write_text("{}")
    with pytest.raises(ConfigurationError, match="has no readable record"):
        read_record(wheel)


def test_a_wheel_without_record_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["reproduce", "--store", str(tmp_path / "s"), str(tmp_path / "no.whl")])
    assert isinstance(answer.exception, ConfigurationError)
    assert "There is no wheel" in answer.exception.problem


def test_another_recipe_is_refused_by_what_differs(tmp_path: Path, gcc: HostCompiler) -> None:
    record = make_record(make_wheel(tmp_path), gcc)
    require_same_recipe(record, "t", record.patches, {"A": "1"})
    with pytest.raises(NotReproducibleError, match=r"different patches: 0001.patch, 0002.patch"):
        require_same_recipe(record, "t", (AppliedPatch(name="0002.patch", sha256="2" * 64),), {"A": "1"})
    with pytest.raises(NotReproducibleError, match=r"different flags: A, B"):
        require_same_recipe(record, "t", record.patches, {"A": "2", "B": "1"})


def test_the_recorded_compiler_is_taken_and_another_one_is_named(
    tmp_path: Path, gcc: HostCompiler, machine: Machine, reporter
) -> None:  # type: ignore[no-untyped-def]
    wanted = msgspec.structs.replace(gcc, programs={"as": "1", "cc1plus": "2"})
    record = msgspec.structs.replace(make_record(make_wheel(tmp_path), gcc), host_compiler=wanted)
    newer = msgspec.structs.replace(gcc, version="13.3.0", identity="j", description="13.3")
    here = msgspec.structs.replace(machine, compilers=(newer, wanted))
    assert choose_compiler(record, here, reporter) == wanted
    assert not reporter.lines
    other = msgspec.structs.replace(wanted, identity="k", programs={"as": "1", "cc1plus": "3"})
    assert choose_compiler(record, msgspec.structs.replace(machine, compilers=(newer, other)), reporter) == other
    assert "different: cc1plus" in reporter.lines[0]
    assert "specs" in compiler_difference(wanted, msgspec.structs.replace(wanted, description="patched"))


@pytest.mark.compiler
@pytest.mark.skipif(sys.platform != "linux", reason="varies Linux things")
def test_each_variation_is_tried_out_and_what_cannot_be_varied_says_why(tmp_path: Path) -> None:
    variations = choose_variations(2, find_compilers()[0].cc, tmp_path, cached=True)
    assert {"folders", "umask", "clock", "host name", "order of folders"} <= {item.name for item in variations}
    by_name = {item.name: item for item in variations}
    assert not by_name["load"].why_not
    assert not by_name["clock"].why_not
    assert not by_name["dates of the sources"].why_not
    argv = disturbance(variations, tmp_path).wrapper
    for item in variations:
        assert bool(item.options and set(item.options) <= set(argv)) == bool(item.options and not item.why_not)


@pytest.mark.compiler
@pytest.mark.skipif(sys.platform != "linux", reason="varies Linux things")
def test_what_is_disturbed_reaches_the_command(tmp_path: Path) -> None:
    variations = [
        item
        for item in choose_variations(1, find_compilers()[0].cc, tmp_path, cached=False)
        if item.options and not item.why_not
    ]
    code = "import os, socket, time; print(int(os.stat('source.c').st_mtime), socket.gethostname(), time.time())"
    argv = [*disturbance(tuple(variations), tmp_path / "x").wrapper, sys.executable, "-c", code]
    printed = subprocess.run(argv, cwd=tmp_path / "sources", capture_output=True, text=True, check=True).stdout.split()
    expected = {item.name: item.second for item in variations}
    assert printed[0] == "946684800"
    assert 399 < (float(printed[2]) - time.time()) / 86400 < 401
    if "host name" in expected:
        assert printed[1] == expected["host name"]
