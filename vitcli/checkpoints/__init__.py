"""A file or folder of weights -> `Checkpoint`: tensors, Config, preprocessing and labels that belong together.

    load(path)   everything, float32, ready for a network
    peek(path)   the same record from headers alone; tensors are read one by one when asked for

`files.py` reads names and shapes, `layouts.py` is the table of what the names mean (in the language of `rules.py`),
`arrange.py` applies it, `settings.py` reads the JSON files beside the weights, `architectures.py` is the table of the
names they give, and `positions.py` resizes positions for pictures of other sizes.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import numpy as np

from vitcli.checkpoints import files
from vitcli.checkpoints.arrange import Part, arrange
from vitcli.checkpoints.files import Array
from vitcli.checkpoints.layouts import LAYOUTS, Layout
from vitcli.checkpoints.positions import Resize, resized
from vitcli.checkpoints.settings import Settings, default_of, scored
from vitcli.config import Config
from vitcli.errors import CheckpointError, NotWeights, UsageError
from vitcli.escaping import listed
from vitcli.hub.repository import WEIGHTS
from vitcli.labels import Labels
from vitcli.pictures.preprocess import Preprocess

__all__ = ["LAYOUTS", "Checkpoint", "Layout", "Resize", "load", "peek", "resized"]

SMALL = 2**16  # elements: tensors below this are checked for NaN on every load, at no cost one would notice

IMAGENET_21K = (21841, 21843)

ZERO_HEAD = "the head is all zeros, so every class scores the same: these weights are for fine-tuning"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights and all that belongs to them.

    `tensors` are float32 under the names and shapes of `config.tensors()`; `dtype` is how the file stores them.
    `sources` says where "labels", "preprocess" and "heads" come from; `dropped` names tensors that inference does not
    need; `warnings` are sentences for whoever chose the checkpoint; `maps` are the mapped files
    that tensors are views of.
    """

    path: Path
    files: tuple[Path, ...]
    layout: str
    config: Config
    tensors: Mapping[str, Array]
    preprocess: Preprocess
    labels: Labels
    dtype: str
    warnings: tuple[str, ...]
    sources: Mapping[str, str]
    dropped: tuple[str, ...]
    maps: tuple[mmap.mmap, ...] = ()

    def sha256(self) -> str:
        """Hash of the file of weights, as the hub states it; of shards, the hash of their hashes in order."""
        import hashlib

        hashes = [_sha256(file) for file in self.files]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def not_finite(self) -> list[str]:
        """Names of tensors that hold NaN or infinity. Reads every weight."""
        return [name for name, tensor in self.tensors.items() if not _finite(tensor)]

    def headless(self) -> Checkpoint:
        """The same network without its classification head, which gives features [b d] instead of logits [b k]."""
        config = replace(self.config, classes=0)
        tensors = {name: self.tensors[name] for name in config.tensors()}
        return replace(self, config=config, tensors=tensors, labels=Labels.unnamed(0))

    def release(self) -> None:
        """Take the mapped files' pages out of this process; whoever reads a tensor again gets them back.

        Weights would otherwise count twice once a network has packed them or has them on a card. Nobody writes to them.
        """
        for data in self.maps:
            if hasattr(data, "madvise"):  # not on Windows
                data.madvise(mmap.MADV_DONTNEED)


class Options(TypedDict, total=False):
    """What a checkpoint does not say, or says wrongly."""

    heads: int | None  # attention heads
    image_size: int | None  # pixels; positions are resized
    preprocess: str | Preprocess | None  # a family of `FAMILIES`, or settings
    labels: Labels | None  # names of the classes
    pooling: Literal["cls", "mean"] | None  # what the head reads


def load(path: Path, **options: Unpack[Options]) -> Checkpoint:
    """Read a checkpoint for use.

    Raises NotWeights for what is not a checkpoint, LayoutError for tensors missing, left over or misshapen,
    CheckpointError for anything else about the files, UsageError for options that do not fit the network.
    Small tensors are checked for NaN here, all of them by `not_finite()`.
    """
    return _open(path, whole=True, **options)


def peek(path: Path, **options: Unpack[Options]) -> Checkpoint:
    """What `load` would give, without reading the weights where the format allows; `tensors` reads them on demand."""
    return _open(path, whole=False, **options)


