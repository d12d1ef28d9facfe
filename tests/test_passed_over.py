"""Folders and archives tell what they passed over, and leave out what they are told to."""

from __future__ import annotations

import json
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest

from vitcli.errors import UsageError
from vitcli.sources import Exclude, Passed, inputs
from vitcli.sources.excluding import USUAL, fits
from vitcli.sources.kinds import ENDINGS, KIND, TOLD, could_be_picture

JPEG = b"\xff\xd8\xff\xe0 not a whole picture"


def fill(folder: Path, *files: str, data: bytes = JPEG) -> Path:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def found(folder: Path, *patterns: str, usual: bool = True, **how: Any) -> tuple[list[str], Passed]:
    """What a folder gives, relative to it, and what it passed over."""
    passed = Passed()
    given = inputs([str(folder)], exclude=Exclude(patterns, usual=usual), passed=passed, **how)
    return [item.name.removeprefix(f"{folder}/") for item in given], passed


@pytest.mark.parametrize(
    "name",
    [
        "Screenshot 10.22.33", "photo v1.2", "10.1000.182", "cat.jpg?width=200", "x.jpg:large", "x.jpg_large",
        "cat.jpg.1", "IMG_0001.JPG~", "noending", "cat.jpg@2x", "photo.jpg.orig", "IMG_2.JPEG-large", ".jpg.",
        "20240101.jpg (1)", "scan.0001", "image.octet-stream",
    ],
)  # fmt: skip
def test_a_picture_under_any_name_is_an_input(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "in", name)
    assert found(tmp_path / "in", hidden=True)[0] == [name]
    assert found(fill(tmp_path / "words", name, data=b"no picture"), hidden=True) == ([], {"other file": 1})
    for pack in (tmp_path / "a.zip", tmp_path / "a.tar"):
        packed(pack, name)
        assert [item.name for item in inputs([str(pack)], hidden=True)] == [f"{pack}!/{name}"]


def packed(pack: Path, *members: str) -> None:
    source = fill(pack.parent / "member", "x") / "x"
    if pack.suffix == ".zip":
        with zipfile.ZipFile(pack, "w") as file:
            for member in members:
                file.write(source, member)
    else:
        with tarfile.open(pack, "w") as tar:
            for member in members:
                tar.add(source, member)


@pytest.mark.parametrize("name", ["shot.NEF", "shot.dng", "shot.arw", "scan.lsm", "slide.svs"])
def test_pictures_that_are_tiffs_by_another_name_are_inputs(tmp_path: Path, name: str) -> None:
    assert found(fill(tmp_path, name, data=b"II*\0\x08\0\0\0"))[0] == [name]


def test_the_rest_is_counted_by_kind(tmp_path: Path) -> None:
    fill(
        tmp_path, "a.jpg", "shards/1.tar", "shards/2.tar.gz", "b.zip", "c.7z", "d.jpg.gz", "e.mov", "e.MP4", "f.m4a",
        "g.jpg.part", ".hidden.jpg", "._a.jpg", ".DS_Store", "a.xmp", "notes.txt", "@eaDir/a.jpg", "Thumbs.db",
        "mask.gif",
    )  # fmt: skip
    (tmp_path / "unknown").write_bytes(b"words")
    (tmp_path / "way").symlink_to("shards")
    names, passed = found(tmp_path, "mask*")
    assert names == ["a.jpg"]
    assert passed == {
        "archive": 3, "packed file": 2, "video": 2, "sound": 1, "unfinished download": 1, "hidden picture": 1,
        "link": 1, "usual": 2, "excluded": 1, "other file": 3,
    }  # fmt: skip
    assert passed.sentence() == (
        "Passed over: 3 archives (name them to open them), 2 packed files that are not opened (unpack them), 2 videos, "
        "1 sound file, 1 unfinished download, 1 hidden picture (--hidden takes it), "
        "1 link to a folder (--follow-links follows it), 2 system files and folders "
        "(--no-default-excludes takes them), 1 excluded by name, 3 other files."
    )


