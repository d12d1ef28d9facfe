r"""Formats that are text, one row after another: jsonl, json, csv and tsv.

Names are exact. JSON is ASCII: a name that is not UTF-8 comes back from any JSON reader as Python's surrogate escapes
(`"caf\udce9.jpg"`), and `os.fsencode` gives its bytes. csv and tsv hold the bytes themselves.

Spreadsheets take a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula, so in csv and
tsv such a text gets an apostrophe in front, and so does one that begins with an apostrophe: a reader takes away one
leading apostrophe wherever there is one, and has the exact text.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import IO, ClassVar

from vitcli.results import Result
from vitcli.writers.base import NEW, Writer, regular
from vitcli.writers.fields import LABEL_FIELDS, chosen, record

FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
PIECE = 1 << 20  # bytes copied at a time


class TextWriter(Writer):
    """A stream of bytes: `prefix`, then rows with `between` in between, then `footer`.

    In a file the footer is there after every push, and is written over by the next one: between two pushes the file is
    always whole.
    """

    between: ClassVar[bytes] = b""
    footer: ClassVar[bytes] = b""

    def open(self) -> None:
        self.stream: IO[bytes] = sys.stdout.buffer
        self.seekable = self.rows = False
        self.pending: list[bytes] = []
        self.safe = self.end = 0  # bytes of the output that stay; bytes with what is pending
        self.fields = chosen(self.options.fields)
        if self.path is not None:
            target = regular(self.path)
            self.seekable = target is not None
            if target is None:
                self.stream = self.path.open("wb", buffering=0)
            else:
                self.target = target
                self.journal = self.start_journal(target)
                self.stream = target.open("r+b" if target.exists() else "w+b", buffering=0)
                self.go_on()
        if not self.rows:
            self.pending.append(self.prefix())
            self.end = len(self.pending[0])

    def go_on(self) -> None:
        """Cut off what the journal does not know of, close the holes, and stand behind the last row."""
        assert self.journal is not None
        self.journal.drop_after(self.stream.seek(0, io.SEEK_END))
        self.journal.commit()
        if self.journal.get("holes", False):
            self.rebuild()
        end = self.journal.end()
        self.rows = end is not None
        self.safe = self.end = end or 0
        self.stream.truncate(self.safe)

    def prefix(self) -> bytes:
        """What comes before the rows."""
        return b""

    def row(self, result: Result) -> bytes:
        """One result."""
        raise NotImplementedError

    def add(self, result: Result) -> tuple[int, int]:
        lead, row = self.between if self.rows else b"", self.row(result)
        self.pending += lead, row
        self.rows = True
        self.end += len(lead) + len(row)
        return self.end - len(row), self.end

    def push(self) -> None:
        data = b"".join(self.pending)
        self.pending.clear()
        if self.seekable:
            self.stream.seek(self.safe)
            data += self.footer
        write_all(self.stream, data)
        self.stream.flush()

    def flush(self) -> None:
        super().flush()
        self.safe = self.end

    def finish(self) -> None:
        if not self.seekable:
            write_all(self.stream, self.footer)
            self.stream.flush()
        elif self.journal is not None and self.journal.get("holes", False):
            self.rebuild()
        if self.path is not None:
            self.stream.close()

    def rebuild(self) -> None:
        """The output without the rows that were replaced: a new file, which takes the place of the old one."""
        assert self.journal is not None
        new, prefix = self.target.with_name(self.target.name + NEW), self.prefix()
        with new.open("wb") as copy:
            copy.write(prefix)
            for n, (start, stop) in enumerate(self.journal.places()):
                copy.write(self.between if n else b"")
                self.stream.seek(start)
                while start < stop and (piece := self.stream.read(min(PIECE, stop - start))):
                    start += copy.write(piece)
            copy.write(self.footer)
        self.journal.switch(len(prefix), len(self.between))
        self.stream.close()
        self.journal.rename(new, self.target)
        self.stream = self.target.open("r+b", buffering=0)

    def abandon(self) -> None:
        if self.stream is sys.stdout.buffer:
            return
        try:
            if self.opened and self.seekable and not self.stream.closed:
                self.stream.truncate(self.safe)
                self.stream.seek(self.safe)
                write_all(self.stream, self.footer if self.safe else b"")
        finally:
            self.stream.close()


class Jsonl(TextWriter):
    """One JSON record a line."""

    name = "jsonl"
    endings = (".jsonl", ".ndjson")
    help = "one JSON record a line"

    def row(self, result: Result) -> bytes:
        return json.dumps(record(result, self.fields)).encode() + b"\n"


class Json(TextWriter):
    """One document: a header that says how the results were made, and the records."""

    name = "json"
    endings = (".json",)
    help = "one JSON document with a header"
    between = b",\n"
    footer = b"\n]}\n"

    def prefix(self) -> bytes:
        return b'{"header": ' + json.dumps(self.header).encode() + b',\n"results": [\n'

    def row(self, result: Result) -> bytes:
        return json.dumps(record(result, self.fields)).encode()


class Csv(TextWriter):
    """Wide: a row for each input, with columns label_1, score_1 and so on. Long: a row for each label."""

    name = "csv"
    endings: ClassVar[tuple[str, ...]] = (".csv",)
    help = "for spreadsheets and data frames"
    without = ()
    delimiter: ClassVar[str] = ","

    def prefix(self) -> bytes:
        before, labels, after = self.columns()
        if self.options.long:
            return self.line([*before, *(["rank"] if labels else []), *labels, *after])
        ranks = range(1, self.options.topk + 1)
        return self.line([*before, *(f"{name}_{rank}" for rank in ranks for name in labels), *after])

    def row(self, result: Result) -> bytes:
        before, labels, after = self.columns()
        whole = result.record()
        whole["width"], whole["height"] = whole.pop("size", ("", ""))
        whole["notes"] = "; ".join(whole.get("notes", ()))
        first, last = [whole.get(name, "") for name in before], [whole.get(name, "") for name in after]
        tops = [[top[name] for name in labels] for top in whole.get("top", ())]
        if not labels:
            return self.line([*first, *last])
        if self.options.long:
            ranked = [[rank, *top] for rank, top in enumerate(tops, 1)] or [[""] * (1 + len(labels))]
            return b"".join(self.line([*first, *top, *last]) for top in ranked)
        width = len(labels) * self.options.topk
        cells = [cell for top in tops for cell in top][:width]
        return self.line([*first, *cells, *[""] * (width - len(cells)), *last])

    def columns(self) -> tuple[list[str], list[str], list[str]]:
        """The chosen fields: before the labels, of the labels, behind them."""
        before = [name for name in self.fields if name in ("path", "status")]
        labels = [name for name in LABEL_FIELDS if name in self.fields]
        return before, labels, [name for name in self.fields if name not in (*before, *labels)]

    def line(self, cells: list[object]) -> bytes:
        """A line of cells. With CR LF as its end the csv module quotes both in a cell; a line ends with LF alone."""
        out = io.StringIO()
        csv.writer(out, delimiter=self.delimiter, lineterminator="\r\n").writerow([neutral(cell) for cell in cells])
        text = out.getvalue()[:-2] + "\n"
        try:
            return text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # half a surrogate pair, which stands for no byte of a name
            return text.encode("utf-8", "backslashreplace")


class Tsv(Csv):
    """As csv, with tabs."""

    name = "tsv"
    endings = (".tsv", ".tab")
    help = "as csv, with tabs"
    delimiter = "\t"


def write_all(stream: IO[bytes], data: bytes) -> None:
    """Write every byte: what is not buffered may take fewer at a time. No buffer, so that a full disk keeps none."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def neutral(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers are as they are."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
