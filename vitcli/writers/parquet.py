r"""The results as a parquet file, made at the end: until then the journal beside it holds the rows.

    path string, path_bytes binary, status string, error string, message string, width int32, height int32,
    notes list<string>, top list<struct<label string, score double, index int32, wnid string>>

    (and the columns of `fields.EXTRA` that the run has)

`path_bytes` is null unless a name is not UTF-8; then it has the exact bytes and `path` shows them as `\xe9`. How the
results were made is in the file's metadata, under "vit".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from vitcli.errors import MissingExtra, UsageError
from vitcli.escaping import decodable, undecodable
from vitcli.results import Result
from vitcli.writers.base import Format, Options, Output, regular
from vitcli.writers.fields import LABEL_FIELDS, chosen, extras, record
from vitcli.writers.outputs import FileAtTheEnd, settings

GROUP = 10_000  # rows written at a time


class Parquet(Format):
    """Columns for data frames. Needs pyarrow, the extra `parquet`."""

    name = "parquet"
    endings = (".parquet", ".pq")
    help = "parquet (needs vitcli[parquet])"

    def __init__(self, header: Mapping[str, Any], options: Options) -> None:
        self.header = header
        self.fields = chosen(options.fields, options.extra)
        self.extra = extras(options.extra)

    @classmethod
    def open(cls, path: Path | None, header: Mapping[str, Any], options: Options) -> Output:
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise MissingExtra("Writing parquet", "parquet") from None
        format = cls(header, options)
        target = regular(path) if path is not None else None
        if path is None or target is None:
            raise UsageError("The format parquet needs a file: name it with -o.")
        return FileAtTheEnd.open(path, target, format, settings(cls.name, header, options), options)

    def record(self, result: Result) -> dict[str, Any]:
        return record(result, self.fields)

    def save(self, new: Path, old: Path | None, kept: Iterator[int], records: Iterator[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self.schema().with_metadata({"vit": json.dumps(self.header)})
        # pyarrow opens no file whose name is not UTF-8
        with new.open("wb") as file, pq.ParquetWriter(file, schema) as out:
            for group in standing(old, kept) if old is not None else ():
                out.write_table(group.replace_schema_metadata(schema.metadata))
            while rows := [self.columns(row) for row in islice(records, GROUP)]:
                out.write_table(pa.Table.from_pylist(rows, schema))

    def columns(self, row: dict[str, Any]) -> dict[str, Any]:
        """A record as parquet's columns have it."""
        if "path" in row:
            row["path"], row["path_bytes"] = decodable(row["path"]), undecodable(row["path"])
        if "size" in row:
            row["width"], row["height"] = row["size"]
        if "message" in row:
            row["message"] = decodable(row["message"])
        for name, kind in self.extra.items():
            if name in row and row[name] is not None and kind in ("text", "texts"):
                row[name] = decodable(row[name]) if kind == "text" else [decodable(text) for text in row[name]]
        for top in row.get("top", ()):
            if "label" in top:
                top["label"] = decodable(top["label"])
        return row

    def schema(self) -> Any:
        """The columns of the chosen fields."""
        import pyarrow as pa

        types = {
            "text": pa.string(), "real": pa.float64(), "integer": pa.int32(), "boolean": pa.bool_(),
            "texts": pa.list_(pa.string()), "integers": pa.list_(pa.int32()),
        }  # fmt: skip
        kinds = {
            "path": pa.string(), "path_bytes": pa.binary(), "status": pa.string(),
            **{name: types[kind] for name, kind in self.extra.items()}, "error": pa.string(),
            "message": pa.string(), "width": pa.int32(), "height": pa.int32(), "notes": pa.list_(pa.string()),
        }  # fmt: skip
        wanted = {*self.fields, *(["path_bytes"] if "path" in self.fields else [])}
        columns = [(name, kind) for name, kind in kinds.items() if name in wanted]
        own = {"label": pa.string(), "score": pa.float64(), "index": pa.int32(), "wnid": pa.string()}
        if labels := [(name, own[name]) for name in LABEL_FIELDS if name in self.fields]:
            columns.append(("top", pa.list_(pa.struct(labels))))
        return pa.schema(columns)


def standing(file: Path, kept: Iterator[int]) -> Iterator[Any]:
    """Tables of the rows of a file whose numbers are `kept`, which ascend."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    following, offset = next(kept, None), 0
    with file.open("rb") as opened, pq.ParquetFile(opened) as old:
        for batch in old.iter_batches(GROUP):
            own = []
            while following is not None and following < offset + batch.num_rows:
                own.append(following - offset)
                following = next(kept, None)
            offset += batch.num_rows
            yield pa.Table.from_batches([batch]).take(own)
