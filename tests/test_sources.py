"""What the user named -> inputs: every one has exactly one row, none is opened that could block, names are exact."""

from __future__ import annotations

import io
import os
import random
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitcli.errors import UsageError
from vitcli.sources import Input, archives, fetched, folders, inputs, web
from vitcli.sources.folders import natural

JPEG = b"\xff\xd8\xff\xe0 not a whole picture"
PNG = b"\x89PNG\r\n\x1a\n nor this"


def names(*given: str | Path, **how: Any) -> list[str]:
    return [item.name for item in inputs([os.fspath(g) for g in given], **how)]


def reasons(*given: str | Path, **how: Any) -> dict[str, str]:
    found = map(fetched, inputs([os.fspath(g) for g in given], **how))
    return {item.name: item.failure.error for item in found if item.failure}


def fill(folder: Path, *files: str) -> Path:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG)
    return folder


def below(folder: Path, *given: str | Path, **how: Any) -> list[str]:
    """Names relative to a folder, which must be how all of them begin."""
    found = names(*given, **how)
    assert all(name.startswith(f"{folder}/") for name in found)
    return [name.removeprefix(f"{folder}/") for name in found]


def test_a_file_is_an_input_whatever_its_ending(tmp_path: Path) -> None:
    fill(tmp_path, "picture.data")
    (item,) = inputs([str(tmp_path / "picture.data")])
    assert item.file == tmp_path / "picture.data"
    assert item.failure is None
    assert item.size == len(JPEG)
    assert item.mtime_ns == (tmp_path / "picture.data").stat().st_mtime_ns


def test_an_input_appears_once_for_each_time_it_was_named(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg")
    assert below(tmp_path, tmp_path / "b.jpg", tmp_path, tmp_path / "b.jpg") == ["b.jpg", "a.jpg", "b.jpg", "b.jpg"]


def test_names_are_joined_to_what_was_given_and_otherwise_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "in/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert names(".", "in/", "./in//a.jpg", "in") == ["./in/a.jpg", "in/a.jpg", "./in//a.jpg", "in/a.jpg"]


def test_what_is_missing_has_its_row(tmp_path: Path) -> None:
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    (tmp_path / "self.png").symlink_to("self.png")
    gone, long, nul = tmp_path / "gone.jpg", "x" * 5000, "a\0b.jpg"
    found = reasons(gone, tmp_path, long, nul, tmp_path / "dangling.png" / "a.jpg")
    assert found == {
        str(gone): "missing",
        str(tmp_path / "dangling.png"): "missing",
        str(tmp_path / "self.png"): "unreadable",
        long: "bad_name",
        nul: "bad_name",
        str(tmp_path / "dangling.png" / "a.jpg"): "missing",
    }


def test_what_could_block_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link.png").symlink_to("fifo.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        found = reasons(tmp_path, tmp_path / "fifo", "/dev/zero")
    named = {Path(name).name: reason for name, reason in found.items()}
    assert named == dict.fromkeys(("fifo.png", "link.png", "socket.png", "fifo", "zero"), "not_a_file")


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path: Path) -> None:
    fill(
        tmp_path, "img10.jpg", "img2.jpg", "IMG1.JPG", "b/1.png", "b/0.webp", "notes.txt", "a.tar", "007.heic", "07.jxl"
    )
    assert below(tmp_path, tmp_path) == [
        "007.heic",
        "07.jxl",
        "b/0.webp",
        "b/1.png",
        "IMG1.JPG",
        "img2.jpg",
        "img10.jpg",
    ]


def test_a_picture_without_an_ending_is_not_lost(tmp_path: Path) -> None:
    fill(tmp_path, "scan")
    (tmp_path / "README").write_text("PNG files are here")
    (tmp_path / "empty").touch()
    (tmp_path / "figure").write_bytes(b"P6\n1 1\n255\n")
    assert below(tmp_path, tmp_path) == ["figure", "scan"]


