"""Maps over the patches, drawn on the picture that they are of.

    map [g g] -> the part of the picture that the network saw -> colours or contours, at the picture's own size

The colours are inferno's (matplotlib, CC0): evenly graded to the eye, also in grey and for the colour-blind, as jet and
turbo are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

Style = Literal["heat", "contours"]
Map = npt.NDArray[np.floating]
Box = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INFERNO = (
    "000004 040312 0b0724 150b37 210c4a 2f0a5b 3d0965 4a0c6b 57106e 64156e 71196e 7d1e6d 8a226a 972766 a32c61 b0315b "
    "bc3754 c63d4d d04545 da4e3c e35933 eb6429 f1711f f67e14 f98c0a fb9b06 fcaa0f fbba1f f9c932 f5d949 f2e865 f3f586 "
    "fcffa4"
)  # every eighth of its 256 colours
OPACITY = 0.55  # of the colours over the picture, in grey
UNSEEN = 0.35  # brightness of what the network did not see
LEVELS = (0.25, 0.5, 0.75)  # of the map's range: where contours run
CONTOURS_AT = 1600  # pixels of the longer side at which contours are drawn, and then enlarged
NARROWEST = 360  # pixels: a caption needs them, whatever the picture's width


@dataclass(frozen=True, slots=True)
class Panel:
    """One map of a picture, and the lines that stand below it."""

    map: Map
    lines: Sequence[str]


def inferno() -> npt.NDArray[np.uint8]:
    """The colours [256 3], dark to light."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in INFERNO.split()], np.float64)
    at = np.linspace(0, 255, len(anchors))
    colours = [np.interp(np.arange(256), at, channel) for channel in anchors.T]
    return np.stack(colours, axis=1).round().astype(np.uint8)


def levels(relevance: Map) -> Image.Image:
    """A map [g g] -> its range from 0 to 255; a map without any range is 0 everywhere."""
    low, high = float(relevance.min()), float(relevance.max())
    span = high - low
    scaled = (relevance - low) * (255 / span) if span > 0 else np.zeros_like(relevance)
    return Image.fromarray(scaled.round().astype(np.uint8))


def draw(picture: Image.Image, seen: Box, relevance: Map, style: Style = "heat") -> Image.Image:
    """An upright RGB picture -> the same size, with the map over the part of it that was `seen`."""
    left, top, right, bottom = (round(edge) for edge in seen)
    inside = (max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height))
    part = picture.crop(inside)
    # one step from the patches to the pixels, so that of a crop that reaches past the edges each patch keeps its place
    sx, sy = relevance.shape[1] / (right - left), relevance.shape[0] / (bottom - top)
    x0, y0, x1, y1 = inside
    of_map = ((x0 - left) * sx, (y0 - top) * sy, (x1 - left) * sx, (y1 - top) * sy)
    drawn = picture.point([round(value * UNSEEN) for value in range(256)] * 3)
    if style == "heat":
        graded = enlarged(levels(relevance), part.size, of_map)
        graded.putpalette(inferno().tobytes())
        part = Image.blend(part.convert("L").convert("RGB"), graded.convert("RGB"), OPACITY)
    else:
        contour(part, levels(relevance), of_map)
    drawn.paste(part, inside[:2])
    return drawn


def enlarged(graded: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    """A box of a map of levels, in (width, height) pixels."""
    return graded.resize(size, Image.Resampling.BILINEAR, box)


def contour(picture: Image.Image, graded: Image.Image, box: Box) -> None:
    """Draw lines along LEVELS into a picture, the innermost the lightest, each with a dark rim."""
    scale = min(1, CONTOURS_AT / max(picture.size))
    small = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    field = enlarged(graded, small, box)
    colours = inferno()
    width = max(1, max(small) // 300)
    for level in LEVELS:
        above = field.point([255 * (value >= 255 * level) for value in range(256)])
        line = ImageChops.difference(above, above.filter(ImageFilter.MinFilter(3)))
        for spread, colour in ((2 * width + 3, (0, 0, 0)), (2 * width - 1, tuple(colours[round(96 + 159 * level)]))):
            mask = line.filter(ImageFilter.MaxFilter(spread)).resize(picture.size, Image.Resampling.BILINEAR)
            picture.paste(colour, mask=mask)


def page(picture: Image.Image, seen: Box, panels: Sequence[Panel], style: Style = "heat") -> Image.Image:
    """The picture with each map, side by side, a caption below each and the scale of the colours in it."""
    width = max(picture.width, NARROWEST)
    size = min(max(width // 36, 13), 72)
    font = ImageFont.load_default(size)
    line, margin = round(size * 1.4), size // 2
    height = picture.height + 2 * margin + line * (1 + max(len(panel.lines) for panel in panels))
    whole = Image.new("RGB", (width * len(panels) + margin * (len(panels) - 1), height), "white")
    for number, panel in enumerate(panels):
        left = number * (width + margin)
        whole.paste(draw(picture, seen, panel.map, style), (left + (width - picture.width) // 2, 0))
        pen = ImageDraw.Draw(whole)
        top = picture.height + margin
        for text in panel.lines:
            pen.text((left + margin, top), fitting(text, font, width - 2 * margin), "black", font)
            top += line
        scale_bar(whole, (left + margin, top), (width - 2 * margin, line), font)
    return whole


def scale_bar(whole: Image.Image, at: tuple[int, int], room: tuple[int, int], font: Font) -> None:
    """The colours of a map, from less to more."""
    pen = ImageDraw.Draw(whole)
    begin, end = pen.textlength("less ", font), pen.textlength(" more", font)
    length = max(1, round(min(room[0] - begin - end, room[0] / 3)))
    pen.text(at, "less", "black", font)
    pen.text((at[0] + begin + length + pen.textlength(" ", font), at[1]), "more", "black", font)
    ramp = Image.fromarray(inferno()[None]).resize((length, max(2, room[1] // 2)), Image.Resampling.BILINEAR)
    whole.paste(ramp, (round(at[0] + begin), at[1] + room[1] // 6))


def fitting(text: str, font: Font, width: float) -> str:
    """As much of a text as fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
