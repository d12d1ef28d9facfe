"""The table for people, printed as it goes. With several labels for a picture, they stand below each other:

    Picture               #  Label                            Score
    ───────────────────────────────────────────────────────────────────────────
    photos/cat.jpg        1  Egyptian cat                    73.9 %  ━━━━━━━
    451 × 300             2  tabby                           10.2 %  ━
    ───────────────────────────────────────────────────────────────────────────
    photos/broken.jpg     ✗  truncated: the file ends before the picture does.

With one label, a picture is one line. Widths depend on the terminal alone, so that what is printed later stands under
what was printed before; what is too long for its column is cut in the middle, which keeps the endings of names. On a
pipe and in a file there are no colours and no bars, and nothing is cut.

What only some runs tell of a picture has lines of its own: → what was decided, ✓ or ✗ what it shows by its label.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from vitcli.errors import OutputError
from vitcli.escaping import printable
from vitcli.results import Decision, Failure, Label, Prediction, Result, Truth
from vitcli.writers.base import Format, Options, Output

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image
    from rich.table import Table as RichTable
    from rich.text import Text

PIPE_WIDTH = 100  # columns where there is no terminal to say
NARROWEST = 30  # terminals of fewer columns break lines
ROOM_FOR_BARS = 60
ROOM_FOR_SKETCHES = 70
SKETCH, WIDEST_SKETCH = 5, 32  # a picture takes one column in so many, and never more than these
GAP, RANK, SCORE = 2, 2, 7  # columns
DECIDED = {"label": "bold green", "broader": "bold cyan", "unknown": "bold yellow"}  # colours


class Line(NamedTuple):
    """One line of a picture: rank or mark, label, score, bar."""

    mark: Text
    label: Text
    score: Text
    bar: Text


class Table(Output, Format):
    """What a person reads, laid out for the terminal it goes to. It cannot be resumed: other formats are for that."""

    name = "table"
    endings = (".txt",)
    help = "for people"
    without = ("resume", "retry_failed", "by_content", "fields", "long", "bom")
    flush_rows = 1

    @classmethod
    def open(cls, path: Path | None, header: Mapping[str, Any], options: Options) -> Output:
        if path is None:
            return cls(None, options, sys.stdout)
        if not options.force and path.is_file() and path.stat().st_size:
            raise OutputError(f"{path} exists already: add --force to overwrite it, or choose another output.")
        try:
            return cls(path, options, path.open("w", encoding="utf-8"))
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}.") from None

    def __init__(self, path: Path | None, options: Options, file: IO[str]) -> None:
        from rich.console import Console

        super().__init__(path, options)
        if isinstance(file, TextIOWrapper):  # a name that a terminal without UTF-8 cannot show is shown as escapes
            file.reconfigure(errors="plainer")
        self.console = Console(file=file, highlight=False, emoji=False, markup=False)
        self.plain = not self.console.is_terminal
        if self.plain:
            self.console.width = PIPE_WIDTH
        self.single = options.topk == 1
        width = max(NARROWEST, self.console.width)
        sketched = options.show and not self.plain and width >= ROOM_FOR_SKETCHES
        self.sketch = min(WIDEST_SKETCH, width // SKETCH) + GAP if sketched else 0
        width -= self.sketch
        self.bar = 0 if self.plain or width < ROOM_FOR_BARS else min(40, width // 8)
        taken = SCORE + 2 * GAP + (0 if self.single else RANK + GAP) + (self.bar and self.bar + GAP)
        # names of pictures are the longer ones where they have but one line
        self.picture = min(60 if self.single else 50, (width - taken) * (11 if self.single else 9) // 20)
        self.label = min(50, width - taken - self.picture)
        self.console.width = self.sketch + taken + self.picture + self.label
        self.started = False
        self.shown: Image.Image | None = None  # the picture of the result that comes next
        self.rows: list[tuple[Result, Image.Image | None]] = []

    def show(self, pixels: npt.NDArray[np.uint8], seen: tuple[float, float, float, float]) -> None:
        """The picture whose result comes next, as `thumbnails.small` takes it."""
        if self.sketch:
            from vitcli.pictures.thumbnails import small

            self.shown = small(pixels, seen)

    def add(self, result: Result) -> None:
        self.rows.append((result, self.shown))
        self.shown = None

    def push(self) -> None:
        if not self.rows:
            return
        from rich.rule import Rule

        try:
            for result, shown in self.rows:
                if not self.started:
                    self.console.print(self.beside(None, self.header()))
                if not (self.started and self.single):
                    self.console.print(Rule(style="dim"))
                self.started = True
                row = self.failed(result) if isinstance(result, Failure) else self.row(result)
                self.console.print(self.beside(shown, row))
            self.console.file.flush()
            self.rows = []
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self.path or 'The table'} cannot be written: {error.strerror}.") from None

    def finish(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        if self.path is not None:
            self.console.file.close()

    def beside(self, picture: Image.Image | None, row: RichTable) -> RichTable:
        """A row, with its picture before it where pictures are shown."""
        if not self.sketch:
            return row
        from rich.table import Table as RichTable

        from vitcli.writers.sketch import sketch

        grid = RichTable.grid(padding=0)
        grid.add_column(width=self.sketch)
        grid.add_column()
        columns = self.sketch - GAP
        grid.add_row(sketch(picture, columns, columns // 2) if picture else "", row)
        return grid

    def columns(self, *cells: Text, widths: tuple[int, ...]) -> RichTable:
        """Cells beside each other; scores are set to the right."""
        from rich.table import Table as RichTable

        grid = RichTable.grid(padding=(0, GAP, 0, 0))
        for width in widths:
            grid.add_column(width=width, overflow="fold", justify="right" if width in (RANK, SCORE) else "left")
        grid.add_row(*cells)
        return grid

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the columns that there are."""
        rank = () if self.single else (RANK,)
        return (self.picture, *rank, self.label, SCORE, *((self.bar,) if self.bar else ()))

    def header(self) -> RichTable:
        """The names of the columns."""
        from rich.text import Text

        names = ["Picture", *([] if self.single else ["#"]), "Label", "Score", *([""] if self.bar else [])]
        return self.columns(*(Text(name, "dim") for name in names), widths=self.widths)

    def row(self, result: Prediction) -> RichTable:
        """One picture with all its labels."""
        from rich.text import Text

        picture = self.named(result.path)
        lines = [self.line(rank, top) for rank, top in enumerate(result.top, 1)]
        if not lines:
            lines = [Line(Text(), Text("nothing above the threshold", "dim"), Text(), Text())]
        if self.single:
            lines[0].label.append_text(said(result))
        else:
            picture.append(f"\n{result.size[0]} × {result.size[1]}", "dim")
            picture.append("".join(f"\n{printable(note)}" for note in result.notes), "dim")
            picture.append(f"\nshare {score(result.share)}" if result.share is not None else "", "dim")
            lines = [*map(self.decided, filter(None, [result.decision])), *lines]
            lines += map(self.judged, filter(None, [result.truth]))
        for line in lines if not self.plain and result.top else ():
            line.label.truncate(self.label, overflow="ellipsis")
        marks, *rest = (Text("\n").join(cells) for cells in zip(*lines, strict=True))
        return self.columns(
            picture, *([] if self.single else [marks]), *rest[: None if self.bar else 2], widths=self.widths
        )

    def line(self, rank: int, top: Label) -> Line:
        """A label with its rank, its score and a bar."""
        from rich.text import Text

        label, colour = Text(printable(top.label), "bold" if rank == 1 else ""), "green" if rank == 1 else "cyan"
        return Line(Text(str(rank), "dim"), label, Text(score(top.score)), self.drawn(top.score, colour))

    def decided(self, decision: Decision) -> Line:
        """What was decided, above the labels."""
        from rich.text import Text

        label = Text(printable(decision.label), DECIDED[decision.kind])
        if decision.kind == "broader":
            label.append(" (broader term)", "dim")
        return Line(Text("→"), label, Text("" if decision.score is None else score(decision.score)), Text())

    def judged(self, truth: Truth) -> Line:
        """What the picture shows by its label, below the labels that it got."""
        from rich.text import Text

        return Line(mark(truth), Text(printable("; ".join(truth.labels))), Text(), Text())

    def failed(self, failure: Failure) -> RichTable:
        """One picture with what is wrong with it, all of it: the message has the room of all other columns."""
        from rich.text import Text

        message = Text.assemble(("✗ ", "bold red"), (printable(failure.message), "red"))
        rest = self.console.width - self.sketch - self.picture - GAP
        return self.columns(self.named(failure.path), message, widths=(self.picture, rest))

    def named(self, path: str) -> Text:
        """A picture's name; where it has several lines, one too long for its column gives its folder one of its own."""
        from rich.cells import cell_len
        from rich.text import Text

        folder, slash, name = printable(path).rpartition("/")
        folder += slash
        if self.single or cell_len(folder + name) <= self.picture:
            shown = self.shortened(folder + name)
            start = shown.rfind("/") + 1
            return Text.assemble(shown[:start], (shown[start:], "bold"))
        above = [(self.shortened(folder) + "\n", "dim")] if folder else []
        return Text.assemble(*above, (self.shortened(name), "bold"))

    def shortened(self, path: str) -> str:
        """A path as far as its column goes on a terminal: its first folders go, then the middle of its name."""
        from rich.cells import cell_len, set_cell_size

        if self.plain or cell_len(path) <= self.picture:
            return path
        rest = path
        while "/" in rest[:-1]:
            rest = rest.partition("/")[2]
            if cell_len(rest) <= self.picture - 2:
                return f"…/{rest}"
        head = set_cell_size(rest, self.picture // 3).rstrip()
        tail = rest
        while cell_len(tail) > self.picture - cell_len(head) - 1:
            tail = tail[1:]
        return f"{head}…{tail}"

    def drawn(self, value: float, colour: str) -> Text:
        """A bar as long as a score; none for what is no share of one (regression)."""
        from rich.text import Text

        full, half = divmod(round(2 * self.bar * value), 2) if 0 <= value <= 1 else (0, 0)
        return Text("━" * full + "╸" * half, colour)


def mark(truth: Truth) -> Text:
    """Whether the best label is right."""
    from rich.text import Text

    return Text("✓", "green") if truth.correct else Text("✗", "red")


def said(result: Prediction) -> Text:
    """What only some runs tell of a picture, behind its one label."""
    from rich.text import Text

    found = Text()
    if result.share is not None:
        found.append(f"  share {score(result.share)}", "dim")
    if (decision := result.decision) and decision.kind != "label":
        found.append(" → ").append(printable(decision.label), DECIDED[decision.kind])
        if decision.kind == "broader" and decision.score is not None:
            found.append(f" {score(decision.score)}")
    if truth := result.truth:
        found.append("  ").append_text(mark(truth))
        found.append("" if truth.correct else f" {printable('; '.join(truth.labels))}")
    return found


def score(value: float) -> str:
    """`73.9 %`; a score that is no share of one (regression) as it is."""
    if not 0 <= value <= 1:
        return f"{value:.4g}"
    return f"{'<0.1' if 0 < value < 0.0005 else f'{100 * value:.1f}'} %"
