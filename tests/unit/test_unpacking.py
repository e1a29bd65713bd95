"""Archives of others are unpacked by one set of rules, whatever they are packed as and whatever Python this is."""

from __future__ import annotations

import ast
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_matrix import unpacking
from build_matrix.errors import UnsafeArchiveError
from build_matrix.unpacking import unpack_archive, unpack_deb

PACKAGE = Path(unpacking.__file__).parent
Entry = tuple[str, bytes, int, str]  # name, content or target, permission bits, kind
TAR_KINDS = {
    "file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
    "pipe": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE, "block": tarfile.BLKTYPE,
}  # fmt: skip
ZIP_KINDS = {
    "file": stat.S_IFREG,
    "folder": stat.S_IFDIR,
    "link": stat.S_IFLNK,
    "pipe": stat.S_IFIFO,
    "device": stat.S_IFCHR,
}


def entry(name: str, content: bytes | str = b"x", mode: int = 0o644, kind: str = "file") -> Entry:
    return name, content.encode() if isinstance(content, str) else content, mode, kind


def tar_bytes(entries: list[Entry], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content, bits, kind in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = TAR_KINDS[kind], bits, 1_000_000_000
            if kind in {"link", "hard"}:
                info.linkname = content.decode()
            elif kind == "file":
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def make_tar(folder: Path, entries: list[Entry]) -> Path:
    path = folder / "some.tar.gz"
    path.write_bytes(tar_bytes(entries))
    return path


def make_zip(folder: Path, entries: list[Entry]) -> Path:
    path = folder / "some.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content, bits, kind in entries:
            info = zipfile.ZipInfo("x")
            info.filename = name + ("/" if kind == "folder" else "")  # ZipInfo itself would tidy the name
            info.external_attr = (ZIP_KINDS[kind] | bits) << 16
            archive.writestr(info, content)
    return path


def make_deb(folder: Path, entries: list[Entry]) -> Path:
    def member(name: str, data: bytes) -> bytes:
        return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)

    path = folder / "some_1_amd64.deb"
    control = tar_bytes([entry("./control", "Package: some\n")])
    parts = [("debian-binary", b"2.0\n"), ("control.tar.gz", control), ("data.tar.xz", tar_bytes(entries, "w:xz"))]
    path.write_bytes(b"!<arch>\n" + b"".join(member(name, data) for name, data in parts))
    return path


Maker = Callable[[Path, list[Entry]], Path]
MAKERS = [pytest.param(make, id=make.__name__[5:]) for make in (make_tar, make_zip, make_deb)]


def unpack(path: Path, folder: Path) -> None:
    (unpack_deb if path.suffix == ".deb" else unpack_archive)(path, folder)


def into(tmp_path: Path) -> Path:
    folder = tmp_path / "a" / "b" / "into"
    folder.mkdir(parents=True)
    return folder


def outside(tmp_path: Path, archive: Path) -> list[Path]:
    folder = tmp_path / "a" / "b" / "into"
    ours = {*folder.parents, folder, archive}
    return [path for path in tmp_path.rglob("*") if path not in ours and not path.is_relative_to(folder)]


@pytest.mark.parametrize("make", MAKERS)
def test_files_programs_folders_and_links_are_unpacked(tmp_path: Path, make: Maker) -> None:
    entries = [
        entry("./top/", b"", 0o2777, "folder"),
        entry("./top/bin/nvcc", "program", 0o775),
        entry("./top/lib/libx.so.12", "library", 0o600),
        entry("./top/lib/libx.so", "libx.so.12", kind="link"),
        entry("./top/lib64", "lib", kind="link"),
        entry("./top/include/deep/up.h", "../../lib64/libx.so", kind="link"),
    ]
    folder = into(tmp_path)
    unpack(make(tmp_path, entries), folder)
    assert (folder / "top/bin/nvcc").stat().st_mode & 0o7777 == 0o755
    assert (folder / "top/lib/libx.so.12").stat().st_mode & 0o7777 == 0o644
    assert (folder / "top/lib64/libx.so").read_text() == "library"
    assert (folder / "top/include/deep/up.h").read_text() == "library"


def test_a_hard_link_to_an_earlier_file_becomes_a_copy(tmp_path: Path) -> None:
    folder = into(tmp_path)
    unpack(make_tar(tmp_path, [entry("a/one", "text"), entry("a/two", "a/one", kind="hard")]), folder)
    assert (folder / "a/two").read_text() == "text"
    assert (folder / "a/two").stat().st_nlink == 1


