"""Reading checkpoints: each spelling and file of the hub's layout, sizes, labels, preprocessing, memory."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from vitcli import checkpoints
from vitcli.checkpoints import Checkpoint
from vitcli.errors import CheckpointError, LayoutError, UsageError
from vitcli.labels import Labels
from vitcli.network.model import ViT
from vitcli.network.numpy_model import NumpyViT
from vitcli.pictures.preprocess import FAMILIES, Preprocess

TINY: dict[str, Any] = dict(
    hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, image_size=32, patch_size=8,
    num_labels=7,
)  # fmt: skip


def model(kind: type[PreTrainedModel] = ViTForImageClassification, **changes: Any) -> PreTrainedModel:
    """A tiny random network of transformers in which mistakes show: no zeros, and embeddings small enough for eps."""
    config = (ViTConfig if kind is ViTForImageClassification else DeiTConfig)(**(TINY | changes))
    network = kind(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            std = 0.02 if "embeddings" in name else 0.15
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std + ("norm" in name) * 1.0)
    return network


def saved(folder: Path, network: PreTrainedModel, **options: Any) -> Path:
    """A folder in the hub's layout, as the library writes it."""
    network.save_pretrained(folder, **options)
    return folder


def edited(folder: Path, **changes: Any) -> Path:
    """The folder with fields of its config.json changed."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def rewritten(folder: Path, rename: Any) -> Path:
    """The folder with every tensor under another name."""
    tensors = load_file(folder / "model.safetensors")
    save_file({rename(name): tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def pixels(size: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def agrees(checkpoint: Checkpoint, network: PreTrainedModel, size: int = 32, **options: Any) -> None:
    """Both of our engines give the library's logits."""
    with torch.inference_mode():
        expected = network(pixels(size), **options).logits.float().numpy()
        ours = ViT.from_tensors(checkpoint.config, checkpoint.tensors)(pixels(size)).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)
    by_numpy = NumpyViT(checkpoint.config, checkpoint.tensors)(pixels(size).numpy())
    np.testing.assert_allclose(by_numpy, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("prefix", ["vit.", "deit.", ""])
@pytest.mark.parametrize("spelling", ["as in files", "as in memory"])
def test_both_spellings_and_every_prefix_load(tmp_path: Path, spelling: str, prefix: str) -> None:
    network = model()
    folder = saved(tmp_path, network)
    if spelling == "as in memory":
        assert "vit.layers.0.attention.q_proj.weight" in network.state_dict()
        save_file(network.state_dict(), folder / "model.safetensors")
    else:
        assert "vit.encoder.layer.0.attention.attention.query.weight" in load_file(folder / "model.safetensors")
    rewritten(folder, lambda name: name.replace("vit.", prefix))
    agrees(checkpoints.load(folder), network)


@pytest.mark.parametrize(
    "changes",
    [dict(qkv_bias=False), dict(hidden_act="gelu_pytorch_tanh"), dict(layer_norm_eps=1e-5), dict(patch_size=16),
     dict(num_attention_heads=1), dict(num_labels=1)],
    ids=str,
)  # fmt: skip
def test_variants_of_vit_give_the_librarys_logits(tmp_path: Path, changes: dict[str, Any]) -> None:
    network = model(**changes)
    agrees(checkpoints.load(saved(tmp_path, network)), network)


def test_distilled_deit_averages_both_heads(tmp_path: Path) -> None:
    network = model(DeiTForImageClassificationWithTeacher)
    checkpoint = checkpoints.load(saved(tmp_path, network))
    assert checkpoint.config.distillation_token
    agrees(checkpoint, network)


def test_a_distilled_network_is_never_pooled_by_the_mean(tmp_path: Path) -> None:
    folder = edited(saved(tmp_path, model(DeiTForImageClassificationWithTeacher)), global_pool="avg")
    with pytest.raises(CheckpointError, match="distilled network reads its two tokens"):
        checkpoints.load(folder)


def test_deit_with_one_head_carries_its_second_token_along(tmp_path: Path) -> None:
    network = model(DeiTForImageClassification)
    checkpoint = checkpoints.load(saved(tmp_path, network))
    assert (checkpoint.config.distillation_token, checkpoint.config.register_tokens) == (False, 1)
    agrees(checkpoint, network)


@pytest.mark.parametrize("size", [16, 40, 96])
@pytest.mark.parametrize("kind", [ViTForImageClassification, DeiTForImageClassificationWithTeacher])
def test_positions_are_resized_as_transformers_does(tmp_path: Path, kind: type[PreTrainedModel], size: int) -> None:
    network = model(kind)
    checkpoint = checkpoints.load(saved(tmp_path, network), image_size=size)
    assert checkpoint.preprocess.size == checkpoint.config.image_size == size
    agrees(checkpoint, network, size, interpolate_pos_encoding=True)


@pytest.mark.parametrize("size", [0, -8, 4, 36, 8192])
def test_a_size_that_is_no_multiple_of_the_patch_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(UsageError, match=r"--image-size .* patch size 8"):
        checkpoints.load(saved(tmp_path, model()), image_size=size)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_other_dtypes_load_as_float32(tmp_path: Path, dtype: torch.dtype, kind: str) -> None:
    network = model().to(dtype)
    if kind == "bin":
        torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
        network.config.save_pretrained(tmp_path)
    else:
        saved(tmp_path, network)
    checkpoint = checkpoints.load(tmp_path)
    assert checkpoint.dtype == str(dtype).removeprefix("torch.")
    agrees(checkpoint, network.float())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "finetuned.pth", "finetuned.pt"])
