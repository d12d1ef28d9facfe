"""A file or folder of weights -> `Checkpoint`: tensors, Config, preprocessing and labels that belong together.

    load(path)   everything, float32, ready for a network
    peek(path)   the same record from headers alone; tensors are read one by one when asked for
    stored(path) the tensors as the library they come from names them, to compare with it

`files.py` reads names and shapes, `layouts.py` is the table of what the names mean (in the language of `rules.py`),
`arrange.py` applies it and gives `parts.py`, `settings.py` reads the JSON files beside the weights, `architectures.py`
is the table of the names they give, and `positions.py` resizes positions for pictures of other sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import numpy as np

from vitcli.checkpoints import files, foreign
from vitcli.checkpoints.arrange import arrange, as_named, recognise
from vitcli.checkpoints.layouts import LAYOUTS, Layout
from vitcli.checkpoints.parts import at_size
from vitcli.checkpoints.positions import Resize, resized
from vitcli.checkpoints.settings import Settings, default_of, scored
from vitcli.checkpoints.source import Array, Source
from vitcli.checkpoints.weights import Weights
from vitcli.config import Config
from vitcli.errors import CheckpointError, NotWeights, OutOfMemory, UsageError
from vitcli.escaping import listed, short
from vitcli.hub.repository import SETTINGS, WEIGHTS
from vitcli.labels import Labels
from vitcli.pictures.preprocess import Preprocess

__all__ = ["LAYOUTS", "Checkpoint", "Layout", "Resize", "load", "peek", "resized", "stored"]

IMAGENET_21K = (21841, 21843)

TEXTS = "these weights match pictures with texts (CLIP): what stands for classes here means nothing by itself"

ADAPTER = "adapter_config.json"

ZERO_HEAD = "the head is all zeros, so every class scores the same: these weights are for fine-tuning"


@dataclass(frozen=True, slots=True, repr=False)
class Checkpoint:
    """Weights and all that belongs to them.

    `tensors` are float32 under the names and shapes of `config.tensors()`; `dtype` is how the file stores them.
    `sources` says where "labels", "preprocess", "heads", "eps", "gelu", "pooling" and what else tensors do not tell
    come from; `resized_from` is the size in pixels of the pictures that the network was made for, None where it is used
    as it is; `dropped`
    names tensors that inference does not need; `warnings` are sentences for whoever chose the checkpoint; `opened` are
    the files, in the order of `files`. Whatever is read of them later is what they held when they were opened, or
    CheckpointError is raised.
    """

    path: Path
    files: tuple[Path, ...]
    layout: str
    config: Config
    tensors: Weights
    preprocess: Preprocess
    labels: Labels
    dtype: str
    warnings: tuple[str, ...]
    sources: Mapping[str, str]
    dropped: tuple[str, ...]
    resized_from: int | None = None
    opened: tuple[Source, ...] = ()

    @property
    def read(self) -> tuple[Path, ...]:
        """Every file that it may have been read from: the weights, and the settings beside them."""
        folder = self.files[0].parent
        return (*self.files, self.path, *(folder / name for name in (*SETTINGS, *WEIGHTS)))

    def __repr__(self) -> str:
        return f"<Checkpoint {str(self.path)!r}: {self.config.name}, {self.config.classes} classes, {self.layout}>"

    def sha256(self) -> str:
        """Hash of the file of weights, as the hub states it; of shards, the hash of their hashes in order."""
        import hashlib

        hashes = [source.sha256() for source in self.opened]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def not_finite(self) -> list[str]:
        """Names of tensors that hold NaN or infinity. Reads every weight."""
        return [name for name, tensor in self.tensors.items() if not _finite(tensor)]

    def headless(self) -> Checkpoint:
        """The same network without its classification head, which gives features [b d] instead of logits [b k]."""
        config = replace(self.config, classes=0)
        return replace(self, config=config, tensors=self.tensors.only(config.tensors()), labels=Labels.unnamed(0))


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
    Small tensors are checked for NaN here, all of them by `not_finite()`. Raises OutOfMemory where they do not fit.
    """
    return _open(path, whole=True, **options)


def peek(path: Path, **options: Unpack[Options]) -> Checkpoint:
    """What `load` would give, without reading the weights where the format allows; `tensors` reads them on demand."""
    return _open(path, whole=False, **options)


def _open(path: Path, whole: bool, **options: Unpack[Options]) -> Checkpoint:
    try:
        return _opened(path, whole, **options)
    except MemoryError as error:
        raise OutOfMemory(f"{path}: there is not enough memory to read these weights.") from error


