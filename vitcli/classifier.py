"""`Classifier`: a network with the preprocessing and the labels it was trained with. `load` makes one.

picture -> prepare -> uint8 [s s 3] -> batch [b s s 3] -> logits [b k] -> Prediction
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitcli import checkpoints
from vitcli.checkpoints import Checkpoint
from vitcli.errors import CheckpointError, PictureError
from vitcli.hub import catalog, resolve
from vitcli.network import backend
from vitcli.network.backend import Backend, Compile, Engine, Logits, Pixels
from vitcli.pictures import images
from vitcli.results import Label, Prediction
from vitcli.version import __version__

if TYPE_CHECKING:
    from PIL import Image

    from vitcli.labels import Labels
    from vitcli.pictures.preprocess import Preprocess
    from vitcli.pictures.reduced import Reduced


@dataclass(frozen=True)
class Classifier:
    """A network, its preprocessing and its labels: call it with a picture.

    `name` is what the user called the model, `revision` the hub's commit where it came from there.
    """

    name: str
    revision: str | None
    checkpoint: Checkpoint
    backend: Backend

    @property
    def preprocess(self) -> Preprocess:
        """How pictures become the network's input."""
        return self.checkpoint.preprocess

    @property
    def labels(self) -> Labels:
        """The classes, by index."""
        return self.checkpoint.labels

    def prepare(self, picture: Image.Image, reduced: Reduced | None = None) -> Pixels:
        """Upright RGB picture, decoded smaller where `reduced` says so -> uint8 [s s 3]. Safe to call from threads."""
        return self.preprocess.resized(picture, reduced)

    def logits(self, pixels: Pixels) -> Logits:
        """uint8 [b s s 3] -> float32 [b k]. Raises OutOfMemory when the batch does not fit."""
        return self.backend.logits(pixels)

    def top(self, logits: Logits, topk: int = 5) -> tuple[Label, ...]:
        """Logits of one picture [k] -> its best labels.

        Raises PictureError when they are not finite, CheckpointError when that is the fault of the weights.
        """
        try:
            return self.labels.top(logits, topk)
        except PictureError:
            if self._not_finite:
                raise CheckpointError(
                    f"{self.checkpoint.path}: NaN or infinity among the weights ({', '.join(self._not_finite[:3])}). "
                    "Training went wrong, or the file is damaged: use another checkpoint."
                ) from None
            raise

    @cached_property
    def _not_finite(self) -> list[str]:
        # reads every weight, so it is asked only when a picture has gone wrong, and once
        return self.checkpoint.not_finite()

    def __call__(self, picture: Image.Image | str | os.PathLike[str], topk: int = 5) -> Prediction:
        """Classify one picture, given as a path or as a PIL image in any mode.

        Raises PictureError when it cannot be classified.
        """
        if isinstance(picture, (str, os.PathLike)):
            loaded, path = images.load(Path(picture)), os.fspath(picture)
        else:
            loaded, path = images.upright(picture), getattr(picture, "filename", "") or ""
        logits = self.logits(self.prepare(loaded.image)[None])[0]
        return Prediction(os.fspath(path), self.top(logits, topk), loaded.size, loaded.notes)

    def header(self) -> dict[str, Any]:
        """What a document of results says about how they were made."""
        return {
            "model": self.name,
            "revision": self.revision,
            "sha256": None if self.revision else self.checkpoint.sha256(),
            "architecture": self.checkpoint.config.name,
            "preprocess": self.preprocess.record(),
            "device": self.backend.device,
            "dtype": self.backend.dtype,
            "engine": self.backend.engine,
            "version": __version__,
        }


def load(
    model: str | os.PathLike[str] = catalog.DEFAULT,
    *,
    device: str = "auto",
    dtype: str = "auto",
    engine: Engine = "auto",
    pictures: int | None = None,
    batch: int | None = None,
    compile: Compile = "auto",
    repeatable: bool = False,
    **checkpoint_options: Any,
) -> Classifier:
    """Load a model by name, folder or file.

    `model` is a name of the catalog, a hub repository `org/name[@revision]` that is in the cache, or a path.
    `device` is auto, cpu, cuda, cuda:N or mps; `dtype` auto, float32, bfloat16 or float16; `pictures` is how many there
    are to classify if that is known, which helps `engine="auto"` and `compile="auto"` (compiling for a card takes a
    minute) to choose; `batch` is how many come at once, which helps a CPU. A `repeatable` one gives a picture the
    same scores, to the bit, in whatever run (on accelerators, with `stream(..., pad=True)`), however many `pictures`
    there are. Other options go to `checkpoints.load`.

    Raises NotDownloaded when the weights are not here (nothing is fetched), CheckpointError when they cannot be used,
    DeviceError when the device is not to be had.
    """
    name, path, revision = resolve(model)
    checkpoint = checkpoints.load(path, **checkpoint_options)
    network = backend.load(
        checkpoint,
        engine=engine,
        device=device,
        dtype=dtype,
        pictures=pictures,
        batch=batch,
        compile=compile,
        repeatable=repeatable,
    )
    return Classifier(name, revision, checkpoint, network)
