"""Preprocessing equals the libraries it stands for: transformers here, torchvision and timm in a subprocess."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from vitcli.checkpoints import processors
from vitcli.errors import CheckpointError
from vitcli.pictures import preprocess
from vitcli.pictures.preprocess import FAMILIES, HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocess

ORACLES = Path(sys.prefix) / "oracles"

PROCESSORS = {
    "ViT": lambda: ViTImageProcessorPil(),
    "DeiT": lambda: DeiTImageProcessorPil(image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD),
    "DeiT 384": lambda: DeiTImageProcessorPil(size=438, crop_size=384),
    "uneven crop": lambda: ViTImageProcessorPil(size={"shortest_edge": 97}, do_center_crop=True, crop_size=64),
    "crop larger than the picture": lambda: ViTImageProcessorPil(size=65, do_center_crop=True, crop_size=98),
    "lanczos": lambda: ViTImageProcessorPil(size=64, resample=1),
    "no normalising": lambda: ViTImageProcessorPil(size=32, do_normalize=False),
    "0 to 255": lambda: ViTImageProcessorPil(size=32, do_rescale=False),
    "-1 to 1 by rescaling": lambda: ViTImageProcessorPil(
        size=32, rescale_factor=1 / 127.5, image_mean=1.0, image_std=1.0
    ),
}


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", PROCESSORS)
@settings(max_examples=8, deadline=None)
@given(width=st.integers(1, 500), height=st.integers(1, 500))
def test_equals_transformers(name: str, width: int, height: int) -> None:
    reference = PROCESSORS[name]()
    # a checkpoint's settings come as JSON
    ours = processors.from_transformers(json.loads(json.dumps(reference.to_dict())))
    picture = noise(width, height)
    pixels = reference(picture, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    resized = ours.resized(picture)
    np.testing.assert_array_equal(resized, pixels.transpose(1, 2, 0))
    expected = reference(picture, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(ours.normalised(resized[None]), expected, rtol=1e-6, atol=1e-6)


SAID: list[dict[str, Any]] = [
    {}, {"size": 64, "crop_size": 48}, {"size": {"height": 64, "width": 64}, "crop_size": 48},
    {"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": 48},
]  # fmt: skip
MODULES = {"ChineseCLIP": "chinese_clip", "MobileNetV1": "mobilenet_v1"}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("name", processors.PROCESSORS)
def test_each_processor_fills_in_what_transformers_would(name: str, said: dict[str, Any]) -> None:
    folder = MODULES.get(name, name.lower())
    module = importlib.import_module(f"transformers.models.{folder}.image_processing_pil_{folder}")
    picture = noise(90, 70)
    try:
        reference = getattr(module, f"{name}ImageProcessorPil").from_dict(said)
        expected = reference(picture, return_tensors="np")["pixel_values"]
    except (ValueError, AttributeError):  # a size that this processor does not take
        return
    config = {"image_processor_type": f"{name}ImageProcessorFast"} | said
    twice = name == "ConvNext" and "do_center_crop" in said  # its own crop, and another
    if expected.shape[2] != expected.shape[3] or twice:
        with pytest.raises(CheckpointError, match="Choose with --preprocess"):
            processors.from_transformers(config)
        return
    ours = processors.from_transformers(config)
    np.testing.assert_allclose(ours.normalised(ours.resized(picture)[None]), expected, rtol=1e-6, atol=1e-6)


def test_the_default_model_normalises_to_the_bit() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    for mean, std in ((HALF, HALF), (IMAGENET_MEAN, IMAGENET_STD)):
        reference = ViTImageProcessorPil(size=16, image_mean=mean, image_std=std)
        expected = reference(Image.fromarray(pixels[0]), return_tensors="np")["pixel_values"]
        np.testing.assert_array_equal(Preprocess(16, 16, mean=mean, std=std).normalised(pixels), expected)


ORACLE = """
import json, sys
import torch
names = ("nms qnms roi_align qroi_align _roi_align_backward ps_roi_align _ps_roi_align_backward roi_pool "
         "_roi_pool_backward ps_roi_pool _ps_roi_pool_backward deform_conv2d _deform_conv2d_backward box_iou_rotated")
library = torch.library.Library("torchvision", "DEF")
for name in names.split():
    library.define(f"{name}(Tensor a) -> Tensor")
