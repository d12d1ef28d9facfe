"""`vit evaluate`: the figures are the same however pictures are labelled, whatever happens to the run."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from awkward import noise
from PIL import Image

import vitcli
from vitcli.classifier import Classifier
from vitcli.decision import Only
from vitcli.errors import OutputError
from vitcli.evaluation.judging import Judge, Nowhere
from vitcli.evaluation.scores import Gathered, Judged, Spool, SpooledLogits, blocks, judged
from vitcli.labels import Labels, imagenet1k
from vitcli.results import Prediction
from vitcli.sources import inputs
from vitcli.streaming import stream
from vitcli.truth import Counts, Labelled, Right, Source
from vitcli.truth.classes import Classes
from vitcli.writers import Options

Vit = Callable[..., "subprocess.CompletedProcess[str]"]
KEPT = (0, 1, 2, 134, 281, 285, 517, 638, 657, 999)  # of ImageNet, both cranes among them
ROWS = [imagenet1k()[index] for index in KEPT]
LABELS = Labels(tuple(row[2] for row in ROWS), tuple(row[0] for row in ROWS))
COUNT = 40


@pytest.fixture(scope="module")
def classifier(tiny: Path) -> Classifier:
    """Ten classes of ImageNet, made up weights."""
    return vitcli.load(tiny, engine="numpy", labels=LABELS)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, classifier: Classifier) -> dict[str, int]:
    """Pictures in a folder and their classes; the network is right about half of them."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    found = {}
    for i in range(COUNT):
        colours = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        path = folder / f"ILSVRC2012_val_{i + 1:08d}.png"
        Image.fromarray(colours).resize((40, 40), Image.Resampling.NEAREST).save(path)
        found[str(path)] = classifier(path).top[0].index if i % 2 else int(rng.integers(10))
    assert len({*found.values()} - {1}) == len({*found.values()} - {1, None}) > 3
    return found


def judge(classifier: Classifier, source: Source) -> Judged:
    """The figures of the pictures of a source."""
    only = frozenset(classifier.only.classes) if classifier.only else None
    labelled = Labelled(source, classifier.labels, only)
    spool = Spool(None, len(classifier.labels), {}, resume=False)
    run = Judge(classifier, labelled, (lambda: Nowhere(Options()), lambda: spool))
    with run:
        for result in stream(run, inputs(source.names), batch=4, wanted=run.wanted):
            run.write(result)
    return run.judged()


def figures(found: Judged) -> tuple[int, int, int, tuple[tuple[str, int, int, float], ...]]:
    """What must not depend on how pictures are labelled: each picture by its name, its class and its answer."""
    each = sorted(
        (Path(path).name, int(truth), int(best[0]), float(score))
        for path, truth, best, score in zip(found.paths, found.truth, found.best, found.score, strict=True)
    )
    return len(found), int(found.right.sum()), int(found.right5.sum()), tuple(each)


def expected(classifier: Classifier, pictures: dict[str, int]) -> object:
    """The same by the classifier alone, a picture at a time."""
    answers = {path: classifier(path) for path in pictures}
    return (
        len(pictures),
        sum(answer.top[0].index == pictures[path] for path, answer in answers.items()),
        sum(pictures[path] in [label.index for label in answer.top] for path, answer in answers.items()),
        tuple(
            sorted((Path(path).name, pictures[path], answer.top[0].index, pytest.approx(answer.top[0].score, abs=1e-6))  # type: ignore[misc]
                   for path, answer in answers.items())
        ),
    )  # fmt: skip


def into_folders(pictures: dict[str, int], folder: Path, name: Callable[[int], str]) -> Source:
    for path, truth in pictures.items():
        (folder / name(truth)).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / name(truth))
    return Source.of([str(folder)])


def into_table(pictures: dict[str, int], file: Path, separator: str) -> Source:
    lines = [f"file{separator}label", *(f"{path}{separator}{LABELS.wnids[t]}" for path, t in pictures.items())]
    file.write_text("\n".join(lines), encoding="utf-8")
    return Source.of([str(file)])


