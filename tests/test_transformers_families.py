"""Classifiers of transformers beside ViT and DeiT: the whole way from picture to logits is theirs, on every engine.

The oracle is `transformers`, with the Pillow variant of each image processor named, as in `test_parity.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import noise
from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

import vitcli
from vitcli import checkpoints
from vitcli.checkpoints.convert import convert
from vitcli.errors import CheckpointError, LayoutError
from vitcli.network.accelerator import OnCard
from vitcli.network.model import ViT
from vitcli.network.numpy_model import NumpyViT

TINY: dict[str, Any] = dict(
    hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=96, image_size=32, patch_size=8,
)  # fmt: skip
SQUARE = {"size": {"height": 32, "width": 32}}
CROP = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}


def siglip(**changes: Any) -> Any:
    return transformers.SiglipConfig(vision_config=TINY | changes, num_labels=7)


def clip(**changes: Any) -> Any:
    return transformers.CLIPConfig(vision_config=TINY | changes, num_labels=7)


def whole(kind: Any) -> Callable[..., Any]:
    return lambda **changes: kind(**(TINY | {"num_labels": 7} | changes))


def dinov2(kind: Any) -> Callable[..., Any]:
    own = {name: value for name, value in TINY.items() if name != "intermediate_size"}  # it has a ratio in its place
    return lambda **changes: kind(**(own | {"num_labels": 7, "mlp_ratio": 2} | changes))


@dataclass(frozen=True)
class Case:
    """A class, its configuration, its processor, and what must come of it."""

    model: Any
    config: Callable[..., Any]
    processor: Any
    prepared: dict[str, Any]
    layout: str
    changes: dict[str, Any] = field(default_factory=dict)


T = transformers
CASES = {
    "dinov2": Case(T.Dinov2ForImageClassification, dinov2(T.Dinov2Config), BitImageProcessorPil, CROP, "dinov2"),
    "dinov2 with a gate": Case(T.Dinov2ForImageClassification, dinov2(T.Dinov2Config), BitImageProcessorPil, CROP,
                               "dinov2", {"use_swiglu_ffn": True}),
    "dinov2 of larger pictures": Case(T.Dinov2ForImageClassification, dinov2(T.Dinov2Config), BitImageProcessorPil,
                                      CROP, "dinov2", {"image_size": 56}),
    "registers": Case(T.Dinov2WithRegistersForImageClassification, dinov2(T.Dinov2WithRegistersConfig),
                      BitImageProcessorPil, CROP, "dinov2", {"num_register_tokens": 4}),
    "registers of larger pictures": Case(T.Dinov2WithRegistersForImageClassification,
                                         dinov2(T.Dinov2WithRegistersConfig), BitImageProcessorPil, CROP, "dinov2",
                                         {"num_register_tokens": 4, "image_size": 56}),
    "siglip": Case(T.SiglipForImageClassification, siglip, SiglipImageProcessorPil, SQUARE, "siglip"),
    "siglip of its own eps": Case(T.SiglipForImageClassification, siglip, SiglipImageProcessorPil, SQUARE, "siglip",
                                  {"layer_norm_eps": 1e-3, "hidden_act": "gelu"}),
    "clip": Case(T.CLIPForImageClassification, clip, CLIPImageProcessorPil, CROP, "clip"),
    "clip of exact gelu": Case(T.CLIPForImageClassification, clip, CLIPImageProcessorPil, CROP, "clip",
                               {"hidden_act": "gelu"}),
    "beit": Case(T.BeitForImageClassification, whole(T.BeitConfig), BeitImageProcessorPil, SQUARE, "transformers",
                 {"use_relative_position_bias": True}),
    "beit with a table for all blocks": Case(T.BeitForImageClassification, whole(T.BeitConfig), BeitImageProcessorPil,
                                             SQUARE, "transformers", {"use_shared_relative_position_bias": True}),
    "beit by the class token": Case(T.BeitForImageClassification, whole(T.BeitConfig), BeitImageProcessorPil, SQUARE,
                                    "transformers", {"use_relative_position_bias": True, "use_mean_pooling": False,
                                                     "use_absolute_position_embeddings": True}),
    "data2vec": Case(T.Data2VecVisionForImageClassification, whole(T.Data2VecVisionConfig), BeitImageProcessorPil,
                     SQUARE, "transformers", {"use_relative_position_bias": True}),
    "ijepa": Case(T.IJepaForImageClassification, whole(T.IJepaConfig), ViTImageProcessorPil, SQUARE, "transformers"),
}  # fmt: skip


def saved(case: Case, folder: Path) -> Any:
    """A tiny random network and its processor saved by the library itself; the network."""
    torch.manual_seed(0)
    model = case.model(case.config(**case.changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            embeds = "embeddings" in name and parameter.ndim > 1
            parameter.normal_(std=0.05 if embeds else 0.2) if parameter.ndim > 1 else parameter.uniform_(0.2, 1.2)
    model.save_pretrained(folder)
    case.processor(**case.prepared).save_pretrained(folder)
    return model


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "_"))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path, Any]:
    case, folder = CASES[request.param], tmp_path_factory.mktemp("family")
    return case, folder, saved(case, folder)


PICTURES = [noise(seed, size) for seed, size in enumerate([(48, 40), (31, 90), (64, 64)])]


def expected(case: Case, folder: Path, model: Any) -> np.ndarray:
    with torch.inference_mode():
        pixels = case.processor.from_pretrained(folder)(images=PICTURES, return_tensors="pt")["pixel_values"]
        return np.asarray(model(pixels).logits.numpy())


@pytest.mark.parametrize("engine", ["torch", "numpy", "accelerator"])
def test_picture_to_logits_is_the_references_way(made: tuple[Case, Path, Any], engine: str) -> None:
    case, folder, model = made
    theirs = expected(case, folder, model)
    assert np.abs(theirs).max() > 0.5  # logits near nothing would agree whatever was wrong
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-2  # and so would those that do not depend on the picture
    classifier = vitcli.load(folder, engine="numpy" if engine == "numpy" else "torch", device="cpu")
    pixels = np.stack([classifier.prepare(picture) for picture in PICTURES])
    if engine == "accelerator":  # on the CPU: what differs is fused layers and normalising beside the network
        found = checkpoints.load(folder)
        network = ViT.from_tensors(found.config, found.tensors)
        ours = OnCard(network, found.preprocess, compiled=False).submit(pixels)()
    else:
        ours = classifier.logits(pixels)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


def test_weights_that_are_read_one_by_one_are_the_same(
    made: tuple[Case, Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is computed from stored tensors (positions without the class token's) is not what lies in the file."""
    monkeypatch.setattr("vitcli.checkpoints.weights.SMALL", 1)
    _, folder, model = made
    found = checkpoints.load(folder)
    pixels = torch.randn(2, 3, found.config.image_size, found.config.image_size)
    with torch.inference_mode():
        theirs = model(pixels).logits.numpy() if not found.resized_from else None
        whole = ViT.from_tensors(found.config, found.tensors)(pixels).numpy()
    one_by_one = NumpyViT(found.config, found.tensors.streamed())(pixels.numpy())
    np.testing.assert_allclose(one_by_one, whole, atol=1e-5, rtol=0)
    if theirs is not None:
        np.testing.assert_allclose(one_by_one, theirs, atol=1e-5, rtol=0)


