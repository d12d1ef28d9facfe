"""Decisions: a label, a broader term or unknown; answers among some classes; what a calibration may be used for."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from awkward import noise
from test_wordnet import classes_below

import vitcli
from vitcli.calibration import Calibration, Point
from vitcli.decision import Decider, Only, by_accuracy, by_score
from vitcli.errors import UsageError
from vitcli.labels import Labels
from vitcli.streaming import Prepared
from vitcli.version import __version__
from vitcli.wordnet import Tree

Vit = Callable[..., "subprocess.CompletedProcess[str]"]

IMAGENET = Labels.imagenet1k()
PETS = Labels(("tabby", "tiger cat", "Chihuahua", "rose"), ("n02123045", "n02123159", "n02085620", None))


def softmax(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(x - x.max())
    return np.asarray(powers / powers.sum())


def logits(*shares: float) -> npt.NDArray[np.float32]:
    return np.log(np.array(shares), dtype=np.float64).astype(np.float32)


def test_a_label_that_is_sure_enough_is_the_answer_and_else_it_is_unknown() -> None:
    row = np.zeros(4, np.float32)
    assert Decider(PETS, 0.25).decide(row).kind == "label"  # exactly as much as asked for, and ties go by index
    assert Decider(PETS, 0.25).decide(row).label == "tabby"
    unsure = Decider(PETS, 0.2500001).decide(row)
    assert (unsure.kind, unsure.label, unsure.wnid, unsure.score) == ("unknown", "unknown", None, 0.25)
    assert Decider(PETS, 0).decide(logits(0.1, 0.2, 0.3, 0.4)).label == "rose"


def test_a_broader_term_is_told_where_no_label_is_sure_enough() -> None:
    row, tree = logits(0.45, 0.40, 0.10, 0.05), Tree.of(PETS)
    found = {least: Decider(PETS, least, tree).decide(row) for least in (0.4, 0.8, 0.9, 0.97)}
    assert [(d.kind, d.label) for d in found.values()] == [
        ("label", "tabby"), ("broader", "domestic cat"), ("broader", "carnivore"), ("unknown", "unknown"),
    ]  # fmt: skip
    assert found[0.8].score == pytest.approx(0.85)
    assert found[0.97].score == pytest.approx(0.45)
    rose = Decider(PETS, 0.5, tree).decide(logits(0.2, 0.2, 0.2, 0.4))
    assert rose.kind == "unknown"  # a class that is not in the tree has nothing above it


def test_the_temperature_is_part_of_the_decision_and_of_no_score_in_the_row(tiny: Path) -> None:
    row = logits(0.7, 0.1, 0.1, 0.1)
    assert Decider(PETS, 0.6).decide(row).kind == "label"
    hot = Decider(PETS, 0.6, temperature=2.0).decide(row)
    assert hot.kind == "unknown"
    assert hot.score == pytest.approx(softmax(row.astype(float) / 2)[0], abs=1e-12)
    classifier, picture = vitcli.load(tiny, engine="numpy"), np.zeros((40, 40, 3), np.uint8)
    decided = replace(classifier, decider=Decider(classifier.labels, 0.6, temperature=2.0))(picture)
    assert decided.decision is not None
    assert replace(decided, decision=None) == classifier(picture)


def test_among_some_classes_scores_are_those_of_a_network_with_no_others() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        row = rng.normal(0, 3, 1000).astype(np.float32)
        only = Only.of(IMAGENET, ["dog", "n02123045", "134"])
        assert len(only.classes) == 118 + 2
        kept = list(only.classes)
        top = IMAGENET.top(row, 200, only.classes)
        assert [label.index for label in top] == sorted(kept, key=lambda index: (-row[index], index))
        expected = dict(zip(kept, softmax(row[kept].astype(float)), strict=True))
        assert all(label.score == pytest.approx(expected[label.index], abs=1e-12) for label in top)
        assert sum(label.score for label in top) == pytest.approx(1, abs=1e-12)
        share = only.share(IMAGENET, row)
        assert share == pytest.approx(softmax(row.astype(float))[kept].sum(), abs=1e-12)
        assert top[0].score * share == pytest.approx(IMAGENET.scores(row)[top[0].index], abs=1e-12)
        decision = Decider(IMAGENET, 0.999999, Tree.of(IMAGENET)).decide(row, only.classes)
        assert decision.score is not None
        assert decision.kind != "broader" or decision.score >= 0.999999


def test_one_class_alone_is_certain_and_a_class_named_twice_counts_once() -> None:
    only = Only.of(IMAGENET, ["beagle", "n02088364", "162"])
    assert only.classes == (162,)
    (label,) = IMAGENET.top(np.random.default_rng(0).normal(size=1000), 5, only.classes)
    assert (label.index, label.score) == (162, 1.0)


def test_many_labels_at_once_keep_their_scores_and_have_no_share() -> None:
    labels = Labels(("red", "round", "new"), (None,) * 3, "sigmoid")
    row, only = np.array([1.0, -1.0, 0.5], np.float32), Only.of(labels, ["red", "new"])
    assert [(t.label, t.score) for t in labels.top(row, 5, only.classes)] == [
        (t.label, t.score) for t in labels.top(row) if t.label != "round"
    ]
    assert only.share(labels, row) is None
    assert by_score(labels, 0.7, rollup=False).decide(row).label == "red"
    with pytest.raises(UsageError, match="do not exclude each other"):
        by_score(labels, 0.7, rollup=True)
    regression = Labels(("age",), (None,), "none")
    for wrong in (lambda: Only.of(regression, ["age"]), lambda: by_score(regression, 0.5, rollup=False)):
        with pytest.raises(UsageError, match="regression"):
            wrong()
    with pytest.raises(UsageError, match="no WordNet ids"):
        by_score(Labels.unnamed(3), 0.5, rollup=True)


# A file


def calibration(path: Path, classifier: vitcli.Classifier, **changes: Any) -> Path:
    """A calibration of this model."""
    header = classifier.header()
    made = Calibration(
        model="tiny", sha256=classifier.checkpoint.sha256(), preprocess=header["preprocess"], labels=header["labels"],
        activation=header["activation"], dtype=header["dtype"], n=300, temperature=1.25,
        thresholds=(Point(0.9, 0.2, 0.9, (0.85, 0.94)), Point(0.95, 0.3, 0.5, (0.9, 0.97)),
                    Point(0.99, None, 0, (0, 1))),
        rollup=(Point(0.95, 0.3, 0.8, (0.9, 0.97)),), made="2026-11-25", version=__version__,
    )  # fmt: skip
    path.write_text(json.dumps(replace(made, **changes).record()))
    return path


@pytest.fixture
def small(tiny: Path, tmp_path: Path) -> list[object]:
    """Options of a tiny model whose ten classes are ImageNet's."""
    (tmp_path / "labels.txt").write_text(
        "n02123045 tabby\nn02123159 tiger cat\nn02123394 Persian cat\nn02085620 Chihuahua\nn02086240 Shih-Tzu\n"
        "n02088364 beagle\nn04285008 sports car\nn03417042 garbage truck\nn07753592 banana\nn02012849 crane\n"
    )
    return ["--model", tiny, "--labels", tmp_path / "labels.txt", "--engine", "numpy", "--topk", 2]


