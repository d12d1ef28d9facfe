"""`Journal`: which inputs an output answers already, so that a run that was stopped, or killed, can go on.

A small SQLite file beside the output (`.labels.csv.vit-journal`), or tables in the output where that is SQLite. It
holds how the results were made, and a row for each row of the output: which input it answers and where it is.

    name     BLOB     digest of the input's name
    place    BLOB     digest of where its file is, however that is spelled
    content  BLOB     digest of its bytes, with --by-content
    size, mtime_ns    of its file, where it has one
    failed            whether the answer is a Failure
    failure  TEXT     that Failure as JSON
    run               the last run that met this input; each row answers one input of a run, so what was named twice
                      has two rows
    start, stop       where the row is: bytes of a text, row numbers of a parquet file
    digest   BLOB     digest of a text's row, by which a file that was edited or exchanged is noticed
    record   TEXT     the row itself as JSON, where the output cannot be appended to and is made at the end (parquet)

Safe against `kill -9` by the order of writes: first the rows go into the output, then the journal's transaction says
so. What the journal does not know of is cut off the output and done again. Rows that were replaced (a file that
changed, a failure done again) are dropped from the journal at once, and from the output by rebuilding it: a new file is
made beside the old one, one transaction switches the journal over to it and notes that it is to be renamed, then it
is renamed. Whoever opens the journal next finishes a renaming that did not happen.

Before anything is written the journal is held against the output: every row must be where it was written, byte for byte
(or the whole file, where it was made at the end), and the journal against its own seal, a digest of all it says. So
neither a journal of something else, nor a damaged one, nor an edited output costs a row. A journal that says of itself
that its run was stopped, and has no -wal beside it, was moved without its last rows.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vitcli.errors import OutputError
from vitcli.escaping import short
from vitcli.sources import Input
from vitcli.sources.input import place

# of the header: what may differ between runs whose rows are to stand in one output
VOLATILE = frozenset({"device", "version", "engine", "date"})

# Seconds after which a run is worth waiting for the disk, so that it outlasts a power cut too and not only a kill: a
# run of one picture would take a quarter longer.
SHORT = 5.0

VERSION = 3  # of the schema

# `run` changes by every run
SEALED = "id, name, place, content, size, mtime_ns, failed, start, stop, digest, record, failure"

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS vit_state (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS vit_rows (
    id INTEGER PRIMARY KEY, name BLOB NOT NULL, place BLOB, content BLOB, size INTEGER, mtime_ns INTEGER,
    failed INTEGER NOT NULL, run INTEGER NOT NULL, start INTEGER, stop INTEGER, digest BLOB, record TEXT,
    failure TEXT
)""",
    "CREATE INDEX IF NOT EXISTS vit_rows_name ON vit_rows (name)",
    "CREATE INDEX IF NOT EXISTS vit_rows_place ON vit_rows (place) WHERE place IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS vit_rows_content ON vit_rows (content) WHERE content IS NOT NULL",
    f"PRAGMA user_version = {VERSION}",
)


class Identity(NamedTuple):
    """What an input is known by."""

    name: bytes
    place: bytes | None
    content: bytes | None
    size: int | None
    mtime_ns: int | None


