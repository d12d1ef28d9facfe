"""The figures of an evaluation, in numpy alone: n pictures, k classes; `score` [n] of the best class, `right` [n] bool.

docs/evaluation.md defines each figure and says where it comes from. Nothing here holds more than a block of logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Indices: TypeAlias = npt.NDArray[np.int32] | npt.NDArray[np.int64]

Z = 1.96  # standard deviations: intervals of 95 %
BINS = 15  # of the reliability diagram and the ECE, as Guo et al. have them
BLOCK = 1024  # rows of logits that are held at once
COLDEST, HOTTEST = 0.01, 100.0  # the temperatures among which one is looked for


class Logits(Protocol):
    """[n k] float32, read by contiguous slices of rows: an array, or a file that is larger than the memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, k)."""

    def __getitem__(self, rows: slice, /) -> npt.NDArray[np.float32]:
        """Some rows [m k]."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `n`, and what that says of all pictures of this kind."""

    hits: int
    n: int

    @classmethod
    def of(cls, right: npt.NDArray[np.bool_]) -> Rate:
        """How many are true."""
        return cls(int(np.count_nonzero(right)), len(right))

    @property
    def value(self) -> float:
        """The fraction; NaN of none."""
        return self.hits / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval, of 95 %."""
        return wilson(self.hits, self.n)


def wilson(hits: int, n: int, z: float = Z) -> tuple[float, float]:
    """The interval of a proportion; everything is possible where n is 0.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if n == 0:
        return 0.0, 1.0
    p, square = hits / n, z * z / n
    middle, half = p + square / 2, z * np.sqrt(p * (1 - p) / n + square / (4 * n))
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return (0.0 if hits == 0 else max(0.0, float(low))), (1.0 if hits == n else min(1.0, float(high)))


@dataclass(frozen=True, slots=True)
class Bin:
    """Pictures whose best class has a score from `low` up to `high`: their mean score and how many are right."""

    low: float
    high: float
    n: int
    confidence: float  # the mean score; NaN where n is 0, as is
    accuracy: float


def reliability(score: Floats, right: Bools, bins: int = BINS) -> list[Bin]:
    """Bins of equal width over [0, 1], each with its lower edge, the last one with 1 too."""
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, bins - 1)
    n = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, score, minlength=bins) / n
        accuracy = np.bincount(place, right, minlength=bins) / n
    rows = zip(edges[:-1], edges[1:], n, confidence, accuracy, strict=True)
    return [Bin(float(low), float(high), int(m), float(c), float(a)) for low, high, m, c, a in rows]


def ece(score: Floats, right: Bools, bins: int = BINS) -> float:
    """Expected calibration error: how far scores and accuracy are apart, the mean over the bins by their pictures.

    Guo et al., "On calibration of modern neural networks", 2017. NaN of no pictures.
    """
    if len(score) == 0:
        return float("nan")
    return sum(b.n * abs(b.accuracy - b.confidence) for b in reliability(score, right, bins) if b.n) / len(score)


def auroc(score: Floats, right: Bools) -> float:
    """How often a right answer has a higher score than a wrong one; a tie is half. NaN where either is missing."""
    good, bad = int(right.sum()), int((~right).sum())
    if not good or not bad:
        return float("nan")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]  # the mean of the ranks that equal scores share, from 1
    return float((rank[right].sum() - good * (good + 1) / 2) / (good * bad))


def running_error(score: Floats, right: Bools) -> Floats:
    """[n]: the error rate among the 1, 2, ... n pictures of the highest scores.

    Where scores are equal, the mean over all orders of them: no order of the inputs changes it.
    """
    _, place, count = np.unique(-score, return_inverse=True, return_counts=True)
    mean = np.bincount(place, ~right) / count
    return np.cumsum(np.repeat(mean, count)) / np.arange(1, len(score) + 1)


def aurc(score: Floats, right: Bools) -> float:
    """Area under the risk-coverage curve: the mean of the running error rate. NaN of no pictures.

    Geifman and El-Yaniv, "Selective classification for deep neural networks", 2017.
    """
    return float(running_error(score, right).mean()) if len(score) else float("nan")


@dataclass(frozen=True, slots=True)
class Point:
    """What answering only from a score of `threshold` on would be: `hits` of `answered` are right, of n pictures."""

    threshold: float
    hits: int
    answered: int
    n: int

    @property
    def coverage(self) -> float:
        """The share that gets an answer."""
        return self.answered / self.n if self.n else 0.0

    @property
    def rate(self) -> Rate:
        """The accuracy of the answers."""
        return Rate(self.hits, self.answered)


def risk_coverage(score: Floats, right: Bools) -> tuple[Floats, Indices, Indices]:
    """Every threshold there is, the highest first: (threshold [m], how many are answered [m], how many right [m]).

    Pictures of one score are answered together or not at all.
    """
    values, place, count = np.unique(-score, return_inverse=True, return_counts=True)
    hits = np.bincount(place, right, minlength=len(values))
    return -values, np.cumsum(count), np.cumsum(hits).astype(np.int64)


