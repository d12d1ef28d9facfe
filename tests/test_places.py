"""What a run writes takes the place of nothing: not of another output, an input, the weights, its own journal."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import noise

from vitcli.errors import OutputError, UsageError
from vitcli.writers import Options, open_output
from vitcli.writers.places import Read, check

Vit = Callable[..., "subprocess.CompletedProcess[str]"]
OPTIONS = ("-o", "--failures", "--summary-json")


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(words: str, *given: Any, kind: type[Exception] = UsageError, **more: Any) -> None:
    with pytest.raises(kind, match=words):
        check(*given, **more)


def test_two_options_that_name_one_file_are_refused_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "folder").symlink_to("in")
    (tmp_path / "link.jsonl").symlink_to("in/x.jsonl")
    for here in (False, True):
        names = ["in/x.jsonl", "in/../in/x.jsonl", "folder/x.jsonl", "link.jsonl", "in/X.JSONL", "folder/x.JSONl"]
        if here:
            (tmp_path / "in" / "x.jsonl").write_text("{}")
            (tmp_path / "hard.jsonl").hardlink_to(tmp_path / "in" / "x.jsonl")
            names.append("hard.jsonl")
        for name in names:
            for one in OPTIONS:
                for other in set(OPTIONS) - {one}:
                    refused("one file", {one: tmp_path / "in" / "x.jsonl", other: tmp_path / name}, there=OPTIONS)
    (tmp_path / "in" / "é.jsonl").touch()
    refused("one file", {"-o": tmp_path / "in" / "é.jsonl", "--failures": tmp_path / "in" / "e\u0301.jsonl"})


def test_what_is_kept_beside_an_output_is_nobodys_output(tmp_path: Path) -> None:
    for ending in (".vit-journal", ".vit-journal-wal", ".vit-lock", ".vit-new", ".VIT-LOCK"):
        for option in OPTIONS:
            refused("vit keeps", {option: tmp_path / f"any.jsonl{ending}"})
    with open_output(tmp_path / "out.jsonl", None, {}):
        refused("vit keeps", {"--failures": tmp_path / ".out.jsonl.vit-journal"}, there=OPTIONS)
    for ending in ("-wal", "-shm", "-journal"):
        refused("kept beside", {"-o": tmp_path / "x.db", "--failures": tmp_path / f"x.db{ending}"})


def test_what_is_read_is_never_written(tmp_path: Path) -> None:
    for name in ("list.txt", "model.safetensors"):
        (tmp_path / name).write_text("content")
        (tmp_path / f"hard {name}").hardlink_to(tmp_path / name)
        (tmp_path / f"soft {name}").symlink_to(name)
        for other in (name, f"hard {name}", f"soft {name}"):
            for option in OPTIONS:
                refused("which this run reads", {option: tmp_path / other}, [Read("x", tmp_path / name)], there=OPTIONS)
    with (tmp_path / "list.txt").open() as file:
        refused("stdin", {"-o": tmp_path / "list.txt"}, [Read("stdin", file.fileno())], there=OPTIONS)
    check({"-o": tmp_path / "list.txt"}, [Read("x", "http://a/b"), Read("y", "no\0name"), Read("z", 99)], there=OPTIONS)


def test_a_picture_is_never_overwritten(tmp_path: Path) -> None:
    noise(0).save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "no ending")
    (tmp_path / "broken.jpg").write_text("broken")
    (tmp_path / "pack.tar.gz").write_text("broken")
    for file in list(tmp_path.iterdir()):
        for option in OPTIONS:
            refused("never overwritten", {option: file}, there=OPTIONS)


def test_what_cannot_be_written_is_said_beforehand(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("theirs")
    for option in OPTIONS:
        refused("does not exist", {option: tmp_path / "none" / "x"}, kind=OutputError)
        refused("exists already", {option: tmp_path / "there"}, kind=OutputError)
        for long in (251, 241, 304):
            refused("too long", {option: tmp_path / ("x" * long)}, kind=OutputError)
        check({option: tmp_path / ("x" * 234)})
        check({option: Path(os.devnull)})
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        refused("not allowed", {"-o": tmp_path / "locked" / "x"}, kind=OutputError)
    check({"-o": Path(os.devnull), "--failures": Path(os.devnull)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(4):
        noise(i).save(folder / f"{i}.png")
    for i in range(3):
        (folder / f"{i}.jpg").write_text("broken")
    return folder


def test_the_command_refuses_before_it_begins(vit: Vit, tiny: Path, folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny, model)
    (tmp_path / "list").write_text(f"{folder}\n")
    (tmp_path / "classes.txt").write_text("".join(f"{i}\n" for i in range(10)))
    run = ["classify", f"@{tmp_path}/list", "--model", model, "--force", "--labels", tmp_path / "classes.txt"]
    out, before = ("-o", tmp_path / "o.jsonl"), contents(tmp_path)
    for status, options in (
        (2, (*out, "--failures", tmp_path / "o.jsonl")),
        (2, (*out, "--summary-json", tmp_path / "o.jsonl")),
        (2, (*out, "--failures", tmp_path / ".o.jsonl.vit-journal")),
        (2, ("-f", "jsonl", "-o", folder / "1.png")),
        (2, ("-f", "jsonl", "-o", folder / "1.jpg")),
        (2, ("-f", "jsonl", "-o", tmp_path / "list")),
        (2, ("-f", "jsonl", "-o", tmp_path / "classes.txt")),
        (2, ("-f", "jsonl", "-o", model / "model.safetensors")),
        (2, (*out, "--summary-json", model / "config.json")),
        (1, (*out, "--summary-json", tmp_path / "none" / "s.json")),
        (1, (*out, "--failures", tmp_path / "none" / "f.jsonl")),
    ):
        done = vit(*run, *options)
        assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), (options, done.stderr)
        assert contents(tmp_path) == before
    with (tmp_path / "list").open() as names:
        done = vit("classify", "-", "--model", model, "--force", "-f", "jsonl", "-o", tmp_path / "list", stdin=names)
    assert (done.returncode, contents(tmp_path)) == (2, before), done.stderr


def test_a_summary_overwrites_nothing_that_is_not_one(vit: Vit, tiny: Path, folder: Path, tmp_path: Path) -> None:
    summary, out = tmp_path / "summary.json", tmp_path / "out.jsonl"
    run = ["classify", folder, "--model", tiny, "--engine", "numpy", "-o", out, "--summary-json", summary]
    summary.write_text("precious")
    for more in ((), ("--resume",)):
        done = vit(*run, *more)
        assert (done.returncode, summary.read_text(), out.exists()) == (1, "precious", False)
        assert "--force" in done.stderr
    assert vit(*run, "--force").returncode == 3
    assert json.loads(summary.read_text())["ok"] == 4
    assert vit(*run, "--resume").returncode == 0  # it made that summary itself
    assert json.loads(summary.read_text())["skipped"] == 7


@pytest.mark.parametrize("name", ["out.jsonl", "out.json", "out.csv", "out.tsv", "out.parquet", "out.sqlite"])
def test_the_list_of_failures_holds_what_is_failed_now(
    vit: Vit, tiny: Path, folder: Path, tmp_path: Path, name: str
) -> None:
    failures = tmp_path / "failures.jsonl"
    run = ["classify", folder, "--model", tiny, "--engine", "numpy", "-q", "-o", tmp_path / name]

    def failed() -> list[str]:
        return [Path(json.loads(line)["path"]).name for line in failures.read_text().splitlines()]

    vit(*run)
    vit(*run, "--resume", "--failures", failures)  # none failed in this run
    assert failed() == ["0.jpg", "1.jpg", "2.jpg"]
    noise(5).save(folder / "1.jpg")
    (folder / "new.jpg").write_text("broken")
    vit(*run, "--retry-failed", "--failures", failures)
    assert failed() == ["0.jpg", "2.jpg", "new.jpg"]
    noise(5).save(folder / "new.jpg")  # another file is done again by --resume as well
    with failures.open("a") as file:
        file.write('{"path": "torn')
    vit(*run, "--resume", "--failures", failures)
    assert failed() == ["0.jpg", "2.jpg"]
    failures.write_text("a note\n")
    done = vit(*run, "--resume", "--failures", failures)
    assert (done.returncode, failures.read_text()) == (1, "a note\n")
    assert not list(tmp_path.glob("failures.jsonl.vit-*"))


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".sqlite"])
@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_lies_in_the_place_of_a_file_that_is_kept_is_refused_at_once(
    tmp_path: Path, ending: str, kind: str
) -> None:
    """A lock was made where a dangling link led, and SQLite waited for whoever would write to a FIFO."""
    out, elsewhere = tmp_path / f"out{ending}", tmp_path / "elsewhere"
    with open_output(out, None, {}):
        pass
    before = contents(tmp_path)
    for name in (
        f".{out.name}.vit-lock",
        f".{out.name}.vit-new",
        f".{out.name}.vit-journal-journal",
        f"{out.name}-wal",
    ):
        file = tmp_path / name
        if kind == "link":
            file.symlink_to(elsewhere)
        elif kind == "fifo":
            os.mkfifo(file)
        else:
            file.mkdir()
        for options in (Options(resume=True), Options(force=True)):
            with pytest.raises(OutputError, match=f"{re.escape(name)} beside it.* is no plain file. Remove it"):
                open_output(out, None, {}, options)
        assert not elsewhere.exists()
        file.rmdir() if kind == "folder" else file.unlink()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("option", ["--failures", "--summary-json"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_file_behind_a_stream_is_not_replaced_while_the_run_writes_to_it(
    tiny: Path, folder: Path, tmp_path: Path, option: str, stream: str
) -> None:
    """As `> rows.jsonl --failures rows.jsonl`, which lost every row."""
    command = [Path(sys.executable).with_name("vit"), "classify", folder, "--model", tiny, "--format", "jsonl", option]
    file, other, said = tmp_path / "rows.jsonl", tmp_path / "hard.jsonl", tmp_path / "said"
    file.touch()
    other.hardlink_to(file)
    for name in (file, other, Path(f"/dev/{stream}")):
        with file.open("wb") as here, said.open("wb") as elsewhere:
            streams = {"stdout": elsewhere, "stderr": elsewhere} | {stream: here}
            assert subprocess.run([*command, name], **streams, check=False).returncode == 2
        message = (said if stream == "stdout" else file).read_text()
        assert f"{option} {name} is the file behind {stream}, which this run writes" in message


def test_a_dash_is_stdout_and_never_a_file(vit: Vit, tiny: Path, folder: Path, tmp_path: Path) -> None:
    rows = vit("classify", folder, "-m", tiny, "-q", "-f", "jsonl", cwd=tmp_path)
    dash = vit("classify", folder, "-m", tiny, "-q", "-f", "jsonl", "-o", "-", cwd=tmp_path)
    assert (dash.returncode, dash.stdout) == (rows.returncode, rows.stdout)
    assert len(rows.stdout.splitlines()) > 1
    for option in ("--failures", "--summary-json"):
        done = vit("classify", folder, "-m", tiny, option, "-", cwd=tmp_path)
        assert done.returncode == 2
        assert f"{option} /dev/stdout" in done.stderr
    done = vit("classify", folder, "-m", tiny, "-f", "jsonl", "-o", "-", "--resume", cwd=tmp_path)
    assert "--resume needs an output file" in done.stderr
    assert not (tmp_path / "-").exists()
