"""A run that is killed, or whose disk is full, goes on where it stopped, and ends with the rows it would have had."""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from awkward import noise, rows

from vitcli.errors import OutputError
from vitcli.results import Failure
from vitcli.writers import Options, open_output

Vit = Callable[..., "subprocess.CompletedProcess[str]"]
COMMAND = Path(sys.executable).with_name("vit")
COUNT = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, of which every tenth is broken."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(COUNT):
        noise(i).save(folder / f"{i}.png")
        if i % 10 == 0:
            (folder / f"{i}.png").write_bytes(b"broken")
    return folder


@pytest.fixture
def arguments(tiny: Path, folder: Path) -> list[str]:
    """A run over the pictures, the first ten of them twice."""
    twice = [str(folder / f"{i}.png") for i in range(10)]
    return ["classify", str(folder), *twice, "--model", str(tiny), "--engine", "numpy", "--batch", "3", "--topk", "2"]


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet", ".sqlite"])
def test_killed_at_any_moment_a_run_resumes_to_the_rows_of_an_unbroken_one(
    vit: Vit, arguments: list[str], tmp_path: Path, ending: str
) -> None:
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"out{ending}"
    start = time.monotonic()
    assert vit(*arguments, "-o", whole).returncode == 3
    took = time.monotonic() - start
    rng = random.Random(ending)
    for _ in range(3):
        run = subprocess.Popen([COMMAND, *arguments, "-o", out, "--resume"], stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.4, 1.0) * took)
        run.kill()
        run.wait()
    done = vit(*arguments, "-o", out, "--resume")
    assert done.returncode in (0, 3), done.stderr  # 0: only pictures that go well were left
    assert rows(out) == rows(whole)
    assert len(rows(out)) == COUNT + 10


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet", ".sqlite"])
def test_a_disk_that_fills_up_is_said_and_loses_nothing(
    vit: Vit, arguments: list[str], tmp_path: Path, ending: str
) -> None:
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"out{ending}"
    vit(*arguments, "-o", whole)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead, as it does on a full disk

    full = vit(*arguments, "-o", out, preexec_fn=limited)
    assert full.returncode == 1
    assert "cannot be written" in full.stderr
    assert "Traceback" not in full.stderr
    assert vit(*arguments, "-o", out, "--resume").returncode in (0, 3)
    assert rows(out) == rows(whole)