def test_hidden_files_and_deeper_folders_are_matters_of_choice(tmp_path: Path) -> None:
    fill(tmp_path, ".a.jpg", ".git/b.jpg", "c/d.jpg", "e.jpg")
    assert below(tmp_path, tmp_path) == ["c/d.jpg", "e.jpg"]
    assert below(tmp_path, tmp_path, recursive=False) == ["e.jpg"]
    assert below(tmp_path, tmp_path, hidden=True) == [".a.jpg", ".git/b.jpg", "c/d.jpg", "e.jpg"]


def test_a_folder_that_is_called_like_a_picture_is_a_folder(tmp_path: Path) -> None:
    fill(tmp_path, "dir.jpg/a.jpg")
    (tmp_path / "empty.jpg").mkdir()
    assert below(tmp_path, tmp_path) == ["dir.jpg/a.jpg"]


def test_links_to_files_are_inputs_and_links_to_folders_on_request(tmp_path: Path) -> None:
    fill(tmp_path, "in/a.jpg", "other/b.jpg")
    (tmp_path / "in" / "link.jpg").symlink_to("a.jpg")
    (tmp_path / "in" / "more").symlink_to("../other")
    assert below(tmp_path, tmp_path / "in") == ["in/a.jpg", "in/link.jpg"]
    assert below(tmp_path, tmp_path / "in", follow_links=True) == ["in/a.jpg", "in/link.jpg", "in/more/b.jpg"]
    assert below(tmp_path, tmp_path / "in" / "more") == ["in/more/b.jpg"]


def test_loops_end(tmp_path: Path) -> None:
    fill(tmp_path, "a/b/c.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to("../..")
    (tmp_path / "a" / "here").symlink_to(".")
    (tmp_path / "a" / "self").symlink_to("self")
    # beside its parent a folder may appear again under another name, but never within itself
    assert below(tmp_path, tmp_path, follow_links=True) == ["a/b/c.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every folder")
def test_a_folder_that_cannot_be_read_is_one_row(tmp_path: Path) -> None:
    fill(tmp_path, "shut/a.jpg", "z.jpg")
    (tmp_path / "shut").chmod(0)
    try:
        assert below(tmp_path, tmp_path) == ["shut", "z.jpg"]
        assert reasons(tmp_path) == {str(tmp_path / "shut"): "forbidden"}
    finally:
        (tmp_path / "shut").chmod(0o755)


def test_a_folder_that_fails_while_it_is_read_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.jpg", "shut/b.jpg", "z.jpg")
    scandir = os.scandir

    def failing(path: str) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    assert below(tmp_path, tmp_path) == ["a.jpg", "shut", "z.jpg"]
    assert reasons(tmp_path) == {str(tmp_path / "shut"): "forbidden"}


def test_names_come_back_exactly(tmp_path: Path) -> None:
    odd = [
        b"new\nline.png",
        b"esc\x1b[31m.png",
        b"[red]markup.png",
        b"=1+1.png",
        b"caf\xe9.png",
        b"-rf.png",
        b" lead.png",
    ]
    for name in odd:
        (tmp_path / os.fsdecode(name)).write_bytes(PNG)
    assert sorted(os.fsencode(Path(name).name) for name in names(tmp_path)) == sorted(odd)
    assert not reasons(tmp_path)


def test_a_folder_deeper_than_python_recurses_is_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        Path("d").mkdir()
        os.chdir("d")
    Path("deep.jpg").write_bytes(JPEG)
    os.chdir(tmp_path)
    found = names("d")
    subprocess.run(["rm", "-r", "d"], check=True)  # what cleans up after the tests does recurse
    assert found == ["d/" * 1200 + "deep.jpg"]


def test_a_listing_gives_rows_before_it_is_fully_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "CHUNK", 10)
    fill(tmp_path, *(f"{i}.jpg" for i in range(100)))
    read = 0
    scandir = os.scandir

    class Counted:
        def __init__(self, path: str) -> None:
            self.scan = scandir(path)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return self.entries()

        def __exit__(self, *_: object) -> None:
            self.scan.close()

        def entries(self) -> Iterator[os.DirEntry[str]]:
            nonlocal read
            for entry in self.scan:
                read += 1
                yield entry

    monkeypatch.setattr(os, "scandir", Counted)
    rows = inputs([str(tmp_path)])
    next(rows)
    assert read == 10
    rest = [item.name for item in rows]
    assert read == 100
    assert len(set(rest)) == 99


