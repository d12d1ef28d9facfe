"""What only some runs tell of a picture (a decision, the truth, the share of the chosen classes), in every format."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from vitcli.errors import OutputError, UsageError
from vitcli.results import Decision, Failure, Label, Prediction, Result, Truth
from vitcli.sources import Input
from vitcli.writers import WRITERS, Options, open_output
from vitcli.writers.fields import EXTRA, FIELDS

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")

KEPT = [name for name in WRITERS if name != "table"]
EVERY = frozenset(EXTRA)
COLUMNS = [name for columns in EXTRA.values() for name in columns]
TOP = (Label(281, "n02123045", "tabby", 0.75), Label(282, "n02123159", "tiger cat", 0.25))

RESULTS: list[Result] = [
    Prediction("a", TOP, (4, 3), share=0.5, decision=Decision("label", "tabby", "n02123045", 0.75),
               truth=Truth((281,), ("tabby",), True, 1)),
    Prediction("b", TOP, (4, 3), share=0.25, decision=Decision("broader", "cat", "n02121620", 1.0),
               truth=Truth((282, 285), ("tiger cat", "Egyptian\udce9 cat"), False, 2)),
    Prediction("c", TOP, (4, 3), share=0.125, decision=Decision("unknown", "unknown", None, 0.75),
               truth=Truth((3,), ("=shark",), False)),
    Failure("d", "empty", "It has no bytes.", Truth((281,), ("tabby",))),
]  # fmt: skip

EXPECTED: list[dict[str, Any]] = [
    dict(zip(COLUMNS, values, strict=True))
    for values in [
        (0.5, "label", "tabby", "n02123045", 0.75, ["tabby"], [281], True, 1),
        (0.25, "broader", "cat", "n02121620", 1.0, ["tiger cat", "Egyptian\\xe9 cat"], [282, 285], False, 2),
        (0.125, "unknown", "unknown", None, 0.75, ["=shark"], [3], False, None),
        (None, None, None, None, None, ["tabby"], [281], None, None),
    ]
]  # fmt: skip


def write(path: Path, results: list[Result] = RESULTS, **options: Any) -> Path:
    with open_output(path, None, {"model": "tiny"}, Options(**{"topk": 2, "extra": EVERY} | options)) as out:
        for result in results:
            if out.wanted(Input(result.path)):
                out.write(result)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The extra columns of each row, with the values of EXPECTED."""
    match path.suffix:
        case ".jsonl" | ".json":
            text = path.read_text()
            rows = json.loads(text)["results"] if path.suffix == ".json" else map(json.loads, text.splitlines())
            return [{name: row.get(name) for name in COLUMNS} for row in rows]
        case ".parquet":
            import pyarrow.parquet as pq

            return [{name: row[name] for name in COLUMNS} for row in pq.read_table(path).to_pylist()]
        case ".sqlite":
            db = sqlite3.connect(path)
            db.row_factory = sqlite3.Row
            rows = [dict(row) for row in db.execute("SELECT * FROM best ORDER BY id")]
            db.close()
            for row in rows:
                row["truth"], row["truth_index"] = json.loads(row["truth"]), json.loads(row["truth_index"])
                row["correct"] = None if row["correct"] is None else bool(row["correct"])
            return [{name: row[name] for name in COLUMNS} for row in rows]
    text = path.read_text()
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix == ".tsv" else ","))
    for row in rows:
        for name in COLUMNS:
            cell = row[name].removeprefix("'")
            kind = next(columns[name] for columns in EXTRA.values() if name in columns)
            row[name] = {"text": str, "real": float, "integer": int, "boolean": json.loads,
                         "texts": lambda cell: cell.split("; "),
                         "integers": lambda cell: [int(part) for part in cell.split("; ")],
                         }[kind](cell) if cell else None  # fmt: skip
    return [{name: row[name] for name in COLUMNS} for row in rows]


@pytest.mark.parametrize("name", KEPT)
def test_every_format_shows_them(name: str, tmp_path: Path) -> None:
    assert read(write(tmp_path / f"out.{name}")) == EXPECTED


@pytest.mark.parametrize("name", KEPT)
def test_long_and_resumed_outputs_have_them_too(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"out.{name}", RESULTS[:2])
    write(path, RESULTS, resume=True)
    assert read(path) == EXPECTED
    if name in ("csv", "tsv"):
        assert len(read(write(tmp_path / f"long.{name}", long=True))) == 7


@pytest.mark.parametrize("name", KEPT)
def test_a_run_without_them_has_no_column_for_them_and_continues_none_that_has(name: str, tmp_path: Path) -> None:
    plain = [Prediction("a", TOP, (4, 3)), Failure("d", "empty", "It has no bytes.")]
    path = write(tmp_path / f"out.{name}", plain, extra=frozenset())
    for column in COLUMNS:
        assert column.encode() not in path.read_bytes()
    with pytest.raises(OutputError, match="extra"):
        write(path, RESULTS, resume=True)


@pytest.mark.parametrize("name", KEPT)
def test_a_value_that_was_edited_is_noticed(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"out.{name}")
    if name == "sqlite":
        db = sqlite3.connect(path)
        db.execute("UPDATE inputs SET correct = 1 WHERE path = 'b'")
        db.commit()
        db.close()
    else:
        path.write_bytes(path.read_bytes().replace(b"broader", b"brooder"))
    with pytest.raises(OutputError, match="cannot be resumed"):
        write(path, resume=True)


def test_fields_choose_them_where_they_are(tmp_path: Path) -> None:
    chosen = ("path", "correct", "decided_label")
    rows = map(json.loads, write(tmp_path / "out.jsonl", fields=chosen).read_text().splitlines())
    assert list(rows)[:2] == [
        {"path": "a", "decided_label": "tabby", "correct": True},
        {"path": "b", "decided_label": "cat", "correct": False},
    ]
    assert write(tmp_path / "out.csv", fields=chosen).read_text().splitlines()[0] == "path,decided_label,correct"
    with pytest.raises(UsageError, match="no field 'correct'"):
        write(tmp_path / "other.csv", [], fields=("correct",), extra=frozenset())


def test_no_extra_column_has_the_name_of_another() -> None:
    names = [*FIELDS, *COLUMNS]
    assert len(set(names)) == len(names)


def test_people_see_them_in_the_table(tmp_path: Path) -> None:
    lines = write(tmp_path / "out.txt").read_text().splitlines()
    assert any("share 50.0 %" in line for line in lines)
    assert any("→" in line and "cat (broader term)" in line and "100.0 %" in line for line in lines)
    assert any("→" in line and "unknown" in line for line in lines)
    assert any("✓" in line and "tabby" in line for line in lines)
    assert any("✗" in line and "tiger cat; Egyptian" in line for line in lines)
    single = [
        line for line in write(tmp_path / "single.txt", topk=1).read_text().splitlines() if line[:1] in tuple("abc")
    ]
    assert len(single) == 3
    assert "→ cat 100.0 %" in single[1]
    assert "→ unknown" in single[2]
