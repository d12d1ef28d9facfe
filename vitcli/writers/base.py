"""`Writer`: what every output format is to the rest, and the `Options` they share.

    with open_output(path, format, header, options) as out:
        for result in stream(classifier, out.todo(inputs)):
            out.write(result)

`todo` and `write` belong together: `todo` leaves out what an earlier run answered and remembers what it let through;
`write` takes one result for each, in the same order and in the same thread. Rows reach the disk whenever `todo` is
asked for the next input, and with the row after `flush_rows` rows or FLUSH_SECONDS.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from vitcli.errors import OutputError, UsageError, VitError
from vitcli.results import Failure, Prediction, Result
from vitcli.sources import Input
from vitcli.writers.journal import Identity, Journal, identity

Self = TypeVar("Self", bound="Writer")

FLUSH_SECONDS = 1.0
SKIPS = 1000  # inputs left out between two commits of the journal
JOURNAL = ".vit-journal"
NEW = ".vit-new"


@dataclass(frozen=True, slots=True)
class Options:
    """What the rows show, and what to do about an output that is there already."""

    topk: int = 5  # columns of wide csv
    threshold: float | None = None  # labels with a lower score are left out; their row stays
    fields: tuple[str, ...] = ()  # none means all
    long: bool = False  # csv and tsv: a row for each label
    force: bool = False  # overwrite
    resume: bool = False  # go on where an earlier run stopped
    retry_failed: bool = False  # when going on, do failed inputs again
    by_content: bool = False  # know an input again by its bytes, not by its path, size and time


class Writer:
    """One output. A subclass is a row of WRITERS: it names itself and writes rows.

    `path` None means stdout. Every method raises OutputError when the results cannot be written; what was written
    before stays. BrokenPipeError passes through: that the reader of stdout left is not an error.
    """

    name: ClassVar[str]
    endings: ClassVar[tuple[str, ...]] = ()
    help: ClassVar[str]
    without: ClassVar[tuple[str, ...]] = ("long",)  # options that mean nothing here
    flush_rows: ClassVar[int] = 32
    spooled: ClassVar[bool] = False  # the output is made at the end, the journal holds the rows till then

    def __init__(self, path: Path | None, header: Mapping[str, Any], options: Options) -> None:
        for setting in self.without:
            if getattr(options, setting):
                raise UsageError(f"--{setting.replace('_', '-')} means nothing for the format {self.name}.")
        if path is None and options.resume:
            raise UsageError("--resume goes on with a file: name it with -o.")
        self.path = path
        self.header = dict(header)
        self.options = options
        self.journal: Journal | None = None
        self.skipped = 0  # inputs that an earlier run answered
        self.expected: deque[tuple[str, Identity, int | None]] = deque()  # let through: name, identity, row to replace
        self.waiting = 0  # rows not flushed
        self.flushed_at = time.monotonic()
        self.opened = self.done = False  # done: closed, or given up after an error
        with self.guarded():
            self.open()
        self.opened = True

    def open(self) -> None:
        """Open the output: a new one, or one to go on with."""

    def add(self, result: Result) -> tuple[int, int] | None:
        """Format one row; where in the output it will be."""
        raise NotImplementedError

    def push(self) -> None:
        """Write the rows formatted since the last push."""

    def added(self, row: int, result: Result) -> None:
        """Called with the id of a row that was added to the journal."""

    def dropped(self, row: int) -> None:
        """Called with the id of a row that was replaced."""

    def spool(self, result: Result) -> str | None:
        """The row as the journal keeps it, if `spooled`."""
        return None

    def finish(self) -> None:
        """Complete the output, every row pushed."""

    def abandon(self) -> None:
        """After an error: leave the output as the journal last knew it, and close every file."""

    def todo(self, inputs: Iterable[Input]) -> Iterator[Input]:
        """The inputs whose answers are not in the output yet. Results must be written one for each, in this order."""
        for item in inputs:
            if self.waiting:
                self.flush()
            if self.journal is None:
                yield item
                continue
            with self.guarded():
                own = identity(item, self.options.by_content)
                found = self.journal.claim(own) if self.options.resume else None
            if found is None:
                self.expected.append((item.name, own, None))
                yield item
                continue
            row, failed, current = found
            if current and not (failed and self.options.retry_failed):
                self.skipped += 1
                if self.skipped % SKIPS == 0:
                    self.flush()
                continue
            self.expected.append((item.name, own, row))
            yield item

    def write(self, result: Result) -> None:
        """Take one result."""
        if isinstance(result, Prediction) and self.options.threshold is not None:
            result = replace(result, top=tuple(t for t in result.top if t.score >= self.options.threshold))
        with self.guarded():
            place = self.add(result)
            if self.journal is not None:
                unasked = result.path, identity(Input(result.path), False), None
                name, own, old = self.expected.popleft() if self.expected else unasked
                if name != result.path:
                    raise ValueError(f"the result of {result.path!r} came when that of {name!r} was due")
                if old is not None:
                    self.journal.drop(old)
                    self.dropped(old)
                start, stop = place or (None, None)
                row = self.journal.add(own, isinstance(result, Failure), start, stop, self.spool(result))
                self.added(row, result)
        self.waiting += 1
        if self.waiting >= self.flush_rows or time.monotonic() - self.flushed_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring every result taken so far to where a killed run leaves it."""
        if self.done:
            return
        with self.guarded():
            self.push()
            if self.journal is not None:
                self.journal.commit()
        self.waiting = 0
        self.flushed_at = time.monotonic()

    def close(self) -> None:
        """Finish the output. Nothing happens after an error, or the second time."""
        if self.done:
            return
        self.flush()
        with self.guarded():
            self.finish()
            if self.journal is not None:
                self.journal.close()
                self.journal = None
        self.done = True

    def start_journal(self, path: Path) -> Journal:
        """The journal of the output at `path`, new or to go on with. Raises OutputError and sqlite3.Error."""
        beside = path.with_name(path.name + JOURNAL)
        new = path.with_name(path.name + NEW)
        there = path.exists() and path.stat().st_size > 0
        if self.options.force and not self.options.resume:
            for old in (path, beside, beside.with_name(beside.name + "-wal"), new):
                old.unlink(missing_ok=True)
        elif not self.options.resume:
            if there:
                raise OutputError(f"{self.path} exists already: add --resume to go on, or --force to overwrite it.")
            if self.spooled and beside.exists():
                raise OutputError(f"{beside} holds the rows of a run: add --resume to go on, or --force to lose them.")
            for old in (beside, beside.with_name(beside.name + "-wal"), new):
                old.unlink(missing_ok=True)
        elif there and not beside.exists():
            raise OutputError(
                f"{self.path} cannot be gone on with: its journal {beside.name} is missing. "
                "Choose another output, or --force to overwrite it."
            )
        journal = Journal(beside)
        try:
            journal.agree(path, self.settings())
            journal.commit()
            journal.rename(new, path)
        except BaseException:
            journal.rollback()
            journal.db.close()
            raise
        return journal

    def settings(self) -> dict[str, Any]:
        """What must be the same for rows to stand in one output."""
        own = self.options
        shown = {"topk": own.topk, "threshold": own.threshold, "fields": list(own.fields), "long": own.long}
        return {**self.header, "format": self.name, **shown, "by_content": own.by_content}

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn what the disk and the journal say into an OutputError; after any error nothing more is written."""
        try:
            yield
        except BaseException as error:
            self.done = True
            with contextlib.suppress(OSError, sqlite3.Error):
                self.abandon()
            if self.journal is not None:
                with contextlib.suppress(sqlite3.Error):
                    self.journal.rollback()
                    self.journal.db.close()
                self.journal = None
            if isinstance(error, BrokenPipeError) or not isinstance(error, (OSError, sqlite3.Error)):
                raise
            said = (error.strerror or error) if isinstance(error, OSError) else error
            again = " What was written stays; add --resume to go on." if self.path and self.opened else ""
            raise OutputError(f"{self.path or 'stdout'} cannot be written ({said}).{again}") from None

    def refuse_existing(self, path: Path) -> None:
        """Raise OutputError rather than lose what a file holds."""
        if not self.options.force and path.is_file() and path.stat().st_size:
            raise OutputError(f"{path} exists already: add --force to overwrite it, or choose another output.")

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(VitError, OSError):  # the error under way is the one to be told
            self.close()


def regular(path: Path) -> Path | None:
    """The file behind a path, links followed; None for a pipe or a device. Raises OutputError without its folder."""
    if path.exists() and not path.is_file():
        return None
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist.")
    return Path(os.path.realpath(path))
