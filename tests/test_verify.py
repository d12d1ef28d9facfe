"""`vit verify` tells equal from nearly equal, whatever layout the weights are in."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import noise, save_reference
from PIL import Image

from tests.oracles import weights_of
from vitcli import checkpoints, verify
from vitcli.checkpoints import Checkpoint
from vitcli.errors import CheckpointError, MissingExtra
from vitcli.hub import catalog
from vitcli.verify import GOLDEN, Comparison, Golden, Reference

Vit = Callable[..., "subprocess.CompletedProcess[str]"]
PICTURES = [("wide", noise(1, (48, 40))), ("tall", noise(2, (31, 200))), ("large", noise(3, (224, 224)))]


def compared(checkpoint: Checkpoint, reference: Checkpoint | None = None, **options: Any) -> list[Comparison]:
    return list(verify.verify(checkpoint, Reference(reference or checkpoint), PICTURES, **options))


@pytest.mark.parametrize("case", [
    "timm/plain", "timm/deit3", "timm/distilled", "timm/no_qkv_bias", "torchvision/plain", "google/vit_jax",
    "google/big_vision_stacked",
])  # fmt: skip
def test_weights_of_every_layout_are_verified_after_conversion(oracles: Path, case: str) -> None:
    checkpoint = checkpoints.load(weights_of(oracles / case))
    assert Reference(checkpoint).converted
    for row in compared(checkpoint):
        assert list(row.differences) == ["numpy", "torch"]
        assert row.agrees(1e-5)
        assert row.same_best


def test_the_hubs_layout_is_read_by_transformers_itself(tiny: Path) -> None:
    checkpoint = checkpoints.load(tiny)
    assert not Reference(checkpoint).converted
    assert all(row.agrees(1e-5) and row.own_preprocessing for row in compared(checkpoint))


@pytest.mark.parametrize("changes", [{"norm_eps": 1e-12}, {"gelu": "tanh"}, {"heads": 6, "head_width": 8}])
def test_a_small_mistake_is_no_agreement(oracles: Path, changes: dict[str, Any]) -> None:
    right = checkpoints.load(weights_of(oracles / "timm" / "plain"))
    wrong = replace(right, config=replace(right.config, **changes))
    assert not any(row.agrees() for row in compared(wrong, right))


def test_wrong_preprocessing_is_no_agreement(tiny: Path) -> None:
    right = checkpoints.load(tiny)
    wrong = replace(right, preprocess=replace(right.preprocess, filter="bicubic"))
    assert not any(row.agrees() for row in compared(wrong, right))


def test_nan_is_no_agreement() -> None:
    assert not Comparison("x", {"numpy": 0.0, "torch": float("nan")}, True, True, None).agrees()
    assert not Comparison("x", {"numpy": 0.0}, True, True, float("nan")).agrees()


def test_classes_change_places_only_within_the_tolerance(tiny: Path) -> None:
    theirs = np.array([3, 2, 1, 0, -1, -2], np.float32)
    assert not verify._same_best(np.array([2, 3, 1, 0, -1, -2], np.float32), theirs)
    tied = np.array([3, 3 - 1e-5, 1, 0, -1, -2], np.float32)
    assert verify._same_best(tied[[1, 0, 2, 3, 4, 5]], tied)


@pytest.mark.parametrize("family", ["hf", "hf-deit", "deit", "timm", "torchvision"])
def test_pictures_are_prepared_by_transformers_wherever_it_can(oracles: Path, family: str) -> None:
    checkpoint = checkpoints.load(weights_of(oracles / "timm" / "plain"), preprocess=family)
    rows = {row.name: row for row in compared(checkpoint)}
    assert all(row.agrees(1e-5) for row in rows.values())
    if family == "timm":  # 35 to 32 pixels: margins of one and a half, which timm rounds to two and transformers to one
        assert not rows["large"].own_preprocessing
    else:
        assert rows["large"].own_preprocessing


def test_half_precision_files_are_computed_in_float32_on_both_sides(tmp_path: Path) -> None:
    import torch
    from transformers import ViTForImageClassification

    for dtype in (torch.float16, torch.bfloat16):
        folder = tmp_path / str(dtype)
        ViTForImageClassification.from_pretrained(save_reference(tmp_path / "whole")).to(dtype).save_pretrained(folder)
        checkpoint = checkpoints.load(folder)
        assert checkpoint.dtype in str(dtype)
        assert not Reference(checkpoint).converted
        assert all(row.agrees(1e-5) for row in compared(checkpoint))


def test_options_that_the_files_do_not_know_of_are_verified_too(tiny: Path) -> None:
    checkpoint = checkpoints.load(tiny, image_size=48, heads=4, preprocess="deit")
    assert Reference(checkpoint).converted
    assert all(row.agrees(1e-5) for row in compared(checkpoint))


def test_a_file_under_another_name_is_verified_as_itself(tiny: Path, tmp_path: Path) -> None:
    """Not as the model.safetensors that lies beside it, which transformers would read."""
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(tiny / name, tmp_path)
    shutil.copy(tiny / "model.safetensors", tmp_path / "mine.safetensors")
    shutil.copy(save_reference(tmp_path / "other", seed=5) / "model.safetensors", tmp_path)
    checkpoint = checkpoints.load(tmp_path / "mine.safetensors")
    assert Reference(checkpoint).converted
    assert all(row.agrees(1e-5) for row in compared(checkpoint))
    assert not any(row.agrees() for row in compared(checkpoint, checkpoints.load(tmp_path)))


def test_a_config_that_transformers_cannot_follow_is_no_obstacle(tmp_path: Path) -> None:
    folder = save_reference(tmp_path)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"hidden_size": 48}))
    checkpoint = checkpoints.load(folder)
    assert Reference(checkpoint).converted
    assert all(row.agrees(1e-5) for row in compared(checkpoint))


def test_a_network_that_transformers_cannot_compute_is_said_so(oracles: Path) -> None:
    checkpoint = checkpoints.load(weights_of(oracles / "timm" / "registers"))
    with pytest.raises(CheckpointError, match="cannot express this network: it has 4 register tokens"):
        Reference(checkpoint)


def test_without_transformers_the_extra_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vitcli\[verify\]'"):
        Reference(checkpoints.load(tiny))


def test_published_logits_are_checked_on_their_own_picture(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = checkpoints.load(tiny)
    cats = noise(9, (640, 480))
    logits = Reference(checkpoint).logits(cats)
    pictures = [("dir/000000039769.png", cats), ("000000039769.png", noise(9, (64, 48))), ("other.png", cats)]

    def published(first: float, repository: str) -> list[float | None]:
        monkeypatch.setitem(GOLDEN, "org/name", Golden((first, float(logits[1]))))
        rows = verify.verify(checkpoint, Reference(checkpoint), pictures, repository=repository)
        return [row.published for row in rows]

    right, small, other = published(float(logits[0]), "org/name")
    assert right is not None
    assert right < 1e-5
    assert (small, other) == (None, None)
    wrong = published(float(logits[0]) + 1e-3, "org/name")[0]
    assert wrong == pytest.approx(1e-3, abs=1e-5)
    assert not Comparison("x", {}, True, True, wrong).agrees()
    assert published(float(logits[0]), "org/another") == [None] * 3


def test_the_default_models_published_logits_are_known() -> None:
    assert GOLDEN[catalog.DEFAULT].logits == (-0.2744, 0.8215, -0.0836)
    assert set(GOLDEN) <= {model.repository for model in catalog.MODELS}


def test_made_up_pictures_are_the_same_every_time() -> None:
    one, other = list(verify.synthetic()), list(verify.synthetic())
    assert [name for name, _ in one] == ["noise 640x480", "soft shapes 333x500", "soft shapes 224x224"]
    assert all(a.tobytes() == b.tobytes() for (_, a), (_, b) in zip(one, other, strict=True))


def test_the_command_says_equivalent_and_nothing_of_transformers_own(vit: Vit, tiny: Path, picture: Path) -> None:
    done = vit("verify", tiny, picture)
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert head.split() == ["numpy", "torch", "top", "5", "picture"]
    assert row.split()[2:] == ["same", str(picture)]
    assert all(float(apart) < 1e-5 for apart in row.split()[:2])
    doubt, about, verdict = done.stderr.splitlines()
    assert "LABEL_0" in doubt
    assert "ViTForImageClassification), reading the same files itself." in about
    assert verdict.startswith("Equivalent: ")


def test_the_command_without_pictures_makes_some_up_and_says_so(vit: Vit, oracles: Path) -> None:
    done = vit("verify", weights_of(oracles / "google" / "vit_jax"), "--engine", "numpy", "--format", "json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["equivalent"], found["converted"]) == (0, True, True)
    assert [list(row["differences"]) for row in found["pictures"]] == [["numpy"]] * 3
    assert "made up" in done.stderr


def test_a_difference_is_exit_status_1_and_a_sentence(vit: Vit, tiny: Path, tmp_path: Path) -> None:
    """A tiny model in the place of the default one: its logits are not those that are published."""
    model = catalog.find(catalog.DEFAULT)
    assert model is not None
    home = tmp_path / "hub" / f"models--{model.repository.replace('/', '--')}"
    shutil.copytree(tiny, home / "snapshots" / str(model.revision))
    Image.new("RGB", (640, 480)).save(tmp_path / "000000039769.png")
    done = vit("verify", model.name, tmp_path / "000000039769.png", env={"HF_HUB_CACHE": str(tmp_path / "hub")})
    assert done.returncode == 1
    assert "from the logits that transformers' tests publish" in done.stdout
    assert "error: Not equivalent: " in done.stderr


def test_a_picture_that_cannot_be_read_is_told_and_counted(vit: Vit, tiny: Path, picture: Path) -> None:
    (picture.parent / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    done = vit("verify", tiny, picture.parent, "--engine", "numpy")
    assert done.returncode == 3
    assert "broken.jpg" in done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_real_weights_on_real_pictures(weights: Path, images: Path) -> None:
    checkpoint = checkpoints.load(weights)
    pictures = ((p.name, Image.open(p).convert("RGB")) for p in sorted((images / "photos").glob("*.jpg"))[:4])
    rows = list(verify.verify(checkpoint, Reference(checkpoint), pictures))
    assert len(rows) == 4
    assert all(row.agrees() and row.same_best and row.own_preprocessing for row in rows)
