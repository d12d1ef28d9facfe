"""The well-known public models, as data: hub repository, shape, training data, preprocessing, published accuracy.

Adding a model is adding a row. What nobody has published, or what is not certain to be about these very weights, is
None. `top1` and `top5` are per cent of the 50,000 ImageNet-1k validation pictures, in the preprocessing of whoever
measured them, which `source` names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from vitcli.config import Config
from vitcli.hub.repository import SETTINGS, WEIGHTS

# A repository of the hub, perhaps with a branch, tag or commit: org/name[@revision]
LONGEST = 255  # characters: what file systems take for a name
ADDRESS = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?", re.ASCII)


@dataclass(frozen=True)
class Model:
    """One model. `revision` is None where no commit is pinned: then the branch `main` is meant."""

    repository: str
    size: str | None = None  # as `Config.named` reads it
    image_size: int | None = None  # pixels, square
    trained_on: str | None = None
    preprocess: str | None = None  # the family: hf, timm or deit
    top1: float | None = None
    top5: float | None = None
    source: str | None = None  # of the accuracies
    revision: str | None = None

    @property
    def name(self) -> str:
        """The short name: the repository's without its owner."""
        return self.repository.split("/")[1]

    @property
    def address(self) -> str:
        """What to type to mean exactly this: the short name if that suffices, else org/name[@revision]."""
        if self in MODELS:
            return self.name
        return self.repository + (f"@{self.revision}" if self.revision else "")

    @property
    def files(self) -> tuple[str, ...]:
        """What the repository should hold. Where it has no safetensors, `hub` takes `pytorch_model.bin` instead."""
        settings = ("config.json",) if self.preprocess == "timm" else ("config.json", "preprocessor_config.json")
        return (*settings, "model.safetensors")

    @property
    def parameters(self) -> int | None:
        """Number of weights with a head of 1000 classes; None where the shape is not known."""
        if self.size is None or self.image_size is None:
            return None
        distilled = "distilled" in self.name
        return Config.named(self.size, image_size=self.image_size, distillation_token=distilled).parameters


IN21K, IN1K = "ImageNet-21k, 1k", "ImageNet-1k"

HF = "published, with transformers preprocessing; 81.786 / 96.124 with timm's"
GOOGLE = "google-research/vision_transformer, README, update of 29.10.2020 (original JAX code)"
DEIT = "facebookresearch/deit, README_deit.md (DeiT's own evaluation)"
# One file of one commit, so that the rows compare; other versions of it differ in the second decimal.
TIMM = "huggingface/pytorch-image-models, results/results-imagenet.csv at 0173a139 (timm preprocessing)"
ORIG = f"{TIMM}, where the same weights are called orig_in21k_ft_in1k"

MODELS = (
    Model("google/vit-base-patch16-224",                           "B/16",  224, IN21K, "hf",   81.3,   None,   HF,
          revision="3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3"),
    Model("google/vit-base-patch16-384",                           "B/16",  384, IN21K, "hf",   84.200, 97.220, ORIG),
    Model("google/vit-base-patch32-384",                           "B/32",  384, IN21K, "hf"),
    Model("google/vit-large-patch16-224",                          "L/16",  224, IN21K, "hf",   82.7,   None,   GOOGLE),
    Model("google/vit-large-patch16-384",                          "L/16",  384, IN21K, "hf"),
    Model("google/vit-large-patch32-384",                          "L/32",  384, IN21K, "hf",   81.510, 96.090, ORIG),

    Model("WinKawaks/vit-tiny-patch16-224",                        "Ti/16", 224, IN1K,  "hf"),
    Model("WinKawaks/vit-small-patch16-224",                       "S/16",  224, None,  "hf"),

    Model("facebook/deit-tiny-patch16-224",                        "Ti/16", 224, IN1K,  "deit", 72.2,   91.1,   DEIT),
    Model("facebook/deit-small-patch16-224",                       "S/16",  224, IN1K,  "deit", 79.9,   95.0,   DEIT),
    Model("facebook/deit-base-patch16-224",                        "B/16",  224, IN1K,  "deit", 81.8,   95.6,   DEIT),
    Model("facebook/deit-base-patch16-384",                        "B/16",  384, IN1K,  "deit", 82.9,   96.2,   DEIT),
    Model("facebook/deit-tiny-distilled-patch16-224",              "Ti/16", 224, IN1K,  "deit", 74.5,   91.9,   DEIT),
    Model("facebook/deit-small-distilled-patch16-224",             "S/16",  224, IN1K,  "deit", 81.2,   95.4,   DEIT),
    Model("facebook/deit-base-distilled-patch16-224",              "B/16",  224, IN1K,  "deit", 83.4,   96.5,   DEIT),
    Model("facebook/deit-base-distilled-patch16-384",              "B/16",  384, IN1K,  "deit", 85.2,   97.2,   DEIT),

    Model("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",        "Ti/16", 224, IN21K, "timm", 75.454, 92.844, TIMM),
    Model("timm/vit_tiny_patch16_384.augreg_in21k_ft_in1k",        "Ti/16", 384, IN21K, "timm", 78.424, 94.540, TIMM),
    Model("timm/vit_small_patch32_224.augreg_in21k_ft_in1k",       "S/32",  224, IN21K, "timm", 75.994, 93.270, TIMM),
    Model("timm/vit_small_patch32_384.augreg_in21k_ft_in1k",       "S/32",  384, IN21K, "timm", 80.486, 95.596, TIMM),
    Model("timm/vit_small_patch16_224.augreg_in21k_ft_in1k",       "S/16",  224, IN21K, "timm", 81.384, 96.136, TIMM),
    Model("timm/vit_small_patch16_384.augreg_in21k_ft_in1k",       "S/16",  384, IN21K, "timm", 83.802, 97.098, TIMM),
    Model("timm/vit_base_patch32_224.augreg_in21k_ft_in1k",        "B/32",  224, IN21K, "timm", 80.716, 95.566, TIMM),
    Model("timm/vit_base_patch32_384.augreg_in21k_ft_in1k",        "B/32",  384, IN21K, "timm", 83.350, 96.838, TIMM),
    Model("timm/vit_base_patch16_224.augreg_in21k_ft_in1k",        "B/16",  224, IN21K, "timm", 84.532, 97.292, TIMM),
    Model("timm/vit_base_patch16_224.augreg2_in21k_ft_in1k",       "B/16",  224, IN21K, "timm", 85.096, 97.530, TIMM),
    Model("timm/vit_base_patch16_384.augreg_in21k_ft_in1k",        "B/16",  384, IN21K, "timm", 85.996, 98.002, TIMM),
    Model("timm/vit_large_patch16_224.augreg_in21k_ft_in1k",       "L/16",  224, IN21K, "timm", 85.834, 97.818, TIMM),
    Model("timm/vit_large_patch16_384.augreg_in21k_ft_in1k",       "L/16",  384, IN21K, "timm", 87.084, 98.302, TIMM),
    Model("timm/vit_base_patch16_224.orig_in21k_ft_in1k",          "B/16",  224, IN21K, "timm", 81.786, 96.124, TIMM),
    Model("timm/vit_base_patch16_224.augreg_in1k",                 "B/16",  224, IN1K,  "timm", 79.154, 94.090, TIMM),
    Model("timm/vit_small_patch16_224.augreg_in1k",                "S/16",  224, IN1K,  "timm", 78.846, 94.288, TIMM),
)  # fmt: skip

