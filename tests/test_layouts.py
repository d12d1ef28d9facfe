"""Every layout gives its own library's logits: tiny random models saved by that library, in a process of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.oracles import weights_of
from vitcli import checkpoints
from vitcli.checkpoints import LAYOUTS, Checkpoint, Layout
from vitcli.checkpoints.rules import spelled_out
from vitcli.config import Config
from vitcli.network.model import ViT
from vitcli.network.numpy_model import NumpyViT

TIMM = [
    "plain", "safetensors", "wrapped", "lightning", "averaged", "flat_patches", "pre_logits", "mean_fc_norm",
    "mean_norm_before", "no_class_token", "no_class_token_norm_before", "no_qkv_bias", "registers",
    "registers_no_embed", "registers_mean", "deit3", "deit3_as_published", "distilled",
]  # fmt: skip
TORCHVISION = ["plain", "old_mlp"]
VIT_PYTORCH = ["cls", "mean", "usual_head_width", "dim_head", "one_head", "article_cls", "article_mean"]
VIT_JAX = ["vit_jax", "vit_jax_opt_target", "vit_jax_mean"]
BIG_VISION = ["big_vision", "big_vision_bare", "big_vision_stacked", "big_vision_img"]


def logits(checkpoint: Checkpoint, pixels: np.ndarray, config: Config | None = None) -> np.ndarray:
    """Through the torch network: [b 3 H W] -> [b k]."""
    with torch.inference_mode():
        return ViT.from_tensors(config or checkpoint.config, checkpoint.tensors)(torch.from_numpy(pixels)).numpy()


def agrees(folder: Path, layout: str, **options: object) -> Checkpoint:
    """Both engines give the library's logits, and its features without the head; returns the checkpoint."""
    expected = np.load(folder / "expected.npz")
    weights = weights_of(folder)
    checkpoint = checkpoints.load(weights, **options)
    assert checkpoint.layout == layout
    np.testing.assert_allclose(logits(checkpoint, expected["pixels"]), expected["logits"], atol=1e-5, rtol=0)
    by_numpy = NumpyViT(checkpoint.config, checkpoint.tensors)(expected["pixels"])
    np.testing.assert_allclose(by_numpy, expected["logits"], atol=1e-5, rtol=0)
    with pytest.MonkeyPatch.context() as patched:  # as if every matrix were too large to be kept
        patched.setattr("vitcli.checkpoints.weights.SMALL", 0)
        streamed = checkpoints.load(weights, **options).tensors.streamed()
    by_numpy = NumpyViT(checkpoint.config, streamed, 2)(expected["pixels"])
    np.testing.assert_allclose(by_numpy, expected["logits"], atol=1e-5, rtol=0)
    if "features" in expected:
        headless = checkpoint.headless()
        for features in (
            logits(headless, expected["pixels"]),
            NumpyViT(headless.config, headless.tensors)(expected["pixels"]),
        ):
            np.testing.assert_allclose(features, expected["features"], atol=1e-5, rtol=0)
    lazily = checkpoints.peek(weights, **options)
    assert {name: tensor.shape for name, tensor in lazily.tensors.items()} == checkpoint.config.tensors()
    return checkpoint


@pytest.mark.parametrize("case", TIMM)
def test_timm_checkpoints_give_timms_logits(oracles: Path, case: str) -> None:
    checkpoint = agrees(oracles / "timm" / case, "timm")
    if case == "pre_logits":
        assert checkpoint.dropped == ("pre_logits.fc.weight", "pre_logits.fc.bias")
        assert any("pre_logits" in warning for warning in checkpoint.warnings)
    if case == "averaged":
        assert any("state_dict_ema" in warning for warning in checkpoint.warnings)


@pytest.mark.parametrize("case", TORCHVISION)
def test_torchvision_checkpoints_give_torchvisions_logits(oracles: Path, case: str) -> None:
    agrees(oracles / "torchvision" / case, "torchvision")


@pytest.mark.parametrize("case", VIT_PYTORCH)
def test_vit_pytorch_checkpoints_give_vit_pytorchs_logits(oracles: Path, case: str) -> None:
    checkpoint = agrees(oracles / "vit-pytorch" / case, "vit-pytorch")
    told = {"cls", "article_cls", "article_mean", "mean"}  # by config.json, or by having no class token
    assert any("pooled" in warning for warning in checkpoint.warnings) == (case not in told)