@pytest.mark.parametrize("pack", ["a.zip", "a.tar"])
def test_the_rest_of_an_archive_is_counted_too(tmp_path: Path, pack: str) -> None:
    packed(tmp_path / pack, "a.jpg", "a.cls", "in/b.tar", "__MACOSX/a.jpg", "@eaDir/a.jpg/b.jpg")
    names, passed = found(tmp_path / pack)
    assert names == [f"{tmp_path / pack}!/a.jpg".removeprefix(f"{tmp_path / pack}/")]
    assert passed == {"other file": 1, "nested archive": 1, "usual": 2}


def test_nothing_passed_over_needs_no_words() -> None:
    assert Passed().sentence() == ""


def test_every_kind_has_words_and_no_ending_is_a_picture_s() -> None:
    assert set(ENDINGS) <= set(TOLD)
    assert not [ending for ending in KIND if could_be_picture(f"x{ending}")]
    assert len(KIND) == sum(len(endings.split()) for endings in ENDINGS.values())


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "@Recycle", "lost+found", "@EADIR"])
def test_what_systems_keep_is_left_out_unless_asked_for(tmp_path: Path, name: str) -> None:
    fill(tmp_path, "a.jpg", f"in/{name}/b.jpg")
    assert found(tmp_path) == (["a.jpg"], {"usual": 1})
    assert found(tmp_path, usual=False)[0] == ["a.jpg", f"in/{name}/b.jpg"]
    assert [item.name for item in inputs([str(tmp_path / "in" / name)])] == [str(tmp_path / "in" / name / "b.jpg")]
    assert [item.name for item in inputs([f"{tmp_path}/in/*/b.jpg"])] == [f"{tmp_path}/in/*/b.jpg"]
    assert [item.name for item in inputs([f"{tmp_path}/in/{name}/*.jpg"])] == [f"{tmp_path}/in/{name}/b.jpg"]


@pytest.mark.parametrize("name", [".thumbnails", ".Trash-1000", "._a.jpg", ".@__thumb"])
def test_hidden_files_on_request_are_not_those_of_systems(tmp_path: Path, name: str) -> None:
    fill(tmp_path, ".b.jpg", name if name.endswith(".jpg") else f"{name}/c.jpg")
    assert found(tmp_path, hidden=True) == ([".b.jpg"], {"usual": 1})


FILES = ("a.jpg", "backup/b.jpg", "in/backup/c.jpg", "in/raw/d.jpg", "in/raw/e.png", "raw/f.jpg", "in/backup.jpg")


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["backup"], ["a.jpg", "in/backup.jpg", "in/raw/d.jpg", "in/raw/e.png", "raw/f.jpg"]),
        (["backup*"], ["a.jpg", "in/raw/d.jpg", "in/raw/e.png", "raw/f.jpg"]),
        (["raw/*.jpg"], ["a.jpg", "backup/b.jpg", "in/backup/c.jpg", "in/backup.jpg", "in/raw/e.png"]),
        (["in/raw"], ["a.jpg", "backup/b.jpg", "in/backup/c.jpg", "in/backup.jpg", "raw/f.jpg"]),
        (["*.jpg/", "?.jpg", "*.png"], ["in/backup.jpg"]),
        (["*"], []),
    ],
)
def test_patterns_leave_out_files_and_folders(tmp_path: Path, patterns: list[str], left: list[str]) -> None:
    fill(tmp_path, *FILES)
    assert sorted(found(tmp_path, *patterns)[0]) == sorted(left)
    packed(tmp_path / "p.tar", *FILES)
    members = [item.name.partition("!/")[2] for item in inputs([f"{tmp_path}/p.tar"], exclude=Exclude(tuple(patterns)))]
    assert sorted(members) == sorted(left)


