"""Labelled pictures: what the user named -> the inputs, and for each the classes that are right.

    source = Source.of(["val/"])                    folders named after classes, or with metadata.csv
    source = Source.of(["labels.csv"])              a file that names pictures and their labels
    source = Source.of(["photos/"], table=Path("labels.csv"))
    truth = Labelled(source, labels)
    truth.of("val/n01440764/1.jpg")                 -> Right((0,), None)

`tables` reads files, `places` folders and archives, `classes` matches labels with classes. A label that matches no
class, or several, is counted and named, and its picture has no truth; what contradicts is an error.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vitcli.errors import UsageError
from vitcli.escaping import short
from vitcli.labels import Labels
from vitcli.truth.classes import Classes, some
from vitcli.truth.places import Folders, Packs, is_member
from vitcli.truth.real import Real
from vitcli.truth.tables import ENDINGS, METADATA, Columns, Table

__all__ = ["Columns", "Counts", "Labelled", "Real", "Right", "Source", "Table", "some", "subset"]

EARLY = 200  # labelled pictures after which it is no accident any more that none matched


class Right(NamedTuple):
    """What is right about a picture: its class, as its label says, and all that are right by ReaL; None if unknown."""

    label: int | None
    real: tuple[int, ...] | None = None

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that are right: by its label, else by ReaL."""
        return (self.label,) if self.label is not None else self.real or ()


@dataclass(slots=True)
class Counts:
    """What the labels of a run were like. Names come with how many pictures have them."""

    inputs: int = 0
    unlabelled: int = 0  # no label at all
    unmatched: Counter[str] = field(default_factory=Counter)  # labels that are no class
    ambiguous: Counter[str] = field(default_factory=Counter)  # labels that are several
    missing: int = 0  # entries of files of labels without a picture
    missing_first: tuple[str, ...] = ()
    double: int = 0  # entries that are there twice
    failed: Counter[str] = field(default_factory=Counter)  # inputs without an answer, by reason

    def record(self) -> dict[str, Any]:
        """The counts as JSON-ready values."""
        return {
            "inputs": self.inputs,
            "failed": dict(self.failed.most_common()),
            "unlabelled": self.unlabelled,
            "unmatched": dict(self.unmatched.most_common()),
            "ambiguous": dict(self.ambiguous.most_common()),
            "missing": self.missing,
            "double": self.double,
        }

    def sentences(self, classes: Classes) -> Iterator[str]:
        """What the user should know, for a person; nothing where all is well."""
        for found, are in ((self.unmatched, "of no class"), (self.ambiguous, "of several classes")):
            if found:
                names = [f"{name} ({meant(classes, name)})" if classes.find(name) else name for name in found]
                pictures = told(found.total(), "picture has a label", "pictures have labels")
                yield f"{pictures} {are} and {'was' if found.total() == 1 else 'were'} not judged: {some(names, most=160)}."
        if self.unlabelled:
            yield f"{told(self.unlabelled, 'picture has', 'pictures have')} no label."
        if self.missing:
            files = some(self.missing_first, self.missing)
            yield f"{told(self.missing, 'label has', 'labels have')} no picture: {files}."
        if self.double:
            yield f"{told(self.double, 'label is', 'labels are')} there twice, with the same meaning."


def told(count: int, one: str, many: str) -> str:
    """A count and what it counts."""
    return f"{count:,} {one if count == 1 else many}"


def meant(classes: Classes, label: str) -> str:
    """The classes that a label may mean, by index and name."""
    return " or ".join(f"{index} {short(classes.labels.names[index], 40)}" for index in sorted(classes.find(label)))


