"""What is measured on: pictures made here or the user's own, and networks with random weights."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vitcli.checkpoints import Checkpoint
from vitcli.checkpoints.weights import Weights
from vitcli.config import Config
from vitcli.errors import PictureError, UsageError
from vitcli.labels import Labels
from vitcli.network.backend import Pixels
from vitcli.pictures import images
from vitcli.pictures.preprocess import HALF, Preprocess
from vitcli.sources import Input, fetched

FEW = 8  # pictures decoded in one turn


def made_up(count: int = FEW) -> list[bytes]:
    """Pictures as a camera's might be to a decoder: soft shapes under a little noise, JPEG, 640x480."""
    found = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        shapes = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((640, 480))
        noisy = np.asarray(shapes, np.int16) + random.integers(-12, 13, (480, 640, 3), dtype=np.int16)
        file = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def readable(inputs: Iterable[Input], most: int = 64) -> list[bytes]:
    """The first pictures that can be decoded, as bytes. Raises UsageError when there is none."""
    found: list[bytes] = []
    for given in inputs:
        if len(found) == most:
            break
        given = fetched(given)
        if given.failure is None:
            data = given.file.read_bytes() if given.file is not None else given.data or b""
            try:
                images.load(data)
            except PictureError:
                continue
            found.append(data)
    if not found:
        raise UsageError("None of these is a picture that can be decoded.")
    return found


def prepared(checkpoint: Checkpoint, files: Sequence[bytes], count: int) -> Pixels:
    """`count` pictures at the network's size, the files over and over: uint8 [count s s 3]."""
    once = [checkpoint.preprocess.resized(images.load(file).image) for file in files[:count]]
    return np.stack([once[i % len(once)] for i in range(count)])


def random_checkpoint(name: str) -> Checkpoint:
    """A network of a published size, "B/16", with random weights: as fast as a trained one, and as clever as chance.

    Raises UsageError for an unknown size.
    """
    try:
        config = Config.named(name)
    except ValueError as error:
        raise UsageError(f"--size: {error}.") from error
    random = np.random.default_rng(0)
    tensors = {
        name: random.normal(scale=0.02, size=shape).astype(np.float32) for name, shape in config.tensors().items()
    }
    for norm in (name for name in tensors if "norm" in name and name.endswith(".weight")):
        tensors[norm] += 1
    nowhere = Path(f"random weights ({name})")
    side = config.image_size
    return Checkpoint(
        path=nowhere, files=(nowhere,), layout="random", config=config,
        tensors=Weights.in_memory(tensors),
        preprocess=Preprocess(side, side, mean=HALF, std=HALF), labels=Labels.unnamed(config.classes),
        dtype="float32", warnings=(), sources={}, dropped=(),
    )  # fmt: skip
