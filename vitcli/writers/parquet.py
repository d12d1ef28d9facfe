r"""The results as a parquet file, made at the end: until then the journal beside it holds the rows.

    path string, path_bytes binary, status string, error string, message string, width int32, height int32,
    notes list<string>, top list<struct<label string, score double, index int32, wnid string>>

`path_bytes` is null unless a name is not UTF-8; then it has the exact bytes and `path` shows them as `\xe9`. How the
results were made is in the file's metadata, under "vit".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from vitcli.errors import MissingExtra, OutputError, UsageError
from vitcli.results import Result
from vitcli.writers.base import NEW, Writer, regular
from vitcli.writers.fields import LABEL_FIELDS, chosen, record
from vitcli.writers.sqlite import shown

GROUP = 10_000  # rows written at a time


class Parquet(Writer):
    """Columns for data frames. Needs pyarrow, the extra `parquet`."""

    name = "parquet"
    endings = (".parquet", ".pq")
    help = "parquet (needs vitcli[parquet])"
    spooled = True

    def open(self) -> None:
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise MissingExtra("Writing parquet", "parquet") from None
        self.fields = chosen(self.options.fields)
        target = regular(self.path) if self.path is not None else None
        if target is None:
            raise UsageError("The format parquet needs a file: name it with -o.")
        self.target = target
        self.journal = self.start_journal(target)
        if target.exists() and target.stat().st_size == 0:
            target.unlink()
        if not target.exists():
            self.journal.drop_after(0)
        self.journal.commit()

    def add(self, result: Result) -> None:
        """Nothing: the journal keeps the record."""

    def spool(self, result: Result) -> str:
        return json.dumps(record(result, self.fields))

    def finish(self) -> None:
        assert self.journal is not None
        if self.target.exists() and not self.journal.get("holes", False) and not self.journal.has_records():
            return
        import pyarrow.parquet as pq

        new = self.target.with_name(self.target.name + NEW)
        schema = self.schema().with_metadata({"vit": json.dumps(self.header)})
        try:
            with pq.ParquetWriter(new, schema) as out:
                for group in self.groups(schema):
                    out.write_table(group)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        self.journal.switch(0, 0)  # a row is one row long
        self.journal.rename(new, self.target)
        self.journal.shrink()

    def groups(self, schema: Any) -> Iterator[Any]:
        """The rows of the file that is there, as far as they still stand, then the new ones."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        assert self.journal is not None
        if self.target.exists():
            standing = (start for start, _ in self.journal.places())
            following, offset = next(standing, None), 0
            with pq.ParquetFile(self.target) as old:
                for batch in old.iter_batches(GROUP):
                    kept = []
                    while following is not None and following < offset + batch.num_rows:
                        kept.append(following - offset)
                        following = next(standing, None)
                    offset += batch.num_rows
                    yield pa.Table.from_batches([batch]).take(kept).replace_schema_metadata(schema.metadata)
            if following is not None:
                raise OutputError(f"{self.path} is not the file that its journal knows: choose another output.")
        records = self.journal.records()
        while rows := [self.columns(json.loads(text)) for text in islice(records, GROUP)]:
            yield pa.Table.from_pylist(rows, schema)

    def columns(self, row: dict[str, Any]) -> dict[str, Any]:
        """A record as parquet's columns have it."""
        if "path" in row:
            row["path"], row["path_bytes"] = shown(row["path"])
        if "size" in row:
            row["width"], row["height"] = row["size"]
        if "message" in row:
            row["message"] = shown(row["message"])[0]
        for top in row.get("top", ()):
            if "label" in top:
                top["label"] = shown(top["label"])[0]
        return row

    def schema(self) -> Any:
        """The columns of the chosen fields."""
        import pyarrow as pa

        kinds = {
            "path": pa.string(), "path_bytes": pa.binary(), "status": pa.string(), "error": pa.string(),
            "message": pa.string(), "width": pa.int32(), "height": pa.int32(), "notes": pa.list_(pa.string()),
        }  # fmt: skip
        wanted = {*self.fields, *(["path_bytes"] if "path" in self.fields else [])}
        columns = [(name, kind) for name, kind in kinds.items() if name in wanted]
        own = {"label": pa.string(), "score": pa.float64(), "index": pa.int32(), "wnid": pa.string()}
        if labels := [(name, own[name]) for name in LABEL_FIELDS if name in self.fields]:
            columns.append(("top", pa.list_(pa.struct(labels))))
        return pa.schema(columns)
