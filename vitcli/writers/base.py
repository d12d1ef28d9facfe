"""What every output is to the rest: `Format`, a row of WRITERS; `Output`, where rows go; the `Options` they share.

    with open_output(path, format, header, options) as out:
        for result in stream(classifier, inputs, wanted=out.wanted):
            out.write(result)

`wanted` and `write` belong together: `wanted` leaves out what an earlier run answered and remembers what it let
through; `write` takes one result for each, in the same order and in the same thread. Rows reach the disk whenever
`wanted` is asked of the next input, and with the row after `flush_rows` rows or FLUSH_SECONDS.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from vitcli.errors import OutputError, UsageError, VitError
from vitcli.results import Prediction, Result
from vitcli.sources import Input

Self = TypeVar("Self", bound="Output")

FLUSH_SECONDS = 1.0
SKIPS = 1000  # inputs left out between two flushes


@dataclass(frozen=True, slots=True)
class Options:
    """What the rows show, and what to do about an output that is there already."""

    topk: int = 5  # columns of wide csv
    threshold: float | None = None  # labels with a lower score are left out; their row stays
    fields: tuple[str, ...] = ()  # none means all
    extra: frozenset[str] = frozenset()  # groups of `fields.EXTRA`: what only some runs tell of a picture
    show: bool = False  # the table: each picture beside its row, where a terminal can
    long: bool = False  # csv and tsv: a row for each label
    bom: bool = False  # csv and tsv: begin with a byte order mark
    force: bool = False  # overwrite
    resume: bool = False  # continue where an earlier run stopped
    retry_failed: bool = False  # when resuming, do failed inputs again
    by_content: bool = False  # recognize an input by its bytes, not by its path, size and time

    def __post_init__(self) -> None:
        """Raises UsageError for a threshold that no score is below or above."""
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise UsageError(f"--threshold {self.threshold} is no number that a score can be compared with.")


class Format(ABC):
    """A row of WRITERS."""

    name: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]  # the first is the usual one
    help: ClassVar[str]
    without: ClassVar[tuple[str, ...]] = ("long", "bom", "show")  # options that mean nothing here

    @classmethod
    @abstractmethod
    def open(cls, path: Path | None, header: Mapping[str, Any], options: Options) -> Output:
        """Open an output; None is stdout. May raise OSError and sqlite3.Error, which `open_output` puts into words."""


class Output(ABC):
    """Where rows go. `path` None means stdout.

    Every method raises OutputError when the results cannot be written; what was written before stays. BrokenPipeError
    passes through: that the reader of stdout left is not an error.
    """

    flush_rows: ClassVar[int] = 32
    advice: ClassVar[str] = ""  # what to do after an error

    def __init__(self, path: Path | None, options: Options) -> None:
        self.path = path
        self.options = options
        self.skipped = 0  # inputs that an earlier run answered
        self.waiting = 0  # rows not flushed
        self.flushed_at = time.monotonic()
        self.done = False  # closed, or given up after an error
        self.release: Callable[[], None] = lambda: None  # called once, when it is done

    @abstractmethod
    def add(self, result: Result) -> None:
        """Take one row."""

    @abstractmethod
    def push(self) -> None:
        """Bring the rows added since the last push to where a killed run leaves them."""

    @abstractmethod
    def finish(self) -> None:
        """Complete the output, every row pushed, and close every file."""

    @abstractmethod
    def abandon(self) -> None:
        """After an error: leave the output as the last push left it, and close every file."""

    def needs(self, item: Input) -> bool:
        """Whether an input's answer is not in the output yet."""
        return True

    def failures(self) -> Iterator[dict[str, Any]]:
        """The records of everything that is failed in the output, in order, as far as it knows."""
        return iter(())

    def wanted(self, item: Input) -> bool:
        """Whether an input's answer is not in the output yet. Each that is wanted must be written, in this order."""
        if self.waiting:
            self.flush()
        with self.guarded():
            needed = self.needs(item)
        if not needed:
            self.skipped += 1
            if self.skipped % SKIPS == 0:
                self.flush()
        return needed

    def write(self, result: Result) -> None:
        """Take one result."""
        if isinstance(result, Prediction) and self.options.threshold is not None:
            result = replace(result, top=tuple(t for t in result.top if t.score >= self.options.threshold))
        with self.guarded():
            self.add(result)
        self.waiting += 1
        if self.waiting >= self.flush_rows or time.monotonic() - self.flushed_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring every result taken so far to where a killed run leaves it."""
        if self.done:
            return
        with self.guarded():
            self.push()
        self.waiting = 0
        self.flushed_at = time.monotonic()

    def close(self) -> None:
        """Finish the output. Nothing happens after an error, or the second time."""
        if self.done:
            return
        self.flush()
        with self.guarded():
            self.finish()
        self.done = True
        self.release()

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """After any error nothing more is written; what the disk and the journal say becomes an OutputError."""
        try:
            with explained(self.path, self.advice):
                yield
        except BaseException:
            if not self.done:
                self.done = True
                with contextlib.suppress(OSError, sqlite3.Error):
                    self.abandon()
                self.release()
            raise

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


@contextlib.contextmanager
def explained(path: Path | None, advice: str = "") -> Iterator[None]:
    """What the disk and SQLite say, as an OutputError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:  # the last is how damaged text of a database reads
        said = (error.strerror or error) if isinstance(error, OSError) else error
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            said = f"{said}, or that of a file beside it, which is up to 20 bytes longer: choose a shorter one"
        raise OutputError(f"{path or 'stdout'} cannot be written ({said}).{advice}") from None


def regular(path: Path) -> Path | None:
    """The file behind a path, links followed; None for a pipe or a device. Raises OutputError without its folder."""
    if path.exists() and not path.is_file():
        return None
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist.")
    return Path(os.path.realpath(path))
