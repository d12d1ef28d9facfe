"""The engine is chosen well, refused with a reason, and does not move the numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitcli import checkpoints, classifier, cli
from vitcli.errors import DeviceError, OutOfMemory, UsageError
from vitcli.network import backend


def load(folder: Path, **changes: Any) -> backend.Backend:
    settings: dict[str, Any] = {"engine": "torch", "device": "cpu", "dtype": "auto", "pictures": None}
    return backend.load(checkpoints.load(folder), **(settings | changes))


def pixels(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_both_engines_give_the_same_logits(tiny: Path) -> None:
    given = pixels(5)
    np.testing.assert_allclose(load(tiny).logits(given), load(tiny, engine="numpy").logits(given), atol=1e-4)


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_what_is_submitted_is_what_logits_gives(tiny: Path, engine: str) -> None:
    network, given = load(tiny, engine=engine), pixels(4)
    first, second = network.submit(given[:2]), network.submit(given[2:])
    np.testing.assert_allclose(np.concatenate([first(), second()]), network.logits(given), atol=1e-5)


@pytest.mark.parametrize(
    ("pictures", "batch", "expected"), [(None, 1, 1), (1, None, 1), (3, 8, 1), (None, 8, 4), (None, None, 8)]
)
def test_weights_are_laid_out_for_as_many_pictures_as_come_at_once(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, pictures: int | None, batch: int | None, expected: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    network = load(tiny, pictures=pictures, batch=batch)
    assert isinstance(network, backend.TorchBackend)
    assert network._run.together == expected  # type: ignore[union-attr]


def test_the_command_says_how_many_come_at_once(
    tiny: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: dict[str, Any] = {}

    def loaded(_: object, **settings: Any) -> None:
        said.update(settings)
        raise DeviceError("No farther.")

    monkeypatch.setattr(classifier, "load", loaded)
    monkeypatch.setattr(sys, "argv", ["vit", "classify", str(picture), "--model", str(tiny), "--batch", "3"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "No farther." in capsys.readouterr().err
    assert said["batch"] == 3


@pytest.mark.parametrize(("dtype", "agreement"), [("float32", 1.0), ("bfloat16", 0.97)])
def test_real_pictures_keep_their_labels(weights: Path, images: Path, dtype: str, agreement: float) -> None:
    from PIL import Image

    from vitcli.network.model import ViT

    checkpoint = checkpoints.load(weights)
    files = sorted((images / "labelled" / "images").iterdir())[:40]
    given = np.stack([checkpoint.preprocess.resized(Image.open(file).convert("RGB")) for file in files])
    plain = ViT.from_tensors(checkpoint.config, checkpoint.tensors)
    normalised = torch.from_numpy(checkpoint.preprocess.normalised(given))
    with torch.inference_mode():
        expected = torch.cat([plain(part) for part in normalised.split(10)]).numpy()
    network = backend.load(checkpoint, engine="torch", device="cpu", dtype=dtype, pictures=None)
    logits = network.logits(given)
    assert (logits.argmax(1) == expected.argmax(1)).mean() >= agreement
    if dtype == "float32":
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_type_that_would_be_emulated_is_warned_about(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "hardware_has", lambda dtype: dtype == "float32")
    assert load(tiny).warnings == ()
    (sentence,) = load(tiny, dtype="bfloat16").warnings
    assert "bfloat16" in sentence
    assert "emulated" in sentence


def test_memory_that_runs_out_is_one_error_of_ours(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load(tiny)
    assert isinstance(network, backend.TorchBackend)

    def full(_: object, pad_to: int | None = None) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you ...")

    monkeypatch.setattr(network._run, "submit", full)
    with pytest.raises(OutOfMemory, match="batch of 3 pictures"):
        network.logits(pixels(3))


def test_other_errors_of_torch_are_not_dressed_up_as_memory(tiny: Path) -> None:
    with pytest.raises(Exception, match=r"shape|size|divisible") as caught:
        load(tiny).logits(pixels(1, side=40))
    assert not isinstance(caught.value, OutOfMemory)


@pytest.mark.parametrize("settings", [{"device": "cuda"}, {"dtype": "bfloat16"}])
def test_the_numpy_engine_refuses_what_it_cannot_do(tiny: Path, settings: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="float32 on the CPU"):
        load(tiny, engine="numpy", **settings)


@pytest.mark.parametrize(
    ("compile", "device", "pictures", "expected"),
    [
        ("auto", "cuda", None, True),
        ("auto", "cuda:1", 10**6, True),
        ("auto", "cuda", 100, False),
        ("auto", "cpu", None, False),
        ("auto", "mps", None, False),
        ("off", "cuda", None, False),
        ("on", "cuda", 1, True),
    ],
)
def test_only_long_jobs_on_cuda_are_compiled(
    compile: backend.Compile, device: str, pictures: int | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "triton_is_here", lambda: True)
    assert backend.choose_compile(compile, device, pictures) is expected


@pytest.mark.parametrize("engine", ["auto", "numpy", "torch"])
def test_compiling_where_it_gains_nothing_is_refused(tiny: Path, engine: str) -> None:
    with pytest.raises(UsageError, match="CUDA"):
        load(tiny, engine=engine, pictures=1, compile="on")


def test_a_checkpoint_serves_one_network_after_another(tiny: Path) -> None:
    """What the first one let go of is read again, and each small tensor into a place of its own."""
    checkpoint = checkpoints.load(tiny)
    size = checkpoint.config.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    rows = [
        backend.load(checkpoint, engine=engine, device="cpu", dtype="float32", pictures=None).logits(pixels)
        for engine in ("numpy", "torch", "numpy", "torch")
    ]
    assert np.array_equal(rows[0], rows[2])
    assert np.array_equal(rows[1], rows[3])
    assert np.abs(rows[0] - rows[1]).max() < 1e-5
