"""`Writer`: what every output format is to the rest, and the `Options` they share.

with open_output(path, format, header, options) as out:
    for result in stream(classifier, out.todo(inputs)):
        out.write(result)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from vitcli.errors import OutputError, UsageError, VitError
from vitcli.results import Prediction, Result
from vitcli.sources import Input

Self = TypeVar("Self", bound="Writer")

FLUSH_SECONDS = 1.0


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
    flush_rows: ClassVar[int] = 32

    def __init__(self, path: Path | None, header: Mapping[str, Any], options: Options) -> None:
        self.path = path
        self.header = dict(header)
        self.options = options
        self.waiting = 0  # rows not flushed
        self.flushed_at = time.monotonic()

    def todo(self, inputs: Iterable[Input]) -> Iterator[Input]:
        """The inputs whose answers are not in the output yet. Results must be written one for each, in this order."""
        yield from inputs

    def write(self, result: Result) -> None:
        """Take one result. It reaches the disk with the next flush: after `flush_rows` rows or FLUSH_SECONDS."""
        if isinstance(result, Prediction) and self.options.threshold is not None:
            result = replace(result, top=tuple(t for t in result.top if t.score >= self.options.threshold))
        self.add(result)
        self.waiting += 1
        if self.waiting >= self.flush_rows or time.monotonic() - self.flushed_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring every result taken so far to where a killed run leaves it."""
        self.push()
        self.waiting = 0
        self.flushed_at = time.monotonic()

    def refuse(self, *settings: str) -> None:
        """Raise UsageError for a setting that this format does not have."""
        for setting in settings:
            if getattr(self.options, setting):
                raise UsageError(f"--{setting.replace('_', '-')} means nothing for the format {self.name}.")

    def refuse_existing(self, path: Path) -> None:
        """Raise OutputError rather than lose what a file holds."""
        if not self.options.force and path.is_file() and path.stat().st_size:
            raise OutputError(f"{path} exists already: add --resume to go on with it, or --force to overwrite it.")

    def add(self, result: Result) -> None:
        """Format one row."""
        raise NotImplementedError

    def push(self) -> None:
        """Write the rows formatted since the last push."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish the output."""
        self.flush()

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