def into_jsonl(pictures: dict[str, int], folder: Path) -> Path:
    file = folder / "labels.jsonl"
    lines = [json.dumps({"file_name": Path(path).name, "label": t}) for path, t in pictures.items()]
    file.write_text("\n".join(reversed(lines)), encoding="utf-8")
    return file


def into_metadata(pictures: dict[str, int], folder: Path, ending: str) -> Source:
    for path in pictures:
        shutil.copy(path, folder)
    files, labels = [Path(path).name for path in pictures], [LABELS.names[t] for t in pictures.values()]
    if ending == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"file_name": files, "label": labels}), folder / "metadata.parquet")
    elif ending == "jsonl":
        rows = zip(files, labels, strict=True)
        text = "\n".join(json.dumps({"file_name": file, "label": label}) for file, label in rows)
        (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    else:
        with (folder / "metadata.csv").open("w", newline="") as text:
            csv.writer(text).writerows([("file_name", "label"), *zip(files, labels, strict=True)])
    return Source.of([str(folder)])


def into_ilsvrc(pictures: dict[str, int], folder: Path) -> Source:
    numbers = dict(enumerate(np.random.default_rng(1).permutation(10) + 1))  # the kit's own, in no order of ours
    lines = "\n".join(f"{LABELS.wnids[i]} {number} {LABELS.names[i]}" for i, number in numbers.items())
    (folder / "map_clsloc.txt").write_text(lines, encoding="utf-8")
    truth = folder / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("\n".join(str(numbers[t]) for t in pictures.values()), encoding="utf-8")
    return Source.of([str(Path(next(iter(pictures))).parent)], table=truth)


def into_tar(pictures: dict[str, int], folder: Path, labelled: bool) -> Source:
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for path, truth in pictures.items():
            own = Path(path).name if labelled else f"{LABELS.wnids[truth]}/{Path(path).name}"
            tar.add(path, own)
            if labelled:
                info = tarfile.TarInfo(str(Path(own).with_suffix(".cls")))
                info.size = len(str(truth))
                tar.addfile(info, io.BytesIO(str(truth).encode()))
    return Source.of([str(folder / "shard.tar")])


def into_zip(pictures: dict[str, int], folder: Path) -> Source:
    with zipfile.ZipFile(folder / "a.zip", "w") as pack:
        for path, truth in pictures.items():
            pack.write(path, f"val/{LABELS.names[truth]}/{Path(path).name}")
    return Source.of([str(folder / "a.zip")])


def synonym(index: int) -> str:
    """A further name of a class, in other letters."""
    names = ROWS[index][1].split(", ")
    mine = next((name for name in reversed(names) if len(Classes(LABELS).find(name)) == 1), LABELS.names[index])
    return mine.upper().replace(" ", "_")


LAYOUTS: dict[str, Callable[[dict[str, int], Path], Source]] = {
    "folders by wnid": lambda found, to: into_folders(found, to, lambda t: str(LABELS.wnids[t])),
    "folders by name": lambda found, to: into_folders(found, to, lambda t: LABELS.names[t]),
    "folders by synonym": lambda found, to: into_folders(found, to, synonym),
    "folders by index": lambda found, to: into_folders(found, to, str),
    "csv": lambda found, to: into_table(found, to / "a.csv", ","),
    "tsv": lambda found, to: into_table(found, to / "a.tsv", "\t"),
    "truth": lambda found, to: Source.of([*found], table=into_jsonl(found, to)),
    "metadata.csv": lambda found, to: into_metadata(found, to, "csv"),
    "metadata.jsonl": lambda found, to: into_metadata(found, to, "jsonl"),
    "metadata.parquet": lambda found, to: into_metadata(found, to, "parquet"),
    "ilsvrc": into_ilsvrc,
    "cls": lambda found, to: into_tar(found, to, True),
    "tar of folders": lambda found, to: into_tar(found, to, False),
    "zip of folders": into_zip,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("missing", [False, True])
def test_every_layout_gives_the_same_figures(
    classifier: Classifier, pictures: dict[str, int], tmp_path: Path, layout: str, missing: bool
) -> None:
    """Also when a class in the middle has no picture."""
    if missing and layout != "ilsvrc":  # whose pictures are numbered
        pictures = {path: truth for path, truth in pictures.items() if truth != sorted({*pictures.values()})[1]}
    found = judge(classifier, LAYOUTS[layout](pictures, tmp_path))
    assert figures(found) == expected(classifier, pictures)
    counts = found.counts
    assert (counts.inputs, counts.failed, counts.unlabelled, counts.missing) == (len(pictures), {}, 0, 0)


BREAK: dict[str, Callable[[Classes, str], frozenset[int]]] = {
    "the next class": lambda self, label: frozenset((index + 1) % 10 for index in Classes.find(self, label)),
    "numbers sorted as text": lambda self, label: frozenset({sorted(map(str, range(11))).index(label) % 10}),
    "nothing": lambda self, label: frozenset(),
    "the first of several": lambda self, label: frozenset(sorted(self.others.get(label.casefold(), ()))[:1]),
}


@pytest.mark.parametrize("how", BREAK)
def test_matching_that_is_broken_on_purpose_changes_the_figures(
    classifier: Classifier, pictures: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    source = into_folders(pictures, tmp_path, str)
    right = expected(classifier, pictures)
    assert figures(judge(classifier, source)) == right
    broken = BREAK[how]
    whole = Classes.find

    class Broken(Classes):
        def find(self, label: str) -> frozenset[int]:
            with monkeypatch.context() as patch:
                patch.setattr(Classes, "find", whole)
                return broken(self, label)

    monkeypatch.setattr("vitcli.truth.Classes", Broken)
    monkeypatch.setattr(Broken, "check", lambda *_: None)
    assert figures(judge(classifier, source)) != right


def test_the_classes_of_a_file_are_ranked_among_themselves(classifier: Classifier, pictures: dict[str, int]) -> None:
    """As ImageNet-A and -R are measured: only those logits are kept, then ranked."""
    kept = (1, 3, 4, 6, 8, 9)
    table = Source.of([*pictures], table=_table(pictures))
    found = judge(vitcli.load(classifier.checkpoint.path, engine="numpy", labels=LABELS), table)
    part = judge(_only(classifier, kept), table)
    inside = [i for i, truth in enumerate(found.truth) if truth in kept]
    assert list(part.paths) == [found.paths[i] for i in inside]
    logits = np.concatenate([rows for _, rows in blocks(found.logits, 7)])[inside][:, kept]
    np.testing.assert_array_equal(part.logits[0 : len(part)], logits)
    again = judged(part.labels, logits, [kept.index(found.truth[i]) for i in inside])
    for name in ("truth", "best", "score", "right", "right5"):
        np.testing.assert_array_equal(getattr(part, name), getattr(again, name), name)
    assert part.classes == kept
    assert part.labels.names == tuple(LABELS.names[index] for index in kept)
    assert part.counts.excluded.total() == len(pictures) - len(inside)


def _table(pictures: dict[str, int]) -> Path:
    file = Path(next(iter(pictures))).parent / "truth.txt"
    file.write_text("\n".join(f"{Path(path).name} {truth}" for path, truth in pictures.items()), encoding="utf-8")
    return file


def _only(classifier: Classifier, kept: tuple[int, ...]) -> Classifier:
    return Classifier(
        classifier.name, classifier.revision, classifier.checkpoint, classifier.backend, 5, Only(kept, ("classes",))
    )


def test_real_labels_count_beside_others_and_alone(
    classifier: Classifier, pictures: dict[str, int], tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    lists = [sorted(rng.choice(10, rng.integers(0, 4), replace=False).tolist()) for _ in pictures]
    (tmp_path / "real.json").write_text(json.dumps([[KEPT[index] for index in own] for own in lists]))
    answers = [classifier(path).top for path in pictures]
    both = judge(classifier, Source.of([*pictures], table=_table(pictures), real=tmp_path / "real.json"))
    assert both.real is not None
    assert both.real.tolist() == [
        (-1 if not own else int(top[0].index in own)) for own, top in zip(lists, answers, strict=True)
    ]
    assert both.truth.tolist() == [*pictures.values()]
    alone = judge(classifier, Source.of([*pictures], real=tmp_path / "real.json"))
    kept = [(own, top) for own, top in zip(lists, answers, strict=True) if own]
    assert alone.truth.tolist() == [own[0] if len(own) == 1 else -1 for own, _ in kept]
    assert alone.right.tolist() == [top[0].index in own for own, top in kept]
    assert alone.right5.tolist() == [any(label.index in own for label in top) for own, top in kept]
    assert alone.counts.unlabelled == lists.count([])


def test_the_kept_logits_are_the_networks_in_any_order(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).standard_normal((3000, 7)).astype(np.float32)
    spool = Spool(None, 7, {}, resume=False)
    for row in logits:
        spool.add(bytes(16), row)
    for order in (np.arange(3000), np.random.default_rng(1).permutation(3000), np.arange(0, 3000, 3), np.arange(0)):
        for columns in (None, (6, 0, 3)):
            found = SpooledLogits(spool, order.astype(np.int64), columns)
            whole = logits[order] if columns is None else logits[order][:, columns]
            assert found.shape == whole.shape
            np.testing.assert_array_equal(found[0 : len(order)], whole)
            np.testing.assert_array_equal(found[1:5], whole[1:5])
            assert sum(len(rows) for _, rows in blocks(found, 100)) == len(order)


def test_memory_does_not_grow_with_the_logits() -> None:
    """10,000 pictures of 1,000 classes are 40 MB of logits: two blocks of them are held at most."""
    import tracemalloc

    row = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    spool, gathered = Spool(None, 1000, {}, resume=False), Gathered(Labels.imagenet1k())
    tracemalloc.start()
    try:
        for i in range(10_000):
            number = spool.add(bytes(16), row)
            gathered.add(i, number, f"val/n01440764/ILSVRC2012_val_{i:08d}.JPEG", Right(0), range(5), 0.5)
        each = tracemalloc.get_traced_memory()[0] / 10_000
        found = gathered.judged(spool, Counts())
        assert sum(len(rows) for _, rows in blocks(found.logits)) == 10_000
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert each < 200
    assert most < 16e6


# The command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of two pictures, a folder that is no class, and one that is several."""
    for label in ("tench", "n01443537", "2", "nothing", "crane"):
        (tmp_path / "val" / label).mkdir(parents=True)
        for i in range(2):
            noise(i + 7 * len(label)).save(tmp_path / "val" / label / f"{i}.png")
    return tmp_path / "val"


@pytest.fixture
def options(tiny: Path, tmp_path: Path) -> list[object]:
    """Which model."""
    (tmp_path / "labels.json").write_text(json.dumps([[w, n] for n, w in zip(LABELS.names, LABELS.wnids, strict=True)]))
    return ["--model", tiny, "--labels", tmp_path / "labels.json", "--engine", "numpy", "--batch", 4]


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def lasting(report: str) -> dict[str, object]:
    """A report without what no two runs have in common."""
    found: dict[str, object] = json.loads(report)
    assert found["n"]
    return {key: value for key, value in found.items() if key not in ("seconds", "pictures_per_second")}


def test_a_row_shows_the_truth_and_whether_it_was_met(
    vit: Vit, folder: Path, options: list[object], tmp_path: Path
) -> None:
    (folder / "tench" / "bad.png").write_bytes(b"no picture")
    out, failures = tmp_path / "out.jsonl", tmp_path / "failures.jsonl"
    done = vit("evaluate", folder, "-o", out, "--failures", failures, *options)
    assert done.returncode == 3, done.stderr
    found = {os.path.relpath(str(row["path"]), folder): row for row in rows(out)}
    assert len(found) == 11
    for name, truth, index in (("tench/0.png", "tench", 0), ("n01443537/1.png", "goldfish", 1)):
        row = found[name]
        order = [label["index"] for label in row["top"]]  # type: ignore[attr-defined]
        assert (row["truth"], row["truth_index"]) == ([truth], [index])
        assert row["correct"] is (order[0] == index)
        assert index not in order or row["truth_rank"] == 1 + order.index(index)
    assert found["tench/bad.png"]["truth"] == ["tench"]
    assert found["tench/bad.png"]["error"] == "not_a_picture"
    assert [row["path"] for row in rows(failures)] == [str(folder / "tench" / "bad.png")]
    assert not {"truth", "correct"} & {key for key, value in found["crane/0.png"].items() if value is not None}
    assert "2 pictures have labels of no class and were not judged: nothing." in " ".join(done.stderr.split())
    assert "crane (3 crane (bird) or 6 crane (machine))" in " ".join(done.stderr.split())


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet", "sqlite"])
def test_rows_go_to_every_format(vit: Vit, folder: Path, options: list[object], tmp_path: Path, ending: str) -> None:
    done = vit("evaluate", folder, "-o", tmp_path / f"out.{ending}", *options, "--format", "json")
    assert done.returncode == 0, done.stderr
    again = vit("evaluate", folder, "-o", tmp_path / f"out.{ending}", *options, "--format", "json", "--resume")
    assert again.returncode == 0, again.stderr
    assert "Nothing was left to do: 10 were done before." in again.stderr


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "sqlite"])
def test_a_run_that_is_killed_ends_with_the_figures_of_an_unbroken_one(
    classifier: Classifier, tiny: Path, options: list[object], vit: Vit, tmp_path: Path, ending: str
) -> None:
    """Killed at any moment, also between the logits and their row, with failures among the pictures."""
    for i in range(60):
        (tmp_path / "val" / str(i % 10)).mkdir(parents=True, exist_ok=True)
        noise(i).save(tmp_path / "val" / str(i % 10) / f"{i}.png")
    (tmp_path / "val" / "3" / "3.png").write_bytes(b"no picture")
    arguments = ["evaluate", tmp_path / "val", tmp_path / "val" / "5", *options, "--format", "json"]
    out = tmp_path / f"out.{ending}"
    start = time.monotonic()
    whole = vit(*arguments, "-o", tmp_path / f"whole.{ending}")
    took = time.monotonic() - start
    assert whole.returncode == 3, whole.stderr
    for part in (0.5, 0.7, 0.9):
        command = [Path(sys.executable).with_name("vit"), *map(str, arguments), "-o", out, "--resume"]
        run = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(part * took)
        run.kill()
        run.wait()
    done = vit(*arguments, "-o", out, "--resume")
    assert done.returncode in (0, 3), done.stderr
    assert lasting(done.stdout) == lasting(whole.stdout)
    noise(3).save(tmp_path / "val" / "3" / "3.png")
    retried = vit(*arguments, "-o", out, "--retry-failed")
    assert retried.returncode == 0, retried.stderr
    fresh = vit(*arguments, "-o", tmp_path / f"fresh.{ending}")
    assert lasting(retried.stdout) == lasting(fresh.stdout)


def test_figures_after_a_resume_are_those_of_an_unbroken_run_to_the_bit(
    classifier: Classifier, pictures: dict[str, int], tmp_path: Path
) -> None:
    """In the order of the inputs, although some logits were kept before others."""
    from vitcli.writers import open_output

    table = Source.of([*pictures], table=_table(pictures))

    def run(names: Sequence[str], out: Path, resume: bool) -> Judged:
        settings = Options(resume=resume, extra=frozenset({"truth"}))
        part = Source((*names,), Source.of([], table=_table(pictures)).table, (), None, ())
        own = Judge(
            classifier,
            Labelled(part, classifier.labels),
            (
                lambda: open_output(out, None, {"model": "tiny"}, settings),
                lambda: Spool(out.with_name(f".{out.name}.vit-logits"), 10, {"model": "tiny"}, resume=resume),
            ),
        )
        with own:
            for result in stream(own, inputs(names), batch=4, pad=True, wanted=own.wanted):
                assert not isinstance(result, Prediction) or result.truth is not None
                own.write(result)
        return own.judged()

    names = list(table.names)
    whole = run(names, tmp_path / "whole.jsonl", False)
    run(names[10:25], tmp_path / "out.jsonl", False)
    run(names[5:7], tmp_path / "out.jsonl", True)
    with (tmp_path / ".out.jsonl.vit-logits").open("ab") as kept:  # a run that was killed within a row
        kept.write(b"x" * 17)
    found = run(names, tmp_path / "out.jsonl", True)
    assert list(found.paths) == list(whole.paths) == names
    for name in ("truth", "best", "score", "right", "right5"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name), name)
    np.testing.assert_array_equal(found.logits[0:COUNT], whole.logits[0:COUNT])
    logits = tmp_path / ".out.jsonl.vit-logits"
    data = bytearray(logits.read_bytes())
    data[-3] ^= 1
    logits.write_bytes(data)
    with pytest.raises(OutputError, match="is damaged"):
        run(names, tmp_path / "out.jsonl", True)
    logits.unlink()
    with pytest.raises(OutputError, match="does not hold the outputs of"):
        run(names, tmp_path / "out.jsonl", True)


def test_other_labels_are_other_rows(vit: Vit, folder: Path, options: list[object], tmp_path: Path) -> None:
    names = sorted(str(path) for path in folder.rglob("*.png"))
    truth = tmp_path / "truth.csv"
    for labels in (["0"] * 10, ["0"] * 9 + ["1"]):
        truth.write_text("file,label\n" + "".join(f"{n},{t}\n" for n, t in zip(names, labels, strict=True)))
        done = vit("evaluate", folder, "--truth", truth, "-o", tmp_path / "out.csv", "--resume", *options)
    assert done.returncode == 1
    assert "was made with other settings (truth.tables" in done.stderr


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ([], 2, "Name at least one folder or file of labelled pictures"),
        (["nowhere"], 1, "Not one picture could be judged"),
        (["val/nothing"], 2, "none of the labels (nothing) is a class of this model"),
        (["val", "--truth", "labels.json"], 2, "labels.json"),
        (["val", "--truth", "val"], 2, "--truth"),
        (["val", "--resume"], 2, "name it with -o"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_said(
    vit: Vit, folder: Path, options: list[object], given: list[str], status: int, says: str
) -> None:
    done = vit("evaluate", *given, *options, cwd=folder.parent)
    assert says in " ".join(done.stderr.split())
    assert done.returncode in (status, 3)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_nothing_that_is_read_is_written_over(vit: Vit, folder: Path, options: list[object], tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("file,label\n0.png,0\n")
    done = vit("evaluate", folder, "--truth", truth, "-o", truth, "--force", *options)
    assert (done.returncode, truth.read_text()) == (2, "file,label\n0.png,0\n")
    done = vit("evaluate", folder, "-o", tmp_path / ".a.csv.vit-logits", *options, "--force")
    assert done.returncode == 2, done.stderr


# Real pictures


@pytest.fixture(scope="module")
def labelled(images: Path) -> list[dict[str, str]]:
    """The rows of labels.csv: file, index, wnid, real."""
    with (images / "labelled" / "labels.csv").open(newline="") as text:
        return list(csv.DictReader(text))


def test_the_figures_of_300_pictures_are_those_known_of_this_model(
    weights: Path, images: Path, labelled: list[dict[str, str]], tmp_path: Path
) -> None:
    """78.33 and 94.00 per cent; by ReaL as counted here."""
    lists: list[list[int]] = [[] for _ in range(50_000)]
    for row in labelled:
        lists[int(row["file"].partition(".")[0][-8:]) - 1] = [int(index) for index in row["real"].split()]
    (tmp_path / "real.json").write_text(json.dumps(lists))
    source = Source.of(
        [str(images / "labelled" / "images")],
        table=images / "labelled" / "labels.csv",
        real=tmp_path / "real.json",
    )
    classifier = vitcli.load(weights)
    found = judge(classifier, source)
    assert len(found) == 300
    assert round(100 * found.right.mean(), 2) == 78.33
    assert round(100 * found.right5.mean(), 2) == 94.00
    answers = {Path(path).name: int(best[0]) for path, best in zip(found.paths, found.best, strict=True)}
    judged_by_real = [row for row in labelled if row["real"]]
    hits = sum(answers[row["file"]] in map(int, row["real"].split()) for row in judged_by_real)
    assert found.real is not None
    assert Counter(found.real.tolist()) == {
        1: hits, 0: len(judged_by_real) - hits, -1: len(labelled) - len(judged_by_real),
    }  # fmt: skip
    assert found.truth.tolist() == [int(row["index"]) for row in sorted(labelled, key=lambda row: row["file"])]
