"""Results -> every output format: exact, whole after a kill, and resumed so that each input has one row."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitcli.errors import MissingExtra, OutputError, UsageError
from vitcli.escaping import decodable, printable
from vitcli.results import Failure, Label, Prediction, Result
from vitcli.sources import Input, inputs
from vitcli.writers import WRITERS, Options, open_output, writer_for
from vitcli.writers.text import Csv, TextFormat

pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")

KEPT = [name for name in WRITERS if name != "table"]  # the formats that can be resumed
HEADER = {"model": "tiny", "preprocess": {"size": 224, "mean": [0.5, 0.5, 0.5]}, "device": "cpu"}

ODD = [
    "caf\udce9.jpg",
    "new\nline.jpg",
    "cr\rlf\r\n.jpg",
    "\ttab.jpg",
    '"quote",comma.jpg',
    "'apostrophe.jpg",
    "=1+1.jpg",
    "-rf.jpg",
    "+.jpg",
    "@x.jpg",
    "\x1b[31mred.jpg",
    "[red]markup[/red].jpg",
    "写真.jpg",
    "\u202egpj.exe",
    " lead.jpg",
    "\\xe9.jpg",
    "\udcff\udcfe",
]


def ok(path: str, *scores: float, notes: tuple[str, ...] = ()) -> Prediction:
    labels = tuple(Label(n, f"n{n:08}", f"label {n}, or so", score) for n, score in enumerate(scores or (0.9, 0.1)))
    return Prediction(path, labels, (4, 3), notes)


def bad(path: str) -> Failure:
    return Failure(path, "truncated", f"{path} ends early.")


RESULTS: list[Result] = [
    ok("a.jpg", notes=("rotated", "alpha on white")),
    bad("b.jpg"),
    ok("c.jpg", 0.5, 0.25),
    ok("d"),
]


def write(path: Path, results: Iterable[Result], **options: Any) -> Path:
    with open_output(path, None, HEADER, Options(**{"topk": 2} | options)) as out:
        for result in results:
            out.write(result)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of any format as records."""
    match path.suffix:
        case ".jsonl":
            return [exactly(json.loads(line)) for line in path.read_text().splitlines()]
        case ".json":
            return [exactly(row) for row in json.loads(path.read_text())["results"]]
        case ".csv" | ".tsv":
            return read_csv(path)
        case ".parquet":
            return read_parquet(path)
        case _:
            return read_sqlite(path)


def exactly(row: dict[str, Any]) -> dict[str, Any]:
    """A row of JSON, by its exact name."""
    if "path_bytes" in row:
        row["path"] = os.fsdecode(b64decode(row.pop("path_bytes")))
    return row


def record(row: dict[str, Any], top: list[dict[str, Any]], notes: list[str]) -> dict[str, Any]:
    if row["status"] == "failed":
        return {key: row[key] for key in ("path", "status", "error", "message")}
    size = [int(row["width"]), int(row["height"])]
    return {"path": row["path"], "status": "ok", "top": top, "size": size, "notes": notes}


def read_csv(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes().decode()
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",")
    records = []
    for cells in rows:
        row = {key: cell.removeprefix("'") for key, cell in cells.items()}
        row["path"] = os.fsdecode(b64decode(row["path_bytes"])) if row["path_bytes"] else row["path"]
        ranks = [n for n in range(1, 9) if row.get(f"label_{n}")]
        top = [
            {"index": int(row[f"index_{n}"]), "wnid": row[f"wnid_{n}"], "label": row[f"label_{n}"]}
            | {"score": float(row[f"score_{n}"])}
            for n in ranks
        ]
        records.append(record(row, top, row["notes"].split("; ") if row["notes"] else []))
    return records


def read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    records = []
    for row in pq.read_table(path).to_pylist():
        if row["path_bytes"] is not None:
            row["path"] = os.fsdecode(row["path_bytes"])
        records.append(record(row, row["top"] or [], row["notes"] or []))
    return records


def read_sqlite(path: Path) -> list[dict[str, Any]]:
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    records = []
    for found in db.execute("SELECT * FROM inputs ORDER BY id").fetchall():
        row = dict(found)
        if row["path_bytes"] is not None:
            row["path"] = os.fsdecode(row["path_bytes"])
        labels = db.execute("SELECT * FROM labels WHERE input = ? ORDER BY rank", (row["id"],)).fetchall()
        top = [{"index": t["class"], "wnid": t["wnid"], "label": t["label"], "score": t["score"]} for t in labels]
        records.append(record(row, top, json.loads(row["notes"] or "[]")))
    db.close()
    return records