def test_a_large_folder_is_given_whole_and_the_same_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "CHUNK", 7)
    fill(tmp_path, *(f"{i}.jpg" for i in range(50)))
    first = names(tmp_path)
    assert sorted(first) == sorted(str(tmp_path / f"{i}.jpg") for i in range(50))
    assert names(tmp_path) == first


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="/\0"), min_size=1)))
def test_natural_order_is_an_order(given: list[str]) -> None:
    backwards = list(reversed(given))
    assert sorted(backwards, key=natural) == sorted(given, key=natural)


def test_patterns_are_expanded_where_the_shell_did_not(tmp_path: Path) -> None:
    fill(tmp_path, "a1.jpg", "a10.jpg", "a2.jpg", "b.png", ".h.jpg", "c/d/e.jpg", "c/f.jpg", "g.txt")
    assert below(tmp_path, tmp_path / "*.jpg") == ["a1.jpg", "a2.jpg", "a10.jpg"]
    assert below(tmp_path, tmp_path / "a?.jpg") == ["a1.jpg", "a2.jpg"]
    assert below(tmp_path, tmp_path / "[bg].*") == ["b.png", "g.txt"], "a file that matches is named explicitly"
    assert below(tmp_path, tmp_path / "**" / "*.jpg") == ["a1.jpg", "a2.jpg", "a10.jpg", "c/f.jpg", "c/d/e.jpg"]
    assert below(tmp_path, tmp_path / "c*") == ["c/d/e.jpg", "c/f.jpg"], "a folder that matches is walked"
    assert below(tmp_path, tmp_path / "c" / "**") == ["c/d/e.jpg", "c/f.jpg"]
    assert below(tmp_path, tmp_path / "*" / "d" / "*.jpg") == ["c/d/e.jpg"]
    assert below(tmp_path, tmp_path / ".*.jpg") == [".h.jpg"]
    assert reasons(tmp_path / "*.gif") == {str(tmp_path / "*.gif"): "missing"}


def test_a_relative_pattern_gives_relative_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.jpg", "b/c.jpg")
    monkeypatch.chdir(tmp_path)
    assert names("*.jpg", "./*.jpg", "**/*.jpg") == ["a.jpg", "./a.jpg", "a.jpg", "b/c.jpg"]


def test_a_file_that_is_called_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    fill(tmp_path, "a[1].jpg", "a1.jpg")
    assert below(tmp_path, tmp_path / "a[1].jpg") == ["a[1].jpg"]


def test_lists_name_inputs_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, "a.jpg", "in/b.jpg", "*.jpg", "@list.txt", "cr.jpg\r", "dos.jpg")
    Path(os.fsdecode(b"caf\xe9.jpg")).write_bytes(JPEG)
    Path("list.txt").write_bytes(b"in\n\na.jpg\n*.jpg\ncaf\xe9.jpg\n@list.txt\n a.jpg\ncr.jpg\r\ndos.jpg\r\na.jpg")
    listed = ["in/b.jpg", "a.jpg", "*.jpg", "caf\udce9.jpg", "@list.txt", " a.jpg", "cr.jpg\r", "dos.jpg", "a.jpg"]
    assert names("@list.txt") == listed
    assert reasons("@list.txt") == {" a.jpg": "missing"}
    assert names("./@list.txt") == ["./@list.txt"]
    assert reasons("@nowhere.txt") == {"@nowhere.txt": "missing"}


def test_names_come_from_stdin_with_newlines_or_nul(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, "a.jpg", "new\nline.jpg")
    assert names("-", "a.jpg", stdin=io.BytesIO(b"a.jpg\nx.jpg\n")) == ["a.jpg", "x.jpg", "a.jpg"]
    given = io.BytesIO(b"new\nline.jpg\0a.jpg\0")
    assert names("-", nul=True, stdin=given) == ["new\nline.jpg", "a.jpg"]