def test_files_of_torch_save_load(tmp_path: Path, name: str, legacy: bool) -> None:
    network = model()
    torch.save(network.state_dict(), tmp_path / name, _use_new_zipfile_serialization=not legacy)
    network.config.save_pretrained(tmp_path)
    agrees(checkpoints.load(tmp_path), network)
    agrees(checkpoints.load(tmp_path / name), network)


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    network = model()
    folder = saved(tmp_path, network, max_shard_size="60KB")
    checkpoint = checkpoints.load(folder)
    assert len(checkpoint.files) > 2
    agrees(checkpoint, network)
    agrees(checkpoints.load(folder / "model.safetensors.index.json"), network)
    (folder / checkpoint.files[1].name).unlink()
    with pytest.raises(CheckpointError, match=rf"1 of \d shards are not there: {checkpoint.files[1].name}"):
        checkpoints.load(folder)


def test_no_tensor_is_a_view_of_the_file(tmp_path: Path) -> None:
    folder = saved(tmp_path, model(hidden_size=384))
    before = dict(checkpoints.load(folder).tensors)
    kept = {name: tensor.copy() for name, tensor in before.items()}
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(0)
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor, kept[name])


def test_writing_to_a_tensor_never_reaches_the_file(tmp_path: Path) -> None:
    folder = saved(tmp_path, model())
    before = (folder / "model.safetensors").read_bytes()
    for tensor in checkpoints.load(folder).tensors.values():
        tensor[...] = 0
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("options", [{}, {"max_shard_size": "40KB"}], ids=["one file", "shards"])
def test_what_was_released_is_read_again(tmp_path: Path, options: dict[str, str]) -> None:
    checkpoint = checkpoints.load(saved(tmp_path, model(), **options))
    before = dict(checkpoint.tensors)
    checkpoint.tensors.release()
    for name, tensor in checkpoint.tensors.items():
        assert tensor is not before[name]
        np.testing.assert_array_equal(tensor, before[name])


def test_rows_of_large_matrices_are_read_into_one_room_of_each_thread_and_small_tensors_are_at_hand(
    tmp_path: Path,
) -> None:
    checkpoint = checkpoints.load(saved(tmp_path, model(hidden_size=384)))
    streamed = checkpoint.tensors.streamed()
    large = [name for name, tensor in checkpoint.tensors.items() if tensor.ndim == 2 and tensor.size >= 2**16]
    for name in checkpoint.tensors:
        if name not in large:
            assert streamed[name] is checkpoint.tensors[name]

    def read(part: slice) -> set[int]:
        rooms = set()
        streamed[max(large, key=lambda name: checkpoint.tensors[name].size)][:]  # or the room would grow
        for name in large * 20:
            matrix, expected = streamed[name], checkpoint.tensors[name]
            assert len(matrix) == len(expected)
            rows = matrix[part]
            np.testing.assert_array_equal(rows, expected[part])
            rooms.add(rows.ctypes.data)
        return rooms

    for part in (slice(None), slice(100, 101), slice(7, 7)):
        assert len(read(part)) == 1
    with ThreadPoolExecutor(2) as pool:
        both = threading.Barrier(2)
        one, other = pool.map(lambda part: both.wait() >= 0 and read(part), (slice(0, 64), slice(64, 384)))
    assert len(one) == len(other) == 1
    assert one != other


