"""`Drawings`: explanations as pictures in a folder. `Drawer`: an explainer whose explanations are drawn as they come.

cat.explained.jpg    the picture at its own size, the map of each class over it, and what the deletion check found
cat.explained.npy    with `raw`: the maps, float32 [classes g g]
cat.explained.json   with `raw`: the same as numbers, and all that is known of them
"""

from __future__ import annotations

import io
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitcli.errors import OutputError, PictureError
from vitcli.escaping import decodable, printable, strict
from vitcli.explainer import DELETED, Explainer, Explanation, Reason
from vitcli.pictures import images
from vitcli.pictures.budget import BUDGET
from vitcli.sources import fetched
from vitcli.writers.base import explained
from vitcli.writers.lock import Lock
from vitcli.writers.outputs import NEW, beside
from vitcli.writers.table import score

if TYPE_CHECKING:
    from PIL import Image

    from vitcli.network.backend import Pixels
    from vitcli.pictures.overlay import Style
    from vitcli.pictures.preprocess import Preprocess
    from vitcli.results import Result
    from vitcli.sources import Input
    from vitcli.streaming import Prepared

MARK = ".explained"
LONGEST = 120  # bytes of a file's name before MARK: file systems take 255
RESERVED = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')  # on Windows; elsewhere they are a nuisance
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that Windows keeps for itself
MOST_OF_JPEG = 65_500  # pixels of a side
COPIES = 6  # of the picture, in memory while it is drawn on


class Drawings:
    """A folder that explanations are drawn into, by one run at a time.

    Raises OutputError where it holds explanations, unless `force`d; entered, where it cannot be written.
    """

    def __init__(self, folder: Path, *, style: Style = "heat", raw: bool = False, force: bool = False) -> None:
        self.folder, self.style, self.raw, self.force = folder, style, raw, force
        self.names: set[str] = set()
        self.check()

    def check(self) -> None:
        """Nothing that is there is overwritten."""
        if not self.force and any(self.folder.glob(f"*{MARK}.*")):
            raise OutputError(
                f"{self.folder} holds explanations already: add --force to overwrite those of the same name, or choose "
                "another folder."
            )

    def __enter__(self) -> Drawings:
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = Lock(self.folder, Path(os.path.realpath(self.folder)))
        try:
            self.check()  # again: another run may have just ended
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def save(self, given: Input, explanation: Explanation, max_pixels: int = images.MAX_PIXELS) -> Path:
        """Draw one explanation; the file. Raises PictureError for an input that is no longer there, OutputError."""
        drawn = self.drawn(given, explanation, max_pixels)
        stem = self.stem(explanation.path)
        kind, ending = ("JPEG", ".jpg") if max(drawn.size) <= MOST_OF_JPEG else ("PNG", ".png")
        file = io.BytesIO()
        drawn.save(file, kind, quality=90)
        path = self.write(stem + ending, file.getbuffer())
        if self.raw:
            maps = io.BytesIO()
            np.save(maps, np.stack([reason.map for reason in explanation.reasons]))
            self.write(stem + ".npy", maps.getbuffer())
            record = {**explanation.record(), "drawing": path.name}
            self.write(stem + ".json", json.dumps(strict(record), indent=2).encode())
        return path

    def drawn(self, given: Input, explanation: Explanation, max_pixels: int) -> Image.Image:
        """The picture of an input, opened once more, with its maps."""
        from vitcli.pictures.overlay import Panel, page

        given = fetched(given)  # from a server once more: what was explained is not kept
        if given.failure is not None:
            raise PictureError(given.failure.error, given.failure.message)
        panels = [Panel(reason.map, lines(reason)) for reason in explanation.reasons]
        width, height = explanation.size
        with BUDGET.share() as share:
            share.take(width * height * 3 * (COPIES + len(panels)))
            if given.picture is not None:
                picture = images.upright(given.picture)
            else:
                source = given.file if given.file is not None else given.data or b""
                picture = images.load(source, max_pixels=max_pixels, share=share)
            if picture.size != explanation.size:
                raise PictureError("unreadable", "It has changed since it was explained: explain it again.")
            return page(picture.image, explanation.seen, panels, self.style)

    def write(self, name: str, data: memoryview | bytes) -> Path:
        """A whole file, or none."""
        path = self.folder / name
        new = beside(path, NEW)
        with explained(path):
            try:
                new.write_bytes(data)
                new.replace(path)
            except BaseException:
                with suppress(OSError):
                    new.unlink(missing_ok=True)
                raise
        return path

    def stem(self, path: str) -> str:
        """A name for the files of an input that every system takes, and that no other input of this run has."""
        name = RESERVED.sub("_", decodable(re.split(r"[/\\]", path.rstrip("/\\"))[-1]))
        name = name.rpartition(".")[0] or name
        name = name.encode()[:LONGEST].decode(errors="ignore").strip(". ") or "picture"
        if DEVICES.fullmatch(name):
            name = f"_{name}"
        chosen, number = name, 1
        while chosen.casefold() in self.names:
            number += 1
            chosen = f"{name} ({number})"
        self.names.add(chosen.casefold())
        return chosen + MARK


class Drawer:
    """What explains and draws: it stands on both sides of a stream, as its model and as what answers are written to.

    The stream asks `wanted` of each input, in order, and writes one answer for each before it makes the next. `tell`
    gets each answer, and the file that it was drawn into.
    """

    skipped = 0

    def __init__(
        self,
        explainer: Explainer,
        drawings: Drawings,
        tell: Callable[[Result, Path | None], object],
        max_pixels: int = images.MAX_PIXELS,
    ) -> None:
        self.explainer, self.drawings, self.tell, self.max_pixels = explainer, drawings, tell, max_pixels
        self.due: deque[Input] = deque()  # inputs without an answer
        self.drawn: Path | None = None  # what the answer that comes next was drawn into

    @property
    def device(self) -> str:
        """Where the network runs."""
        return self.explainer.device

    @property
    def preprocess(self) -> Preprocess:
        """How pictures become the network's input."""
        return self.explainer.preprocess

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Iterable[Any]]:
        """As the explainer's."""
        return self.explainer.submit(pixels, pad_to)

    def answer(self, picture: Prepared, row: Any) -> Explanation:
        """The explanation, drawn. Raises as `Explainer.answer` and `Drawings.save`."""
        explanation = self.explainer.answer(picture, row)
        self.drawn = self.drawings.save(self.due[0], explanation, self.max_pixels)
        return explanation

    def wanted(self, item: Input) -> bool:
        """Every input is."""
        self.due.append(item)
        return True

    def write(self, result: Result) -> None:
        """Take the answer of the input that is due."""
        self.due.popleft()
        self.tell(result, self.drawn)
        self.drawn = None

    def flush(self) -> None:
        """Everything was told at once."""

    def failures(self) -> Iterator[dict[str, Any]]:
        """None is kept."""
        return iter(())

    def __enter__(self) -> Drawer:
        self.drawings.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.drawings.__exit__(*error)


def lines(reason: Reason) -> list[str]:
    """What stands below a map."""
    return [f"{printable(reason.label.label)}  {score(reason.label.score)}", checked(reason)]


def checked(reason: Reason) -> str:
    """What the deletion check found, in few words."""
    share = f"{DELETED:.0%}".replace("%", " %")
    left = f"without the {share} marked: {score(reason.without)}; a random {share}: {score(reason.without_random)}"
    return left if reason.tells_something else f"tells nothing: {left}"