def test_a_name_on_stdin_is_an_input_as_soon_as_it_arrives() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stdin, os.fdopen(writer, "wb", buffering=0) as names:
        rows = inputs(["-"], stdin=stdin)
        names.write(b"first.jpg\nsec")
        assert next(rows).name == "first.jpg"
        names.write(b"ond.jpg\n")
        assert next(rows).name == "second.jpg"


def test_a_long_list_is_read_in_pieces_without_tearing_names() -> None:
    listed = [f"no/such/folder/{i}.jpg" for i in range(10_000)]
    assert names("-", stdin=io.BytesIO("\n".join(listed).encode())) == listed


def test_stdin_can_be_a_picture() -> None:
    (item,) = inputs([], stdin_image=True, stdin=io.BytesIO(JPEG))
    assert item == Input("-", data=JPEG, size=len(JPEG))
    (item,) = inputs([], stdin_image=True, stdin=io.BytesIO(JPEG), max_bytes=5)
    assert item.failure
    assert item.failure.error == "too_large"


def test_stdin_is_read_for_one_purpose() -> None:
    for named, image in ((["-", "-"], False), (["-"], True)):
        with pytest.raises(UsageError, match="Stdin"):
            inputs(named, stdin_image=image, stdin=io.BytesIO())


MEMBERS = {
    "img10.jpg": JPEG,
    "a/img2.png": PNG,
    "notes.txt": b"text",
    "a/.hid.jpg": JPEG,
    "scan": JPEG,
    "LICENSE": b"BSD",
}


