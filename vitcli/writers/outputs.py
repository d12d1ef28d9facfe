"""Where the rows of a format go: a `Stream`, an `AppendedFile` or a `FileAtTheEnd`; the last two can be resumed.

`Resumable` is an output with a journal; a format whose file is a database of its own (sqlite) derives from it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol

from vitcli.errors import OutputError
from vitcli.results import Failure, Result
from vitcli.sources import Input
from vitcli.writers.base import Options, Output
from vitcli.writers.journal import Identity, Journal, digest, digest_of_file, identity
from vitcli.writers.lock import ENDING

JOURNAL = ".vit-journal"
NEW = ".vit-new"
LOGITS = ".vit-logits"  # of an evaluation: what its figures are computed from
SQLITE = ("", "-wal", "-shm", "-journal")  # what SQLite keeps beside a database
KEPT = (*SQLITE[1:], *(JOURNAL + ending for ending in SQLITE), NEW, LOGITS, ENDING)
PIECE = 1 << 20  # bytes copied at a time


class Rows(Protocol):
    """A format whose rows follow one another: `prefix`, then rows with `between` in between, then `footer`."""

    between: ClassVar[bytes]
    footer: ClassVar[bytes]

    def prefix(self) -> bytes: ...

    def row(self, result: Result) -> bytes:
        """One result."""
        ...


class Whole(Protocol):
    """A format whose file is written in one go."""

    def record(self, result: Result) -> dict[str, Any]:
        """One result as JSON-ready values."""
        ...

    def save(self, new: Path, old: Path | None, kept: Iterator[int], records: Iterator[dict[str, Any]]) -> None:
        """Write a new file: the rows of the old one whose numbers are `kept`, then the records."""
        ...


class Stream(Output):
    """Stdout, a pipe or a device: what is written is gone, and cannot be resumed."""

    def __init__(self, path: Path | None, options: Options, format: Rows, stream: IO[bytes]) -> None:
        super().__init__(path, options)
        self.format = format
        self.stream = stream
        self.pending = [format.prefix()]
        self.between = b""

    def add(self, result: Result) -> None:
        self.pending += self.between, self.format.row(result)
        self.between = self.format.between

    def push(self) -> None:
        data = b"".join(self.pending)
        self.pending.clear()
        write_all(self.stream, data)
        self.stream.flush()

    def finish(self) -> None:
        write_all(self.stream, self.format.footer)
        self.stream.flush()
        self.abandon()

    def abandon(self) -> None:
        if self.path is not None:
            self.stream.close()


class Resumable(Output):
    """An output with a journal, which knows the inputs that are answered."""

    advice = " What was written stays; add --resume to continue."

    def __init__(self, path: Path, options: Options, journal: Journal) -> None:
        super().__init__(path, options)
        self.journal = journal
        self.expected: deque[tuple[str, Identity, int | None]] = deque()  # let through: name, identity, row to replace

    @abstractmethod
    def store(self, own: Identity, result: Result) -> None:
        """Take the row of an input, and tell the journal."""

    def drop(self, row: int) -> None:
        """A row of the journal is about to be replaced."""
        self.journal.drop(row)

    def needs(self, item: Input) -> bool:
        own = identity(item, self.options.by_content)
        found = self.journal.claim(own) if self.options.resume else None
        if found is None:
            self.expected.append((item.name, own, None))
            return True
        row, failed, current = found
        if current and not (failed and self.options.retry_failed):
            return False
        self.expected.append((item.name, own, row))
        return True

    def add(self, result: Result) -> None:
        unasked = result.path, identity(Input(result.path), False), None
        name, own, old = self.expected.popleft() if self.expected else unasked
        if name != result.path:
            raise ValueError(f"the result of {result.path!r} came when that of {name!r} was due")
        if old is not None:
            self.drop(old)
        self.store(own, result)

    def failures(self) -> Iterator[dict[str, Any]]:
        return self.journal.failures()

    def push(self) -> None:
        self.journal.commit()

    def finish(self) -> None:
        self.journal.close()

    def abandon(self) -> None:
        self.journal.abandon()


class AppendedFile(Resumable):
    """A file that grows by its rows. Its footer is there after every push, and is written over by the next one:
    between two pushes the file is always whole.
    """

    def __init__(
        self, path: Path, options: Options, journal: Journal, format: Rows, target: Path, stream: IO[bytes]
    ) -> None:
        super().__init__(path, options, journal)
        self.format = format
        self.target = target  # the file behind the path
        self.stream = stream
        end = journal.end()
        self.between = b"" if end is None else format.between
        self.pending = [format.prefix()] if end is None else []
        self.safe = end or 0  # bytes of the output that stay
        self.end = end or len(format.prefix())  # bytes with what is pending

    @classmethod
    def open(cls, path: Path, target: Path, format: Rows, made: Mapping[str, Any], options: Options) -> AppendedFile:
        """The output at `path`, new or to be resumed: what its journal does not know of is cut off, holes closed."""
        with contextlib.ExitStack() as undo:
            journal = start_journal(path, target, made, options, lambda file, known: holds(file, known, format))
            undo.callback(journal.abandon)
            journal.drop_after(target.stat().st_size if target.exists() else 0)
            journal.commit()
            if journal.get("holes", False):
                rebuild(target, format, journal)
            stream = undo.enter_context(target.open("r+b" if target.exists() else "w+b", buffering=0))
            journal.set("inode", target.stat().st_ino)
            if journal.end() is None:
                know_prefix(journal, format.prefix())
            journal.commit()
            stream.truncate(journal.end() or 0)
            undo.pop_all()
        return cls(path, options, journal, format, target, stream)

    def store(self, own: Identity, result: Result) -> None:
        row = self.format.row(result)
        start = self.end + len(self.between)
        self.pending += self.between, row
        self.between = self.format.between
        self.end = start + len(row)
        self.journal.add(own, failure(result), start, self.end, digest(row))

    def push(self) -> None:
        data = b"".join((*self.pending, self.format.footer))
        self.pending.clear()
        self.stream.seek(self.safe)
        write_all(self.stream, data)
        super().push()
        self.safe = self.end

    def finish(self) -> None:
        self.stream.close()
        if self.journal.get("holes", False):
            rebuild(self.target, self.format, self.journal)
        super().finish()

    def abandon(self) -> None:
        whole = False
        try:
            if not self.stream.closed:
                with self.stream:
                    self.stream.truncate(self.safe)
                    self.stream.seek(self.safe)
                    write_all(self.stream, self.format.footer if self.safe else b"")
                whole = True
        finally:
            self.journal.abandon(closed=whole)


class FileAtTheEnd(Resumable):
    """A file that cannot be appended to: it is made when the run ends, and until then the journal holds the rows."""

    def __init__(self, path: Path, options: Options, journal: Journal, format: Whole, target: Path) -> None:
        super().__init__(path, options, journal)
        self.format = format
        self.target = target

    @classmethod
    def open(cls, path: Path, target: Path, format: Whole, made: Mapping[str, Any], options: Options) -> FileAtTheEnd:
        """The output at `path`, new or to be resumed."""
        with contextlib.ExitStack() as undo:
            journal = start_journal(path, target, made, options, unchanged, spooled=True)
            undo.callback(journal.abandon)
            if target.exists() and target.stat().st_size == 0:
                target.unlink()
            if not target.exists():
                journal.drop_after(0)
            journal.commit()
            undo.pop_all()
        return cls(path, options, journal, format, target)

    def store(self, own: Identity, result: Result) -> None:
        self.journal.add(own, failure(result), record=json.dumps(self.format.record(result)))

    def finish(self) -> None:
        if not self.target.exists() or self.journal.get("holes", False) or self.journal.has_records():
            self.make()
        super().finish()

    def make(self) -> None:
        """The file that is there, as far as it still stands, with the new rows: a new file in its place."""
        old = self.target if self.target.exists() else None
        if old is not None and not unchanged(old, self.journal):
            raise OutputError(f"{self.path} is not the file that its journal knows: choose another output.")
        new = beside(self.target, NEW)
        # closed whatever happens: a journal that is still read cannot be closed
        with contextlib.closing(self.journal.places()) as places, contextlib.closing(self.journal.records()) as records:
            try:
                self.format.save(
                    new, old, (start for start, _ in places), (json.loads(record) for (record,) in records)
                )
            except BaseException:
                new.unlink(missing_ok=True)
                raise
        self.journal.set("made", digest_of_file(new).hex())
        self.journal.switch(0, 0)  # a row is one row long
        self.journal.rename(new, self.target)
        self.journal.shrink()


def start_journal(
    path: Path,
    target: Path,
    made: Mapping[str, Any],
    options: Options,
    fits: Callable[[Path, Journal], bool],
    *,
    spooled: bool = False,
) -> Journal:
    """The journal beside an output, new or to be resumed. `spooled`: it holds the rows until the output is made.

    `made` says how the rows are made, `path` is what messages call `target`, and `fits` whether a file that is there is
    what the journal knows. Raises OutputError, and leaves everything as it is, if it is not; and sqlite3.Error.
    """
    journal_path, new = beside(target, JOURNAL), beside(target, NEW)
    there = target.exists() and target.stat().st_size > 0
    if options.force and not options.resume:
        for old in (target, journal_path, beside(journal_path, "-wal"), new):
            old.unlink(missing_ok=True)
    elif not options.resume:
        if there:
            raise OutputError(f"{path} exists already: add --resume to continue, or --force to overwrite it.")
        if spooled and journal_path.exists():
            raise OutputError(
                f"{journal_path} holds the rows of a run: add --resume to continue, or --force to lose them."
            )
        for old in (journal_path, beside(journal_path, "-wal"), new):
            old.unlink(missing_ok=True)
    elif there and not journal_path.exists():
        raise OutputError(
            f"{path} cannot be resumed: its journal {journal_path.name} is missing. "
            "Choose another output, or --force to overwrite it."
        )
    journal = Journal(journal_path)
    try:
        journal.agree(target, made)
        if there and options.resume and (journal.new or not fits(journal.latest(new, target), journal)):
            raise OutputError(
                f"{path} cannot be resumed: it was changed, or {journal_path.name} is the journal of another file. "
                "Choose another output, or --force to overwrite it."
            )
        journal.start(made)
        journal.rename(new, target)
    except BaseException:
        journal.abandon()
        raise
    return journal


def settings(format: str, header: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """How rows are made: what must be the same for them to stand in one output."""
    shown = {"topk": options.topk, "threshold": options.threshold, "fields": list(options.fields), "long": options.long}
    extra: dict[str, Any] = {"extra": sorted(options.extra)} if options.extra else {}
    if options.bom:
        extra["bom"] = True
    return {**header, "format": format, **shown, **extra, "by_content": options.by_content}


def holds(file: Path, journal: Journal, format: Rows) -> bool:
    """Whether a text is what its journal knows: every byte of it is as it was written.

    The last rows may be missing: they are done again. After a kill there may be more than the journal knows of, which
    is cut off; without any row to compare it must then be the file that this run made.
    """
    size, first = file.stat().st_size, int(journal.get("prefix", 0))
    closed, holes = bool(journal.get("closed", False)), journal.get("holes", False)
    own, at, between = journal.get("inode") == file.stat().st_ino, first, b""
    with file.open("rb") as text:
        if digest(text.read(first)).hex() != journal.get("prefix_digest"):
            return size < first and own and not closed
        for start, stop, known in journal.digests(size):
            if not holes and text.read(start - at) != between:
                return False
            text.seek(start)
            if digest(text.read(stop - start)) != known:
                return False
            at, between = stop, format.between
        if closed and at == (journal.end() or at) and not holes:
            return format.footer.startswith(text.read(len(format.footer) + 1))
    return at > first or size <= first or (journal.end() is None and (closed or own))


def unchanged(file: Path, journal: Journal) -> bool:
    """Whether a file that was made at the end of a run is still that file."""
    return bool(journal.get("made") == digest_of_file(file).hex())


def know_prefix(journal: Journal, prefix: bytes) -> None:
    """Keep what stands before the rows."""
    journal.set("prefix", len(prefix))
    journal.set("prefix_digest", digest(prefix).hex())


def failure(result: Result) -> dict[str, Any] | None:
    """The record of a failure; None for anything else."""
    return result.record() if isinstance(result, Failure) else None


def rebuild(target: Path, format: Rows, journal: Journal) -> None:
    """The output without the rows that were replaced: a new file, which takes the place of the old one."""
    new, prefix = beside(target, NEW), format.prefix()
    with target.open("rb") as old, new.open("wb") as copy:
        copy.write(prefix)
        for n, (start, stop) in enumerate(journal.places()):
            copy.write(format.between if n else b"")
            old.seek(start)
            while start < stop and (piece := old.read(min(PIECE, stop - start))):
                start += copy.write(piece)
        copy.write(format.footer)
    know_prefix(journal, prefix)
    journal.switch(len(prefix), len(format.between))
    journal.rename(new, target)


def beside(path: Path, ending: str) -> Path:
    """A file that is kept next to another: ours are hidden, those of SQLite have the names that it gives them."""
    return path.with_name(f"{'.' if ending.startswith('.vit-') else ''}{path.name}{ending}")


def check_beside(path: Path, target: Path) -> None:
    """Raise OutputError where a name that is kept beside an output has a link, which leads elsewhere, a FIFO, for which
    SQLite would wait, or anything else that is no file.
    """
    for file in (beside(target, ending) for ending in KEPT):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(file).st_mode):
                raise OutputError(
                    f"{path} cannot be written: {file.name} beside it, a name that vit keeps for itself, is no plain "
                    "file. Remove it, or choose another output."
                )


def write_all(stream: IO[bytes], data: bytes) -> None:
    """Write every byte: what is not buffered may take fewer at a time. No buffer, so that a full disk keeps none."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]