def rows_of(results: Iterable[Result]) -> list[dict[str, Any]]:
    return [result.record() for result in results]


@pytest.mark.parametrize("name", KEPT)
def test_each_format_gives_back_what_was_written(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"out.{name}", RESULTS)
    assert read(path) == rows_of(RESULTS)


@pytest.mark.parametrize("name", KEPT)
def test_names_come_back_exactly(name: str, tmp_path: Path) -> None:
    results: list[Result] = [ok(path) for path in ODD]
    assert [row["path"] for row in read(write(tmp_path / f"out.{name}", results))] == ODD


def test_json_can_be_read_by_whoever_is_strict(tmp_path: Path) -> None:
    from pyarrow import json as strict_json

    odd = Prediction("caf\udce9.jpg", (Label(0, None, "half a pair \ud83d", 0.5),), (1, 1))
    path = write(tmp_path / "out.jsonl", [*map(ok, ODD), odd, bad("\udcff.jpg")])
    names = strict_json.read_json(path)["path"].to_pylist()
    assert names == [decodable(row["path"]) for row in read(path)]
    document = write(tmp_path / "out.json", [odd]).read_text()
    assert "\\ud" not in document


def test_on_a_terminal_cells_do_nothing() -> None:
    out = Csv({}, Options(topk=1))
    out.shown = True
    assert out.row(ok("red\x1b[31m\n.jpg")).startswith(b"red\\x1b[31m\\n.jpg,")


