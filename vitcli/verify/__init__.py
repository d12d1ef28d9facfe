"""The same weights and pictures through the library they come from and through ours: how far apart are the logits?

    picture -> the library's preprocessing, loader and network -> logits [k] \\
                                                                              largest difference, and the five best
    picture -> our preprocessing and each engine               -> logits [k] /

`references.py` is the library's side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitcli.checkpoints import Checkpoint
from vitcli.network import backend
from vitcli.network.backend import Engine, Logits
from vitcli.verify.references import Reference, of

__all__ = ["GOLDEN", "TOLERANCE", "Comparison", "Golden", "Reference", "of", "synthetic", "verify"]

TOLERANCE = 1e-4  # of float32 logits; a wrong LayerNorm epsilon moves them by 7e-4
TOP = 5


@dataclass(frozen=True, slots=True)
class Golden:
    """The first logits that transformers' own tests publish for a picture, known by its name and size in pixels."""

    logits: tuple[float, ...]
    picture: str = "000000039769.png"  # two cats on a sofa: COCO, validation set of 2017
    size: tuple[int, int] = (640, 480)


# huggingface/transformers, tests/models/vit/test_modeling_vit.py and tests/models/deit/test_modeling_deit.py
GOLDEN: dict[str, Golden] = {
    "google/vit-base-patch16-224": Golden((-0.2744, 0.8215, -0.0836)),
    "facebook/deit-base-distilled-patch16-224": Golden((-1.0266, 0.1912, -1.2861)),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One picture. `differences` holds the largest difference of a logit from the reference's, for each engine.

    `same_best` says whether all give the same five best classes in the same order, places changed by less than the
    tolerance apart; `own_preprocessing` whether the library prepared the picture itself; `published` is the largest
    difference from published logits, None where there are none.
    """

    name: str
    differences: Mapping[str, float]
    same_best: bool
    own_preprocessing: bool
    published: float | None

    @property
    def worst(self) -> float:
        """The largest difference of all, from published logits too; NaN if any is."""
        found = [*self.differences.values(), *([] if self.published is None else [self.published])]
        return float(np.max(found))

    def agrees(self, tolerance: float = TOLERANCE) -> bool:
        """Whether everything measured lies within the tolerance; NaN does not."""
        return self.worst <= tolerance

    def record(self) -> dict[str, Any]:
        """The comparison as JSON-ready values."""
        return {
            "path": self.name,
            "differences": dict(self.differences),
            "same_top5": self.same_best,
            "own_preprocessing": self.own_preprocessing,
            "published": self.published,
        }


def verify(
    checkpoint: Checkpoint,
    reference: Reference,
    pictures: Iterable[tuple[str, Image.Image]],
    *,
    engines: Iterable[Engine] = ("numpy", "torch"),
    device: str = "cpu",
    repository: str | None = None,
) -> Iterator[Comparison]:
    """Compare on each picture (name, upright RGB), in float32.

    `repository` is the model's name on the hub, under which published logits may be known. Raises DeviceError and
    UsageError as `backend.load` does.
    """
    networks = {
        engine: backend.load(checkpoint, engine=engine, device=device, dtype="float32", pictures=None)
        for engine in engines
    }
    golden = GOLDEN.get(repository or "")
    for name, picture in pictures:
        theirs = reference.logits(picture)
        pixels = checkpoint.preprocess.resized(picture)[None]
        ours = {engine: network.logits(pixels)[0] for engine, network in networks.items()}
        published = None
        if golden and (Path(name).name, picture.size) == (golden.picture, golden.size):
            known = np.array(golden.logits)
            published = max(_apart(logits[: len(known)], known) for logits in ours.values())
        yield Comparison(
            name,
            {engine: _apart(logits, theirs) for engine, logits in ours.items()},
            all(_same_best(logits, theirs) for logits in ours.values()),
            reference.prepares(picture),
            published,
        )


def synthetic() -> Iterator[tuple[str, Image.Image]]:
    """Three pictures, the same on every machine: noise, which shows any error of resampling, and soft shapes."""
    for seed, (width, height, cells) in enumerate([(640, 480, 0), (333, 500, 8), (224, 224, 3)]):
        random = np.random.default_rng(seed)
        shape = (cells, cells, 3) if cells else (height, width, 3)
        picture = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
        kind = "soft shapes" if cells else "noise"
        yield f"{kind} {width}x{height}", picture.resize((width, height), Image.Resampling.BICUBIC)


def _apart(ours: Logits, theirs: Any) -> float:
    return float(np.abs(ours.astype(np.float64) - theirs).max())


def _same_best(ours: Logits, theirs: Logits) -> bool:
    mine, reference = (np.argsort(-logits, kind="stable")[:TOP] for logits in (ours, theirs))
    return bool((np.abs(theirs[mine] - theirs[reference]) <= 2 * TOLERANCE).all())
