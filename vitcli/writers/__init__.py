"""Output formats. WRITERS is the table: choices and help are derived from it, adding a format is adding a row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitcli.errors import UsageError
from vitcli.writers.base import Format, Options, Output, explained, regular
from vitcli.writers.lock import Lock
from vitcli.writers.outputs import check_beside
from vitcli.writers.parquet import Parquet
from vitcli.writers.sqlite import Sqlite
from vitcli.writers.table import Table
from vitcli.writers.text import Csv, Json, Jsonl, Tsv

__all__ = ["WRITERS", "Format", "Options", "Output", "open_output", "writer_for"]

WRITERS: dict[str, type[Format]] = {kind.name: kind for kind in (Table, Json, Jsonl, Csv, Tsv, Parquet, Sqlite)}


def writer_for(format: str | None, path: Path | None = None) -> type[Format]:
    """The format of that name; without one, of the path's ending; without a path, the table.

    Raises UsageError for a name or an ending that is not in WRITERS.
    """
    if format is not None:
        if format not in WRITERS:
            raise UsageError(f"There is no format {format!r}: choose one of {', '.join(WRITERS)}.")
        return WRITERS[format]
    if path is None:
        return Table
    for kind in WRITERS.values():
        if path.suffix.lower() in kind.endings:
            return kind
    endings = ", ".join(ending for kind in WRITERS.values() for ending in kind.endings)
    raise UsageError(f"The ending of {path} names no format: use one of {endings}, or say --format.")


def open_output(
    path: Path | None, format: str | None, header: Mapping[str, Any], options: Options | None = None
) -> Output:
    """Open an output: a file, or stdout for None. `header` says how the results are made.

    Raises UsageError for settings that mean nothing here and OutputError for a path that cannot be written.
    """
    kind, options = writer_for(format, path), options or Options()
    for setting in kind.without:
        if getattr(options, setting):
            raise UsageError(f"--{setting.replace('_', '-')} means nothing for the format {kind.name}.")
    if path is None and options.resume:
        raise UsageError("--resume needs an output file: name it with -o.")
    with explained(path):
        target = regular(path) if path is not None else None
        if path is None or target is None:
            return kind.open(path, header, options)
        check_beside(path, target)
        lock = Lock(path, target)  # before anything is removed, overwritten or cut
        try:
            out = kind.open(path, header, options)
        except BaseException:
            lock.release()
            raise
        out.release = lock.release
        return out
