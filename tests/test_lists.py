"""Lists as programs write them, and patterns as shells of Windows leave them."""

from __future__ import annotations

import io
import ntpath
import os
import posixpath
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from vitcli.errors import UsageError
from vitcli.sources import inputs, lists
from vitcli.sources.folders import Walk
from vitcli.sources.lists import fits, is_pattern, matching, names_in, parted

JPEG = b"\xff\xd8\xff\xe0 not a whole picture"
NAMES = ["a.jpg", "my cat.jpg", "café.jpg", "写真.jpg", "🐈.jpg"]
TEXT = "".join(f"{name}\r\n" for name in NAMES)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        Path(name).write_bytes(JPEG)
    return tmp_path


def named(data: bytes) -> list[str]:
    return list(names_in(io.BytesIO(data)))


ENCODED = {
    "Notepad, Excel": b"\xef\xbb\xbf" + TEXT.encode(),
    "PowerShell 5": b"\xff\xfe" + TEXT.encode("utf-16-le"),
    "big-endian": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "without a mark": TEXT.encode("utf-16-le"),
    "big-endian without a mark": TEXT.encode("utf-16-be"),
    "four bytes a letter": TEXT.encode("utf-32"),
}


@pytest.mark.parametrize("data", ENCODED.values(), ids=list(ENCODED))
def test_a_list_is_read_in_the_encoding_that_it_has(folder: Path, data: bytes) -> None:
    assert named(data) == NAMES
    (folder / "list.txt").write_bytes(data)
    assert [item.name for item in inputs(["@list.txt"])] == NAMES
    assert [item.name for item in inputs(["-"], stdin=io.BytesIO(data))] == NAMES


@pytest.mark.parametrize("data", ENCODED.values(), ids=list(ENCODED))
def test_a_list_may_come_a_byte_at_a_time(folder: Path, data: bytes) -> None:
    source = io.BytesIO(data)
    assert list(names_in(SimpleNamespace(read=lambda size: source.read(1)))) == NAMES  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('"a.jpg"\r', "a.jpg"),  # Explorer's "copy as path"
        ("'my cat.jpg'", "my cat.jpg"),  # ls, on a terminal
        ('"my ""best"" cat.jpg"', 'my "best" cat.jpg'),  # a spreadsheet
        ("a.jpg ", "a.jpg"),  # cmd.exe: echo a.jpg >> list.txt
        ("a.jpg\t\r", "a.jpg"),
        ("\ufeffa.jpg", "a.jpg"),  # the second of two lists that were put together
        ('"https://example.org/a.jpg"', "https://example.org/a.jpg"),
    ],
)
def test_what_programs_put_around_a_name_is_no_part_of_it(folder: Path, line: str, name: str) -> None:
    assert named(f"my cat.jpg\n{line}\nmy cat.jpg\n".encode()) == ["my cat.jpg", name, "my cat.jpg"]


@pytest.mark.parametrize("name", ['"a.jpg"', "'a.jpg'", "\ufeffa.jpg", "a.jpg ", "a.jpg\r", '"a.jpg"\r', " a.jpg"])
def test_a_file_of_that_very_name_comes_first(folder: Path, name: str) -> None:
    (folder / name).write_bytes(JPEG)
    assert named(f"{name}\n".encode()) == [name]


@pytest.mark.parametrize("name", ["gone.jpg ", " a.jpg", '"', '""', "'a.jpg", "it's a cat's"])
def test_a_name_that_nothing_was_put_around_stays_as_it_is(folder: Path, name: str) -> None:
    assert named(f"{name}\n".encode()) == [name]


def test_names_that_end_with_nul_are_taken_at_their_bytes(folder: Path) -> None:
    data = b'\xef\xbb\xbfa.jpg\0"a.jpg"\0a.jpg \0'
    assert list(names_in(io.BytesIO(data), b"\0")) == ["\ufeffa.jpg", '"a.jpg"', "a.jpg "]


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "--stdin-image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "--stdin-image"),
        (b"PK\3\4\x14\0\0\0\x08\0", "a zip archive"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "a gzip file"),
    ],
)
def test_a_file_in_place_of_a_list_is_told_where_it_belongs(data: bytes, answer: str) -> None:
    with pytest.raises(UsageError, match=answer):
        list(inputs(["-"], stdin=io.BytesIO(data)))


