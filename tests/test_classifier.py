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


def every_kind(picture: Path) -> list[object]:
    """One picture in every way that Python code may give it."""
    from PIL import Image

    image = Image.open(picture)
    data = picture.read_bytes()
    return [picture, str(picture), data, bytearray(data), image, np.asarray(image), vitcli.Input("name", picture)]


def test_a_picture_is_given_in_every_usual_way_to_a_classifier_and_to_a_stream(tiny: Path, picture: Path) -> None:
    classifier = vitcli.load(tiny, device="cpu", pictures=1, topk=3)
    given = every_kind(picture)
    first, *others = [classifier(one) for one in given]  # type: ignore[arg-type]
    assert len(first.top) == 3
    assert all(other.top == first.top and other.size == first.size for other in others)
    assert len(classifier(picture, topk=7).top) == 7
    results = list(vitcli.stream(classifier, given))  # type: ignore[arg-type]
    assert [result.path for result in results] == [str(picture)] * 2 + ["#2", "#3", str(picture), "#5", "name"]
    assert all(result.top == results[0].top for result in results)  # type: ignore[union-attr]
    assert [label.index for label in results[0].top] == [label.index for label in first.top]  # type: ignore[union-attr]


def test_a_stream_takes_folders_and_makes_rows_of_what_is_not_there(tiny: Path, picture: Path) -> None:
    classifier = vitcli.load(tiny, device="cpu", pictures=1)
    results = list(vitcli.stream(classifier, [picture.parent, "nothing.jpg", b""]))
    assert [result.path for result in results] == [str(picture), "nothing.jpg", "#2"]
    assert [getattr(result, "error", None) for result in results] == [None, "missing", "empty"]


@pytest.mark.parametrize("given", [17, None, ["a.jpg"], np.zeros((4, 4, 3)), np.zeros((4, 4, 7), np.uint8)], ids=repr)
def test_anything_else_is_a_type_error_that_says_what_goes_in(tiny: Path, given: object) -> None:
    classifier = vitcli.load(tiny, device="cpu", pictures=1)
    with pytest.raises(TypeError, match="uint8"):
        classifier(given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="uint8"):
        list(vitcli.stream(classifier, [given]))  # type: ignore[list-item]


def test_one_name_is_no_stream_and_a_folder_is_not_one_picture(tiny: Path, picture: Path) -> None:
    classifier = vitcli.load(tiny, device="cpu", pictures=1)
    with pytest.raises(TypeError, match="put a single one in a list"):
        list(vitcli.stream(classifier, str(picture)))
    with pytest.raises(TypeError, match="takes folders"):
        classifier(picture.parent)


def test_a_classifier_s_repr_fits_a_line(tiny: Path) -> None:
    assert len(repr(vitcli.load(tiny, device="cpu", pictures=1)).replace(str(tiny), "")) < 100