@given(st.lists(st.binary(min_size=1).map(os.fsdecode), max_size=5))
@settings(max_examples=50, deadline=None)
def test_any_name_comes_back_exactly_from_csv(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = write(tmp_path_factory.mktemp("csv") / "out.csv", [ok(name) for name in names])
    assert [row["path"] for row in read(path)] == names


@pytest.mark.parametrize("name", KEPT)
def test_no_results_are_a_valid_file(name: str, tmp_path: Path) -> None:
    assert read(write(tmp_path / f"out.{name}", [])) == []


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("name", ["csv", "tsv"])
def test_no_cell_is_a_formula(name: str, long: bool, tmp_path: Path) -> None:
    formula = "=HYPERLINK(1)"
    labels = (Label(0, None, formula, 0.5),)
    results = [Prediction(path, labels, (1, 1), (formula,)) for path in ODD] + [Failure(formula, formula, formula)]
    path = write(tmp_path / f"out.{name}", results, long=long)
    with path.open(newline="") as file:
        cells = [cell for row in csv.reader(file, delimiter="\t" if name == "tsv" else ",") for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert cells.count("'" + formula) == 2 * len(ODD) + 3


def test_a_negative_score_is_a_number_and_no_formula() -> None:
    out = Csv({}, Options(topk=1))
    assert b",-1.5," in out.row(ok("a", -1.5))


def test_wide_csv_has_a_row_for_each_input_and_the_same_columns_in_each(tmp_path: Path) -> None:
    rows = list(csv.reader(write(tmp_path / "out.csv", [*RESULTS, ok("e", 0.9)], topk=3).read_text().splitlines()))
    assert rows[0][:6] == ["path", "status", "label_1", "score_1", "index_1", "wnid_1"]
    assert rows[0][-6:] == ["width", "height", "notes", "error", "message", "path_bytes"]
    assert {len(row) for row in rows} == {2 + 3 * 4 + 6}
    assert len(rows) == 6


def test_long_csv_has_a_row_for_each_label(tmp_path: Path) -> None:
    path = write(tmp_path / "out.csv", [ok("a", 0.5, 0.25), bad("b"), Prediction("c", (), (1, 1))], long=True)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(row["path"], row["rank"], row["score"]) for row in rows] == [
        ("a", "1", "0.5"),
        ("a", "2", "0.25"),
        ("b", "", ""),
        ("c", "", ""),
    ]


@pytest.mark.parametrize("name", KEPT)
def test_labels_below_the_threshold_go_and_their_row_stays(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"out.{name}", [ok("a", 0.8, 0.2), ok("b", 0.3, 0.2), bad("c")], threshold=0.3)
    rows = read(path)
    assert [row["path"] for row in rows] == ["a", "b", "c"]
    assert [[top["score"] for top in row.get("top", [])] for row in rows] == [[0.8], [0.3], []]


@pytest.mark.parametrize("name", ["jsonl", "json"])
def test_fields_choose_what_a_record_shows(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"out.{name}", RESULTS[:2], fields=("path", "label", "score", "error"))
    assert read(path) == [
        {
            "path": "a.jpg",
            "top": [{"label": "label 0, or so", "score": 0.9}, {"label": "label 1, or so", "score": 0.1}],
        },
        {"path": "b.jpg", "error": "truncated"},
    ]


def test_fields_choose_columns(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    chosen = {"fields": ("path", "top", "size")}
    header = write(tmp_path / "out.csv", RESULTS, topk=1, **chosen).read_text().splitlines()[0]
    assert header == "path,label_1,score_1,index_1,wnid_1,width,height"
    columns = pq.read_table(write(tmp_path / "out.parquet", RESULTS, **chosen)).column_names
    assert columns == ["path", "path_bytes", "width", "height", "top"]
    with pytest.raises(UsageError, match="no field 'lable'"):
        write(tmp_path / "other.csv", [], fields=("lable",))


def test_the_document_and_the_columns_say_how_they_were_made(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    assert json.loads(write(tmp_path / "out.json", RESULTS).read_text())["header"] == HEADER
    assert json.loads(pq.read_schema(write(tmp_path / "out.parquet", RESULTS)).metadata[b"vit"]) == HEADER
    with sqlite3.connect(write(tmp_path / "out.db", RESULTS)) as db:
        assert dict(db.execute("SELECT * FROM header"))["model"] == "tiny"
    db.close()


def test_sqlite_can_be_asked_at_once_also_while_the_run_goes_on(tmp_path: Path) -> None:
    with open_output(tmp_path / "out.sqlite", None, HEADER) as out:
        out.write(ok("a", 0.5))
        out.write(bad("b"))
        out.flush()
        db = sqlite3.connect(tmp_path / "out.sqlite")
        assert db.execute("SELECT path, label, score FROM best").fetchall() == [
            ("a", "label 0, or so", 0.5),
            ("b", None, None),
        ]
        db.close()
    assert [file.name for file in tmp_path.iterdir()] == ["out.sqlite"]


def test_whoever_reads_a_database_is_no_error_to_the_run(tmp_path: Path) -> None:
    path = tmp_path / "out.sqlite"

    def reading() -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("BEGIN")
        db.execute("SELECT * FROM inputs").fetchone()
        return db

    def count(db: sqlite3.Connection) -> int:
        return int(db.execute("SELECT count(*) FROM inputs").fetchone()[0])

    with open_output(path, None, HEADER, Options(topk=2, resume=True)) as out:
        classify(out, items("a", "b"))
        out.flush()
        during = reading()
        classify(out, items("c"))
    assert [row["path"] for row in read(path)] == ["a", "b", "c"]
    assert resume(path, items(*"abcd")) == ["d"]
    assert count(during) == 2
    with open_output(path, None, HEADER, Options(topk=2, force=True)) as out:
        classify(out, items("z"))
        out.flush()
        during.close()  # it deletes nothing of the new one
        killed = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for name, data in killed.items():
        (tmp_path / name).write_bytes(data)
    assert [row["path"] for row in read(path)] == ["z"]
    (tmp_path / "out.sqlite-wal").unlink(missing_ok=True)
    with open_output(path, None, HEADER, Options(topk=2, force=True)) as out:
        classify(out, items("a", "b"))
    after = reading()
    assert resume(path, items(*"abcd")) == ["a", "b", "c", "d"][2:]
    assert (count(after), [row["path"] for row in read(path)]) == (2, ["a", "b", "c", "d"])
    after.close()
    assert [file.name for file in tmp_path.iterdir()] == ["out.sqlite"]


def test_a_text_format_says_how_a_row_becomes_bytes_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Names(TextFormat):
        name = "names"
        endings = (".names",)
        help = "names in brackets"
        between = b", "
        footer = b"]"

        def prefix(self) -> bytes:
            return b"["

        def row(self, result: Result) -> bytes:
            return result.path.encode()

    monkeypatch.setitem(WRITERS, "names", Names)
    path = tmp_path / "out.names"
    assert resume(path, items("a", "b"), broken="b") == ["a", "b"]
    assert path.read_bytes() == b"[a, b]"
    assert resume(path, items("a", "b", "c"), retry_failed=True) == ["b", "c"]
    assert path.read_bytes() == b"[a, b, c]"


def test_formats_are_chosen_by_name_then_by_ending() -> None:
    assert writer_for(None).name == "table"
    assert writer_for("json", Path("x.csv")).name == "json"
    for name, kind in WRITERS.items():
        assert kind.name == name
        assert kind.help
        for ending in kind.endings:
            assert writer_for(None, Path(f"X{ending.upper()}")) is kind
    with pytest.raises(UsageError, match="choose one of table, json"):
        writer_for("xml")
    with pytest.raises(UsageError, match=r"\.csv"):
        writer_for(None, Path("out.xml"))


@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "tsv"])
def test_stdout_gets_the_same_bytes_as_a_file(name: str, tmp_path: Path, capfdbinary: Any) -> None:
    with open_output(None, name, HEADER, Options(topk=2)) as out:
        for result in RESULTS:
            out.write(result)
    assert capfdbinary.readouterr().out == write(tmp_path / f"out.{name}", RESULTS).read_bytes()


@pytest.mark.parametrize("name", ["parquet", "sqlite"])
def test_a_database_needs_a_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="-o"):
        open_output(None, name, HEADER)
    with pytest.raises(UsageError, match="-o"):
        open_output(Path("/dev/null"), name, HEADER)


