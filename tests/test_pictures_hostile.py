"""Pictures that are small and would take long, or much memory: a row at once, and everybody's pictures as before."""

from __future__ import annotations

import io
import random
import resource
import struct
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import noise
from tests.test_images import chunk, encoded, png, reason
from vitcli.errors import PictureError
from vitcli.pictures import bounded, headers, netpbm
from vitcli.pictures.formats import FORMATS
from vitcli.pictures.images import load

PICTURE = noise(0, (96, 64))
JPEG = encoded(PICTURE, "JPEG")


def parts(data: bytes) -> list[tuple[int, bytes]]:
    """The segments of a JPEG, a scan with its pixels, without the end marker."""
    found, at = [], 2
    while data[at + 1] != 0xD9:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            while data[end] != 0xFF or data[end + 1] in (0, *range(0xD0, 0xD8)):
                end += 1
        found.append((data[at + 1], data[at:end]))
        at = end
    return found


def many_scans(size: tuple[int, int], scans: int, between: bytes = b"", progressive: bool = True) -> bytes:
    """A JPEG whose second scan comes again and again, `between` before each."""
    segments = parts(encoded(Image.new("RGB", size), "JPEG", progressive=True, quality=50))
    first, second = [i for i, (kind, _) in enumerate(segments) if kind == 0xDA][:2]
    start = b"\xff\xd8" + b"".join(segment for _, segment in segments[: first + 1])
    again = between + b"".join(segment for _, segment in segments[first + 1 : second + 1])
    return start + again * scans + b"\xff\xd9"


@pytest.mark.parametrize(
    "between", [b"", b"\xff\xfe\0\x04\xff\xd9", b"\xff\xfe\0\x04\xff\xda"], ids=["", "end", "scan"]
)
def test_a_jpeg_that_goes_over_its_pixels_again_and_again_is_refused(between: bytes) -> None:
    most = 3000 * 2000  # stands for the 200 million of MAX_PIXELS
    assert reason(many_scans((3000, 2000), 1000, between), max_pixels=most) == "too_large"
    assert load(many_scans((3000, 2000), 20, between), max_pixels=most).size == (3000, 2000)


def one_scan_a_colour(size: tuple[int, int], scans: int) -> bytes:
    """A sequential JPEG whose scans have one colour each and no pixels, for which libjpeg takes grey."""
    head = b"".join(segment for kind, segment in parts(encoded(Image.new("RGB", size), "JPEG")) if kind != 0xDA)
    empty = b"".join(b"\xff\xda\0\x08\x01" + bytes([colour, 0, 0, 63, 0]) for colour in (1, 2, 3))
    return b"\xff\xd8" + head + empty * (scans // 3) + b"\xff\xd9"


def test_a_sequential_jpeg_with_a_scan_for_each_colour_is_counted_too() -> None:
    assert load(one_scan_a_colour((3000, 2000), 3)).size == (3000, 2000)
    assert reason(one_scan_a_colour((3000, 2000), 1200), max_pixels=3000 * 2000) == "too_large"


def test_a_small_jpeg_may_have_many_scans() -> None:
    assert load(many_scans((64, 48), 600)).size == (64, 48)


def test_scans_are_counted_over_the_pieces_of_a_file_up_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise(0, (300, 200)), "JPEG", progressive=True)
    after = data + data  # a second picture behind it, as phones store
    for piece in (7, 64, 1000, 1 << 20):
        monkeypatch.setattr(headers, "PIECE", piece)
        file = io.BytesIO(after)
        kinds = [kind for kind, _ in headers.segments(file)]
        assert kinds[-1] == 0xDA
        assert headers.scans(file, 100) == data.count(b"\xff\xda") == 10
        file.seek(0)
        list(headers.segments(file))
        assert headers.scans(file, 4) > 4


def test_the_segments_of_a_jpeg_are_those_that_pillow_finds() -> None:
    chance = random.Random(0)
    exif = Image.Exif()
    exif[0x010E] = "x" * 300
    whole = encoded(PICTURE, "JPEG", exif=exif, comment=b"a comment")
    for i in range(300):
        data = bytearray(whole)
        for _ in range(chance.randrange(3) if i else 0):
            at = chance.randrange(2, 700)
            data[at:at] = chance.choice([b"\0\0", b"\xff", b"\xff\0", b"\xff\xd0", b"\xff\xff\xff", b"\xff\xfe\0\0"])
        try:
            with Image.open(io.BytesIO(data)) as image:
                found = [kind for kind, _ in image.applist]  # type: ignore[attr-defined]
        except OSError:
            continue
        ours = [kind for kind, _ in headers.segments(io.BytesIO(data)) if kind == 0xFE or 0xE0 <= kind <= 0xEF]
        assert ["COM" if kind == 0xFE else f"APP{kind - 0xE0}" for kind in ours] == found