def test_peeking_reads_no_weights_and_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path, model())
    whole = checkpoints.load(folder)
    with monkeypatch.context() as patched:
        patched.delattr(checkpoints.source.Source, "numbers")
        peeked = checkpoints.peek(folder)
        with pytest.raises(AttributeError):
            peeked.tensors["head.weight"]
    for field in ("config", "layout", "labels", "preprocess", "dtype", "warnings", "sources", "files"):
        assert getattr(whole, field) == getattr(peeked, field)
    assert list(whole.tensors) == list(peeked.tensors)
    for name, tensor in whole.tensors.items():
        np.testing.assert_array_equal(peeked.tensors[name], tensor)


def test_reading_safetensors_and_npz_never_imports_torch(tmp_path: Path, oracles: Path) -> None:
    saved(tmp_path, model())
    code = (
        "import sys; from pathlib import Path; from vitcli import checkpoints\n"
        "for path in sys.argv[1:]: checkpoints.load(Path(path))\n"
        "assert 'torch' not in sys.modules"
    )
    npz = oracles / "google" / "big_vision_stacked" / "weights.npz"
    subprocess.run([sys.executable, "-c", code, tmp_path, npz], check=True)


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    folder = saved(tmp_path, model())
    expected = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert checkpoints.peek(folder).sha256() == expected


def test_a_folder_with_one_file_of_any_name_means_that_file(tmp_path: Path) -> None:
    folder = saved(tmp_path, model())
    (folder / "model.safetensors").rename(folder / "best.safetensors")
    assert checkpoints.load(folder).files == (folder / "best.safetensors",)
    shutil.copy(folder / "best.safetensors", folder / "last.safetensors")
    with pytest.raises(CheckpointError, match=r"several files of weights \(best.safetensors, last.safetensors\)"):
        checkpoints.load(folder)


def test_heads_come_from_the_option_then_config_then_the_published_sizes(tmp_path: Path) -> None:
    folder = saved(tmp_path, model())
    assert checkpoints.load(folder, heads=6).config.heads == 6
    assert checkpoints.load(folder).config.heads == 3
    (folder / "config.json").unlink()
    with pytest.raises(LayoutError, match=r"how many attention heads share the width 48\. Give --heads"):
        checkpoints.load(folder)
    with pytest.raises(UsageError, match="--heads 5 does not divide the width of attention, 48"):
        checkpoints.load(folder, heads=5)
    usual = tmp_path / "usual"
    saved(usual, model(hidden_size=128, num_attention_heads=2))
    (usual / "config.json").unlink()
    checkpoint = checkpoints.load(usual)
    assert checkpoint.config.heads == 2
    assert "--heads" in checkpoint.warnings[0]


def test_real_labels_are_read_by_index(tmp_path: Path) -> None:
    network = model(id2label=dict(enumerate("abcdefg")))
    checkpoint = checkpoints.load(saved(tmp_path, network))
    assert checkpoint.labels.names == tuple("abcdefg")
    assert checkpoint.sources["labels"] == "config.json"
    assert not any("names" in warning or "classes" in warning for warning in checkpoint.warnings)


