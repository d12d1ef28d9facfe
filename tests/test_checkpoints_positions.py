"""Resizing positions is what torch's `interpolate` computes, in every way a family calls it, up and down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import weights_of
from vitcli import checkpoints
from vitcli.checkpoints import LAYOUTS, Resize, resized

WAYS = sorted({layout.resize for layout in LAYOUTS}, key=str)


def by_torch(positions: np.ndarray, prefix: int, old: int, new: int, how: Resize) -> np.ndarray:
    """The same in torch's words."""
    grid = torch.from_numpy(positions[prefix:]).reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(new, new), mode=how.filter, antialias=how.antialias,
                         align_corners=True if how.corners else None if how.antialias else False)  # fmt: skip
    return np.concatenate([positions[:prefix], grid.permute(0, 2, 3, 1).reshape(new * new, -1).numpy()])


@pytest.mark.parametrize("how", WAYS, ids=Resize.describe)
@pytest.mark.parametrize(("old", "new"), [(14, 24), (24, 14), (7, 12), (14, 3), (2, 9), (14, 15), (14, 56)])
def test_each_familys_way_is_torchs_own(how: Resize, old: int, new: int) -> None:
    positions = np.random.default_rng(0).normal(size=(2 + old * old, 8)).astype(np.float32)
    ours = resized(positions, 2, new, how)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, by_torch(positions, 2, old, new, how), atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(how=st.sampled_from(WAYS), old=st.integers(2, 20), new=st.integers(1, 40), prefix=st.integers(0, 5))
def test_any_grid_is_resized_as_torch_does(how: Resize, old: int, new: int, prefix: int) -> None:
    positions = np.random.default_rng(old).normal(size=(prefix + old * old, 3)).astype(np.float32)
    expected = by_torch(positions, prefix, old, new, how)
    np.testing.assert_allclose(resized(positions, prefix, new, how), expected, atol=1e-5, rtol=0)


def test_the_ways_differ_by_far_more_than_the_tolerance() -> None:
    positions = np.random.default_rng(0).normal(size=(196, 8)).astype(np.float32)
    results = [resized(positions, 0, 10, how) for how in WAYS]
    for i, one in enumerate(results):
        assert all(np.abs(one - other).max() > 1e-2 for other in results[i + 1 :])
    assert len(results) == 4


def test_the_same_grid_is_left_alone() -> None:
    positions = np.ones((17, 3), np.float32)
    assert resized(positions, 1, 4, Resize("bicubic")) is positions


def test_a_family_without_a_way_of_its_own_says_whose_was_taken(oracles: Path) -> None:
    path = weights_of(oracles / "vit-pytorch" / "cls")
    assert any("as transformers does" in warning for warning in checkpoints.load(path, image_size=64).warnings)
    assert not any("as transformers does" in warning for warning in checkpoints.load(path).warnings)