@pytest.fixture
def model(small: list[Any]) -> vitcli.Classifier:
    return vitcli.load(small[1], engine="numpy", labels=Labels.read(small[3]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for i in range(4):
        noise(i).save(tmp_path / "pictures" / f"{i}.png")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path / "pictures"


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path, model: vitcli.Classifier) -> None:
    path = calibration(tmp_path / "c.json", model)
    found = Calibration.read(path)
    assert found.record() == json.loads(path.read_text())
    assert found.misfit(model.header(), model.checkpoint.sha256()) is None
    decider = by_accuracy(model.labels, found, 0.95, rollup=False)
    assert (decider.least, decider.temperature, decider.tree) == (0.3, 1.25, None)
    assert by_accuracy(model.labels, found, 0.95, rollup=True).tree is not None
    for accuracy, said in (
        (0.99, "no threshold reached an accuracy of 0.99; there is 0.9, 0.95"),
        (0.8, "nothing for"),
    ):
        with pytest.raises(ValueError, match=said):
            by_accuracy(model.labels, found, accuracy, rollup=False)


@pytest.mark.parametrize(("change", "said"), [
    ({"sha256": "0" * 64}, "other weights"), ({"preprocess": {"size": 1}}, "another preprocessing"),
    ({"labels": "0" * 64}, "other classes"), ({"activation": "sigmoid"}, "other scores"),
])  # fmt: skip
def test_a_calibration_of_another_model_is_refused(
    change: dict[str, Any], said: str, vit: Vit, small: list[object], model: vitcli.Classifier, folder: Path
) -> None:
    path = calibration(folder.parent / "c.json", model, **change)
    done = vit("classify", folder, "--accuracy", 0.95, "--calibration", path, *small)
    assert (done.returncode, done.stdout) == (2, "")
    assert "does not speak of this model" in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(("change", "said"), [
    ({}, None), ({"dtype": "bfloat16"}, "dtype bfloat16, this is float32"), ({"version": "0.0.1"}, "version 0.0.1"),
    ({"n": 60}, "60 pictures, too few"),
    ({"n": 101, "thresholds": (Point(0.95, 0.9, 0.2, (0.5, 1)),)}, "20 of its 101"),
])  # fmt: skip
def test_what_makes_a_calibration_doubtful_is_said(
    change: dict[str, Any], said: str | None, vit: Vit, small: list[object], model: vitcli.Classifier, folder: Path
) -> None:
    path = calibration(folder.parent / "c.json", model, **change)
    done = vit("classify", folder / "0.png", "-f", "jsonl", "--accuracy", 0.95, "--calibration", path, *small)
    assert done.returncode == 0
    assert json.loads(done.stdout)["decision"] in ("label", "unknown")
    notes = [line for line in done.stderr.splitlines() if "c.json" in line]
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


@pytest.mark.parametrize("text", [
    "", "{", "[]", "{}", "null", '{"vit_calibration": 2}', '{"vit_calibration": 1}', "\udcff", "[" * 100_000,
    "9" * 5000,
    *(json.dumps(change) for change in ({"temperature": 0}, {"temperature": "1"}, {"n": True}, {"thresholds": [1]},
      {"thresholds": [{"accuracy": 0.9}]},
      {"rollup": [{"accuracy": 2, "theta": 0.5, "coverage": 1, "interval": [0, 1]}]},
      {"model": []}, {"temperature": 1e999}, {"temperature": 10**400}, {"n": -1},
      {"n": 10**400}, {"thresholds": [{"accuracy": 0.9, "coverage": 1, "interval": [0, 1]}]})),
])  # fmt: skip
def test_a_file_that_is_no_calibration_is_one_sentence(text: str, tmp_path: Path, model: vitcli.Classifier) -> None:
    path = calibration(tmp_path / "c.json", model)
    if text.startswith('{"') and "vit_calibration" not in text:  # one thing in it is wrong
        text = json.dumps(json.loads(path.read_text()) | json.loads(text))
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"is no calibration of vit: .*\."):
        Calibration.read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        Calibration.read(tmp_path / "missing.json")
    if (zeros := Path("/dev/zero")).exists():
        with pytest.raises(UsageError, match="too large"):
            Calibration.read(zeros)