def coverage_at(score: Floats, right: Bools, accuracy: float) -> Point:
    """The most pictures that can be answered with that accuracy, counted on these very pictures.

    No threshold does: then nothing is answered, and the threshold is infinite.
    """
    threshold, answered, hits = risk_coverage(score, right)
    held = np.flatnonzero(hits >= accuracy * answered - 1e-9)
    if len(held) == 0:
        return Point(float("inf"), 0, 0, len(score))
    return Point(float(threshold[held[-1]]), int(hits[held[-1]]), int(answered[held[-1]]), len(score))


@dataclass(frozen=True, slots=True)
class OfClass:
    """One class: how many pictures of it there are, how many were right, and what else they were taken for."""

    index: int
    rate: Rate
    taken_for: tuple[tuple[int, int], ...]  # (class, how often), the most frequent first


def confusions(truth: Indices, answer: Indices) -> list[tuple[int, int, int]]:
    """(truth, answer, how often) wherever these differ, the most frequent first, then by truth and answer."""
    wrong = truth != answer
    pairs, count = np.unique(np.stack([truth[wrong], answer[wrong]], axis=1), axis=0, return_counts=True)
    order = np.argsort(-count, kind="stable")
    return [(int(pairs[i, 0]), int(pairs[i, 1]), int(count[i])) for i in order]


def by_class(truth: Indices, answer: Indices, most: int = 3) -> list[OfClass]:
    """The classes that have pictures, in their order, each with at most `most` others it is taken for."""
    others: dict[int, list[tuple[int, int]]] = {}
    for own, other, count in confusions(truth, answer):
        others.setdefault(own, []).append((other, count))
    n = np.bincount(truth) if len(truth) else np.zeros(0, np.int64)
    hits = np.bincount(truth[truth == answer], minlength=len(n))
    return [
        OfClass(int(i), Rate(int(hits[i]), int(n[i])), tuple(others.get(int(i), ())[:most])) for i in np.flatnonzero(n)
    ]


def class_accuracy(classes: list[OfClass]) -> float:
    """The mean of the accuracies of the classes, each counted alike; NaN of none."""
    return float(np.mean([c.rate.value for c in classes])) if classes else float("nan")


def blocks(logits: Logits, truth: Indices) -> Iterator[tuple[slice, Floats, npt.NDArray[np.intp]]]:
    """(rows, logits [m k] less the largest of each row, truth [m]) of the pictures that have one right class."""
    for start in range(0, len(truth), BLOCK):
        rows = slice(start, min(start + BLOCK, len(truth)))
        one = truth[rows] >= 0
        z = np.asarray(logits[rows], np.float64)[one]
        yield rows, z - z.max(axis=1, keepdims=True), truth[rows][one].astype(np.intp)


def nll(logits: Logits, truth: Indices, temperature: float = 1.0) -> float:
    """The mean of -log softmax(z/T) of the right class, of the pictures with a `truth` of 0 or more; NaN of none."""
    total, n = 0.0, 0
    for _, z, own in blocks(logits, truth):
        scaled = z / temperature
        total += float((np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(own)), own]).sum())
        n += len(own)
    return total / n if n else float("nan")


def confidence(logits: Logits, temperature: float = 1.0) -> Floats:
    """[n]: the largest of softmax(z/T)."""
    out = np.empty(logits.shape[0])
    for start in range(0, len(out), BLOCK):
        z = np.asarray(logits[slice(start, start + BLOCK)], np.float64)
        out[start : start + BLOCK] = 1 / np.exp((z - z.max(axis=1, keepdims=True)) / temperature).sum(axis=1)
    return out


def temperature(logits: Logits, truth: Indices) -> float:
    """The T that makes the mean of -log softmax(z/T) of the right class least, between COLDEST and HOTTEST.

    Guo et al., 2017. In 1/T this is convex, so Newton's steps, halved towards the bracket where they would leave it,
    find the one minimum; each reads the logits once. NaN without a picture that has one right class.
    """
    low, high = 1 / HOTTEST, 1 / COLDEST
    beta = 1.0
    for _ in range(60):
        slope, curve, n = _derivatives(logits, truth, beta)
        if n == 0:
            return float("nan")
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = beta - slope / curve if curve > 0 else (high if slope < 0 else low)
        new = step if low < step < high else (low * high) ** 0.5
        if abs(new - beta) <= 1e-7 * beta or high - low <= 1e-7 * low:
            beta = new
            break
        beta = new
    return float(np.clip(1 / beta, COLDEST, HOTTEST))


def _derivatives(logits: Logits, truth: Indices, beta: float) -> tuple[float, float, int]:
    """The first and second derivative of the summed loss by beta = 1/T, and of how many pictures."""
    slope = curve = 0.0
    n = 0
    for _, z, own in blocks(logits, truth):
        p = np.exp(beta * z)
        p /= p.sum(axis=1, keepdims=True)
        mean = np.einsum("nk,nk->n", p, z)
        slope += float((mean - z[np.arange(len(own)), own]).sum())
        curve += float((np.einsum("nk,nk,nk->n", p, z, z) - mean**2).sum())
        n += len(own)
    return slope, curve, n
