"""`preprocessor_config.json` of transformers and `pretrained_cfg` of timm -> Preprocess."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, cast

from vitcli.errors import CheckpointError
from vitcli.pictures.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    FILTERS,
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Filter,
    Preprocess,
)

# Sides that a file may ask for, in pixels: files are not to be trusted, and no ViT comes near this.
LARGEST_SIDE = 4096

# What a pixel may become, and the least that tells black from white: networks see a few units of either sign.
LARGEST_NUMBER, LEAST_CONTRAST = 1e4, 1e-4

# Image processors of transformers 5 that resize, crop, rescale and normalise as its base class does, with what each
# takes for a field that the file leaves out; `squash` is what a bare number means as `size`: both sides, or the
# shortest. People fine-tune a ViT with the processor of another model, so it is the processor's row that counts.
PROCESSORS: dict[str, dict[str, Any]] = {
    name: dict(size=224, squash=True, crop_size=224, do_center_crop=False, do_resize=True, do_rescale=True,
               rescale_factor=1 / 255, do_normalize=True, image_mean=mean, image_std=std, resample=resample) | own
    for name, resample, mean, std, own in (
        ("ViT",         2, HALF,          HALF,         {}),
        ("DeiT",        3, HALF,          HALF,         dict(size=256, do_center_crop=True)),
        ("Beit",        3, HALF,          HALF,         {}),
        ("Bit",         3, CLIP_MEAN,     CLIP_STD,     dict(squash=False, do_center_crop=True)),
        ("CLIP",        3, CLIP_MEAN,     CLIP_STD,     dict(squash=False, do_center_crop=True)),
        ("ChineseCLIP", 3, CLIP_MEAN,     CLIP_STD,     dict(squash=False, do_center_crop=True)),
        ("Siglip",      3, HALF,          HALF,         dict(size={"height": 224, "width": 224}, squash=False)),
        ("ConvNext",    3, HALF,          HALF,         dict(size=384, squash=False, crop_pct=224 / 256)),
        ("Pvt",         3, IMAGENET_MEAN, IMAGENET_STD, {}),
        ("MobileNetV1", 2, HALF,          HALF,         dict(size=256, squash=False, do_center_crop=True)),
    )
}  # fmt: skip

# The processor of a model whose file names none, by `model_type`; for all others ViT's.
KINDS = {
    "deit": "DeiT",
    "beit": "Beit",
    "data2vec-vision": "Beit",
    "clip": "CLIP",
    "dinov2": "Bit",
    "dinov2_with_registers": "Bit",
    "siglip": "Siglip",
}


def from_transformers(config: Mapping[str, Any], *, kind: str = "ViT") -> Preprocess:
    """What the `preprocessor_config.json` of a transformers checkpoint says, given as a dict.

    Missing fields are the defaults of the image processor that the file names; when it names none, of `kind`, one of
    those above. Raises CheckpointError for invalid or unsupported settings.
    """
    named = config.get("image_processor_type") or config.get("feature_extractor_type") or kind
    name = str(named).removesuffix("Fast").removesuffix("Pil")
    name = name.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if name not in PROCESSORS:
        raise CheckpointError(
            f"The preprocessing settings are for {str(named)[:60]!r}, which does more to a picture than is known here. "
            "Choose with --preprocess."
        )
    # transformers takes null for "not given"
    settings = PROCESSORS[name] | {key: value for key, value in config.items() if value is not None}
    if not settings["do_resize"]:
        raise CheckpointError(
            "The preprocessing settings switch resizing off (do_resize), so pictures of other sizes cannot be "
            "classified. Choose with --preprocess."
        )
    number = settings["resample"]
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(FILTERS):
        raise CheckpointError(f"The preprocessing settings ask for resample {number!r:.40}, not a filter.")
    if name == "ConvNext":
        settings |= _convnext(settings)
    fit, resize = _side(settings["size"], "size", squash=settings["squash"])
    size = _side(settings["crop_size"], "crop_size")[1] if settings["do_center_crop"] else resize
    if fit == "shortest" and not settings["do_center_crop"]:
        raise CheckpointError(
            "The preprocessing settings resize the shortest side and crop nothing, so pictures would not come "
            "out square. Choose with --preprocess."
        )
    if settings.get("do_pad") and settings.get("pad_size") and _side(settings["pad_size"], "pad_size")[1] != size:
        raise CheckpointError("The preprocessing settings pad pictures after they are resized (do_pad), which is not "
                              "known here. Choose with --preprocess.")  # fmt: skip
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    if settings["do_normalize"]:
        mean, std = _values(settings["image_mean"], "image_mean"), _values(settings["image_std"], "image_std")
    # ours are of [0, 1]; a file may scale pixels otherwise, or leave them at 0 to 255
    factor = _values(settings["rescale_factor"], "rescale_factor")[0] if settings["do_rescale"] else 1.0
    if factor <= 0 or min(std) <= 0:
        raise CheckpointError("The preprocessing settings divide by zero: image_std and rescale_factor must be > 0.")
    if not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        mean = tuple(value / (255 * factor) for value in mean)
        std = tuple(value / (255 * factor) for value in std)
    # crop_rounding is a word of `vit convert`'s; transformers always rounds down
    rounding: Literal["down", "even"] = "even" if config.get("crop_rounding") == "even" else "down"
    return _sound(Preprocess(size, resize, fit, FILTERS[number], _three(mean), _three(std), rounding))


def _convnext(settings: Mapping[str, Any]) -> dict[str, Any]:
    """ConvNext's own rule: below 384 pixels a crop out of size / crop_pct, from there on both sides squashed."""
    (fit, edge), (percent,) = (
        _side(settings["size"], "size", squash=False),
        _values(settings["crop_pct"], "crop_pct")[:1],
    )
    if fit == "squash" or settings["do_center_crop"]:
        raise CheckpointError("The preprocessing settings give ConvNext's processor a size or a crop that it does not "
                              "know. Choose with --preprocess.")  # fmt: skip
    if edge >= 384:
        return {"size": {"height": edge, "width": edge}}
    if not edge / LARGEST_SIDE <= percent <= edge:
        raise CheckpointError(f"The preprocessing settings ask for crop_pct {percent:g}, which is out of range.")
    return {"size": {"shortest_edge": int(edge / percent)}, "do_center_crop": True, "crop_size": edge}


