"""The outputs are opened by the programs that people have: strict readers refuse no file for one of its names."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from vitcli.errors import UsageError
from vitcli.results import Failure, Label, Prediction
from vitcli.writers import Options, open_output

TEXTS = [
    "a.jpg",
    "写真.jpg",
    "🐈.jpg",
    'say "x", y.jpg',
    "new\nline.jpg",
    "return\rhere.jpg",
    "tab\there; semi.jpg",
    "=1+1.jpg",
]
BYTES = [b"caf\xe9.jpg", b"\xff\xfe.jpg", b"-\x93\xfa\x96{.jpg", b"half\xed\xa0\x80.jpg"]
NAMES = [*TEXTS, *map(os.fsdecode, BYTES)]
SHOWN = [*TEXTS, "caf\\xe9.jpg", "\\xff\\xfe.jpg", "-\\x93\\xfa\\x96{.jpg", "half\\xed\\xa0\\x80.jpg"]


def made(path: Path, **options: Any) -> Path:
    """An output with a row for each name, a prediction and a failure in turns."""
    with open_output(path, None, {"model": "m"}, Options(**{"topk": 1} | options)) as out:
        for n, name in enumerate(NAMES):
            labels = (Label(n, None, "x, y", 0.5),)
            out.write(Failure(name, "missing", f"No {name}.") if n % 2 else Prediction(name, labels, (3, 4)))
    return path


def exact(name: str, in_base64: str | None) -> str:
    return os.fsdecode(b64decode(in_base64)) if in_base64 else name


@pytest.mark.parametrize("bom", [False, True])
@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_csv_is_utf8_and_has_every_byte_of_every_name(ending: str, long: bool, bom: bool, tmp_path: Path) -> None:
    path = made(tmp_path / f"rows.{ending}", long=long, bom=bom)
    assert (path.read_bytes()[:3] == b"\xef\xbb\xbf") == bom
    with path.open(encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if ending == "tsv" else ","))
    assert [row["path"].removeprefix("'") for row in rows] == SHOWN
    assert [exact(row["path"].removeprefix("'"), row["path_bytes"]) for row in rows] == NAMES
    assert [bool(row["path_bytes"]) for row in rows] == [False] * len(TEXTS) + [True] * len(BYTES)


@pytest.mark.parametrize("bom", [False, True])
def test_pyarrow_reads_csv(bom: bool, tmp_path: Path) -> None:
    from pyarrow import csv as arrow

    path = made(tmp_path / "rows.csv", bom=bom)
    table = arrow.read_csv(path, parse_options=arrow.ParseOptions(newlines_in_values=True))
    assert str(table.schema.field("path").type) == "string"  # binary, where it is not UTF-8
    assert [name.removeprefix("'") for name in table["path"].to_pylist()] == SHOWN


def test_pyarrow_reads_json_lines_and_parquet(tmp_path: Path) -> None:
    from pyarrow import json as arrow
    from pyarrow import parquet

    assert arrow.read_json(made(tmp_path / "rows.jsonl"))["path"].to_pylist() == SHOWN
    table = parquet.read_table(made(tmp_path / "rows.parquet"))
    assert table["path"].to_pylist() == SHOWN
    assert table["path_bytes"].to_pylist()[-len(BYTES) :] == BYTES


def test_sqlite_has_text_and_bytes(tmp_path: Path) -> None:
    with sqlite3.connect(made(tmp_path / "rows.sqlite")) as db:
        found = db.execute("SELECT path, path_bytes FROM inputs ORDER BY id").fetchall()
    assert [path for path, _ in found] == SHOWN
    assert [exact for _, exact in found][-len(BYTES) :] == BYTES


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="the command sqlite3 is not installed")
@pytest.mark.parametrize("bom", [False, True])
def test_the_command_sqlite3_imports_csv(bom: bool, tmp_path: Path) -> None:
    path = made(tmp_path / "rows.csv", bom=bom)
    words = [
        "sqlite3",
        "-json",
        ":memory:",
        ".mode csv",
        f".import {path} t",
        ".mode json",
        "SELECT path, error FROM t",
    ]
    rows = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    assert [row["path"].removeprefix("'") for row in rows] == SHOWN
    assert [row["error"] for row in rows] == ["", "missing"] * (len(NAMES) // 2)


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
def test_jq_reads_json(tmp_path: Path) -> None:
    for path, query in ((made(tmp_path / "rows.jsonl"), ".path"), (made(tmp_path / "rows.json"), ".results[].path")):
        done = subprocess.run(["jq", query, path], capture_output=True, check=True)
        assert [json.loads(line) for line in done.stdout.splitlines()] == SHOWN


def test_a_mark_is_for_csv_and_tsv_alone(tmp_path: Path) -> None:
    for ending in ("jsonl", "json", "parquet", "sqlite", "txt"):
        with pytest.raises(UsageError, match="--bom means nothing for the format"):
            made(tmp_path / f"rows.{ending}", bom=True)


def test_a_file_with_a_mark_is_resumed_with_its_mark(tmp_path: Path) -> None:
    path = made(tmp_path / "rows.csv", bom=True)
    whole = path.read_bytes()
    made(path, bom=True, resume=True)
    assert path.read_bytes().startswith(whole)
    assert path.read_bytes().count(b"\xef\xbb\xbf") == 1


def test_bytes_of_names_are_a_field_that_can_be_chosen(tmp_path: Path) -> None:
    def header(**options: Any) -> str:
        return made(tmp_path / f"{len(list(tmp_path.iterdir()))}.csv", **options).read_text().splitlines()[0]

    assert header(fields=("path", "label")) == "path,label_1"
    assert header(fields=("path_bytes", "label")) == "path,label_1,path_bytes"
    made(tmp_path / "rows.jsonl", fields=("path_bytes",))
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [exact(row["path"], row.get("path_bytes")) for row in rows] == NAMES