@pytest.mark.parametrize("pattern", ["*", "**/*.jpg", "**/b*", "**"])
def test_what_a_pattern_leaves_out_is_counted_once(tmp_path: Path, pattern: str) -> None:
    fill(tmp_path, "@eaDir/a.jpg", "in/a.jpg", "in/b.jpg", "in/bin/b.jpg", "bin/a.jpg", "b.jpg")
    passed = Passed()
    names = [item.name for item in inputs([f"{tmp_path}/{pattern}"], exclude=Exclude(("bin",)), passed=passed)]
    assert f"{tmp_path}/b.jpg" in names
    assert not [name for name in names if "bin" in name or "@" in name]
    assert passed == {"usual": 1, "excluded": 2}


def test_what_was_named_is_not_left_out(tmp_path: Path) -> None:
    fill(tmp_path, *FILES)
    given = [f"{tmp_path}/backup", f"{tmp_path}/a.jpg"]
    names = [item.name for item in inputs(given, exclude=Exclude(("backup", "a.jpg")))]
    assert names == [f"{tmp_path}/backup/b.jpg", f"{tmp_path}/a.jpg"]
    assert [item.name for item in inputs([f"{tmp_path}/*.jpg"], exclude=Exclude(("a.jpg",)))] == [f"{tmp_path}/*.jpg"]


def test_capitals_count_except_on_windows() -> None:
    assert fits("in/A.JPG", "*.jpg", False, PureWindowsPath)
    assert fits("in\\RAW\\a.jpg", "raw/*.jpg", False, PureWindowsPath)
    assert not fits("in/A.JPG", "*.jpg", False, PurePosixPath)


@pytest.mark.parametrize("pattern", ["", ".", "/", "./"])
def test_a_pattern_that_is_no_name_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="is no name"):
        Exclude((pattern,))


def test_the_documents_list_what_systems_keep() -> None:
    text = (Path(__file__).parent.parent / "docs" / "files.md").read_text()
    assert [name for name in USUAL if f"`{name}`" not in text] == []


def test_a_run_says_what_it_passed_over(
    vit: Callable[..., subprocess.CompletedProcess[str]], tiny: Path, picture: Path, tmp_path: Path
) -> None:
    fill(tmp_path / "in", "shard.tar", "notes.txt")
    (tmp_path / "in" / "a.jpg").write_bytes(picture.read_bytes())
    summary = tmp_path / "s.json"
    done = vit("classify", tmp_path / "in", "--model", tiny, "-k", 1, "--summary-json", summary)
    assert done.returncode == 0
    assert "Passed over: 1 archive (name it to open it), 1 other file." in done.stderr
    assert json.loads(summary.read_text())["passed_over"] == {"archive": 1, "other file": 1}
    (tmp_path / "in" / "a.jpg").unlink()
    done = vit("classify", tmp_path / "in", "--model", tiny)
    assert done.returncode == 1
    assert "There are no pictures in" in done.stderr
    assert "1 archive (name it to open it)" in done.stderr
    done = vit("classify", picture, "--exclude", "", "--model", tiny)
    assert (done.returncode, done.stderr) == (
        2,
        "error: --exclude '' is no name: give one, as in --exclude 'backup*'.\n",
    )


@pytest.mark.parametrize(("method", "name"), [(9, "Deflate64"), (93, "Zstandard"), (77, "method 77")])
def test_a_member_that_is_packed_in_an_unknown_way_is_whole_but_unsupported(
    tmp_path: Path, method: int, name: str
) -> None:
    packed(tmp_path / "a.zip", "a.jpg")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    for at in (8, data.find(b"PK\1\2") + 10):
        data[at : at + 2] = method.to_bytes(2, "little")
    (tmp_path / "a.zip").write_bytes(data)
    (item,) = inputs([str(tmp_path / "a.zip")])
    assert item.failure is not None
    assert item.failure.error == "unsupported"
    assert f"({name})" in item.failure.message
