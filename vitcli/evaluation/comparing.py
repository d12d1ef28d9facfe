"""Two models on the same pictures: is the difference more than chance?"""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, log

import numpy as np

from vitcli.evaluation.metrics import Bools

DRAWS, SEED = 10_000, 0  # of the bootstrap: the same every time


@dataclass(frozen=True, slots=True)
class Difference:
    """One model against another: `only_ours` pictures are right in the first alone, `only_theirs` in the second.

    `interval` is that of the difference in accuracy, of 95 %; `p` is McNemar's.
    """

    n: int
    only_ours: int
    only_theirs: int
    interval: tuple[float, float]
    p: float

    @property
    def value(self) -> float:
        """Accuracy of the first less that of the second; NaN of no pictures."""
        return (self.only_ours - self.only_theirs) / self.n if self.n else float("nan")

    @property
    def clear(self) -> bool:
        """Whether chance alone would seldom do it: less than once in twenty."""
        return self.p < 0.05


def difference(ours: Bools, theirs: Bools) -> Difference:
    """Which pictures [n] were right in each."""
    first, second = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return Difference(len(ours), first, second, bootstrap(first, second, len(ours)), mcnemar(first, second))


def mcnemar(first: int, second: int, *, mid: bool = True) -> float:
    """The p-value of pictures that only one of two models gets right, if either were as likely: two-sided, binomial.

    `mid` counts what was seen by half (mid-p), which is the less timid of the two; else it is the exact test.
    Q. McNemar, 1947; Fagerland et al., "The McNemar test for binary matched-pairs data", 2013.
    """
    n, least = first + second, min(first, second)
    if n == 0:
        return 1.0
    i = np.arange(least + 1)
    choose = np.array([lgamma(n + 1) - lgamma(j + 1) - lgamma(n - j + 1) for j in i])
    chance = np.exp(choose - n * log(2))
    tail = 2 * float(chance.sum()) - (float(chance[-1]) if mid else 0.0)
    return min(1.0, tail)


def bootstrap(first: int, second: int, n: int, draws: int = DRAWS) -> tuple[float, float]:
    """The middle 95 % of the difference in accuracy when n pictures are drawn again and again, with replacement.

    A picture counts +1, -1 or 0, so drawing pictures is drawing how many there are of each: no picture is touched.
    Efron, "Bootstrap methods", 1979.
    """
    if n == 0:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(SEED).multinomial(n, np.array([first, second, n - first - second]) / n, size=draws)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    return float(low), float(high)
