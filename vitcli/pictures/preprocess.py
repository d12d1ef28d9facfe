"""`Preprocess`: an upright RGB picture -> uint8 [h w c] at the network's size -> normalised float32 [b c h w].

Wrong preprocessing is the endemic ViT bug (mean/std above all), so it is one frozen record that travels with the
checkpoint. Resizing is Pillow's on 8-bit pixels, because that is what the reference (`ViTImageProcessorPil`) does:
resizing in float instead moves logits by 0.03, without antialiasing by 1.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from vitcli.errors import CheckpointError
from vitcli.pictures.reduced import resize

if TYPE_CHECKING:
    from PIL import Image

    from vitcli.pictures.reduced import Reduced

Filter: TypeAlias = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]

FILTERS: tuple[Filter, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# A picture of 1 x 10,000 pixels resized by its shortest side would be 248 x 2,480,000. Past this many pixels only the
# part that survives the crop is resized; below it the two-step way is kept, because it is the reference's to the bit.
LARGEST_RESIZE = 4096 * 4096

# Sides that a file may ask for, in pixels: files are not to be trusted, and no ViT comes near this.
LARGEST_SIDE = 4096


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

    @classmethod
    def from_transformers(cls, config: Mapping[str, Any], *, kind: str = "ViT") -> Preprocess:
        """What the `preprocessor_config.json` of a transformers checkpoint says, given as a dict.

        Missing fields are the defaults of the image processor that the file names; when it names none, of `kind`
        ("ViT" or "DeiT"). Raises CheckpointError for a file that cannot be meant or followed.
        """
        named = config.get("image_processor_type") or config.get("feature_extractor_type") or kind
        name = str(named).removesuffix("Fast").removesuffix("Pil")
        name = name.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
        if name not in _PROCESSORS:
            raise CheckpointError(
                f"The preprocessing settings are for {str(named)[:60]!r}, not for a ViT. Choose with --preprocess."
            )
        # transformers takes null for "not said"
        said = _PROCESSORS[name] | {key: value for key, value in config.items() if value is not None}
        if not said["do_resize"]:
            raise CheckpointError(
                "The preprocessing settings switch resizing off (do_resize), so pictures of other sizes cannot be "
                "classified. Choose with --preprocess."
            )
        number = said["resample"]
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(FILTERS):
            raise CheckpointError(f"The preprocessing settings ask for resample {number!r:.40}, which is no filter.")
        fit, resize = _side(said["size"], "size", squash=said["squash"])
        size = _side(said["crop_size"], "crop_size")[1] if said["do_center_crop"] else resize
        if fit == "shortest" and not said["do_center_crop"]:
            raise CheckpointError(
                "The preprocessing settings resize the shortest side and crop nothing, so pictures would not come "
                "out square. Choose with --preprocess."
            )
        mean: tuple[float, ...] = (0.0,)
        std: tuple[float, ...] = (1.0,)
        if said["do_normalize"]:
            mean, std = _values(said["image_mean"], "image_mean"), _values(said["image_std"], "image_std")
        # ours are of [0, 1]; a file may scale pixels otherwise, or leave them at 0 to 255
        factor = _values(said["rescale_factor"], "rescale_factor")[0] if said["do_rescale"] else 1.0
        if factor <= 0 or min(std) <= 0:
            raise CheckpointError(
                "The preprocessing settings divide by zero: image_std and rescale_factor must be > 0."
            )
        if not math.isclose(factor, 1 / 255, rel_tol=1e-6):
            mean = tuple(value / (255 * factor) for value in mean)
            std = tuple(value / (255 * factor) for value in std)
        # crop_rounding is a word of `vit convert`'s; transformers always rounds down
        rounding: Literal["down", "even"] = "even" if config.get("crop_rounding") == "even" else "down"
        return cls(size, resize, fit, FILTERS[number], _three(mean), _three(std), rounding)

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> Preprocess:
        """What timm's `pretrained_cfg` says, given as a dict; missing fields are timm's defaults.

        Raises CheckpointError for settings that cannot be meant or followed.
        """
        # timm takes null, zero and nothing alike for "not said"
        said: dict[str, Any] = {
            "input_size": (3, 224, 224),
            "crop_pct": 0.875,
            "crop_mode": "center",
            "interpolation": "bicubic",
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
        }
        said |= {key: config[key] for key in said if config.get(key)}
        shape = said["input_size"]
        if not isinstance(shape, list | tuple) or len(shape) != 3 or shape[0] != 3:
            raise CheckpointError(f"The preprocessing settings ask for input_size {shape!r:.60}, not 3 x size x size.")
        size = _side(shape[1:], "input_size")[1]
        if said["crop_mode"] not in ("center", "squash"):
            raise CheckpointError(
                f"The preprocessing settings ask for crop_mode {said['crop_mode']!r:.40}; only 'center' and 'squash' "
                "are known. Choose with --preprocess."
            )
        if said["interpolation"] not in FILTERS:
            raise CheckpointError(
                f"The preprocessing settings ask for interpolation {said['interpolation']!r:.40}, which is no filter."
            )
        (crop,) = _values(said["crop_pct"], "crop_pct")[:1]
        if not size / LARGEST_SIDE <= crop <= size:
            raise CheckpointError(f"The preprocessing settings ask for crop_pct {crop:g}, which cannot be meant.")
        mean, std = _three(_values(said["mean"], "mean")), _three(_values(said["std"], "std"))
        if min(std) <= 0:
            raise CheckpointError("The preprocessing settings divide by zero: std must be > 0.")
        fit: Literal["squash", "shortest"] = "squash" if said["crop_mode"] == "squash" else "shortest"
        return cls(size, math.floor(size / crop), fit, cast(Filter, said["interpolation"]), mean, std, "even")

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
        if self.fit == "squash":
            new_width = new_height = self.resize
        else:
            short = min(width, height)
            # torchvision and transformers both truncate the long side
            new_width, new_height = (int(self.resize * side / short) for side in (width, height))
        left, top = self._offset(new_width), self._offset(new_height)
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


# Defaults of the image processors whose checkpoints we load, as transformers 5 has them; `squash` is what a bare
# number means as `size`: both sides, or the shortest.
_PROCESSORS: dict[str, dict[str, Any]] = {
    "ViT": dict(size=224, squash=True, resample=2, do_center_crop=False, image_mean=HALF, image_std=HALF),
    "DeiT": dict(size=256, squash=True, resample=3, do_center_crop=True, image_mean=HALF, image_std=HALF),
}
for _row in _PROCESSORS.values():
    _row |= dict(crop_size=224, do_resize=True, do_rescale=True, rescale_factor=1 / 255, do_normalize=True)


def _side(value: Any, field: str, squash: bool = True) -> tuple[Literal["squash", "shortest"], int]:
    """224, [224, 224], {"height": 224, "width": 224} or {"shortest_edge": 224} -> how to fit, and the pixels."""
    fit: Literal["squash", "shortest"] = "squash" if squash else "shortest"
    sides = [value]
    if isinstance(value, list | tuple):
        fit, sides = "squash", list(value)
    elif isinstance(value, Mapping) and set(value) == {"height", "width"}:
        fit, sides = "squash", [value["height"], value["width"]]
    elif isinstance(value, Mapping) and set(value) == {"shortest_edge"}:
        fit, sides = "shortest", [value["shortest_edge"]]
    if not 1 <= len(sides) <= 2 or any(type(s) is not int or not 1 <= s <= LARGEST_SIDE for s in sides):
        raise CheckpointError(f"The preprocessing settings ask for {field} {value!r:.60}, which is no size in pixels.")
    if len(set(sides)) > 1:
        raise CheckpointError(f"The preprocessing settings ask for {field} {value!r:.60}; only squares are known.")
    return fit, cast(int, sides[0])


def _values(value: Any, field: str) -> tuple[float, ...]:
    """A number, or one for each of three channels."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if len(values) not in (1, 3) or any(type(v) not in (int, float) or not abs(v) < 1e6 for v in values):
        raise CheckpointError(f"The preprocessing settings ask for {field} {value!r:.60}, which is no number or three.")
    return tuple(float(v) for v in values)


