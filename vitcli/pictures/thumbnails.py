"""Small JPEGs of pictures, of what the network saw: nothing is decoded again for them."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

Box = tuple[float, float, float, float]  # left, top, right, bottom

SIDE = 160  # pixels of the longer side


def small(pixels: npt.NDArray[np.uint8], seen: Box, side: int = SIDE) -> Image.Image:
    """uint8 [s s 3], and which part of the picture that is (`Preprocess.seen`) -> that part in its proportions."""
    left, top, right, bottom = seen
    width, height = right - left, bottom - top
    scale = side / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def jpeg(picture: Image.Image) -> bytes:
    """RGB picture -> JPEG, with nothing of its metadata."""
    file = io.BytesIO()
    picture.info.clear()
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()
