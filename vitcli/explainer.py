"""`Explainer`: a classifier that also says which parts of a picture spoke for a class, and whether that can be trusted.

A map is a claim about the network, and most ways to draw one look convincing whatever they say ("Sanity Checks for
Saliency Maps", Adebayo et al., 2018). So each comes with a deletion check: the score without the tenth of the patches
that the map calls most important, beside the score without as many patches taken at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from einops import rearrange, repeat

from vitcli.classifier import Classifier
from vitcli.errors import OutOfMemory
from vitcli.memory import lacking
from vitcli.network.backend import Logits, Pixels
from vitcli.results import Label, Prediction
from vitcli.streaming import Prepared

if TYPE_CHECKING:
    from vitcli.network.model import ViT
    from vitcli.pictures.preprocess import Preprocess

Map = npt.NDArray[np.float32]
Method = Literal["gradient", "legrad", "rollout", "attention"]

CLASS_SPECIFIC: dict[Method, bool] = {"gradient": True, "legrad": True, "rollout": False, "attention": False}
"""The methods of `network.attribution`, and whether the map of one class differs from that of another."""

DELETED = 0.1  # of the patches
SEED = 0  # of the random patches, so that a run can be repeated


@dataclass(frozen=True, slots=True)
class Reason:
    """What spoke for one class: a map [g g] over the patches the network saw, and its deletion check.

    `without` and `without_random` are the class's scores when a tenth of the patches, those of the map's highest values
    or as many others, are replaced by the picture's mean colour. A map tells something where the first is far lower.
    """

    label: Label
    map: Map
    without: float
    without_random: float

    @property
    def tells_something(self) -> bool:
        """Whether the patches that the map points to count for more than any others."""
        return self.without < self.without_random


@dataclass(frozen=True, slots=True)
class Explanation(Prediction):
    """A prediction, and what spoke for each class that was asked for (by default the best)."""

    method: Method = "gradient"
    seen: tuple[float, float, float, float] = (0, 0, 0, 0)  # what maps cover of the picture: left, top, right, bottom
    reasons: tuple[Reason, ...] = ()

    def record(self) -> dict[str, Any]:
        """The explanation as JSON-ready values."""
        return {
            **Prediction.record(self),
            "method": self.method,
            "class_specific": CLASS_SPECIFIC[self.method],
            "seen": [round(edge, 3) for edge in self.seen],
            "reasons": [
                {
                    "index": reason.label.index,
                    "wnid": reason.label.wnid,
                    "label": reason.label.label,
                    "score": reason.label.score,
                    "score_without_most_important": reason.without,
                    "score_without_random": reason.without_random,
                    "deleted": DELETED,
                    "map": [[float(value) for value in row] for row in reason.map],
                }
                for reason in self.reasons
            ],
        }


@dataclass(frozen=True)
class Explainer:
    """A classifier with maps: what a stream makes explanations with. `classes` are indices; none for the best."""

    classifier: Classifier
    method: Method = "gradient"
    classes: tuple[int, ...] = ()

    @property
    def device(self) -> str:
        """Where the network runs."""
        return self.classifier.device

    @property
    def preprocess(self) -> Preprocess:
        """How pictures become the network's input."""
        return self.classifier.preprocess

    @cached_property
    def network(self) -> ViT:
        """The plain network, in float32, of which gradients can be taken; its weights are held beside the backend's."""
        from vitcli.network.model import ViT

        checkpoint = self.classifier.checkpoint
        return ViT.from_tensors(checkpoint.config, checkpoint.tensors).to(self.device)

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Sequence[tuple[Logits, list[Reason]]]]:
        """uint8 [b s s 3] -> what waits for each picture's logits [k] and reasons. Raises OutOfMemory."""
        try:
            rows = [self.explained(one) for one in pixels]
        except Exception as error:
            if not lacking(error):
                raise
            raise OutOfMemory("The gradients of a picture do not fit in memory.") from error
        return lambda: rows

    def explained(self, pixels: Pixels) -> tuple[Logits, list[Reason]]:
        """uint8 [s s 3] -> logits [k], and what spoke for each class."""
        import torch

        from vitcli.network.attribution import attribute

        batch = torch.from_numpy(self.preprocess.normalised(pixels[None])).to(self.device)
        logits, maps = attribute(self.network, batch, self.classes, self.method)
        classes = self.classes or (int(np.argmax(logits)),)
        scores = self.classifier.labels.scores(logits)
        chosen = [highest(found, DELETED) for found in maps]
        random = np.random.default_rng(SEED).permutation(maps[0].size)[: chosen[0].size]
        deleted = np.stack([without(pixels, patches, maps[0].shape[0]) for patches in (*chosen, random)])
        *remaining, at_random = map(self.classifier.labels.scores, self.classifier.backend.logits(deleted))
        names = self.classifier.labels
        return logits, [
            Reason(
                Label(index, names.wnids[index], names.names[index], float(scores[index])),
                found,
                float(left[index]),
                float(at_random[index]),
            )
            for index, found, left in zip(classes, maps, remaining, strict=True)
        ]

    def answer(self, picture: Prepared, row: tuple[Logits, list[Reason]]) -> Explanation:
        """The explanation of a picture. Raises as `Classifier.top`."""
        logits, reasons = row
        top = self.classifier.top(logits, self.classifier.topk)
        return Explanation(
            picture.path,
            top,
            picture.size,
            picture.notes,
            method=self.method,
            seen=self.preprocess.seen(picture.size),
            reasons=tuple(reasons),
        )


def highest(relevance: Map, share: float) -> npt.NDArray[np.intp]:
    """The numbers of the patches, row by row, with the highest values: a `share` of all, one at least."""
    count = max(1, round(share * relevance.size))
    return np.argsort(-relevance.ravel(), kind="stable")[:count]


def without(pixels: Pixels, patches: npt.NDArray[np.intp], grid: int) -> Pixels:
    """uint8 [s s 3] -> the same, with the mean colour of the picture in the place of these patches."""
    hidden = np.zeros(grid * grid, bool)
    hidden[patches] = True
    side = pixels.shape[0] // grid
    mask = repeat(rearrange(hidden, "(h w) -> h w", h=grid), "h w -> (h p) (w q) 1", p=side, q=side)
    mean = pixels.mean(axis=(0, 1)).round().astype(np.uint8)
    return np.where(mask, mean, pixels)
