"""Names parse, sizes are the published ones, and the list of tensors is the network's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitcli.config import SIZES, Config
from vitcli.network.model import ViT

VARIANTS = {
    "the default": {},
    "mean pooling with a norm after it": {"pooling": "mean", "pooled_norm": True, "class_token": False},
    "mean over all tokens": {"pooling": "mean_all"},
    "distilled": {"distillation_token": True},
    "registers, positions for patches only": {"register_tokens": 4, "prefix_positions": False},
    "layer scale": {"layer_scale": True},
    "vit-pytorch": {"patch_norms": True, "qkv_bias": False},
    "one full-width head without output": {"heads": 1, "head_width": 32, "attention_out": False},
    "heads wider than the width": {"heads": 4, "head_width": 16},
    "tanh": {"gelu": "tanh", "norm_eps": 1e-6},
}
TINY = Config(image_size=32, patch_size=8, width=32, depth=2, heads=2, head_width=16, mlp_width=48, classes=7)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_the_listed_tensors_are_those_of_the_network(changes: dict[str, object]) -> None:
    config = replace(TINY, **changes)  # type: ignore[arg-type]
    assert {name: tuple(p.shape) for name, p in ViT(config).state_dict().items()} == config.tensors()


def test_the_default_is_vit_base_with_its_published_numbers() -> None:
    config = Config.named("B/16")
    assert config == Config()
    assert config.name == "ViT-B/16"
    assert config.parameters == 86_567_656  # as in google/vit-base-patch16-224's file
    assert config.tokens == 197
    assert 35.0e9 < config.flops < 35.2e9


@pytest.mark.parametrize("size", SIZES)
def test_every_published_size_parses_and_prints(size: str) -> None:
    assert Config.named(f"{size}/16").name == f"ViT-{size}/16"
    assert Config.named(f"ViT-{size}/32", image_size=384).patches == 144


@pytest.mark.parametrize("name", ["", "B", "X/16", "B/", "B/x", "B/16/2"])
def test_a_name_that_does_not_parse_says_how_to_write_one(name: str) -> None:
    with pytest.raises(ValueError, match="'B/16'"):
        Config.named(name)


def test_an_unpublished_shape_prints_its_numbers() -> None:
    assert TINY.name == "ViT (width 32, depth 2)/8"
