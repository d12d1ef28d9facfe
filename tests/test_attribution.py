"""Maps of what spoke for a class equal plain implementations over the reference library's own attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from vitcli import checkpoints
from vitcli.checkpoints import Checkpoint
from vitcli.config import Config
from vitcli.explainer import CLASS_SPECIFIC, highest, without
from vitcli.network import attribution
from vitcli.network.model import Record, ViT

TINY: dict[str, Any] = dict(
    hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=96, image_size=32, patch_size=8,
    num_labels=7,
)  # fmt: skip
OWN = {name: value for name, value in TINY.items() if name != "intermediate_size"}
T = transformers

# The class of the reference, its configuration, and how much of each token its head reads, of n with 16 patches.
Read = Callable[[int], list[float]]
CASES: dict[str, tuple[Any, Any, Read]] = {
    "class token": (T.ViTForImageClassification, T.ViTConfig(**TINY), lambda n: [1.0, *[0.0] * (n - 1)]),
    "distilled": (T.DeiTForImageClassificationWithTeacher, T.DeiTConfig(**TINY),
                  lambda n: [0.5, 0.5, *[0.0] * (n - 2)]),
    "mean": (T.BeitForImageClassification, T.BeitConfig(**TINY, use_relative_position_bias=True),
             lambda n: [0.0, *[1 / 16] * 16]),
    "class token, registers and mean": (
        T.Dinov2WithRegistersForImageClassification,
        T.Dinov2WithRegistersConfig(**OWN, mlp_ratio=2, num_register_tokens=4),
        lambda n: [0.5, 0.0, 0.0, 0.0, 0.0, *[0.5 / 16] * 16],
    ),
}  # fmt: skip


def saved(name: str, folder: Path) -> tuple[Any, Checkpoint]:
    kind, config, _ = CASES[name]
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    model = kind(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            embeds = "embeddings" in key and parameter.ndim > 1
            parameter.normal_(std=0.05 if embeds else 0.2) if parameter.ndim > 1 else parameter.uniform_(0.2, 1.2)
    model.save_pretrained(folder)
    return model, checkpoints.load(folder)


def pixels() -> torch.Tensor:
    return torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def plain_gradient(model: Any, read: Read, index: int) -> np.ndarray:
    """Chefer's rule as the paper has it: a matrix for all tokens, from the first layer to the last."""
    found = model(pixels().requires_grad_(), output_attentions=True)
    gradients = torch.autograd.grad(found.logits[0, index], found.attentions)
    n = found.attentions[0].shape[-1]
    relevance = torch.eye(n)
    for attention, slope in zip(found.attentions, gradients, strict=True):
        relevance = relevance + (attention * slope)[0].clamp(min=0).mean(dim=0) @ relevance
    return patches_of(torch.tensor(read(n)) @ (relevance - torch.eye(n)))


def plain_rollout(model: Any, read: Read, index: int) -> np.ndarray:
    """Abnar and Zuidema: the product of all layers' attention, half of it the identity, its rows summing to one."""
    with torch.no_grad():
        attentions = model(pixels(), output_attentions=True).attentions
    n = attentions[0].shape[-1]
    product = torch.eye(n)
    for attention in attentions:
        mixed = attention[0].mean(dim=0) + torch.eye(n)
        product = (mixed / mixed.sum(dim=-1, keepdim=True)) @ product
    return patches_of(torch.tensor(read(n)) @ product)


def plain_attention(model: Any, read: Read, index: int) -> np.ndarray:
    with torch.no_grad():
        last = model(pixels(), output_attentions=True).attentions[-1]
    return patches_of(torch.tensor(read(last.shape[-1])) @ last[0].mean(dim=0))


def patches_of(row: torch.Tensor) -> np.ndarray:
    return row.detach()[-16:].reshape(4, 4).numpy()


PLAIN = {"gradient": plain_gradient, "rollout": plain_rollout, "attention": plain_attention}


@pytest.mark.parametrize("method", PLAIN)
@pytest.mark.parametrize("name", CASES)
def test_a_map_equals_a_plain_implementation_over_the_references_attention(
    name: str, method: str, tmp_path: Path
) -> None:
    theirs, checkpoint = saved(name, tmp_path)
    ours = ViT.from_tensors(checkpoint.config, checkpoint.tensors)
    logits, maps = attribution.attribute(ours, pixels(), [3, 5], method)
    with torch.no_grad():
        np.testing.assert_allclose(logits, theirs(pixels()).logits[0].numpy(), atol=1e-5)
    for index, found in zip([3, 5], maps, strict=True):
        expected = PLAIN[method](theirs, CASES[name][2], index)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(found / expected.max(), expected / expected.max(), atol=1e-3)