def test_answered_inputs_are_not_done_again(vit: Vit, arguments: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    vit(*arguments, "-o", out)
    before = out.read_bytes()
    again = vit(*arguments, "-o", out, "--resume")
    assert (again.returncode, again.stdout) == (0, "")
    assert f"{COUNT + 10} were done before" in again.stderr
    assert out.read_bytes() == before


def test_failed_inputs_are_done_again_on_request(vit: Vit, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(4):
        noise(i).save(tmp_path / "in" / f"{i}.png")
    run = ["classify", tmp_path / "in", tmp_path / "late.png", "--model", tiny, "-o", tmp_path / "out.jsonl"]
    assert vit(*run).returncode == 3
    noise(9).save(tmp_path / "late.png")
    done = vit(*run, "--retry-failed")
    assert done.returncode == 0, done.stderr
    assert [status for _, status, _ in rows(tmp_path / "out.jsonl")] == ["ok"] * 5


def test_without_resume_an_output_is_refused_and_with_other_settings_it_is_not_resumed(
    vit: Vit, arguments: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    vit(*arguments, "-o", out)
    before = out.read_bytes()
    refused = vit(*arguments, "-o", out)
    assert (refused.returncode, "--resume" in refused.stderr) == (1, True)
    other = vit(*arguments, "-o", out, "--resume", "--topk", 3)
    assert (other.returncode, "other settings" in other.stderr) == (1, True)
    assert out.read_bytes() == before


def test_by_content_a_renamed_picture_is_not_done_again(vit: Vit, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(4):
        noise(i).save(tmp_path / "in" / f"{i}.png")
    run = ["classify", tmp_path / "in", "--model", tiny, "--by-content", "-o", tmp_path / "out.jsonl"]
    assert vit(*run).returncode == 0
    (tmp_path / "in" / "0.png").rename(tmp_path / "in" / "renamed.png")
    noise(9).save(tmp_path / "in" / "new.png")
    done = vit(*run, "--resume")
    assert "all classified; 4 were done before" in done.stderr


@pytest.mark.parametrize("settings", [(), ("--engine", "numpy"), ("--dtype", "bfloat16"), ("--batch", "3")], ids=str)
def test_nothing_about_a_run_but_its_settings_decides_a_digit(
    vit: Vit, tiny: Path, folder: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    pictures = [folder / f"{i}.png" for i in range(COUNT) if i % 10]

    def classify(name: str, some: list[Path], *options: object) -> dict[str, bytes]:
        file = tmp_path / name
        vit("classify", *some, "--model", tiny, "-o", file, *settings, *options).check_returncode()
        return {json.loads(line)["path"]: line for line in file.read_bytes().splitlines()}

    whole = classify("whole.jsonl", pictures)
    assert len(whole) == len(pictures)
    classify("parts.jsonl", pictures[7:9])
    classify("parts.jsonl", pictures[3:45][::-1], "--resume", "--workers", 3)
    assert classify("parts.jsonl", pictures[::-1], "--resume", "--workers", 1) == whole


def test_whatever_decides_a_score_or_its_label_is_compared(vit: Vit, tiny: Path, folder: Path, tmp_path: Path) -> None:
    model, names = tmp_path / "model", tmp_path / "names.txt"
    shutil.copytree(tiny, model)
    names.write_text("".join(f"breed {i}\n" for i in range(10)))
    config = json.loads((model / "config.json").read_text())
    run = ["classify", folder / "1.png", "--model", model, "--engine", "numpy", "-q", "-o", tmp_path / "out.jsonl"]
    vit(*run).check_returncode()
    before = (tmp_path / "out.jsonl").read_bytes()
    for what, more, changes in (
        ("labels", ("--labels", names), {}),
        ("labels", (), {"id2label": {str(i): f"edited {i}" for i in range(10)}}),
        ("config.norm_eps", (), {"layer_norm_eps": 0.05}),
        ("config.gelu", (), {"hidden_act": "gelu_pytorch_tanh"}),
        ("config.heads", ("--heads", 4), {}),
        ("config.pooling", ("--pooling", "mean"), {}),
        ("config.image_size", ("--image-size", 64), {}),
        ("activation", (), {"problem_type": "multi_label_classification"}),
        ("preprocess", ("--preprocess", "timm"), {}),
        ("decode", ("--decode", "fast"), {}),
    ):
        (model / "config.json").write_text(json.dumps(config | changes))
        done = vit(*run, "--resume", *more)
        assert (done.returncode, f"other settings ({what}" in done.stderr) == (1, True), (what, done.stderr)
        assert (tmp_path / "out.jsonl").read_bytes() == before
    (model / "config.json").write_text(json.dumps(config))
    # how many pictures go through together changes no digit, and a higher limit only answers what was not answered
    assert vit(*run, "--resume", "--batch", 3, "--max-pixels", 10**9).returncode == 0


def test_settings_that_no_run_can_mean_are_refused(vit: Vit, tiny: Path, folder: Path) -> None:
    for option, value in (("--max-pixels", 10**400), ("--threshold", "nan"), ("--threshold", "-inf")):
        done = vit("classify", folder / "1.png", "--model", tiny, option, value)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr


def test_no_more_columns_than_classes(vit: Vit, tiny: Path, folder: Path) -> None:
    done = vit("classify", folder / "1.png", "--model", tiny, "-f", "csv", "-k", 10**7)
    header, row = done.stdout.splitlines()
    assert header.count("label_") == 10
    assert row.count(",") == header.count(",")


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet", "sqlite"])
def test_nothing_visible_is_left_beside_a_finished_output(
    vit: Vit, tiny: Path, picture: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / "results" / f"out.{ending}"
    out.parent.mkdir()
    assert vit("classify", picture, "--model", tiny, "-o", out).returncode == 0
    assert [file.name for file in out.parent.iterdir() if not file.name.startswith(".")] == [out.name]
    assert vit("classify", picture, "--model", tiny, "-o", out, "--resume").returncode == 0


@pytest.mark.parametrize("ending", [".jsonl", ".sqlite"])
def test_a_database_whose_list_of_tables_is_gone_is_damaged_and_not_a_new_one(tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"out{ending}"
    with open_output(out, None, {}) as rows:
        rows.write(Failure("a.png", "corrupt", "It is damaged."))
    journal = out if ending == ".sqlite" else out.with_name(f".{out.name}.vit-journal")
    data = bytearray(journal.read_bytes())
    data[100:4096] = b"\r" + bytes(3995)  # of the first page, behind the header: a table without rows
    journal.write_bytes(data)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(OutputError, match="is damaged, or was changed"):
        open_output(out, None, {}, Options(resume=True))
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
