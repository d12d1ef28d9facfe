"""What comes out: `Label`, `Prediction`, `Failure`. Frozen records of plain Python values.

One input gives exactly one record, a `Prediction` or a `Failure`; every output format writes these and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias


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
class Decision:
    """What is said of a picture where an answer has to be sure enough: a class, a broader term, or "unknown".

    `score` is the probability that was found sufficient; where nothing was ("unknown"), that of the best class.
    """

    kind: Literal["label", "broader", "unknown"]
    label: str
    wnid: str | None
    score: float | None

    def record(self) -> dict[str, Any]:
        """The columns of a row that show it."""
        return {
            "decision": self.kind,
            "decided_label": self.label,
            "decided_wnid": self.wnid,
            "decided_score": self.score,
        }


@dataclass(frozen=True, slots=True)
class Truth:
    """What a picture shows by whoever labelled it: classes by index, each of them right, and their names.

    `correct` is whether the best label is one of them, `rank` where the first of them stands among all labels (1 is the
    best); both are None for an input that gave no prediction.
    """

    indices: tuple[int, ...]
    labels: tuple[str, ...]
    correct: bool | None = None
    rank: int | None = None

    def record(self) -> dict[str, Any]:
        """The columns of a row that show it."""
        return {
            "truth": list(self.labels),
            "truth_index": list(self.indices),
            "correct": self.correct,
            "truth_rank": self.rank,
        }


@dataclass(frozen=True, slots=True)
class Prediction:
    """A classified picture.

    `path` is the input's name exactly as given (bytes that are not UTF-8 as surrogate escapes), `top` holds the
    best labels first, `size` is (width, height) in pixels of the upright picture, `notes` says what the decode
    policy changed ("rotated", "alpha on white", ...). What only some runs tell of a picture is None elsewhere: `share`
    is the probability that the classes chosen with `--only` held together, before they were scored among themselves.
    """

    path: str
    top: tuple[Label, ...]
    size: tuple[int, int]
    notes: tuple[str, ...] = ()
    share: float | None = None
    decision: Decision | None = None
    truth: Truth | None = None

    def record(self) -> dict[str, Any]:
        """The row as JSON-ready values."""
        top = [{"index": t.index, "wnid": t.wnid, "label": t.label, "score": t.score} for t in self.top]
        return {
            "path": self.path,
            "status": "ok",
            **({} if self.share is None else {"share": self.share}),
            **(self.decision.record() if self.decision else {}),
            **(self.truth.record() if self.truth else {}),
            "top": top,
            "size": list(self.size),
            "notes": list(self.notes),
        }


# Why an input gave no prediction: the words of a Failure, on which programs may rely.
REASONS = {
    "missing": "there is no such file or folder, or no file that matches the pattern",
    "bad_name": "no file can have this name",
    "forbidden": "you are not allowed to read it",
    "unreadable": "the disk or the system does not give it",
    "unreachable": "the server does not give it",
    "not_a_file": "a folder, FIFO, socket, device or link, which is never opened",
    "empty": "it has no bytes",
    "not_a_picture": "its contents are something else",
    "unsupported": "a format or kind of address that vit does not open, or whose extra is not installed",
    "truncated": "it ends too early",
    "corrupt": "its contents are damaged",
    "not_finite": "NaN or infinity, among its pixels or in what the network made of them",
    "too_large": "more pixels or bytes than the limit",
    "out_of_memory": "it does not fit in memory",
    "encrypted": "a member of an archive that has a password",
    "unsafe_name": "a member of an archive whose name leads out of it",
    "crashed": "the decoder broke down",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that gave no prediction: `error` is a word of REASONS, `message` a sentence."""

    path: str
    error: str
    message: str
    truth: Truth | None = None

    def record(self) -> dict[str, Any]:
        """The row as JSON-ready values."""
        return {
            "path": self.path,
            "status": "failed",
            **(self.truth.record() if self.truth else {}),
            "error": self.error,
            "message": self.message,
        }


Result: TypeAlias = Prediction | Failure
