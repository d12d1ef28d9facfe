"""`--decode fast`: what it keeps, what it leaves alone, and how little it moves.

Pictures are [h w 3]; those with an odd number of pixels are the ones that do not divide by 2, 4 and 8.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitcli.classifier import Classifier
from vitcli.classifier import load as load_classifier
from vitcli.errors import PictureError
from vitcli.pictures.images import FAST_MARGIN, load
from vitcli.pictures.preprocess import FAMILIES, Preprocess

Vit = Callable[..., subprocess.CompletedProcess[str]]

STORED = {  # how pixels lie in the file when EXIF says they must be turned
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def stripes(width: int, height: int) -> Image.Image:
    """Soft stripes across and down, a few pixels wide once resized: whatever shifts or stretches them shows."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin(x / 15), np.sin(y / 15), np.sin((x + y) / 20)]
    return Image.fromarray((127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8))


def jpeg(image: Image.Image, orientation: int = 1, **options: Any) -> bytes:
    """`image` as a JPEG that EXIF says to turn: upright, it looks as given."""
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored = image if turn is None else image.transpose(turn)
    stored.save(file, "JPEG", **({"exif": exif, "quality": 95, "subsampling": 0} | options))
    return file.getvalue()


def both(data: bytes, preprocess: Preprocess) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The network's input [s s 3] decoded exactly, and fast."""
    exact, fast = load(data), load(data, decode="fast", at_least=preprocess.at_least)
    assert "fast decode" in fast.notes
    return preprocess.resized(exact.image).astype(int), preprocess.resized(fast.image, fast.reduced).astype(int)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("size", [(640, 512), (641, 513), (639, 515), (517, 643)], ids=str)
def test_nothing_shifts_whatever_the_size_and_the_orientation(size: tuple[int, int], orientation: int) -> None:
    for family in ("hf", "timm"):  # both sides squashed, and the shortest resized and cropped
        exact, fast = both(jpeg(stripes(*size), orientation), FAMILIES[family](64))
        assert np.abs(exact - fast).mean() < 0.7
        assert np.abs(exact - fast)[2:-2, 2:-2].max() <= 4


def test_a_long_picture_is_cropped_in_the_same_place() -> None:
    exact, fast = both(jpeg(stripes(131, 20_001), 6), Preprocess(32, 32, "shortest", "bicubic"))
    assert np.abs(exact - fast)[2:-2, 2:-2].max() <= 4


@pytest.mark.parametrize("at_least", [32, 224, 256, 384, 512])
def test_no_picture_becomes_smaller_than_the_margin(at_least: int) -> None:
    for short in (at_least - 1, 4 * at_least - 1, 4 * at_least, 8 * at_least + 3, 16 * at_least, 17 * at_least - 1):
        data = jpeg(Image.new("L", (short, short + 9)))
        picture = load(data, decode="fast", at_least=at_least)
        made = min(picture.image.size)
        needed = math.ceil(FAST_MARGIN * at_least)
        assert made == short if picture.notes == () else made >= needed
        assert (short >= 2 * needed) == (picture.notes == ("fast decode",))


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_size_is_the_whole_upright_pictures(orientation: int) -> None:
    picture = load(jpeg(stripes(1601, 1203), orientation), decode="fast", at_least=32)
    assert picture.size == (1601, 1203)
    assert picture.image.size == (201, 151)
    assert picture.reduced is not None
    left, top, right, bottom = picture.reduced.box
    assert (right - left, bottom - top) == (1601 / 8, 1203 / 8)
    assert picture.reduced.whole == (1601, 1203)


def test_small_pictures_and_other_formats_are_decoded_exactly() -> None:
    big = stripes(640, 480)
    png = io.BytesIO()
    big.save(png, "PNG")
    for data, at_least in ((jpeg(big), 224), (png.getvalue(), 32), (jpeg(big), None)):
        picture = load(data, decode="fast", at_least=at_least)
        assert (picture.notes, picture.reduced) == ((), None)
        np.testing.assert_array_equal(np.asarray(picture.image), np.asarray(load(data).image))


def test_where_resizing_takes_single_pixels_they_are_the_whole_pictures() -> None:
    preprocess = Preprocess(32, 32, filter="nearest")
    data = jpeg(stripes(640, 480))
    fast = load(data, decode="fast", at_least=preprocess.at_least)
    assert fast.notes == ()
    np.testing.assert_array_equal(preprocess.resized(fast.image, fast.reduced), preprocess.resized(load(data).image))


def test_exact_decoding_is_the_default() -> None:
    picture = load(jpeg(stripes(1600, 1200)), at_least=32)
    assert (picture.image.size, picture.notes, picture.reduced) == ((1600, 1200), (), None)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_photograph_is_an_error_all_the_same(progressive: bool) -> None:
    data = jpeg(stripes(641, 513), progressive=progressive)
    for part in (0.3, 0.6, 0.95):
        with pytest.raises(PictureError) as caught:
            load(data[: int(len(data) * part)], decode="fast", at_least=32)
        assert caught.value.reason == "truncated"


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_decoded_fast_too(mode: str) -> None:
    exact, fast = both(jpeg(stripes(641, 513).convert(mode)), Preprocess(32, 32))
    assert np.abs(exact - fast)[1:-1, 1:-1].max() <= 8


def test_rows_say_that_it_was_used(vit: Vit, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "large.jpg").write_bytes(jpeg(stripes(641, 513)))
    (folder / "small.jpg").write_bytes(jpeg(stripes(96, 64)))
    rows = {}
    for how in ("exact", "fast"):
        run = vit("classify", folder, "--model", tiny, "--format", "jsonl", "--decode", how)
        assert run.returncode == 0, run.stderr
        rows[how] = [json.loads(line) for line in run.stdout.splitlines()]
    assert [row.get("notes", []) for row in rows["exact"]] == [[], []]
    assert [row.get("notes", []) for row in rows["fast"]] == [["fast decode"], []]
    assert [row["size"] for row in rows["fast"]] == [row["size"] for row in rows["exact"]]
    assert rows["fast"][1] == rows["exact"][1]


def test_photographs_keep_their_labels(weights: Path, images: Path) -> None:
    """Real photographs, enlarged to odd sizes as a camera's would be."""
    classifier: Classifier = load_classifier(weights, engine="numpy")
    files = sorted((images / "photos").glob("*.jpg"))[::3]
    pairs = []
    for number, file in enumerate(files):
        with Image.open(file) as opened:
            data = jpeg(opened.convert("RGB").resize((2001 + number, 1503 + number)), subsampling=2)
        pairs.append(both(data, classifier.preprocess))
    exact, fast = (classifier.logits(np.stack(side).astype(np.uint8)) for side in zip(*pairs, strict=True))
    second, best = np.sort(exact, axis=1)[:, -2:].T
    clear = best - second > 0.1  # nobody can say which label is right in the others
    assert clear.sum() >= 4
    np.testing.assert_array_equal(exact.argmax(1)[clear], fast.argmax(1)[clear])
    assert np.abs(exact - fast).max() < 1
