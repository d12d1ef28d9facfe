"""What comes out: `Label`, `Prediction`, `Failure`. Frozen records of plain Python values.

One input gives exactly one record, a `Prediction` or a `Failure`; every output format writes these and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Label:
    """One class and its score.

    `index` is the row of the logits and the only key that is unique ("crane" is both 134 and 517);
    `wnid` is the WordNet id for ImageNet classes, else None; `score` lies in [0, 1].
    """

    index: int
    wnid: str | None
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """A classified picture.

    `path` is the input's name exactly as given (bytes that are not UTF-8 as surrogate escapes), `top` holds the
    best labels first, `size` is (width, height) in pixels of the upright picture, `notes` says what the decode
    policy changed ("rotated", "alpha on white", ...).
    """

    path: str
    top: tuple[Label, ...]
    size: tuple[int, int]
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """The row as JSON-ready values."""
        top = [{"index": t.index, "wnid": t.wnid, "label": t.label, "score": t.score} for t in self.top]
        return {"path": self.path, "status": "ok", "top": top, "size": list(self.size), "notes": list(self.notes)}


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that gave no prediction: `error` is a stable word, `message` a sentence."""

    path: str
    error: str
    message: str

    def record(self) -> dict[str, Any]:
        """The row as JSON-ready values."""
        return {"path": self.path, "status": "failed", "error": self.error, "message": self.message}


Result: TypeAlias = Prediction | Failure