MEMBERS = [
    "holiday [2019]/cat (1).jpg",
    "what?.jpg",
    "a*b/[!x].jpg",
    "./c.jpg",
    "odd!/d.jpg",
    "e 'f' \"g\".jpg",
    "plain.jpg",
]


def test_a_member_comes_back_by_the_very_name_that_it_has_in_the_rows(folder: Path) -> None:
    for pack in ("brackets [1].zip", "odd!/b.zip"):
        (folder / pack).parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(pack, "w") as file:
            for member in MEMBERS:
                file.writestr(member, JPEG)
        shown = [item.name for item in inputs([pack])]
        assert shown == [f"{pack}!/{member}" for member in MEMBERS]
        for name in shown:
            for given, how in (([name], {}), (["-"], {"stdin": io.BytesIO(f"{name}\n".encode())})):
                (item,) = inputs(given, **how)  # type: ignore[arg-type]
                assert (item.name, item.data, item.failure) == (name, JPEG, None)


def test_a_member_that_was_named_is_an_input_whatever_it_is_called(folder: Path) -> None:
    with zipfile.ZipFile("a.zip", "w") as file:
        file.writestr("notes.txt", "words")
    (item,) = inputs(["a.zip!/notes.txt"])
    assert item.data == b"words"


@pytest.mark.parametrize(
    ("pattern", "path", "root", "parts"),
    [
        ("photos/*.jpg", ntpath, "", ["photos", "*.jpg"]),
        ("photos\\**\\*.jpg", ntpath, "", ["photos", "**", "*.jpg"]),
        ("C:\\photos/2019/*.jpg", ntpath, "C:\\", ["photos", "2019", "*.jpg"]),
        ("C:photos\\*.jpg", ntpath, "C:", ["photos", "*.jpg"]),
        ("/photos/*.jpg", ntpath, "\\", ["photos", "*.jpg"]),
        ("\\\\nas\\photos\\2019\\*.jpg", ntpath, "\\\\nas\\photos\\", ["2019", "*.jpg"]),
        ("//nas/photos/*.jpg", ntpath, "//nas/photos\\", ["*.jpg"]),
        ("/photos//*.jpg", posixpath, "/", ["photos", "*.jpg"]),
        ("a\\b/*.jpg", posixpath, "", ["a\\b", "*.jpg"]),
    ],
)
def test_a_pattern_is_parted_as_its_system_does_it(pattern: str, path: ModuleType, root: str, parts: list[str]) -> None:
    assert parted(pattern, path) == (root, parts)


@pytest.mark.parametrize(
    ("name", "part", "windows", "elsewhere"),
    [
        ("IMG_1.JPG", "*.jpg", True, False),
        ("img_1.jpg", "IMG_?.[jJ]PG", True, False),
        ("É.jpg", "é.*", True, False),
        ("a.png", "*.jpg", False, False),
        ("a.jpg", "*.jpg", True, True),
    ],
)
def test_capitals_are_small_letters_on_windows(name: str, part: str, windows: bool, elsewhere: bool) -> None:
    assert (fits(name, part, ntpath), fits(name, part, posixpath)) == (windows, elsewhere)


