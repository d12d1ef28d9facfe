"""The table for people, printed as it goes: pictures as sections, their labels as rows, scores as bars.

On a terminal, in colour and in as many columns as it has:

    ── photos/cat.jpg ──────────────────────────────────────────── 451 × 300 ──
      1  Egyptian cat                      73.9 %  ━━━━━━━━━━━━━━━━━━━━━━
      2  tabby                             10.2 %  ━━━

With `--topk 1` a picture is one line. On a pipe and in a file there are no colours, lines or bars, and no name is
shortened. Widths depend on the terminal alone, never on the rows, so what is printed piece by piece stands alike.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vitcli.errors import OutputError
from vitcli.results import Failure, Label, Result
from vitcli.writers.base import Options, Writer

if TYPE_CHECKING:
    from rich.text import Text

MAX_LABEL = 44  # columns; the longest of the 1000 simple ImageNet names has 43
MAX_BAR = 60
SCORE = 8  # columns of "100.0 %" and a space


class Table(Writer):
    """What a person reads. It cannot be resumed: other formats are for that."""

    name = "table"
    endings = (".txt",)
    help = "for people"
    flush_rows = 1

    def __init__(self, path: Path | None, header: Mapping[str, Any], options: Options) -> None:
        super().__init__(path, header, options)
        self.refuse("resume", "retry_failed", "by_content", "fields", "long")
        from rich.console import Console

        file: IO[str] = sys.stdout
        if path is not None:
            self.refuse_existing(path)
            try:
                file = path.open("w", encoding="utf-8")
            except OSError as error:
                raise OutputError(f"{path} cannot be written: {error.strerror}.") from None
        self.console = Console(file=file, highlight=False, emoji=False, markup=False)
        self.plain = not self.console.is_terminal
        self.encoding = self.console.encoding
        ascii_only = not self.encoding.lower().startswith("utf")
        self.marks = ("-", "#", "#", "x", "...") if ascii_only else ("─", "━", "╸", "✗", "…")
        self.width = max(40, self.console.width)
        # a terminal of 80 columns gives labels 37 and bars 29, one of 200 gives labels 44 and bars 60
        self.label = min(MAX_LABEL, (self.width - 6) // 2)
        self.bar = 0 if self.plain else max(0, min(MAX_BAR, self.width - 6 - self.label - SCORE - 3))
        self.lines: list[Text] = []

    def add(self, result: Result) -> None:
        if self.options.topk == 1 and not self.plain:
            self.lines += self.one_line(result)
        else:
            self.lines += self.section(result)

    def section(self, result: Result) -> list[Text]:
        """A picture's name, then a line for each of its labels."""
        from rich.text import Text

        rows = [self.title(result)]
        if isinstance(result, Failure):
            reason = textwrap.wrap(f"{visible(result.error)}: {visible(result.message)}", self.span() - 7) or [""]
            mark = "failed  " if self.plain else f"{self.marks[3]}  "
            rows += [Text(f"  {mark if i == 0 else ' ' * len(mark)}{line}", "red") for i, line in enumerate(reason)]
        else:
            rows += [
                Text.assemble((f"  {rank:>2}  ", "dim"), *self.scored(label, rank == 1, self.label, self.bar))
                for rank, label in enumerate(result.top, 1)
            ] or [Text("      nothing above the threshold", "dim")]
        return [*rows, Text()]

    def title(self, result: Result) -> Text:
        """The line that opens a section."""
        from rich.cells import cell_len
        from rich.text import Text

        if self.plain:
            return Text(self.written(result.path))
        line = self.marks[0]
        about = details(result)
        about = f" {self.shortened(about, self.span() // 2)} {line * 2}" if about else ""
        name = self.shortened(result.path, self.span() - 5 - len(about))
        fill = line * max(0, self.span() - 5 - cell_len(name) - len(about))
        colour = "bold red" if isinstance(result, Failure) else "bold"
        return Text.assemble((f"{line * 2} ", "dim"), (name, colour), (f" {fill}{line}{about}", "dim"))

    def one_line(self, result: Result) -> list[Text]:
        """A picture and its best label."""
        from rich.text import Text

        bar = min(24, self.width // 6)
        label = min(32, self.width // 4)
        space = self.span() - bar - label - SCORE - 5
        name = self.shortened(result.path, space)
        name = name + " " * (space - width_of(name)) + "  "
        if isinstance(result, Failure):
            reason = f"{visible(result.error)}: {visible(result.message)}"
            lines = textwrap.wrap(reason, self.span() - space - 4) or [""]
            first = Text.assemble((name, "red"), (f"{self.marks[3]} {lines[0]}", "red"))
            return [first, *(Text(" " * (space + 4) + line, "red") for line in lines[1:])]
        if not result.top:
            return [Text.assemble(name, ("nothing above the threshold", "dim"))]
        return [Text.assemble(name, *self.scored(result.top[0], True, label, bar))]

    def scored(self, label: Label, best: bool, width: int, bar: int) -> list[tuple[str, str]]:
        """A label, its score and its bar, in columns."""
        name = self.written(label.label) if self.plain else self.shortened(label.label, width)
        colour = "green" if best else "cyan"
        columns = [(f"{name}{' ' * (width - width_of(name))}", "bold" if best else ""), (score(label.score), "")]
        if bar and 0 <= label.score <= 1:
            full, half = divmod(round(2 * bar * label.score), 2)
            columns.append(("  " + self.marks[1] * full + self.marks[2] * half, colour))
        return columns

    def span(self) -> int:
        """Columns of a whole line."""
        return min(self.width - 1, 6 + self.label + SCORE + 3 + self.bar) if self.bar else 78

    def written(self, text: str) -> str:
        """Text that this terminal can show."""
        return visible(text).encode(self.encoding, "backslashreplace").decode(self.encoding)

    def shortened(self, text: str, width: int) -> str:
        """Text in at most `width` columns: the middle goes, the end, where names differ, stays."""
        from rich.cells import set_cell_size

        text, mark = self.written(text), self.marks[4]
        if width_of(text) <= width:
            return text
        head = max(1, (width - len(mark)) // 3)
        tail = width - head - len(mark)
        end = text
        while width_of(end) > tail:
            end = end[max(1, len(end) - tail) :] if len(end) > tail else end[1:]
        return set_cell_size(text, head).rstrip() + mark + end

    def push(self) -> None:
        from rich.text import Text

        lines, self.lines = self.lines, []
        if not lines:
            return
        try:
            self.console.print(Text("\n").join(lines), no_wrap=True, overflow="ignore", crop=False)
            self.console.file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self.path or 'The table'} cannot be written: {error.strerror}.") from None

    def close(self) -> None:
        super().close()
        if self.path is not None:
            self.console.file.close()


def visible(text: str) -> str:
    """File names are data: what would move the cursor, change direction or hide is shown as an escape, never obeyed."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def width_of(text: str) -> int:
    """Columns a text takes on a terminal."""
    from rich.cells import cell_len

    return cell_len(text)


def details(result: Result) -> str:
    """What is worth knowing about a picture besides its labels."""
    if isinstance(result, Failure):
        return ""
    return visible(", ".join([f"{result.size[0]} × {result.size[1]}", *result.notes]))


def score(value: float) -> str:
    """`73.9 %`, in SCORE columns; a score that is no share of one (regression) as it is."""
    if not 0 <= value <= 1:
        return f"{value:>{SCORE}.4g}"
    return f"{'<0.1' if 0 < value < 0.0005 else f'{100 * value:.1f}'} %".rjust(SCORE)