def test_pooling_and_heads_can_be_given_by_hand(oracles: Path, tmp_path: Path) -> None:
    for case, options in (("article_mean", {"heads": 3, "pooling": "mean"}), ("cls", {"heads": 3, "pooling": "cls"})):
        folder = tmp_path / case
        folder.mkdir()
        for name in ("model.pt", "expected.npz"):
            (folder / name).write_bytes((oracles / "vit-pytorch" / case / name).read_bytes())
        prepared, named = agrees(folder, "vit-pytorch", **options).warnings
        assert "how pictures are prepared" in prepared
        assert "nothing names the classes" in named


@pytest.mark.parametrize("case", VIT_JAX)
def test_vit_jax_archives_give_the_tanh_networks_logits(oracles: Path, case: str) -> None:
    agrees(oracles / "google" / case, "vit_jax")


@pytest.mark.parametrize("case", BIG_VISION)
def test_big_vision_archives_give_the_tanh_networks_logits(oracles: Path, case: str) -> None:
    agrees(oracles / "google" / case, "big_vision")


@pytest.mark.parametrize("case", [
    "timm/plain", "timm/deit3", "timm/distilled", "timm/registers", "torchvision/plain", "vit-pytorch/cls",
    "google/vit_jax", "google/big_vision_stacked",
])  # fmt: skip
def test_every_missing_tensor_can_be_called_by_its_own_name(oracles: Path, case: str) -> None:
    checkpoint = checkpoints.load(weights_of(oracles / case))
    layout = next(layout for layout in LAYOUTS if layout.name == checkpoint.layout)
    for ours in checkpoint.config.tensors():
        names = [name for rule in layout.rules for name in rule.spellings(ours)]
        assert names
        for name in names:
            found = [(rule, match) for rule in layout.rules if (match := rule.match(name)) is not None]
            assert any(ours in dict(rule.targets(match, length=3)) for rule, match in found), (ours, name)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_no_two_rules_claim_one_tensor(layout: Layout) -> None:
    for i, one in enumerate(layout.rules):
        for other in layout.rules[i + 1 :]:
            for name in spelled_out(one.theirs.replace("{L}", "1").replace("{p}", "bias")):
                both = one.match(name) is not None and other.match(name) is not None
                assert not both or not any(one.fits(rank) and other.fits(rank) for rank in range(6)), name


@pytest.mark.parametrize("size", [16, 40, 56])
@pytest.mark.parametrize("case", ["plain", "registers"])
def test_timm_positions_are_resized_as_timm_does(oracles: Path, case: str, size: int) -> None:
    agrees(oracles / "timm" / f"{case}_at_{size}", "timm", image_size=size)


@pytest.mark.parametrize("size", [16, 56])
def test_torchvision_positions_are_resized_as_torchvision_does(oracles: Path, size: int) -> None:
    agrees(oracles / "torchvision" / f"plain_at_{size}", "torchvision", image_size=size)


@pytest.mark.parametrize("size", [16, 56])
def test_google_positions_are_resized_as_jax_does(oracles: Path, size: int) -> None:
    agrees(oracles / "google" / f"vit_jax_at_{size}", "vit_jax", image_size=size)


@pytest.mark.parametrize("case", ["timm/plain", "torchvision/plain", "google/vit_jax", "vit-pytorch/cls"])
def test_these_checkpoints_would_show_a_mistake(oracles: Path, case: str) -> None:
    """The tolerance is worth something: each plausible mistake moves these logits by far more than 1e-5."""
    expected = np.load(oracles / case / "expected.npz")
    right = checkpoints.load(weights_of(oracles / case))
    config, t = right.config, dict(right.tensors)
    swapped = {name: t[name.replace("query", "?").replace("key", "query").replace("?", "key")] for name in t}
    kernel = t["patch_embedding.projection.weight"].reshape(config.width, 3, -1)
    backwards = t | {"patch_embedding.projection.weight": kernel[:, ::-1].reshape(config.width, -1)}
    wrong = {
        "epsilon": (replace(config, norm_eps=1e-12 if config.norm_eps > 1e-7 else 1e-6), t),
        "gelu": (replace(config, gelu="exact" if config.gelu == "tanh" else "tanh"), t),
        "heads": (replace(config, heads=1, head_width=48), t),
        "query and key swapped": (config, swapped),
        "blue, green, red": (config, backwards),
    }
    for mistake, (changed, tensors) in wrong.items():
        copied = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        got = logits(replace(right, tensors=copied), expected["pixels"], changed)
        assert np.abs(got - expected["logits"]).max() > 1e-4, mistake