EVIL = {
    "absolute": [entry("/absolute")],
    "dots": [entry("a/../../escaped")],
    "dots that stay inside": [entry("a/../b")],
    "a drive": [entry("C:/escaped")],
    "a backslash": [entry("..\\escaped")],
    "a control character": [entry("a/\x1b[2J")],
    "a link to a place outside": [entry("a/link", "../../escaped", kind="link")],
    "a link to an absolute place": [entry("a/link", "/etc", kind="link")],
    "a link with nothing behind it": [entry("a/link", "", kind="link")],
    "a link that leaves by way of another": [
        entry("deep/er/one", "../../top", kind="link"), entry("deep/er/two", "one/../../..", kind="link"),
    ],
    "a file below a link": [entry("a", "b", kind="link"), entry("a/file")],
    "a folder below a file": [entry("a"), entry("a/b", b"", 0o755, "folder")],
    "a file in the place of a folder": [entry("a/b"), entry("a")],
    "a file in the place of a link": [entry("a", "b", kind="link"), entry("a")],
    "a link in the place of a folder": [entry("a/b"), entry("a", "c", kind="link")],
    "the same name twice": [entry("a"), entry("a")],
    "the same name by another path": [entry("a/b"), entry("a/./b")],
    "a name in another case": [entry("a/File"), entry("a/file")],
    "a folder in another case": [entry("A/one"), entry("a/two")],
    "a name in another normal form": [entry("caf\u00e9"), entry("cafe\u0301")],
    "setuid": [entry("a", mode=0o4755)],
    "setgid": [entry("a", mode=0o2755)],
    "a pipe": [entry("a", b"", kind="pipe")],
    "a device": [entry("a", b"", kind="device")],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("entries", EVIL.values(), ids=EVIL)
def test_an_unsafe_archive_is_refused_and_nothing_lands_outside(
    tmp_path: Path, make: Maker, entries: list[Entry]
) -> None:
    folder = into(tmp_path)
    archive = make(tmp_path, [entry("first/fine"), *entries])
    with pytest.raises(UnsafeArchiveError, match=archive.name) as caught:
        unpack(archive, folder)
    assert caught.value.exit_code == 5
    assert not outside(tmp_path, archive)


@pytest.mark.parametrize("target", ["a/later", "/etc/hostname", "../outside", "link", "folder"])
def test_a_hard_link_to_anything_but_an_earlier_file_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "outside").write_text("secret")
    entries = [entry("file"), entry("link", "file", kind="link"), entry("folder", b"", kind="folder")]
    folder = into(tmp_path) if not (tmp_path / "a/b/into").exists() else tmp_path
    with pytest.raises(UnsafeArchiveError, match="hard link"):
        unpack(make_tar(tmp_path, [*entries, entry("hard", target, kind="hard"), entry("a/later")]), folder)


names = st.text(st.sampled_from("ab./\\A"), min_size=1, max_size=8)
kinds = st.sampled_from(["file", "folder", "link", "hard"])


@settings(deadline=None, max_examples=200)  # a shared machine may stop for a moment
@given(st.lists(st.tuples(names, names, kinds), max_size=6))
def test_whatever_the_names_and_links_are_nothing_lands_or_leads_outside(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, str, str]]
) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    folder = into(tmp_path)
    archive = make_tar(tmp_path, [entry(name, target, kind=kind) for name, target, kind in members])
    try:
        unpack(archive, folder)
    except UnsafeArchiveError:
        pass
    else:
        count = len([path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()])
        named = [any(part not in {"", "."} for part in name.split("/")) for name, _, _ in members]
        assert count == sum(kind != "folder" and own for (_, _, kind), own in zip(members, named, strict=True))
    assert not outside(tmp_path, archive)
    for path in folder.rglob("*"):
        assert not path.is_symlink() or _real(path).is_relative_to(folder.resolve())


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (RuntimeError, OSError):  # links in a circle lead nowhere
        return path


@pytest.mark.parametrize("make", MAKERS)
def test_only_what_is_wanted_is_looked_at(tmp_path: Path, make: Maker) -> None:
    folder = into(tmp_path)
    path = make(tmp_path, [entry("./etc/alternatives", "/etc", kind="link"), entry("./usr/bin/nvcc", mode=0o755)])
    (unpack_deb if path.suffix == ".deb" else unpack_archive)(path, folder, {"usr/bin/nvcc"}.__contains__)
    assert [str(found.relative_to(folder)) for found in folder.rglob("*") if found.is_file()] == ["usr/bin/nvcc"]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path, make: Maker, keep: float) -> None:
    path = make(tmp_path, [entry(f"top/{number}", bytes(range(256)) * 64) for number in range(8)])
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(UnsafeArchiveError, match="cannot be unpacked"):
        unpack(path, into(tmp_path))


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_a_flipped_bit_is_noticed_by_the_compressions_own_checksum(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    content = tar_bytes([entry("top/file", b"\0" * 5000)], "w:")
    packed = bytearray(compress(content))
    packed[-6 if compress is gzip.compress else -20] ^= 1  # gzip's checksum; xz's index
    path = tmp_path / "some.tar.xx"
    path.write_bytes(packed)
    with pytest.raises(UnsafeArchiveError, match="cannot be unpacked"):
        unpack_archive(path, into(tmp_path))


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_BYTES", 10_000)
    with pytest.raises(UnsafeArchiveError, match="more than"):
        unpack_archive(make_zip(tmp_path, [entry("a", b"\0" * 6000), entry("b", b"\0" * 6000)]), into(tmp_path))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_unpacks_an_archive(path: Path) -> None:
    """The standard library's unpackers differ from version to version; ``filter=`` is an error before 3.10.12."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not used & {"extractall", "unpack_archive", "extract"}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    allowed = {"unpacking.py": {"tarfile", "zipfile"}, "wheelfile/archive.py": {"zipfile"}}
    assert imported & {"tarfile", "zipfile", "shutil.unpack_archive"} <= allowed.get(
        path.relative_to(PACKAGE).as_posix(), set()
    )
