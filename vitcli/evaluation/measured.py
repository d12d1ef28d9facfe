"""`measure`: every figure of one model over judged pictures; `pair`: two models over the pictures that both judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vitcli.evaluation import metrics
from vitcli.evaluation.comparing import Difference, difference
from vitcli.evaluation.metrics import Bin, Bools, OfClass, Point, Rate, blocks
from vitcli.labels import Labels

if TYPE_CHECKING:
    from vitcli.decision import Decider
    from vitcli.evaluation.scores import Judged
    from vitcli.results import Decision
    from vitcli.truth import Counts

POINTS = 100  # of the risk-coverage curve that are told
CONFUSIONS = 100  # that are told


@dataclass(frozen=True)
class Scored:
    """What depends on scores: of softmax and sigmoid all of it, of plain numbers only how they rank right and wrong.

    A temperature is that of a softmax, and so are the likelihoods (`nll`); None where a figure is not defined.
    """

    auroc: float
    aurc: float
    coverage: Point  # at the accuracy asked for
    curve: tuple[tuple[float, float], ...]  # (coverage, accuracy of the answers)
    bins: tuple[Bin, ...] | None = None
    ece: float | None = None
    temperature: float | None = None
    ece_at_temperature: float | None = None
    nll: float | None = None
    nll_at_temperature: float | None = None


@dataclass(frozen=True)
class Decided:
    """What a rule answered, of n pictures with one right class: classes, broader terms, and "unknown".

    A broader term is right where the right class is below it.
    """

    rule: Mapping[str, Any]  # `Decider.record()`
    labels: Rate
    broader: Rate
    n: int

    @classmethod
    def of(cls, judged: Judged, decider: Decider) -> Decided:
        """Every picture decided again, of its logits."""
        found = {"label": [0, 0], "broader": [0, 0]}  # right, answered
        n = 0
        for rows, logits in blocks(judged.logits):
            for truth, row in zip(judged.truth[rows], logits, strict=True):
                if truth < 0:
                    continue
                n += 1
                decision = decider.decide(row)
                if decision.kind != "unknown":
                    found[decision.kind][0] += covers(decision, int(truth), decider, judged)
                    found[decision.kind][1] += 1
        return cls(decider.record(), Rate(*found["label"]), Rate(*found["broader"]), n)

    @property
    def answered(self) -> Rate:
        """Classes and broader terms together."""
        return Rate(self.labels.hits + self.broader.hits, self.labels.n + self.broader.n)

    def record(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "rule": dict(self.rule),
            "n": self.n,
            "answered": self.answered.n,
            "coverage": self.answered.n / self.n if self.n else None,
            "right": self.answered.hits,
            "accuracy": self.answered.value,
            "interval": list(self.answered.interval),
            "labels": {"n": self.labels.n, "right": self.labels.hits},
            "broader": {"n": self.broader.n, "right": self.broader.hits},
            "unknown": self.n - self.answered.n,
        }


def covers(decision: Decision, truth: int, decider: Decider, judged: Judged) -> bool:
    """Whether what was decided is true of a picture of this class."""
    if decision.kind == "broader":
        return decider.tree is not None and bool((decider.tree.classes[decision.wnid or ""] == truth).any())
    names, wnids = judged.labels.names, judged.labels.wnids
    return (names[truth], wnids[truth]) == (decision.label, decision.wnid)


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model. `about` is what else there is to know of it: name, parameters, seconds, ...

    `real` counts those with a ReaL label, where there are other labels too; `accuracy` is the one that was asked for.
    """

    about: Mapping[str, Any]
    labels: Labels
    classes: tuple[int, ...]  # their indices in the network
    counts: Counts
    accuracy: float
    top1: Rate
    top5: Rate
    real: Rate | None
    by_class: list[OfClass] = field(repr=False)
    confusions: list[tuple[int, int, int]] = field(repr=False)
    scored: Scored = field(repr=False)
    decided: Decided | None = None

    @property
    def name(self) -> str:
        """What the user called the model."""
        return str(self.about.get("model", ""))

    @property
    def class_accuracy(self) -> float:
        """The mean over the classes."""
        return metrics.class_accuracy(self.by_class)

    def named(self, i: int) -> dict[str, Any]:
        """A class for a program."""
        return {"index": self.classes[i], "wnid": self.labels.wnids[i], "label": self.labels.names[i]}

    def record(self) -> dict[str, Any]:
        """Everything as JSON-ready values; fractions, not percent."""
        scored, coverage = self.scored, self.scored.coverage
        answered = coverage.answered > 0
        return {
            **self.about,
            **self.counts.record(),
            "n": self.top1.n,
            "top1": self.top1.value,
            "top1_interval": list(self.top1.interval),
            "top5": self.top5.value,
            "top5_interval": list(self.top5.interval),
            **({} if self.real is None else _real(self.real)),
            "class_accuracy": self.class_accuracy,
            "ece": scored.ece,
            "temperature": scored.temperature,
            "ece_at_temperature": scored.ece_at_temperature,
            "nll": scored.nll,
            "nll_at_temperature": scored.nll_at_temperature,
            "auroc": scored.auroc,
            "aurc": scored.aurc,
            "coverage": {
                "accuracy": self.accuracy,
                "coverage": coverage.coverage,
                "threshold": coverage.threshold if answered else None,
                "interval": list(coverage.rate.interval) if answered else None,
            },
            **({} if self.decided is None else {"decisions": self.decided.record()}),
            "classes": [
                {
                    **self.named(c.index),
                    "n": c.rate.n,
                    "accuracy": c.rate.value,
                    "interval": list(c.rate.interval),
                    "taken_for": [{**self.named(other), "n": n} for other, n in c.taken_for],
                }
                for c in self.by_class
            ],
            "confusions": [
                {"truth": self.named(truth), "answer": self.named(answer), "n": n}
                for truth, answer, n in self.confusions[:CONFUSIONS]
            ],
            "reliability": None
            if scored.bins is None
            else [
                {"from": b.low, "to": b.high, "n": b.n, "confidence": b.confidence, "accuracy": b.accuracy}
                for b in scored.bins
            ],
            "risk_coverage": [{"coverage": coverage, "accuracy": accuracy} for coverage, accuracy in scored.curve],
        }


