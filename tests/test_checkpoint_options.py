"""--preprocess, --image-size, --heads, --pooling and --labels reach the checkpoint, and are refused in a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import noise
from safetensors.torch import save_file

import vitcli
from tests.oracles import weights_of
from vitcli.errors import UsageError
from vitcli.labels import Labels

Vit = Callable[..., "subprocess.CompletedProcess[str]"]


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_classify_takes_them_all(vit: Vit, oracles: Path, picture: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text("index,label\n" + "".join(f"{i},kind {i}\n" for i in range(11)))
    weights = tmp_path / "weights.safetensors"  # which is read without importing torch
    save_file(torch.load(weights_of(oracles / "vit-pytorch" / "usual_head_width")), weights)
    given = ["--preprocess", "timm", "--image-size", 48, "--heads", 4, "--pooling", "mean", "--labels", names]
    found = document(vit("classify", picture, "--model", weights, *given, "--format", "json"))
    assert found["header"]["preprocess"] == {
        "size": 48, "resize": 53, "fit": "shortest", "filter": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3,
        "rounding": "even",
    }  # fmt: skip
    (top, *_) = found["results"][0]["top"]
    assert top["label"] == f"kind {top['index']}"
    scores = [
        document(vit("classify", picture, "-m", weights, *case, "--format", "json"))["results"][0]["top"][0]["score"]
        for case in (given, [*given[:5], 2, *given[6:]], [*given[:7], "cls", *given[8:]])
    ]
    assert len({round(score, 6) for score in scores}) == 3


@pytest.mark.parametrize(("option", "value", "message"), [
    ("--preprocess", "keras", "'keras' is not one of hf, timm, deit, torchvision, clip, siglip, hf-deit"),
    ("--image-size", "50", "--image-size 50 is not a multiple of the patch size 16"),
    ("--heads", "5", "--heads 5 does not divide the width of attention, 32."),
    ("--pooling", "max", "'max' is not one of cls, mean"),
    ("--engine", "jax", "'jax' is not one of auto, numpy, torch"),
])  # fmt: skip
def test_what_cannot_be_meant_is_wrong_usage(
    vit: Vit, tiny: Path, picture: Path, option: str, value: str, message: str
) -> None:
    done = vit("classify", picture, "--model", tiny, option, value)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_labels_must_be_as_many_as_the_classes(vit: Vit, tiny: Path, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    done = vit("classify", picture, "--model", tiny, "--labels", tmp_path / "names.txt")
    assert done.returncode == 2
    assert "2 labels were given, but the network has 10 classes." in done.stderr


FILES = {
    "lines.txt": "cat\nbig dog\n\n",
    "marked.txt": "\ufeffcat\r\nbig dog\r\n",
    "synsets.txt": "n02121620 cat\nn02084071 big dog\n",
    "list.json": '["cat", "big dog"]',
    "table.json": '{"1": "big dog", "0": "cat"}',
    "config.json": '{"model_type": "vit", "id2label": {"0": "cat", "1": "big dog"}}',
    "keras.json": '{"0": ["n02121620", "cat"], "1": ["n02084071", "big dog"]}',
    "header.csv": "label\ncat\nbig dog\n",
    "columns.csv": "wnid,Label,index\nn02084071,big dog,1\nn02121620,cat,0\n",
    "bare.csv": "0,cat\n1,big dog\n",
    "tabs.tsv": "index\tlabel\n0\tcat\n1\tbig dog\n",
}


@pytest.mark.parametrize("name", FILES)
def test_labels_are_read_from_files_as_people_have_them(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8", newline="")
    labels = Labels.read(path)
    assert labels.names == ("cat", "big dog")
    known = name in ("synsets.txt", "keras.json", "columns.csv")
    assert labels.wnids == (("n02121620", "n02084071") if known else (None, None))


@pytest.mark.parametrize(("name", "text", "message"), [
    ("empty.txt", b"", "it is empty"),
    ("hole.txt", b"cat\n\ndog\n", "line 2 is empty"),
    ("latin.txt", b"h\xe9ron\n", "not UTF-8"),
    ("number.json", b"7", "neither a list"),
    ("broken.json", b"[", "no labels can be made of it"),
    ("deep.json", b"[" * 100_000, "no labels can be made of it"),
    ("nested.json", b'{"0": {"a": 1}}', "is not a name"),
    ("words.json", b'{"cat": "0"}', "'cat' is not an index"),
    ("gap.json", b'{"0": "cat", "2": "dog"}', "none with the index 1"),
    ("negative.csv", b"index,label\n-1,cat\n", "'-1' is not an index"),
    ("strange.csv", b"a,b\nc,d\n", "no column 'label'"),
    ("short.csv", b"index,label\n0,cat\n1\n", "row 2 has no label"),
])  # fmt: skip
def test_a_file_that_holds_no_labels_is_wrong_usage(tmp_path: Path, name: str, text: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(UsageError, match=message) as caught:
        Labels.read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_both_engines_take_another_size(tiny: Path) -> None:
    def logits(engine: Any, size: int) -> np.ndarray:
        classifier = vitcli.load(tiny, engine=engine, image_size=size)
        return classifier.logits(classifier.prepare(noise(0))[None])

    np.testing.assert_allclose(logits("numpy", 64), logits("torch", 64), atol=1e-5)
    assert np.abs(logits("numpy", 64) - logits("numpy", 32)).max() > 1e-2


@pytest.mark.parametrize("arguments", [
    ["inspect", "{tiny}"],
    ["classify", "{picture}", "-m", "{tiny}", "-k", "3", "--batch", "4", "--format", "jsonl"],
    ["models", "--format", "json"],
])  # fmt: skip
def test_commands_start_without_pydantic(tiny: Path, picture: Path, arguments: list[str]) -> None:
    """Typer 0.29 converts values with it; its import takes half as long as all else, so 0.28 is pinned."""
    given = [a.format(tiny=tiny, picture=picture) for a in arguments]
    code = (
        f"import sys; sys.argv = ['vit', *{given!r}]; import vitcli.cli\n"
        "try:\n    vitcli.cli.main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


@pytest.mark.parametrize(("arguments", "message"), [
    (["--topk", "0"], "--topk "),
    (["--topk", "x"], "--topk "),
    (["--image-size", "-5"], "--image-size "),
    (["--labels", "nowhere.txt"], "does not exist"),
])  # fmt: skip
def test_a_value_of_the_wrong_kind_is_refused_by_the_options_name(
    vit: Vit, picture: Path, arguments: list[str], message: str
) -> None:
    done = vit("classify", picture, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_settings_from_the_environment_are_converted_too(vit: Vit, tiny: Path, picture: Path) -> None:
    found = vit("classify", picture, "-m", tiny, "-f", "json", env={"VIT_IMAGE_SIZE": "64", "VIT_BATCH": "2"})
    assert document(found)["header"]["preprocess"]["size"] == 64
    assert vit("classify", picture, "-m", tiny, env={"VIT_IMAGE_SIZE": "big"}).returncode == 2
