"""A few pictures on a CPU are done before torch would be imported, and nobody has to ask for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import noise

import vitcli
from vitcli.config import Config
from vitcli.network import backend

B16, TI16 = Config.named("B/16").flops, Config.named("Ti/16").flops

# What a run over a few pictures must not wait for. (pydantic: how typer 0.29 converts values.)
HEAVY = {"torch", "transformers", "huggingface_hub", "safetensors", "pydantic", "pyarrow", "sympy", "numpy.testing"}


def imported(*arguments: object) -> tuple[set[str], str]:
    """The modules that a run of `vit` imports, and its stdout."""
    command = [sys.executable, "-X", "importtime", Path(sys.executable).with_name("vit"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}, done.stdout


@pytest.mark.parametrize("format", ["table", "jsonl", "csv"])
def test_one_picture_on_a_cpu_imports_neither_torch_nor_anything_else_heavy(
    tiny: Path, picture: Path, format: str
) -> None:
    modules, _ = imported("classify", picture, "--model", tiny, "--device", "cpu", "--format", format)
    assert "vitcli.network.numpy_model" in modules
    assert modules.isdisjoint(HEAVY)


def test_a_folder_of_a_dozen_pictures_does_not_import_torch_either(tiny: Path, tmp_path: Path) -> None:
    for seed in range(12):
        noise(seed).save(tmp_path / f"{seed}.png")
    modules, rows = imported("classify", tmp_path, "--model", tiny, "--device", "cpu", "--format", "jsonl")
    assert len(rows.splitlines()) == 12
    assert modules.isdisjoint(HEAVY)


def test_torch_can_be_asked_for_and_gives_the_same_scores(tiny: Path, picture: Path) -> None:
    common = ("classify", picture, "--model", tiny, "--device", "cpu", "--format", "jsonl")
    modules, theirs = imported(*common, "--engine", "torch")
    assert "torch" in modules
    assert "vitcli.network.numpy_model" not in modules
    _, ours = imported(*common, "--engine", "numpy")
    ours, theirs = (json.loads(text)["top"] for text in (ours, theirs))
    assert [label["index"] for label in ours] == [label["index"] for label in theirs]
    assert [label["score"] for label in ours] == pytest.approx([label["score"] for label in theirs], abs=1e-5)


def test_real_weights_give_the_same_scores_with_either_engine(weights: Path, images: Path) -> None:
    photo = next((images / "photos").glob("*.jpg"))
    common = ("classify", photo, "--model", weights, "--device", "cpu", "--format", "jsonl")
    (_, ours), (_, theirs) = (imported(*common, "--engine", engine) for engine in ("auto", "torch"))
    ours, theirs = (json.loads(text)["top"] for text in (ours, theirs))
    assert [label["label"] for label in ours] == [label["label"] for label in theirs]
    assert [label["score"] for label in ours] == pytest.approx([label["score"] for label in theirs], abs=1e-4)


@pytest.fixture
def torch_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "processors", lambda: 2)


@pytest.mark.usefixtures("torch_not_imported", "two_processors")
def test_numpy_does_the_short_jobs_and_torch_the_long_ones() -> None:
    def choice(pictures: int | None, flops: int) -> str:
        return backend.choose_engine("auto", "cpu", "auto", pictures, flops)

    assert choice(1, B16) == choice(8, B16) == "numpy"
    assert choice(200, B16) == choice(None, B16) == choice(None, TI16) == "torch"
    assert choice(200, TI16) == "numpy"  # a smaller network takes longer to make up for torch's import
    assert choice(10_000, TI16) == "torch"


@pytest.mark.usefixtures("two_processors")
def test_torch_serves_sooner_where_it_is_imported_already(monkeypatch: pytest.MonkeyPatch) -> None:
    def most(flops: int) -> int:
        return max(n for n in range(500) if backend.choose_engine("auto", "cpu", "auto", n, flops) == "numpy")

    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    with_torch = most(B16)
    monkeypatch.delitem(sys.modules, "torch")
    assert with_torch < most(B16) / 2


@pytest.mark.usefixtures("torch_not_imported")
@pytest.mark.parametrize(
    ("engine", "device", "dtype", "expected"),
    [
        ("torch", "cpu", "float32", "torch"),
        ("numpy", "cpu", "float32", "numpy"),
        ("numpy", "auto", "auto", "numpy"),
        ("auto", "cuda", "auto", "torch"),
        ("auto", "cuda:1", "float32", "torch"),
        ("auto", "mps", "auto", "torch"),
        ("auto", "cpu", "bfloat16", "torch"),
        ("auto", "cpu", "float32", "numpy"),
    ],
)
def test_what_was_asked_for_decides_before_any_estimate(engine: str, device: str, dtype: str, expected: str) -> None:
    assert backend.choose_engine(engine, device, dtype, 1, B16) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("device", "dtype"), [("cuda", "auto"), ("mps", "float32"), ("cpu", "bfloat16")])
def test_numpy_where_it_cannot_serve_is_a_usage_error(device: str, dtype: str) -> None:
    with pytest.raises(vitcli.VitError, match="float32 on the CPU only"):
        backend.choose_engine("numpy", device, dtype, 1, B16)


@pytest.mark.usefixtures("torch_not_imported")
@pytest.mark.parametrize(("accelerator", "expected"), [(True, "torch"), (False, "numpy")])
def test_an_accelerator_goes_before_numpy_unless_the_cpu_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, accelerator: bool, expected: str
) -> None:
    monkeypatch.setattr(backend, "accelerator_likely", lambda: accelerator)
    assert backend.choose_engine("auto", "auto", "auto", 1, B16) == expected
    assert backend.choose_engine("auto", "cpu", "auto", 1, B16) == "numpy"


def test_looking_for_an_accelerator_does_not_import_torch() -> None:
    code = (
        "import sys; from vitcli.network import hardware; hardware.accelerator_likely(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout == "False\n"
