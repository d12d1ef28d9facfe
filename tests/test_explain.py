"""`vit explain`: a drawing for each picture, one row each, nothing overwritten, and a check that can say no."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import noise, save_reference
from PIL import Image

import vitcli
from vitcli.drawings import Drawings
from vitcli.errors import OutputError, PictureError
from vitcli.explainer import Explainer, Explanation, Reason
from vitcli.labels import Labels
from vitcli.results import Label
from vitcli.sources import Input
from vitcli.streaming import Prepared, stream

Vit = Callable[..., Any]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_picture_is_drawn_at_its_own_size_and_told(vit: Vit, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, size in (("a.jpg", (500, 300)), ("b.png", (400, 700))):
        noise(1, size).save(folder / name)
    done = vit("explain", folder, "-m", tiny, "-o", tmp_path / "out", "--format", "jsonl", "--raw")
    assert done.returncode == 0, done.stderr
    rows = lines(done.stdout)
    assert [row["path"] for row in rows] == [str(folder / "a.jpg"), str(folder / "b.png")]
    for row, size in zip(rows, ((500, 300), (400, 700)), strict=True):
        assert Path(row["drawing"]).parent == tmp_path / "out"
        with Image.open(row["drawing"]) as drawing:
            assert drawing.width == size[0]
            assert drawing.height > size[1]
        stem = row["drawing"].removesuffix(".jpg")
        maps = np.load(stem + ".npy")
        assert (maps.shape, maps.dtype) == ((1, 2, 2), np.float32)
        assert json.loads(Path(stem + ".json").read_text())["reasons"] == row["reasons"]
        np.testing.assert_array_equal(maps[0], np.float32(row["reasons"][0]["map"]))
    best = lines(vit("classify", folder, "-m", tiny, "--format", "jsonl").stdout)
    assert [row["reasons"][0]["label"] for row in rows] == [row["top"][0]["label"] for row in best]
    for row, other in zip(rows, best, strict=True):
        assert row["reasons"][0]["score"] == pytest.approx(other["top"][0]["score"], abs=1e-5)


def test_explanations_that_are_there_are_overwritten_with_force_alone(vit: Vit, tiny: Path, picture: Path,
                                                                      tmp_path: Path) -> None:  # fmt: skip
    out = tmp_path / "out"
    assert vit("explain", picture, "-m", tiny, "-o", out).returncode == 0
    before = (out / "noise.explained.jpg").read_bytes()
    (out / "notes.txt").write_text("mine")
    again = vit("explain", picture, "-m", tiny, "-o", out, "--style", "contours")
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
    assert "--force" in again.stderr
    assert (out / "noise.explained.jpg").read_bytes() == before
    assert vit("explain", picture, "-m", tiny, "-o", out, "--style", "contours", "--force").returncode == 0
    assert (out / "noise.explained.jpg").read_bytes() != before
    assert sorted(path.name for path in out.iterdir()) == ["noise.explained.jpg", "notes.txt"]


def test_what_cannot_be_read_is_a_row_and_costs_no_neighbour(vit: Vit, tiny: Path, picture: Path,
                                                             tmp_path: Path) -> None:  # fmt: skip
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(picture.read_bytes()[:200])
    done = vit("explain", broken, picture, tmp_path / "none.jpg", "-m", tiny, "-o", tmp_path / "out", "-f", "jsonl")
    assert done.returncode == 3
    assert [row["status"] for row in lines(done.stdout)] == ["failed", "ok", "failed"]
    told = vit("explain", broken, picture, "-m", tiny, "-o", tmp_path / "more")
    assert told.stdout.startswith(f"{broken}: The JPEG data ends too early")
    assert f"Wrote {tmp_path / 'more'}." in told.stderr


def test_the_summary_says_where_drawings_went_and_what_a_folder_holds_besides(
    vit: Vit, tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        noise(1).save(folder / name)
    (folder / "bad.jpg").write_bytes(b"nothing")
    (folder / "more.zip").write_bytes(b"PK")
    done = vit("explain", folder, "-m", tiny, "-o", tmp_path / "out")
    assert done.returncode == 3
    assert "2 classified, 1 failed" in done.stderr
    assert "1 archive" in done.stderr
    assert f"Wrote {tmp_path / 'out'}." in done.stderr
    assert "rows" not in done.stderr


def test_classes_stand_side_by_side_each_with_its_own_map(vit: Vit, tiny: Path, picture: Path, tmp_path: Path) -> None:
    done = vit("explain", picture, "-m", tiny, "-o", tmp_path / "out", "-c", "LABEL_3", "-c", "5", "-c", "3", "-f",
               "jsonl")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = lines(done.stdout)
    assert [reason["index"] for reason in row["reasons"]] == [3, 5]
    assert row["reasons"][0]["map"] != row["reasons"][1]["map"]
    with Image.open(row["drawing"]) as drawing:
        assert drawing.width > 2 * 360


def test_a_class_that_is_none_is_named_before_anything_is_done(vit: Vit, tiny: Path, picture: Path,
                                                               tmp_path: Path) -> None:  # fmt: skip
    done = vit("explain", picture, "-m", tiny, "-o", tmp_path / "out", "--class", "zebra")
    assert done.returncode == 2
    assert "zebra" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_broader_term_is_no_class(vit: Vit, picture: Path, tmp_path: Path) -> None:
    model = save_reference(tmp_path / "model", num_labels=1000)
    done = vit("explain", picture, "-m", model, "--labels", wordnet_labels(tmp_path), "--class", "dog", "-o", tmp_path)
    assert done.returncode == 2
    assert "not one class" in done.stderr


def wordnet_labels(folder: Path) -> Path:
    """The 1000 classes of ImageNet, as a file."""
    labels = Labels.imagenet1k()
    path = folder / "labels.txt"
    path.write_text("".join(f"{w} {n}\n" for w, n in zip(labels.wnids, labels.names, strict=True)))
    return path


def test_one_map_for_all_classes_is_said_to_be_that(vit: Vit, tiny: Path, picture: Path, tmp_path: Path) -> None:
    done = vit("explain", picture, "-m", tiny, "-o", tmp_path / "out", "-c", "1", "-c", "2", "--method", "rollout",
               "-f", "jsonl")  # fmt: skip
    (row,) = lines(done.stdout)
    assert row["class_specific"] is False
    assert row["reasons"][0]["map"] == row["reasons"][1]["map"]
    assert "same for every class" in done.stderr


def test_names_that_meet_in_the_folder_are_told_apart(vit: Vit, tiny: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        noise(3).save(tmp_path / name / "cat.jpg")
    noise(4).save(tmp_path / "two" / "Cat.png")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "one" / "cat.jpg", "sub/cat.jpg")
    done = vit("explain", tmp_path / "one", tmp_path / "two", tmp_path / "z.zip", "-m", tiny, "-o", tmp_path / "out",
               "-f", "jsonl")  # fmt: skip
    assert done.returncode == 0, done.stderr
    drawings = [Path(row["drawing"]).name for row in lines(done.stdout)]
    assert len({name.casefold() for name in drawings}) == 4
    assert all((tmp_path / "out" / name).is_file() for name in drawings)


@pytest.mark.parametrize(("path", "stem"), [
    ("a/b/cat.jpg", "cat"), ("x.zip!/dir/cat.jpg", "cat"), ("C:\\pictures\\cat.jpg", "cat"), ("con.jpg", "_con"),
    ("what?.png", "what_"), ("..", "picture"), ("caf\udce9.jpg", "caf_xe9"), ("é" * 200 + ".jpg", "é" * 60),
    ("two\nlines.jpg", "two_lines"), ("https://host/a.jpg?size=3", "a"),
])  # fmt: skip
def test_a_drawings_name_is_one_that_every_system_takes(path: str, stem: str, tmp_path: Path) -> None:
    with Drawings(tmp_path / "out") as drawings:
        assert drawings.stem(path) == f"{stem}.explained"
        assert drawings.stem(path) == f"{stem} (2).explained"


def explanation(path: str, size: tuple[int, int], without: float = 0.1) -> Explanation:
    label = Label(1, None, "cat", 0.9)
    reason = Reason(label, np.eye(2, dtype=np.float32), without, 0.5)
    return Explanation(path, (label,), size, seen=(0, 0, *size), reasons=(reason,))


def test_a_picture_that_has_changed_since_is_not_drawn_on(tmp_path: Path) -> None:
    noise(1, (30, 20)).save(tmp_path / "a.png")
    with Drawings(tmp_path / "out") as drawings, pytest.raises(PictureError, match="changed"):
        drawings.save(Input("a.png", tmp_path / "a.png"), explanation("a.png", (20, 30)))
    assert list((tmp_path / "out").iterdir()) == []


def test_two_runs_do_not_draw_into_one_folder(tmp_path: Path) -> None:
    with Drawings(tmp_path / "out"), pytest.raises(OutputError, match="Another run"), Drawings(tmp_path / "out"):
        pass
    assert not list(tmp_path.glob(".*"))


def test_a_side_that_no_jpeg_has_is_drawn_as_png(tmp_path: Path) -> None:
    wide = Image.new("RGB", (66_000, 2))
    with Drawings(tmp_path / "out") as drawings:
        path = drawings.save(Input("wide.png", picture=wide), explanation("wide.png", wide.size))
    assert path.suffix == ".png"


def test_a_map_that_tells_nothing_says_so() -> None:
    from vitcli.drawings import checked

    good, bad = (explanation("a.png", (1, 1), without).reasons[0] for without in (0.1, 0.5))
    assert not checked(good).startswith("tells nothing")
    assert checked(bad).startswith("tells nothing")


def test_the_check_finds_a_network_that_needs_one_patch(tmp_path: Path) -> None:
    """A network that sees one corner only: its map marks the corner, and the score falls without it."""
    import torch

    folder = save_reference(tmp_path / "model", image_size=64)
    classifier = vitcli.load(folder, device="cpu", engine="torch")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    explainer = Explainer(classifier)
    logits, (reason,) = explainer.explained(pixels)
    # every answer is recomputed here from the picture with the patches that the map marks painted over by hand
    worst = np.unravel_index(reason.map.argmax(), reason.map.shape)
    hidden = pixels.copy()
    top, left = (int(index) * 16 for index in worst)
    order = np.argsort(-reason.map.ravel(), kind="stable")[:2]
    for patch in order:
        top, left = int(patch) // 4 * 16, int(patch) % 4 * 16
        hidden[top : top + 16, left : left + 16] = pixels.mean(axis=(0, 1)).round()
    expected = classifier.labels.scores(classifier.logits(hidden[None])[0])[reason.label.index]
    assert reason.without == pytest.approx(float(expected), abs=1e-6)
    assert reason.label.index == int(logits.argmax())
    assert torch.is_grad_enabled()


def test_a_stream_of_explanations_is_one_for_one_and_in_order(tiny: Path) -> None:
    explainer = Explainer(vitcli.load(tiny, device="cpu", engine="torch"), classes=(2,))
    pictures = [np.asarray(noise(seed)) for seed in range(5)]
    found = list(stream(explainer, [*pictures, b"nothing"], batch=2))
    assert [getattr(result, "error", "ok") for result in found] == ["ok"] * 5 + ["not_a_picture"]
    alone = explainer.answer(
        Prepared("", explainer.preprocess.resized(noise(3)), (48, 40), ()),
        explainer.explained(explainer.preprocess.resized(noise(3))),
    )
    third = found[3]
    assert isinstance(third, Explanation)
    np.testing.assert_allclose(third.reasons[0].map, alone.reasons[0].map, atol=1e-6)
