"""`vit inspect` says what a checkpoint is, from its headers."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import save_reference
from safetensors.numpy import load_file, save_file

from tests.oracles import weights_of
from vitcli.hub import catalog

Vit = Callable[..., "subprocess.CompletedProcess[str]"]


def lines(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Key -> value of the report."""
    assert done.returncode == 0, done.stderr
    rows = [line.split("  ", 1) for line in done.stdout.splitlines()]
    return {key.strip(): value.strip() for key, value in rows}


def record(vit: Vit, *args: object, **options: Any) -> dict[str, Any]:
    done = vit("inspect", *args, "--format", "json", **options)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_default_models_shape_is_named_in_one_line(vit: Vit, tmp_path: Path) -> None:
    """The full-size header over a hole in a file: nothing but the header can have been read in this time and memory."""
    from vitcli.checkpoints.convert import AXES, hub_config, hub_name
    from vitcli.config import Config
    from vitcli.labels import Labels

    config = Config()
    header, end = {}, 0
    for ours, shape in config.tensors().items():
        if ours in AXES:
            shape = {1: (1, 1, *shape), 2: (1, *shape)}[len(shape)] if "patch" not in ours else (768, 3, 16, 16)
        start, end = end, end + 4 * int(np.prod(shape))
        name = hub_name(ours, "ViTForImageClassification")
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    (tmp_path / "config.json").write_text(json.dumps(hub_config(config, Labels.imagenet1k())))
    found = lines(vit("inspect", tmp_path))
    assert found["layout"] == "transformers"
    assert found["architecture"] == "ViT-B/16, 224, 86.6 M parameters, 35.1 GFLOP an image"
    assert found["details"] == (
        "12 heads of 64 (config.json), LayerNorm eps 1e-12 (config.json), exact GELU (config.json), "
        "class token (the default of transformers)"
    )
    assert found["labels"] == "1000: tench, goldfish, great white shark, ... (config.json)"
    assert found["preprocessing"].startswith("224x224 squash, bilinear, mean .5 .5 .5, std .5 .5 .5 (")
    assert found["stored as"] == "float32, 346.3 MB, model.safetensors"


@pytest.mark.parametrize(("case", "layout", "details"), [
    ("timm/deit3", "timm", "positions for patches only, layer scale"),
    ("timm/distilled", "timm", "distillation token"),
    ("timm/registers_mean", "timm", "mean of the patches (the tensors), 4 register tokens, positions for patches"),
    ("torchvision/plain", "torchvision", "1e-06 (the default of torchvision), exact GELU (the default of torchvision"),
    ("google/vit_jax", "vit_jax", "3 heads of 16 (the tensors), LayerNorm eps 1e-06 (the default of vit_jax)"),
    ("google/big_vision_stacked", "big_vision", "tanh GELU"),
    ("vit-pytorch/article_mean", "vit-pytorch", "mean of all tokens (config.json), norms around the patch embedding"),
])  # fmt: skip
def test_every_layout_is_told(vit: Vit, oracles: Path, case: str, layout: str, details: str) -> None:
    found = lines(vit("inspect", weights_of(oracles / case)))
    assert found["layout"] == layout
    assert details in found["details"]
    assert found["labels"].startswith("11: class 0, class 1, class 2, ... (")


@pytest.mark.parametrize(("case", "said"), [
    ("beit_base_patch16_224", "relative positions (the tensors)"),
    ("vit_srelpos_small_patch16_224", "relative positions (a small network among the tensors)"),
    ("vit_srelpos_small_patch16_224", "pictures of 40 pixels (config.json)"),
    ("vit_base_patch16_rpn_224", "norms after the branches (the architecture vit_base_patch16_rpn_224)"),
    ("vit_so150m_patch16_reg4_map_256", "attention over the patches (the tensors)"),
    ("test_vit3", "attention over all tokens (the tensors)"),
    ("vit_small_patch16_rope_224", "rotary positions (the architecture vit_small_patch16_rope_224)"),
])  # fmt: skip
def test_it_says_where_the_kind_of_positions_and_pooling_comes_from(
    vit: Vit, oracles: Path, case: str, said: str
) -> None:
    assert said in lines(vit("inspect", oracles / "families" / case))["details"]


def test_json_has_the_same_sources(vit: Vit, oracles: Path) -> None:
    found = record(vit, oracles / "families" / "vit_relpos_medium_patch16_rpn_224")
    sources = {name: found["sources"][name] for name in ("relative_positions", "image_size", "post_norm", "pooling")}
    assert sources == {
        "relative_positions": "a small network among the tensors",
        "image_size": "config.json",
        "post_norm": "the architecture vit_relpos_medium_patch16_rpn_224",
        "pooling": "config.json",
    }


def test_json_holds_everything_known_and_null_for_what_was_not_looked_at(vit: Vit, tiny: Path) -> None:
    found = record(vit, tiny)
    assert found["config"]["width"] == 32
    assert found["files"] == [str(tiny / "model.safetensors")]
    assert found["bytes"] == (tiny / "model.safetensors").stat().st_size
    assert len(found["labels"]) == found["classes"] == 10
    assert found["preprocess"]["mean"] == [0.5, 0.5, 0.5]
    assert found["sources"]["preprocess"] == "preprocessor_config.json"
    assert (found["sha256"], found["sha256_stated"], found["repository"], found["checked"]) == (None, None, None, False)


def test_a_check_reads_everything(vit: Vit, tiny: Path) -> None:
    found = lines(vit("inspect", tiny, "--check"))
    assert found["hash"] == f"sha256 {hashlib.sha256((tiny / 'model.safetensors').read_bytes()).hexdigest()}"
    assert found["weights"] == "all finite"