def test_settings_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    for name, option in (("table", "resume"), ("table", "fields"), ("jsonl", "long"), ("sqlite", "long")):
        with pytest.raises(UsageError, match=f"--{option} means nothing"):
            open_output(tmp_path / "out", name, HEADER, Options(**{option: True}))
    with pytest.raises(UsageError, match="-o"):
        open_output(None, "jsonl", HEADER, Options(resume=True))


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"vitcli\[parquet\]"):
        open_output(tmp_path / "out.parquet", None, HEADER)


@pytest.mark.parametrize("name", [*KEPT, "table"])
def test_an_output_that_is_there_is_not_lost(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{name}"
    with open_output(path, name, HEADER) as out:
        out.write(ok("a"))
    before = path.read_bytes()
    with pytest.raises(OutputError, match="--force"):
        open_output(path, name, HEADER)
    assert path.read_bytes() == before
    with open_output(path, name, HEADER, Options(force=True)) as out:
        out.write(ok("b"))
    assert b"b" in path.read_bytes()
    if name != "table":
        with open_output(path, name, HEADER, Options(resume=True)) as out:
            assert [item.name for item in filter(out.wanted, [Input("a"), Input("b")])] == ["a"]


def test_an_empty_file_is_no_output(tmp_path: Path) -> None:
    for name in KEPT:
        path = tmp_path / f"out.{name}"
        path.touch()
        assert read(write(path, RESULTS)) == rows_of(RESULTS)


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_written_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        write(tmp_path / "none" / f"out.{name}", [])
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write(tmp_path / "file" / f"out.{name}", [])


@pytest.mark.parametrize("name", WRITERS)
def test_a_name_that_is_too_long_for_the_disk_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        open_output(tmp_path / ("x" * 300), name, HEADER)


def test_a_pipe_is_written_and_keeps_no_journal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.jsonl")
    with subprocess.Popen(["cat", tmp_path / "out.jsonl"], stdout=subprocess.PIPE) as cat:
        write(tmp_path / "out.jsonl", RESULTS)
        assert cat.stdout
        assert len(cat.stdout.read().splitlines()) == len(RESULTS)
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


def classify(out: Any, given: Iterable[Input], broken: Iterable[str] = ()) -> list[str]:
    """What the engine does, with made-up answers; the names of the inputs that were done."""
    done = []
    for item in filter(out.wanted, given):
        done.append(item.name)
        out.write(bad(item.name) if item.name in broken or item.failure else ok(item.name))
    return done


def resume(path: Path, given: Iterable[Input], broken: Iterable[str] = (), **options: Any) -> list[str]:
    with open_output(path, None, HEADER, Options(**{"topk": 2, "resume": True} | options)) as out:
        return classify(out, given, broken)


def items(*names: str) -> list[Input]:
    return [Input(name, data=os.fsencode(name), size=1) for name in names]


@pytest.mark.parametrize("name", KEPT)
def test_what_is_answered_is_not_done_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{name}"
    assert resume(path, items("a", "b"), broken="b") == ["a", "b"]
    assert resume(path, items("a", "b", "c", *ODD)) == ["c", *ODD]
    assert resume(path, items("a", "b", "c", *ODD)) == []
    assert read(path) == rows_of([ok("a"), bad("b"), ok("c"), *map(ok, ODD)])


@pytest.mark.parametrize("name", KEPT)
def test_failures_are_done_again_on_request_and_keep_one_row(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{name}"
    resume(path, items("a", "b", "c", "d"), broken="ac")
    assert resume(path, items("a", "b", "c", "d")) == []
    assert resume(path, items("a", "b", "c", "d"), broken="c", retry_failed=True) == ["a", "c"]
    assert read(path) == rows_of([ok("b"), ok("d"), ok("a"), bad("c")])
    assert resume(path, items("a", "b", "c", "d", "e"), retry_failed=True) == ["c", "e"]
    assert read(path) == rows_of([ok("b"), ok("d"), ok("a"), ok("c"), ok("e")])


@pytest.mark.parametrize("name", KEPT)
def test_an_input_named_twice_has_two_rows_also_when_resumed(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{name}"
    assert resume(path, items("a", "b", "a")) == ["a", "b", "a"]
    assert resume(path, items("a", "b", "a", "b", "a")) == ["b", "a"]
    assert resume(path, items("a", "b", "a", "b", "a")) == []
    assert sorted(row["path"] for row in read(path)) == ["a", "a", "a", "b", "b"]


@pytest.mark.parametrize("name", KEPT)
def test_a_file_that_changed_is_done_again_and_keeps_one_row(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for letter in "abc":
        (tmp_path / "in" / f"{letter}.jpg").write_text(letter)
    path = tmp_path / f"out.{name}"

    def given() -> Iterable[Input]:
        return inputs([str(tmp_path / "in")])

    assert len(resume(path, given())) == 3
    assert resume(path, given()) == []
    (tmp_path / "in" / "b.jpg").write_text("longer")
    os.utime(tmp_path / "in" / "c.jpg", ns=(1, 1))
    changed = [str(tmp_path / "in" / f"{letter}.jpg") for letter in "bc"]
    assert resume(path, given()) == changed
    assert resume(path, given()) == []
    assert sorted(row["path"] for row in read(path)) == [str(tmp_path / "in" / "a.jpg"), *changed]


@pytest.mark.parametrize("name", ["jsonl", "sqlite"])
def test_by_content_a_renamed_file_is_known_again(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for letter in "abc":
        (folder / f"{letter}.jpg").write_text(letter)
    (folder / "twin of a.jpg").write_text("a")
    path = tmp_path / f"out.{name}"

    def go() -> list[str]:
        return [Path(done).name for done in resume(path, inputs([str(folder)]), by_content=True)]

    assert len(go()) == 4
    (folder / "a.jpg").rename(folder / "z.jpg")
    os.utime(folder / "b.jpg", ns=(1, 1))
    (folder / "c.jpg").write_text("changed")
    (folder / "new.jpg").write_text("new")
    assert go() == ["c.jpg", "new.jpg"]
    assert go() == []
    assert len(read(path)) == 5


@pytest.mark.parametrize("name", KEPT)
def test_models_and_settings_are_not_mixed(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"out.{name}", RESULTS)
    before = read(path)
    for header, changes, named in (
        (HEADER | {"model": "other"}, {}, "model 'tiny', now 'other'"),
        (HEADER | {"preprocess": {"size": 384, "mean": [0.5] * 3}}, {}, "preprocess.size 224, now 384"),
        (HEADER | {"dtype": "bfloat16"}, {}, "dtype None, now 'bfloat16'"),
        (HEADER, {"threshold": 0.5}, "threshold None, now 0.5"),
        (HEADER, {"topk": 1}, "topk 2, now 1"),
        (HEADER, {"by_content": True}, "by_content False, now True"),
    ):
        with pytest.raises(OutputError, match=named):
            open_output(path, None, header, Options(**{"topk": 2, "resume": True} | changes))
    with open_output(path, None, HEADER | {"device": "cuda"}, Options(topk=2, resume=True)):
        pass  # where it was computed makes no other answer
    assert read(path) == before


def test_weights_on_disk_are_known_by_their_bytes(tmp_path: Path) -> None:
    def go(model: str, sha256: str) -> None:
        header = HEADER | {"model": model, "sha256": sha256}
        open_output(tmp_path / "out.jsonl", None, header, Options(resume=True)).close()

    go("weights", "1234")
    go("./weights", "1234")
    with pytest.raises(OutputError, match="sha256 '1234', now '5678'"):
        go("weights", "5678")


@pytest.mark.parametrize("name", KEPT)
def test_an_output_of_someone_else_is_not_resumed(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{name}"
    if name == "sqlite":
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE theirs (x)")
        db.close()
    else:
        path.write_text("theirs")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="cannot be resumed"):
        open_output(path, None, HEADER, Options(resume=True))
    assert path.read_bytes() == before


def refused(path: Path, message: str) -> None:
    """Resuming says why it cannot be, and no file has another byte than before."""
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(OutputError, match=message):
        open_output(path, None, HEADER, Options(topk=2, resume=True))
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


def journal_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.vit-journal")


BESIDE = [name for name in KEPT if name != "sqlite"]  # the formats whose journal is a file of its own


@pytest.mark.parametrize("name", BESIDE)
def test_an_empty_journal_knows_no_output(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"out.{name}", RESULTS)
    journal_of(path).write_bytes(b"")
    refused(path, "cannot be resumed")


@pytest.mark.parametrize("other", [RESULTS[:1], [*RESULTS[1:], ok("e")], [ok("z"), *RESULTS[1:]], []], ids=len)
@pytest.mark.parametrize("name", BESIDE)
def test_the_journal_of_another_output_is_refused(name: str, other: list[Result], tmp_path: Path) -> None:
    path = write(tmp_path / f"out.{name}", RESULTS)
    (tmp_path / "other").mkdir()
    journal_of(write(tmp_path / "other" / f"out.{name}", other)).replace(journal_of(path))
    (tmp_path / "other" / f"out.{name}").unlink()
    (tmp_path / "other").rmdir()
    refused(path, "is the journal of another file")


@pytest.mark.parametrize("name", KEPT)
def test_a_journal_of_another_version_is_refused(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"out.{name}", RESULTS)
    db = sqlite3.connect(path if name == "sqlite" else journal_of(path))
    db.execute("PRAGMA user_version = 99")
    db.close()
    refused(path, "another version of vit")


@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "tsv"])
def test_a_text_that_was_edited_is_refused(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"out.{name}", [ok("a"), ok("b"), ok("c"), ok("d")])
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    row = next(n for n, line in enumerate(lines) if b"label 0" in line)
    for edited in (
        b"".join(lines[: row + 1] + lines[row + 2 :]),  # rows of one length: only their bytes tell
        whole.replace(b"0.9", b"0.8", 1),
        b"x" + whole,
        b"a note",
        whole.replace(b"header", b"headed").replace(b"path,", b"name,"),
        whole.replace(b",\n{", b"\n {"),
    ):
        path.write_bytes(edited)
        if edited != whole:  # not every format has a header, or something between its rows
            refused(path, "it was changed")
    path.write_bytes(whole)
    assert resume(path, items("a", "e")) == ["a", "e"]  # these four were written without an input's size


def test_a_parquet_file_that_was_exchanged_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "out.parquet", RESULTS)
    write(tmp_path / "other.parquet", RESULTS[1:]).replace(path)
    refused(path, "it was changed")


def test_a_database_with_a_trigger_is_refused_as_it_may_change_what_is_written(tmp_path: Path) -> None:
    path = write(tmp_path / "out.sqlite", RESULTS)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TRIGGER mine AFTER INSERT ON inputs BEGIN DELETE FROM labels; END")
        db.commit()
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"has triggers \(mine\).*Drop them"):
        open_output(path, None, HEADER, Options(topk=2, resume=True))
    assert path.read_bytes() == before
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TRIGGER mine; CREATE TABLE mine (x); CREATE INDEX own ON labels (score)")
    open_output(path, None, HEADER, Options(topk=2, resume=True)).close()  # what else was added may stay


def test_a_database_whose_rows_were_deleted_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "out.sqlite", RESULTS)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("DELETE FROM inputs WHERE id = 2")
    db.close()
    with pytest.raises(OutputError, match="its rows were changed"):
        open_output(path, None, HEADER, Options(topk=2, resume=True))
    assert [row["path"] for row in read(path)] == ["a.jpg", "c.jpg", "d"]


