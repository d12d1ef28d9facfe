"""The table for people, printed as it goes: one row for each picture, its labels below each other with bars.

    Picture                 #  Label                              Score
    ────────────────────────────────────────────────────────────────────────────
    photos/cat.jpg          1  Egyptian cat                      73.9 %  ━━━━━━━
    451 × 300               2  tabby                             10.2 %  ━
    ────────────────────────────────────────────────────────────────────────────
    photos/broken.jpg       ✗  truncated: the file ends before the picture does.

Widths depend on the terminal alone, so that what is printed later stands under what was printed before. On a pipe and
in a file there are no colours and no bars, and nothing is shortened.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vitcli.errors import OutputError
from vitcli.escaping import printable
from vitcli.results import Failure, Result
from vitcli.writers.base import Format, Options, Output

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

PIPE_WIDTH = 100  # columns where there is no terminal to say
TAKEN = 18  # columns of rank, score and the gaps between four columns
GAP = 3  # before the bars


class Table(Output, Format):
    """What a person reads, laid out for the terminal it goes to. It cannot be resumed: other formats are for that."""

    name = "table"
    endings = (".txt",)
    help = "for people"
    without = ("resume", "retry_failed", "by_content", "fields", "long")
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
            file.reconfigure(errors="backslashreplace")
        self.console = Console(file=file, highlight=False, emoji=False, markup=False)
        self.plain = not self.console.is_terminal
        if self.plain:
            self.console.width = PIPE_WIDTH
        # 80 columns give pictures 19, labels 30 and bars 10; 160 and more give them 50, 50 and 40, all they need
        width = max(40, self.console.width)
        self.bar = 0 if self.plain else min(40, width // 8)
        bar = self.bar + GAP if self.bar else 0
        self.picture = min(50, (width - bar - TAKEN) * 2 // 5)
        self.label = min(50, width - bar - TAKEN - self.picture)
        self.console.width = TAKEN + self.picture + self.label + bar
        self.started = False
        self.rows: list[Result] = []

    def add(self, result: Result) -> None:
        self.rows.append(result)

    def push(self) -> None:
        if not self.rows:
            return
        from rich.rule import Rule

        table = self.empty(header=not self.started)
        for result in self.rows:
            table.add_row(*self.cells(result))
        try:
            if self.started:
                self.console.print(Rule(style="dim"))
            self.console.print(table)
            self.console.file.flush()
            self.rows, self.started = [], True
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self.path or 'The table'} cannot be written: {error.strerror}.") from None

    def finish(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        if self.path is not None:
            self.console.file.close()

    def empty(self, header: bool) -> RichTable:
        """A table of this output's columns, without rows."""
        from rich import box
        from rich.table import Table as RichTable

        table = RichTable(
            box=box.HORIZONTALS, show_header=header, show_edge=False, show_lines=True, pad_edge=False,
            header_style="dim", border_style="dim",
        )  # fmt: skip
        table.add_column("Picture", width=self.picture, overflow="fold")
        table.add_column("#", width=2, justify="right")
        table.add_column("Label", width=self.label, overflow="fold")
        table.add_column("Score", width=7, justify="right")
        if self.bar:
            table.add_column("", width=self.bar)
        return table

    def cells(self, result: Result) -> list[Text]:
        """One picture with all its labels, or with what is wrong with it."""
        from rich.text import Text

        picture = self.named(result.path)
        if isinstance(result, Failure):
            message = Text(printable(f"{result.error}: {result.message}"), "red")
            return [picture, Text("✗", "bold red"), message]
        if len(result.top) > 1:  # with one label for each picture, a picture is one line
            picture.append(f"\n{result.size[0]} × {result.size[1]}", "dim")
            picture.append("".join(f"\n{printable(note)}" for note in result.notes), "dim")
        styles = ["bold", *[""] * len(result.top)]
        labels = [Text(printable(top.label), style) for top, style in zip(result.top, styles, strict=False)]
        if not self.plain:
            for label in labels:
                label.truncate(self.label, overflow="ellipsis")
        lines = Text("\n").join
        columns = [
            picture,
            lines(Text(str(rank), "dim") for rank in range(1, len(result.top) + 1)),
            lines(labels) if labels else Text("nothing above the threshold", "dim"),
            lines(Text(score(top.score)) for top in result.top),
        ]
        if self.bar:
            colours = ["green", *["cyan"] * len(result.top)]
            columns.append(lines(self.drawn(t.score, c) for t, c in zip(result.top, colours, strict=False)))
        return columns

    def named(self, path: str) -> Text:
        """A picture's name; one too long for its column gives its folder a line of its own."""
        from rich.text import Text

        folder, slash, name = printable(path).rpartition("/")
        line = Text.assemble(f"{folder}{slash}", (name, "bold"))
        return line if line.cell_len <= self.picture else Text.assemble((f"{folder}{slash}\n", "dim"), (name, "bold"))

    def drawn(self, value: float, colour: str) -> Text:
        """A bar as long as a score; none for what is no share of one (regression)."""
        from rich.text import Text

        full, half = divmod(round(2 * self.bar * value), 2) if 0 <= value <= 1 else (0, 0)
        return Text("━" * full + "╸" * half, colour)


def score(value: float) -> str:
    """`73.9 %`; a score that is no share of one (regression) as it is."""
    if not 0 <= value <= 1:
        return f"{value:.4g}"
    return f"{'<0.1' if 0 < value < 0.0005 else f'{100 * value:.1f}'} %"
