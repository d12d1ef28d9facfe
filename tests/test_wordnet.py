"""Broader terms: the tree is WordNet's, each class counts once, and climbing finds the narrowest term."""

from __future__ import annotations

from collections import deque
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vitcli
from vitcli.errors import UsageError
from vitcli.labels import Labels
from vitcli.terms import Terms
from vitcli.wordnet import ROOT, Tree, ancestors, depth, synsets, vague

DATA = Path(vitcli.__file__).parent / "data"
IMAGENET = Labels.imagenet1k()
WNIDS = [wnid for wnid in IMAGENET.wnids if wnid is not None]
DOG, BIRD, ANIMAL, ARTIFACT, WHEELED = "n02084071", "n01503061", "n00015388", "n00021939", "n04576211"

# The same table, read on its own and walked downwards, to compare with.
ROWS = [line.split("\t") for line in (DATA / "wordnet.tsv").read_text(encoding="utf-8").splitlines()[1:]]
PARENTS = {row[0]: row[1].split() for row in ROWS}
CHILDREN = {wnid: [child for child, above in PARENTS.items() if wnid in above] for wnid in PARENTS}


def below(wnid: str) -> set[str]:
    found, queue = {wnid}, deque([wnid])
    while queue:
        for child in CHILDREN[queue.popleft()]:
            if child not in found:
                found.add(child)
                queue.append(child)
    return found


@cache
def classes_below(wnid: str) -> frozenset[int]:
    own = below(wnid)
    return frozenset(index for index, one in enumerate(WNIDS) if one in own)


@cache
def longest(wnid: str) -> int:
    return max((1 + longest(parent) for parent in PARENTS[wnid]), default=0)


SAYS_NOTHING = {wnid for wnid in PARENTS if {ARTIFACT, "n00003553", "n00001930", "n00002137"} & below(wnid)}


def brute_force(index: int, scores: npt.NDArray[np.float64], theta: float) -> str | None:
    """Every term of the whole tree is looked at: the narrowest above the class that is likely enough."""
    fits = []
    for wnid in PARENTS:
        own = classes_below(wnid)
        if index in own and wnid != WNIDS[index] and wnid not in SAYS_NOTHING:
            probability = float(scores[sorted(own)].sum())
            if probability >= theta:
                fits.append((len(own), -probability, -longest(wnid), wnid))
    return min(fits)[3] if fits else None