DEFAULT = MODELS[0].repository


# What people paste in place of org/name, in the address bar's words and in those of timm and of hf's own file system.
PASTED = re.compile(
    r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)/(?:models/)?|git@hf\.co:"
    r"|hf://(?:models/)?|hf[-_]hub:)"
    r"(?P<repository>[^/\s@?#]+/[^/\s@?#]+?)(?:\.git)?(?:@(?P<at>[^\s?#/]+))?"
    r"(?:/(?:tree|blob|resolve|raw|commit)/(?P<revision>[^/\s?#]+))?(?:/(?P<file>[^\s?#]+))?/?(?:[?#]\S*)?"
)

# torchvision's names, whose weights are on no hub.
TORCHVISION = re.compile(r"vit_[bl]_(?:16|32)|vit_h_14", re.ASCII)


def address(name: str) -> str:
    """`org/name[@revision]` of what was pasted: a page of the hub, or a file there that is of a model's one set.

    Anything else comes back as it is, but for spaces and quotes around it.
    """
    name = name.strip(" '\"")
    if cached := re.fullmatch(r"models--([\w.-]+?)--([\w.-]+)", name):  # a folder of the hub's own cache
        return f"{cached[1]}/{cached[2]}"
    match = PASTED.fullmatch(name.strip())
    if match is None or match["file"] not in (None, *SETTINGS, *WEIGHTS):
        return name
    revision = (match["at"] or match["revision"] or "").replace("%2F", "/")  # as in refs%2Fpr%2F1
    return match["repository"] + (f"@{revision}" if revision not in ("", "main") else "")


def find(name: str) -> Model | None:
    """The model of a short name, a repository `org/name` or `org/name@revision`; None for what can be neither.

    Names may be pasted as `address` reads them, in capitals or not, and timm's without a tag where only one row has it.
    A repository that is not in the catalog is a Model of which nothing else is known.
    """
    short, at, revision = address(name).partition("@")
    known = next((m for m in MODELS if short.lower() in (m.name.lower(), m.repository.lower())), None)
    if known is None and len(tagged := _tagged(short)) == 1:
        known = tagged[0]
    match = ADDRESS.fullmatch((known.repository if known else short) + at + revision)
    if match is None or ".." in name or "--" in match["repository"] or len(name) > LONGEST:
        return None
    if known is None:
        return Model(match["repository"], revision=match["revision"])
    return replace(known, revision=revision) if revision else known


def _tagged(name: str) -> list[Model]:
    """The rows of a name of timm's without its tag, which says how the weights were trained."""
    return [model for model in MODELS if "." in model.name and name == model.name.partition(".")[0]]


def close(name: str) -> str | None:
    """The known short name that looks most like `name`, for a "did you mean"."""
    import difflib

    near = difflib.get_close_matches(name.split("/")[-1].replace("_", "-"), [m.name for m in MODELS], n=1)
    near = near or difflib.get_close_matches(name.split("/")[-1], [m.name for m in MODELS], n=1)
    return near[0] if near else None


def hint(name: str) -> str:
    """What somebody may have meant who gave a name that is none: a sentence and a space, or nothing."""
    if tagged := _tagged(name):
        return f"Did you mean {' or '.join(model.name for model in tagged)}? "
    if TORCHVISION.fullmatch(name):
        return ("That is torchvision's name, whose weights are on no hub: torch.save(torchvision.models."
                f"{name}(weights='DEFAULT').state_dict(), '{name}.pth'), and name that file. ")  # fmt: skip
    if PASTED.fullmatch(name.strip()):
        return "Only a repository's own weights are fetched: name it as org/name[@revision]. "
    near = close(name)
    return f"Did you mean {near}? " if near else ""
