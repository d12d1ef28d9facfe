r"""Formats that are text, one row after another: jsonl, json, csv and tsv.

Names are exact, and any reader takes the files: JSON is ASCII, csv and tsv are UTF-8. Where a name is not UTF-8, `path`
shows its bytes as `\xe9` and `path_bytes` has all of them in base64, as parquet and sqlite have them as bytes. In csv
and tsv `path_bytes` is the last column, empty for other names; where fields were chosen, it is there if it was.

Spreadsheets take a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula, so in csv and
tsv such a text gets an apostrophe in front, and so does one that begins with an apostrophe: a reader takes away one
leading apostrophe wherever there is one, and has the exact text.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import sys
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from vitcli.escaping import decodable, printable, strict, undecodable
from vitcli.results import Result
from vitcli.writers.base import Format, Options, Output, regular
from vitcli.writers.fields import LABEL_FIELDS, chosen, extras, record
from vitcli.writers.outputs import AppendedFile, Stream, settings

FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


class TextFormat(Format):
    """How a row becomes bytes, and what stands before, between and after the rows."""

    between: ClassVar[bytes] = b""
    footer: ClassVar[bytes] = b""

    def __init__(self, header: Mapping[str, Any], options: Options) -> None:
        self.header = header
        self.options = options
        self.fields = chosen(options.fields, options.extra)
        self.shown = False  # on a terminal, which would obey what is in a name

    def prefix(self) -> bytes:
        """What stands before the rows."""
        return b""

    @abstractmethod
    def row(self, result: Result) -> bytes:
        """One result."""

    @classmethod
    def open(cls, path: Path | None, header: Mapping[str, Any], options: Options) -> Output:
        format = cls(header, options)
        if path is None:
            format.shown = sys.stdout.isatty()
            return Stream(None, options, format, sys.stdout.buffer)
        if (target := regular(path)) is None:
            return Stream(path, options, format, path.open("wb", buffering=0))
        return AppendedFile.open(path, target, format, settings(cls.name, header, options), options)


class Jsonl(TextFormat):
    """One JSON record a line."""

    name = "jsonl"
    endings = (".jsonl", ".ndjson")
    help = "one JSON record a line"

    def row(self, result: Result) -> bytes:
        return ascii_json(record(result, self.fields)) + b"\n"


class Json(TextFormat):
    """One document: a header that says how the results were made, and the records."""

    name = "json"
    endings = (".json",)
    help = "one JSON document with a header"
    between = b",\n"
    footer = b"\n]}\n"

    def prefix(self) -> bytes:
        return b'{"header": ' + json.dumps(strict(self.header)).encode() + b',\n"results": [\n'

    def row(self, result: Result) -> bytes:
        return ascii_json(record(result, self.fields))


class Csv(TextFormat):
    """Wide: a row for each input, with columns label_1, score_1 and so on. Long: a row for each label."""

    name = "csv"
    endings: ClassVar[tuple[str, ...]] = (".csv",)
    help = "for spreadsheets and data frames"
    without = ("show",)
    delimiter: ClassVar[str] = ","

    def prefix(self) -> bytes:
        before, labels, after = self.columns()
        mark = codecs.BOM_UTF8 if self.options.bom else b""
        if self.options.long:
            return mark + self.line([*before, *(["rank"] if labels else []), *labels, *after])
        ranks = range(1, self.options.topk + 1)
        return mark + self.line([*before, *(f"{name}_{rank}" for rank in ranks for name in labels), *after])

    def row(self, result: Result) -> bytes:
        before, labels, after = self.columns()
        whole = result.record()
        whole["width"], whole["height"] = whole.pop("size", ("", ""))
        whole["path_bytes"] = base64_of(undecodable(result.path))
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
        before = [name for name in self.fields if name in ("path", "status", *extras(self.options.extra))]
        labels = [name for name in LABEL_FIELDS if name in self.fields]
        after = [name for name in self.fields if name not in (*before, *labels)]
        exact = not self.options.fields or "path_bytes" in self.options.fields
        return before, labels, [*after, *(["path_bytes"] if exact else [])]

    def line(self, cells: list[object]) -> bytes:
        """A line of cells. With CR LF as its end the csv module quotes both in a cell; a line ends with LF alone."""
        out = io.StringIO()
        csv.writer(out, delimiter=self.delimiter, lineterminator="\r\n").writerow([self.cell(cell) for cell in cells])
        return (out.getvalue()[:-2] + "\n").encode()

    def cell(self, cell: object) -> object:
        """What stands in a cell: several values are joined; numbers are as they are."""
        if isinstance(cell, bool):
            return "true" if cell else "false"
        if isinstance(cell, list):
            cell = "; ".join(str(part) for part in cell)
        if isinstance(cell, str):
            cell = printable(cell) if self.shown else decodable(cell)
        return neutral(cell)


class Tsv(Csv):
    """As csv, with tabs."""

    name = "tsv"
    endings = (".tsv", ".tab")
    help = "as csv, with tabs"
    delimiter = "\t"


def ascii_json(row: dict[str, Any]) -> bytes:
    """A row as JSON that any reader takes."""
    name = row.get("path")
    exact = undecodable(name) if name is not None else None
    if exact is not None:
        row = {"path": name, "path_bytes": base64_of(exact), **row}
    return json.dumps(strict(row)).encode()


def base64_of(exact: bytes | None) -> str:
    """The bytes of a name as text; nothing for none."""
    if exact is None:
        return ""
    from base64 import b64encode  # here, because few names are not UTF-8

    return b64encode(exact).decode()


def neutral(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers are as they are."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
