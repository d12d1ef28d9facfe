"""Raw photographs: developed in full size, or a row that says what to install; never their thumbnail."""

from __future__ import annotations

import io
import struct
import sys
from typing import Any

import numpy as np
import pytest
from test_images import pixels, reason

from vitcli.errors import PictureError
from vitcli.pictures.images import load

tifffile = pytest.importorskip("tifffile")


def dng(
    width: int = 320, height: int = 240, orientation: int = 1, thumbnail: bool = True, linear: bool = False
) -> bytes:
    """What a camera writes: a sensor's data, bright to the right, behind a thumbnail that is red."""
    x = np.broadcast_to(np.arange(width) / width, (height, width))
    data = (x * 16000 + 500).astype(np.uint16)
    matrix = [(int(i % 4 == 0), 1) for i in range(9)]
    camera = [
        (50706, "B", 4, (1, 4, 0, 0), True), (50707, "B", 4, (1, 1, 0, 0), True), (271, "s", 0, "Make", True),
        (50708, "s", 0, "Model", True), (272, "s", 0, "Model", True), (274, "H", 1, orientation, True),
        (50721, "2i", 9, [n for pair in matrix for n in pair], True), (50728, "2I", 3, [1] * 6, True),
        (50778, "H", 1, 21, True),
    ]  # fmt: skip
    sensor = [(50714, "H", 1, 500, True), (50717, "I", 1, 16500, True)]
    how: dict[str, Any] = {"photometric": "linear_raw"} if linear else {"photometric": "cfa"}
    if linear:
        data = np.dstack([data] * 3)
    else:
        sensor += [(33421, "H", 2, (2, 2), True), (33422, "B", 4, (0, 1, 1, 2), True)]
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        if thumbnail:
            small = np.full((height // 10, width // 10, 3), (255, 0, 0), np.uint8)
            tiff.write(small, photometric="rgb", subfiletype=1, subifds=1, metadata=None, extratags=camera)
        tiff.write(data, metadata=None, extratags=sensor if thumbnail else camera + sensor, **how)
    return file.getvalue()


HEADS = {
    "CR2": b"II*\0\x10\0\0\0CR\x02\0",
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom\0\0\0\0",
    "ORF": b"IIRO\x08\0\0\0",
    "RAF": b"FUJIFILMCCD-RAW 0201FF389501",
    "RW2": b"IIU\0\x18\0\0\0",
}


@pytest.mark.parametrize("how", [{}, {"thumbnail": False}, {"linear": True}], ids=str)
def test_a_raw_photograph_is_developed_in_full_size(how: dict[str, Any]) -> None:
    pytest.importorskip("rawpy")
    picture = load(dng(**how))
    assert (picture.size, picture.notes) == ((320, 240), ("raw developed",))
    grey = pixels(picture)[120].astype(int).mean(axis=1)
    assert grey[20] < grey[160] < grey[300]


@pytest.mark.parametrize(("orientation", "size"), [(3, (320, 240)), (6, (240, 320)), (8, (240, 320))])
def test_a_raw_photograph_is_turned_upright(orientation: int, size: tuple[int, int]) -> None:
    pytest.importorskip("rawpy")
    picture = load(dng(orientation=orientation))
    assert (picture.size, picture.notes) == (size, ("raw developed", "rotated"))
    grey = pixels(picture).astype(int).mean(axis=2)
    bright = {3: grey[:, :80], 6: grey[-80:], 8: grey[:80]}[orientation]
    assert bright.mean() > grey.mean()


def test_without_its_extra_the_row_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    monkeypatch.delitem(sys.modules, "vitcli.pictures.raw", raising=False)
    for data in (dng(), dng(thumbnail=False), dng(linear=True), *(head + bytes(2000) for head in HEADS.values())):
        with pytest.raises(PictureError, match=r"raw photograph: .* pip install 'vitcli\[raw\]'") as caught:
            load(data)
        assert caught.value.reason == "unsupported"


def test_a_raw_photograph_that_is_cut_short_is_truncated_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rawpy")
    data = dng()
    for part in (0.3, 0.6, 0.99):
        assert reason(data[: int(len(data) * part)]) == "truncated"
    table = struct.pack(">6I", 200, 100, 300, 100, 400, 10_000)
    assert reason(HEADS["RAF"].ljust(84, b"\0") + table + bytes(2000)) == "truncated"
    assert reason(HEADS["CR3"][:24] + struct.pack(">I4s", 10_000, b"mdat") + bytes(2000)) == "truncated"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", HEADS)
def test_a_kind_that_libraw_does_not_know_is_unsupported(name: str) -> None:
    pytest.importorskip("rawpy")
    assert reason(HEADS[name] + bytes(2000)) == "unsupported"


def test_a_giant_is_refused_before_it_is_developed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rawpy")
    monkeypatch.setattr("vitcli.pictures.raw.Raw.load", lambda _: pytest.fail("it was developed"))
    assert reason(dng(), max_pixels=320 * 240 - 1) == "too_large"