@pytest.mark.slow
def test_the_document_says_what_the_pictures_give(weights: Path, images: Path) -> None:
    """Each figure of its table, with broader terms judged by walking down the tree of the data file."""
    with (images / "labelled" / "labels.csv").open(newline="") as file:
        truth = {str(images / "labelled" / "images" / row["file"]): int(row["index"]) for row in csv.DictReader(file)}
    rows: dict[str, npt.NDArray[np.float32]] = {}

    class Keeping(vitcli.Classifier):
        def answer(self, picture: Prepared, row: npt.NDArray[np.float32]) -> vitcli.Prediction:
            rows[picture.path] = row.copy()
            return super().answer(picture, row)

    loaded = vitcli.load(weights)
    classifier = Keeping(loaded.name, loaded.revision, loaded.checkpoint, loaded.backend)
    assert len(list(vitcli.stream(classifier, list(truth)))) == len(truth) == 300
    labels, document = classifier.labels, (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text()
    told = re.findall(r"^\| (0\.\d+) \|(.*)\|$", document.partition("<!-- rollup -->")[2], re.MULTILINE)
    assert [least for least, _ in told] == ["0.50", "0.70", "0.80", "0.90", "0.95"]
    for least, cells in told:
        figures: list[int | str] = []
        for tree in (None, Tree.of(labels)):
            decided = {path: Decider(labels, float(least), tree).decide(row) for path, row in rows.items()}
            right = Counter(
                decision.kind
                for path, decision in decided.items()
                if decision.wnid and truth[path] in classes_below(decision.wnid)
            )
            kinds = Counter(decision.kind for decision in decided.values())
            answered = kinds["label"] + kinds["broader"]
            figures += [answered, accuracy(right["label"] + right["broader"], answered)]
        figures += [kinds["label"], f"{kinds['broader']} ({right['broader']})"]
        assert [cell.strip() for cell in cells.split("|")] == list(map(str, figures)), least


def accuracy(right: int, n: int) -> str:
    """With Wilson's interval, as the document writes it."""
    p, z = right / n, 1.96
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    low, high = (100 * (middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    shown = [f"{value:.1f}".replace("100.0", "100") for value in (100 * p, low, high)]
    return f"{shown[0]} % ({shown[1]}–{shown[2]})"


# The command


READ: dict[str, Callable[[Path], list[tuple[Any, ...]]]] = {
    "jsonl": lambda path: [
        (row["status"], row.get("decision"), row.get("decided_label"), row.get("share"))
        for row in map(json.loads, path.read_text().splitlines())
    ],
    "sqlite": lambda path: rows_of(path),
}


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    db = sqlite3.connect(path)
    found = db.execute("SELECT status, decision, decided_label, share FROM inputs ORDER BY id").fetchall()
    db.close()
    return found


@pytest.mark.parametrize("name", READ)
def test_each_row_has_a_decision_and_a_run_that_decides_otherwise_continues_none(
    name: str, vit: Vit, small: list[object], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"out.{name}"
    decided = ["--only", "cat", "--only", "crane", "--min-score", 0.6, "--rollup", *small]
    done = vit("classify", folder, "-o", out, *decided)
    assert done.returncode == 3
    assert "Decided: " in done.stderr
    rows = READ[name](out)
    assert [row[0] for row in rows] == ["ok"] * 4 + ["failed"]
    assert {row[1] for row in rows[:4]} <= {"label", "broader", "unknown"}
    assert rows[4][1:] == (None, None, None)
    assert all(0 < row[3] < 1 for row in rows[:4])
    assert "Nothing was left to do" in vit("classify", folder, "-o", out, "--resume", *decided).stderr
    for other in (["--min-score", 0.7, *decided[:4], "--rollup"], decided[:6], decided[:4], ["--min-score", 0.6]):
        refused = vit("classify", folder, "-o", out, "--resume", *other, *small)
        assert refused.returncode == 1
        assert re.search("decision|only|extra", refused.stderr), refused.stderr
    assert READ[name](out) == rows


def test_the_header_says_how_it_was_decided_and_says_nothing_where_it_was_not(
    vit: Vit, small: list[object], model: vitcli.Classifier, folder: Path
) -> None:
    path = calibration(folder.parent / "c.json", model)
    done = vit("classify", folder, "-f", "json", "--accuracy", 0.95, "--calibration", path, "--rollup", *small)
    found = json.loads(done.stdout)
    assert found["header"]["decision"] == {
        "rule": "climbing", "least": 0.3, "temperature": 1.25, "accuracy": 0.95, "calibrated": "2026-11-25",
        "pictures": 300,
    }  # fmt: skip
    assert "only" not in found["header"]
    plain = json.loads(vit("classify", folder, "-f", "json", *small).stdout)
    assert not {"only", "decision"} & plain["header"].keys()
    for row, own in zip(plain["results"], found["results"], strict=True):
        assert row == {key: value for key, value in own.items() if not key.startswith("deci")}
    only = json.loads(vit("classify", folder, "-f", "json", "--only", "cat", "--only", "9", *small).stdout)
    assert only["header"]["only"] == {"asked": ["n02121620", "n02012849"], "classes": [0, 1, 2, 9]}
    assert all(top["index"] in (0, 1, 2, 9) for row in only["results"][:4] for top in row["top"])


@pytest.mark.parametrize(("given", "said"), [
    (["--rollup"], "--rollup needs"), (["--accuracy", 0.9], "go together"),
    (["--calibration", "c.json"], "go together"),
    (["--min-score", 2], "outside 0 to 1"), (["--min-score", "nan"], "outside 0 to 1"), (["--only", "dgo"], "no class"),
    (["--accuracy", 0.95, "--calibration", "c.json", "--min-score", 0.5], "two ways"),
    (["--accuracy", 0.95, "--calibration", "c.json", "--only", "dog"], "among all classes"),
    (["--accuracy", 0.97, "--calibration", "c.json"], "nothing for an accuracy of 0.97; there is 0.9, 0.95"),
    (["--accuracy", 0.95, "--calibration", "c.json", "-o", "c.json", "--force"], "is the calibration"),
])  # fmt: skip
def test_settings_that_mean_nothing_are_one_sentence(
    given: list[object], said: str, vit: Vit, small: list[object], model: vitcli.Classifier, folder: Path
) -> None:
    calibration(folder.parent / "c.json", model)
    done = vit("classify", folder / "0.png", *given, *small, cwd=folder.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_decides_nothing_imports_nothing_of_it(small: list[Any], folder: Path) -> None:
    code = (
        "import sys; sys.argv = ['vit', *sys.argv[1:]]; from vitcli.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('wordnet', 'terms', 'decision', 'calibration') if f'vitcli.{m}' in sys.modules])"
    )
    command = [sys.executable, "-c", code, "classify", folder / "0.png", "-f", "jsonl", *small]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


# `vit labels`


def test_the_tree_around_a_term_is_shown_within_80_columns(vit: Vit) -> None:
    done = vit("labels", "crane", env={"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    for said in ("class 134, n02012849", "class 517, n03126707", "wading bird › crane", "lifting device › crane"):
        assert said in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80
    dog = vit("labels", "DOG").stdout
    assert "118 classes, n02084071" in dog
    assert "├── hunting dog  63 classes, n02087122" in dog
    assert re.search(r"canine › dog\n", dog)
    assert re.search(r"domestic animal › dog\n", dog)


def test_programs_get_every_term_that_is_found(vit: Vit) -> None:
    found = json.loads(vit("labels", "hunting dog", "--format", "json").stdout)
    (term,) = [term for term in found["found"] if term["exact"]]
    assert (term["wnid"], term["index"], len(term["classes"]), term["parents"]) == (
        "n02087122",
        None,
        63,
        ["n02084071"],
    )
    everything = json.loads(vit("labels", "--format", "json").stdout)
    assert [term["index"] for term in everything] == list(range(1000))
    assert everything[281]["names"] == ["tabby cat", "tabby"]
    assert len(vit("labels").stdout.splitlines()) == 1000


def test_a_model_has_its_own_labels(vit: Vit, small: list[object], tiny: Path) -> None:
    done = vit("labels", "cat", *small[:4])
    assert "3 classes, n02121620" in done.stdout
    assert "dog" not in vit("labels", "--model", tiny).stdout
    assert vit("labels", "--model", tiny).stdout.splitlines()[3].split()[0] == "3"
    missing = vit("labels", "unicorn")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "There is no class or broader term 'unicorn'" in missing.stderr