def _opened(
    path: Path,
    whole: bool,
    heads: int | None = None,
    image_size: int | None = None,
    preprocess: str | Preprocess | None = None,
    labels: Labels | None = None,
    pooling: Literal["cls", "mean"] | None = None,
) -> Checkpoint:
    chosen, contents, weights, base = _read(path)
    if whole:
        for source in contents.sources:
            source.read_ahead()
    settings = Settings.beside(chosen.parent, heads, pooling, base=base)
    settings.warnings.extend(contents.remarks)
    settings.names = contents.names
    found = arrange(chosen, contents.tensors, settings)
    config, parts = found.config, found.parts
    if image_size is None and found.layout.any_size:
        image_size = settings.prepared_size
    if image_size is not None and image_size != config.image_size:
        config = replace(config, image_size=_size(config, image_size))
        parts = at_size(config, parts, found.layout, image_size)
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
    tensors = Weights(parts)
    if whole:
        tensors.keep()
        if bad := [name for name, tensor in tensors.small().items() if not _finite(tensor)]:
            raise CheckpointError(f"{chosen}: NaN or infinity among the weights ({listed(bad)}). "
                                  "Training went wrong, or the file is damaged: use another checkpoint.")  # fmt: skip
        if not tensors["head.weight"].any():
            settings.warnings.append(ZERO_HEAD)
    for source in contents.sources:
        source.still_there()
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
        resized_from=found.config.image_size if config is not found.config else None,
        opened=contents.sources,
    )


def stored(path: Path) -> dict[str, Array]:
    """The tensors of a checkpoint as the library it comes from names and shapes them, as far as inference needs them.

    Only what stands before every name is taken off, and a lone linear head has the library's name; no rule of the
    layout is applied, so that the library's own loader can say whether the rules are right. Raises as `load` does.
    """
    chosen, contents, _, base = _read(path)
    layout, named, _ = as_named(chosen, contents.tensors, Settings.beside(chosen.parent, base=base))
    return {name: tensor.read() for name, tensor in named.items()
            if not any(fnmatchcase(name, pattern) for pattern in layout.dropped)}  # fmt: skip


def _read(path: Path) -> tuple[Path, files.Contents, tuple[Path, ...], Path | None]:
    """What a path means: the file of weights or the index of its shards, the tensors, the files they are in.

    Of an adapter also the folder of its base, with which its tensors are merged.
    """
    if any((folder / ADAPTER).is_file() for folder in (path, path.parent)):
        from vitcli.checkpoints.adapters import Adapter, how  # here, because few checkpoints are adapters

        if adapter := Adapter.at(path):
            base = adapter.find_base()
            if Adapter.at(base):
                raise CheckpointError(f"{path}: an adapter of an adapter. {how(adapter.base)}")
            chosen, contents, weights, _ = _read(base)
            layout, named = recognise(chosen, contents.tensors, Settings.beside(chosen.parent))
            file, own = adapter.weights()
            merged = files.Contents(
                adapter.merged(file, own.tensors, layout, named),
                (*contents.remarks, *own.remarks, f"an adapter (LoRA), merged into its base {short(adapter.base)}"),
                (*contents.sources, *own.sources),
            )
            return file, merged, (file, *weights), chosen.parent
    chosen = _weights_of(path)
    if chosen.suffix == ".json":
        return chosen, *files.read_index(chosen), None
    return chosen, files.read(chosen), (chosen,), None


def _weights_of(path: Path) -> Path:
    """The file of weights that a path means: itself, or the one of a folder."""
    if path.is_file():
        if path.suffix == ".json" and not path.name.endswith(".index.json"):
            raise NotWeights(f"{path}: settings, not weights. Name the folder it is in.")
        foreign.refuse_shard(path)
        return path
    if not path.is_dir():
        what = "neither a file nor a folder" if path.exists() else "no such file or folder"
        raise CheckpointError(f"{path}: {what}.")
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    try:
        inside = sorted(path.iterdir())
        others = [file for file in inside if file.name.lower().endswith(tuple(files.READERS)) and file.is_file()
                  and not foreign.named(file.name)]  # fmt: skip
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be listed ({error.strerror or error}).") from error
    if len(others) == 1:
        foreign.refuse_shard(others[0])
        return others[0]
    if others:
        names = listed([file.name for file in others])
        raise CheckpointError(f"{path}: holds several files of weights ({names}). Name the one you mean.")
    foreign.refuse_folder(path, inside, tuple(files.READERS))
    raise CheckpointError(f"{path}: holds no weights (no {', '.join(('model.safetensors', *files.READERS))}).")


def _size(config: Config, image_size: int) -> int:
    """A side in pixels that patches fill. Raises UsageError for another."""
    most, patch = 4096, config.patch_size
    if not patch <= image_size <= most or image_size % patch:
        nearest = min(max(image_size // patch, 1), most // patch) * patch
        raise UsageError(f"--image-size {image_size} is not a multiple of the patch size {patch} up to {most}: "
                         f"try {nearest}.")  # fmt: skip
    return image_size


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
    if settings.matches_texts:
        settings.warnings.append(TEXTS)
    settings.warnings.append("nothing names the classes: they are called class 0, class 1, ... (--labels names them)")
    return Labels.unnamed(classes), "unnamed"


def _finite(tensor: Array) -> bool:
    # one pass without a copy: a sum is NaN or infinite if anything is, and rarely otherwise (overflow)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(tensor.sum())) or bool(np.isfinite(tensor).all())
