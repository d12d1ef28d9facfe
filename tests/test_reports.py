"""Reports of evaluations: at a terminal, as JSON, as a page; models side by side; calibrations."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from awkward import noise
from conftest import save_reference
from PIL import Image
from rich.console import Console

from vitcli import sources
from vitcli.calibration import Calibration
from vitcli.errors import CheckpointError, NotDownloaded
from vitcli.evaluation import against, fitting, measured, metrics, page, report, scores
from vitcli.evaluation.scores import Judged
from vitcli.labels import Labels
from vitcli.wordnet import Tree

Vit = Callable[..., "subprocess.CompletedProcess[str]"]

HOSTILE = '<script>alert(1)</script>"&\x1b[31m\u202e'
NAMES = ("cat", "dog", HOSTILE, *(f"kind {i}" for i in range(7)))


def some_pictures(n: int = 400, seed: int = 0, labels: Labels | None = None) -> Judged:
    """A model that is right about two times out of three."""
    random = np.random.default_rng(seed)
    truth = np.random.default_rng(99).integers(0, 10, n)
    z = random.normal(size=(n, 10)).astype(np.float32)
    z[np.arange(n), truth] += 2.5
    names = [f"pictures/{i}{HOSTILE if i % 7 == 0 else ''}.jpg" for i in range(n)]
    return scores.judged(labels or Labels(NAMES, (None,) * 10), z, truth.tolist(), names)


ABOUT = {"model": "tiny", "parameters": 5_717_416, "pictures_per_second": 31.2, "device": "cpu", "dtype": "float32"}


def printed(width: int, *found: measured.Evaluation, encoding: str = "utf-8", colour: bool = False) -> str:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    file = Terminal(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    console = Console(file=file, width=width, highlight=False, emoji=False, markup=False, force_terminal=colour)
    report.show(console, found, [measured.compare(some_pictures(), some_pictures(seed=1))] * (len(found) - 1))
    file.flush()
    return file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [32, 40, 60, 80, 110, 300])
def test_a_report_fits_the_terminal(width: int) -> None:
    found = measured.measure(some_pictures(), ABOUT)
    other = measured.measure(some_pictures(seed=1), {**ABOUT, "model": "a/model with quite a long name, really"})
    for text in (printed(width, found), printed(width, found, other)):
        assert all(len(line) <= width for line in text.splitlines())
        assert f"{found.top1.value:.2%}".rstrip("%") in text
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_a_report_has_only_ascii_where_the_terminal_has() -> None:
    text = printed(80, measured.measure(some_pictures(), ABOUT), encoding="ascii")
    assert text.isascii()
    assert re.search(r"0\.\d\d-1?0?\.\d\d +\d+ +#+", text)


def test_the_bars_of_a_report_are_as_long_as_the_accuracy() -> None:
    found = measured.measure(some_pictures(), ABOUT)
    assert found.scored.bins is not None
    bars = re.findall(r"(0\.\d\d)-\S+ +[\d,]+  (\S+)", printed(110, found))
    accuracy = {f"{b.low:.2f}": b.accuracy for b in found.scored.bins if b.n}
    assert [low for low, _ in bars] == sorted(accuracy, reverse=True)
    for low, bar in bars:
        assert abs(bar.count("█") / len(bar) - accuracy[low]) < 1.5 / len(bar)


def test_json_has_fractions_and_their_intervals() -> None:
    judged = some_pictures()
    found = json.loads(json.dumps(measured.measure(judged, ABOUT).record()))
    assert found["n"] == 400
    assert found["top1"] == judged.right.mean()
    assert found["top1_interval"] == list(metrics.wilson(int(judged.right.sum()), 400))
    assert found["ece"] == metrics.ece(judged.score, judged.right)
    assert sum(c["n"] for c in found["classes"]) == sum(b["n"] for b in found["reliability"]) == 400
    assert sum(c["n"] * c["accuracy"] for c in found["classes"]) == pytest.approx(judged.right.sum())
    assert found["coverage"]["accuracy"] == 0.95
    answered = judged.score >= found["coverage"]["threshold"]
    assert answered.mean() == found["coverage"]["coverage"]
    assert judged.right[answered].mean() >= 0.95
    assert {"temperature", "ece_at_temperature", "nll", "auroc", "aurc", "confusions", "risk_coverage"} <= found.keys()


@pytest.mark.parametrize(("activation", "without"), [
    ("sigmoid", {"temperature", "ece_at_temperature", "nll", "nll_at_temperature"}),
    ("none", {"temperature", "ece_at_temperature", "nll", "nll_at_temperature", "ece", "reliability"}),
])  # fmt: skip
def test_figures_that_are_not_defined_are_null(activation: Any, without: set[str]) -> None:
    found = measured.measure(some_pictures(labels=Labels(NAMES, (None,) * 10, activation)), ABOUT)
    record = found.record()
    assert {name for name, value in record.items() if value is None} == without
    assert record["auroc"] > 0.5
    assert "temperature" not in printed(80, found)


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = self.style = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "style" and not self.style:
            self.style = data
        self.text += data


def a_page(folder: Path, judged: Judged, inputs: list[Path], *others: Judged) -> tuple[str, Page]:
    found = [measured.measure(one, {**ABOUT, "model": f"model {HOSTILE}"}) for one in (judged, *others)]
    differences = [measured.compare(judged, other) for other in others]
    page.write(folder / "page.html", found, differences, judged, lambda: sources.inputs([str(p) for p in inputs]))
    text = (folder / "page.html").read_text(encoding="utf-8")
    return text, Page(text)


def test_nothing_from_outside_is_markup_in_a_page(tmp_path: Path) -> None:
    text, seen = a_page(tmp_path, some_pictures(), [], some_pictures(seed=1))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not {tag for tag, _ in seen.tags} & {"script", "iframe", "object", "embed", "link", "form", "a", "base"}
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on") or name == "style"]
    assert "<script>alert(1)</script>" in seen.text  # as text
    assert "http://" not in text
    assert "https://" not in text


def test_a_page_allows_its_own_style_and_inline_pictures_alone(tmp_path: Path) -> None:
    _, seen = a_page(tmp_path, some_pictures(), [])
    policy = next(a["content"] for tag, a in seen.tags if tag == "meta" and a.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(seen.style.encode()).digest()).decode()
    assert policy is not None
    assert policy.split("; ")[:3] == ["default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'"]


def test_a_page_shows_the_wrong_pictures_small_and_the_surest_first(tmp_path: Path) -> None:
    files = []
    for i in range(30):
        files.append(tmp_path / f"{i}.jpg")
        exif = Image.Exif()
        exif[270] = "secret"
        noise(i, (400, 300)).save(files[-1], exif=exif)
    files[3].write_bytes(b"gone")
    base = some_pictures(30)
    judged = scores.judged(base.labels, np.asarray(base.logits[0:30]), base.truth.tolist(), [str(f) for f in files])
    text, seen = a_page(tmp_path, judged, files)
    wrong = [i for i in np.argsort(-judged.score, kind="stable") if not judged.right[i]]
    shown = [base64.b64decode((a["src"] or "").split(",")[1]) for tag, a in seen.tags if tag == "img"]
    assert len(shown) == len([i for i in wrong if i != 3]) > 3
    assert all(Image.open(io.BytesIO(data)).size == (160, 120) for data in shown)
    assert b"secret" not in b"".join(shown)
    places = [text.index(f"{files[i].name}</small>") for i in wrong]
    assert places == sorted(places)


def test_a_page_is_bounded_however_many_pictures_are_wrong(tmp_path: Path) -> None:
    few, many = (a_page(tmp_path, some_pictures(n), [])[0] for n in (3000, 12_000))
    assert few.count("<li>") == many.count("<li>") == page.THUMBNAILS
    assert len(many) < 1.02 * len(few)


def test_pictures_that_only_one_model_answered_are_not_compared() -> None:
    ours, theirs = some_pictures(50), some_pictures(50, seed=1)
    order = np.array([7, 3, 40, 8])
    part = scores.judged(
        theirs.labels, theirs.logits[0:50][order], theirs.truth[order].tolist(), [theirs.paths[i] for i in order]
    )
    first, second = measured.pair(ours, part)
    assert np.array_equal(first, ours.right[np.sort(order)])
    assert np.array_equal(second, theirs.right[np.sort(order)])
    assert measured.compare(ours, part).n == 4


def save_foreign(folder: Path, kind: str, order: list[int] | None = None) -> Path:
    """A tiny random ResNet or ConvNeXt saved by transformers, its ten classes `name 0` ... in this order."""
    import torch
    import transformers

    torch.manual_seed(0)
    names = {i: f"name {own}" for i, own in enumerate(order or range(10))}
    common: dict[str, Any] = {"num_labels": 10, "id2label": names, "label2id": {v: k for k, v in names.items()}}
    if kind == "resnet":
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], **common)
        model: Any = transformers.ResNetForImageClassification(config)
    else:
        config = transformers.ConvNextConfig(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], **common)
        model = transformers.ConvNextForImageClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    if order:
        head = next(module for module in reversed(list(model.modules())) if isinstance(module, torch.nn.Linear))
        head.weight.data, head.bias.data = head.weight.data[order], head.bias.data[order]
    model.eval().save_pretrained(folder)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 64}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures in folders `name 0` to `name 9`."""
    folder = tmp_path_factory.mktemp("labelled")
    for i in range(40):
        (folder / f"name {i % 10}").mkdir(exist_ok=True)
        noise(i).save(folder / f"name {i % 10}" / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT whose classes are `name 0` to `name 9`."""
    names = {str(i): f"name {i}" for i in range(10)}
    return save_reference(
        tmp_path_factory.mktemp("named"), id2label=names, label2id={v: int(k) for k, v in names.items()}
    )


@pytest.mark.parametrize("kind", ["resnet", "convnext"])
def test_any_classifier_of_transformers_is_compared(
    vit: Vit, tmp_path: Path, named: Path, labelled: Path, kind: str
) -> None:
    import torch
    import transformers

    other = save_foreign(tmp_path / kind, kind)
    done = vit("evaluate", labelled, "--model", named, "--against", other, "--format", "json", "-q")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ours, theirs = found["models"]
    assert (ours["model"], theirs["model"]) == (str(named), str(other))
    model = transformers.AutoModelForImageClassification.from_pretrained(other).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(other, backend="pil")
    right = 0
    for file in labelled.rglob("*.png"):
        with torch.inference_mode():
            logits = model(**processor(images=Image.open(file).convert("RGB"), return_tensors="pt")).logits[0]
        right += model.config.id2label[int(logits.argmax())] == file.parent.name
    assert theirs["n"] == 40
    assert theirs["top1"] == right / 40
    assert theirs["parameters"] == sum(p.numel() for p in model.parameters())
    (comparison,) = found["comparisons"]
    assert comparison["difference"] == pytest.approx(ours["top1"] - theirs["top1"])
    assert 0 <= comparison["p"] <= 1
    table = vit("evaluate", labelled, "--model", named, "--against", other, "-q").stdout
    assert f"{theirs['top1'] * 100:.2f}" in table
    assert "p = " in table


@pytest.mark.parametrize("numbers", [False, True])
def test_classes_of_two_models_are_matched_by_name_never_by_rank(
    vit: Vit, tmp_path: Path, named: Path, labelled: Path, numbers: bool
) -> None:
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    plain, shuffled = save_foreign(tmp_path / "plain", "resnet"), save_foreign(tmp_path / "other", "resnet", order)
    pictures = labelled
    if numbers:  # numbers are those of the first model
        pictures = tmp_path / "numbered"
        for i in range(10):
            shutil.copytree(labelled / f"name {i}", pictures / str(i))
    done = vit("evaluate", pictures, "-m", named, "--against", plain, "--against", shuffled, "--format", "json", "-q")
    assert done.returncode == 0, done.stderr
    _, one, other = json.loads(done.stdout)["models"]
    assert one["top1"] == other["top1"]
    assert one["nll"] == pytest.approx(other["nll"])
    assert {c["label"]: c["accuracy"] for c in one["classes"]} == {c["label"]: c["accuracy"] for c in other["classes"]}


def test_what_is_no_classifier_of_transformers_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotDownloaded, match="neither a folder nor a model in the cache"):
        against.load("someone/not-here", "cpu")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="transformers cannot load it"):
        against.load(str(tmp_path), "cpu")


def test_pictures_that_cannot_go_through_together_are_rows(
    vit: Vit, tmp_path: Path, named: Path, labelled: Path
) -> None:
    import transformers

    other = save_foreign(tmp_path / "other", "resnet")
    transformers.ConvNextImageProcessor(size={"shortest_edge": 400}).save_pretrained(other)  # squashes: all alike
    assert vit("evaluate", labelled, "-m", named, "--against", other, "-q").returncode == 0
    transformers.ViTImageProcessor(do_resize=False).save_pretrained(other)  # leaves every picture its size
    pictures = tmp_path / "name 1"
    pictures.mkdir()
    noise(0, (64, 64)).save(pictures / "square.png")
    noise(1, (64, 32)).save(pictures / "wide.png")
    done = vit("evaluate", pictures, "-m", named, "--against", other, "--format", "json", "-q")
    assert done.returncode == 3, done.stderr
    ours, theirs = json.loads(done.stdout)["models"]
    assert (ours["n"], theirs["n"], theirs["failed"]) == (2, 1, {"unsupported": 1})
    assert json.loads(done.stdout)["comparisons"][0]["n"] == 1


def test_a_network_without_its_head_is_not_compared(tmp_path: Path) -> None:
    import transformers

    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=4)
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    transformers.ConvNextImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="not trained for classification"):
        against.load(str(tmp_path), "cpu")


@pytest.mark.parametrize("options", [["-o", "rows.csv"], ["--calibrate", "c.json"], ["--summary-json", "s.json"]])
def test_what_is_of_one_model_is_refused_for_several(
    vit: Vit, tmp_path: Path, named: Path, labelled: Path, tiny: Path, options: list[str]
) -> None:
    done = vit("evaluate", labelled, "-m", named, "-m", tiny, *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "are of one model" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_page_and_a_calibration_overwrite_nothing(vit: Vit, tmp_path: Path, named: Path, labelled: Path) -> None:
    taken = tmp_path / "taken.json"
    taken.write_text("mine")
    for option in ("--html", "--calibrate"):
        done = vit("evaluate", labelled, "-m", named, option, taken)
        assert done.returncode == 1
        assert "--force" in done.stderr
    assert taken.read_text() == "mine"
    done = vit("evaluate", labelled, "-m", named, "--html", taken, "--calibrate", taken, "--force")
    assert done.returncode == 2
    done = vit("evaluate", labelled, "-m", named, "--html", taken, "--force", "-q")
    assert done.returncode == 0
    assert taken.read_text().startswith("<!DOCTYPE html>")


def test_a_calibration_is_read_by_classify_and_few_pictures_are_noted(
    vit: Vit, tmp_path: Path, named: Path, labelled: Path
) -> None:
    file = tmp_path / "calibration.json"
    done = vit("calibrate", labelled, "-m", named, "-o", file, "--accuracy", "0.02")
    assert done.returncode == 0, done.stderr
    assert "40 labelled pictures are too few" in done.stderr
    found = Calibration.read(file)
    assert (found.n, found.model) == (40, str(named))
    assert [p.accuracy for p in found.thresholds] == sorted({0.02, *fitting.ACCURACIES})
    assert found.thresholds[-1].least is None
    again = tmp_path / "again.json"
    assert vit("evaluate", labelled, "-m", named, "--calibrate", again, "--accuracy", "0.02", "-q").returncode == 0
    assert again.read_text() == file.read_text()
    rows = vit("classify", labelled, "-m", named, "--accuracy", "0.02", "--calibration", file, "-f", "jsonl", "-q")
    assert rows.returncode == 0, rows.stderr
    decisions = [json.loads(line)["decision"] for line in rows.stdout.splitlines()]
    assert decisions.count("label") == round(found.thresholds[0].coverage * 40)


def test_the_answers_of_a_decision_are_those_that_the_calibration_counted() -> None:
    from vitcli.decision import by_accuracy

    labels = Labels.imagenet1k()
    dogs = [i for i, wnid in enumerate(labels.wnids) if 151 <= i < 161]
    labels = Labels(tuple(labels.names[i] for i in dogs), tuple(labels.wnids[i] for i in dogs))
    judged = some_pictures(600, labels=labels)
    header = {"model": "m", "preprocess": {}, "labels": "", "activation": "softmax", "dtype": "float32", "version": "0"}
    found = fitting.calibration(judged, header, "", 0.7, "today")
    assert found.rollup
    for rule, points in (("thresholds", found.thresholds), ("rollup", found.rollup)):
        for point in points:
            if point.least is None:
                continue
            decider = by_accuracy(labels, found, point.accuracy, rollup=rule == "rollup")
            decisions = [decider.decide(row) for row in judged.logits[0:600]]
            answered = [(d, t) for d, t in zip(decisions, judged.truth, strict=True) if d.kind != "unknown"]
            assert len(answered) == round(point.coverage * 600), (rule, point)
            right = 0
            for decision, truth in answered:
                own = (labels.wnids.index(decision.wnid),) if decision.kind == "label" else ()
                assert decision.wnid is not None
                right += truth in (own or Tree.of(labels).classes[decision.wnid])
            assert right / len(answered) >= point.accuracy
            low, high = point.interval
            assert low <= right / len(answered) <= high


@pytest.fixture(scope="module")
def real_json(vit: Vit, weights: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Judged]:
    """The report on the labelled pictures, and the same pictures judged here."""
    from vitcli import streaming
    from vitcli.classifier import load

    with (images / "labelled" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    files = [str(images / "labelled" / "images" / row["file"]) for row in rows]
    done = vit("evaluate", images / "labelled" / "images", "--truth", images / "labelled" / "labels.csv", "-m", weights,
               "--format", "json", "-q", timeout=500)  # fmt: skip
    assert done.returncode == 0, done.stderr
    classifier = load(weights, device="cpu", engine="torch")

    class Logits:
        device, preprocess, submit = classifier.device, classifier.preprocess, staticmethod(classifier.submit)

        def answer(self, _: streaming.Prepared, row: Any) -> Any:
            return row.copy()

    z = np.stack(list(streaming.stream(Logits(), files)))  # type: ignore[arg-type]
    return json.loads(done.stdout), scores.judged(classifier.labels, z, [int(row["index"]) for row in rows], files)


def test_the_figures_of_real_pictures_are_those_of_plain_formulas(real_json: tuple[Any, Judged]) -> None:
    found, judged = real_json
    assert (round(found["top1"] * 100, 2), round(found["top5"] * 100, 2), found["n"]) == (78.33, 94.0, 300)
    z = np.asarray(judged.logits[0:300], np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == judged.truth
    ece = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        ece += abs(right[inside].sum() - confidence[inside].sum()) / 300
    assert found["ece"] == pytest.approx(ece, abs=1e-6)
    order = np.argsort(-confidence)
    assert found["aurc"] == pytest.approx((np.cumsum(~right[order]) / np.arange(1, 301)).mean(), abs=1e-6)
    losses = {
        t: (np.log(np.exp((z - z.max(axis=1, keepdims=True)) / t).sum(axis=1))
            - (z - z.max(axis=1, keepdims=True))[np.arange(300), judged.truth] / t).mean()
        for t in np.arange(0.9, 1.2, 0.0005)
    }  # fmt: skip
    assert found["temperature"] == pytest.approx(min(losses, key=lambda t: losses[t]), abs=1e-3)


@pytest.mark.parametrize("accuracy", [0.8, 0.9, 0.95])
def test_a_threshold_from_half_of_the_real_pictures_holds_on_the_other_half(
    real_json: tuple[Any, Judged], accuracy: float
) -> None:
    _, judged = real_json
    random, held, there = np.random.default_rng(0), 0, []
    for _ in range(400):
        order = random.permutation(300)
        chosen, other = order[:150], order[150:]
        point = fitting.threshold(judged.score[chosen], judged.right[chosen], accuracy)
        assert point is not None
        answered = judged.score[other] >= point.threshold
        rate = metrics.Rate.of(judged.right[other][answered])
        there.append(rate.value)
        held += rate.interval[1] >= accuracy
    assert np.mean(there) >= accuracy
    assert held >= 0.95 * 400
