r"""The results as a SQLite database that can be asked at once, also while the run goes on.

    inputs (id, path, path_bytes, status, error, message, width, height, notes)
    labels (input, rank, label, score, class, wnid)          input is inputs.id, rank 1 the best
    header (key, value)                                       how the results were made
    best                                                      a view: each input with its best label

    sqlite3 labels.sqlite "SELECT label, count(*) FROM best GROUP BY label ORDER BY 2 DESC"

`path` is text; where a name is not UTF-8 its bytes are in `path_bytes` (else NULL) and `path` shows them as `\xe9`.
`notes` is a JSON list. The tables whose names begin with vit_ are the journal that --resume needs.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

from vitcli.errors import OutputError, UsageError
from vitcli.results import Prediction, Result
from vitcli.writers.base import Writer, regular
from vitcli.writers.journal import Journal, flat

SCHEMA = """
CREATE TABLE IF NOT EXISTS header (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inputs (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, path_bytes BLOB, status TEXT NOT NULL, error TEXT, message TEXT,
    width INTEGER, height INTEGER, notes TEXT
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


class Sqlite(Writer):
    """A database; its journal is in it."""

    name = "sqlite"
    endings = (".sqlite", ".sqlite3", ".db")
    help = "a SQLite database"
    without = ("long", "fields")

    def open(self) -> None:
        target = regular(self.path) if self.path is not None else None
        if target is None:
            raise UsageError("The format sqlite needs a file: name it with -o.")
        there = target.exists() and target.stat().st_size > 0
        if there and self.options.force and not self.options.resume:
            for ending in ("", "-wal", "-shm", "-journal"):
                target.with_name(target.name + ending).unlink(missing_ok=True)
        elif there and not self.options.resume:
            raise OutputError(f"{self.path} exists already: add --resume to go on, or --force to overwrite it.")
        elif there and not has_journal(target):
            raise OutputError(f"{self.path} cannot be gone on with: it was not made by vit. Choose another output.")
        self.journal = Journal(target, shared=True)
        self.journal.agree(target, self.settings())
        self.journal.commit()
        self.journal.rollback()
        db = self.journal.db
        db.executescript(SCHEMA)
        self.journal.begin()
        rows = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in flat(self.header)]
        db.executemany("INSERT OR REPLACE INTO header VALUES (?, ?)", rows)
        self.journal.commit()

    def add(self, result: Result) -> None:
        """Nothing yet: the row is written under the id that the journal gives it."""

    def added(self, row: int, result: Result) -> None:
        assert self.journal is not None
        db, whole = self.journal.db, result.record()
        width, height = whole.get("size", (None, None))
        notes = json.dumps(whole["notes"]) if "notes" in whole else None
        text, exact = shown(result.path)
        error, message = whole.get("error"), whole.get("message")
        db.execute(
            "INSERT INTO inputs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row, text, exact, whole["status"], error, message and shown(message)[0], width, height, notes),
        )
        if isinstance(result, Prediction):
            labels = ((row, i, shown(t.label)[0], t.score, t.index, t.wnid) for i, t in enumerate(result.top, 1))
            db.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?)", labels)

    def dropped(self, row: int) -> None:
        assert self.journal is not None
        self.journal.db.execute("DELETE FROM labels WHERE input = ?", (row,))
        self.journal.db.execute("DELETE FROM inputs WHERE id = ?", (row,))


def has_journal(path: Path) -> bool:
    """Whether a file is a database of ours, or one that was stopped before it had a table. Raises sqlite3.Error."""
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            return False
    with contextlib.closing(sqlite3.connect(path)) as db:
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    return not names or "vit_state" in names


def shown(text: str) -> tuple[str, bytes | None]:
    """Text that is UTF-8, and the exact bytes where it is not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            exact = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # half a surrogate pair, which stands for no byte of a name
            exact = text.encode("utf-8", "surrogatepass")
        return exact.decode("utf-8", "backslashreplace"), exact
    return text, None
