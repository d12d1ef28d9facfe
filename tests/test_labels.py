"""Logits become the right labels: by index, best first, never NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vitcli.errors import PictureError, UsageError
from vitcli.labels import Labels


def test_the_two_cranes_are_kept_apart_by_index() -> None:
    logits = np.zeros(1000, np.float32)
    logits[517], logits[134] = 2, 1
    top = Labels.of({134: "crane", 517: "crane"}, 1000).top(logits, 2)
    assert [(t.index, t.label) for t in top] == [(517, "crane"), (134, "crane")]


def test_imagenet_has_a_thousand_unique_names_and_ids() -> None:
    labels = Labels.imagenet1k()
    assert len(labels) == len(set(labels.names)) == len(set(labels.wnids)) == 1000
    assert (labels.wnids[285], labels.names[285]) == ("n02124075", "Egyptian Mau")


def test_wordnet_ids_are_given_only_to_imagenets_own_names() -> None:
    imagenet = dict(enumerate(Labels.imagenet1k().names))
    assert Labels.of(imagenet, 1000).wnids[285] == "n02124075"
    assert set(Labels.of({i: f"product {i}" for i in range(1000)}, 1000).wnids) == {None}
    assert set(Labels.of(imagenet, 1001).wnids) == {None}


def test_a_class_without_a_name_is_called_by_its_number() -> None:
    assert Labels.of({0: "cat"}, 2).names == ("cat", "class 1")
    assert Labels.unnamed(18).names[17] == "class 17"


@given(arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e4, 1e4, width=32)), st.integers(1, 50))
def test_top_is_sorted_clamped_and_a_distribution(logits: np.ndarray, topk: int) -> None:
    labels = Labels.unnamed(len(logits))
    top = labels.top(logits, topk)
    assert len(top) == min(topk, len(logits))
    best = [float(logits[t.index]) for t in top]
    assert best == sorted((float(x) for x in logits), reverse=True)[: len(top)]
    assert sum(t.score for t in labels.top(logits, len(logits))) == pytest.approx(1)


def test_ties_are_settled_by_index() -> None:
    assert [t.index for t in Labels.unnamed(4).top(np.array([1, 3, 3, 1], np.float32), 4)] == [1, 2, 0, 3]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_an_error_not_a_winner(bad: float) -> None:
    with pytest.raises(PictureError, match="NaN or infinite") as caught:
        Labels.unnamed(3).top(np.array([1, bad, 2], np.float32))
    assert caught.value.reason == "not_finite"


def test_sigmoid_scores_each_class_alone() -> None:
    labels = Labels(("a", "b"), (None, None), "sigmoid")
    scores = labels.scores(np.array([0, 800], np.float32))
    assert scores.tolist() == [0.5, 1.0]


def test_a_file_of_names_without_end_is_refused(tmp_path: Path) -> None:
    long = tmp_path / "names.txt"
    long.write_bytes(b"\n" * (16 * 2**20 + 1))
    for path in (long, Path("/dev/zero")):
        if path.exists():
            with pytest.raises(UsageError, match="too large"):
                Labels.read(path)