def _three(values: tuple[float, ...]) -> tuple[float, ...]:
    return values * 3 if len(values) == 1 else values


def _hf(size: int) -> Preprocess:
    return Preprocess(size, size)


def _timm(size: int) -> Preprocess:
    crop_pct = 0.9 if size < 384 else 1.0
    return Preprocess(size, math.floor(size / crop_pct), "shortest", "bicubic", HALF, HALF, "even")


def _deit(size: int) -> Preprocess:
    return Preprocess(size, size * 256 // 224, "shortest", "bicubic", IMAGENET_MEAN, IMAGENET_STD, "even")


def _torchvision(size: int) -> Preprocess:
    return Preprocess(size, size * 256 // 224, "shortest", "bilinear", IMAGENET_MEAN, IMAGENET_STD, "even")


def _hf_deit(size: int) -> Preprocess:
    return Preprocess(size, size * 256 // 224, "squash", "bicubic", IMAGENET_MEAN, IMAGENET_STD, "down")


FAMILIES: dict[str, Callable[[int], Preprocess]] = {
    "hf": _hf,
    "timm": _timm,
    "deit": _deit,
    "torchvision": _torchvision,
    "hf-deit": _hf_deit,
}
"""What each family does to a picture before the network, by the name that `--preprocess` takes; called with the size.

hf           both sides to size, bilinear, mean and std .5 (transformers, google/vit-*'s own settings)
timm         shortest side to size / .9 (from 384 on: to size), bicubic, .5 (timm, `vision_transformer.py`, augreg)
deit         shortest side to size * 256/224, bicubic, ImageNet's mean and std (facebookresearch/deit, `datasets.py`)
torchvision  shortest side to size * 256/224, bilinear, ImageNet's (torchvision, `ViT_B_16_Weights.IMAGENET1K_V1`)
hf-deit      both sides to size * 256/224, bicubic, ImageNet's (transformers, facebook/deit-*'s own settings)

Each then crops the centre.
"""
