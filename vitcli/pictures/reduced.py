"""Pictures that were decoded at 1/2, 1/4 or 1/8 of their size, resized as the whole ones would be.

Each pixel of such a picture is the mean of a square of the whole one's. Resizing it directly would blur twice. Instead
the whole picture is estimated from it: of all pictures with these means the smoothest is taken, and that one is resized
as Pillow would. On photographs of 4000 x 3000 pixels decoded at 1/8, the network's input then moves by 0.35
of 255 in the mean instead of 0.56.

Along a row, the sum of all pixels so far is known wherever two squares meet. The smoothest picture is the slope of the
cubic spline through these sums, a "histospline" (Boneva, Kendall and Stefanov, 1971). It is linear in the means, and so
is resizing: one matrix [new small] does both to a row, another to a column. What is ten knots away
hardly changes a spline, so matrices are made, and multiplied by, in narrow bands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

Array: TypeAlias = npt.NDArray[np.float64]
Box: TypeAlias = tuple[float, float, float, float]

SPAN = 64  # small pixels that a band moves on by
TAIL = 8  # squares on either side of what a band covers: the spline's memory of anything further is below 1e-4


class Reduced(NamedTuple):
    """How a picture was decoded: at 1/`scale`, and which part of it the picture fills (left, top, right, bottom).

    At 1/4, a width of 4001 becomes 1000.25: there are 1001 columns, the last one mostly made of padding.
    """

    scale: int
    box: Box

    @property
    def whole(self) -> tuple[int, int]:
        """(width, height) of the whole picture."""
        left, top, right, bottom = self.box
        return round((right - left) * self.scale), round((bottom - top) * self.scale)


class Axis(NamedTuple):
    """One side of a picture: `pixels` of the whole one become `new`, of which those from `first` to `last` are wanted.

    The small one has `small` pixels and begins, where it was turned upright, with a part of a square: at `start`.
    """

    pixels: int
    new: int
    first: int
    last: int
    scale: int
    start: float
    small: int


class Band(NamedTuple):
    """The next few new pixels: weights [new small] @ small[out_of]."""

    out_of: slice
    weights: npt.NDArray[np.float32]


def resize(
    picture: Image.Image, reduced: Reduced, new: tuple[int, int], part: tuple[int, int, int, int], filter: str
) -> npt.NDArray[np.uint8]:
    """A reduced RGB picture -> the `part` (left, top, right, bottom) of the whole one resized to `new`: uint8 [h w 3].

    `new` is (width, height), never larger than the picture; `filter` is a name of Pillow's, one of KERNELS.
    """
    (width, height), scale = reduced.whole, reduced.scale
    across = Axis(width, new[0], part[0], part[2], scale, reduced.box[0], picture.width)
    down = Axis(height, new[1], part[1], part[3], scale, reduced.box[1], picture.height)
    x = np.asarray(picture).transpose(2, 0, 1).astype(np.float32, order="C")  # c h w
    x = np.concatenate([x[:, :, band.out_of] @ band.weights.T for band in bands(across, filter)], axis=2)
    x = np.concatenate([band.weights @ x[:, band.out_of] for band in bands(down, filter)], axis=1)
    return np.ascontiguousarray(np.rint(x).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


@lru_cache(maxsize=64)
def bands(axis: Axis, filter: str) -> tuple[Band, ...]:
    """The matrix [new small] of an axis, in bands."""
    step = max(1, SPAN * axis.scale * axis.new // axis.pixels)
    starts = range(axis.first, axis.last, step)
    return tuple(band(axis, filter, first, min(first + step, axis.last)) for first in starts)


def band(axis: Axis, filter: str, first: int, last: int) -> Band:
    """The rows of an axis's matrix from `first` to `last`."""
    # Pillow's weights of the whole picture's pixels, new pixels down and the pixels that each one reads across
    support, kernel = KERNELS[filter]
    stretch = axis.pixels / axis.new
    centre = (np.arange(first, last)[:, None] + 0.5) * stretch
    begin = np.maximum(np.floor(centre - support * stretch + 0.5), 0)
    end = np.minimum(np.floor(centre + support * stretch + 0.5), axis.pixels)
    pixel = begin + np.arange((end - begin).max())
    weight = kernel((pixel + 0.5 - centre) / stretch) * (pixel < end)
    weight /= weight.sum(axis=1, keepdims=True)

    # A pixel is the sum up to its far edge less the sum up to its near one, in small pixels `scale` times as wide.
    edge = axis.start + np.append(pixel, pixel[:, -1:] + 1, axis=1) / axis.scale
    of_edge = -axis.scale * np.diff(weight, axis=1, prepend=0, append=0)

    # The sum at an edge, by the sums and the second derivatives at the two knots around it.
    low = max(0, int(edge.min()) - TAIL)
    high = min(axis.small, int(edge[of_edge != 0].max()) + 1 + TAIL)
    knot = np.clip(np.floor(edge), low, high - 1).astype(int)
    beyond = edge - knot
    row = np.arange(last - first)[:, None]
    of_sum, of_bend = (np.zeros((last - first, high - low + 1)) for _ in range(2))
    for at, near in ((knot, 1 - beyond), (knot + 1, beyond)):
        np.add.at(of_sum, (row, at - low), of_edge * near)
        np.add.at(of_bend, (row, at - low), of_edge * (near**3 - near) / 6)

    # Sums and second derivatives, by the small pixels: the former add them up, the latter come of their differences.
    of_pixel = of_sum[:, :0:-1].cumsum(axis=1)[:, ::-1].copy()
    of_step = of_bend[:, 1:-1] @ bends(high - low - 1)
    of_pixel[:, 1:] += of_step
    of_pixel[:, :-1] -= of_step

    # What is felt far away fades into denormal numbers, which make a product twenty times slower.
    of_pixel[abs(of_pixel) < 1e-9] = 0
    return Band(slice(low, high), of_pixel.astype(np.float32))


@lru_cache(maxsize=16)
def bends(knots: int) -> Array:
    """A natural spline's second derivatives at its inner knots, by the steps between pixels there: [knots knots].

    They solve bend[i-1] + 4 bend[i] + bend[i+1] = 6 (pixel[i] - pixel[i-1]).
    """
    equations = 4 * np.eye(knots) + np.eye(knots, k=1) + np.eye(knots, k=-1)
    return np.asarray(6 * np.linalg.inv(equations), np.float64)


def _box(x: Array) -> Array:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _bilinear(x: Array) -> Array:
    return np.clip(1 - abs(x), 0, None)


def _hamming(x: Array) -> Array:
    return np.where(abs(x) < 1, np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)), 0)


def _bicubic(x: Array) -> Array:
    x = abs(x)
    return np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((2.5 - 0.5 * x) * x - 4) * x + 2, 0))


def _lanczos(x: Array) -> Array:
    return np.where(abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


# Pillow's filters (`Resample.c`): how far each reaches, and its weights. "nearest" reads single pixels, no means.
KERNELS: dict[str, tuple[float, Callable[[Array], Array]]] = {
    "box": (0.5, _box),
    "bilinear": (1, _bilinear),
    "hamming": (1, _hamming),
    "bicubic": (2, _bicubic),
    "lanczos": (3, _lanczos),
}
