"""`Table`: labels from a file. CSV, TSV, JSON lines, parquet, lines of `file label`, ILSVRC's numbers.

    file,label                      cat.jpg,tabby                          columns by their usual names, or as named
    {"file_name": "a.jpg", ...}     metadata.jsonl of the hub              file names are relative to the file
    ILSVRC2012_val_00000001.JPEG 65                                        Caffe's val.txt
    490                             a number for each validation picture   see `ilsvrc`

A row may have labels in several columns (a WordNet id and a number): they must mean one class.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitcli.errors import MissingExtra, UsageError
from vitcli.escaping import short
from vitcli.pictures.formats import is_picture
from vitcli.truth.classes import some

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")  # of a file that may be named in place of its pictures
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # of the hub's folders of pictures

# Columns as people call them, the surest first; names are compared without case, spaces, hyphens and underscores.
FILES = ("filename", "file", "filepath", "path", "imagepath", "imagefile", "image", "imageid", "img", "id", "name")
LABELS = (
    "wnid", "synset", "label", "labels", "labelname", "class", "classname", "category", "target", "truth",
    "groundtruth", "classid", "labelid", "classindex", "labelindex", "index", "predictionstring",
)  # fmt: skip

ILSVRC_NAME = "ILSVRC2012_val_{:08d}"
ILSVRC_MAPS = ("meta.mat", "map_clsloc.txt")  # of the development kit, beside the numbers


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold the file and its label; None where the usual names are looked for."""

    file: str | None = None
    label: str | None = None


@dataclass(slots=True)
class Table:
    """What a file says: its pictures, as it names them, and their labels."""

    path: Path
    labels: dict[str, tuple[str, ...]]  # normalised name -> what each column of labels says; none where all are empty
    double: list[str] = field(default_factory=list)  # files that are named twice, with the same labels
    used: dict[str, str] = field(default_factory=dict)  # file -> the name of the input that it was
    bases: dict[str, str | None] = field(default_factory=dict)  # last part of a name -> its file, None for several

    @classmethod
    def read(cls, path: Path, columns: Columns | None = None, synsets: Path | None = None) -> Table:
        """The labels of a file. `synsets` says which class has which of ILSVRC's numbers.

        Raises UsageError for a file that cannot be read or has no such columns, and for labels that contradict.
        """
        columns = columns or Columns()
        labels: dict[str, tuple[str, ...]] = {}
        double: list[str] = []
        try:
            for file, found in rows(path, columns, synsets):
                name = plain(file)
                if name in labels:
                    if labels[name] != found:
                        raise UsageError(
                            f"{path}: {short(file, 80)} is there twice, with different labels ({some(labels[name])}; "
                            f"{some(found)}): leave one of them."
                        )
                    double.append(name)
                labels[name] = found
        except OSError as error:
            raise UsageError(f"{path}: the labels cannot be read ({error.strerror or error}).") from error
        except (ValueError, csv.Error, RecursionError) as error:
            raise UsageError(f"{path}: no labels can be read from it ({short(str(error), 100)}).") from error
        if not labels:
            raise UsageError(f"{path}: there is not one label in it.")
        table = cls(path, labels, double)
        for name in labels:
            for base in {name.rpartition("/")[2], stem(name.rpartition("/")[2])}:
                table.bases[base] = None if base in table.bases else name
        return table

    def digest(self) -> str:
        """What the file says, in few characters."""
        return hashlib.sha256(json.dumps(sorted(self.labels.items())).encode()).hexdigest()

    def find(self, name: str) -> str | None:
        """The file of the table that an input of this name is; None if there is none, or it is left open.

        It is the one whose whole name the input's ends with; else the only one whose last part is the same. Endings of
        pictures may be missing in the table. Raises UsageError when another input was that file already.
        """
        parts = plain(name).split("/")
        ends = ("/".join(parts[i:]) for i in range(len(parts)))
        own = next((end for whole in ends for end in (whole, stem(whole)) if end in self.labels), None)
        own = own or self.bases.get(parts[-1]) or self.bases.get(stem(parts[-1]))
        if own is None or (before := self.used.setdefault(own, name)) == name:
            return own
        if os.path.realpath(before) != os.path.realpath(name):
            raise UsageError(
                f"{self.path}: {short(own, 60)} could be {short(before, 60)} or {short(name, 60)}, and so "
                "would label a wrong picture: name the files in it with their folders."
            )
        return own

    def missing(self) -> list[str]:
        """Files of the table that were no input."""
        return [name for name in self.labels if name not in self.used]


def plain(name: str) -> str:
    """A file's name with `/` between its parts, and nothing that leads nowhere; an address as it is."""
    return name if "://" in name[:8] else os.path.normpath(name.replace("!/", "/")).replace(os.sep, "/")


def stem(name: str) -> str:
    """A name without the ending of a picture."""
    return os.path.splitext(name)[0] if is_picture(name) else name