def test_nothing_is_guessed_or_doubted(made: tuple[Case, Path, Any]) -> None:
    case, folder, _ = made
    found = checkpoints.load(folder)
    assert found.layout == case.layout
    assert not [warning for warning in found.warnings if "LABEL_" not in warning]
    assert found.sources["eps"] == found.sources["gelu"] == "config.json"


def test_what_a_plain_vit_has_not_is_refused_in_the_hubs_layout(made: tuple[Case, Path, Any], tmp_path: Path) -> None:
    _, folder, _ = made
    with pytest.raises(CheckpointError, match="transformers' ViT cannot express this network: it has "):
        convert(checkpoints.load(folder), tmp_path / "out")


@pytest.mark.parametrize("mistake", ["gelu", "eps", "norm"])
@pytest.mark.parametrize("name", ["siglip", "clip", "beit"])
def test_these_would_show_a_mistake(tmp_path: Path, name: str, mistake: str) -> None:
    model = saved(CASES[name], tmp_path)
    theirs = expected(CASES[name], tmp_path, model)
    found = checkpoints.load(tmp_path)
    wrong = {
        "gelu": replace(found.config, gelu="tanh" if found.config.gelu == "exact" else "exact"),
        "eps": replace(found.config, norm_eps=1e-2),
        "norm": replace(found.config, post_norm=True),
    }[mistake]
    network = ViT.from_tensors(wrong, found.tensors)
    pixels = np.stack([vitcli.load(tmp_path).prepare(picture) for picture in PICTURES])
    with torch.inference_mode():
        ours = network(torch.from_numpy(found.preprocess.normalised(pixels))).numpy()
    assert np.abs(ours - theirs).max() > 1e-4