class Journal:
    """The journal at `path`: read until `start`, so that one that does not fit stays as it is.

    Raises OutputError when another run holds it or another version made it, and sqlite3.Error when it cannot be used.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.path, self.shared = path, shared
        self.run = 0  # until it is started
        self.state: dict[str, Any] = {}
        self.rows = 0  # all digests of rows in one: the order of rows is in their ids
        self.opened_at, self.fast = time.monotonic(), True
        wal = path.with_name(f"{path.name}-wal").exists()
        parted = not shared and not wal and wants_wal(path)
        # whoever may write takes over what a -wal holds, as far as it is whole, and removes it
        self.reading = wal
        self.db = self.connect()
        try:
            with self.free():
                (tables,) = self.db.execute("SELECT count(*) FROM sqlite_master").fetchone()
                (version,) = self.db.execute("PRAGMA user_version").fetchone()
                whole = tables or self.whole()  # one whose list of tables is zeros seems to be new
            self.new = not tables
            if not whole:
                raise self.damaged()
            if tables and version != VERSION:
                raise OutputError(
                    f"{path} was made by another version of vit (journal {version}, here {VERSION}): "
                    "it cannot be resumed. Choose another output, or --force to overwrite it."
                )
            if tables:
                self.read()
            if parted and tables and not self.get("closed", False):
                raise OutputError(
                    f"{path} is not whole: {path.name}-wal, which was beside it when the run was stopped, is missing. "
                    "Move it here too, choose another output, or --force to overwrite this one."
                )
        except BaseException:
            if parted:  # still without its -wal, also for whoever opens it next
                self.db.close()
            else:
                self.abandon()
            raise

    def connect(self) -> sqlite3.Connection:
        """The journal, which nobody else opens meanwhile unless it is shared. Raises sqlite3.Error."""
        db = connect(self.path, writing=not self.reading, timeout=5 if self.shared else 0.5)
        if not (self.shared or self.reading):  # also spares the -shm file
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
        return db

    def disconnect(self) -> None:
        """Close it; one that was only read stays as it is."""
        self.db.close()
        if self.reading and not self.shared:
            self.path.with_name(f"{self.path.name}-shm").unlink(missing_ok=True)

    def start(self, made: Mapping[str, Any]) -> None:
        """Begin a run whose rows are made so."""
        if self.reading:
            self.disconnect()
            self.reading = False
            self.db = self.connect()
        with self.free():
            self.db.execute("PRAGMA synchronous = OFF")
            self.db.execute("PRAGMA busy_timeout = 500")
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute(f"PRAGMA busy_timeout = {5000 if self.shared else 500}")
            self.begin()  # with the tables comes the seal
            for statement in SCHEMA:
                self.db.execute(statement)
            self.run = int(self.get("run", 0)) + 1
            self.set("run", self.run)
            if self.get("header") is None:
                self.set("header", decisive(made))
            self.set("closed", False)
            self.seal()
            self.db.execute("COMMIT")
            self.db.execute("PRAGMA wal_checkpoint")  # without its -wal, the file itself says that a run was stopped
            self.begin()

    @contextlib.contextmanager
    def free(self) -> Iterator[None]:
        """A journal that is locked is another run's, and one that is no database is damaged."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise OutputError(
                    f"Another run is writing to {self.path}: wait for it, or choose another output."
                ) from None
            raise
        except sqlite3.DatabaseError:
            raise self.damaged() from None

    def read(self) -> None:
        """Take up what an earlier run wrote. Raises OutputError when that is not what it wrote."""
        try:
            self.state = {key: json.loads(value) for key, value in self.db.execute("SELECT key, value FROM vit_state")}
            self.count()
            (last,) = self.db.execute("SELECT ifnull(max(run), 0) FROM vit_rows").fetchone()
            if not self.whole() or self.state.get("seal") != self.sealed() or last > self.get("run", 0):
                raise ValueError
        except (sqlite3.DatabaseError, ValueError, TypeError, RecursionError) as error:
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise
            raise self.damaged() from None

    def whole(self) -> bool:
        """Whether SQLite finds nothing wrong with it."""
        (found,) = self.db.execute("PRAGMA integrity_check(1)").fetchone()
        return bool(found == "ok")

    def damaged(self) -> OutputError:
        """That this is no journal any more."""
        return OutputError(
            f"{self.path} is damaged, or was changed: it cannot be resumed. "
            "Choose another output, or --force to overwrite it."
        )

    def count(self) -> None:
        """Digest every row anew."""
        self.rows = 0
        for row in self.db.execute(f"SELECT {SEALED} FROM vit_rows"):
            self.rows ^= mark(row)

    def sealed(self) -> str:
        """A digest of everything that this journal says."""
        state = sorted((key, value) for key, value in self.state.items() if key != "seal")
        return digest(f"{self.rows} {json.dumps(state)}".encode()).hex()

    def seal(self) -> None:
        """Before every commit."""
        self.set("seal", self.sealed())

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the state."""
        return self.state.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Keep a value, with the next commit."""
        self.state[key] = value
        self.db.execute("INSERT OR REPLACE INTO vit_state VALUES (?, ?)", (key, json.dumps(value)))

    def begin(self) -> None:
        """Everything up to the next commit happens as a whole or not at all."""
        self.db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """The output holds what the journal was told."""
        self.seal()
        self.db.execute("COMMIT")
        if self.fast and time.monotonic() - self.opened_at > SHORT:
            self.db.execute("PRAGMA synchronous = NORMAL")
            self.fast = False
        self.begin()

    def rollback(self) -> None:
        """Forget what was told since the last commit."""
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def close(self) -> None:
        """Commit, and leave one file."""
        self.set("closed", True)
        self.seal()
        if self.db.in_transaction:
            self.db.execute("COMMIT")
        try:
            self.db.execute("PRAGMA busy_timeout = 500")
            self.db.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError:  # somebody reads it: whoever closes it last leaves one file
            if not self.shared:
                raise
        self.db.close()

    def abandon(self, *, closed: bool = True) -> None:
        """Forget what was told since the last commit, and close: one file, unless the disk is full.

        `closed`: the output is as the last commit knows it.
        """
        told = False
        with contextlib.suppress(sqlite3.Error, OutputError):
            self.rollback()
            if self.run and closed:
                self.read()
                self.db.execute("BEGIN IMMEDIATE")
                self.set("closed", True)
                self.seal()
                self.db.execute("COMMIT")
                told = True
        with contextlib.suppress(sqlite3.Error):
            if not (self.shared or self.reading):
                self.db.execute("PRAGMA journal_mode = DELETE")
        self.disconnect()
        if self.run and not told and wants_wal(self.path):
            # SQLite took over what its -wal held, and removed it; without one the journal would be taken for torn off
            with contextlib.suppress(OSError):
                self.path.with_name(self.path.name + "-wal").touch()

    def agree(self, output: Path, made: Mapping[str, Any]) -> None:
        """Raise OutputError if the rows that are here were made otherwise."""
        now = decisive(made)
        before = now if self.new else self.get("header", now)
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if keys:
            differences = "; ".join(
                f"{key} {short(repr(before.get(key)), 40)}, now {short(repr(now.get(key)), 40)}" for key in keys[:3]
            )
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise OutputError(
                f"{output} was made with other settings ({differences}{more}). Use those again, or another output."
            )

    def claim(self, own: Identity) -> tuple[int, bool, bool] | None:
        """The row of an input that no input of this run has claimed yet: its id, whether it failed and is current."""
        found = None
        if own.content is not None:
            found = self.db.execute(
                "SELECT id, failed, 1 FROM vit_rows WHERE content = ? AND run <> ? ORDER BY name = ? DESC, id LIMIT 1",
                (own.content, self.run, own.name),
            ).fetchone()
        for column, known in (("name", own.name), ("place", own.place)):
            if found is None and known is not None:
                found = self.db.execute(
                    "SELECT id, failed, content IS ? AND size IS ? AND mtime_ns IS ? FROM vit_rows "
                    f"WHERE {column} = ? AND run <> ? ORDER BY id LIMIT 1",
                    (own.content, own.size, own.mtime_ns, known, self.run),
                ).fetchone()
        if found is None:
            return None
        self.db.execute("UPDATE vit_rows SET run = ? WHERE id = ?", (self.run, found[0]))
        return found[0], bool(found[1]), bool(found[2])

    def add(
        self,
        own: Identity,
        failure: Mapping[str, Any] | None,
        start: int | None = None,
        stop: int | None = None,
        digest: bytes | None = None,
        record: str | None = None,
    ) -> int:
        """A row of the output; its id. `failure` is its record, if it is one."""
        failed, told = int(failure is not None), None if failure is None else json.dumps(failure)
        values = own.name, own.place, own.content, own.size, own.mtime_ns, failed, start, stop, digest, record, told
        done = self.db.execute(
            f"INSERT INTO vit_rows ({SEALED.removeprefix('id, ')}, run) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, self.run),
        )
        assert done.lastrowid is not None
        self.rows ^= mark((done.lastrowid, *values))
        return done.lastrowid

    def drop(self, row: int) -> None:
        """Forget a row that was replaced: it leaves a hole in the output."""
        self.rows ^= mark(self.db.execute(f"SELECT {SEALED} FROM vit_rows WHERE id = ?", (row,)).fetchone())
        self.db.execute("DELETE FROM vit_rows WHERE id = ?", (row,))
        self.set("holes", True)

    def drop_after(self, end: int) -> None:
        """Forget rows that are not in the output, or not whole, because it was cut off or deleted."""
        if self.db.execute("DELETE FROM vit_rows WHERE stop > ?", (end,)).rowcount:
            self.count()

    def failures(self) -> Iterator[dict[str, Any]]:
        """The records of what is failed, in order."""
        yield from (
            json.loads(row) for (row,) in self.db.execute("SELECT failure FROM vit_rows WHERE failed ORDER BY id")
        )

    def end(self) -> int | None:
        """Where the last row stops; None without rows."""
        found: int | None = self.db.execute("SELECT max(stop) FROM vit_rows").fetchone()[0]
        return found

    def places(self) -> sqlite3.Cursor:
        """Start and stop of every row in the output, in order."""
        return self.db.execute("SELECT start, stop FROM vit_rows WHERE stop IS NOT NULL ORDER BY id")

    def digests(self, end: int) -> Iterator[tuple[int, int, bytes]]:
        """Start, stop and digest of every row of a text that stops there or before, in order."""
        return self.db.execute("SELECT start, stop, digest FROM vit_rows WHERE stop <= ? ORDER BY id", (end,))

    def all_digests(self) -> Iterator[tuple[int, bytes]]:
        """Number and digest of every row, in order."""
        return self.db.execute("SELECT id, digest FROM vit_rows ORDER BY id")

    def records(self) -> sqlite3.Cursor:
        """The rows that are not in the output yet, in order; one column."""
        return self.db.execute("SELECT record FROM vit_rows WHERE record IS NOT NULL ORDER BY id")

    def has_records(self) -> bool:
        """Whether there are rows that are not in the output yet."""
        return self.db.execute("SELECT 1 FROM vit_rows WHERE record IS NOT NULL LIMIT 1").fetchone() is not None

    def switch(self, first: int, between: int) -> None:
        """One transaction: the rows follow one another in a new output, from `first` on, which is to be renamed."""
        self.db.execute("CREATE TEMP TABLE moved (id INTEGER PRIMARY KEY, start INTEGER, stop INTEGER)")
        self.db.execute(
            "INSERT INTO moved SELECT id, stop - length, stop FROM (SELECT id, length, "
            "? + sum(length) OVER (ORDER BY id) + ? * (row_number() OVER (ORDER BY id) - 1) AS stop "
            "FROM (SELECT id, ifnull(stop - start, 1) AS length FROM vit_rows))",
            (first, between),
        )
        self.db.execute(
            "UPDATE vit_rows SET start = (SELECT start FROM moved WHERE moved.id = vit_rows.id), "
            "stop = (SELECT stop FROM moved WHERE moved.id = vit_rows.id), record = NULL"
        )
        self.db.execute("DROP TABLE moved")
        self.count()
        self.set("holes", False)
        self.set("renaming", True)
        self.commit()

    def latest(self, new: Path, output: Path) -> Path:
        """The output, or the new one that is still to be put in its place."""
        return new if self.get("renaming", False) and new.exists() else output

    def rename(self, new: Path, output: Path) -> None:
        """Put a new output in the place of the old one, if that is what was being done."""
        if self.get("renaming", False):
            if new.exists():
                new.replace(output)
            self.set("renaming", False)
            self.commit()
        new.unlink(missing_ok=True)

    def shrink(self) -> None:
        """Give the room of records that went into the output back to the disk."""
        self.rollback()
        with contextlib.suppress(sqlite3.Error):  # a full disk: the room was only wanted
            self.db.execute("VACUUM")
        self.begin()


