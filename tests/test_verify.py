"""`vit verify` tells equal from nearly equal, whatever layout the weights are in."""

from __future__ import annotations

import json
import os
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
from tests.oracles.compare import ARRANGE, swapped
from tests.test_checkpoints import model
from vitcli import checkpoints, verify
from vitcli.checkpoints import Checkpoint
from vitcli.errors import CheckpointError, MissingExtra
from vitcli.hub import catalog
from vitcli.verify import GOLDEN, Comparison, Golden, references

Vit = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = str(Path(__file__).parents[1])
PICTURES = [("wide", noise(1, (48, 40))), ("tall", noise(2, (31, 200))), ("large", noise(3, (224, 224)))]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A folder of transformers at 32 pixels with ViT's own epsilon, in which every small mistake shows."""
    return save_reference(tmp_path / "plain", hidden_size=48, num_attention_heads=3, layer_norm_eps=1e-3)


def compared(checkpoint: Checkpoint, reference: Checkpoint | None = None, **options: Any) -> list[Comparison]:
    return list(verify.verify(checkpoint, verify.of(reference or checkpoint), PICTURES, **options))


EACH = {
    "timm": "timm/plain timm/deit3 timm/deit3_as_published timm/distilled timm/no_qkv_bias timm/registers "
            "timm/mean_fc_norm timm/lightning named/tanh google/vit_jax google/big_vision_stacked",
    "torchvision": "torchvision/plain torchvision/old_mlp torchvision/heads_dropout",
    "vit-pytorch": "vit-pytorch/cls vit-pytorch/mean vit-pytorch/dim_head vit-pytorch/article_cls",
}  # fmt: skip
ONE_EACH = ["timm/plain", "google/vit_jax", "torchvision/plain", "vit-pytorch/cls"]


@pytest.fixture(scope="module")
def found(oracles: Path) -> dict[str, Any]:
    """What `tests/oracles/compare.py` prints, in a process that has the libraries."""
    settings = json.loads((oracles / "named" / "tanh" / "config.json").read_text())
    arguments = dict(img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=2)
    shutil.copytree(oracles / "named" / "tanh", oracles / "hub" / "timm")
    (oracles / "hub" / "timm" / "config.json").write_text(
        json.dumps(settings | {"model_args": arguments, "num_classes": 11})
    )
    jobs: dict[str, Any] = {
        "right": {"cases": " ".join([*EACH.values(), "hub/timm vit-pytorch/article_mean vit-pytorch/older"]).split()},
        "broken": {"cases": ONE_EACH, "swap": ["norm1", "norm2"]},
        "larger": {"cases": [*ONE_EACH, "timm/registers"], "image_size": 56},
    }
    script = Path(__file__).parent / "oracles" / "compare.py"
    command, env = [sys.executable, script, oracles, json.dumps(jobs)], os.environ | {"PYTHONPATH": ROOT}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_every_layout_is_compared_with_the_library_it_comes_from(found: dict[str, Any]) -> None:
    for library, cases in EACH.items():
        for case in cases.split():
            row = found["right"][case]
            assert row["library"].startswith(f"{library} "), row
            assert row["worst"] < 1e-5
            assert row["own_preprocessing"]


def test_a_broken_rule_of_a_layout_is_no_agreement(found: dict[str, Any]) -> None:
    """What the library is given owes nothing to the rules: it would agree with any of them otherwise."""
    assert all(found["broken"][case]["worst"] > 1e-3 for case in ONE_EACH), found["broken"]


def test_other_sizes_are_compared_where_the_library_resizes_positions(found: dict[str, Any]) -> None:
    larger = found["larger"]
    assert all(larger[case]["worst"] < 1e-5 for case in ("timm/plain", "timm/registers", "torchvision/plain"))
    assert "resizes positions in another way" in larger["google/vit_jax"]["error"]
    assert "no way of its own to resize positions" in larger["vit-pytorch/cls"]["error"]


def test_a_folder_of_timm_is_built_from_its_own_settings(found: dict[str, Any]) -> None:
    row = found["right"]["hub/timm"]
    assert (row["own_shape"], row["own_preprocessing"]) == (True, True)
    assert row["worst"] < 1e-5


def test_every_layout_has_a_library_or_is_said_to_have_none() -> None:
    unknown = {"mmpretrain", "jeonsworld/ViT-pytorch", "pytorch-pretrained-vit"}  # see test_other_ports.py
    assert {layout.name for layout in checkpoints.LAYOUTS} == set(references.LIBRARIES) | unknown


def test_what_a_library_cannot_load_is_not_compared(found: dict[str, Any]) -> None:
    assert "nothing was compared: vit-pytorch" in found["right"]["vit-pytorch/article_mean"]["error"]
    assert "calls its layers otherwise. Install the version" in found["right"]["vit-pytorch/older"]["error"]


@pytest.mark.parametrize(("case", "extra"), [
    ("timm/plain", "timm"), ("google/vit_jax", "timm"), ("torchvision/plain", "torchvision"),
    ("vit-pytorch/cls", "vit-pytorch"),
])  # fmt: skip
def test_without_the_library_nothing_is_called_equivalent(vit: Vit, oracles: Path, case: str, extra: str) -> None:
    done = vit("verify", weights_of(oracles / case))
    assert done.returncode == 1
    assert "Nothing was compared" in done.stderr
    assert f"pip install 'vitcli[{extra}]'" in done.stderr
    assert "quivalent" not in done.stderr + done.stdout


