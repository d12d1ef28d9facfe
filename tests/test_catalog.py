"""The catalog is data: every row must be usable, and nothing in it may be made up."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from vitcli.config import Config
from vitcli.errors import UsageError
from vitcli.hub import catalog, resolve
from vitcli.hub.catalog import DEFAULT, MODELS, Model, close, find, hint

EACH = pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)


def test_short_names_and_repositories_are_unique() -> None:
    assert len({m.name for m in MODELS}) == len({m.repository for m in MODELS}) == len(MODELS)


def test_the_default_is_the_well_known_one_at_its_commit() -> None:
    model = find(DEFAULT)
    assert model is MODELS[0]
    assert (model.repository, model.parameters) == ("google/vit-base-patch16-224", 86_567_656)
    assert model.revision == "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3"


def test_only_the_default_is_pinned() -> None:
    assert [m.name for m in MODELS if m.revision] == ["vit-base-patch16-224"]


@EACH
def test_the_row_agrees_with_the_models_own_name(model: Model) -> None:
    assert model.size is not None
    assert model.image_size is not None
    config = Config.named(model.size, image_size=model.image_size)
    word = {"Ti": "tiny", "S": "small", "B": "base", "L": "large"}[model.size.split("/")[0]]
    assert re.search(
        rf"_?{word}(_distilled|-distilled)?[-_]patch{config.patch_size}[-_]{model.image_size}\b", model.name
    )


@EACH
def test_an_accuracy_comes_with_its_source_and_no_source_comes_alone(model: Model) -> None:
    assert (model.top1 is None) == (model.source is None)
    assert model.top5 is None or model.top1 is not None
    if model.top1 is not None:
        assert 50 < model.top1 < (model.top5 or 100) <= 100


@EACH
def test_every_way_of_naming_it_finds_it(model: Model) -> None:
    assert find(model.name) is model
    assert find(model.repository) is model
    assert find(model.address) is model
    other = find(f"{model.name}@v2")
    assert other == find(f"{model.repository}@v2")
    assert other is not None
    assert (other.revision, other.size, other.address) == ("v2", model.size, f"{model.repository}@v2")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # as timm counts them, in millions (results-imagenet.csv)
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 5.72),
        ("vit_small_patch32_384.augreg_in21k_ft_in1k", 22.92),
        ("vit_base_patch16_384.augreg_in21k_ft_in1k", 86.86),
        ("vit_large_patch16_384.augreg_in21k_ft_in1k", 304.72),
        ("vit-large-patch32-384", 306.63),
        ("deit-base-distilled-patch16-384", 87.63),
        ("deit-tiny-distilled-patch16-224", 5.91),
    ],
)
def test_parameters_are_those_that_others_count(name: str, parameters: float) -> None:
    model = find(name)
    assert model is not None
    assert round((model.parameters or 0) / 1e6, 2) == parameters


def test_an_unknown_repository_is_a_model_of_which_nothing_is_known() -> None:
    model = find("acme/my.vit_2@refs/pr/1")
    assert model == Model("acme/my.vit_2", revision="refs/pr/1")
    assert model.address == "acme/my.vit_2@refs/pr/1"
    assert model.parameters is None


@pytest.mark.parametrize(
    "name",
    ["", "vit", "@main", "vit-base-patch16-224@", "acme/x@", "a/b/c", "/etc/passwd", "../x", "acme/../x",
     "acme/x@../../y", "vit-base-patch16-224@../../x", "a--b/c", "acme/x y", "acmé/x", "-acme/x", "acme/x@-y",
     "photo.jpg\n", "acme/x\n"],
)  # fmt: skip
def test_what_can_be_no_name_is_none(name: str) -> None:
    assert find(name) is None


PASTED = {
    "https://huggingface.co/acme/my.vit_2": "acme/my.vit_2",
    "https://huggingface.co/acme/vit/": "acme/vit",
    "https://hf.co/acme/vit?library=transformers#files": "acme/vit",
    "https://huggingface.co/acme/vit/tree/main": "acme/vit",
    "https://huggingface.co/acme/vit/tree/v2": "acme/vit@v2",
    "https://huggingface.co/acme/vit/blob/refs%2Fpr%2F1/config.json": "acme/vit@refs/pr/1",
    "https://huggingface.co/acme/vit/resolve/main/model.safetensors?download=true": "acme/vit",
    "hf://acme/vit": "acme/vit",
    "hf://acme/vit@v2/model.safetensors": "acme/vit@v2",
    "hf-hub:acme/vit@v2": "acme/vit@v2",
    "hf_hub:timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit_tiny_patch16_224": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "https://huggingface.co/google/vit-base-patch16-224": "vit-base-patch16-224",
}


@pytest.mark.parametrize("name", PASTED)
def test_what_people_paste_is_taken_for_what_it_names(name: str) -> None:
    model = find(name)
    assert model is not None
    assert model.address == PASTED[name]


@pytest.mark.parametrize(("name", "words"), [
    ("vit_base_patch16_224", "Did you mean vit_base_patch16_224.augreg_in21k_ft_in1k or "),
    ("vit_b_16", "torchvision.models.vit_b_16(weights='DEFAULT').state_dict()"),
    ("deit_base_patch16_224", "Did you mean deit-base-patch16-224?"),
    ("https://huggingface.co/acme/vit/blob/main/other.pth", "name it as org/name[@revision]"),
    ("https://example.com/acme/vit", ""),
])  # fmt: skip
def test_what_is_no_single_model_leads_on(name: str, words: str) -> None:
    assert find(name) is None
    assert words in hint(name)
    assert bool(hint(name)) == bool(words)
    with pytest.raises(UsageError, match=re.escape(words or "nor a model's name")):
        resolve(name)


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "~nobody-of-that-name/vit", "\n"])
def test_what_no_file_can_be_called_is_a_sentence(name: str) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        resolve(name)


def test_a_slip_of_the_pen_is_recognised() -> None:
    assert close("vit-bse-patch16-224") == "vit-base-patch16-224"
    assert close("google/vit-bse-patch16-224") == "vit-base-patch16-224"
    assert close("resnet50") is None


def test_the_command_lines_default_is_the_catalogs() -> None:
    from vitcli.cli import options

    assert options.DEFAULT_MODEL == catalog.DEFAULT


def test_importing_it_imports_no_numbers() -> None:
    code = "import sys, vitcli.hub.catalog; print([m for m in ('numpy', 'torch', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("model", catalog.MODELS, ids=lambda m: m.name)
def test_capitals_do_not_matter(model: catalog.Model) -> None:
    for name in (model.name, model.repository):
        assert catalog.find(name.upper()) == catalog.find(name.lower()) == model
