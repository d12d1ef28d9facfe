"""What a rule answers is counted as it is meant: a class, a broader term that holds, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitcli import decision
from vitcli.evaluation.measured import measure
from vitcli.evaluation.scores import judged
from vitcli.labels import Labels
from vitcli.wordnet import ancestors

Vit = Callable[..., Any]
LABELS = Labels.imagenet1k()


def answers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are sure of the right class, of one near it, of nothing at all."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 1000, count)
    logits = rng.normal(0, 1.5, (count, 1000)).astype(np.float32)
    for row, right in zip(logits, truth, strict=True):
        row[(right + rng.integers(-3, 4)) % 1000] += rng.choice([0, 4, 8, 14])
    return logits, truth.astype(np.int32)


@pytest.mark.parametrize("rollup", [False, True])
@pytest.mark.parametrize("least", [0.3, 0.8, 0.99])
def test_right_broader_terms_count_as_right(least: float, rollup: bool) -> None:
    logits, truth = answers(400)
    decider = decision.by_score(LABELS, least, rollup=rollup)
    found = measure(judged(LABELS, logits, truth, [str(i) for i in range(400)]), decider=decider).record()["decisions"]
    said = [decider.decide(row) for row in logits]
    told = [(one, index) for one, index in zip(said, truth, strict=True) if one.kind != "unknown"]
    # by the tree alone: the class itself or something above it was named
    right = [one.wnid in ancestors(LABELS.wnids[index] or "") for one, index in told]
    assert found["answered"] == len(told)
    assert found["right"] == sum(right)
    assert found["unknown"] == 400 - len(told)
    assert found["coverage"] == len(told) / 400
    assert (found["broader"]["n"] > 0) == rollup
    assert found["labels"]["n"] + found["broader"]["n"] == len(told)
    if rollup and least == 0.8:  # both kinds of mistakes are among them
        assert 0 < found["broader"]["right"] < found["broader"]["n"]


def test_without_a_rule_nothing_is_told_of_decisions() -> None:
    logits, truth = answers(10)
    assert "decisions" not in measure(judged(LABELS, logits, truth, list("abcdefghij"))).record()


def test_on_real_pictures_decisions_are_as_often_right_as_the_documents_say(
    vit: Vit, weights: Path, images: Path, tmp_path: Path
) -> None:
    labelled = images / "labelled"
    rows = tmp_path / "rows.jsonl"
    done = vit("evaluate", labelled / "images", "--truth", labelled / "labels.csv", "-m", weights, "--device",
               "cpu", "--min-score", "0.8", "--rollup", "-f", "json", "-o", rows, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["decisions"]
    assert (found["n"], found["answered"]) == (300, 265)
    assert round(found["accuracy"], 3) == 0.936
    records = [json.loads(line) for line in rows.read_text().splitlines()]
    assert sum(record["decision"] != "unknown" for record in records) == 265


@pytest.mark.parametrize(("options", "said"), [
    (["--rollup"], "--rollup"), (["--min-score", "7"], "0 to 1"), (["--calibration", "none.json"], "none.json"),
    (["--min-score", "0.5", "--calibrate", "c.json"], "leave out"),
])  # fmt: skip
def test_decisions_that_cannot_be_made_are_refused(
    vit: Vit, tiny: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    done = vit("evaluate", tmp_path, "-m", tiny, *options, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
