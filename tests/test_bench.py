"""What `vit bench` reports is measured, complete and says what limits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vitcli import bench, checkpoints
from vitcli.bench import contenders, material
from vitcli.bench.contenders import Row, Settings
from vitcli.errors import UsageError
from vitcli.network import backend

ROOT = Path(__file__).parent.parent
Vit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "SQUARE", 64)


@pytest.mark.usefixtures("small_matrices")
def test_every_stage_engine_dtype_and_batch_has_its_row(tiny: Path) -> None:
    settings = Settings(batches=(1, 3), dtypes=("float32", "bfloat16"), device="cpu", repeats=2)
    report = bench.bench(checkpoints.load(tiny), settings)
    found = [(row.stage, row.engine, row.dtype, row.batch) for row in report.rows]
    assert len(set(found)) == len(found)
    forward = {row[1:] for row in found if row[0] == "forward"}
    assert forward == {
        ("vit torch", "float32", 1), ("vit torch", "float32", 3), ("vit numpy", "float32", 1),
        ("vit numpy", "float32", 3), ("vit torch", "bfloat16", 1), ("vit torch", "bfloat16", 3),
    }  # fmt: skip
    assert {row[0] for row in found} == set(contenders.STAGES)
    assert set(report.ceilings) == {"float32", "bfloat16"}
    assert all(row.seconds > 0 for row in report.rows)
    assert report.peak_memory is None or report.peak_memory > 2**20
    assert "limits you" in report.limit


@pytest.mark.usefixtures("small_matrices")
def test_a_report_is_json_and_its_figures_agree_with_each_other(tiny: Path) -> None:
    report = bench.bench(checkpoints.load(tiny), Settings(batches=(2,), dtypes=("float32",), device="cpu", repeats=1))
    record = json.loads(json.dumps(report.record()))
    for row in record["rows"]:
        assert row["milliseconds"] * row["images_per_second"] == pytest.approx(1000)
    (forward,) = [row for row in record["rows"] if (row["stage"], row["engine"]) == ("forward", "vit torch")]
    flops = checkpoints.load(tiny).config.flops
    assert forward["gflops"] == pytest.approx(flops * forward["images_per_second"] / 1e9)
    assert forward["share_of_ceiling"] == pytest.approx(forward["gflops"] / record["ceilings_gflops"]["float32"])


@pytest.mark.usefixtures("small_matrices")
def test_transformers_runs_beside_vit_with_the_same_logits(tiny: Path) -> None:
    settings = Settings(
        batches=(2,), dtypes=("float32",), engines=("torch",), stages=("forward",), device="cpu", repeats=1,
        against=("transformers",),
    )  # fmt: skip
    report = bench.bench(checkpoints.load(tiny), settings)
    ours, theirs = report.rows
    assert (ours.engine, theirs.engine) == ("vit torch", "transformers")
    assert theirs.difference is not None
    assert theirs.difference < 1e-4


@pytest.mark.parametrize(
    "wrong",
    [{"against": ("tensorflow",)}, {"dtypes": ("int8",)}, {"stages": ("dream",)}, {"batches": (0,)}, {"batches": ()}],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(UsageError):
        Settings(**wrong)  # type: ignore[arg-type]


def rows(decode: float, forward: float, *other: Row) -> list[Row]:
    return [
        Row("decode", "vit", None, 1, decode),
        Row("preprocess", "vit", None, 1, 0.001),
        Row("forward", "vit torch", "float32", 8, forward, 10**9, 10**12),
        Row("forward", "someone", "float32", 8, forward / 1000),
        *other,
    ]


def test_the_limit_is_what_takes_the_time() -> None:
    assert bench.limit(rows(0.001, 0.1), "cpu", 2).startswith("The network limits you, 99% of the time")
    assert bench.limit(rows(0.100, 0.01), "cpu", 2).startswith("Decoding limits you")
    assert bench.limit(rows(0.100, 0.01), "cpu", 100).startswith("The network limits you")


def test_a_faster_dtype_is_pointed_out() -> None:
    half = Row("forward", "vit torch", "bfloat16", 8, 0.02)
    assert "`--dtype bfloat16` is 5.0 times as fast" in bench.limit(rows(0.001, 0.1, half), "cpu", 2)


def test_without_all_stages_nothing_is_claimed() -> None:
    assert "limits you, " not in bench.limit(rows(0.1, 0.1)[:2], "cpu", 2)


def test_random_weights_run_in_every_engine() -> None:
    checkpoint = material.random_checkpoint("Ti/32")
    assert {name: tensor.shape for name, tensor in checkpoint.tensors.items()} == checkpoint.config.tensors()
    pixels = material.prepared(checkpoint, material.made_up(2), 3)
    logits = [
        backend.load(checkpoint, engine=engine, device="cpu", dtype="auto", pictures=None).logits(pixels)
        for engine in ("numpy", "torch")
    ]
    assert abs(logits[0] - logits[1]).max() < 1e-4
    assert logits[0].std() > 0
    with pytest.raises(UsageError, match="--size"):
        material.random_checkpoint("XXL/16")


@pytest.mark.slow
def test_the_command_measures_a_model_and_writes_json(vit: Vit, tiny: Path, picture: Path) -> None:
    done = vit(
        "bench", picture, "--model", tiny, "--batch", "1,2", "--dtypes", "float32", "--repeats", 1, "--format", "json"
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["weights"] == str(tiny)
    assert not any("made up" in remark for remark in record["remarks"])
    assert {row["batch"] for row in record["rows"] if row["stage"] == "forward"} == {1, 2}


@pytest.mark.slow
def test_the_command_s_table_fits_eighty_columns(vit: Vit) -> None:
    done = vit("bench", "--size", "Ti/32", "--batch", "1", "--engines", "torch", "--repeats", 1, env={"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    assert "limits you" in done.stdout
    assert "…" not in done.stdout


def test_the_table_goes_between_the_markers_and_nowhere_else(tmp_path: Path) -> None:
    row = Row("forward", "vit torch", "float32", 8, 0.1, 10**9, 10**12).record()
    theirs = Row("forward", "transformers", "float32", 8, 0.2, 10**9, 10**12).record()
    report = {
        "model": "ViT-B/16", "machine": {"processor": "abacus", "cores": 2, "versions": {"torch": "2"}},
        "ceilings_gflops": {"float32": 1000.0}, "peak_memory_bytes": 10**9, "limit": "You do.", "rows": [row, theirs],
    }  # fmt: skip
    (tmp_path / "report.json").write_text(json.dumps(report))
    marked, plain = tmp_path / "marked.md", tmp_path / "plain.md"
    marked.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    plain.write_text("nothing to see\n")
    script = ROOT / "benchmarks" / "write_table.py"
    subprocess.run([sys.executable, script, tmp_path / "report.json", marked, plain], check=True, capture_output=True)
    text = marked.read_text()
    assert text.startswith("before\n<!-- bench -->\n")
    assert text.endswith("\n<!-- /bench -->\nafter\n")
    assert "old" not in text
    assert "2.00x" in text
    assert plain.read_text() == "nothing to see\n"
