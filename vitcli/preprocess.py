"""`Preprocess`: an upright RGB picture -> uint8 [h w c] at the network's size -> normalised float32 [b c h w].

Wrong preprocessing is the endemic ViT bug (mean/std above all), so it is one frozen record that travels with the
checkpoint. Resizing is Pillow's on 8-bit pixels, because that is what the reference (`ViTImageProcessorPil`) does:
resizing in float instead moves logits by 0.03, without antialiasing by 1.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# A picture of 1 x 10,000 pixels resized by its shortest side would be 248 x 2,480,000. Past this many pixels only the
# part that survives the crop is resized; below it the two-step way is kept, because it is the reference's to the bit.
LARGEST_RESIZE = 4096 * 4096


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a picture becomes the network's input. The default is google/vit-base-patch16-224's.

    `resize` is the target of resizing in pixels: of both sides (`fit="squash"`) or of the shortest (`fit="shortest"`);
    a centre crop then takes `size` x `size`. `mean` and `std` are of pixel values in [0, 1].
    """

    size: int = 224
    resize: int = 224
    fit: Literal["squash", "shortest"] = "squash"
    filter: Filter = "bilinear"
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF

    def resized(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """RGB picture of any size -> uint8 [size size 3]."""
        width, height = picture.size
        if self.fit == "squash":
            new_width = new_height = self.resize
            # transformers rounds the offset of the crop down
            left = top = (self.resize - self.size) // 2
        else:
            short = min(width, height)
            # torchvision truncates the long side and rounds the offset of the crop
            new_width, new_height = (int(self.resize * side / short) for side in (width, height))
            left, top = round((new_width - self.size) / 2), round((new_height - self.size) / 2)
        resample = Image.Resampling[self.filter.upper()]
        if new_width * new_height > LARGEST_RESIZE:
            sx, sy = width / new_width, height / new_height
            box = (left * sx, top * sy, min((left + self.size) * sx, width), min((top + self.size) * sy, height))
            return np.asarray(picture.resize((self.size, self.size), resample, box=box))
        if picture.size != (new_width, new_height):
            picture = picture.resize((new_width, new_height), resample)
        if (new_width, new_height) != (self.size, self.size):
            picture = picture.crop((left, top, left + self.size, top + self.size))
        return np.asarray(picture)

    def normalised(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [b h w c] -> float32 [b c h w], contiguous."""
        # 256 values a channel: a look-up is exact, and cheaper than arithmetic on every pixel
        values = np.arange(256, dtype=np.float64)[None, :] / 255
        table = ((values - np.array(self.mean)[:, None]) / np.array(self.std)[:, None]).astype(np.float32)
        return np.stack([table[c][pixels[..., c]] for c in range(pixels.shape[-1])], axis=1)

    def describe(self) -> str:
        """One line for people: "224x224 squash, bilinear, mean .5 .5 .5, std .5 .5 .5"."""
        if self.fit == "squash" and self.resize == self.size:
            shape = f"{self.size}x{self.size} squash"
        else:
            how = "squash to" if self.fit == "squash" else "shortest side to"
            shape = f"{how} {self.resize}, centre crop {self.size}x{self.size}"
        mean, std = (" ".join(f"{v:.4g}".removeprefix("0") for v in values) for values in (self.mean, self.std))
        return f"{shape}, {self.filter}, mean {mean}, std {std}"

    def record(self) -> dict[str, Any]:
        """The settings as JSON-ready values."""
        return {
            "size": self.size,
            "resize": self.resize,
            "fit": self.fit,
            "filter": self.filter,
            "mean": list(self.mean),
            "std": list(self.std),
        }
