"""What is a dog: the broader terms of ImageNet's classes, and the probability of each.

WordNet's "is a" is no tree in the strict sense: `dog` is a `canine` and a `domestic animal`. So the probability of a
term is the sum over the *set* of classes below it; adding up its children would count some classes twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitcli.labels import Labels, imagenet1k

Scores: TypeAlias = npt.NDArray[np.float64]  # [k], probabilities of classes

ROOT = "n00001740"  # entity
# Said of a picture these would say nothing, nor would what is above them.
VAGUE = ("n00021939", "n00003553", "n00001930", "n00002137")  # artifact, whole, physical entity, abstraction


@dataclass(frozen=True, slots=True)
class Synset:
    """A term: a class of ImageNet-1k or a broader one. `names` are synonyms, `parents` WordNet ids of broader terms."""

    wnid: str
    parents: tuple[str, ...]
    names: tuple[str, ...]
    definition: str

    @property
    def name(self) -> str:
        """The usual one."""
        return self.names[0]


@cache
def synsets() -> dict[str, Synset]:
    """The 1,860 terms by WordNet id, each behind its parents."""
    text = (Path(__file__).parent / "data" / "wordnet.tsv").read_text(encoding="utf-8")
    own = {wnid: names for wnid, names, _ in imagenet1k()}
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return {
        wnid: Synset(wnid, tuple(parents.split()), tuple((names or own[wnid]).split(", ")), definition)
        for wnid, parents, names, definition in rows
    }


@cache
def ancestors(wnid: str) -> frozenset[str]:
    """A term and all that are broader; empty for what is not in the tree."""
    if wnid not in synsets():
        return frozenset()
    return frozenset([wnid]).union(*(ancestors(parent) for parent in synsets()[wnid].parents))


@cache
def depth(wnid: str) -> int:
    """Steps up to `entity`, by the longest way: a term is deeper than all that are broader."""
    return max((1 + depth(parent) for parent in synsets()[wnid].parents), default=0)


@cache
def vague() -> frozenset[str]:
    """The terms that are no answer: VAGUE, and what is broader still."""
    return frozenset().union(*map(ancestors, VAGUE))


class Tree:
    """The terms above the classes of a checkpoint, which are known by their WordNet ids; the order does not matter.

    `classes` has the indices of the classes at or below each term, in ascending order. A class without an id, or with
    one that is not in the tree, has no broader term.
    """

    def __init__(self, wnids: Sequence[str | None]) -> None:
        below: dict[str, list[int]] = {}
        for index, wnid in enumerate(wnids):
            for term in ancestors(wnid) if wnid else ():
                below.setdefault(term, []).append(index)
        self.wnids = tuple(wnids)
        self.classes = {term: np.array(below[term]) for term in synsets() if term in below}

    @classmethod
    @cache
    def of(cls, labels: Labels) -> Tree:
        """The tree of these labels, made once."""
        return cls(labels.wnids)

    def probability(self, wnid: str, scores: Scores) -> float:
        """That of a term: summed over the set of classes at or below it."""
        return min(1.0, float(scores[self.classes[wnid]].sum())) if wnid in self.classes else 0.0

    def children(self, wnid: str) -> list[str]:
        """The terms right below one that have classes, those with many first."""
        found = [term for term in self.classes if wnid in synsets()[term].parents]
        return sorted(found, key=lambda term: -len(self.classes[term]))

    def ladder(self, index: int, scores: Scores) -> list[tuple[str, float]]:
        """The way up from a class: broader terms that say something, and their probabilities, the narrowest first.

        Narrower has fewer classes; with as many, the likelier comes first, then the deeper, then the smaller WordNet
        id. So no term comes before one that is below it, and where there are several parents, all are on the ladder.
        """
        wnid = self.wnids[index]
        terms = (ancestors(wnid) if wnid else frozenset()) - vague()
        alone = {wnid} if wnid in self.classes and len(self.classes[wnid]) == 1 else set()
        rungs = [(term, self.probability(term, scores)) for term in terms - alone]
        return sorted(rungs, key=lambda rung: (len(self.classes[rung[0]]), -rung[1], -depth(rung[0]), rung[0]))

    def climb(self, index: int, scores: Scores, theta: float) -> tuple[str, float] | None:
        """The first term on the ladder of a class with a probability of at least `theta`; None where there is none.

        "Climbing" of "Hierarchical Selective Classification" (Goren, Galil, El-Yaniv, 2024).
        """
        return next((rung for rung in self.ladder(index, scores) if rung[1] >= theta), None)
