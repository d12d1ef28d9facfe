"""`Classifier`: what belongs together stays together, and a fault is laid where it belongs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import noise, save_reference
from safetensors.numpy import load_file, save_file

import vitcli
from vitcli.errors import CheckpointError


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_weights_that_are_not_numbers_are_blamed_not_the_picture(tmp_path: Path, engine: str) -> None:
    folder = save_reference(tmp_path / "model", hidden_size=256, intermediate_size=512, num_attention_heads=4)
    tensors = load_file(folder / "model.safetensors")
    name = "vit.encoder.layer.1.output.dense.weight"  # large: reading it just to look for NaN would slow every start
    tensors[name][3, 5] = np.nan
    save_file(tensors, folder / "model.safetensors")
    classifier = vitcli.load(folder, engine=engine)
    with pytest.raises(CheckpointError, match=r"among the weights \(blocks\.1\.mlp\.fc2\.weight\)"):
        classifier(noise(0))


def test_a_picture_can_be_given_as_a_path_or_as_an_image_in_any_mode(tiny: Path, picture: Path) -> None:
    from PIL import Image

    classifier = vitcli.load(tiny)
    image = Image.open(picture)
    from_path, from_image = classifier(picture), classifier(image)
    assert from_path.top == from_image.top
    assert classifier(str(picture)).path == str(picture)
    assert classifier(image.convert("L")).size == image.size
    image.putalpha(128)
    assert classifier(image).notes == ("alpha on white",)


def test_a_folder_of_weights_can_be_given_by_its_file(tiny: Path, tmp_path: Path, picture: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    by_file, by_folder = vitcli.load(copy / "model.safetensors"), vitcli.load(copy)
    assert by_file(picture).top == by_folder(picture).top


def test_the_engine_is_chosen_by_the_number_of_pictures(tiny: Path) -> None:
    assert vitcli.load(tiny, device="cpu", pictures=1).backend.engine == "numpy"
    assert vitcli.load(tiny, device="cpu", pictures=None).backend.engine == "torch"