sys.path.append(sys.argv[1])
import numpy as np
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torchvision import transforms
made = {}
for i, case in enumerate(json.load(open(sys.argv[2]))):
    width, height = case["picture"]
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if "timm" in case:
        transform = create_transform(**resolve_data_config({}, pretrained_cfg=case["timm"]), is_training=False)
    else:
        filters = transforms.InterpolationMode
        transform = transforms.Compose([
            transforms.Resize(case["resize"], interpolation=filters(case["filter"])),
            transforms.CenterCrop(case["size"]),
            transforms.ToTensor(),
            transforms.Normalize(case["mean"], case["std"]),
        ])
    made[str(i)] = transform(Image.fromarray(pixels)).numpy()
np.savez(sys.argv[3], **made)
"""

SIZES = [(640, 427), (333, 500), (256, 256), (97, 301), (1, 77), (1000, 9), (30, 31), (225, 223)]
TIMM: list[dict[str, Any]] = [
    {"input_size": [3, 224, 224], "crop_pct": 0.9, "interpolation": "bicubic", "mean": HALF, "std": HALF},
    {"input_size": [3, 384, 384], "crop_pct": 1.0, "crop_mode": "squash", "mean": HALF, "std": HALF},
    {"input_size": [3, 97, 97], "crop_pct": 0.77, "crop_mode": "squash", "interpolation": "bilinear"},
    {"input_size": [3, 64, 64], "crop_pct": 1.3},
    {"first_conv": "patch_embed.proj"},
]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Preprocess, tuple[int, int], Any]]:
    """Settings of ours, the size of a picture, and what torchvision or timm makes of it."""
    if not ORACLES.is_dir():
        pytest.skip(f"the reference libraries are not in {ORACLES}: `make test` puts them there")
    cases: list[dict[str, Any]] = []
    ours: list[Preprocess] = []
    families = [FAMILIES["deit"](224), FAMILIES["torchvision"](224), FAMILIES["timm"](224)]
    families += [replace(families[0], size=97, resize=140), replace(families[1], size=98, resize=65)]
    for size in SIZES:
        for family in families:
            ours.append(family)
            cases.append(family.record() | {"picture": size})
        for config in TIMM:
            ours.append(processors.from_timm(config))
            cases.append({"timm": config, "picture": size})
    folder = tmp_path_factory.mktemp("oracle")
    asked, out = folder / "cases.json", folder / "made.npz"
    asked.write_text(json.dumps(cases))
    subprocess.run([sys.executable, "-c", ORACLE, str(ORACLES), str(asked), str(out)], check=True)
    with np.load(out) as made:
        return [(ours[i], case["picture"], made[str(i)]) for i, case in enumerate(cases)]


def test_equals_torchvision_and_timm_to_the_bit(oracle: list[tuple[Preprocess, tuple[int, int], Any]]) -> None:
    for ours, size, expected in oracle:
        made = ours.normalised(ours.resized(noise(*size))[None])[0]
        np.testing.assert_array_equal(made, expected, err_msg=f"{ours.describe()} of {size}")


@pytest.mark.parametrize("rounding", ["down", "even"])
@pytest.mark.parametrize("size", [(3, 500), (500, 3), (1, 1000), (40, 700)])
def test_pictures_too_long_to_resize_whole_give_the_same_crop(
    size: tuple[int, int], rounding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bilinear = Preprocess(48, 65, "shortest", "bilinear", rounding=rounding)
    bicubic = replace(bilinear, filter="bicubic")
    whole = [ours.resized(noise(*size)).astype(int) for ours in (bilinear, bicubic)]
    monkeypatch.setattr(preprocess, "LARGEST_RESIZE", 0)
    cropped = [ours.resized(noise(*size)) for ours in (bilinear, bicubic)]
    assert np.abs(cropped[0] - whole[0]).max() <= 2  # rounded twice, in another order
    assert np.abs(cropped[1] - whole[1]).mean() < 0.5  # and noise overshoots, so it is clipped in another order too


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (65_500, 1)])
def test_the_longest_pictures_never_become_giants(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    resize = Image.Image.resize

    def watched(self: Image.Image, to: tuple[int, int], *args: Any, **kwargs: Any) -> Image.Image:
        made.append(to[0] * to[1])
        return resize(self, to, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    for family in FAMILIES.values():
        assert family(224).resized(noise(*size)).shape == (224, 224, 3)
    assert max(made) <= preprocess.LARGEST_RESIZE


def test_results_are_contiguous_and_writable() -> None:
    for family in FAMILIES.values():
        pixels = family(32).resized(noise(40, 32))
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
        assert family(32).normalised(pixels[None]).flags.c_contiguous


@pytest.mark.parametrize(
    ("name", "at_224", "at_384"),
    [("hf", 224, 384), ("timm", 248, 384), ("deit", 256, 438), ("torchvision", 256, 438), ("hf-deit", 256, 438)],
)
def test_families_resize_as_published(name: str, at_224: int, at_384: int) -> None:
    for size, resize in ((224, at_224), (384, at_384)):
        family = FAMILIES[name](size)
        assert (family.size, family.resize, family.at_least) == (size, resize, resize)


def test_another_image_size_scales_the_resizing_too() -> None:
    assert FAMILIES["deit"](224).at(384) == FAMILIES["deit"](384)
    assert Preprocess().at(448) == Preprocess(448, 448)


def test_transformers_defaults_fill_what_a_file_leaves_out() -> None:
    google = {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 224}
    assert processors.from_transformers(google) == Preprocess() == FAMILIES["hf"](224)
    facebook = {
        "feature_extractor_type": "DeiTFeatureExtractor",
        "size": 256,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    }
    assert processors.from_transformers(facebook) == FAMILIES["hf-deit"](224)
    del facebook["feature_extractor_type"]
    assert processors.from_transformers(facebook, kind="DeiT") == FAMILIES["hf-deit"](224)
    assert processors.from_transformers({"image_processor_type": "ViTImageProcessorFast", "size": None}) == Preprocess()


@pytest.mark.parametrize(
    "config",
    [
        {"size": 10**9},
        {"size": 0},
        {"size": True},
        {"size": "224"},
        {"size": {"height": 224, "width": 256}},
        {"size": {"shortest_edge": 224}},
        {"size": {"shortest_edge": 224, "longest_edge": 300}, "do_center_crop": True},
        {"size": {}},
        {"size": []},
        {"do_center_crop": True, "crop_size": -1},
        {"do_resize": False},
        {"resample": 9},
        {"resample": "bilinear"},
        {"image_mean": [0.5, 0.5]},
        {"image_mean": "half"},
        {"image_mean": [[0.5]] * 3},
        {"image_std": [0.5, 0.0, 0.5]},
        {"image_std": float("nan")},
        {"rescale_factor": 0},
        {"rescale_factor": float("inf")},
        {"image_processor_type": "LayoutLMv3ImageProcessor"},
        {"image_processor_type": ["ViTImageProcessor"]},
    ],
    ids=str,
)
def test_transformers_settings_that_cannot_be_meant_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"\.$"):
        processors.from_transformers(config)


@pytest.mark.parametrize(
    "config",
    [
        {"input_size": [3, 10**9, 10**9]},
        {"input_size": [1, 224, 224]},
        {"input_size": [3, 224, 256]},
        {"input_size": 224},
        {"crop_pct": 1e-9},
        {"crop_pct": -1},
        {"crop_pct": float("nan")},
        {"crop_pct": "0.9"},
        {"crop_mode": "border"},
        {"crop_mode": ["center"]},
        {"interpolation": "random"},
        {"interpolation": {"a": 1}},
        {"std": [0.5, 0.5, -0.5]},
        {"mean": [0.5, 0.5]},
    ],
    ids=str,
)
def test_timm_settings_that_cannot_be_meant_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"\.$"):
        processors.from_timm(config)


def test_one_line_says_it_all() -> None:
    assert Preprocess().describe() == "224x224 squash, bilinear, mean .5 .5 .5, std .5 .5 .5"
    assert FAMILIES["timm"](224).describe().startswith("shortest side to 248, centre crop 224x224, bicubic")
    assert "mean 0 0 0, std 1 1 1" in Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3).describe()


def test_the_record_makes_the_same_preprocessing_again() -> None:
    for family in FAMILIES.values():
        record = json.loads(json.dumps(family(224).record()))
        assert Preprocess(**record | {"mean": tuple(record["mean"]), "std": tuple(record["std"])}) == family(224)
