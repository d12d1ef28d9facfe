"""A LoRA adapter computes what its base with W + scale * B A computes; what is another sum is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, ViTModel

from tests.test_checkpoints import agrees, model, saved
from vitcli import checkpoints
from vitcli.errors import CheckpointError, LayoutError, NotWeights

QUERY, VALUE = (f"vit.encoder.layer.1.attention.attention.{part}" for part in ("query", "value"))
NOW = "vit.layers.1.attention.q_proj"  # what transformers 5 calls the first of them in memory
RANK = 4


def adapted(
    folder: Path, base: Path | str, said: dict[str, Any] | None = None, query: str = QUERY
) -> tuple[Path, dict[str, torch.Tensor]]:
    """A folder as PEFT saves it, with a head of five classes; and what is to be added to each weight, unscaled."""
    random = torch.Generator().manual_seed(3)
    state, sums = {}, {}
    for name, module in ((query, "q_proj"), (VALUE, "v_proj")):
        a, b = torch.randn(RANK, 48, generator=random) / 7, torch.randn(48, RANK, generator=random) / 7
        state[f"base_model.model.{name}.lora_A.weight"], state[f"base_model.model.{name}.lora_B.weight"] = a, b
        sums[module] = b @ a
    state["base_model.model.classifier.weight"] = torch.randn(5, 48, generator=random)
    state["base_model.model.classifier.bias"] = torch.randn(5, generator=random)
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": RANK, "lora_alpha": 16}
    (folder / "adapter_config.json").write_text(json.dumps(config | (said or {})))
    return folder, state | sums


def expected(tensors: dict[str, torch.Tensor], **scales: float) -> PreTrainedModel:
    """The base with the sums and the new head put into it by hand."""
    network = model()
    with torch.no_grad():
        attention = network.vit.layers[1].attention
        for module, scale in scales.items():
            getattr(attention, module).weight += scale * tensors[module]
        network.classifier = torch.nn.Linear(48, 5)
        network.classifier.weight.copy_(tensors["base_model.model.classifier.weight"])
        network.classifier.bias.copy_(tensors["base_model.model.classifier.bias"])
    return network.eval()


@pytest.mark.parametrize(("said", "query", "value"), [
    ({}, 16 / RANK, 16 / RANK),
    ({"lora_alpha": 3}, 3 / RANK, 3 / RANK),
    ({"use_rslora": True}, 16 / math.sqrt(RANK), 16 / math.sqrt(RANK)),
    ({"alpha_pattern": {"attention.query": 6}}, 6 / RANK, 16 / RANK),
])  # fmt: skip
def test_an_adapter_is_merged_with_its_base(tmp_path: Path, said: dict[str, Any], query: float, value: float) -> None:
    folder, tensors = adapted(tmp_path / "adapter", saved(tmp_path / "base", model()), said)
    for path in (folder, folder / "adapter_model.safetensors"):
        checkpoint = checkpoints.load(path)
        agrees(checkpoint, expected(tensors, q_proj=query, v_proj=value))
        assert any("an adapter (LoRA), merged into its base" in warning for warning in checkpoint.warnings)
    assert [file.name for file in checkpoint.files] == ["adapter_model.safetensors", "model.safetensors"]


def test_the_names_of_todays_transformers_mean_the_same_tensors(tmp_path: Path) -> None:
    folder, tensors = adapted(tmp_path / "adapter", saved(tmp_path / "base", model()), query=NOW)
    agrees(checkpoints.load(folder), expected(tensors, q_proj=4, v_proj=4))


def test_a_base_without_a_head_gets_the_adapters(tmp_path: Path) -> None:
    body = model().vit
    assert isinstance(body, ViTModel)
    folder, tensors = adapted(tmp_path / "adapter", saved(tmp_path / "base", body))
    agrees(checkpoints.load(folder), expected(tensors, q_proj=4, v_proj=4))


def test_classes_are_the_adapters_and_the_rest_is_the_bases(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", model(id2label=dict(enumerate("abcdefg"))))
    (base / "preprocessor_config.json").write_text('{"size": 32, "resample": 1}')
    checkpoint = checkpoints.load(adapted(tmp_path / "adapter", base)[0])
    assert (checkpoint.labels.names[0], checkpoint.preprocess.filter) == ("class 0", "lanczos")
    (tmp_path / "adapter" / "config.json").write_text(json.dumps({"id2label": dict(enumerate("vwxyz"))}))
    assert checkpoints.load(tmp_path / "adapter").labels.names == tuple("vwxyz")


@pytest.mark.parametrize(("said", "words"), [
    ({"use_dora": True}, "DoRA, which is not merged here.*merge_and_unload"),
    ({"peft_type": "IA3"}, "another kind than LoRA"),
    ({"lora_bias": True}, "LoRA with biases"),
    ({"init_lora_weights": "pissa"}, "LoRA that changed its base's weights"),
    ({"alpha_pattern": {"(a+)+$": 3}}, "alpha_pattern .* is no plain name"),
    ({"lora_alpha": "much"}, "not the settings of an adapter"),
    ({"base_model_name_or_path": None}, "not the settings of an adapter"),
])  # fmt: skip
def test_what_is_another_sum_is_named(tmp_path: Path, said: dict[str, Any], words: str) -> None:
    folder, _ = adapted(tmp_path / "adapter", saved(tmp_path / "base", model()), said)
    with pytest.raises(CheckpointError, match=words):
        checkpoints.load(folder)


def test_a_base_that_is_not_at_hand_is_named_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Fetch it with: vit download-weights acme/vit-large"):
        checkpoints.load(adapted(tmp_path / "hub", "acme/vit-large")[0])
    with pytest.raises(CheckpointError, match=r"/no/such/folder, which is not here.*merge_and_unload"):
        checkpoints.load(adapted(tmp_path / "disk", "/no/such/folder")[0])
    adapted(tmp_path / "loop", tmp_path / "loop")
    with pytest.raises(CheckpointError, match="an adapter of an adapter"):
        checkpoints.load(tmp_path / "loop")


def test_matrices_that_fit_no_layer_of_the_base_are_named(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", model())
    folder, _ = adapted(tmp_path / "adapter", base, query="vit.encoder.layer.9.attention.attention.query")
    with pytest.raises(LayoutError, match=r"no linear layer of .*: encoder\.layer\.9\.attention"):
        checkpoints.load(folder)
    (folder / "adapter_config.json").write_text("[")
    with pytest.raises(NotWeights, match="not the settings of an adapter"):
        checkpoints.load(folder)


def test_a_rank_beyond_any_use_is_refused_before_it_is_multiplied(tmp_path: Path) -> None:
    base = saved(tmp_path / "base", model())
    folder, _ = adapted(tmp_path / "adapter", base)
    names, rank = [f"base_model.model.{QUERY}.lora_{part}.weight" for part in "AB"], 10**6
    shapes, size = ([rank, 48], [48, rank]), 4 * rank * 48
    header = json.dumps({
        name: {"dtype": "F32", "shape": shape, "data_offsets": [i * size, (i + 1) * size]}
        for i, (name, shape) in enumerate(zip(names, shapes, strict=True))
    }).encode()  # fmt: skip
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2 * size)
    with pytest.raises(LayoutError, match="no linear layer of"):
        checkpoints.load(folder)


def test_an_adapter_of_an_adapter_is_not_followed(tmp_path: Path) -> None:
    one, _ = adapted(tmp_path / "one", tmp_path / "other")
    adapted(tmp_path / "other", tmp_path / "one")
    with pytest.raises(CheckpointError, match="an adapter of an adapter"):
        checkpoints.load(one)
