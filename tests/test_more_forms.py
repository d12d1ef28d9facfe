"""Checkpoints as people have them, further cases of each kind: wrappers, stray tensors, labels, processors, heads."""

from __future__ import annotations

import argparse
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import noise
from safetensors.torch import save_file
from torch import nn
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tests.test_adapters import adapted
from tests.test_checkpoints import agrees, edited, model, saved
from vitcli import checkpoints
from vitcli.checkpoints import processors
from vitcli.errors import CheckpointError, LayoutError, NotWeights
from vitcli.hub import catalog

Made = Callable[[dict[str, Any]], Any]


@pytest.fixture
def state() -> dict[str, Any]:
    return model().state_dict()


def within(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


WRAPPED: dict[str, Made] = {
    "a pair with the epoch": lambda s: (s, 3),
    "a list with a dictionary of numbers": lambda s: [s, {"epoch": 3, "lr": 0.1}],
    "three dictionaries deep": lambda s: {"state": {"model": {"state_dict": s}}, "epoch": 3},
    "under a name of its own, beside an optimiser": lambda s: {
        "network": s, "opt": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1}]}},
    "averaged by torch": lambda s: {"averaged_model": within("module", s) | {"n_averaged": torch.tensor(3)}},
    "with arrays of numpy beside it": lambda s: {"model": s, "history": np.ones(3), "names": np.array(["a", "b"])},
    "with its arguments": lambda s: {"model": s, "args": argparse.Namespace(lr=1), "scaler": {"scale": 1.0}},
}  # fmt: skip


@pytest.mark.parametrize("case", WRAPPED, ids=lambda name: name.replace(" ", "_"))
def test_one_state_dict_in_whatever_holds_it_is_taken(tmp_path: Path, state: dict[str, Any], case: str) -> None:
    torch.save(WRAPPED[case](state), tmp_path / "a.pth")
    agrees(checkpoints.load(tmp_path / "a.pth", heads=3), model())