def test_legrad_equals_a_plain_implementation(tmp_path: Path) -> None:
    theirs, checkpoint = saved("class token", tmp_path)
    found = theirs(pixels().requires_grad_(), output_attentions=True, output_hidden_states=True)
    expected = torch.zeros(17)
    for attention, tokens in zip(found.attentions, found.hidden_states[1:], strict=True):
        logit = theirs.classifier(theirs.vit.layernorm(tokens)[:, 0])[0, 3]
        (slope,) = torch.autograd.grad(logit, attention, retain_graph=True)
        expected += slope[0].clamp(min=0).mean(dim=(0, 1)) / 3
    ours = ViT.from_tensors(checkpoint.config, checkpoint.tensors)
    _, (map_,) = attribution.attribute(ours, pixels(), [3], "legrad")
    np.testing.assert_allclose(map_, patches_of(expected), atol=1e-5)
    assert map_.max() > 1e-3


SMALL: dict[str, Any] = dict(
    image_size=32, patch_size=8, width=48, depth=3, heads=3, head_width=16, mlp_width=96, classes=7
)


@pytest.mark.parametrize("changes", [
    {}, {"pooling": "mean", "pooled_norm": True}, {"pooling": "mean_all"}, {"register_tokens": 2}, {"patch_size": 16},
    {"distillation_token": True}, {"post_norm": True}, {"class_token": False, "pooling": "mean"},
    {"class_token": False, "pooling": "attention_all"}, {"register_tokens": 2, "pooling": "attention"},
    {"relative_positions": True, "positions": False, "pooling": "mean"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("method", attribution.METHODS)
def test_every_network_has_maps_of_its_patches(changes: dict[str, Any], method: str) -> None:
    torch.manual_seed(0)
    model = ViT(Config(**(SMALL | changes))).eval().requires_grad_(False)
    logits, (one, other) = attribution.attribute(model, pixels(), [1, 2], method)
    grid = 32 // model.config.patch_size
    assert (logits.shape, one.shape) == ((7,), (grid, grid))
    assert np.isfinite(one).all()
    assert one.min() >= 0
    assert one.max() > 0
    assert np.array_equal(one, other) != CLASS_SPECIFIC[method]  # type: ignore[index]


def test_the_methods_that_can_be_chosen_are_those_that_there_are() -> None:
    assert set(CLASS_SPECIFIC) == set(attribution.METHODS)


def test_pooling_by_attention_is_one_layer_more_for_the_rule() -> None:
    torch.manual_seed(0)
    model = ViT(Config(**(SMALL | {"pooling": "attention_all", "class_token": False}))).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.3) if parameter.ndim > 1 else parameter.uniform_(0.2, 1.2)
    record = Record()
    logits = model(pixels().requires_grad_(), record)
    slopes = torch.autograd.grad(logits[0, 3], record.attention)
    relevance = torch.eye(16)
    for attention, slope in zip(record.attention[:-1], slopes[:-1], strict=True):
        relevance = relevance + (attention * slope)[0].clamp(min=0).mean(dim=0) @ relevance
    expected = (record.attention[-1] * slopes[-1])[0].clamp(min=0).mean(dim=0) @ relevance
    _, (found,) = attribution.attribute(model, pixels(), [3], "gradient")
    np.testing.assert_allclose(found, expected.detach().reshape(4, 4).numpy(), rtol=1e-4, atol=1e-6)


def test_attention_is_fused_unless_a_map_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ViT(Config(**SMALL)).eval()
    fused: list[int] = []
    original = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention", lambda *a, **k: fused.append(1) or original(*a, **k)
    )
    model(pixels())
    assert len(fused) == 3
    model(pixels(), Record())
    assert len(fused) == 3


def test_the_highest_patches_are_replaced_by_the_mean_colour() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:, 2:] = 200
    relevance = np.array([[0.0, 0.5], [0.2, 0.1]], np.float32)
    chosen = highest(relevance, 0.5)
    assert chosen.tolist() == [1, 2]
    left = without(picture, chosen, 2)
    assert left[::2, ::2, 0].tolist() == [[0, 100], [100, 200]]
    assert (left == left.reshape(2, 2, 2, 2, 3)[:, :1, :, :1].repeat(2, 1).repeat(2, 3).reshape(4, 4, 3)).all()
    assert highest(relevance, 0.01).tolist() == [1]  # one at least


def test_a_patchs_place_is_the_same_in_the_map_and_in_the_picture() -> None:
    # a bright patch that alone differs: deleting it must leave the picture even
    picture = np.full((32, 32, 3), 10, np.uint8)
    picture[8:16, 24:32] = 250
    relevance = np.zeros((4, 4), np.float32)
    relevance[1, 3] = 1
    assert np.ptp(without(picture, highest(relevance, 1 / 16), 4)) <= 15
