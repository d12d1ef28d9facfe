"""Class index -> name and WordNet id, and logits -> the best `Label`s.

The index is the only key: "crane" is the name of both 134 (the bird) and 517 (the machine).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np
import numpy.typing as npt

from vitcli.errors import PictureError
from vitcli.results import Label

Activation = Literal["softmax", "sigmoid", "none"]


@cache
def _imagenet1k() -> tuple[tuple[str, str, str], ...]:
    """(wnid, WordNet names, one simple name) of each ImageNet-1k class, by index."""
    text = (resources.files("vitcli") / "data" / "imagenet1k.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return tuple((wnid, names, simple) for _, wnid, names, simple in rows)


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes of a checkpoint, by index, and how its logits become scores.

    `softmax` for one class out of many, `sigmoid` for many at once or a single logit, `none` for regression.
    """

    names: tuple[str, ...]
    wnids: tuple[str | None, ...]
    activation: Activation = "softmax"

    @classmethod
    def imagenet1k(cls) -> Labels:
        """The 1000 classes of ILSVRC2012 under one simple, unique name each."""
        rows = _imagenet1k()
        return cls(tuple(row[2] for row in rows), tuple(row[0] for row in rows))

    @classmethod
    def unnamed(cls, classes: int) -> Labels:
        """`class 17`, when nobody said more."""
        return cls(tuple(f"class {i}" for i in range(classes)), (None,) * classes)

    @classmethod
    def of(cls, id2label: Mapping[int, str], classes: int) -> Labels:
        """A checkpoint's own names. WordNet ids are added when they are the names of ImageNet-1k."""
        names = tuple(str(id2label.get(i, f"class {i}")) for i in range(classes))
        wnids: tuple[str | None, ...] = (None,) * classes
        table = _imagenet1k() if classes == 1000 else ()
        # a fine-tuned model may have 1000 classes of its own: most names must be WordNet's before ids are given
        if sum(own in (theirs, simple) for own, (_, theirs, simple) in zip(names, table, strict=False)) > 900:
            wnids = tuple(row[0] for row in table)
        return cls(names, wnids)

    def __len__(self) -> int:
        return len(self.names)

    def scores(self, logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Logits [k] -> scores [k], each in [0, 1] unless the activation is `none`."""
        x = logits.astype(np.float64)
        if self.activation == "none":
            return x
        if self.activation == "sigmoid":
            return np.asarray(0.5 * (1 + np.tanh(x / 2)))  # the same function, without overflow
        e = np.exp(x - x.max())
        return np.asarray(e / e.sum())

    def top(self, logits: npt.NDArray[np.floating], topk: int = 5) -> tuple[Label, ...]:
        """Logits [k] -> the `topk` best labels (all of them if there are fewer), best first, ties by index.

        Raises PictureError when a logit is not finite: NaN would otherwise rank first.
        """
        if not np.isfinite(logits).all():
            raise PictureError("not_finite", "the network gave NaN or infinite logits for this picture.")
        scores = self.scores(logits)
        best = np.argsort(-logits, kind="stable")[:topk]
        return tuple(Label(int(i), self.wnids[i], self.names[i], float(scores[i])) for i in best)
