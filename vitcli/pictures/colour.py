"""Any mode of picture -> 8-bit RGB: alpha over white, deep grey scaled and never clipped, everything else converted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitcli.errors import PictureError

UPRIGHT = {  # what turns a picture upright, by its EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

BAND = 2**20  # pixels that are converted at a time, where that needs memory of its own


def rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Any mode -> RGB."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _from_deep_grey(image, notes)
    if image.has_transparency_data:
        return _on_white(image, notes)
    if image.mode == "RGB":
        return image
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(f"{image.mode} converted")
    if image.mode == "LAB":
        from PIL import ImageCms  # not in every build, and Pillow converts LAB no other way

        to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        converted = ImageCms.applyTransform(image, to_srgb)
        assert converted is not None
        return converted
    return image.convert("RGB")


def _on_white(image: Image.Image, notes: list[str]) -> Image.Image:
    """A picture with alpha -> RGB, laid over white."""
    white = Image.new("RGB", image.size, "white")
    seen_through = False
    width, height = image.size
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        part = image if rows >= height else image.crop((0, top, width, min(height, top + rows)))
        rgba = part.convert("RGBA")
        alpha = rgba.getchannel("A")
        opaque = alpha.getextrema() == (255, 255)
        seen_through = seen_through or not opaque
        white.paste(rgba, (0, top), None if opaque else alpha)
    if seen_through:
        notes.append("alpha on white")
    return white


def _from_deep_grey(image: Image.Image, notes: list[str]) -> Image.Image:
    """16-bit, 32-bit or float grey -> RGB, from black at the bottom of its range to white at the top.

    The range is the file's own where the format fixes it (16-bit PNG, TIFF and PGM: 0 to 65535; 12-bit TIFF: 0 to
    4095), so that a dark picture stays dark. 32-bit integers and floats have no agreed range: theirs is the smallest
    of 0 to 1 (floats only), 0 to 255 and 0 to 65535 that holds every pixel, else from the darkest pixel to the
    brightest. Raises PictureError where a pixel is not finite.
    """
    values = np.asarray(image)
    sixteen = image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I")
    tags = getattr(image, "tag_v2", {})
    if sixteen:
        grey = scaled(values, 0.0, 4095.0 if tags.get(258) == (12,) else 65535.0)  # 258: BitsPerSample
    else:
        grey = scaled(values, *bounds(values, image.mode == "F"))
    if tags.get(262) == 0:  # PhotometricInterpretation: zero is white, which Pillow heeds up to 8 bits
        grey = 255 - grey
    clear = image.info.get("transparency")
    if isinstance(clear, int) and (values == clear).any():  # a PNG may name one grey as transparent
        grey[values == clear] = 255
        notes.append("alpha on white")
    notes.append("16-bit scaled" if sixteen else "float scaled" if image.mode == "F" else "32-bit scaled")
    return Image.fromarray(grey).convert("RGB")


def bounds(values: npt.NDArray[Any], floats: bool) -> tuple[float, float]:
    """What is black and white among values whose format fixes neither. Raises PictureError for NaN and infinity."""
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise PictureError("not_finite", "It has pixels that are not numbers (NaN or infinity).")
    tops = (1.0, 255.0, 65535.0) if floats else (255.0, 65535.0)
    return next(((0.0, top) for top in tops if low >= 0 and high <= top), (low, high))


def scaled(values: npt.NDArray[Any], black: float, white: float) -> npt.NDArray[np.uint8]:
    """Values between black and white, both included -> bytes, in the same shape."""
    result = np.empty(values.shape, np.uint8)
    rows = max(1, BAND // values[0].size)  # float64 takes eight bytes
    for top in range(0, len(values), rows):
        part = (values[top : top + rows].astype(np.float64) - black) * (255 / ((white - black) or 1.0))
        result[top : top + rows] = np.rint(part)
    return result