def tar_of(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, data in members.items():
            pack.writestr(name, data)
    return path


ARCHIVES: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "x.zip": zip_of,
    "x.tar": tar_of,
    "X.TGZ": lambda path, members: tar_of(path, members, "w:gz"),
    "x.tar.bz2": lambda path, members: tar_of(path, members, "w:bz2"),
    "x.tar.xz": lambda path, members: tar_of(path, members, "w:xz"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_the_pictures_in_an_archive_are_inputs(name: str, tmp_path: Path) -> None:
    path = ARCHIVES[name](tmp_path / name, MEMBERS)
    found = list(inputs([str(path)]))
    assert [item.name for item in found] == [f"{path}!/img10.jpg", f"{path}!/a/img2.png", f"{path}!/scan"]
    assert [item.data for item in found] == [JPEG, PNG, JPEG]
    assert {item.mtime_ns for item in found} == {path.stat().st_mtime_ns}
    assert names(path, hidden=True) == [
        f"{path}!/{member}" for member in ("img10.jpg", "a/img2.png", "a/.hid.jpg", "scan")
    ]
    assert not list(tmp_path.glob("*.png")), "nothing is unpacked"


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_one_member_can_be_named(name: str, tmp_path: Path) -> None:
    path = ARCHIVES[name](tmp_path / name, MEMBERS)
    (item,) = inputs([f"{path}!/a/img2.png"])
    assert (item.name, item.data) == (f"{path}!/a/img2.png", PNG)
    assert reasons(f"{path}!/a/none.png") == {f"{path}!/a/none.png": "missing"}


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_members_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    bad = ["../up.jpg", "/etc/abs.jpg", "a/../../b.jpg", "..\\win.jpg"]
    path = ARCHIVES[name](tmp_path / name, dict.fromkeys([*bad, "good.jpg"], JPEG))
    assert reasons(path) == {f"{path}!/{member}": "unsafe_name" for member in bad}
    assert len(names(path)) == 5


def test_links_and_devices_in_an_archive_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as pack:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        pack.writestr(link, "/etc/passwd")
    found = reasons(tmp_path / "x.tar", tmp_path / "x.zip")
    assert len(found) == 5
    assert set(found.values()) == {"not_a_file"}


@pytest.mark.parametrize("name", ["x.zip", "x.tar.xz"])
def test_a_bomb_is_bounded(name: str, tmp_path: Path) -> None:
    path = ARCHIVES[name](tmp_path / name, {"bomb.png": bytes(3 << 20), "ok.png": PNG})
    found = list(inputs([str(path)], max_bytes=1 << 20))
    assert [item.failure.error if item.failure else "ok" for item in found] == ["too_large", "ok"]


def test_a_zip_that_lies_about_a_size_is_bounded(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"bomb.png": bytes(3 << 20), "ok.png": PNG})
    honest = path.read_bytes()
    path.write_bytes(honest.replace(struct.pack("<I", 3 << 20), struct.pack("<I", 100)))
    assert path.read_bytes() != honest
    found = list(inputs([str(path)], max_bytes=1 << 20))
    assert found[0].failure
    assert found[1].data == PNG


def test_a_member_that_is_broken_or_locked_is_one_row(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"broken.png": PNG * 50, "ok.png": PNG})
    data = bytearray(path.read_bytes())
    data[45] ^= 0xFF  # within the first member's data
    path.write_bytes(data)
    assert reasons(path) == {f"{path}!/broken.png": "corrupt"}
    assert len(names(path)) == 2

    locked = zip_of(tmp_path / "y.zip", {"locked.png": PNG, "ok.png": PNG})
    data = bytearray(locked.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the first entry of the directory
    locked.write_bytes(data)
    assert reasons(locked) == {f"{locked}!/locked.png": "encrypted"}
    assert len(names(locked)) == 2


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_ends_early_says_so_after_what_could_be_read(name: str, tmp_path: Path) -> None:
    noise = {f"{i}.png": PNG + os.urandom(20_000) for i in range(20)}
    path = ARCHIVES[name](tmp_path / name, noise)
    path.write_bytes(path.read_bytes()[:200_000])
    found = list(inputs([str(path)]))
    last = found[-1]
    assert (last.name, last.failure and last.failure.error) == (str(path), "corrupt")
    whole = [item for item in found if not item.failure]
    assert [item.data for item in whole] == list(noise.values())[: len(whole)]
    if name == "x.tar":
        assert len(whole) >= 8


@pytest.mark.parametrize("name", ARCHIVES)
def test_no_damage_to_an_archive_raises(name: str, tmp_path: Path) -> None:
    chance = random.Random(name)
    path = ARCHIVES[name](tmp_path / name, {f"a/{'x' * 20 * i}{i}.png": PNG + chance.randbytes(200) for i in range(6)})
    whole = path.read_bytes()
    for _ in range(150):
        damaged = bytearray(whole[: chance.choice([len(whole), chance.randrange(len(whole))])])
        for _ in range(chance.choice([1, 3, 20]) if damaged else 0):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        found = list(inputs([str(path)], max_bytes=1 << 20))
        assert all((item.data is None) == (item.failure is not None) for item in found)


def test_a_tar_that_is_broken_in_the_middle_does_not_pass_for_a_short_one(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar", {f"{i}.png": PNG for i in range(10)})
    data = bytearray(path.read_bytes())
    data[5 * 1024 + 10] ^= 0xFF  # a header: each member is a block of header and a block of data
    path.write_bytes(data)
    assert [Path(name).name for name in names(path)] == [*(f"{i}.png" for i in range(5)), "x.tar"]
    assert reasons(path) == {str(path): "corrupt"}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", JPEG * 100], ids=["empty", "html", "picture"])
def test_what_is_no_archive_is_one_row(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    assert reasons(tmp_path / name) == {str(tmp_path / name): "corrupt"}


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    (tmp_path / "x.tar").write_bytes(info.tobuf() + bytes(10_240))
    assert reasons(tmp_path / "x.tar") == {str(tmp_path / "x.tar"): "corrupt"}


def test_names_in_archives_are_exact(tmp_path: Path) -> None:
    odd = ["caf\udce9.jpg", "new\nline.jpg", "写真.jpg", "\x1b[31m.jpg", "x" * 300 + ".jpg"]
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for name in odd:
            info = tarfile.TarInfo(name)
            info.size = len(JPEG)
            tar.addfile(info, io.BytesIO(JPEG))
    assert names(path) == [f"{path}!/{name}" for name in odd]


def test_a_zip_without_the_utf8_flag_is_taken_at_its_bytes(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"caf?.jpg": JPEG, "写.jpg": JPEG})
    path.write_bytes(path.read_bytes().replace(b"caf?", b"caf\xe9"))
    assert names(path) == [f"{path}!/caf\udce9.jpg", f"{path}!/写.jpg"]


def test_archives_are_not_held_in_memory(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar", dict.fromkeys((f"{i}.jpg" for i in range(200)), bytes(1 << 20)))
    code = (
        "import resource, sys; from vitcli.sources import inputs\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = inputs(sys.argv[1:]); next(rows); before = peak()\n"
        "print(sum(1 for _ in rows), peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 199
    assert grown < 20_000, f"{grown} KiB for members of 1024 KiB each"


def test_tarfile_forgets_the_members_it_has_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar_of(tmp_path / "x.tar", dict.fromkeys((f"{i}.jpg" for i in range(50)), JPEG))
    opened: list[tarfile.TarFile] = []
    real = archives.Tar.open

    def watched(*args: Any, **options: Any) -> tarfile.TarFile:
        opened.append(real(*args, **options))
        return opened[-1]

    monkeypatch.setattr(archives.Tar, "open", watched)
    assert all(len(vars(opened[0])["members"]) <= 1 for _ in inputs([str(path)]))


class Server(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        first = self.asked.count(self.path) == 1
        match self.path:
            case "/cat.jpg":
                self.answer(200, JPEG)
            case "/moved.jpg":
                self.answer(302, b"", Location="/cat.jpg")
            case "/to-a-file.jpg":
                self.answer(302, b"", Location="file:///etc/passwd")
            case "/to-ftp.jpg":
                self.answer(302, b"", Location="ftp://127.0.0.1/a.jpg")
            case "/round.jpg":
                self.answer(302, b"", Location="/round.jpg")
            case "/tired.jpg":
                self.answer(503 if first else 200, JPEG)
            case "/cut.jpg" if first:
                self.answer(200, JPEG[:5], **{"Content-Length": str(len(JPEG))})
            case "/cut.jpg":
                self.answer(200, JPEG)
            case "/down.jpg":
                self.answer(500, b"")
            case "/large.jpg":
                self.answer(200, JPEG * 100)
            case _:
                self.answer(404, b"no")

    def answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(web, "PAUSE", 0)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    Server.asked = []
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_a_picture_on_a_server_is_an_input(server: str) -> None:
    item = fetched(*inputs([f"{server}/cat.jpg"]))
    assert item == Input(f"{server}/cat.jpg", data=JPEG, size=len(JPEG))
    item = fetched(*inputs([f"{server}/moved.jpg"]))
    assert (item.name, item.data) == (f"{server}/moved.jpg", JPEG)


@pytest.mark.parametrize("path", ["/tired.jpg", "/cut.jpg"])
def test_a_server_gets_a_second_chance(server: str, path: str) -> None:
    item = fetched(*inputs([server + path]))
    assert item.data == JPEG
    assert Server.asked == [path, path]


@pytest.mark.parametrize(
    ("path", "reason", "tries"),
    [
        ("/none.jpg?a=*", "missing", 1),
        ("/down.jpg", "unreachable", 2),
        ("/to-a-file.jpg", "unreachable", 1),
        ("/to-ftp.jpg", "unreachable", 1),
        ("/large.jpg", "too_large", 1),
    ],
)
def test_what_a_server_does_not_give_has_its_row(server: str, path: str, reason: str, tries: int) -> None:
    assert reasons(server + path, max_bytes=1000) == {server + path: reason}
    assert len(Server.asked) == tries


def test_redirects_end(server: str) -> None:
    assert reasons(f"{server}/round.jpg") == {f"{server}/round.jpg": "unreachable"}


def test_a_server_that_is_silent_or_absent_does_not_hold_up_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PAUSE", 0)
    monkeypatch.setattr(web, "SILENCE", 0.1)
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg"
        assert reasons(url) == {url: "unreachable"}
    assert reasons(url, "http://[::bad/a.jpg", "http:///a.jpg") == dict.fromkeys(
        [url, "http://[::bad/a.jpg", "http:///a.jpg"], "unreachable"
    )