def test_a_broken_rule_for_the_hubs_layout_is_no_agreement(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ARRANGE, "LAYOUTS", swapped("attention.query", "attention.key"))
    assert not any(row.agrees() for row in compared(checkpoints.load(tiny)))
    shutil.copy(tiny / "model.safetensors", tiny / "alone.safetensors")
    assert not any(row.agrees() for row in compared(checkpoints.load(tiny / "alone.safetensors")))


def test_settings_that_the_library_chokes_on_are_told_to_it_as_we_read_them(tmp_path: Path) -> None:
    folder = save_reference(tmp_path)
    said = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(said | {"resample": None}))
    assert all(row.agrees(1e-5) for row in compared(checkpoints.load(folder)))


def test_the_hubs_layout_is_read_by_transformers_itself(tiny: Path) -> None:
    checkpoint = checkpoints.load(tiny)
    assert verify.of(checkpoint).own_shape
    assert all(row.agrees(1e-5) and row.own_preprocessing for row in compared(checkpoint))


@pytest.mark.parametrize("changes", [{"norm_eps": 1e-5}, {"gelu": "tanh"}, {"heads": 6, "head_width": 8}])
def test_a_small_mistake_is_no_agreement(plain: Path, changes: dict[str, Any]) -> None:
    right = checkpoints.load(plain)
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
def test_pictures_are_prepared_by_transformers_wherever_it_can(plain: Path, family: str) -> None:
    checkpoint = checkpoints.load(plain, preprocess=family)
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
        assert verify.of(checkpoint).own_shape
        assert all(row.agrees(1e-5) for row in compared(checkpoint))


def test_options_that_the_files_do_not_know_of_are_verified_too(tiny: Path) -> None:
    checkpoint = checkpoints.load(tiny, image_size=48, heads=4, preprocess="deit")
    assert not verify.of(checkpoint).own_shape
    assert all(row.agrees(1e-5) for row in compared(checkpoint))


def test_a_file_under_another_name_is_verified_as_itself(tiny: Path, tmp_path: Path) -> None:
    """Not as the model.safetensors that lies beside it, which transformers would read."""
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(tiny / name, tmp_path)
    shutil.copy(tiny / "model.safetensors", tmp_path / "mine.safetensors")
    shutil.copy(save_reference(tmp_path / "other", seed=5) / "model.safetensors", tmp_path)
    checkpoint = checkpoints.load(tmp_path / "mine.safetensors")
    assert not verify.of(checkpoint).own_shape
    assert all(row.agrees(1e-5) for row in compared(checkpoint))
    assert not any(row.agrees() for row in compared(checkpoint, checkpoints.load(tmp_path)))


def test_a_config_that_transformers_cannot_follow_is_no_obstacle(tmp_path: Path) -> None:
    folder = save_reference(tmp_path)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"hidden_size": 48}))
    checkpoint = checkpoints.load(folder)
    assert not verify.of(checkpoint).own_shape
    assert all(row.agrees(1e-5) for row in compared(checkpoint))


def test_a_network_that_transformers_cannot_compute_is_said_so(tmp_path: Path) -> None:
    import torch

    state = dict(model().state_dict()) | {"vit.embeddings.distillation_token": torch.ones(1, 1, 48)}
    state["vit.embeddings.position_embeddings"] = torch.ones(1, 18, 48)
    torch.save(state, tmp_path / "mean.pth")
    with pytest.raises(CheckpointError, match="nothing was compared: transformers' ViT cannot express this network"):
        verify.of(checkpoints.load(tmp_path / "mean.pth", heads=3, pooling="mean"))


def test_without_transformers_the_extra_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"Nothing was compared.*pip install 'vitcli\[verify\]'"):
        verify.of(checkpoints.load(tiny))


def test_published_logits_are_checked_on_their_own_picture(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = checkpoints.load(tiny)
    cats = noise(9, (640, 480))
    logits = verify.of(checkpoint).logits(cats)
    pictures = [("dir/000000039769.png", cats), ("000000039769.png", noise(9, (64, 48))), ("other.png", cats)]

    def published(first: float, repository: str) -> list[float | None]:
        monkeypatch.setitem(GOLDEN, "org/name", Golden((first, float(logits[1]))))
        rows = verify.verify(checkpoint, verify.of(checkpoint), pictures, repository=repository)
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
    assert "ViTForImageClassification), which loads the same files itself, built from its own settings." in about
    assert verdict.startswith("Equivalent to transformers ")


def test_the_command_without_pictures_makes_some_up_and_says_so(vit: Vit, tiny: Path) -> None:
    done = vit("verify", tiny, "--engine", "numpy", "--format", "json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["equivalent"], found["own_shape"]) == (0, True, True)
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
    rows = list(verify.verify(checkpoint, verify.of(checkpoint), pictures))
    assert len(rows) == 4
    assert all(row.agrees() and row.same_best and row.own_preprocessing for row in rows)