CATS = {0: "cat", 1: "dog", 2: "owl", 3: "elk", 4: "bee", 5: "fox", 6: "ape"}
TABLES: dict[str, dict[str, Any]] = {
    "label2id alone": {"label2id": {name: i for i, name in CATS.items()}},
    "numbers as words": {"label2id": {name: str(i) for i, name in CATS.items()}},
    "a list": {"id2label": list(CATS.values())},
    "the wrong way round": {"id2label": {name: i for i, name in CATS.items()}},
    "both the wrong way round": {"label2id": {str(i): name for i, name in CATS.items()}},
    "no names but the other table": {"id2label": {i: f"LABEL_{i}" for i in CATS},
                                     "label2id": {name: i for i, name in CATS.items()}},
    "torchvision's table": {"class_to_idx": {name: i for i, name in CATS.items()}},
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_names_of_classes_are_found_in_whatever_table_they_stand(tmp_path: Path, case: str) -> None:
    folder = saved(tmp_path, model())
    said = json.loads((folder / "config.json").read_text())
    for key in ("id2label", "label2id"):
        said.pop(key)
    (folder / "config.json").write_text(json.dumps(said | TABLES[case]))
    checkpoint = checkpoints.load(folder)
    assert checkpoint.labels.names == tuple(CATS.values())
    assert checkpoint.sources["labels"] == "config.json"
    assert not any("LABEL_" in warning or "classes" in warning for warning in checkpoint.warnings)


@pytest.mark.parametrize(("beside", "key"), [
    ({"class_names": list(CATS.values())}, "class_names"),
    ({"class_to_idx": {name: i for i, name in CATS.items()}}, "class_to_idx"),
    ({"hyper_parameters": {"lr": 1e-4, "classes": tuple(CATS.values())}}, "classes"),
    ({"meta": {"dataset_meta": {}, "CLASSES": list(CATS.values())}}, "CLASSES"),
])  # fmt: skip
def test_names_that_lie_beside_the_weights_are_used(tmp_path: Path, beside: dict[str, Any], key: str) -> None:
    torch.save({"model_state_dict": model().state_dict(), "epoch": 3} | beside, tmp_path / "a.pth")
    checkpoint = checkpoints.load(tmp_path / "a.pth", heads=3)
    assert checkpoint.labels.names == tuple(CATS.values())
    assert checkpoint.sources["labels"] == f"{key} in the file of weights"
    torch.save(model().state_dict() | {"classes": list(CATS.values()), "epoch": 3}, tmp_path / "flat.pth")
    flat = checkpoints.load(tmp_path / "flat.pth", heads=3)
    assert flat.labels.names == tuple(CATS.values())
    assert "epoch is no tensor: left out" in flat.warnings


def test_tables_of_another_length_name_nothing_and_say_so(tmp_path: Path) -> None:
    torch.save({"model": model().state_dict(), "classes": ["cat", "dog"]}, tmp_path / "a.pth")
    checkpoint = checkpoints.load(tmp_path / "a.pth", heads=3)
    assert checkpoint.labels.names[0] == "class 0"
    assert "the file of weights names 2 of 7 classes" in checkpoint.warnings
    assert any("nothing names the classes" in warning for warning in checkpoint.warnings)


def test_a_folder_that_does_not_say_how_pictures_are_prepared_is_warned_of(tmp_path: Path) -> None:
    folder = saved(tmp_path, model())
    assert any("nothing says how pictures are prepared" in warning for warning in checkpoints.load(folder).warnings)
    (folder / "preprocessor_config.json").write_text('{"size": 32}')
    assert not any("nothing says" in warning for warning in checkpoints.load(folder).warnings)


def test_nested_settings_of_a_processor_are_read_first_as_transformers_does(tmp_path: Path) -> None:
    folder = saved(tmp_path, model())
    (folder / "preprocessor_config.json").write_text('{"size": 32, "resample": 1}')
    (folder / "processor_config.json").write_text('{"processor_class": "Flat"}')
    assert checkpoints.load(folder).preprocess.filter == "lanczos"
    nested = {"image_processor_type": "ViTImageProcessor", "size": 32, "resample": 3, "image_mean": [0.1, 0.2, 0.3]}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": nested}))
    checkpoint = checkpoints.load(folder)
    reference = ViTImageProcessorPil.from_pretrained(folder)
    assert (checkpoint.preprocess.filter, checkpoint.preprocess.mean) == ("bicubic", tuple(reference.image_mean))
    assert checkpoint.sources["preprocess"] == "processor_config.json"


def test_what_tensors_do_not_say_has_a_source(tmp_path: Path) -> None:
    folder = saved(tmp_path, model())
    found = checkpoints.load(folder, pooling="mean").sources
    assert [found[what] for what in ("heads", "eps", "gelu", "pooling")] == ["config.json"] * 3 + ["--pooling"]
    (folder / "config.json").write_text(json.dumps({"model_type": "vit_msn", "num_attention_heads": 3}))
    found = checkpoints.load(folder).sources
    assert found["eps"] == "the architecture vit_msn"
    assert found["gelu"] == found["pooling"] == "the default of transformers"


def test_junk_among_labels_is_left_aside_with_a_warning(tmp_path: Path) -> None:
    folder = saved(tmp_path, model())
    junk = {
        "0": "cat",
        "1": ["no"],
        "x": "y",
        "-1": "z",
        "3": "three",
        "99": "beyond",
        "9" * 5000: "far",
        "4": 7,
    }
    edited(folder, id2label=junk, label2id={"cat": "LABEL_9", "dog": {}}, num_labels=10**12)
    checkpoint = checkpoints.load(folder)
    assert checkpoint.labels.names == ("cat", "class 1", "class 2", "three", "7", "class 5", "class 6")
    assert "config.json names 3 of 7 classes" in checkpoint.warnings


def test_label_n_is_no_name_and_says_so(tmp_path: Path) -> None:
    checkpoint = checkpoints.load(saved(tmp_path, model()))
    assert any("LABEL_0" in warning and "--labels" in warning for warning in checkpoint.warnings)


@pytest.mark.parametrize(("classes", "name", "source"), [
    (1000, "tench", "ImageNet-1k"), (21843, "class 0", "ImageNet-21k"), (21841, "class 0", "ImageNet-21k"),
    (7, "class 0", "unnamed"),
])  # fmt: skip
def test_classes_without_names_are_told_by_their_number(tmp_path: Path, classes: int, name: str, source: str) -> None:
    folder = edited(saved(tmp_path, model(num_labels=classes)), id2label=None, label2id=None)
    checkpoint = checkpoints.load(folder)
    assert checkpoint.labels.names[0] == name
    assert checkpoint.sources["labels"].startswith(source)


def test_given_labels_must_be_as_many_as_classes(tmp_path: Path) -> None:
    folder = saved(tmp_path, model())
    given = Labels(tuple("tuvwxyz"), (None,) * 7)
    checkpoint = checkpoints.load(folder, labels=given)
    assert checkpoint.labels.names == tuple("tuvwxyz")
    with pytest.raises(UsageError, match="10 labels were given, but the network has 7 classes"):
        checkpoints.load(folder, labels=Labels.unnamed(10))


@pytest.mark.parametrize(("changes", "activation"), [
    ({}, "softmax"),
    (dict(problem_type="multi_label_classification"), "sigmoid"),
    (dict(problem_type="regression"), "none"),
    (dict(num_labels=1), "sigmoid"),
])  # fmt: skip
def test_scores_follow_the_kind_of_problem(tmp_path: Path, changes: dict[str, Any], activation: str) -> None:
    checkpoint = checkpoints.load(saved(tmp_path, model(**changes)))
    assert checkpoint.labels.activation == activation


def test_preprocessing_is_the_checkpoints_own(tmp_path: Path) -> None:
    folder = saved(tmp_path, model())
    assert checkpoints.load(folder).preprocess == FAMILIES["hf"](32)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 64, "image_mean": [0.1, 0.2, 0.3]}))
    checkpoint = checkpoints.load(folder)
    assert checkpoint.preprocess.mean == (0.1, 0.2, 0.3)
    assert checkpoint.preprocess.size == 32  # the positions are for 32 pixels, whatever the file says
    assert checkpoint.sources["preprocess"] == "preprocessor_config.json"
    assert any("pictures of 64 pixels, the network takes 32" in warning for warning in checkpoint.warnings)
    assert checkpoints.load(folder, preprocess="torchvision").preprocess == FAMILIES["torchvision"](32)
    own = Preprocess(size=32, resize=40, fit="shortest", filter="bicubic")
    assert checkpoints.load(folder, preprocess=own).preprocess == own


