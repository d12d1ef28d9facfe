"""A picture in a terminal: by the terminal's own means where textual-image knows them, else of half blocks.

Kitty's graphics protocol and sixel (iTerm2 and many others speak that) come with the extra `show`. A half block has two
colours, so a cell shows two pixels; any terminal with colours can do it.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

UPPER_HALF = "▀"


def sketch(picture: Image.Image, columns: int, lines: int) -> RenderableType:
    """An RGB picture as large as fits in so many cells, each twice as high as wide."""
    scale = min(columns / picture.width, 2 * lines / picture.height)
    width, height = max(1, round(picture.width * scale)), max(2, round(picture.height * scale / 2) * 2)
    graphics = protocol()
    if graphics is not None:
        return graphics(picture, width=width, height=height // 2)  # type: ignore[no-any-return]
    return HalfBlocks(picture.resize((width, height), Image.Resampling.BOX))


@cache
def protocol() -> Any:
    """textual-image's renderable for this terminal; None where it, or the terminal, has nothing better than blocks.

    It asks the terminal, whose answer comes on stdin: what is piped in there must not be taken for one.
    """
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    try:
        from textual_image import renderable
    except Exception:  # not installed, or a terminal that it cannot talk to
        return None
    found: Any = renderable.Image
    return found if found in (renderable.SixelImage, renderable.TGPImage) else None


class HalfBlocks:
    """A picture with a cell for each pixel of a row and every two of a column."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        from rich.color import Color
        from rich.segment import Segment
        from rich.style import Style

        pixels: Any = self.picture.load()
        for y in range(0, self.picture.height - 1, 2):
            for x in range(self.picture.width):
                upper, lower = pixels[x, y], pixels[x, y + 1]
                yield Segment(UPPER_HALF, Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
            yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Any:
        from rich.measure import Measurement

        return Measurement(self.picture.width, self.picture.width)
