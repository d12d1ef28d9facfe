r"""The results as a SQLite database that can be asked at once, also while the run goes on.

    inputs (id, path, path_bytes, status, error, message, width, height, notes)
    labels (input, rank, label, score, class, wnid)          input is inputs.id, rank 1 the best
    header (key, value)                                       how the results were made
    best                                                      a view: each input with its best label

    sqlite3 labels.sqlite "SELECT label, count(*) FROM best GROUP BY label ORDER BY 2 DESC"

`inputs` also has the columns of `fields.EXTRA` that the run has; several values in one are a JSON list.

`path` is text; where a name is not UTF-8 its bytes are in `path_bytes` (else NULL) and `path` shows them as `\xe9`.
`notes` is a JSON list. The tables whose names begin with vit_ are the journal that --resume needs.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, zip_longest
from operator import itemgetter
from pathlib import Path
from typing import Any

from vitcli.errors import OutputError, UsageError
from vitcli.escaping import decodable, short, undecodable
from vitcli.results import Prediction, Result
from vitcli.writers.base import Format, Options, Output, regular
from vitcli.writers.fields import Kind, extras
from vitcli.writers.journal import Identity, Journal, connect, digest, flat, wants_wal
from vitcli.writers.outputs import NEW, Resumable, beside, failure, settings

SCHEMA = """
CREATE TABLE IF NOT EXISTS header (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inputs (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, path_bytes BLOB, status TEXT NOT NULL, error TEXT, message TEXT,
    width INTEGER, height INTEGER, notes TEXT{extra}
);
CREATE TABLE IF NOT EXISTS labels (
    input INTEGER NOT NULL REFERENCES inputs (id), rank INTEGER NOT NULL, label TEXT NOT NULL, score REAL NOT NULL,
    class INTEGER NOT NULL, wnid TEXT, PRIMARY KEY (input, rank)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS inputs_path ON inputs (path);
CREATE INDEX IF NOT EXISTS labels_label ON labels (label);
CREATE VIEW IF NOT EXISTS best AS
    SELECT inputs.*, label, score, class, wnid FROM inputs LEFT JOIN labels ON input = id AND rank = 1;
"""
TYPES: dict[Kind, str] = {
    "text": "TEXT", "real": "REAL", "integer": "INTEGER", "boolean": "INTEGER", "texts": "TEXT", "integers": "TEXT",
}  # fmt: skip


class Sqlite(Resumable, Format):
    """A database, which holds its journal: both change in one transaction."""

    name = "sqlite"
    endings = (".sqlite", ".sqlite3", ".db")
    help = "a SQLite database"
    without = ("long", "bom", "fields", "show")

    @classmethod
    def open(cls, path: Path | None, header: Mapping[str, Any], options: Options) -> Output:
        target = regular(path) if path is not None else None
        if path is None or target is None:
            raise UsageError("The format sqlite needs a file: name it with -o.")
        there = target.exists() and target.stat().st_size > 0
        if there and options.force and not options.resume:
            if not (wants_wal(target) and emptied(target)):
                for ending in ("", "-wal", "-shm", "-journal"):
                    beside(target, ending).unlink(missing_ok=True)
        elif there and not options.resume:
            raise OutputError(f"{path} exists already: add --resume to continue, or --force to overwrite it.")
        elif there and not has_journal(target):
            raise OutputError(f"{path} cannot be resumed: it was not made by vit. Choose another output.")
        elif there and not wants_wal(target):
            make_free(target)
        journal = Journal(target, shared=True)
        try:
            made = settings(cls.name, header, options)
            journal.agree(target, made)
            extra = extras(options.extra)
            if changing := triggers(journal.db):
                raise OutputError(
                    f"{path} cannot be resumed: it has triggers ({short(', '.join(changing), 60)}), "
                    "which may change the rows that are written. Drop them, or choose another output."
                )
            if not (journal.new or unchanged(journal, extra)):
                raise OutputError(f"{path} cannot be resumed: its rows were changed. Choose another output.")
            journal.start(made)
            journal.rollback()
            columns = "".join(f", {name} {TYPES[kind]}" for name, kind in extra.items())
            journal.db.executescript(SCHEMA.replace("{extra}", columns))
            journal.begin()
            rows = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in flat(header)]
            journal.db.executemany("INSERT OR REPLACE INTO header VALUES (?, ?)", rows)
            journal.commit()
        except BaseException:
            journal.abandon()
            raise
        return cls(path, options, journal)

    def store(self, own: Identity, result: Result) -> None:
        whole = result.record()
        width, height = whole.get("size", (None, None))
        notes = json.dumps(whole["notes"]) if "notes" in whole else None
        text, exact = decodable(result.path), undecodable(result.path)
        error, message = whole.get("error"), whole.get("message")
        extra = [stored(whole.get(name)) for name in extras(self.options.extra)]
        input = text, exact, whole["status"], error, message and decodable(message), width, height, notes, *extra
        top = result.top if isinstance(result, Prediction) else ()
        labels = [(i, decodable(t.label), t.score, t.index, t.wnid) for i, t in enumerate(top, 1)]
        row = self.journal.add(own, failure(result), digest=digest(repr((input, labels)).encode()))
        places = ", ".join("?" * (1 + len(input)))
        self.journal.db.execute(f"INSERT INTO inputs VALUES ({places})", (row, *input))
        self.journal.db.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?)", ((row, *label) for label in labels))

    def drop(self, row: int) -> None:
        super().drop(row)
        self.journal.db.execute("DELETE FROM labels WHERE input = ?", (row,))
        self.journal.db.execute("DELETE FROM inputs WHERE id = ?", (row,))


def triggers(db: sqlite3.Connection) -> list[str]:
    """What was added to a database that acts when rows are written. Raises sqlite3.Error."""
    return [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]


def stored(value: Any) -> Any:
    """A value of a record as a column has it."""
    if isinstance(value, list):
        return json.dumps([decodable(part) if isinstance(part, str) else part for part in value])
    return decodable(value) if isinstance(value, str) else int(value) if isinstance(value, bool) else value


def unchanged(journal: Journal, extra: Iterable[str]) -> bool:
    """Whether the rows of a database, which has these extra columns, are those that its journal knows.

    Raises sqlite3.Error.
    """
    (tables,) = journal.db.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('inputs', 'labels')").fetchone()
    found = digests(journal.db, extra) if tables == 2 else iter(())  # they are made after the journal's
    return all(known == own for known, own in zip_longest(journal.all_digests(), found))


def digests(db: sqlite3.Connection, extra: Iterable[str]) -> Iterator[tuple[int, bytes]]:
    """Number and digest of each input that is there with its labels, in order; a label without an input is one too."""
    labels = db.execute("SELECT input, rank, label, score, class, wnid FROM labels ORDER BY input, rank")
    grouped = groupby(labels, key=itemgetter(0))
    owner, own = next(grouped, (None, iter(())))
    names = "".join(f", {name}" for name in extra)
    for row, *input in db.execute(
        f"SELECT id, path, path_bytes, status, error, message, width, height, notes{names} FROM inputs ORDER BY id"
    ):
        top: list[tuple[Any, ...]] = []
        if owner == row:
            top = [label[1:] for label in own]
            owner, own = next(grouped, (None, iter(())))
        yield row, digest(repr((tuple(input), top)).encode())
    if owner is not None:
        yield owner, b""


def make_free(path: Path) -> None:
    """Somebody who reads a database without a -wal lets nobody write to it: he keeps that file, and a copy replaces it.

    Nobody else writes to it, because the output's lock is held. Raises sqlite3.Error and OSError.
    """
    with contextlib.closing(sqlite3.connect(path, timeout=0.5, isolation_level=None)) as db:
        try:
            db.execute("BEGIN EXCLUSIVE")
            db.execute("ROLLBACK")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        new = beside(path, NEW)
        new.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(new)) as copy:
            db.backup(copy)
    new.replace(path)


def emptied(path: Path) -> bool:
    """Whether somebody reads a database that has a -wal, so that all that is in it was taken out of it.

    If it were deleted, he would delete the -wal of the new one at last, which has the same name.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=0.5, isolation_level=None)) as db:
            try:
                db.execute("PRAGMA journal_mode = DELETE")
                return False
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    return False
            db.execute("BEGIN IMMEDIATE")
            there = "SELECT type, name FROM sqlite_master WHERE type IN ('view', 'table') AND name NOT LIKE 'sqlite_%'"
            for kind, name in db.execute(there).fetchall():
                quoted = name.replace('"', '""')
                db.execute(f'DROP {kind} "{quoted}"')
            db.execute("COMMIT")
            return True
    except sqlite3.DatabaseError:
        return False


def has_journal(path: Path) -> bool:
    """Whether a file is a database of ours, or one that was stopped before it had a table. Raises sqlite3.Error."""
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            return False
    with contextlib.closing(connect(path, writing=not beside(path, "-wal").exists())) as db:
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    return not names or "vit_state" in names
