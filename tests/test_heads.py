"""Heads as people make them: a lone linear layer under any usual name is read, anything more is refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification, ViTModel

from tests.oracles import weights_of
from tests.test_checkpoints import TINY, agrees, model, pixels, saved
from tests.test_layouts import agrees as agrees_with_file
from tests.test_layouts import logits
from vitcli import checkpoints
from vitcli.errors import LayoutError


def finetuned(path: Path, change: Callable[[ViTForImageClassification], object]) -> ViTForImageClassification:
    """A tiny ViT of transformers with another head, its state dict saved beside its config."""
    network = model()
    change(network)
    torch.save(network.state_dict(), path / "finetuned.pth")
    network.config.save_pretrained(path)
    return network.eval()


@pytest.mark.parametrize("case", ["heads_linear", "heads_dropout", "head_dropout"])
def test_heads_put_into_torchvisions_network_give_its_logits(oracles: Path, case: str) -> None:
    warnings = agrees_with_file(oracles / "torchvision" / case, "torchvision").warnings
    assert any("Dropout" in warning for warning in warnings) == (case != "heads_linear")


@pytest.mark.parametrize(("case", "names"), [
    ("head_mlp", "heads.head.0, heads.head.2"), ("representation", "heads.pre_logits, heads.head"),
])  # fmt: skip
def test_several_linear_layers_are_refused_by_name(oracles: Path, case: str, names: str) -> None:
    with pytest.raises(LayoutError, match=f"the head is {names}: more than one linear layer"):
        checkpoints.load(weights_of(oracles / "torchvision" / case))


def test_a_norm_in_the_head_is_left_over_not_left_out(oracles: Path) -> None:
    with pytest.raises(LayoutError, match=r"left over: heads\.0\.weight, heads\.0\.bias"):
        checkpoints.load(weights_of(oracles / "torchvision" / "head_norm"))


@pytest.mark.parametrize("name", ["classifier", "head", "fc"])
def test_dropout_and_a_linear_layer_are_that_layer(tmp_path: Path, name: str) -> None:
    def change(network: ViTForImageClassification) -> None:
        network.classifier = nn.Sequential(nn.Dropout(0.4), nn.Linear(48, 5))

    network = finetuned(tmp_path, change)
    state = {key.replace("classifier", name): tensor for key, tensor in network.state_dict().items()}
    torch.save(state, tmp_path / "finetuned.pth")
    checkpoint = checkpoints.load(tmp_path / "finetuned.pth")
    agrees(checkpoint, network)
    assert any(f"the head is called {name}.1" in warning for warning in checkpoint.warnings)


class Own(nn.Module):
    """A notebook's module: a backbone of the library, and a head of one's own beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ViTModel(ViTConfig(**TINY), add_pooling_layer=False)
        self.fc = nn.Linear(48, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.backbone(x).last_hidden_state[:, 0])


def test_a_backbone_in_a_module_of_ones_own_with_a_head_beside_it(tmp_path: Path) -> None:
    network = Own().eval()
    torch.save({"state_dict": {f"model.{name}": t for name, t in network.state_dict().items()}}, tmp_path / "own.pth")
    checkpoint = checkpoints.load(tmp_path / "own.pth", heads=3)
    with torch.inference_mode():
        expected = network(pixels())
    torch.testing.assert_close(torch.from_numpy(logits(checkpoint, pixels().numpy())), expected, atol=1e-5, rtol=0)
    assert any("the head is called fc" in warning for warning in checkpoint.warnings)


def test_a_pooler_between_network_and_head_is_warned_of(tmp_path: Path) -> None:
    state = saved(tmp_path / "x", model()) and model().state_dict()
    extra = {"vit.pooler.dense.weight": torch.ones(48, 48), "vit.pooler.dense.bias": torch.ones(48)}
    torch.save(state | extra, tmp_path / "own.pth")
    assert any("pooler" in warning for warning in checkpoints.load(tmp_path / "own.pth", heads=3).warnings)
    torch.save(state | extra, tmp_path / "x" / "pytorch_model.bin")
    (tmp_path / "x" / "model.safetensors").unlink()
    assert not any("pooler" in warning for warning in checkpoints.load(tmp_path / "x").warnings)


def test_a_head_of_zeros_is_warned_of(tmp_path: Path) -> None:
    def change(network: ViTForImageClassification) -> None:
        nn.init.zeros_(network.classifier.weight)

    finetuned(tmp_path, change)
    assert any("all zeros" in warning for warning in checkpoints.load(tmp_path / "finetuned.pth").warnings)


def test_a_head_under_a_strange_name_is_named_before_it_is_said_to_be_missing(tmp_path: Path) -> None:
    state = {name.replace("classifier", "my_own"): tensor for name, tensor in model().state_dict().items()}
    torch.save(state, tmp_path / "own.pth")
    with pytest.raises(LayoutError, match=r"left over: my_own\.weight, my_own\.bias; missing: classifier\.weight"):
        checkpoints.load(tmp_path / "own.pth", heads=3)
