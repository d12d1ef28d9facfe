"""PPM and PGM whose largest value is neither 255 nor, in grey, 65535: from cameras of 12 bits, or in 16-bit colour.

Pillow scales such values one by one, in Python: half a second for each megabyte. A table does the same at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFile

if TYPE_CHECKING:
    from PIL.Image import DecoderInput

OURS, THEIRS = "vit_ppm", "ppm"  # names of decoders
PIECE = 1 << 20  # bytes read at a time


class Scaled(ImageFile.PyDecoder):
    """Gives the bytes that `PIL.PpmImagePlugin.PpmDecoder` gives."""

    _pulls_fd = True

    def decode(self, buffer: DecoderInput) -> tuple[int, int]:
        assert self.fd is not None
        largest = self.args[-1]
        kind, given = (np.dtype("u1"), 1 << 8) if largest < 256 else (np.dtype(">u2"), 1 << 16)
        shown, most = (np.dtype("<i4"), 65535) if self.mode == "I" else (np.dtype("u1"), 255)
        table = np.minimum(np.rint(np.arange(given) / largest * most), most).astype(shown)
        pixel = kind.itemsize * Image.getmodebands(self.mode)
        rest, found = self.state.xsize * self.state.ysize * pixel, []
        while rest and (piece := self.fd.read(min(rest, PIECE // pixel * pixel))):
            rest -= len(piece)
            found.append(table[np.frombuffer(piece[: len(piece) // pixel * pixel], kind)].tobytes())
        self.set_as_raw(b"".join(found), "I;32" if self.mode == "I" else self.mode)
        return -1, 0


Image.register_decoder(OURS, Scaled)


def quicken(image: Image.Image) -> None:
    """Let an opened PPM be decoded so, where Pillow would scale its values."""
    if isinstance(image, ImageFile.ImageFile) and image.tile and image.tile[0].codec_name == THEIRS:
        image.tile = [image.tile[0]._replace(codec_name=OURS)]
