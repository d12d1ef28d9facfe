"""Raw photographs, developed by LibRaw (`rawpy`, the extra `raw`): never the thumbnail that stands in them.

Full size, with the camera's white balance, in sRGB, turned upright, and brightened as dcraw does by default, until a
hundredth of the picture is white. Colours between those that a sensor saw are interpolated linearly: what finer ways
gain is smaller than a pixel, which no network sees.
"""

from __future__ import annotations

from typing import Any

import rawpy
from PIL import Image, ImageFile

from vitcli.errors import PictureError
from vitcli.pictures import headers, tiff
from vitcli.pictures.bounded import Sized


def opened(file: Sized) -> tuple[Image.Image, list[str]]:
    """The photograph, not yet developed, and notes on which of several it is: none.

    Raises PictureError for one that ends too early, or that LibRaw does not know.
    """
    return Raw(file, ""), []


class Raw(ImageFile.ImageFile):
    """A raw photograph, which is developed when its pixels are asked for."""

    format = "RAW"
    notes: tuple[str, ...] = ("raw developed",)

    def _open(self) -> None:
        file: Any = self.fp
        tiff_like = file.read(4) in (b"II*\0", b"MM\0*")  # others may give no places, or others than in a TIFF
        # before LibRaw sees it, which prints to stderr what it misses, and may fill it up
        if (tiff_like and tiff.cut_short(file)) or headers.cut_short(self.format, file):
            raise PictureError("truncated", "The raw photograph ends too early: copy or download it again.")
        file.seek(0)
        try:
            self.raw = rawpy.imread(file)
        except rawpy.LibRawFileUnsupportedError:
            raise PictureError(
                "unsupported", "It is a raw photograph of a kind that LibRaw does not know: convert it to DNG or JPEG."
            ) from None
        sizes = self.raw.sizes
        self._mode = "RGB"
        self._size = (sizes.height, sizes.width) if sizes.flip in (5, 6) else (sizes.width, sizes.height)
        if sizes.flip:
            self.notes = (*self.notes, "rotated")

    def load(self) -> Any:
        """Develop it."""
        if self._im is None:
            with self.raw:
                pixels = self.raw.postprocess(
                    demosaic_algorithm=rawpy.DemosaicAlgorithm.LINEAR, use_camera_wb=True, output_bps=8
                )
            image = Image.fromarray(pixels)
            self._size, self.im = image.size, image.im
        return Image.Image.load(self)