def test_what_a_short_config_leaves_out_is_the_classs_own(tmp_path: Path) -> None:
    """google/siglip-base-patch16-224 says nothing of its tower but its model_type."""
    folder = tmp_path / "siglip"
    saved(CASES["siglip"], folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] = {"model_type": "siglip_vision_model", "num_attention_heads": 3}
    (folder / "config.json").write_text(json.dumps(config))
    found = checkpoints.load(folder)
    assert (found.config.gelu, found.config.norm_eps) == ("tanh", 1e-6)
    assert found.sources["gelu"] == found.sources["eps"] == "the architecture siglip"


def test_a_whole_clip_has_no_classes_and_says_so(tmp_path: Path) -> None:
    text = dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=3, intermediate_size=96, vocab_size=99,
                bos_token_id=1, eos_token_id=2, pad_token_id=0)  # fmt: skip
    T.CLIPModel(T.CLIPConfig(vision_config=TINY, text_config=text)).save_pretrained(tmp_path)
    with pytest.raises(LayoutError, match="a tower for words"):
        checkpoints.load(tmp_path)


def test_siglip2_of_any_shape_is_refused_by_name(tmp_path: Path) -> None:
    config = T.Siglip2Config(vision_config={k: v for k, v in TINY.items() if k != "image_size"}, num_labels=7)
    T.Siglip2ForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="the architecture siglip2, which is not built here"):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize("size", [16, 64, 72])
def test_relative_positions_are_resized_as_transformers_does(tmp_path: Path, size: int) -> None:
    """Three tables: of each block, of all blocks; and positions beside them, which are resized in another way."""
    for name, changes in (
        ("each", {"use_relative_position_bias": True}),
        ("shared", {"use_shared_relative_position_bias": True}),
        ("both", {"use_relative_position_bias": True, "use_absolute_position_embeddings": True}),
    ):
        model = saved(replace(CASES["beit"], changes=changes), tmp_path / name)
        found = checkpoints.load(tmp_path / name, image_size=size)
        pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            theirs = model(pixels, interpolate_pos_encoding=True).logits.numpy()
            ours = ViT.from_tensors(found.config, found.tensors)(pixels).numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


def test_a_folder_may_hold_any_of_them_without_its_settings(tmp_path: Path) -> None:
    saved(CASES["registers"], tmp_path / "all")
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "all" / "model.safetensors", tmp_path / "alone")
    found = checkpoints.load(tmp_path / "alone", heads=3)
    assert (found.layout, found.config.pooling, found.config.norm_eps) == ("dinov2", "cls_mean", 1e-6)