def test_what_mmengine_keeps_beside_the_weights_is_no_obstacle(
    tmp_path: Path, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = type("HistoryBuffer", (), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, "mmengine", types.ModuleType("mmengine"))
    monkeypatch.setitem(sys.modules, "mmengine.logging", types.ModuleType("mmengine.logging"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    buffer = module.HistoryBuffer()
    buffer.history = np.ones(3)
    torch.save({"meta": {"epoch": 3}, "state_dict": state, "message_hub": {"loss": buffer}}, tmp_path / "epoch_3.pth")
    agrees(checkpoints.load(tmp_path / "epoch_3.pth", heads=3), model())


@pytest.mark.parametrize("two", [{"network": "network_ema"}, {"student": "teacher"}])
def test_two_state_dicts_are_named_and_never_chosen_between(
    tmp_path: Path, state: dict[str, Any], two: dict[str, str]
) -> None:
    ((one, other),) = two.items()
    torch.save({"run": {one: state, other: state}}, tmp_path / "a.pth")
    with pytest.raises(NotWeights, match=rf"several dictionaries of tensors \({one}, {other}\)"):
        checkpoints.load(tmp_path / "a.pth")


@pytest.mark.parametrize("stray", [
    {"val_acc.tp": 7, "train_f1.confmat": (7, 7)}, {"center_loss.centers": (7, 48), "ce_loss.weight": 7},
    {"class_weights": 7, "criterion.pos_weight": 7}, {"step": (), "iter": ()}, {"initted": (), "num_updates": ()},
], ids=str)  # fmt: skip
def test_what_training_leaves_is_put_aside(tmp_path: Path, state: dict[str, Any], stray: dict[str, Any]) -> None:
    torch.save(within("model", state) | {name: torch.zeros(shape) for name, shape in stray.items()}, tmp_path / "a.pth")
    checkpoint = checkpoints.load(tmp_path / "a.pth", heads=3)
    agrees(checkpoint, model())
    assert set(stray) <= set(checkpoint.dropped)


@pytest.mark.parametrize(("stray", "words"), [
    ({"normalize.mean": 3, "normalize.std": 3}, "a normalisation of pictures of its own"),
    ({"temperature": 1}, "left over: temperature"),
    ({"mean": (1, 3, 1, 1), "std": (1, 3, 1, 1)}, "left over: mean, std"),
], ids=str)  # fmt: skip
def test_what_may_change_the_answer_is_never_put_aside(
    tmp_path: Path, state: dict[str, Any], stray: dict[str, Any], words: str
) -> None:
    torch.save(within("model", state) | {name: torch.ones(shape) for name, shape in stray.items()}, tmp_path / "a.pth")
    with pytest.raises(LayoutError, match=words):
        checkpoints.load(tmp_path / "a.pth", heads=3)


NAMES = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu"]


@pytest.mark.parametrize("beside", [
    {"vocab": NAMES}, {"target_names": NAMES}, {"label_map": dict(enumerate(NAMES))},
    {"meta": {"dataset_meta": {"classes": tuple(NAMES)}}}, {"config": {"data": {"class_names": NAMES}}},
    {"hyper_parameters": {"class_to_idx": {name: i for i, name in enumerate(NAMES)}}},
], ids=lambda found: next(iter(found)))  # fmt: skip
def test_names_of_classes_beside_the_weights_are_used(
    tmp_path: Path, state: dict[str, Any], beside: dict[str, Any]
) -> None:
    torch.save({"state_dict": state} | beside, tmp_path / "a.pth")
    checkpoint = checkpoints.load(tmp_path / "a.pth", heads=3)
    assert list(checkpoint.labels.names) == NAMES
    assert "in the file of weights" in checkpoint.sources["labels"]


@pytest.mark.parametrize("table", [
    {"id2label": {str(i + 1): name for i, name in enumerate(NAMES)}, "label2id": None},
    {"id2label": None, "label2id": {name: i + 1 for i, name in enumerate(NAMES)}},
], ids=["id2label", "label2id"])  # fmt: skip
def test_a_table_that_counts_from_one_names_no_class_wrongly(tmp_path: Path, table: dict[str, Any]) -> None:
    checkpoint = checkpoints.load(edited(saved(tmp_path, model()), **table))
    assert checkpoint.labels.names[:2] == ("class 0", "class 1")
    assert any("numbers the classes from 1 to 7, the network from 0" in warning for warning in checkpoint.warnings)


SETTINGS: dict[str, Any] = dict(size={"height": 32, "width": 32}, resample=3, image_mean=[0.4] * 3, image_std=[0.3] * 3)


def test_a_processor_that_pads_is_refused(tmp_path: Path) -> None:
    padded = SETTINGS | {"do_pad": True, "pad_size": {"height": 40, "width": 40}}
    assert ViTImageProcessorPil(**padded)(noise(1), return_tensors="np")["pixel_values"].shape[-1] == 40
    (saved(tmp_path, model()) / "preprocessor_config.json").write_text(json.dumps(padded))
    with pytest.raises(CheckpointError, match=r"pad pictures after they are resized \(do_pad\)"):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize("more", [
    {"do_pad": True, "pad_size": {"height": 32, "width": 32}}, {"do_pad": True, "pad_size": None},
    {"size": {"height": 28, "width": 28}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}},
    {"do_flip_channel_order": True, "do_grayscale": True, "crop_pct": 0.9},
], ids=str)  # fmt: skip
def test_fields_that_do_nothing_in_the_library_do_nothing_here(more: dict[str, Any]) -> None:
    picture = noise(1)
    theirs = ViTImageProcessorPil(**(SETTINGS | more))(picture, return_tensors="np")["pixel_values"]
    found = processors.from_transformers(SETTINGS | more)
    np.testing.assert_allclose(found.normalised(found.resized(picture)[None]), theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [
    "huggingface.co/google/vit-base-patch16-224", "hf.co/google/vit-base-patch16-224", "'google/vit-base-patch16-224'",
    "https://hf-mirror.com/google/vit-base-patch16-224", "https://huggingface.co/google/vit-base-patch16-224.git",
    "git@hf.co:google/vit-base-patch16-224", "models--google--vit-base-patch16-224",
    f"https://huggingface.co/google/vit-base-patch16-224/commit/{catalog.MODELS[0].revision}",
])  # fmt: skip
def test_addresses_of_other_places_mean_the_same_model(name: str) -> None:
    found = catalog.find(name)
    assert found is not None
    assert (found.repository, found.revision) == ("google/vit-base-patch16-224", catalog.MODELS[0].revision)


@pytest.mark.parametrize("name", ["https://huggingface.co/google/vit-base-patch16-224/discussions/3",
                                  "https://huggingface.co/spaces/google/vit"])  # fmt: skip
def test_pages_that_are_no_model_are_not_taken_for_one(name: str) -> None:
    assert catalog.find(name) is None
    assert "Only a repository's own weights are fetched" in catalog.hint(name)


def test_an_adapter_in_a_folder_of_its_name_is_pointed_to(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    adapted(tmp_path / "out" / "pets", "org/base")
    with pytest.raises(CheckpointError, match=r"holds no weights itself, but pets/adapter_model\.safetensors"):
        checkpoints.load(tmp_path / "out")


def test_an_adapter_with_matrices_for_the_patches_is_refused_by_name(tmp_path: Path) -> None:
    folder, _ = adapted(tmp_path / "lora", saved(tmp_path / "base", model()))
    name = "base_model.model.vit.embeddings.patch_embeddings.projection"
    convolution = {f"{name}.lora_A.weight": torch.ones(4, 3, 8, 8), f"{name}.lora_B.weight": torch.ones(48, 4, 1, 1)}
    save_file(convolution, folder / "adapter_model.safetensors")
    with pytest.raises(LayoutError, match=r"no linear layer of .*patch_embeddings\.projection"):
        checkpoints.load(folder)


def headed(path: Path, head: nn.Module) -> None:
    network = model()
    network.classifier = head
    torch.save(network.state_dict(), path)


@pytest.mark.parametrize(("head", "words"), [
    (nn.Sequential(nn.BatchNorm1d(48), nn.Linear(48, 7)), r"left over: classifier\.0\.weight"),
    (nn.Sequential(nn.PReLU(48), nn.Linear(48, 7)), r"left over: classifier\.0\.weight"),
    (nn.Linear(48, 7, bias=False), r"missing: classifier\.bias"),
    (nn.Sequential(nn.Linear(48, 9), nn.GELU(), nn.Linear(9, 7)), r"classifier\.0, classifier\.2: more than one"),
    (torch.nn.utils.parametrizations.weight_norm(nn.Linear(48, 7)), r"left over: classifier\.parametrizations"),
], ids=["batch norm", "prelu", "no bias", "two layers", "weight norm"])  # fmt: skip
def test_heads_that_are_more_than_a_linear_layer_are_named(tmp_path: Path, head: nn.Module, words: str) -> None:
    headed(tmp_path / "a.pth", head)
    with pytest.raises(LayoutError, match=words):
        checkpoints.load(tmp_path / "a.pth", heads=3)


def test_a_head_for_two_vectors_is_taken_for_dinov2s_with_a_warning(tmp_path: Path) -> None:
    headed(tmp_path / "a.pth", nn.Linear(96, 7))
    checkpoint = checkpoints.load(tmp_path / "a.pth", heads=3)
    assert checkpoint.config.pooling == "cls_mean"
    assert any("reads twice the width" in warning for warning in checkpoint.warnings)


def test_a_trainers_best_model_is_pointed_to(tmp_path: Path) -> None:
    saved(tmp_path / "best_model", model())
    (tmp_path / "trainer_state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"but best_model/model\.safetensors\. Name that"):
        checkpoints.load(tmp_path)
    saved(tmp_path / "checkpoint-500", model())
    with pytest.raises(CheckpointError, match="newest checkpoint is checkpoint-500"):
        checkpoints.load(tmp_path)