def test_deits_own_preprocessing_when_nothing_is_said(tmp_path: Path) -> None:
    folder = saved(tmp_path, model(DeiTForImageClassificationWithTeacher))
    assert checkpoints.load(folder).preprocess == FAMILIES["hf-deit"](32)


def test_timms_preprocessing_is_read_from_its_config(oracles: Path) -> None:
    checkpoint = checkpoints.load(oracles / "timm" / "mean_norm_before" / "model.safetensors")
    assert checkpoint.preprocess.mean == (0.1, 0.2, 0.3)
    assert checkpoint.preprocess.resize == int(32 / 0.9)
    unsaid = checkpoints.load(oracles / "timm" / "plain" / "weights.pth")
    assert unsaid.preprocess == FAMILIES["timm"](32)
    assert any("--preprocess deit" in warning for warning in unsaid.warnings)
    distilled = checkpoints.load(oracles / "timm" / "distilled" / "weights.pth")
    assert distilled.preprocess == FAMILIES["deit"](32)
    chosen = checkpoints.load(oracles / "timm" / "plain" / "weights.pth", preprocess="deit")
    assert chosen.preprocess == FAMILIES["deit"](32)
    assert not any("prepared" in warning for warning in distilled.warnings + chosen.warnings)
    torchvision = checkpoints.load(oracles / "torchvision" / "plain" / "weights.pth")
    assert torchvision.preprocess == FAMILIES["torchvision"](32)
    assert "nothing says how pictures are prepared: took that of torchvision's V1 weights" in torchvision.warnings


