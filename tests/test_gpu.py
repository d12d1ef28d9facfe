"""What a CUDA card must keep, and what of its code can be checked without one.

Tests marked gpu need the card: streams, pinned memory, the flash kernel and torch.compile are not imitated here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vitcli import checkpoints
from vitcli.network import backend
from vitcli.network.accelerator import OnCard, fuse
from vitcli.network.model import ViT

NO_CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card here")


def on_a_card(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.gpu(NO_CARD(test))


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def plain(tiny: Path) -> ViT:
    checkpoint = checkpoints.load(tiny)
    return ViT.from_tensors(checkpoint.config, checkpoint.tensors)


def expected(tiny: Path, plain: ViT, given: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        logits: np.ndarray = plain(torch.from_numpy(checkpoints.load(tiny).preprocess.normalised(given))).numpy()
    return logits


def test_one_product_for_query_key_and_value_gives_the_same(plain: ViT) -> None:
    fused = copy.deepcopy(plain)
    fuse(fused)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(fused(x), plain(x), atol=1e-4, rtol=1e-4)


def test_pixels_normalised_beside_the_network_are_the_same(tiny: Path, plain: ViT) -> None:
    run = OnCard(copy.deepcopy(plain), checkpoints.load(tiny).preprocess, compiled=False)
    given = pixels(3)
    np.testing.assert_allclose(run.submit(given)(), expected(tiny, plain, given), atol=1e-4)


@on_a_card
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("float16", 0.05), ("bfloat16", 0.3)])
@pytest.mark.parametrize("compile", ["off", "on"])
def test_a_card_gives_the_cpu_s_logits(
    tiny: Path, plain: ViT, dtype: str, tolerance: float, compile: backend.Compile
) -> None:
    network = backend.load(
        checkpoints.load(tiny), engine="torch", device="cuda", dtype=dtype, pictures=None, compile=compile
    )
    given = pixels(16)
    np.testing.assert_allclose(network.logits(given), expected(tiny, plain, given), atol=tolerance)


@on_a_card
def test_batches_in_flight_do_not_overwrite_each_other(tiny: Path, plain: ViT) -> None:
    network = backend.load(checkpoints.load(tiny), engine="torch", device="cuda", dtype="float32", pictures=100)
    given = pixels(60)
    waits = [network.submit(given[i : i + 7]) for i in range(0, 60, 7)]
    logits = np.concatenate([wait() for wait in waits])
    np.testing.assert_allclose(logits, expected(tiny, plain, given), atol=1e-3)


@on_a_card
def test_the_last_short_batch_of_a_compiled_network_is_padded(tiny: Path, plain: ViT) -> None:
    network = backend.load(
        checkpoints.load(tiny), engine="torch", device="cuda", dtype="float32", pictures=None, compile="on"
    )
    given = pixels(11)
    logits = np.concatenate([network.logits(given[:8]), network.logits(given[8:])])
    assert logits.shape[0] == 11
    np.testing.assert_allclose(logits, expected(tiny, plain, given), atol=1e-3)