@pytest.mark.parametrize("size", [100, 65_500])
def test_exif_data_without_end_is_refused_at_once(size: int) -> None:
    segment = b"\xff\xe1" + struct.pack(">H", size + 8) + b"Exif\0\0" + bytes(size)
    start = time.process_time()
    assert reason(b"\xff\xd8" + segment * (30_000_000 // size) + JPEG[2:]) == "too_large"
    assert time.process_time() - start < 1
    assert load(b"\xff\xd8" + segment * 60 + JPEG[2:]).size == (96, 64)


def test_photoshop_data_without_end_is_refused_at_once() -> None:
    data = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5_000
    segment = b"\xff\xed" + struct.pack(">H", len(data) + 2) + data
    assert reason(b"\xff\xd8" + segment * 65 + JPEG[2:]) == "too_large"
    assert load(b"\xff\xd8" + segment * 4 + JPEG[2:]).size == (96, 64)


def test_pixels_in_digits_are_taken_up_to_a_size() -> None:
    digits = b"P3 100 100 255\n" + b"7 " * 30_000
    assert load(digits).image.getpixel((99, 99)) == (7, 7, 7)
    padded = digits + b" " * (headers.MAX_DIGITS - len(digits))
    assert load(padded).size == (100, 100)
    assert reason(padded + b" ") == "too_large"


@pytest.mark.parametrize("magic", [b"P5", b"P6"])
@pytest.mark.parametrize("largest", [1, 2, 3, 15, 100, 254, 256, 1023, 4095, 10_000, 65_534, 65_535])
def test_values_of_any_range_are_scaled_as_pillow_scales_them(magic: bytes, largest: int) -> None:
    wide = largest > 255
    values = range(65_536) if wide else [*range(256)] * 256
    data = b"".join(struct.pack(">H" if wide else "B", value) for value in values)
    header = b"%s %d 64 %d\n" % (magic, 65_536 // 64 // (3 if magic == b"P6" else 1), largest)
    theirs = Image.open(io.BytesIO(header + data))
    ours = Image.open(io.BytesIO(header + data))
    netpbm.quicken(ours)
    assert theirs.tile == ours.tile or ours.tile[0].codec_name == netpbm.OURS
    assert (theirs.mode, theirs.tobytes()) == (ours.mode, ours.tobytes())
    assert reason((header + data)[: len(header) + 1001]) in ("corrupt", "truncated")


def sparse(path: Path, start: bytes, hole: int, end: bytes) -> Path:
    with path.open("wb") as file:
        file.write(start)
        file.seek(hole, 1)
        file.write(end)
    return path


JFIF = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
HOLES = {
    "before markers": (JFIF, JPEG[2:]),
    "within pixels": (JPEG[:-200], JPEG[-200:]),
    "a WebP": (b"RIFF\xff\xff\xff\xffWEBPVP8X", b""),
    "an AVIF": (encoded(PICTURE, "AVIF")[:200], b""),
    "a PPM's comment": (b"P6 #", b"\n1 1 255\nabc"),
    "a plain PPM's comment": (b"P3 1 1 255 #", b"\n1 1 1"),
    "a GIF's blocks": (b"GIF89a\1\0\1\0\0\0\0!\xf9", b""),
    "a JPEG XL": (b"\xff\x0a", b""),
    "a TIFF's tag": (
        b"II*\0\x08\0\0\0\2\0" + struct.pack("<HHII", 256, 3, 1, 8) + struct.pack("<HHII", 700, 1, 0xFFFFFFF0, 8), b"",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOLES)
def test_a_hole_that_takes_no_room_on_the_disk_takes_no_time(kind: str, tmp_path: Path) -> None:
    start, end = HOLES[kind]
    before, clock = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with suppress(PictureError):  # zeros may also be pixels
        load(sparse(tmp_path / "x", start, 1 << 37, end))
    assert time.process_time() - clock < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@pytest.mark.parametrize("count", [1_000_000])
def test_chunks_without_end_are_refused(count: int) -> None:
    row = b"\0abc"
    data = png(1, 1, 8, 2, row, chunk(b"prVt", b"") * count)
    assert reason(data) == "too_large"
    end = png(1, 1, 8, 2, row)
    assert reason(end[:-12] + chunk(b"prVt", b"") * count + end[-12:]) == "too_large"


def canvas(width: int, height: int, *frames: tuple[int, int]) -> bytes:
    """An animated WebP that claims a canvas for frames of other sizes."""
    body = b"VP8X\x0a\0\0\0\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body += b"ANIM\x06\0\0\0" + bytes(6)
    for w, h in frames:
        pixels = encoded(Image.new("RGB", (w, h)), "WEBP", lossless=True)[12:]
        head = bytes(6) + (w - 1).to_bytes(3, "little") + (h - 1).to_bytes(3, "little") + b"\x64\0\0\0"
        body += b"ANMF" + struct.pack("<I", len(head) + len(pixels)) + head + pixels
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def test_a_canvas_is_held_against_its_first_frame() -> None:
    assert reason(canvas(12_000, 12_000, (8, 8))) == "corrupt"
    assert load(canvas(500, 400, (8, 8))).size == (500, 400)  # small ones may be as odd as they like
    assert load(canvas(5000, 4000, (4000, 3000))).size == (5000, 4000)


def test_files_of_every_format_come_out_as_when_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [encoded(PICTURE, form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")]
    files += [encoded(PICTURE, "JPEG", progressive=True), encoded(PICTURE, "TIFF", compression="tiff_lzw")]
    files += [b"P6 96 64 200\n" + np.minimum(np.asarray(PICTURE), 200).tobytes()]
    plain = [load(data).image.tobytes() for data in files]
    monkeypatch.setattr(bounded, "SMALL", 0)
    assert [load(data).image.tobytes() for data in files] == plain


@pytest.mark.parametrize("form", [form for form in FORMATS if form.name != "RAW"])
def test_what_cameras_write_is_far_from_every_limit(form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is what takes most bytes for a pixel."""
    if form.name in ("HEIF", "JXL"):
        plugin = pytest.importorskip(form.plugin.split(".")[0])
        getattr(plugin, "register_heif_opener", lambda: None)()
    monkeypatch.setattr(bounded, "SMALL", 0)
    monkeypatch.setattr(bounded, "BESIDE", 40_000)
    monkeypatch.setattr(bounded, "WHOLE", 4_000_000)
    how = {"JPEG": {"quality": 95, "subsampling": 0}}.get(form.name, {})
    path = tmp_path / "x"
    noise(1, (1000, 800)).save(path, form.name, **how)
    assert load(path).size == (1000, 800)


def test_an_avif_is_held_against_its_frames() -> None:
    data = encoded(PICTURE, "AVIF")
    at = data.index(b"ispe") + 8
    claim = data[:at] + struct.pack(">II", 16_384, 12_288) + data[at + 8 :]
    assert reason(claim) == "corrupt"
    assert load(data[:at] + struct.pack(">II", 128, 128) + data[at + 8 :]).size == (128, 128)
    assert headers.avif_frames(data) >= 96 * 64


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (640, 427), (5000, 3500)])
def test_the_frames_of_an_avif_are_found(size: tuple[int, int], frames: int) -> None:
    pictures = [Image.new("RGB", size, colour) for colour in ("red", "lime", "blue")][:frames]
    data = encoded(pictures[0], "AVIF", speed=10, save_all=frames > 1, append_images=pictures[1:])
    assert headers.avif_frames(data) >= size[0] * size[1]
    assert load(data).size == size


def test_anything_may_look_like_an_avifs_frame() -> None:
    chance = random.Random(0)
    for _ in range(300):
        assert headers.avif_frames(b"\x0a\x0d" * chance.randrange(9) + chance.randbytes(300) + b"\x0a\x0a") >= 0


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_a_tiff_whose_tags_claim_the_same_bytes_again_and_again_is_refused(order: str, big: bool) -> None:
    """Libtiff reads all of them: a file of 64 MB took 3 GB with fifty tags, and may have 65,535."""
    wide, entry = ("Q", "HHQQ") if big else ("I", "HHII")

    def tiff(tags: int) -> bytes:
        pixels, noise = zlib.compress(bytes(16)), random.Random(0).randbytes(2_000_000)
        start = 16 if big else 8
        known = {256: 4, 257: 4, 258: 8, 259: 8, 262: 1, 273: start, 277: 1, 278: 4, 279: len(pixels)}
        rows = [(tag, 16 if big else 4, 1, value) for tag, value in known.items()]
        rows += [(40_000 + i, 12, 200_000, start + len(pixels)) for i in range(tags)]
        version = struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
        table = struct.pack(order + ("Q" if big else "H"), len(rows))
        table += b"".join(struct.pack(order + entry, *row) for row in rows)
        where = struct.pack(order + wide, start + len(pixels) + len(noise))
        return {"<": b"II", ">": b"MM"}[order] + version + where + pixels + noise + table + bytes(8)

    assert load(tiff(1)).size == (4, 4)
    assert reason(tiff(50)) == "corrupt"
