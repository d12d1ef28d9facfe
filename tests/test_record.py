"""A network gives its attention maps and tokens to whoever asks, the reference's, at no cost otherwise."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from conftest import save_reference
from transformers import ViTForImageClassification

from vitcli import checkpoints
from vitcli.config import Config
from vitcli.network.accelerator import fuse
from vitcli.network.model import Record, ViT

SMALL: dict[str, Any] = dict(
    image_size=32, patch_size=8, width=48, depth=3, heads=3, head_width=16, mlp_width=96, classes=7
)
VARIANTS: list[dict[str, Any]] = [
    {}, {"distillation_token": True}, {"pooling": "mean"}, {"pooling": "mean_all", "pooled_norm": True}, {"classes": 0},
    {"heads": 1, "head_width": 48, "attention_out": False}, {"register_tokens": 2},
]  # fmt: skip


def network(**changes: Any) -> ViT:
    """A small random network whose weights are large enough for mistakes to show."""
    torch.manual_seed(0)
    model = ViT(Config(**(SMALL | changes))).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.2) if parameter.ndim > 1 else parameter.uniform_(0.2, 1.2)
    return model


def pixels(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_attention_maps_and_tokens_are_the_references(tmp_path: Path) -> None:
    folder = save_reference(tmp_path, patch_size=8, num_hidden_layers=3)
    theirs = ViTForImageClassification.from_pretrained(folder, attn_implementation="eager").eval()
    checkpoint = checkpoints.load(folder)
    model, record = ViT.from_tensors(checkpoint.config, checkpoint.tensors), Record()
    with torch.inference_mode():
        expected = theirs(pixels(), output_attentions=True, output_hidden_states=True)
        logits = model(pixels(), record)
    assert len(record.attention) == len(record.tokens) == 3
    assert record.attention[-1].shape == (2, 2, 17, 17)
    torch.testing.assert_close(logits, expected.logits, atol=1e-5, rtol=0)
    for ours, map_ in zip(record.attention, expected.attentions, strict=True):
        torch.testing.assert_close(ours, map_, atol=1e-5, rtol=0)
    for ours, state in zip(record.tokens, expected.hidden_states[1:], strict=True):  # [0] is what goes in
        torch.testing.assert_close(ours, state, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fused", [False, True], ids=["as it is", "query, key and value in one"])
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_asking_does_not_change_the_answer(changes: dict[str, Any], fused: bool) -> None:
    model, record = network(**changes), Record()
    expected = copy.deepcopy(model)(pixels())
    if fused:
        fuse(model)
    torch.testing.assert_close(model(pixels(), record), expected, atol=1e-5, rtol=1e-5)
    tokens = model.config.tokens
    assert [m.shape for m in record.attention] == [(2, model.config.heads, tokens, tokens)] * 3
    assert [t.shape for t in record.tokens] == [(2, tokens, 48)] * 3
    for attention in record.attention:
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones(2, model.config.heads, tokens))


def test_attention_is_fused_and_the_last_block_short_unless_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[int] = []
    right = F.scaled_dot_product_attention

    def counted(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: None) -> torch.Tensor:
        shapes.append(q.shape[2])
        return right(q, k, v, bias)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    model = network()
    model(pixels())
    assert shapes == [17, 17, 1]
    model(pixels(), Record())
    assert len(shapes) == 3


def test_a_logits_gradient_reaches_every_map() -> None:
    model, record = network(), Record()
    logits = model(pixels().requires_grad_(), record)
    gradients = torch.autograd.grad(logits[:, 3].sum(), record.attention)
    assert [g.shape for g in gradients] == [m.shape for m in record.attention]
    assert all(g.abs().max() > 0 for g in gradients)
    # only the class token's row of the last map is on the way to the logits
    assert gradients[-1][:, :, 0].abs().max() > 0
    assert gradients[-1][:, :, 1:].abs().max() == 0
