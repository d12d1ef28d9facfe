"""What a calibration file holds, chosen on labelled pictures: thresholds for an accuracy, and how far to climb.

Both answer as many pictures as they can while the accuracy of the answers, less one standard error (the lower end of
Wilson's interval with z = 1), still reaches the one asked for. Without that margin a choice made on the very pictures
that are counted would fall short on others every other time. It also means that few pictures cannot promise much: for
99 % at least 99 must be answered, all rightly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitcli.evaluation.metrics import Bools, Floats, Indices, Point, risk_coverage

ACCURACIES = (0.8, 0.9, 0.95, 0.99)  # that thresholds are chosen for
MARGIN = 1.0  # standard errors


def kept(hits: Indices, answered: Indices, accuracy: float) -> Bools:
    """Whether so many right answers are enough to promise that accuracy; arrays [m] in, [m] out."""
    n, square = np.maximum(answered, 1), MARGIN**2 / np.maximum(answered, 1)
    p = hits / n
    low = (p + square / 2 - np.sqrt(square * (p * (1 - p) + square / 4))) / (1 + square)
    held: Bools = (answered > 0) & (low >= accuracy - 1e-9)
    return held


def threshold(score: Floats, right: Bools, accuracy: float) -> Point | None:
    """The lowest score from which on answers keep `accuracy` on other pictures too; None where too few are seen.

    It lies midway to the next lower score, so that the last digits of a score, which depend on the machine, decide
    nothing.
    """
    values, answered, hits = risk_coverage(score, right)
    held = np.flatnonzero(kept(hits, answered, accuracy))
    if len(held) == 0:
        return None
    last = int(held[-1])
    least = float(values[last])
    if last + 1 < len(values):
        between = (least + float(values[last + 1])) / 2
        least = between if between > values[last + 1] else least
    return Point(least, int(hits[last]), int(answered[last]), len(score))


@dataclass(frozen=True, slots=True)
class Climb:
    """The way up of one picture: the probability a climb must ask for to be right, and to end with no answer.

    Asked for less than `right_from`, it stops at a term that is wrong; asked for more than `reach`, nothing above the
    class is likely enough, and the answer is "unknown".
    """

    right_from: float
    reach: float

    @classmethod
    def of(cls, probabilities: Sequence[float], right: Sequence[bool]) -> Climb:
        """`probabilities` of the best class and then of each term above it, and whether each is true of the picture.

        A climb stops at the first that is likely enough, so only those that are likelier than all before count.
        """
        reach, right_from = -1.0, 0.0
        for probability, true in zip(probabilities, right, strict=True):
            if probability > reach:
                reach = probability
                if not true:
                    right_from = float(np.nextafter(probability, np.inf))
        return cls(right_from, reach)


def theta(climbs: Sequence[Climb], accuracy: float) -> Point | None:
    """The least probability to ask for when climbing, so that the answers keep `accuracy`; None where too few are seen.

    Where every picture gets an answer it is a quantile of `right_from`, the rule of "Hierarchical selective
    classification" (Goren, Galil, El-Yaniv, 2024) with a margin; pictures that get none count neither way.
    """
    right_from, reach = np.array([c.right_from for c in climbs]), np.array([c.reach for c in climbs])
    candidates = np.unique(np.append(right_from, 0.0))
    # of sorted values, how many are at least (answered) or more (wrong) than each candidate; what is wrong is answered
    answered = len(climbs) - np.searchsorted(np.sort(reach), candidates, side="left")
    wrong = len(climbs) - np.searchsorted(np.sort(right_from), candidates, side="right")
    held = np.flatnonzero(kept(answered - wrong, answered, accuracy))
    if len(held) == 0:
        return None
    first = int(held[0])
    return Point(float(candidates[first]), int(answered[first] - wrong[first]), int(answered[first]), len(climbs))