def connect(path: Path, *, writing: bool, timeout: float = 5) -> sqlite3.Connection:
    """A database, to be written too or only read. Raises sqlite3.Error."""
    if writing:
        return sqlite3.connect(path, timeout=timeout, isolation_level=None)
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=timeout, isolation_level=None, uri=True)


def wants_wal(path: Path) -> bool:
    """Whether the latest rows of a database may be in its -wal (https://sqlite.org/fileformat.html, 1.3.3)."""
    try:
        with path.open("rb") as file:
            file.seek(18)
            return file.read(1) == b"\2"
    except FileNotFoundError:
        return False


def identity(item: Input, by_content: bool) -> Identity:
    """What an input is known by: path, however it is spelled, size and time, or its bytes."""
    size, mtime_ns = item.size, item.mtime_ns
    if item.file is not None and mtime_ns is None:
        try:
            found = item.file.stat()
            size, mtime_ns = found.st_size, found.st_mtime_ns
        except (OSError, ValueError):
            pass  # the row will say what is wrong with it
    name = digest(item.name.encode("utf-8", "surrogatepass"))
    content = digest_of(item) if by_content else None
    # known by its bytes, a file may have been copied or touched
    there = place(item)
    where = None if there is None else digest(there.encode("utf-8", "surrogatepass"))
    return Identity(name, where, content, None, None) if content else Identity(name, where, None, size, mtime_ns)


