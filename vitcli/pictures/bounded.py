"""A picture's file as decoders get it: of which no more can be read than a picture of its size needs.

Decoders believe what a file says of its own parts, and some take a byte at a time, or all there is: the file of a small
picture may have gigabytes of metadata, of comments, or of zeros that take no room on the disk.
"""

from __future__ import annotations

import io

from vitcli.errors import PictureError
from vitcli.pictures.formats import Format

# Bytes that may stand beside the pixels: profiles, thumbnails, the depth of a scene, sound.
BESIDE = 64 << 20

# The same for decoders that take a file whole, with every frame of an animation and every layer of a TIFF.
WHOLE = 512 << 20

SMALL = 256 << 10  # bytes of a file that can be read in any way in no time


def bounded(raw: io.RawIOBase, size: int) -> Sized:
    """A file of `size` bytes, to be given to a decoder."""
    return (Bounded if size > SMALL else Sized)(raw, size)


class Sized(io.BufferedReader):
    """A file that is small enough to be read in any way: counting would take a tenth of the time of a small picture."""

    def __init__(self, raw: io.RawIOBase, size: int) -> None:
        super().__init__(raw)
        self.size, self.left, self.least = size, BESIDE, 1

    def allow(self, form: Format) -> None:
        """What the header of such a picture may take."""
        self.left, self.least = WHOLE if form.whole else BESIDE, form.read

    def allow_pixels(self, form: Format, size: tuple[int, int]) -> None:
        """What its pixels, so many across and down, may take."""
        self.left += size[0] * size[1] * form.stored


class Bounded(Sized):
    """A file of which at most `left` bytes are still read."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > BESIDE:
            rest = max(0, self.size - self.tell())  # what is not there takes no memory
            size = min(size, rest) if size is not None and size >= 0 else rest
        if size > self.left:
            raise self.refusal()
        data = super().read(size)
        self.left -= max(len(data), self.least)  # below nothing, the next read is refused
        return data

    def refusal(self) -> PictureError:
        """Why no more is read."""
        self.left = -1  # decoders that go on after an error find nothing either
        return PictureError(
            "too_large", "It holds far more data than a picture of its size needs: save it again without the rest."
        )
