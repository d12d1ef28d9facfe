"""`Classifier`: a network with the preprocessing and the labels it was trained with. `load` makes one.

picture -> prepare -> uint8 [s s 3] -> batch [b s s 3] -> logits [b k] -> Prediction
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitcli import checkpoints, streaming
from vitcli.checkpoints import Checkpoint
from vitcli.errors import CheckpointError, PictureError
from vitcli.hub import catalog, resolve
from vitcli.network import backend
from vitcli.network.backend import Backend, Compile, Engine, Logits, Pixels
from vitcli.results import Label, Prediction
from vitcli.sources import Given, taken
from vitcli.version import __version__

if TYPE_CHECKING:
    from PIL import Image

    from vitcli.decision import Decider, Only
    from vitcli.labels import Labels
    from vitcli.pictures.preprocess import Preprocess


@dataclass(frozen=True)
class Classifier:
    """A network, its preprocessing and its labels: call it with a picture.

    `name` is what the user called the model, `revision` the hub's commit where it came from there. `only` leaves some
    of the classes out of the answers, `decider` says of each whether it is sure enough.
    """

    name: str
    revision: str | None
    checkpoint: Checkpoint
    backend: Backend
    topk: int = 5
    only: Only | None = None
    decider: Decider | None = None

    def __repr__(self) -> str:
        config, backend = self.checkpoint.config, self.backend
        return (
            f"<Classifier {self.name!r}: {config.name}, {config.classes} classes, {backend.dtype} on {backend.device}>"
        )

    @property
    def device(self) -> str:
        """Where the network runs: "cpu", "cuda", ..."""
        return self.backend.device

    @property
    def preprocess(self) -> Preprocess:
        """How pictures become the network's input."""
        return self.checkpoint.preprocess

    @property
    def labels(self) -> Labels:
        """The classes, by index."""
        return self.checkpoint.labels

    def prepare(self, picture: Image.Image) -> Pixels:
        """Upright RGB picture -> uint8 [s s 3], what `logits` takes a batch of. Safe to call from threads."""
        return self.preprocess.resized(picture)

    def logits(self, pixels: Pixels) -> Logits:
        """uint8 [b s s 3] -> float32 [b k]. Raises OutOfMemory when the batch does not fit."""
        return self.backend.logits(pixels)

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Logits]:
        """uint8 [b s s 3] -> what waits for logits [b k]: `backend.Backend.submit`."""
        return self.backend.submit(pixels, pad_to)

    def answer(self, picture: streaming.Prepared, row: Logits) -> Prediction:
        """The `topk` best labels of a picture, of its row of logits [k], and what is decided. Raises as `top`."""
        top = self.top(row, self.topk)
        among = self.only.classes if self.only else ()
        share = self.only.share(self.labels, row) if self.only else None
        decision = self.decider.decide(row, among) if self.decider else None
        return Prediction(picture.path, top, picture.size, picture.notes, share, decision)

    def top(self, logits: Logits, topk: int = 5) -> tuple[Label, ...]:
        """Logits of one picture [k] -> its best labels.

        Raises PictureError when they are not finite, CheckpointError when that is the fault of the weights.
        """
        try:
            return self.labels.top(logits, topk, self.only.classes if self.only else ())
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

    def __call__(self, picture: Given, topk: int | None = None) -> Prediction:
        """Classify one picture: a path or a name, bytes, an array uint8 [h w 3], a PIL image or an `Input`.

        Raises PictureError when it cannot be classified, TypeError for anything else and for a folder or archive.
        """
        inputs = list(islice(taken(picture), 2))
        if len(inputs) != 1 or (isinstance(picture, (str, os.PathLike)) and Path(picture).is_dir()):
            raise TypeError(
                f"{picture!r} is not one picture: vitcli.stream(classifier, [...]) takes folders and archives."
            )
        prepared = streaming.opened(self.preprocess, inputs[0])
        row = self.logits(prepared.pixels[None])[0]
        return replace(self, topk=topk or self.topk).answer(prepared, row)

    def header(self) -> dict[str, Any]:
        """What a document of results says about how they were made: everything that decides an answer is in it."""
        return {
            "model": self.name,
            "revision": self.revision,
            "sha256": None if self.revision else self.checkpoint.sha256(),
            "architecture": self.checkpoint.config.name,
            "config": asdict(self.checkpoint.config),
            "preprocess": self.preprocess.record(),
            "labels": self.labels.digest,
            "activation": self.labels.activation,
            **({"only": self.only.record()} if self.only else {}),
            **({"decision": self.decider.record()} if self.decider else {}),
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
    topk: int = 5,
    heads: int | None = None,
    image_size: int | None = None,
    preprocess: str | Preprocess | None = None,
    labels: Labels | None = None,
    pooling: Literal["cls", "mean"] | None = None,
) -> Classifier:
    """Load a model by name, folder or file.

    `model` is a name of the catalog, a hub repository `org/name[@revision]` that is in the cache, or a path.
    `device` is auto, cpu, cuda, cuda:N or mps; `dtype` auto, float32, bfloat16 or float16; `pictures` is how many there
    are to classify if that is known, which helps `engine="auto"` and `compile="auto"` (compiling for a card takes a
    minute) to choose; `batch` is how many come at once, which helps a CPU. `topk` is how many labels `stream`
    gives for a picture. The others are for what a checkpoint does not say, or says wrongly: `heads` of attention,
    `image_size` in pixels (positions are resized), `preprocess` (hf, timm, deit, torchvision, clip, siglip, hf-deit,
    or settings), `labels` of the classes, `pooling`: what the head reads.

    On a CPU the torch engine sets torch's number of threads, unless OMP_NUM_THREADS says it, and before torch's first
    import how long its idle threads look for work (GOMP_SPINCOUNT). Nothing else of the process is changed.

    Raises NotDownloaded when the weights are not here (nothing is fetched), CheckpointError when they cannot be used,
    DeviceError when the device is not to be had.
    """
    name, path, revision = resolve(model)
    checkpoint = checkpoints.load(
        path, heads=heads, image_size=image_size, preprocess=preprocess, labels=labels, pooling=pooling
    )
    network = backend.load(
        checkpoint,
        engine=engine,
        device=device,
        dtype=dtype,
        pictures=pictures,
        batch=batch,
        compile=compile,
    )
    return Classifier(name, revision, checkpoint, network, topk)
