"""`Gallery`: a run as one page that opens anywhere: thumbnails, labels with bars, what failed and why.

    run.html        everything, up to INLINE pictures
    run_files/      beyond that: the rows as a script and each thumbnail as a file, as a page opened from the disk may
                    read nothing else

Whatever comes from outside is data in JSON, which the page's script only ever shows as text; the page's own policy lets
no other script run, and nothing is fetched. Rows and thumbnails wait in files until the end: memory does not grow.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from vitcli.errors import OutputError
from vitcli.escaping import exact, printable, strict
from vitcli.pictures.thumbnails import jpeg, small
from vitcli.results import Failure
from vitcli.sources.input import is_url
from vitcli.writers.base import explained
from vitcli.writers.outputs import NEW, beside

if TYPE_CHECKING:
    from PIL import Image

    from vitcli.network.backend import Pixels
    from vitcli.pictures.overlay import Map, Style
    from vitcli.pictures.thumbnails import Box
    from vitcli.results import Result

INLINE = 2000  # pictures in one file: at 6 KB each, 16 MB of base64
SHOWN = 10  # labels of a picture
HERE = Path(__file__).parent
SCRIPT = "rows.js"


class Gallery:
    """The page of a run at `path`. Raises OutputError for what is there already, unless `force`d.

    Entered, it takes results in order; left without an error it is written, all of it or nothing.
    """

    def __init__(self, path: Path, title: str, *, style: Style = "heat", force: bool = False) -> None:
        self.path, self.title, self.style, self.force = path, title, style, force
        self.folder = path.with_name(f"{path.stem}_files")
        self.count = 0
        self.shown: Image.Image | None = None  # the picture of the result that comes next
        self.labels: dict[int, tuple[int, int, str | None, str]] = {}  # class -> number here, and its record
        self.check()

    def check(self) -> None:
        """Nothing that is there is overwritten; a folder that is not a page's never is."""
        for place in (self.path, self.folder):
            if os.path.lexists(place) and not self.force:
                raise OutputError(f"{place} exists already: add --force to overwrite it, or choose another file.")
        if os.path.lexists(self.folder) and not (self.folder / SCRIPT).is_file():
            raise OutputError(f"{self.folder} is in the way, and is no page's: choose another file.")
        if not self.path.parent.is_dir():
            raise OutputError(f"{self.path} cannot be written: the folder {self.path.parent} does not exist.")

    def __enter__(self) -> Gallery:
        with explained(self.path):
            self.rows: IO[bytes] = tempfile.TemporaryFile(dir=self.path.parent)
            self.thumbnails: IO[bytes] = tempfile.TemporaryFile(dir=self.path.parent)
            self.unfolded: Path | None = None
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with explained(self.path):
                    self.finish()
        finally:
            self.rows.close()
            self.thumbnails.close()
            if self.unfolded is not None:
                shutil.rmtree(self.unfolded, ignore_errors=True)

    def show(self, pixels: Pixels, seen: Box) -> None:
        """The picture whose result comes next, as `thumbnails.small` takes it."""
        self.shown = small(pixels, seen)

    def add(self, result: Result) -> None:
        """Take one result; the picture that was shown before it stands beside it, and the maps of an explanation."""
        thumbnails = []
        if self.shown is not None and not isinstance(result, Failure):
            maps = [reason.map for reason in getattr(result, "reasons", ())]
            thumbnails = [jpeg(self.shown), *(jpeg(over(self.shown, found, self.style)) for found in maps)]
        self.shown = None
        with explained(self.path):
            if self.count == INLINE:
                self.unfold()
            if self.unfolded is None:
                for thumbnail in thumbnails:
                    self.thumbnails.write(thumbnail)
                shown: Any = [len(thumbnail) for thumbnail in thumbnails]
            else:
                self.save(self.count, thumbnails)
                shown = len(thumbnails)
            row = json.dumps(strict(self.row(result, shown)), separators=(",", ":"))
            self.rows.write(row.encode() + b"\n")
            self.count += 1

    def row(self, result: Result, shown: Any) -> list[Any]:
        """What the page's script reads: path, labels, size, notes, link, thumbnails, error, message."""
        path, link = printable(result.path), address(result.path, self.path.parent)
        if isinstance(result, Failure):
            return [path, None, None, None, link, shown, result.error, printable(result.message)]
        top = [[self.number(label), round(label.score, 5)] for label in result.top[:SHOWN]]
        return [path, top, list(result.size), [printable(note) for note in result.notes], link, shown]

    def number(self, label: Any) -> int:
        """A class's place among those that the page names."""
        if label.index not in self.labels:
            self.labels[label.index] = (len(self.labels), label.index, label.wnid, printable(label.label))
        return self.labels[label.index][0]

    def unfold(self) -> None:
        """There are too many for one file: thumbnails get files of their own."""
        self.unfolded = beside(self.folder, NEW)
        shutil.rmtree(self.unfolded, ignore_errors=True)
        self.unfolded.mkdir()
        rows = self.kept()
        self.thumbnails.seek(0)
        self.rows.seek(0)
        again = []
        for number, row in enumerate(rows):
            self.save(number, [self.thumbnails.read(size) for size in row[5]])
            row[5] = len(row[5])
            again.append(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        self.rows.seek(0)
        self.rows.truncate()
        self.rows.writelines(again)

    def kept(self) -> list[list[Any]]:
        """The rows so far."""
        self.rows.seek(0)
        return [json.loads(line) for line in self.rows]

    def save(self, number: int, thumbnails: Sequence[bytes]) -> None:
        """Thumbnails as files: 0001/0001234.jpg, and -1 for the second."""
        assert self.unfolded is not None
        folder = self.unfolded / f"{number // 1000:04}"
        if thumbnails:
            folder.mkdir(exist_ok=True)
        for index, content in enumerate(thumbnails):
            (folder / f"{number:07}{f'-{index}' if index else ''}.jpg").write_bytes(content)

    def finish(self) -> None:
        """The page in its place, and its folder before it."""
        self.check()
        new = beside(self.path, NEW)
        try:
            with new.open("wb") as file:
                if self.unfolded is None:
                    file.writelines(page(self.title, data(self.document(self.inlined()))))
                else:
                    with (self.unfolded / SCRIPT).open("wb") as script:
                        script.write(b"window.VIT=")
                        script.writelines(self.document(self.lines()))
                    if self.folder.exists():
                        shutil.rmtree(self.folder)
                    self.unfolded.replace(self.folder)
                    self.unfolded = None
                    reading = f'<script src="{escape(quote(self.folder.name))}/{SCRIPT}"></script>'
                    file.writelines(page(self.title, iter([reading.encode()])))
            new.replace(self.path)
        finally:
            new.unlink(missing_ok=True)

    def document(self, rows: Iterator[bytes]) -> Iterator[bytes]:
        """All that the script reads, as JSON."""
        labels = [list(label[1:]) for label in self.labels.values()]
        head = {"folder": quote(self.folder.name), "labels": strict(labels)}
        yield json.dumps(head, separators=(",", ":"))[:-1].encode() + b',"rows":['
        for number, row in enumerate(rows):
            yield b"," + row if number else row
        yield b"]}"

    def lines(self) -> Iterator[bytes]:
        """The rows as JSON."""
        self.rows.seek(0)
        yield from (line.rstrip(b"\n") for line in self.rows)

    def inlined(self) -> Iterator[bytes]:
        """The same, with their thumbnails."""
        self.thumbnails.seek(0)
        for line in self.lines():
            row = json.loads(line)
            row[5] = [base64.b64encode(self.thumbnails.read(size)).decode() for size in row[5]]
            yield json.dumps(row, separators=(",", ":")).encode()


def over(picture: Image.Image, relevance: Map, style: Style) -> Image.Image:
    """A thumbnail, all of which the network saw, with a map over it."""
    from vitcli.pictures.overlay import draw

    return draw(picture, (0, 0, *picture.size), relevance, style)


def titled(paths: Sequence[str], model: str) -> str:
    """What stands above a page."""
    named = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    return f"{named}, by {model}"


def data(document: Iterator[bytes]) -> Iterator[bytes]:
    """JSON inside of HTML: nothing in it can end the element that it stands in."""
    yield b'<script type="application/json" id="data">'
    yield from (part.replace(b"<", b"\\u003c") for part in document)
    yield b"</script>"


def page(title: str, rows: Iterator[bytes]) -> Iterator[bytes]:
    """The page around its rows."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data: 'self' file:; style-src '{digest(style)}'; "
        f"script-src '{digest(script)}' 'self' file:; base-uri 'none'; form-action 'none'"
    )
    parts: Mapping[str, str] = {"policy": policy, "title": escape(printable(title)), "style": style, "script": script}
    before, after = (HERE / "page.html").read_text(encoding="utf-8").split("{data}")
    yield filled(before, parts).encode()
    yield from rows
    yield filled(after, parts).encode()


def filled(template: str, parts: Mapping[str, str]) -> str:
    """A template with each {name} replaced once and for all: what is put in is not looked at again."""
    import re

    return re.sub(r"\{(\w+)\}", lambda match: parts.get(match[1], match[0]), template)


def digest(text: str) -> str:
    """How a policy names the only script, or style, that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def address(path: str, folder: Path) -> str | None:
    """A link from a page in `folder` to an input; None for what is no file and no address."""
    if is_url(path):
        parts = urlsplit(path)
        return path if parts.scheme in ("http", "https") and "@" not in parts.netloc else None
    try:
        if not Path(path).is_file():
            return None
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    except (OSError, ValueError):  # a name that no file can have, or another drive of Windows
        return None
    link = quote(exact(relative.replace(os.sep, "/")))
    return link if link.startswith("../") else f"./{link}"
