"""A map is drawn where it belongs on the picture that the user has, whatever was done to it on the way."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vitcli.pictures import images, overlay
from vitcli.pictures.preprocess import FAMILIES

TURNED = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
          4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
          7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}  # fmt: skip


def spot(size: tuple[int, int], at: tuple[float, float], radius: float) -> Image.Image:
    """A white spot at a share of the width and of the height, on black."""
    y, x = np.mgrid[: size[1], : size[0]]
    inside = (x - at[0] * size[0]) ** 2 + (y - at[1] * size[1]) ** 2 <= radius**2
    return Image.fromarray(np.where(inside[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2))


def stored(picture: Image.Image, orientation: int) -> bytes:
    """A file that shows this picture once it is turned as its EXIF says."""
    turn = TURNED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    (picture if turn is None else picture.transpose(turn)).save(file, "PNG", exif=exif)
    return file.getvalue()


def brightest(picture: Image.Image) -> tuple[float, float]:
    """The middle of the brightest pixels, as a share of the width and of the height."""
    grey = np.asarray(picture.convert("L"), np.float64)
    rows, columns = np.nonzero(grey >= grey.max() - 1)
    return (columns.mean() + 0.5) / grey.shape[1], (rows.mean() + 0.5) / grey.shape[0]


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(("family", "size", "at"), [
    ("hf", (300, 200), (0.3, 0.7)), ("hf", (900, 90), (0.8, 0.5)), ("hf", (30, 20), (0.3, 0.7)),
    ("timm", (300, 200), (0.4, 0.6)), ("timm", (900, 90), (0.52, 0.6)), ("deit", (90, 900), (0.4, 0.48)),
    ("torchvision", (301, 199), (0.6, 0.3)), ("hf-deit", (260, 410), (0.3, 0.35)), ("clip", (640, 480), (0.35, 0.2)),
])  # fmt: skip
def test_the_map_lies_on_the_object(family: str, size: tuple[int, int], at: tuple[float, float],
                                    orientation: int) -> None:  # fmt: skip
    picture = images.load(stored(spot(size, at, min(size) / 20), orientation))
    assert picture.size == size
    preprocess = FAMILIES[family](224)
    pixels = preprocess.resized(picture.image).astype(np.float32).mean(axis=2)
    relevance = pixels.reshape(14, 16, 14, 16).mean(axis=(1, 3))  # a network that sees brightness
    drawn = overlay.draw(Image.new("RGB", size), preprocess.seen(size), relevance)
    assert drawn.size == size
    # within a patch and a half, as far as that is wide in this picture
    left, top, right, bottom = preprocess.seen(size)
    x, y = brightest(drawn)
    assert abs(x - at[0]) * size[0] <= 1.5 * (right - left) / 14
    assert abs(y - at[1]) * size[1] <= 1.5 * (bottom - top) / 14


def test_what_the_network_did_not_see_is_darkened_and_not_coloured() -> None:
    picture = Image.new("RGB", (448, 224), (100, 150, 200))
    preprocess = FAMILIES["clip"](224)
    drawn = np.asarray(overlay.draw(picture, preprocess.seen(picture.size), np.eye(14, dtype=np.float32)))
    assert preprocess.seen(picture.size) == (112, 0, 336, 224)
    outside = np.concatenate([drawn[:, :112], drawn[:, 336:]], axis=1).reshape(-1, 3)
    assert np.unique(outside, axis=0).tolist() == [[35, 52, 70]]


def test_the_crop_of_a_small_picture_reaches_past_its_edges() -> None:
    preprocess = FAMILIES["hf"](224)
    assert preprocess.seen((10, 20)) == (0, 0, 10, 20)
    padded = type(preprocess)(size=8, resize=4, fit="squash")
    assert padded.seen((4, 4)) == (-2, -2, 6, 6)
    relevance = np.zeros((4, 4), np.float32)
    relevance[1, 1] = 1  # the picture's first quarter
    drawn = np.asarray(overlay.draw(Image.new("RGB", (4, 4)), padded.seen((4, 4)), relevance)).sum(axis=2)
    assert drawn[0, 0] == drawn.max()
    assert drawn[3, 3] == drawn.min()


def test_contours_leave_the_picture_as_it_is_between_the_lines() -> None:
    picture = Image.new("RGB", (224, 224), (90, 120, 150))
    relevance = np.zeros((14, 14), np.float32)
    relevance[4:9, 4:9] = 1
    drawn = np.asarray(overlay.draw(picture, (0, 0, 224, 224), relevance, "contours"))
    changed = (drawn != (90, 120, 150)).any(axis=2)
    assert 0.01 < changed.mean() < 0.3
    assert not changed[:32].any()
    assert not changed[100:108, 100:108].any()


def test_a_map_without_any_range_is_drawn_as_nothing() -> None:
    flat = overlay.levels(np.full((14, 14), 0.3, np.float32))
    assert flat.getextrema() == (0, 0)


def test_the_colours_grow_lighter_from_end_to_end() -> None:
    colours = overlay.inferno().astype(float)
    light = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > -0.5).all()
    assert light[0] < 2
    assert light[-1] > 240


@pytest.mark.parametrize("size", [(40, 30), (500, 400), (3000, 200)])
def test_a_page_has_room_for_every_panel_and_its_lines(size: tuple[int, int]) -> None:
    panels = [overlay.Panel(np.eye(14, dtype=np.float32), [f"a name that is very long {'x' * 300}", "more"])] * 2
    page = overlay.page(Image.new("RGB", size), (0, 0, *size), panels)
    assert page.width >= 2 * max(size[0], overlay.NARROWEST)
    assert page.height > size[1]
    assert np.asarray(page)[size[1] :].min() < 100  # something is written there