@dataclass(frozen=True, slots=True)
class Source:
    """Where the labels of a run's inputs are, before the classes are known."""

    names: tuple[str, ...]  # what `sources.inputs` is to take
    table: Table | None  # labels of any input, by the ends of names
    exact: tuple[tuple[Table, dict[str, str]], ...]  # a table, and its files by the names that their inputs have
    real: Real | None
    read: tuple[Path, ...]  # files that were read

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        *,
        table: Path | None = None,
        columns: Columns | None = None,
        synsets: Path | None = None,
        real: Path | None = None,
    ) -> Source:
        """The labels of what `names` stand for. Raises UsageError for files of labels that cannot be used."""
        given, exact, read = list[str](), list[tuple[Table, dict[str, str]]](), list[Path]()

        def listed(path: str) -> list[str]:
            found = Table.read(Path(path), columns, synsets)
            files = {beside(path, file): file for file in found.labels}
            exact.append((found, {os.path.normpath(name): file for name, file in files.items()}))
            read.append(found.path)
            return list(files)

        for name in names:
            if table is None and name.lower().endswith(ENDINGS) and os.path.isfile(name):
                given += listed(name)
                continue
            given.append(name)
            metadata = [os.path.join(name, file) for file in METADATA] if table is None else []
            for there in filter(os.path.isfile, metadata):
                listed(there)
        own = Table.read(table, columns, synsets) if table else None
        read += [path for path in (table, synsets, real) if path]
        return cls(tuple(given), own, tuple(exact), Real.read(real) if real else None, tuple(read))

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every file of labels."""
        return (*((self.table,) if self.table else ()), *(table for table, _ in self.exact))

    def record(self) -> dict[str, Any]:
        """What decides the truth of an input, for the header of rows that may be resumed."""
        return {
            "tables": [table.digest() for table in self.tables],
            "real": self.real.digest if self.real else None,
        }


def beside(path: str, file: str) -> str:
    """The name of an input that a file of labels names: relative to that file."""
    if "://" in file[:8]:
        return file
    name = os.path.join(os.path.dirname(path), file)
    return f".{os.sep}{name}" if name.startswith(("@", "-")) else name


class Labelled:
    """Which classes are right for an input, of a model with these labels.

    `only` are the classes that are ranked, None for all. Raises UsageError when the labels do not fit the model.
    """

    def __init__(self, source: Source, labels: Labels, only: frozenset[int] | None = None) -> None:
        self.source, self.classes, self.only = source, Classes(labels), only
        self.folders, self.packs = Folders(source.names), Packs(self.classes)
        self.counts = Counts()
        self.matched = False
        self.seen: list[str] = []  # the first labels, until one matched
        self.real = source.real.of_classes(self.classes) if source.real else None
        for table in source.tables:
            for name, found in table.labels.items():
                self.agreed(table, name, found)
            self.classes.check(str(table.path), (found[0] for found in table.labels.values() if found))
        if not source.tables and not source.real and self.folders.whole:
            self.classes.check(some(source.names), self.folders.early())

    def of(self, name: str) -> Right:
        """What is right about an input, by its name; counts it. Raises UsageError where labels contradict."""
        self.counts.inputs += 1
        real = self.real(name) if self.real else None
        if self.only is not None and real is not None:
            real = tuple(index for index in real if index in self.only) or None
        said, labels = self.labels(name)
        found = self.meaning(labels)
        if len(found) == 1 and (self.only is None or found <= self.only):
            self.matched = True
            return Right(next(iter(found)), real)
        if said and labels:  # ReaL alone may be what counts, and then a folder need not be a class
            self.unfit(labels[0], len(found) > 1)
        elif real is None:
            self.counts.unlabelled += 1
        return Right(None, real)

    def labels(self, name: str) -> tuple[bool, tuple[str, ...]]:
        """What an input is labelled with, by its file or place; and whether it must be that."""
        for table, files in self.source.exact:
            if (file := files.get(os.path.normpath(name))) is not None:
                table.used[file] = name
                return True, table.labels[file]
        if self.source.table is not None:
            file = self.source.table.find(name)
            return True, self.source.table.labels[file] if file is not None else ()
        if any(table.path.name in METADATA and Path(name).is_relative_to(table.path.parent) for table, _ in
               self.source.exact):  # fmt: skip
            return True, ()
        label = self.packs.label(name) if is_member(name) else self.folders.label(name)
        return self.real is None, (label,) if label else ()

    def meaning(self, labels: tuple[str, ...]) -> frozenset[int]:
        """The classes that the labels of one picture may mean: the first, where others do not settle it."""
        found = self.classes.find(labels[0]) if labels else frozenset()
        for label in labels[1:]:
            found = found & self.classes.find(label) or found
        return found

    def unfit(self, label: str, several: bool) -> None:
        """Count a label that is no class, or several. Raises UsageError when by now none can be expected to fit."""
        (self.counts.ambiguous if several else self.counts.unmatched)[label] += 1
        if not self.matched and len(self.seen) < EARLY:
            self.seen.append(label)
            if len(self.seen) == EARLY:
                self.classes.check("What was named", self.seen)

    def agreed(self, table: Table, name: str, labels: tuple[str, ...]) -> None:
        """Raise UsageError where the columns of a row mean different classes."""
        means = [found for label in labels if (found := self.classes.find(label))]
        if means and not frozenset.intersection(*means):
            raise UsageError(
                f"{table.path}: the labels of {short(name, 60)} ({some(labels)}) are different classes: say which "
                "column holds the right ones, --label-column."
            )

    def end(self) -> Counts:
        """The counts, once every input has been asked for."""
        missing = [name for table in self.source.tables for name in table.missing()]
        self.counts.missing, self.counts.missing_first = len(missing), tuple(missing[:3])
        self.counts.double = sum(len(table.double) for table in self.source.tables)
        return self.counts


def subset(path: Path, labels: Labels) -> tuple[int, ...]:
    """The classes in a file, one a line by WordNet id, name or number, in the order of the model.

    Raises UsageError for one that is no class, or several.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the classes cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    classes, chosen = Classes(labels), set[int]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = classes.find(line)
        if len(found) != 1:
            what = f"{meant(classes, line)}: which?" if found else "no class of this model."
            raise UsageError(f"{path}: line {number} ({short(line.strip(), 40)}) is {what}")
        chosen |= found
    if not chosen:
        raise UsageError(f"{path} names no class.")
    return tuple(sorted(chosen))
