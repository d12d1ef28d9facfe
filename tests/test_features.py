"""A network without its head gives the features that the reference's bare model gives, on every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import save_reference
from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher, DeiTModel, ViTModel

from vitcli import checkpoints
from vitcli.config import Config
from vitcli.network import backend
from vitcli.network.accelerator import OnCard
from vitcli.network.model import ViT

TINY: dict[str, Any] = dict(
    hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, image_size=32, patch_size=8,
    num_labels=7,
)  # fmt: skip
ENGINES = ["plain", "torch", "numpy", "accelerator"]
VARIANTS: list[dict[str, Any]] = [{}, {"hidden_act": "gelu_pytorch_tanh"}, {"layer_norm_eps": 1e-3}]


def pictures(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def save_distilled(folder: Path) -> Path:
    """A tiny random DeiT of two heads."""
    torch.manual_seed(0)
    network = DeiTForImageClassificationWithTeacher(DeiTConfig(**TINY)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.2) if parameter.ndim > 1 else parameter.uniform_(0.2, 1.2)
    network.save_pretrained(folder)
    return folder


def hidden_states(kind: Any, folder: Path, given: np.ndarray) -> np.ndarray:
    """The reference's `last_hidden_state` of prepared pictures: [b n d]."""
    normalised = torch.from_numpy(checkpoints.peek(folder).preprocess.normalised(given))
    with torch.inference_mode():
        bare = kind.from_pretrained(folder, add_pooling_layer=False).eval()
        return np.asarray(bare(normalised).last_hidden_state.numpy())


def features(folder: Path, engine: str, given: np.ndarray) -> np.ndarray:
    """Those of one of our engines, "plain" being torch without packed layers: [b d]."""
    headless = checkpoints.load(folder).headless()
    network = ViT.from_tensors(headless.config, headless.tensors)
    if engine == "plain":
        with torch.inference_mode():
            return network(torch.from_numpy(headless.preprocess.normalised(given))).numpy()
    if engine == "accelerator":  # on the CPU: what differs is fused layers and normalising beside the network
        return OnCard(network, headless.preprocess, compiled=False).submit(given)()
    settings: dict[str, Any] = {"engine": engine, "device": "cpu", "dtype": "float32", "pictures": None}
    return backend.load(headless, **settings).logits(given)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_features_are_the_references_class_token(tmp_path: Path, changes: dict[str, Any], engine: str) -> None:
    folder = save_reference(tmp_path, **(TINY | changes))
    expected = hidden_states(ViTModel, folder, pictures())[:, 0]
    found = features(folder, engine, pictures())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_features_of_a_distilled_model_are_the_mean_of_the_references_two_tokens(tmp_path: Path, engine: str) -> None:
    folder = save_distilled(tmp_path)
    expected = hidden_states(DeiTModel, folder, pictures())[:, :2].mean(axis=1)
    np.testing.assert_allclose(features(folder, engine, pictures()), expected, atol=1e-5, rtol=0)


def test_a_network_without_a_head_holds_every_tensor_but_the_head_s(tmp_path: Path) -> None:
    checkpoint = checkpoints.load(save_distilled(tmp_path))
    headless = checkpoint.headless()
    gone = {f"{head}.{part}" for head in ("head", "distillation_head") for part in ("weight", "bias")}
    assert set(checkpoint.tensors) - set(headless.tensors) == gone
    assert {name: tensor.shape for name, tensor in headless.tensors.items()} == headless.config.tensors()
    assert all(headless.tensors[name] is checkpoint.tensors[name] for name in headless.tensors)
    assert len(headless.labels) == 0
    assert (checkpoint.config.outputs, headless.config.outputs) == (7, 48)
    assert checkpoint.config.parameters - headless.config.parameters == 2 * (7 * 48 + 7)


def test_the_head_reads_the_features() -> None:
    torch.manual_seed(0)
    shape: dict[str, Any] = dict(image_size=16, patch_size=8, width=24, depth=1, heads=2, head_width=12, mlp_width=32)
    whole = ViT(Config(**shape, classes=5)).eval()
    bare = ViT(Config(**shape, classes=0)).eval()
    bare.load_state_dict({name: tensor for name, tensor in whole.state_dict().items() if "head." not in name})
    pixels = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(whole.head(bare(pixels)), whole(pixels))
