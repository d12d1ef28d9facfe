"""Learned positions for another number of patches, each family's own way: one vector a place, or biases by difference.

Resizing is separable, so a small matrix [new old] for either axis does it; the matrices repeat what torch's
`interpolate` and scipy's `zoom` compute, without their import.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from einops import einsum, rearrange


@dataclass(frozen=True, slots=True)
class Resize:
    """How a family resizes its grid of positions.

    `antialias` widens the filter when shrinking; `corners` aligns the centres of the corner cells, not their edges.
    "geometric" is of relative positions: see `_geometric`.
    """

    filter: Literal["bilinear", "bicubic", "geometric"]
    antialias: bool = False
    corners: bool = False

    def describe(self) -> str:
        """For people: "bicubic, antialiased"."""
        return self.filter + ", antialiased" * self.antialias + ", corners aligned" * self.corners


def resized(positions: npt.NDArray[np.float32], prefix: int, grid: int, how: Resize) -> npt.NDArray[np.float32]:
    """Positions [prefix + old*old, d] -> [prefix + grid*grid, d]; the first `prefix` rows stay as they are."""
    first, patches = positions[:prefix], positions[prefix:]
    old = math.isqrt(len(patches))
    if old == grid:
        return positions
    matrix = _weights(old, grid, how)
    square = rearrange(patches.astype(np.float64), "(y x) d -> y x d", y=old)
    square = einsum(matrix, matrix, square, "h y, w x, y x d -> h w d")
    return np.concatenate([first, rearrange(square, "h w d -> (h w) d")]).astype(np.float32)


def resized_relative(table: npt.NDArray[np.float32], grid: int, how: Resize) -> npt.NDArray[np.float32]:
    """Biases by difference of places [across*across + others, h] for a grid of another size.

    The others (asking a class token, being asked by it) stay as they are.
    """
    across = math.isqrt(len(table))  # odd: its square with three others is no square
    across -= 1 - across % 2
    between = resized(table[: across**2], 0, 2 * grid - 1, how)
    return np.concatenate([between, table[across**2 :]])


def relative_from_mlp(
    weight1: npt.NDArray[np.float32],
    bias1: npt.NDArray[np.float32],
    weight2: npt.NDArray[np.float32],
    bias2: npt.NDArray[np.float32],
    *,
    grid: int,
    class_token: bool,
) -> npt.NDArray[np.float32]:
    """Biases by difference of places [across*across + others, h], as a small network [o 2], [o], [h o], [h] gives them.

    As timm's RelPosMlp (mode "cr"; after "Swin Transformer V2", Liu et al., 2022): it is asked for the logarithms of
    both differences, and a class token has no bias.
    """
    steps = np.arange(1 - grid, grid, dtype=np.float32)
    logs = np.sign(steps) * np.log1p(np.abs(steps))
    differences = rearrange(np.stack(np.meshgrid(logs, logs, indexing="ij")), "yx h w -> (h w) yx")
    hidden = np.maximum(differences @ weight1.T + bias1, 0)
    return np.pad(hidden @ weight2.T + bias2, [(0, 3 * class_token), (0, 0)])


def _weights(old: int, new: int, how: Resize) -> npt.NDArray[np.float64]:
    """The matrix [new old] that resizes one axis."""
    if how.filter == "geometric":
        return _geometric(old, new)
    if how.corners:
        centres = np.linspace(0, old - 1, new) if new > 1 else np.zeros(1)
    else:
        centres = (np.arange(new) + 0.5) * old / new - 0.5
    stretch = max(old / new, 1.0) if how.antialias else 1.0
    # Keys' parameter: torch takes -0.5 with antialiasing, as Pillow does, and -0.75 without, as OpenCV does
    reach, sharpness = (1, 0.0) if how.filter == "bilinear" else (2, -0.5 if how.antialias else -0.75)
    taps = np.arange(-math.ceil(reach * stretch) - 1, math.ceil(reach * stretch) + 3)
    cells = np.floor(centres)[:, None].astype(int) + taps  # new taps
    away = np.abs(centres[:, None] - cells) / stretch
    weights = np.maximum(1 - away, 0) if how.filter == "bilinear" else _cubic(away, sharpness)
    if how.antialias:
        weights = np.where((cells >= 0) & (cells < old), weights, 0)  # cells outside are left out; without, repeated
    weights = weights / weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new)[:, None], cells.clip(0, old - 1)), weights)
    return matrix


def _geometric(old: int, new: int) -> npt.NDArray[np.float64]:
    """The matrix that stretches differences -old//2 ... old//2 to new//2, by steps that grow with the distance.

    So near ones stay what they were (microsoft/unilm, beit/run_class_finetuning.py). Between them it is linear, as timm
    has it (`resize_rel_pos_bias_table`); the original takes a cubic spline.
    """
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio ** (old // 2)) / (1 - ratio) > new // 2:
            high = ratio
        else:
            low = ratio
    away = np.cumsum([ratio**i for i in range(old // 2)])
    known = np.concatenate([-away[::-1], [0], away])
    wanted = np.arange(new) - new // 2
    return np.stack([np.interp(wanted, known, one) for one in np.eye(old)], axis=1)


def _cubic(x: npt.NDArray[np.float64], a: float) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel at distances x >= 0."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))
