"""`vit classify` over what goes wrong: pictures, names, pipes and settings. The basic job is in test_main_job.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from awkward import NAMES, READERS, awkward, encoded, mutated, mutated_archives, noise, rows

import vitcli
from vitcli.cli import options
from vitcli.pictures.images import MAX_PIXELS
from vitcli.results import Failure
from vitcli.sources import Input, inputs
from vitcli.sources.counting import count, countable
from vitcli.streaming import stream

Vit = Callable[..., "subprocess.CompletedProcess[str]"]
REASON = re.compile("[a-z_]+")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures."""
    (tmp_path / "pictures").mkdir()
    for i in range(5):
        noise(i).save(tmp_path / "pictures" / f"{i}.png")
    return tmp_path / "pictures"


@pytest.fixture
def small(tiny: Path, tmp_path: Path) -> list[object]:
    """Options that make a run short, and nothing to be noted: `vit("classify", ..., *small)`."""
    (tmp_path / "labels.txt").write_text("".join(f"breed {i}\n" for i in range(10)))
    return ["--model", tiny, "--labels", tmp_path / "labels.txt", "--engine", "numpy", "--batch", 2]


def records(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_awkward_inputs_have_one_row_each_and_stdout_holds_nothing_else(
    vit: Vit, small: list[object], tmp_path: Path
) -> None:
    expected = awkward(tmp_path / "awkward")
    done = vit("classify", tmp_path / "awkward", "-f", "jsonl", *small)
    found = {os.path.relpath(str(row["path"]), tmp_path / "awkward"): row for row in records(done)}
    assert len(records(done)) == len(found) == expected
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    good = {name for name, row in found.items() if row["status"] == "ok"}
    assert good >= {"whole.jpeg", "whole.avif", "one.png", "thin.png", "deep.png", "clear.png", "folder.jpg/inside.png"}
    assert all(
        REASON.fullmatch(str(row["error"])) and row["message"] for row in found.values() if row["status"] != "ok"
    )
    assert found["bomb.png"]["error"] == "too_large"


def test_a_corpus_of_awkward_pictures_has_one_row_each(vit: Vit, small: list[object], tmp_path: Path) -> None:
    """VIT_TEST_EDGE names a folder of awkward pictures and file-system oddities."""
    if not os.environ.get("VIT_TEST_EDGE"):
        pytest.skip("VIT_TEST_EDGE is not set")
    names = [item.name for item in inputs([os.environ["VIT_TEST_EDGE"]], hidden=True)]
    out = tmp_path / "out.jsonl"
    done = vit("classify", os.environ["VIT_TEST_EDGE"], "--hidden", "-o", out, *small, timeout=600)
    assert [os.fsdecode(name) for name, _, _ in READERS[".jsonl"](out)] == names
    assert (done.returncode, done.stdout) == (3, "")
    assert "Traceback" not in done.stderr


def test_mutated_pictures_have_one_row_each(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    classifier = vitcli.load(tiny, engine="numpy")
    given = []
    for i, (name, data) in enumerate(mutated(200, seed=0)):
        (tmp_path / name).write_bytes(data)
        given.append(Input(name, file=tmp_path / name) if i % 2 else Input(name, data=data))
    results = list(stream(classifier, given))
    assert [result.path for result in results] == [item.name for item in given]
    failed = Counter(result.error for result in results if isinstance(result, Failure))
    assert 20 < failed.total() < 190
    assert "crashed" not in failed
    assert capfd.readouterr().out == ""


def test_mutated_archives_have_one_row_for_each_input(tiny: Path, tmp_path: Path) -> None:
    classifier = vitcli.load(tiny, engine="numpy")
    names = []
    for name, data in mutated_archives(150, seed=0):
        (tmp_path / name).write_bytes(data)
        names.append(str(tmp_path / name))
    given = list(inputs(names))
    start = time.perf_counter()
    results = list(stream(classifier, inputs(names)))
    assert time.perf_counter() - start < 60  # a second is usual
    assert [result.path for result in results] == [item.name for item in given]
    failed = Counter(result.error for result in results if isinstance(result, Failure))
    assert 20 < failed.total() < len(results) - 20
    assert "crashed" not in failed


@pytest.mark.parametrize("ending", READERS)
def test_names_come_back_exactly_from_every_machine_format(
    vit: Vit, small: list[object], tmp_path: Path, ending: str
) -> None:
    picture = encoded("png")
    (tmp_path / "names").mkdir()
    for name in NAMES:
        (tmp_path / "names" / os.fsdecode(name)).write_bytes(picture)
    listed = b"\0".join([*NAMES, b"not here\n=1.png", b"-also not here"])
    out = tmp_path / f"out{ending}"
    done = vit(
        "classify", "-", "-0", "-o", out, *small, cwd=tmp_path / "names", input=os.fsdecode(listed),
        encoding="utf-8", errors="surrogateescape",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert Counter((name, status) for name, status, _ in rows(out)) == Counter(
        {**{(name, "ok"): 1 for name in NAMES}, (b"not here\n=1.png", "failed"): 1, (b"-also not here", "failed"): 1}
    )
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("workers", ["1", "3"])
def test_two_runs_give_the_same_bytes_whatever_the_workers(
    vit: Vit, tiny: Path, folder: Path, tmp_path: Path, workers: str
) -> None:
    both = [folder, folder, "--model", tiny, "--engine", "torch", "--batch", 4, "-f", "jsonl"]
    assert vit("classify", *both, "--workers", workers).stdout == vit("classify", *both, "--workers", 2).stdout != ""


def test_an_input_named_twice_has_two_rows(vit: Vit, small: list[object], folder: Path) -> None:
    done = vit("classify", folder / "1.png", folder / "1.png", "-f", "jsonl", *small)
    first, second = records(done)
    assert first == second


def test_a_pipe_closed_early_ends_quietly(small: list[object], folder: Path) -> None:
    command = [Path(sys.executable).with_name("vit"), "classify", *[folder] * 20, "-f", "jsonl", *map(str, small)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stderr is not None
    assert json.loads(run.stdout.readline())["status"] == "ok"
    run.stdout.close()
    said = run.stderr.read()
    run.stderr.close()
    assert (run.wait(60), said) == (0, b"")


def test_names_and_pictures_are_taken_from_stdin(vit: Vit, small: list[object], folder: Path) -> None:
    listed = vit("classify", "-", "-f", "jsonl", *small, input=f"{folder}/1.png\n{folder}/2.png\n")
    assert [row["path"] for row in records(listed)] == [f"{folder}/1.png", f"{folder}/2.png"]
    with (folder / "1.png").open("rb") as stdin:
        piped = vit("classify", "--stdin-image", "-f", "jsonl", *small, stdin=stdin)
    named = vit("classify", folder / "1.png", "-f", "jsonl", *small)
    assert records(piped) == [{**records(named)[0], "path": "-"}]


def test_which_files_of_a_folder_are_meant_can_be_chosen(vit: Vit, small: list[object], tmp_path: Path) -> None:
    for name in ("top.png", ".hidden.png", "sub/below.png", "elsewhere/linked.png"):
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        noise(0).save(tmp_path / "all" / name)
    (tmp_path / "all" / "elsewhere").rename(tmp_path / "elsewhere")
    (tmp_path / "all" / "link").symlink_to(tmp_path / "elsewhere")

    def found(*chosen: str) -> set[str]:
        done = vit("classify", tmp_path / "all", "-f", "jsonl", *small, *chosen)
        return {os.path.relpath(str(row["path"]), tmp_path / "all") for row in records(done)}

    assert found() == {"top.png", "sub/below.png"}
    assert found("--no-recursive") == {"top.png"}
    assert found("--hidden") == {"top.png", "sub/below.png", ".hidden.png"}
    assert found("--follow-links") == {"top.png", "sub/below.png", "link/linked.png"}


def test_rows_show_what_was_asked_for(vit: Vit, small: list[object], folder: Path) -> None:
    done = vit("classify", folder / "1.png", *small, "-f", "jsonl", "--fields", "path,label", "-k", 3)
    (row,) = records(done)
    assert list(row) == ["path", "top"]
    assert [list(label) for label in row["top"]] == [["label"]] * 3  # type: ignore[attr-defined]
    done = vit("classify", folder / "1.png", *small, "-f", "jsonl", "--threshold", "1")
    assert records(done)[0]["top"] == []
    long = vit("classify", folder / "1.png", *small, "-f", "csv", "--long", "-k", 4)
    assert len(long.stdout.splitlines()) == 5


def test_pictures_of_more_pixels_than_allowed_are_refused(vit: Vit, small: list[object], folder: Path) -> None:
    done = vit("classify", folder / "1.png", *small, "-f", "jsonl", "--max-pixels", 48 * 40 - 1)
    assert records(done)[0]["error"] == "too_large"
    assert vit("classify", folder / "1.png", *small, "--max-pixels", 48 * 40).returncode == 0
    assert f"{MAX_PIXELS / 1e6:.0f} million" in str(options.MaxPixels.__metadata__[0].help)  # type: ignore[attr-defined]


def test_the_summary_counts_every_input_and_is_no_data(
    vit: Vit, small: list[object], folder: Path, tmp_path: Path
) -> None:
    summary, failures = tmp_path / "summary.json", tmp_path / "failures.jsonl"
    names = [folder, *(f"no/{i}.png\n" for i in range(12))]
    done = vit("classify", *names, *small, "-f", "jsonl", "--summary-json", summary, "--failures", failures)
    assert len(records(done)) == 17
    told = json.loads(summary.read_text())
    assert (told["inputs"], told["ok"], told["failed"], told["interrupted"]) == (17, 5, {"missing": 12}, False)
    assert (told["device"], told["dtype"], told["engine"], told["batch"]) == ("cpu", "float32", "numpy", 2)
    assert told["limit"] in told["seconds"]
    assert [json.loads(line)["path"] for line in failures.read_text().splitlines()] == names[1:]
    said = r"17 pictures in [\d.]+ s \([\d.]+/s\): 5 classified, 12 failed \(12 missing\)\."
    assert re.fullmatch(rf"{said} What failed, and why, is in .*failures.jsonl\.\n", done.stderr)
    done = vit("classify", *names, *small, "-f", "jsonl", "--verbose")
    assert re.fullmatch(rf"{said}\nWaited for .* was the limit \(numpy, cpu, float32, batch 2, .*\)\.\n", done.stderr)
    assert vit("classify", *names, *small, "-f", "jsonl", "--failures", failures).returncode == 1
    assert vit("classify", *names, *small, "-f", "jsonl", "--quiet").stderr == ""


def test_one_good_picture_needs_no_summary(vit: Vit, small: list[object], folder: Path) -> None:
    done = vit("classify", folder / "1.png", *small)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "at least one picture"),
        (["x.png", "--workers", "0"], "neither auto nor a whole number"),
        (["x.png", "--workers", "many"], "neither auto nor a whole number"),
        (["x.png", "--decode", "roughly"], "is not one of exact, fast"),
        (["x.png", "--resume", "-f", "jsonl"], "name it with -o"),
        (["-", "-"], "Stdin can be read once"),
        (["-", "--stdin-image"], "Stdin can be read once"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant_are_said(vit: Vit, small: list[object], given: list[str], says: str) -> None:
    done = vit("classify", *given, *small, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_only_what_can_be_listed_twice_is_counted_for_the_progress_bar(folder: Path) -> None:
    assert count(inputs([str(folder), str(folder / "1.png")])) == 6
    assert countable([str(folder), "nowhere.png"])
    for name in ("-", "@list.txt", "*.png", "https://example.org/a.png", "shard.tar", "a.zip!/b.png"):
        assert not countable([str(folder), name])