@pytest.mark.parametrize("name", BESIDE)
def test_an_output_that_was_moved_without_its_journals_wal_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{name}"
    killed = subprocess.run([sys.executable, __file__, path, "50", "0", "kill"], check=False)
    assert killed.returncode == -signal.SIGKILL
    (tmp_path / "moved").mkdir()
    moved = tmp_path / "moved" / path.name
    for file in (path, journal_of(path)):
        if file.exists():
            file.rename(moved.with_name(file.name))
    refused(moved, "-wal, which was beside it")
    wal = journal_of(path).with_name(journal_of(path).name + "-wal")
    wal.rename(moved.with_name(wal.name))
    assert len(resume(moved, many(50))) <= 32  # rows of a push


@pytest.mark.parametrize("name", BESIDE)
def test_a_journal_that_found_no_room_to_say_it_is_closed_is_whole(name: str, tmp_path: Path) -> None:
    class Full:
        """A database on a full disk: it closes, and that is all."""

        def __init__(self, db: sqlite3.Connection) -> None:
            self.db, self.in_transaction, self.close = db, False, db.close
            db.execute("ROLLBACK")
            db.execute("PRAGMA wal_checkpoint")

        def execute(self, *_: Any) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    path = tmp_path / f"out.{name}"
    out: Any = open_output(path, None, HEADER, Options(topk=2))
    assert classify(out, items("a", "b")) == ["a", "b"]
    out.flush()
    out.journal.db = Full(out.journal.db)
    with pytest.raises(OutputError, match="disk is full"):
        classify(out, items("c"))
    assert resume(path, items("a", "b", "c")) == ["c"]
    assert read(path) == rows_of(map(ok, "abc"))