@pytest.mark.parametrize(
    ("tensor", "seen"), [("classifier.bias", True), ("vit.encoder.layer.0.output.dense.bias", False)]
)
def test_nan_is_found_where_training_leaves_it_and_everywhere_by_a_check(
    vit: Vit, tmp_path: Path, tensor: str, seen: bool
) -> None:
    weights = save_reference(tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    tensors[tensor].flat[1] = np.nan
    save_file(tensors, weights)
    found = vit("inspect", tmp_path)
    assert found.returncode == 0
    assert ("NaN or infinity among the weights" in found.stdout) == seen
    checked = vit("inspect", tmp_path, "--check")
    assert checked.returncode == 1
    assert "NaN or infinity among the weights (" in checked.stdout
    assert "all finite" not in checked.stdout


def test_a_snapshot_of_the_hub_says_where_it_came_from_and_its_hash_for_nothing(
    vit: Vit, tiny: Path, tmp_path: Path
) -> None:
    model = catalog.find(catalog.DEFAULT)
    assert model is not None
    home = tmp_path / "models--google--vit-base-patch16-224"
    snapshot = home / "snapshots" / str(model.revision)
    shutil.copytree(tiny, snapshot)
    data = (tiny / "model.safetensors").read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    (home / "blobs").mkdir()
    (home / "blobs" / sha256).write_bytes(data)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(f"../../blobs/{sha256}")
    environment = {"HF_HUB_CACHE": str(tmp_path)}

    found = lines(vit("inspect", "google/vit-base-patch16-224", env=environment))
    assert found["hub"] == f"google/vit-base-patch16-224, commit {model.revision}"
    assert found["hash"] == f"sha256 {sha256} (as the hub states; --check computes it)"
    assert lines(vit("inspect", snapshot))["hub"] == found["hub"]
    assert lines(vit("inspect", model.name, "--check", env=environment))["hash"] == f"sha256 {sha256}"

    (home / "blobs" / sha256).write_bytes(data[:-4] + bytes(4))
    damaged = vit("inspect", model.name, "--check", env=environment)
    assert damaged.returncode == 1
    assert "not what the hub says they are" in damaged.stdout


def test_labels_that_say_nothing_are_a_warning(vit: Vit, tiny: Path) -> None:
    assert any("LABEL_0" in warning and "--labels" in warning for warning in record(vit, tiny)["warnings"])


def test_sizes_that_disagree_are_a_warning(vit: Vit, tmp_path: Path) -> None:
    folder = save_reference(tmp_path)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"image_size": 384}))
    (folder / "preprocessor_config.json").write_text('{"size": 224}')
    warnings = record(vit, folder)["warnings"]
    assert any("image_size 384" in warning for warning in warnings)
    assert any("pictures of 224 pixels, the network takes 32" in warning for warning in warnings)


def test_what_a_family_has_more_is_told_and_where_from(vit: Vit, oracles: Path) -> None:
    found = lines(vit("inspect", oracles / "families" / "eva02_base_patch16_clip_224"))["details"]
    for words in (
        "SwiGLU (the tensors)", "rotary positions (the architecture eva02_base_patch16_clip_224)", "no key bias",
        "norm inside attention", "norm inside the MLP", "class token (config.json)",
    ):  # fmt: skip
        assert words in found
    told = record(vit, oracles / "families" / "vit_base_patch16_clip_quickgelu_224")
    named = "the architecture vit_base_patch16_clip_quickgelu_224"
    assert (told["sources"]["eps"], told["sources"]["gelu"], told["config"]["gelu"]) == (named, named, "quick")
    assert told["config"]["rotary"] is None


def test_options_show_what_they_would_change(vit: Vit, tiny: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"kind {i}\n" for i in range(10)))
    found = record(vit, tiny, "--image-size", 64, "--heads", 4, "--preprocess", "timm", "--labels", names)
    assert (found["config"]["image_size"], found["config"]["heads"], found["labels"][3]) == (64, 4, "kind 3")
    assert found["preprocess"]["filter"] == "bicubic"
    assert found["sources"] | {"pooling": ""} == {
        "labels": "--labels", "preprocess": "--preprocess timm", "heads": "--heads", "pooling": "",
        "eps": "config.json", "gelu": "config.json",
    }  # fmt: skip


def test_names_from_a_file_cannot_command_the_terminal(vit: Vit, tmp_path: Path) -> None:
    folder = save_reference(tmp_path)
    said = json.loads((folder / "config.json").read_text())
    said["id2label"]["0"] = "\x1b[2Jcat\u202e"
    (folder / "config.json").write_text(json.dumps(said))
    assert r"\x1b[2Jcat\u202e" in lines(vit("inspect", folder))["labels"]


def test_it_costs_little_more_than_numpy_and_typer(tiny: Path) -> None:
    """No torch, no pictures, no console: what would make it slow is never imported."""
    code = (
        f"import sys; sys.argv = ['vit', 'inspect', {str(tiny)!r}]\n"
        "import vitcli.cli\n"
        "try:\n    vitcli.cli.main()\n"
        "finally:\n    print([name for name in ('torch', 'PIL', 'pydantic', 'rich.console', 'huggingface_hub', "
        "'importlib.resources', 'hashlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_is_no_checkpoint_is_refused_in_a_sentence(vit: Vit, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("<!DOCTYPE html>")
    done = vit("inspect", tmp_path / "model.safetensors")
    assert (done.returncode, done.stdout) == (1, "")
    assert "a web page, not weights" in done.stderr
    done = vit("inspect", tmp_path / "nothing-here")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such file or folder, nor a model's name" in done.stderr