def rows(path: Path, columns: Columns, synsets: Path | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(file, labels) of each row."""
    match path.suffix.lower():
        case ".csv" | ".tsv" as ending:
            yield from of_csv(path, "," if ending == ".csv" else "\t", columns)
        case ".jsonl" | ".ndjson":
            yield from of_records(path, objects(path), columns)
        case ".parquet":
            yield from of_records(path, parquet(path), columns)
        case _:
            yield from of_lines(path, synsets)


def of_csv(path: Path, delimiter: str, columns: Columns) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The rows of a CSV; without a header where its first line names a picture and what it is."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = csv.reader(text, delimiter=delimiter)
        head = next(lines, [])
        if len(head) == 2 and is_picture(head[0]):
            yield head[0], tuple(filled([head[1]]))
            yield from ((line[0], tuple(filled(line[1:2]))) for line in lines if line)
        else:
            yield from of_records(path, (dict(zip(head, line, strict=False)) for line in lines if line), columns, head)


def objects(path: Path) -> Iterator[Mapping[str, Any]]:
    """The records of JSON lines."""
    with path.open(encoding="utf-8-sig") as text:
        for number, line in enumerate(text, 1):
            if line.strip():
                found = json.loads(line)
                if not isinstance(found, dict):
                    raise ValueError(f"line {number} is no object")
                yield found


def parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    """The records of a parquet file, without what is nested in it: pictures themselves may be."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("Reading parquet", "parquet") from None
    with pq.ParquetFile(path) as file:
        flat = [part.name for part in file.schema_arrow if not pa.types.is_nested(part.type)]
        for batch in file.iter_batches(columns=flat):
            yield from batch.to_pylist()


def of_records(
    path: Path, records: Iterator[Mapping[str, Any]], columns: Columns, head: list[str] | None = None
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The rows of records whose columns have names."""
    file, labels = "", list[str]()
    for number, record in enumerate(records, 1):
        if not labels:
            file, labels = chosen(path, head or list(record), columns)
        name = record.get(file)
        if name is None or not str(name).strip():
            raise UsageError(f"{path}: row {number} names no file in its column {file!r}.")
        yield str(name), tuple(filled(record.get(label) for label in labels))


def chosen(path: Path, there: list[str], columns: Columns) -> tuple[str, list[str]]:
    """The column of files and those of labels. Raises UsageError when there are none."""
    names = {re.sub(r"[\s_-]", "", column).lower(): column for column in there}

    def named(option: str, column: str) -> str:
        if column not in there:
            raise UsageError(f"{path} has no column {column!r} ({option}); its columns are {some(there)}.")
        return column

    hub = [column for key, column in names.items() if key.endswith("filename")]
    usual = [names[key] for key in FILES if key in names]
    file = named("--file-column", columns.file) if columns.file else next(iter([*usual, *hub]), None)
    labels = (
        [named("--label-column", columns.label)]
        if columns.label
        else [names[key] for key in LABELS if key in names and names[key] != file]
    )
    if file is None or not labels:
        lacks, option = ("files", "--file-column") if file is None else ("labels", "--label-column")
        raise UsageError(f"{path}: none of its columns ({some(there)}) is known to hold {lacks}: name it, {option}.")
    return file, labels


def filled(cells: Any) -> Iterator[str]:
    """The labels among cells that may be empty."""
    return (text for cell in cells if cell is not None and (text := str(cell).strip()) and text.lower() != "nan")


def of_lines(path: Path, synsets: Path | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Lines of a file and its label; or ILSVRC's numbers, a line for each validation picture."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as text:
        lines = [line.strip() for line in text]
    while lines and not lines[-1]:
        lines.pop()
    if all(re.fullmatch(r"\d{1,4}", line, re.ASCII) for line in lines):
        yield from ilsvrc(path, [int(line) for line in lines], synsets)
        return
    for number, line in enumerate(lines, 1):
        file, _, label = line.partition("\t") if "\t" in line else line.rpartition(" ")
        if not file or not label:
            raise ValueError(f"line {number} is not a file and its label")
        yield file.strip(), (label.strip(),)


def ilsvrc(path: Path, numbers: list[int], synsets: Path | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """ILSVRC2012_validation_ground_truth.txt: its numbers are ILSVRC2012_ID of the development kit's meta.mat.

    They are neither the index of a class nor the rank of its WordNet id. Raises UsageError when nothing says what they
    are.
    """
    from vitcli.truth.devkit import wnids

    beside = (path.with_name(name) for name in ILSVRC_MAPS)
    source = synsets or next((file for file in beside if file.is_file()), None)
    if source is None:
        raise UsageError(
            f"{path} has ILSVRC's own numbers, which are not the indices of classes: put meta.mat of the development "
            "kit beside it, or name a file with lines of wnid and number, --synsets FILE."
        )
    known = wnids(source)
    for i, number in enumerate(numbers, 1):
        if number not in known:
            raise UsageError(f"{path}: line {i} has the number {number}, which {source} does not know.")
        yield ILSVRC_NAME.format(i), (known[number],)