@pytest.mark.parametrize("options", [{}, {"force": True}, {"resume": True}], ids=str)
@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("name", WRITERS)
def test_two_runs_do_not_write_to_one_output(name: str, rows: int, options: dict[str, bool], tmp_path: Path) -> None:
    if name == "table" and "resume" in options:
        return
    path = tmp_path / f"out.{name}"
    with open_output(path, name, HEADER) as out:
        for _ in range(rows):
            out.write(ok("a"))
        out.flush()
        before = {file: file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(OutputError, match="Another run is writing to"):
            open_output(path, name, HEADER, Options(**options))
        with pytest.raises(OutputError, match="Another run is writing to"):
            open_output(path, "csv", HEADER, Options(**options))  # in whatever format
        assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
        out.write(ok("b"))
    if name != "table":
        assert len(read(path)) == rows + 1


@pytest.mark.parametrize("name", WRITERS)
def test_an_output_is_free_again_after_a_run_an_error_and_a_refusal(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{name}"
    with open_output(path, name, HEADER) as out:
        out.write(ok("a"))
    with pytest.raises(OutputError, match="exists already"):
        open_output(path, name, HEADER)
    with pytest.raises(RuntimeError), open_output(path, name, HEADER, Options(force=True)):
        raise RuntimeError
    with open_output(path, name, HEADER, Options(force=True)) as out, pytest.raises(AttributeError):
        out.write(None)  # type: ignore[arg-type]
    with open_output(path, name, HEADER, Options(force=True)) as out:
        out.write(ok("b"))
    assert not list(tmp_path.glob("*.vit-lock"))


@pytest.mark.parametrize("name", ["jsonl", "json", "csv"])
def test_a_file_is_whole_after_every_flush(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{name}"
    with open_output(path, None, HEADER, Options(topk=2)) as out:
        for n in range(1, 5):
            out.write(ok("x" * n))
            out.flush()
            assert len(read(path)) == n


def test_rows_reach_the_disk_when_the_next_input_is_asked_for(tmp_path: Path) -> None:
    with open_output(tmp_path / "out.jsonl", None, HEADER) as out:
        for n, item in enumerate(filter(out.wanted, items("a", "b", "c"))):
            assert len(read(tmp_path / "out.jsonl")) == n
            out.write(ok(item.name))


def test_a_result_that_belongs_to_another_input_is_a_mistake(tmp_path: Path) -> None:
    with open_output(tmp_path / "out.jsonl", None, HEADER) as out:
        todo = filter(out.wanted, items("a", "b"))
        next(todo)
        with pytest.raises(ValueError, match="'b' came when that of 'a' was due"):
            out.write(ok("b"))


@pytest.mark.parametrize("name", KEPT)
def test_a_run_that_breaks_off_leaves_its_rows(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{name}"
    given = items(*"abcdef")

    def stopped() -> None:
        with open_output(path, None, HEADER, Options(topk=2)) as out:
            for item in filter(out.wanted, given):
                if item.name == "d":
                    raise KeyboardInterrupt
                out.write(ok(item.name))

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert read(path) == rows_of(map(ok, "abc"))
    assert resume(path, given) == ["d", "e", "f"]
    assert read(path) == rows_of(map(ok, "abcdef"))


def test_a_torn_or_missing_tail_is_cut_off_and_done_again(tmp_path: Path) -> None:
    for name in ("jsonl", "json", "csv", "tsv"):
        for cut in (1, 2, 30, 90):
            path = tmp_path / f"{cut}.{name}"
            resume(path, items(*"abcd"))
            path.write_bytes(path.read_bytes()[:-cut])
            again = resume(path, items(*"abcd"))
            assert "abcd".endswith("".join(again)), (name, cut)
            assert len(again) <= 2, (name, cut)
            assert read(path) == rows_of(map(ok, "abcd")), (name, cut)


@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "tsv"])
def test_what_somebody_wrote_behind_the_rows_is_not_cut_off(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{name}"
    resume(path, items(*"abcd"))
    with path.open("ab") as file:
        file.write(b'{"path": "by hand"}\n')
    refused(path, "it was changed")


@pytest.mark.parametrize("name", KEPT)
def test_an_output_that_was_deleted_is_made_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{name}"
    resume(path, items("a", "b"))
    path.unlink()
    assert resume(path, items("a", "b")) == ["a", "b"]
    assert read(path) == rows_of(map(ok, "ab"))


def test_rows_that_wait_for_their_parquet_file_are_not_lost_by_starting_again(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    run = [sys.executable, __file__, path, "5", "0"]
    killed = subprocess.run([*run, "kill"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    with pytest.raises(OutputError, match="--resume"):
        open_output(path, None, HEADER)
    assert resume(path, many(5))[:-1] == []
    assert len(read(path)) == 5


@pytest.mark.parametrize("step", ["before", "after"])
@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "parquet"])
def test_a_kill_while_holes_are_closed_loses_nothing(
    name: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"out.{name}"
    resume(path, items(*"abcd"), broken="ac")
    replace = Path.replace

    def killed(new: Path, target: Path) -> Path:
        if step == "after":
            replace(new, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        resume(path, items(*"abcd"), retry_failed=True)
    monkeypatch.undo()
    assert resume(path, items(*"abcd"), retry_failed=True) == []
    assert read(path) == rows_of(map(ok, "bdac"))


def many(count: int) -> Iterable[Input]:
    return items(*(f"{n}.jpg" for n in range(count)))


def answer(path: str) -> Result:
    n = int(path.split(".")[0])
    return bad(path) if n % 7 == 0 else ok(path, 1 / (n + 1), 0.5 / (n + 1))


@pytest.mark.parametrize("name", KEPT)
def test_a_run_that_is_killed_and_resumed_has_every_row_once(name: str, tmp_path: Path) -> None:
    path, count, chance, kills = tmp_path / f"out.{name}", 400, random.Random(name), 0
    run = [sys.executable, __file__, path, str(count), "0.001"]
    for _ in range(5):
        process = subprocess.Popen(run)
        try:
            code = process.wait(chance.uniform(0.1, 0.4))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            code, kills = process.wait(), kills + 1
        if code == 0:
            break
    assert subprocess.run(run, check=False).returncode == 0
    assert kills, "never killed: the run is too short to show anything"
    expected = rows_of(answer(item.name) for item in many(count))
    assert read(path) == expected


@pytest.mark.parametrize("name", KEPT)
def test_a_disk_that_fills_up_is_reported_and_resumed(name: str, tmp_path: Path) -> None:
    path, count = tmp_path / f"out.{name}", 400
    limit = 160_000 if name == "sqlite" else 60_000
    run = [sys.executable, __file__, path, str(count), "0"]
    full = subprocess.run([*run, str(limit)], capture_output=True, text=True, check=False)
    assert full.returncode == 1, full.stderr
    assert "cannot be written" in full.stderr
    assert "--resume" in full.stderr
    assert "Traceback" not in full.stderr
    if name in ("jsonl", "json", "csv", "tsv"):
        written = read(path)
        assert written == rows_of(answer(item.name) for item in many(len(written)))
        assert written
    assert subprocess.run(run, check=False).returncode == 0
    assert read(path) == rows_of(answer(item.name) for item in many(count))


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        done = subprocess.run(
            [sys.executable, __file__, tmp_path / f"{count}.jsonl", str(count), "0"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(done.stdout)

    small, large = peak(500), peak(10_000)
    assert large < 1.1 * small


def test_a_table_shows_every_name_harmlessly_and_every_failure(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    results = [*(ok(name) for name in ODD), bad("broken.jpg")]
    text = write(path, results).read_text()
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    for name in ODD:
        assert printable(name)[:10] in text
    assert "\\xe9" in text
    assert "[red]markup" in text
    assert bad("broken.jpg").message in text


def test_a_table_can_be_printed_where_there_is_no_utf8() -> None:
    code = (
        "from vitcli.results import *; from vitcli.writers import *\n"
        "with open_output(None, None, {}) as out:\n"
        "    out.write(Prediction('写 é.jpg', (Label(0, None, 'crêpe', 0.5),) * 2, (1, 1)))\n"
        "    out.write(Failure('x.jpg', 'missing', 'gone …'))"
    )
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "\\u5199" in done.stdout
    assert "gone ~" in done.stdout


def main(path: str, count: str, pause: str, *limit: str) -> None:
    """A run in a process of its own, to be killed or to run out of disk."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if limit and limit[0] != "kill":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit[0]), int(limit[0])))
    try:
        with open_output(Path(path), None, HEADER, Options(topk=2, resume=True)) as out:
            for item in filter(out.wanted, many(int(count))):
                time.sleep(float(pause))
                if limit == ("kill",) and item.name == f"{int(count) - 1}.jpg":
                    os.kill(os.getpid(), signal.SIGKILL)
                out.write(answer(item.name))
    except OutputError as error:
        sys.exit(str(error))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main(*sys.argv[1:])