def _open(
    path: Path,
    whole: bool,
    heads: int | None = None,
    image_size: int | None = None,
    preprocess: str | Preprocess | None = None,
    labels: Labels | None = None,
    pooling: Literal["cls", "mean"] | None = None,
) -> Checkpoint:
    chosen = _weights_of(path)
    if chosen.suffix == ".json":
        contents, weights = files.read_index(chosen)
    else:
        contents, weights = files.read(chosen), (chosen,)
    if whole:
        contents.read_ahead()
    settings = Settings.beside(chosen.parent, heads, pooling)
    settings.warnings.extend(contents.remarks)
    found = arrange(chosen, contents.tensors, settings)
    config, change = found.config, None
    if image_size is None and found.layout.any_size:
        image_size = settings.prepared_size
    if image_size is not None and image_size != config.image_size:
        config, change = _at_size(config, image_size, found.layout.resize)
        if not found.layout.own_resize:
            settings.warnings.append(f"{found.layout.name} has no way of its own to resize positions: done as "
                                     "transformers does")  # fmt: skip
    family = found.layout.preprocess_distilled * config.distillation_token or found.layout.preprocess
    prepared, preprocess_from = settings.preprocess(
        config.image_size, family, chosen=preprocess, resized=image_size is not None
    )
    if preprocess_from == default_of(family) and found.layout.preprocess_doubt and not config.distillation_token:
        settings.warnings.append(f"nothing says how pictures are prepared: {found.layout.preprocess_doubt}")
    named, labels_from = _labels(settings, config.classes, labels)
    lazy = Lazy(found.parts, change)
    tensors: Mapping[str, Array] = lazy.whole() if whole else lazy
    if whole:
        small = (name for name, tensor in tensors.items() if tensor.size < SMALL)
        if bad := [name for name in small if not _finite(tensors[name])]:
            raise CheckpointError(f"{chosen}: NaN or infinity among the weights ({listed(bad)}). "
                                  "Training went wrong, or the file is damaged: use another checkpoint.")  # fmt: skip
        if not tensors["head.weight"].any():
            settings.warnings.append(ZERO_HEAD)
    return Checkpoint(
        path=path,
        files=weights,
        layout=found.layout.name,
        config=config,
        tensors=tensors,
        preprocess=prepared,
        labels=scored(named, settings.activation(config.classes)),
        dtype=found.dtype,
        warnings=tuple(dict.fromkeys(settings.warnings)),
        sources={"labels": labels_from, "preprocess": preprocess_from, **found.sources},
        dropped=found.dropped,
        maps=contents.maps,
    )


class Lazy(Mapping[str, Array]):
    """Canonical name -> array, read anew whenever it is asked for; `positions` pass through `change` if given."""

    def __init__(self, parts: Mapping[str, Part], change: Callable[[Array], Array] | None) -> None:
        self._parts, self._change = parts, change

    def _read(self, name: str, moved: dict[str, Array]) -> Array:
        array = self._parts[name].read(moved)
        return self._change(array) if self._change and name == "positions" else array

    def __getitem__(self, name: str) -> Array:
        return self._read(name, {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def whole(self) -> dict[str, Array]:
        """All of them, each stored tensor read once."""
        moved: dict[str, Array] = {}
        return {name: self._read(name, moved) for name in self._parts}


def _weights_of(path: Path) -> Path:
    """The file of weights that a path means: itself, or the one of a folder."""
    if path.is_file():
        if path.suffix == ".json" and not path.name.endswith(".index.json"):
            raise NotWeights(f"{path}: settings, not weights. Name the folder it is in.")
        return path
    if not path.is_dir():
        what = "neither a file nor a folder" if path.exists() else "no such file or folder"
        raise CheckpointError(f"{path}: {what}.")
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    try:
        inside = sorted(path.iterdir())
        others = [file for file in inside if file.name.lower().endswith(tuple(files.READERS)) and file.is_file()]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be listed ({error.strerror or error}).") from error
    if (path / "adapter_config.json").is_file():
        raise CheckpointError(f"{path}: an adapter (LoRA), not a whole network. Merge it first, and name the result: "
                              "PeftModel.from_pretrained(...).merge_and_unload().save_pretrained(...).")  # fmt: skip
    if len(others) == 1:
        return others[0]
    if others:
        names = listed([file.name for file in others])
        raise CheckpointError(f"{path}: holds several files of weights ({names}). Name the one you mean.")
    trained = [file for file in inside if file.name.startswith("checkpoint-") and file.name[11:].isdecimal()]
    if trained:
        newest = max(trained, key=lambda folder: int(folder.name[11:][:18]))
        raise CheckpointError(f"{path}: a trainer's folder, whose newest checkpoint is {newest.name}. Name that.")
    foreign = tuple(ending for _, _, endings, _ in files.FOREIGN for ending in endings)
    folders = [*inside, *path.glob("onnx/*")]
    if named := next((file for file in folders if file.name.lower().endswith(foreign) and file.is_file()), None):
        files.read(named)  # which says what it is
    raise CheckpointError(f"{path}: holds no weights (no {', '.join(('model.safetensors', *files.READERS))}).")


def _at_size(config: Config, image_size: int, how: Resize) -> tuple[Config, Callable[[Array], Array]]:
    if config.relative_positions:
        raise UsageError("--image-size: relative positions are of one size, and are not resized here.")
    most, patch = 4096, config.patch_size
    if not patch <= image_size <= most or image_size % patch:
        nearest = min(max(image_size // patch, 1), most // patch) * patch
        raise UsageError(f"--image-size {image_size} is not a multiple of the patch size {patch} up to {most}: "
                         f"try {nearest}.")  # fmt: skip
    prefix = config.prefix * config.prefix_positions
    return replace(config, image_size=image_size), partial(resized, prefix=prefix, grid=image_size // patch, how=how)


def _labels(settings: Settings, classes: int, given: Labels | None) -> tuple[Labels, str]:
    if given is not None:
        if len(given) != classes:
            raise UsageError(f"{len(given)} labels were given, but the network has {classes} classes.")
        return given, "--labels"
    own, source = settings.labels(classes)
    if own is not None:
        return own, source
    if classes == 1000:
        return Labels.imagenet1k(), "ImageNet-1k, because there are 1000 classes"
    if classes in IMAGENET_21K:
        return Labels.unnamed(classes), "ImageNet-21k by their number; names are not built in, give them with --labels"
    return Labels.unnamed(classes), "unnamed"


def _finite(tensor: Array) -> bool:
    # one pass without a copy: a sum is NaN or infinite if anything is, and rarely otherwise (overflow)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(tensor.sum())) or bool(np.isfinite(tensor).all())


def _sha256(path: Path) -> str:
    import hashlib  # here, because a cold start does without it

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
