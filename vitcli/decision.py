"""When an answer is sure enough: a class, a broader term, or "unknown"; and answers among some of the classes only.

The rules are softmax's best probability against a threshold (Hendrycks and Gimpel, 2017), and Climbing (Goren, Galil
and El-Yaniv, 2024). Not energies or largest logits, which tell what is unknown worse on ViT-B/16 (OpenOOD 1.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vitcli.calibration import Calibration, Rule
from vitcli.errors import UsageError
from vitcli.labels import Labels
from vitcli.results import Decision
from vitcli.terms import Terms
from vitcli.wordnet import Tree, synsets

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Only:
    """Classes that are the only ones to be told: `classes` by index, ascending, and what they were `asked` for by."""

    classes: tuple[int, ...]
    asked: tuple[str, ...]

    @classmethod
    def of(cls, labels: Labels, queries: Sequence[str]) -> Only:
        """The classes that these names, WordNet ids or indices mean. Raises UsageError for one that is unclear."""
        if labels.activation == "none":
            raise UsageError("--only needs scores that are probabilities; this model gives plain numbers (regression).")
        terms = Terms(labels)
        found = [terms.one(query) for query in queries]
        classes = sorted({index for term in found for index in term.classes})
        return cls(tuple(classes), tuple(term.key for term in found))

    def share(self, labels: Labels, logits: npt.NDArray[np.floating]) -> float | None:
        """The probability that these classes hold together; None where classes do not exclude each other (sigmoid)."""
        if labels.activation != "softmax":
            return None
        return min(1.0, float(labels.scores(logits)[list(self.classes)].sum()))

    def record(self) -> dict[str, Any]:
        """What the header of results says."""
        return {"asked": list(self.asked), "classes": list(self.classes)}


@dataclass(frozen=True, slots=True)
class Decider:
    """Says of a picture's logits what is sure enough.

    A class with a score of at least `least` is the answer; else, with a `tree`, the narrowest broader term with such a
    probability that says something; else "unknown". Scores are those of the logits divided by `temperature`. `source`
    tells, for the header of results, where the numbers come from.
    """

    labels: Labels
    least: float
    tree: Tree | None = None
    temperature: float = 1.0
    source: Mapping[str, Any] = field(default_factory=dict)

    def decide(self, logits: npt.NDArray[np.floating], among: Sequence[int] = ()) -> Decision:
        """Logits [k] -> the decision; `among` is that of `Labels.scores`."""
        scores = self.labels.scores(logits.astype(np.float64) / self.temperature, among)
        candidates = np.array(among) if among else np.arange(len(scores))
        best = int(candidates[logits[candidates].argmax()])  # ties by index, as everywhere
        score = float(scores[best])
        if score >= self.least:
            return Decision("label", self.labels.names[best], self.labels.wnids[best], score)
        found = self.tree.climb(best, scores, self.least) if self.tree else None
        if found is None:
            return Decision("unknown", UNKNOWN, None, score)
        wnid, probability = found
        return Decision("broader", synsets()[wnid].name, wnid, probability)

    def record(self) -> dict[str, Any]:
        """What the header of results says."""
        rule = "climbing" if self.tree else "threshold"
        return {"rule": rule, "least": self.least, "temperature": self.temperature, **self.source}


def broader(labels: Labels) -> Tree:
    """The tree of these labels. Raises UsageError where they have none."""
    tree = Tree.of(labels)
    if labels.activation != "softmax" or not tree.classes:
        why = "have no WordNet ids" if labels.activation == "softmax" else "do not exclude each other"
        raise UsageError(f"--rollup needs classes of ImageNet: those of this model {why}.")
    return tree


def by_score(labels: Labels, least: float, *, rollup: bool) -> Decider:
    """Decisions by a score that the user names. Raises UsageError for one that is no probability, and as `broader`."""
    if labels.activation == "none":
        raise UsageError("--min-score needs probabilities; this model gives plain numbers (regression).")
    if not 0 <= least <= 1:
        raise UsageError(f"--min-score {least:g} is no probability: it lies between 0 and 1.")
    return Decider(labels, least, broader(labels) if rollup else None)


def by_accuracy(labels: Labels, calibration: Calibration, accuracy: float, *, rollup: bool) -> Decider:
    """Decisions that are right as often as asked for, by a calibration that fits the model.

    Raises ValueError where it has nothing for this accuracy, UsageError as `broader`.
    """
    rule: Rule = "rollup" if rollup else "thresholds"
    point = calibration.point(rule, accuracy)
    assert point.least is not None
    source = {"accuracy": point.accuracy, "calibrated": calibration.made, "pictures": calibration.n}
    return Decider(labels, point.least, broader(labels) if rollup else None, calibration.temperature, source)