def test_pooler_is_dropped_knowingly(tmp_path: Path) -> None:
    folder = saved(tmp_path, model())
    tensors = load_file(folder / "model.safetensors")
    extra = {"vit.pooler.dense.weight": torch.ones(48, 48), "vit.pooler.dense.bias": torch.ones(48)}
    save_file(tensors | extra, folder / "model.safetensors")
    checkpoint = checkpoints.load(folder)
    assert checkpoint.dropped == ("pooler.dense.bias", "pooler.dense.weight")
    assert set(checkpoint.tensors) == set(checkpoint.config.tensors())


def test_bfloat16_archives_load_though_numpy_has_no_such_type(oracles: Path, tmp_path: Path) -> None:
    plain = dict(np.load(oracles / "google" / "big_vision" / "weights.npz"))
    halves = {name: (array.view("<u4") >> 16).astype("<u2").view("V2") for name, array in plain.items()}
    np.savez(tmp_path / "half.npz", **halves)
    checkpoint = checkpoints.load(tmp_path / "half.npz")
    assert checkpoint.dtype == "bfloat16"
    whole = checkpoints.load(oracles / "google" / "big_vision" / "weights.npz")
    for name, tensor in whole.tensors.items():
        np.testing.assert_allclose(checkpoint.tensors[name], tensor, rtol=2**-7)


def test_timms_label_names_are_read_with_their_descriptions(oracles: Path, tmp_path: Path) -> None:
    case = oracles / "timm" / "mean_norm_before"
    shutil.copy(case / "model.safetensors", tmp_path)
    config = json.loads((case / "config.json").read_text())
    names = [f"n{i}" for i in range(11)]
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"label_names": names, "label_descriptions": {"n3": "cat"}})
    )
    labels = checkpoints.load(tmp_path).labels
    assert (labels.names[2], labels.names[3]) == ("n2", "cat")


def test_imagenets_own_wordnet_ids_are_its_labels(tmp_path: Path) -> None:
    folder = edited(saved(tmp_path, model(num_labels=1000)), id2label=None, label_names=list(Labels.imagenet1k().wnids))
    assert checkpoints.load(folder).labels == Labels.imagenet1k()


def test_real_weights_load_whole_and_finite(weights: Path) -> None:
    checkpoint = checkpoints.load(weights)
    assert checkpoint.config.name == "ViT-Ti/16"
    assert checkpoint.config.parameters == 5_717_416
    assert checkpoint.labels.wnids[285] == "n02124075"
    assert checkpoint.not_finite() == []
    assert checkpoint.warnings == ()


def test_a_checkpoint_is_shown_in_a_line_without_its_weights(tiny: Path) -> None:
    assert len(repr(checkpoints.load(tiny))) < 120 + len(str(tiny))
