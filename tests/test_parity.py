"""The heart of the product: the same weights and the same picture give the reference's numbers.

The oracle is `transformers`, with `ViTImageProcessorPil` named: the plain name changes with what is installed.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import noise, save_reference
from PIL import Image

import vitcli

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "patch 32": {"patch_size": 32, "image_size": 64},
    "wide": {"hidden_size": 96, "num_attention_heads": 3, "intermediate_size": 160},
    "deep": {"num_hidden_layers": 6},
    "patch 8, odd classes": {"patch_size": 8, "image_size": 40, "num_labels": 3},
    "no qkv bias": {"qkv_bias": False},
    "tanh GELU": {"hidden_act": "gelu_pytorch_tanh"},
    "its own eps": {"layer_norm_eps": 1e-3},
}


def reference_logits(folder: Path, pictures: list[Image.Image]) -> np.ndarray:
    """What transformers answers: preprocessing and network of its own. [b k]"""
    import torch
    from transformers import ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    processor = ViTImageProcessorPil.from_pretrained(folder)
    model = ViTForImageClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
        return np.concatenate([model(part).logits.numpy() for part in pixels.split(32)])


def our_logits(folder: Path, pictures: list[Image.Image], **options: Any) -> np.ndarray:
    classifier = vitcli.load(folder, **options)
    prepared = [classifier.prepare(picture) for picture in pictures]
    return np.concatenate([classifier.logits(np.stack(prepared[i : i + 32])) for i in range(0, len(prepared), 32)])


@pytest.mark.parametrize("engine", ["torch", "numpy"])
@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_a_random_model_of_any_shape_gives_the_references_logits(
    tmp_path: Path, changes: dict[str, Any], engine: str
) -> None:
    folder = save_reference(tmp_path, **changes)
    pictures = [noise(seed, size) for seed, size in enumerate([(48, 40), (31, 200), (224, 224)])]
    theirs = reference_logits(folder, pictures)
    assert np.abs(theirs).max() > 0.5  # logits near nothing would agree whatever was wrong
    np.testing.assert_allclose(our_logits(folder, pictures, engine=engine), theirs, atol=1e-5, rtol=0)


@dataclass(frozen=True)
class Labelled:
    """The labelled pictures, and what both sides say of them."""

    truth: np.ndarray  # [n]
    theirs: np.ndarray  # [n k]
    ours: np.ndarray  # [n k]


@cache
def labelled(weights: Path, images: Path) -> Labelled:
    with (images / "labelled" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = [Image.open(images / "labelled" / "images" / row["file"]).convert("RGB") for row in rows]
    truth = np.array([int(row["index"]) for row in rows])
    return Labelled(truth, reference_logits(weights, pictures), our_logits(weights, pictures, engine="torch"))


def test_real_weights_on_real_pictures_give_the_references_logits(weights: Path, images: Path) -> None:
    both = labelled(weights, images)
    np.testing.assert_allclose(both.ours, both.theirs, atol=1e-4, rtol=0)


def test_real_top_five_is_the_references_wherever_scores_differ(weights: Path, images: Path) -> None:
    both = labelled(weights, images)
    exp = np.exp(both.theirs - both.theirs.max(axis=1, keepdims=True))
    scores = exp / exp.sum(axis=1, keepdims=True)
    for ours, theirs, score in zip(both.ours, both.theirs, scores, strict=True):
        order, expected = np.argsort(-ours)[:5], np.argsort(-theirs)[:5]
        same = (order == expected) | (np.abs(score[order] - score[expected]) <= 1e-4)
        assert same.all(), (order, expected)


def test_real_accuracy_is_the_published_one(weights: Path, images: Path) -> None:
    both = labelled(weights, images)
    top = np.argsort(-both.ours, axis=1)[:, :5]
    assert len(both.truth) == 300
    assert f"{np.mean(top[:, 0] == both.truth):.2%}" == "78.33%"
    assert f"{np.mean((top == both.truth[:, None]).any(axis=1)):.2%}" == "94.00%"