def digest_of(item: Input) -> bytes | None:
    """Digest of an input's bytes, None if it cannot be read."""
    if item.data is not None:
        return digest(item.data)
    try:
        return None if item.file is None else digest_of_file(item.file)
    except OSError:
        return None


def digest_of_file(path: Path) -> bytes:
    """Digest of a file's bytes. Raises OSError."""
    import hashlib  # here, because a cold start does without it

    whole = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            whole.update(piece)
    return whole.digest()


def mark(row: tuple[Any, ...]) -> int:
    """A row of the journal as a number that tells it from any other."""
    return int.from_bytes(digest(repr(row).encode()))


def digest(data: bytes) -> bytes:
    """16 bytes that stand for any number of them."""
    import hashlib

    return hashlib.blake2b(data, digest_size=16).digest()


def decisive(made: Mapping[str, Any]) -> dict[str, Any]:
    """What decides how rows are made, flat."""
    # weights on disk are known by their bytes: their path may be written in many ways
    free = VOLATILE | {"model"} if made.get("sha256") else VOLATILE
    return {key: value for key, value in flat(made) if key.split(".")[0] not in free}


def flat(header: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"preprocess": {"size": 224}}` -> `("preprocess.size", 224)`, as JSON gives the values back."""
    for key, value in header.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.loads(json.dumps(value))