def random_scores(seed: int) -> npt.NDArray[np.float64]:
    """As of a network: a few classes near each other hold most."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, 1000)
    logits[sorted(classes_below(rng.choice([DOG, BIRD, WHEELED, "n03183080"])))] += rng.uniform(0, 8)
    return IMAGENET.scores(logits)


def test_the_tree_is_that_of_wordnet_3() -> None:
    assert len(synsets()) == 1860
    assert len(synsets().keys() - set(WNIDS)) == 860
    assert sum(len(synset.parents) for synset in synsets().values()) == 1937
    assert [wnid for wnid, synset in synsets().items() if not synset.parents] == [ROOT]
    assert synsets()[ROOT].name == "entity"

    @cache
    def ways(wnid: str) -> int:
        return sum(map(ways, synsets()[wnid].parents)) or 1

    assert sum(ways(wnid) > 1 for wnid in WNIDS) == 304
    depths = [depth(wnid) for wnid in WNIDS]
    assert (min(depths), max(depths)) == (4, 18)


def test_every_class_is_in_it_and_none_is_above_another() -> None:
    assert len(set(WNIDS)) == 1000
    for index, wnid in enumerate(WNIDS):
        assert ROOT in ancestors(wnid)
        assert ancestors(wnid) & set(WNIDS) == {wnid}
        assert synsets()[wnid].definition
        assert IMAGENET.wnids[index] == wnid


def test_terms_have_the_classes_that_are_known() -> None:
    tree = Tree.of(IMAGENET)
    known = {DOG: 118, BIRD: 59, ANIMAL: 398, ARTIFACT: 522, ROOT: 1000}
    assert {wnid: len(tree.classes[wnid]) for wnid in known} == known
    assert {frozenset(map(int, classes)) for classes in tree.classes.values()} == set(map(classes_below, PARENTS))
    inner = {frozenset(map(int, tree.classes[wnid])) for wnid in PARENTS.keys() - set(WNIDS)}
    assert len(inner) >= 396
    assert list(tree.classes[DOG]) == list(range(151, 269))


def test_known_ancestors() -> None:
    names = {synsets()[wnid].name for wnid in ancestors("n02123045")}
    assert {"tabby", "domestic cat", "cat", "feline", "carnivore", "mammal", "domestic animal", "animal"} <= names
    assert {synsets()[wnid].name for wnid in synsets()[DOG].parents} == {"canine", "domestic animal"}
    assert ancestors("n99999999") == frozenset()
    assert {synsets()[wnid].name for wnid in vague()} == {
        "artifact", "whole", "object", "physical entity", "entity", "abstraction",
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_climbing_is_a_search_of_the_whole_tree(seed: int) -> None:
    scores, tree = random_scores(seed), Tree.of(IMAGENET)
    for index in (int(scores.argmax()), *np.random.default_rng(seed).integers(0, 1000, 3)):
        for theta in (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0):
            found = tree.climb(int(index), scores, theta)
            assert (found and found[0]) == brute_force(int(index), scores, theta), (index, theta)
            assert found is None or found[1] >= theta


def test_ties_are_broken_the_same_way_whatever_the_order_of_the_classes() -> None:
    scores, tree = np.full(1000, 0.001), Tree.of(IMAGENET)
    order = np.random.default_rng(0).permutation(1000)
    shuffled = Tree([WNIDS[i] for i in order])
    for index in range(0, 1000, 7):
        for theta in (0.002, 0.01, 0.1):
            found = tree.climb(index, scores, theta)
            assert (found and found[0]) == brute_force(index, scores, theta)
            again = shuffled.climb(int(np.flatnonzero(order == index)[0]), scores, theta)
            assert (again and again[0]) == (found and found[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_no_class_counts_twice(seed: int) -> None:
    scores, tree = random_scores(seed), Tree.of(IMAGENET)
    assert tree.probability(ROOT, scores) == pytest.approx(1, abs=1e-12)
    for wnid in (DOG, WHEELED, "n03575240", "n01317541"):
        assert tree.probability(wnid, scores) == pytest.approx(scores[sorted(classes_below(wnid))].sum(), abs=1e-15)
    # a wheeled vehicle is a container too: the children of `instrumentality` share classes
    added_up = sum(tree.probability(child, scores) for child in tree.children("n03575240"))
    shared = tree.probability(WHEELED, scores)
    assert added_up >= tree.probability("n03575240", scores) + 0.99 * shared
    assert all(tree.probability(wnid, scores) <= 1 for wnid in tree.classes)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_whoever_asks_for_more_gets_a_broader_term(seed: int) -> None:
    scores, tree = random_scores(seed), Tree.of(IMAGENET)
    index, before = int(scores.argmax()), 0
    for theta in np.linspace(0, 1, 21):
        found = tree.climb(index, scores, theta)
        size = 1001 if found is None else len(tree.classes[found[0]])
        assert size >= before
        before = size
    ladder = [wnid for wnid, _ in tree.ladder(index, scores)]
    for place, wnid in enumerate(ladder):
        assert not ancestors(wnid) & set(ladder[:place]), "a term comes before one that is below it"
        assert wnid not in vague()


def test_classes_in_any_order_and_number_have_their_terms() -> None:
    tree = Tree(["n02123045", None, "n02085620", "n00000000", DOG])  # tabby, Chihuahua, and `dog` itself as a class
    assert [list(tree.classes[wnid]) for wnid in (DOG, ANIMAL)] == [[2, 4], [0, 2, 4]]
    scores = np.array([0.05, 0.05, 0.3, 0.0, 0.6])
    assert tree.climb(4, scores, 0.85) == (DOG, pytest.approx(0.9))
    assert tree.climb(1, scores, 0.0) is None
    assert tree.climb(3, scores, 0.0) is None


def test_a_name_means_one_class_or_term() -> None:
    terms = Terms(IMAGENET)
    for query, classes in {
        "dog": classes_below(DOG), "n02084071": classes_below(DOG), "Tabby_Cat": {281}, "134": {134},
        "cat": classes_below("n02121620"), "Egyptian cat": {285}, "sports car": {817}, "entity": range(1000),
    }.items():  # fmt: skip
        assert set(terms.one(query).classes) == set(classes), query


@pytest.mark.parametrize(("query", "said"), [
    ("crane", r"ambiguous: crane \(bird\) \(n02012849, class 134\); crane \(machine\) \(n03126707, class 517\)"),
    ("car", r"n02959942.*n02958343|n02958343.*n02959942"), ("panther", "ambiguous"),
    ("tabbi", "did you mean tabby"), ("1000", "no class"), ("n12345678", "no class"), ("", "no class"),
])  # fmt: skip
def test_what_means_nothing_or_several_things_is_refused(query: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Terms(IMAGENET).one(query)


def test_the_names_of_a_checkpoint_come_before_synonyms_and_its_own_classes_need_no_wordnet() -> None:
    rows = (DATA / "imagenet1k.tsv").read_text(encoding="utf-8").splitlines()[1:]
    hub = Labels.of({i: row.split("\t")[2] for i, row in enumerate(rows)}, 1000)
    assert hub.names[638:640] == ("maillot", "maillot, tank suit")
    assert Terms(hub).one("maillot").classes == (638,)
    with pytest.raises(UsageError, match=r"class 134.*class 517"):
        Terms(hub).one("crane")
    own = Terms(Labels(("rose", "tulip", "7", "Rose"), (None,) * 4))
    assert own.one("TULIP").classes == (1,)
    assert own.one("7").classes == (2,)
    assert own.one("1").classes == (1,)
    with pytest.raises(UsageError, match=r"rose .class 0.; Rose .class 3.*its number"):
        own.one("rose")
    with pytest.raises(UsageError, match="no class"):
        own.one("dog")


def test_every_class_is_found_by_its_wordnet_id_and_its_index() -> None:
    terms = Terms(IMAGENET)
    for index, wnid in enumerate(WNIDS):
        assert terms.one(wnid).classes == (index,)
        assert terms.one(str(index)).classes == (index,)
