"""Any checkpoint in the hub's layout: transformers loads it whole and computes the same logits."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import noise, save_reference
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles import weights_of
from vitcli import checkpoints
from vitcli.checkpoints import Checkpoint, convert, processors
from vitcli.config import Config
from vitcli.errors import CheckpointError, OutputError, UsageError
from vitcli.labels import Labels
from vitcli.network.model import ViT
from vitcli.pictures.preprocess import FAMILIES, FILTERS, Preprocess

Vit = Callable[..., "subprocess.CompletedProcess[str]"]

EXPRESSED = [
    "timm/plain", "timm/safetensors", "timm/wrapped", "timm/averaged", "timm/flat_patches", "timm/pre_logits",
    "timm/no_qkv_bias", "timm/deit3", "timm/deit3_as_published", "timm/distilled",
    "torchvision/plain", "torchvision/old_mlp",
    "google/vit_jax", "google/vit_jax_opt_target",
    "google/big_vision", "google/big_vision_bare", "google/big_vision_stacked",
]  # fmt: skip
REFUSED = {
    "timm/mean_fc_norm": "pooling by the mean",
    "timm/mean_norm_before": "pooling by the mean",
    "timm/no_class_token": "no class token",
    "timm/registers": "4 register tokens",
    "timm/registers_mean": "pooling by the mean, 4 register tokens",
    "google/vit_jax_mean": "no class token",
    "google/big_vision_img": "no class token",
    "vit-pytorch/cls": "norms around the patch embedding",
    "vit-pytorch/one_head": "attention without an output projection",
    "vit-pytorch/article_mean": "pooling by the mean",
}


def loaded(folder: Path, config: Config) -> Any:
    """What transformers makes of a folder, which must not miss nor leave a tensor."""
    kind = getattr(transformers, convert.architecture(config))
    model, said = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(said.values()), said
    return model.eval()


def logits(model: Any, pixels: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(pixels)).logits.numpy()


@pytest.mark.parametrize("case", EXPRESSED)
def test_transformers_loads_it_whole_and_gives_its_own_librarys_logits(
    oracles: Path, tmp_path: Path, case: str
) -> None:
    expected = np.load(oracles / case / "expected.npz")
    original = checkpoints.load(weights_of(oracles / case))
    convert.convert(original, tmp_path / "out")
    found = logits(loaded(tmp_path / "out", original.config), expected["pixels"])
    np.testing.assert_allclose(found, expected["logits"], atol=1e-5, rtol=0)
    again = checkpoints.load(tmp_path / "out")
    assert (again.layout, again.warnings, again.dropped) == ("transformers", (), ())
    assert (again.preprocess, again.labels) == (original.preprocess, original.labels)
    assert again.config == replace(original.config, layer_scale=False, prefix_positions=True)


@pytest.mark.parametrize("size", [16, 56])
def test_positions_are_resized_as_the_family_does_before_they_are_written(
    oracles: Path, tmp_path: Path, size: int
) -> None:
    expected = np.load(oracles / f"timm/plain_at_{size}" / "expected.npz")
    original = checkpoints.load(weights_of(oracles / f"timm/plain_at_{size}"), image_size=size)
    convert.convert(original, tmp_path)
    found = logits(loaded(tmp_path, original.config), expected["pixels"])
    np.testing.assert_allclose(found, expected["logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", REFUSED)
def test_what_transformers_has_no_words_for_is_named(oracles: Path, tmp_path: Path, case: str) -> None:
    original = checkpoints.load(weights_of(oracles / case))
    with pytest.raises(CheckpointError, match=f"cannot express this network: it has .*{REFUSED[case]}"):
        convert.convert(original, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("changes", [
    {}, {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3}, {"qkv_bias": False}, {"patch_size": 8, "num_labels": 3},
])  # fmt: skip
def test_the_hubs_own_layout_comes_back_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = save_reference(tmp_path / "in", **changes)
    original = checkpoints.load(folder)
    convert.convert(original, tmp_path / "out")
    again = checkpoints.load(tmp_path / "out")
    assert again.config == original.config
    assert all(np.array_equal(again.tensors[name], tensor) for name, tensor in original.tensors.items())
    pixels = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    theirs = logits(loaded(folder, original.config), pixels)
    np.testing.assert_allclose(logits(loaded(tmp_path / "out", original.config), pixels), theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["DeiTForImageClassification", "DeiTForImageClassificationWithTeacher"])
def test_a_deit_stays_the_deit_it_was(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    settings = transformers.DeiTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, image_size=32, patch_size=8,
        num_labels=7,
    )  # fmt: skip
    model = getattr(transformers, kind)(settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    model.save_pretrained(tmp_path / "in")
    original = checkpoints.load(tmp_path / "in")
    assert convert.architecture(original.config) == kind
    convert.convert(original, tmp_path / "out")
    pixels = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    assert np.array_equal(logits(loaded(tmp_path / "out", original.config), pixels), logits(model, pixels))


def made(config: Config, labels: Labels | None = None, preprocess: Preprocess | None = None) -> Checkpoint:
    """A random checkpoint of any shape, as if read from somewhere."""
    random = np.random.default_rng(0)
    tensors = {n: random.normal(size=shape, scale=0.2).astype(np.float32) for n, shape in config.tensors().items()}
    return Checkpoint(
        path=Path("nowhere"), files=(Path("nowhere/weights.pth"),), layout="timm", config=config, tensors=tensors,
        preprocess=preprocess or FAMILIES["hf"](config.image_size), labels=labels or Labels.unnamed(config.classes),
        dtype="float32", warnings=(), sources={"labels": "", "preprocess": "", "heads": ""}, dropped=(),
    )  # fmt: skip


TINY = Config(image_size=16, patch_size=8, width=32, depth=2, heads=2, head_width=16, mlp_width=40, classes=5)


@pytest.mark.parametrize("config", [
    TINY,
    replace(TINY, head_width=24),
    replace(TINY, heads=4, head_width=8, gelu="tanh", norm_eps=1e-5),
    replace(TINY, register_tokens=1),
    replace(TINY, register_tokens=1, prefix_positions=False, layer_scale=True, qkv_bias=False),
    replace(TINY, distillation_token=True, layer_scale=True),
    replace(TINY, pooled_norm=True),
])  # fmt: skip
def test_every_shape_it_accepts_computes_the_same(tmp_path: Path, config: Config) -> None:
    original = made(config)
    convert.convert(original, tmp_path)
    pixels = np.random.default_rng(1).normal(size=(3, 3, 16, 16)).astype(np.float32)
    with torch.inference_mode():
        ours = ViT.from_tensors(config, original.tensors)(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(logits(loaded(tmp_path, config), pixels), ours, atol=1e-5, rtol=0)
    assert checkpoints.load(tmp_path).config.head_width == config.head_width


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_labels_and_the_way_of_scoring_come_back(tmp_path: Path, activation: Any) -> None:
    labels = Labels(("crane", "crane", "héron", "class 3", "a, b"), (None,) * 5, activation)
    convert.convert(made(TINY, labels), tmp_path)
    assert checkpoints.load(tmp_path).labels == labels
    assert loaded(tmp_path, TINY).config.id2label == dict(enumerate(labels.names))


PREPROCESS = st.builds(
    Preprocess,
    size=st.just(16),
    resize=st.integers(16, 40),
    fit=st.sampled_from(["squash", "shortest"]),
    filter=st.sampled_from(FILTERS),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.01, 2)] * 3),
    rounding=st.sampled_from(["down", "even"]),
)


@given(PREPROCESS)
def test_any_preprocessing_is_read_back_the_same(preprocess: Preprocess) -> None:
    text = json.dumps(convert.hub_preprocess(preprocess))
    assert processors.from_transformers(json.loads(text)) == preprocess


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(48, 40), (31, 200), (17, 19)])
def test_transformers_prepares_pictures_by_it_as_we_do(family: str, size: tuple[int, int]) -> None:
    from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    preprocess = replace(FAMILIES[family](32), rounding="down")
    settings = convert.hub_preprocess(preprocess)
    kind = {"ViTImageProcessor": ViTImageProcessorPil, "DeiTImageProcessor": DeiTImageProcessorPil}
    theirs = kind[settings["image_processor_type"]].from_dict(settings)(noise(0, size), return_tensors="np")
    ours = preprocess.normalised(preprocess.resized(noise(0, size))[None])
    np.testing.assert_allclose(ours, theirs["pixel_values"], atol=1e-6, rtol=0)


def test_nothing_is_overwritten_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(OutputError, match=r"already holds config\.json"):
        convert.convert(made(TINY), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "mine"
    convert.convert(made(TINY), tmp_path, force=True)
    assert checkpoints.load(tmp_path).config == TINY


def test_a_failure_halfway_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert.convert(made(TINY), tmp_path / "old")
    before = {file.name: file.read_bytes() for file in (tmp_path / "old").iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    for folder in ("old", "new"):
        with pytest.raises(OutputError, match="No space left on device"):
            convert.convert(made(replace(TINY, classes=7)), tmp_path / folder, force=True)
    assert {file.name: file.read_bytes() for file in (tmp_path / "old").iterdir()} == before
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_can_take_its_own_place(tmp_path: Path) -> None:
    folder = save_reference(tmp_path)
    original = checkpoints.load(folder)
    kept = {name: tensor.copy() for name, tensor in original.tensors.items()}
    convert.convert(original, folder, force=True)
    assert all(np.array_equal(checkpoints.load(folder).tensors[name], tensor) for name, tensor in kept.items())


def test_weights_that_are_not_finite_are_not_passed_on(tmp_path: Path) -> None:
    original = made(TINY)
    original.tensors["head.weight"][0, 0] = np.nan
    with pytest.raises(CheckpointError, match=r"NaN or infinity among the weights \(classifier\.weight\)"):
        convert.convert(original, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["model.bin", "model.npz", "model.pth"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"ending in \.safetensors"):
        convert.convert(made(TINY), tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_others_may_read_it_as_they_may_any_new_file(tmp_path: Path) -> None:
    files = convert.convert(made(TINY), tmp_path / "out")
    (tmp_path / "usual").touch()
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {usual}


def test_the_command_says_where_everything_lies(vit: Vit, oracles: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"kind {i}\n" for i in range(11)))
    out = tmp_path / "new" / "my.safetensors"
    done = vit("convert", weights_of(oracles / "timm" / "plain"), out, "--labels", names, "--preprocess", "hf")
    assert (done.returncode, done.stdout.splitlines()) == (0, [
        str(out), str(out.with_name("config.json")), str(out.with_name("preprocessor_config.json")),
    ])  # fmt: skip
    assert "from the timm layout, for transformers' ViTForImageClassification" in done.stderr
    assert "rename my.safetensors" in done.stderr
    again = checkpoints.load(out)
    assert again.labels.names[10] == "kind 10"
    assert again.preprocess == FAMILIES["hf"](32)


def test_the_command_refuses_in_a_sentence(vit: Vit, oracles: Path, tmp_path: Path) -> None:
    done = vit("convert", weights_of(oracles / "timm" / "registers"), tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("error: transformers' ViT cannot express this network: it has 4 register tokens.\n")
    assert not (tmp_path / "out").exists()