def from_timm(config: Mapping[str, Any]) -> Preprocess:
    """What timm's `pretrained_cfg` says, given as a dict; missing fields are timm's defaults.

    Raises CheckpointError for invalid or unsupported settings.
    """
    # timm takes null, zero and nothing alike for "not given"
    settings: dict[str, Any] = {
        "input_size": (3, 224, 224),
        "crop_pct": 0.875,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }
    settings |= {key: config[key] for key in settings if config.get(key)}
    shape = settings["input_size"]
    if not isinstance(shape, list | tuple) or len(shape) != 3 or shape[0] != 3:
        raise CheckpointError(f"The preprocessing settings ask for input_size {shape!r:.60}, not 3 x size x size.")
    size = _side(shape[1:], "input_size")[1]
    if settings["crop_mode"] not in ("center", "squash"):
        raise CheckpointError(
            f"The preprocessing settings ask for crop_mode {settings['crop_mode']!r:.40}; only 'center' and 'squash' "
            "are known. Choose with --preprocess."
        )
    if settings["interpolation"] not in FILTERS:
        raise CheckpointError(
            f"The preprocessing settings ask for interpolation {settings['interpolation']!r:.40}, not a filter."
        )
    (crop,) = _values(settings["crop_pct"], "crop_pct")[:1]
    if not size / LARGEST_SIDE <= crop <= size:
        raise CheckpointError(f"The preprocessing settings ask for crop_pct {crop:g}, which is out of range.")
    mean, std = _three(_values(settings["mean"], "mean")), _three(_values(settings["std"], "std"))
    if min(std) <= 0:
        raise CheckpointError("The preprocessing settings divide by zero: std must be > 0.")
    fit: Literal["squash", "shortest"] = "squash" if settings["crop_mode"] == "squash" else "shortest"
    filter = cast(Filter, settings["interpolation"])
    return _sound(Preprocess(size, math.floor(size / crop), fit, filter, mean, std, "even"))


def _sound(found: Preprocess) -> Preprocess:
    """The same settings. Raises CheckpointError where they would make numbers of pixels that no network takes."""
    for mean, std in zip(found.mean, found.std, strict=True):
        darkest, contrast = mean / std, 1 / std
        if not (abs(darkest) <= LARGEST_NUMBER and LEAST_CONTRAST <= contrast <= LARGEST_NUMBER):
            raise CheckpointError(
                f"The preprocessing settings make {-darkest:.3g} of black and {contrast - darkest:.3g} of white, which "
                "no network takes. Choose with --preprocess."
            )
    return found


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
        raise CheckpointError(f"The preprocessing settings ask for {field} {value!r:.60}, not a size in pixels.")
    if len(set(sides)) > 1:
        raise CheckpointError(f"The preprocessing settings ask for {field} {value!r:.60}; only squares are known.")
    return fit, cast(int, sides[0])


def _values(value: Any, field: str) -> tuple[float, ...]:
    """A number, or one for each of three channels."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if len(values) not in (1, 3) or any(type(v) not in (int, float) or not abs(v) < 1e6 for v in values):
        raise CheckpointError(f"The preprocessing settings ask for {field} {value!r:.60}, not one number or three.")
    return tuple(float(v) for v in values)


def _three(values: tuple[float, ...]) -> tuple[float, ...]:
    return values * 3 if len(values) == 1 else values
