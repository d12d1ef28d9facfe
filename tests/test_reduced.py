"""Pictures decoded at 1/2, 1/4 and 1/8, resized: what the whole one resized by Pillow would have given, nearly.

Pictures are [h w 3], one side of one is [n].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitcli.pictures import reduced
from vitcli.pictures.reduced import KERNELS, Axis, Reduced, bands, resize

Array = np.ndarray[Any, Any]


def walk(height: int, width: int) -> Array:
    """A picture that is neither smooth nor noise: what one pixel says of the next is what it says in photographs."""
    random = np.random.default_rng(0)
    sums = random.normal(size=(height, 1, 3)).cumsum(axis=0) + random.normal(size=(1, width, 3)).cumsum(axis=1)
    sums -= sums.mean(axis=(0, 1))
    return (127.5 + 40 * sums / sums.std()).clip(0, 255).round()


def means(whole: Array, scale: int) -> Array:
    """The mean of each square, those at the edges filled up as encoders fill them: with the last pixel."""
    down, across = (-side % scale for side in whole.shape[:2])
    filled = np.pad(whole, ((0, down), (0, across), (0, 0)), mode="edge")
    height, width = (side // scale for side in filled.shape[:2])
    return filled.reshape(height, scale, width, scale, 3).mean(axis=(1, 3)).round()


def picture(array: Array) -> Image.Image:
    return Image.fromarray(array.astype(np.uint8))


def matrix(axis: Axis, filter: str = "bilinear") -> Array:
    """[new small], the bands put together."""
    rows = np.zeros((axis.last - axis.first, axis.small))
    at = 0
    for band in bands(axis, filter):
        rows[at : at + len(band.weights), band.out_of] = band.weights
        at += len(band.weights)
    return rows


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("filter", KERNELS)
@pytest.mark.parametrize("size", [(480, 360), (481, 363)], ids=str)
def test_it_is_nearer_to_the_whole_one_than_resizing_the_small_one(
    size: tuple[int, int], filter: str, scale: int
) -> None:
    width, height = size
    new = (width * 5 // (8 * scale), height * 5 // (8 * scale))
    whole = walk(height, width)
    small = picture(means(whole, scale))
    part = Reduced(scale, (0, 0, width / scale, height / scale))
    resample = Image.Resampling[filter.upper()]
    expected = np.asarray(picture(whole).resize(new, resample)).astype(int)
    naive = np.asarray(small.resize(new, resample, part.box)).astype(int)
    found = resize(small, part, new, (0, 0, *new), filter)
    assert found.shape == (new[1], new[0], 3)
    assert abs(found - expected).mean() < 0.9 * abs(naive - expected).mean()


@pytest.mark.parametrize("filter", KERNELS)
def test_one_colour_stays_that_colour(filter: str) -> None:
    grey = Image.new("RGB", (63, 50), (1, 128, 255))
    found = resize(grey, Reduced(8, (0.5, 0, 63, 49.25)), (30, 28), (0, 0, 30, 28), filter)
    assert (found == (1, 128, 255)).all()


def test_a_part_is_cut_out_of_the_same() -> None:
    small, part = picture(walk(75, 100)), Reduced(4, (0, 0, 99.75, 75))
    whole = resize(small, part, (60, 50), (0, 0, 60, 50), "bicubic")
    cut = resize(small, part, (60, 50), (7, 3, 58, 41), "bicubic")
    assert abs(cut.astype(int) - whole[3:41, 7:58]).max() <= 1


def test_a_picture_that_was_turned_begins_with_a_part_of_a_square() -> None:
    whole = walk(203, 301)
    small = means(whole, 4)
    fill_down, fill_across = small.shape[0] - 203 / 4, small.shape[1] - 301 / 4
    upright = resize(picture(small), Reduced(4, (0, 0, 301 / 4, 203 / 4)), (40, 30), (0, 0, 40, 30), "bilinear")
    box = (fill_across, fill_down, small.shape[1], small.shape[0])
    turned = resize(picture(small[::-1, ::-1]), Reduced(4, box), (40, 30), (0, 0, 40, 30), "bilinear")
    assert abs(turned[::-1, ::-1].astype(int) - upright).max() <= 1


def test_narrow_bands_are_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    axis = Axis(3001, 224, 5, 219, 8, 0.0, 376)
    narrow = matrix(axis)
    bands.cache_clear()
    monkeypatch.setattr(reduced, "SPAN", 10_000)
    monkeypatch.setattr(reduced, "TAIL", 1000)
    np.testing.assert_allclose(narrow, matrix(axis), atol=2e-5)
    bands.cache_clear()


def test_it_takes_the_smoothest_picture_with_these_means() -> None:
    """Found here by brute force: of all rows of `fine` points a square, the one whose steps have the least squares."""
    squares, fine, scale = 12, 50, 8
    small = np.random.default_rng(1).normal(size=squares)
    points = squares * fine
    steps = np.diff(np.eye(points), axis=0)
    averages = np.kron(np.eye(squares), np.full((1, fine), 1 / fine))
    conditions = np.block([[steps.T @ steps, averages.T], [averages, np.zeros((squares, squares))]])
    smoothest = np.linalg.solve(conditions, np.concatenate([np.zeros(points), small]))[:points]
    # its pixels, a scale-th of a square each, by the curve's running sum
    edges = np.interp(
        np.linspace(0, points, squares * scale + 1), np.arange(points + 1), np.append(0, smoothest.cumsum())
    )
    pixels = np.diff(edges) * scale / fine
    # "box" to the same number of pixels leaves them as they are
    axis = Axis(squares * scale, squares * scale, 0, squares * scale, scale, 0.0, squares)
    np.testing.assert_allclose(matrix(axis, "box") @ small, pixels, atol=2e-3)


def test_sizes_never_seen_before_do_not_pile_up() -> None:
    for pixels in range(800, 1000):
        bands(Axis(pixels, 32, 0, 32, 8, 0.0, -(-pixels // 8)), "bilinear")
    assert bands.cache_info().currsize <= 64