def _real(rate: Rate) -> dict[str, Any]:
    return {"real_n": rate.n, "real": rate.value, "real_interval": list(rate.interval)}


def measure(
    judged: Judged,
    about: Mapping[str, Any] | None = None,
    *,
    accuracy: float = 0.95,
    decider: Decider | None = None,
) -> Evaluation:
    """The figures; the logits are read several times, a block at a time. `accuracy` is what coverage is told for.

    With a `decider`, what it answers is counted too.

    Figures of a class need pictures with one right class; the others need only whether an answer was right.
    """
    one = judged.truth >= 0
    truth, answer = judged.truth[one], judged.best[one, 0]
    real = None if judged.real is None else Rate.of(judged.real[judged.real >= 0] == 1)
    return Evaluation(
        about or {},
        judged.labels,
        judged.classes,
        judged.counts,
        accuracy,
        Rate.of(judged.right),
        Rate.of(judged.right5),
        real,
        metrics.by_class(truth, answer),
        metrics.confusions(truth, answer),
        _scored(judged, accuracy),
        None if decider is None else Decided.of(judged, decider),
    )


def _scored(judged: Judged, accuracy: float) -> Scored:
    score, right = judged.score, judged.right
    ranked = Scored(
        metrics.auroc(score, right), metrics.aurc(score, right), metrics.coverage_at(score, right, accuracy),
        _curve(judged),
    )  # fmt: skip
    if judged.labels.activation == "none":
        return ranked
    found: dict[str, Any] = {"bins": tuple(metrics.reliability(score, right)), "ece": metrics.ece(score, right)}
    if judged.labels.activation == "softmax" and (judged.truth >= 0).any():
        t = metrics.temperature(judged.logits, judged.truth)
        likelihood, confidence = metrics.likelihood(judged.logits, judged.truth, t)
        found |= {
            "temperature": t,
            "ece_at_temperature": metrics.ece(confidence, right),
            "nll": metrics.likelihood(judged.logits, judged.truth)[0],
            "nll_at_temperature": likelihood,
        }
    return Scored(ranked.auroc, ranked.aurc, ranked.coverage, ranked.curve, **found)


def _curve(judged: Judged) -> tuple[tuple[float, float], ...]:
    """(coverage, accuracy) at POINTS thresholds or fewer, evenly spread over the pictures."""
    _, answered, hits = metrics.risk_coverage(judged.score, judged.right)
    if len(answered) == 0:
        return ()
    wanted = np.linspace(1, answered[-1], min(POINTS, len(answered)))
    at = np.unique(np.searchsorted(answered, wanted))
    return tuple((float(answered[i] / answered[-1]), float(hits[i] / answered[i])) for i in at)


def pair(ours: Judged, theirs: Judged) -> tuple[Bools, Bools]:
    """[m] each: what was right, of the pictures that both judged. Pictures are known by name, equal ones by order."""
    waiting: dict[str, list[int]] = defaultdict(list)
    for i in range(len(theirs) - 1, -1, -1):
        waiting[theirs.paths[i]].append(i)
    pairs = [(i, waiting[path].pop()) for i, path in enumerate(ours.paths) if waiting.get(path)]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return ours.right[both[:, 0]], theirs.right[both[:, 1]]


def compare(ours: Judged, theirs: Judged) -> Difference:
    """The difference in top-1 accuracy over the pictures that both judged."""
    return difference(*pair(ours, theirs))
