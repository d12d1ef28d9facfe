"""`Preprocess`: an upright RGB picture -> uint8 [h w c] at the network's size -> normalised float32 [b c h w].

Wrong preprocessing is the endemic ViT bug (mean/std above all), so it is one frozen record that travels with the
checkpoint. Resizing is Pillow's on 8-bit pixels, because that is what the reference (`ViTImageProcessorPil`) does:
resizing in float instead moves logits by 0.03, without antialiasing by 1.6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from vitcli.pictures.reduced import resize

if TYPE_CHECKING:
    from PIL import Image

    from vitcli.pictures.reduced import Reduced

Filter: TypeAlias = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]

FILTERS: tuple[Filter, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers

HALF = (0.5, 0.5, 0.5)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# A picture of 1 x 10,000 pixels resized by its shortest side would be 248 x 2,480,000. Past this many pixels only the
# part that survives the crop is resized; below it the two-step way is kept, because it is the reference's to the bit.
LARGEST_RESIZE = 4096 * 4096


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a picture becomes the network's input. The default is google/vit-base-patch16-224's.

    `resize` is the target of resizing in pixels: of both sides (`fit="squash"`) or of the shortest (`fit="shortest"`);
    a centre crop then takes `size` x `size`, filled up with black where the picture is smaller. When the margins
    cannot be equal, `rounding` says which way the crop leans: "down" as in transformers, "even" (half to even) as in
    torchvision and timm. `mean` and `std` are of pixel values in [0, 1].
    """

    size: int = 224
    resize: int = 224
    fit: Literal["squash", "shortest"] = "squash"
    filter: Filter = "bilinear"
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF
    rounding: Literal["down", "even"] = "down"

    def at(self, size: int) -> Preprocess:
        """The same for a network that takes `size` x `size`: resizing scales in proportion, as 256 -> 224 does."""
        return replace(self, size=size, resize=self.resize * size // self.size)

    @property
    def at_least(self) -> int:
        """Pixels the shorter side of a picture must have so that resizing never enlarges it.

        0 if no smaller picture will do, because resizing takes single pixels.
        """
        return self.resize if self.filter != "nearest" else 0

    def resized(self, picture: Image.Image, reduced: Reduced | None = None) -> npt.NDArray[np.uint8]:
        """RGB picture of any size, decoded smaller where `reduced` says so -> uint8 [size size 3], contiguous."""
        from PIL import Image

        width, height = reduced.whole if reduced else picture.size
        new_width, new_height, left, top = self._placed(width, height)
        resample = Image.Resampling[self.filter.upper()]
        if reduced or new_width * new_height > LARGEST_RESIZE:
            sx, sy = width / new_width, height / new_height
            x0, x1 = max(left, 0), min(left + self.size, new_width)
            y0, y1 = max(top, 0), min(top + self.size, new_height)
            if reduced:
                part = resize(picture, reduced, (new_width, new_height), (x0, y0, x1, y1), self.filter)
                picture = Image.fromarray(part)
            else:
                picture = picture.resize((x1 - x0, y1 - y0), resample, (x0 * sx, y0 * sy, x1 * sx, y1 * sy))
            left, top, new_width, new_height = left - x0, top - y0, x1 - x0, y1 - y0
        elif picture.size != (new_width, new_height):
            picture = picture.resize((new_width, new_height), resample)
        if (new_width, new_height) != (self.size, self.size):
            picture = picture.crop((left, top, left + self.size, top + self.size))
        return np.array(picture)

    def seen(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what the network sees of an upright picture of (width, height), in its pixels.

        The crop of a small picture can reach past its edges.
        """
        new_width, new_height, left, top = self._placed(*size)
        sx, sy = size[0] / new_width, size[1] / new_height
        return left * sx, top * sy, (left + self.size) * sx, (top + self.size) * sy

    def _placed(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Width and height after resizing, and where the crop begins in that."""
        if self.fit == "squash":
            new_width = new_height = self.resize
        else:
            short = min(width, height)
            # torchvision and transformers both truncate the long side
            new_width, new_height = (int(self.resize * side / short) for side in (width, height))
        return new_width, new_height, self._offset(new_width), self._offset(new_height)

    def _offset(self, side: int) -> int:
        """Where the crop begins on a side of that many pixels; negative when the picture is smaller than the crop."""
        if self.rounding == "down":
            return (side - self.size) // 2
        return round((side - self.size) / 2) if side >= self.size else -((self.size - side) // 2)

    def normalised(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [b h w c] -> float32 [b c h w], contiguous; c is 3."""
        # Only 256 values a channel: a table holds the reference's float32 arithmetic to the bit. Filling one plane
        # after another stays in the cache, a third of the time of `np.stack([table[c][pixels[..., c]], ...])`.
        mean, std = (np.array(values, np.float32)[:, None] for values in (self.mean, self.std))
        table = (np.arange(256, dtype=np.float32) / np.float32(255) - mean) / std
        planes = np.empty((len(pixels), len(table), *pixels.shape[1:3]), np.float32)
        for picture, out in zip(pixels, planes, strict=True):
            for c, values in enumerate(table):
                values.take(picture[..., c], out=out[c], mode="clip")
        return planes

    def describe(self) -> str:
        """One line for people: "224x224 squash, bilinear, mean .5 .5 .5, std .5 .5 .5"."""
        if self.fit == "squash" and self.resize == self.size:
            shape = f"{self.size}x{self.size} squash"
        else:
            how = "squash to" if self.fit == "squash" else "shortest side to"
            shape = f"{how} {self.resize}, centre crop {self.size}x{self.size}"
        mean, std = (" ".join(f"{v:.4g}".replace("0.", ".", 1) for v in values) for values in (self.mean, self.std))
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
            "rounding": self.rounding,
        }


FAMILIES: dict[str, Callable[[int], Preprocess]] = {
    "hf": lambda s: Preprocess(s, s),
    "timm": lambda s: Preprocess(s, s if s >= 384 else int(s / 0.9), "shortest", "bicubic", HALF, HALF, "even"),
    "deit": lambda s: Preprocess(s, s * 256 // 224, "shortest", "bicubic", IMAGENET_MEAN, IMAGENET_STD, "even"),
    "torchvision": lambda s: Preprocess(s, s * 256 // 224, "shortest", "bilinear", IMAGENET_MEAN, IMAGENET_STD, "even"),
    "clip": lambda s: Preprocess(s, s, "shortest", "bicubic", CLIP_MEAN, CLIP_STD, "down"),
    "siglip": lambda s: Preprocess(s, s, "squash", "bicubic"),
    "hf-deit": lambda s: Preprocess(s, s * 256 // 224, "squash", "bicubic", IMAGENET_MEAN, IMAGENET_STD, "down"),
}
"""What each family does to a picture before the network, by the name that `--preprocess` takes; called with the size.

hf           both sides to size, bilinear, mean and std .5 (transformers, google/vit-*'s own settings)
timm         shortest side to size / .9 (from 384 on: to size), bicubic, .5 (timm, `vision_transformer.py`, augreg)
deit         shortest side to size * 256/224, bicubic, ImageNet's mean and std (facebookresearch/deit, `datasets.py`)
torchvision  shortest side to size * 256/224, bilinear, ImageNet's (torchvision, `ViT_B_16_Weights.IMAGENET1K_V1`)
clip         shortest side to size, bicubic, CLIP's mean and std (transformers, openai/clip-*'s own settings)
siglip       both sides to size, bicubic, .5 (transformers, google/siglip-*'s own settings)
hf-deit      both sides to size * 256/224, bicubic, ImageNet's (transformers, facebook/deit-*'s own settings)

Each then crops the centre.
"""