class Entry:
    """What a folder of Windows would give."""

    def __init__(self, folder: str, name: str, below: object) -> None:
        self.path, self.name, self.below = ntpath.join(folder, name), name, below

    def is_dir(self) -> bool:
        return isinstance(self.below, dict)

    def is_symlink(self) -> bool:
        return False


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk of Windows, with its path library."""
    disk: Any = {"photos": {"IMG_1.JPG": 1, "img_2.jpg": 1, "more": {"Img_3.Jpg": 1, "x.png": 1}, ".h.jpg": 1}}

    def at(path: str) -> Any:
        found = disk
        for part in path.replace("C:", "").replace("/", "\\").split("\\"):
            if part not in ("", "."):
                found = next(value for name, value in found.items() if name.lower() == part.lower())
        return found

    def there(path: str) -> bool:
        try:
            return at(path) is not None
        except (StopIteration, AttributeError):
            return False

    def entries(folder: str) -> Iterator[Entry]:
        for name, below in sorted(at(folder).items()):
            yield Entry(folder, name, below)

    flavoured = SimpleNamespace(**{name: getattr(ntpath, name) for name in ("join", "splitdrive", "normcase")})
    flavoured.sep, flavoured.altsep, flavoured.lexists = "\\", "/", there
    monkeypatch.setattr(lists, "os", SimpleNamespace(path=flavoured, curdir="."))
    monkeypatch.setattr(lists, "entries", entries)
    monkeypatch.setattr(lists, "split_member", lambda name: None)
    monkeypatch.setattr(lists.parted, "__defaults__", (flavoured,))
    monkeypatch.setattr(lists.fits, "__defaults__", (flavoured,))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("photos/*.jpg", ["photos\\IMG_1.JPG", "photos\\img_2.jpg"]),
        ("photos\\*.JPG", ["photos\\IMG_1.JPG", "photos\\img_2.jpg"]),
        ("PHOTOS/**/*_3.jpg", ["PHOTOS\\more\\Img_3.Jpg"]),
        ("C:/photos/m*/*.png", ["C:\\photos\\more\\x.png"]),
        ("photos/.*.jpg", ["photos\\.h.jpg"]),
        ("photos/*.gif", []),
    ],
)
@pytest.mark.usefixtures("windows")
def test_patterns_find_files_on_windows(pattern: str, found: list[str]) -> None:
    assert is_pattern(pattern)
    assert list(matching(pattern, Walk())) == found


def spelled(folder: Path, way: str) -> str:
    ways: dict[str, Callable[[], str]] = {
        "slash": lambda: "photos/",
        "dot": lambda: "./photos",
        "double": lambda: "photos//",
        "absolute": lambda: str(folder / "photos"),
        "up": lambda: "photos/../photos",
        "link": lambda: "way",
        "pattern": lambda: "./photos/*.jpg",
    }
    return ways[way]()


@pytest.mark.parametrize("way", ["slash", "dot", "double", "absolute", "up", "link", "pattern"])
@pytest.mark.parametrize("ending", ["jsonl", "sqlite"])
def test_a_folder_that_is_spelled_otherwise_is_known_again(folder: Path, way: str, ending: str) -> None:
    from vitcli.results import Label, Prediction
    from vitcli.writers import Options, open_output

    (folder / "photos").mkdir()
    (folder / "way").symlink_to("photos")
    for name in ("b.jpg", "c.jpg"):
        (folder / "photos" / name).write_bytes(JPEG)

    def run(name: str) -> int:
        done = 0
        with open_output(folder / f"out.{ending}", None, {"model": "m"}, Options(resume=True)) as out:
            for item in filter(out.wanted, inputs([name])):
                out.write(Prediction(item.name, (Label(0, None, "x", 0.5),), (1, 1)))
                done += 1
        return done

    assert run("photos") == 2
    assert run(spelled(folder, way)) == 0
    (folder / "photos" / "d.jpg").write_bytes(JPEG)
    assert run(spelled(folder, way)) == 1
    os.utime(folder / "photos" / "b.jpg", ns=(1, 1))
    assert run(spelled(folder, way)) == 1  # another file by now, under whatever name


def test_the_members_of_an_archive_that_is_spelled_otherwise_are_known_again(folder: Path) -> None:
    from vitcli.sources.input import place

    with zipfile.ZipFile("a.zip", "w") as file:
        file.writestr("in/b.jpg", JPEG)
    spellings = ["a.zip", "./a.zip", str(folder / "a.zip"), "a.zip!/in/b.jpg", "../" + folder.name + "/a.zip"]
    places = {place(item) for item in inputs(spellings)}
    assert places == {f"{os.path.realpath(folder)}/a.zip!/in/b.jpg"}


def test_two_files_are_not_one_place(folder: Path) -> None:
    from vitcli.sources.input import place

    (folder / "link.jpg").symlink_to("a.jpg")
    names = ["a.jpg", "link.jpg", "gone.jpg", "in/a.jpg", "https://example.org/a.jpg"]
    assert len({place(item) for item in inputs(names[:4])}) == 4
    assert place(SimpleNamespace(name=names[4], picture=None, data=JPEG)) is None  # type: ignore[arg-type]
