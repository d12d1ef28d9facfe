"""The decode policy, row by row: what each awkward file becomes, or why it does not."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from vitcli.errors import PictureError
from vitcli.pictures import colour
from vitcli.pictures.images import Picture, load, settle_pillow, upright


def gradient(width: int = 96, height: int = 64) -> Image.Image:
    """Red grows to the right, green downwards, white top left, blue bottom right: every turn and flip shows."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = x * 255 // (width - 1), y * 255 // (height - 1)
    pixels[: height // 4, : width // 4] = 255
    pixels[-(height // 4) :, -(width // 4) :] = (0, 0, 255)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def pixels(picture: Picture) -> np.ndarray[Any, np.dtype[np.uint8]]:
    assert picture.image.mode == "RGB"
    return np.asarray(picture.image)


def reason(source: Path | bytes, **options: Any) -> str:
    with pytest.raises(PictureError) as caught:
        load(source, **options)
    assert str(caught.value).endswith("."), caught.value
    return caught.value.reason


PLAIN = gradient()
LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "PPM": {}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_come_out_exact(form: str) -> None:
    picture = load(encoded(PLAIN, form, **LOSSLESS[form]))
    np.testing.assert_array_equal(pixels(picture), np.asarray(PLAIN))
    assert (picture.size, picture.notes) == ((96, 64), ())


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 0}, {"keep_rgb": True}, {"quality": 5}],
    ids=lambda options: "".join(options) or "plain",
)
def test_jpegs_are_pillows_to_the_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(PLAIN, "JPEG", **options))
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(pixels(load(path)), expected)
    np.testing.assert_array_equal(pixels(load(path.read_bytes())), expected)


@pytest.mark.parametrize("form", ["GIF", "AVIF"])
def test_lossy_formats_come_out_close(form: str) -> None:
    difference = np.abs(pixels(load(encoded(PLAIN, form))).astype(int) - np.asarray(PLAIN))
    assert difference.mean() < 12


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "picture.txt"
    path.write_bytes(encoded(PLAIN, "PNG"))
    np.testing.assert_array_equal(pixels(load(path)), np.asarray(PLAIN))


STORED = {  # how pixels lie in the file when EXIF says they must be turned
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_upright_once(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"tiffinfo": {0x0112: orientation}} if form == "TIFF" else {"exif": exif, "quality": 95}
    picture = load(encoded(PLAIN.transpose(STORED[orientation]), form, **how))
    assert (picture.size, picture.notes) == ((96, 64), ("rotated",))
    assert picture.image.size == picture.size
    assert np.abs(pixels(picture).astype(int) - np.asarray(PLAIN)).mean() < 3


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0garbage", b"Exif\0\0MM\0*"])
def test_damaged_exif_does_not_cost_the_picture(exif: bytes) -> None:
    assert load(encoded(PLAIN, "JPEG", exif=exif)).notes == ()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L"])
@pytest.mark.parametrize("band", [1, 50, 300, 700])
def test_alpha_is_laid_over_white_in_bands_as_in_one(mode: str, band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 256, (31, 23, 4), np.uint8)
    values[:10, :, 3] = 255
    image = Image.fromarray(values)
    if mode in ("P", "PA"):
        image = image.convert("RGB").quantize(16)
        image.info["transparency"] = bytes(range(0, 256, 16))
    if mode in ("RGB", "L", "PA"):
        image = image.convert(mode)
        image.info["transparency"] = image.getpixel((3, 20))
    image = image.convert(mode)
    rgba = np.asarray(image.convert("RGBA")).astype(int)
    expected = (rgba[..., :3] * rgba[..., 3:] + 255 * (255 - rgba[..., 3:]) + 127) // 255
    monkeypatch.setattr(colour, "BAND", band)
    notes: list[str] = []
    assert np.abs(np.asarray(colour.rgb(image, notes)) - expected).max() == 0
    assert notes == ["alpha on white"]


def test_alpha_is_laid_over_white() -> None:
    hidden = np.dstack([np.asarray(PLAIN), np.full((64, 96), 255, np.uint8)])
    hidden[:, 48:] = (255, 0, 255, 0)
    hidden[:, :8] = (0, 0, 0, 128)
    for form in ("PNG", "WEBP", "TIFF"):
        picture = load(encoded(Image.fromarray(hidden), form, **LOSSLESS[form] | {"exact": True}))
        assert picture.notes == ("alpha on white",)
        assert (pixels(picture)[:, 48:] == 255).all()
        assert (np.abs(pixels(picture)[:, :8].astype(int) - 127) <= 1).all()
        np.testing.assert_array_equal(pixels(picture)[:, 8:48], np.asarray(PLAIN)[:, 8:48])


def test_transparent_palette_grey_and_colour_become_white() -> None:
    two = Image.new("P", (4, 2))
    two.putpalette([200, 0, 0, 0, 200, 0])
    two.putdata([0, 0, 1, 1] * 2)
    whole = [two, two.convert("L"), two.convert("RGB")]
    clear = [1, two.convert("L").getpixel((3, 0)), (0, 200, 0)]
    for image, transparency in zip(whole, clear, strict=True):
        picture = load(encoded(image, "PNG", transparency=transparency))
        assert picture.notes == ("alpha on white",)
        assert (pixels(picture)[:, 2:] == 255).all()
        assert (pixels(picture)[:, :2] < 255).all(axis=2).all()
    partial = load(encoded(two, "PNG", transparency=b"\xff\x00"))
    assert (pixels(partial)[:, 2:] == 255).all()


def test_alpha_that_hides_nothing_leaves_no_note() -> None:
    picture = load(encoded(PLAIN.convert("RGBA"), "PNG"))
    assert picture.notes == ()
    np.testing.assert_array_equal(pixels(picture), np.asarray(PLAIN))


RAMP = np.linspace(0, 65535, 64 * 96).reshape(64, 96)
AS_BYTES = np.rint(RAMP.astype(np.uint16) / 257)


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (encoded(Image.fromarray(RAMP.astype(np.uint16)), "PNG"), "16-bit scaled"),
        (encoded(Image.fromarray(RAMP.astype(np.uint16)), "TIFF"), "16-bit scaled"),
        (b"P5 96 64 65535\n" + RAMP.astype(">u2").tobytes(), "16-bit scaled"),
        (encoded(Image.fromarray(RAMP.astype(np.int32) * 40_000 - 10**9), "TIFF"), "32-bit scaled"),
        (encoded(Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF"), "float scaled"),
        (encoded(Image.fromarray((RAMP / 257).astype(np.float32)), "TIFF"), "float scaled"),
        (encoded(Image.fromarray((RAMP * 1e9 - 1e9).astype(np.float32)), "TIFF"), "float scaled"),
    ],
    ids=["16-bit PNG", "16-bit TIFF", "16-bit PGM", "32-bit", "float 0 to 1", "float 0 to 255", "float, any"],
)
def test_deep_grey_is_scaled_and_never_clipped(data: bytes, note: str) -> None:
    picture = load(data)
    assert picture.notes == (note,)
    assert np.abs(pixels(picture) - AS_BYTES[..., None]).max() <= 1


def test_a_transparent_16_bit_grey_becomes_white() -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in np.array([[100, 30_000]] * 2, ">u2"))
    picture = load(png(2, 2, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 100))))
    assert picture.notes == ("alpha on white", "16-bit scaled")
    np.testing.assert_array_equal(pixels(picture)[0, :, 0], [255, 117])


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PGM"])
def test_a_dark_16_bit_picture_stays_dark(form: str) -> None:
    dark = (RAMP / 16 + 1000).astype(np.uint16)
    data = b"P5 96 64 65535\n" + dark.astype(">u2").tobytes() if form == "PGM" else encoded(Image.fromarray(dark), form)
    assert (pixels(load(data)).min(), pixels(load(data)).max()) == (4, 20)


def tiff(bits: int, photometric: int, width: int, data: bytes) -> bytes:
    """One row of grey in an uncompressed TIFF: the kinds that Pillow reads and does not write."""
    values = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(values)) + entries + b"\0" * 4


def test_12_bit_tiffs_are_white_at_4095() -> None:
    np.testing.assert_array_equal(pixels(load(tiff(12, 1, 2, b"\xff\xf8\x00")))[0, :, 0], [255, 128])


def test_tiffs_that_count_from_white_are_not_negatives() -> None:
    np.testing.assert_array_equal(pixels(load(tiff(16, 0, 2, b"\0\0\xff\xff")))[0, :, 0], [255, 0])
    np.testing.assert_array_equal(pixels(load(tiff(8, 0, 2, b"\0\xff")))[0, :, 0], [255, 0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_numbers_are_an_error(bad: float) -> None:
    values = (RAMP / 65535).astype(np.float32)
    values[3, 5] = bad
    assert reason(encoded(Image.fromarray(values), "TIFF")) == "not_finite"


@pytest.mark.parametrize(("mode", "form"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("LAB", "TIFF")])
def test_other_colours_become_rgb(mode: str, form: str) -> None:
    picture = load(encoded(PLAIN.convert(mode), form))
    assert picture.notes == (f"{mode} converted",)
    assert np.abs(pixels(picture).astype(int) - np.asarray(PLAIN)).mean() < 6


def test_icc_profiles_are_ignored() -> None:
    for profile in (b"garbage" * 20, b"\0" * 128):
        picture = load(encoded(PLAIN, "PNG", icc_profile=profile))
        np.testing.assert_array_equal(pixels(picture), np.asarray(PLAIN))


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_stands_for_all(form: str) -> None:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "lime", "blue")]
    picture = load(encoded(frames[0], form, save_all=True, append_images=frames[1:]))
    assert picture.notes == ("first frame",)
    assert (np.abs(pixels(picture).astype(int) - (255, 0, 0)) <= 3).all()


def test_the_second_picture_in_a_phones_jpeg_is_no_animation() -> None:
    assert load(encoded(PLAIN, "MPO", save_all=True, append_images=[PLAIN])).notes == ()


BIG = gradient(640, 480)
TURNED = Image.Exif()
TURNED[274] = 6
NOISY = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_pictures_are_errors_never_grey(form: str, part: float) -> None:
    data = encoded(NOISY, form)
    assert reason(data[: int(len(data) * part)]) in ("truncated", "corrupt")
    if part == 0.5 and form not in ("GIF", "AVIF"):
        assert reason(data[: len(data) // 2]) == "truncated"


@pytest.mark.parametrize("lacking", [1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(mode: str, lacking: int) -> None:
    """As some cameras write them."""
    for options in ({}, {"quality": 95, "subsampling": 0}, {"restart_marker_blocks": 3}, {"exif": TURNED}):
        data = encoded(NOISY.convert(mode), "JPEG", **options)
        whole, mended = load(data), load(data[:-lacking])
        np.testing.assert_array_equal(pixels(mended), pixels(whole))
        assert mended.notes == (*whole.notes, "no end marker")
    wide = encoded(gradient(2000, 1500).convert(mode), "JPEG")
    fast = load(wide[:-2], decode="fast", at_least=224)
    np.testing.assert_array_equal(pixels(fast), pixels(load(wide, decode="fast", at_least=224)))
    assert {"fast decode", "no end marker"} <= set(fast.notes)


def test_a_jpeg_that_lacks_more_than_its_end_marker_is_truncated() -> None:
    for options in ({}, {"quality": 30}, {"progressive": True}, {"restart_marker_blocks": 3}):
        data = encoded(NOISY, "JPEG", **options)
        for lacking in [*range(4, 60), *range(60, len(data) - 700, 97)]:
            assert reason(data[:-lacking]) in ("truncated", "corrupt"), (options, lacking)
    for options in ({}, {"restart_marker_blocks": 1}, {"restart_marker_blocks": 2}):
        small = encoded(NOISY.crop((0, 0, 40, 40)), "JPEG", quality=20, **options)  # blocks lie outside it
        for lacking in range(4, len(small) - small.index(b"\xff\xda") - 14):  # also where nothing but a restart is next
            assert reason(small[:-lacking]) in ("truncated", "corrupt"), (options, lacking)
    several_scans = encoded(NOISY, "JPEG", progressive=True)
    last = several_scans.rindex(b"\xff\xda")
    assert reason(several_scans[:last]) == "truncated"  # what is missing shows in no pixel's lack of data


def test_a_flipped_byte_is_an_error() -> None:
    data = bytearray(encoded(NOISY, "PNG"))
    data[len(data) // 2] ^= 0xFF
    assert reason(bytes(data)) == "corrupt"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"\x89", "not_a_picture"),
        (b"not an image\n" * 40, "not_a_picture"),
        (b"<!DOCTYPE html><title>404</title>", "not_a_picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not_a_picture"),
        (b"\r\n\r\n" + encoded(PLAIN, "JPEG"), "not_a_picture"),
        (b"%PDF-1.7\n", "unsupported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "unsupported"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported"),
        (encoded(PLAIN, "ICO"), "unsupported"),
        (encoded(PLAIN, "JPEG2000"), "unsupported"),
        (b"\0\0\0\x18ftypisom", "unsupported"),
    ],
    ids=lambda value: value if isinstance(value, str) else ascii(value[:12]),
)
def test_what_is_no_picture_says_so(data: bytes, expected: str) -> None:
    assert reason(data) == expected


XMP = b"XML:com.adobe.xmp"
ON_ITS_SIDE = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
RANDOM = np.random.default_rng(0).bytes(1000) * 3000  # 3 MB


@pytest.mark.parametrize(
    "unneeded",
    [
        chunk(b"zTXt", b"k\0\0" + zlib.compress(b"A" * (8 << 20), 9)),
        chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"A" * (8 << 20), 9)),
        chunk(b"tEXt", b"workflow\0" + b"{}" * 40_000_000),
        chunk(b"iCCP", b"p\0\0" + zlib.compress(RANDOM)),
        chunk(b"iCCP", b"p\0\7nobody knows"),
        chunk(b"iTXt", XMP + b"\0\1\0\0\0" + zlib.compress(b"A" * (8 << 20), 9)),
        chunk(b"iTXt", b"k\0\1\0\0\0nothing that inflates"),
        chunk(b"tEXt", b"k\0hello")[:-1] + b"?",
    ],
    ids=["zTXt", "iTXt", "tEXt of 80 MB", "profile", "broken profile", "XMP", "broken text", "wrong checksum"],
)
@pytest.mark.parametrize("behind", [False, True])
def test_profiles_and_texts_that_nothing_needs_refuse_no_picture(unneeded: bytes, behind: bool) -> None:
    whole = png(8, 8, 8, 2, (b"\0" + b"\x7f" * 24) * 8, chunk(b"iTXt", XMP + b"\0\0\0\0\0" + ON_ITS_SIDE))
    place = whole.index(b"IEND") - 4 if behind else whole.index(b"IDAT") - 4
    picture = load(whole[:place] + unneeded + whole[place:])
    assert (pixels(picture) == 0x7F).all()
    if XMP not in unneeded:
        assert picture.notes == ("rotated",)


def test_a_png_whose_pixels_are_damaged_too_is_damaged() -> None:
    bad = chunk(b"iCCP", b"p\0\0" + zlib.compress(RANDOM))
    data = bytearray(png(8, 8, 8, 2, (b"\0" + b"\x7f" * 24) * 8, bad))
    data[data.index(b"IDAT") + 8] ^= 0xFF
    assert reason(bytes(data)) in ("corrupt", "too_large")


def webp_header(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize(
    "data",
    [
        png(20_000, 20_000, 1, 0, b""),
        png(2**31 - 1, 2**31 - 1, 8, 2, b"\0"),
        webp_header(16_000, 16_000),
        b"\xff\x0a" + (3 << 1 | 39_999 << 3 | 1 << 33).to_bytes(14, "little"),
        b"P6 20000 20000 255\n",
    ],
    ids=["PNG", "PNG of 2^31", "WebP", "JPEG XL", "PPM"],
)
def test_giants_are_refused_before_they_are_decoded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.core, "new", lambda *_: pytest.fail("a giant was given memory"))
    assert reason(data) == "too_large"


def test_the_limit_is_the_callers() -> None:
    data = encoded(PLAIN, "PNG")
    assert reason(data, max_pixels=96 * 64 - 1) == "too_large"
    assert load(data, max_pixels=96 * 64).size == (96, 64)


def test_a_limit_above_pillows_own_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    settle_pillow()
    for form in ("PNG", "WEBP", "TIFF", "JPEG"):
        assert load(encoded(PLAIN, form)).size == (96, 64)


def test_no_warning_escapes(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)  # the picture has 6144: Pillow would warn
    palette = PLAIN.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settle_pillow(max_pixels=7000)
        assert load(encoded(PLAIN, "TIFF"), max_pixels=7000).size == (96, 64)
        load(encoded(palette, "PNG", transparency=bytes(range(0, 256, 16))))
    assert capfd.readouterr() == ("", "")


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    fifo, end = tmp_path / "fifo.png", tmp_path / "sock"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(end))
        for path in (fifo, end, tmp_path, Path("/dev/null")):
            assert reason(path) == "not_a_file"


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    regular = tmp_path / "a.png"
    regular.write_bytes(b"x")
    was = regular.stat()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: was)  # the name meant a file a moment ago
    assert reason(fifo) == "not_a_file"


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "file").touch()
    names = ["none.png", "dangling.png", "self.png", "nul\0.png", "file/a.png", "x" * 300]
    expected = ["missing", "missing", "unreadable", "bad_name", "missing", "bad_name"]
    assert [reason(tmp_path / name) for name in names] == expected
    assert reason(tmp_path / "file") == "empty"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(PLAIN, "PNG"))
    path.chmod(0)
    assert reason(path) == "forbidden"


def test_messages_do_not_repeat_the_path(tmp_path: Path) -> None:
    for name, data in (("unique-a.png", b""), ("unique-b.jpg", encoded(BIG, "JPEG")[:2000]), ("unique-c", b"text")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(PictureError) as caught:
            load(tmp_path / name)
        assert "unique" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), "out_of_memory"),
        (OSError(5, "Input/output error"), "unreadable"),
        (RuntimeError("odd"), "corrupt"),
        (BaseException("a panic in a plug-in"), "corrupt"),
        (IndexError(), "corrupt"),
        (struct.error("unpack"), "truncated"),
    ],
    ids=repr,
)
def test_whatever_a_decoder_raises_is_explained(
    error: BaseException, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    data = encoded(PLAIN, "PNG")
    monkeypatch.setattr(Image.Image, "getexif", lambda _: {})
    monkeypatch.setattr(colour, "rgb", fail)
    assert reason(data) == expected


def test_an_interruption_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(colour, "rgb", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(encoded(PLAIN, "PNG"))


def test_the_picture_that_a_heif_calls_its_own_is_taken() -> None:
    heif = pytest.importorskip("pillow_heif")
    container = heif.from_pillow(Image.new("RGB", (64, 48), "red"))
    container.add_from_pillow(Image.new("RGB", (320, 240), "blue"))
    for primary, size in enumerate([(64, 48), (320, 240)]):
        file = io.BytesIO()
        container.save(file, primary_index=primary, quality=-1)
        assert load(file.getvalue()).size == size


def test_the_first_picture_of_an_mpo_is_taken_however_large_the_others() -> None:
    """The standard: the first is the photograph."""
    data = encoded(PLAIN, "MPO", save_all=True, append_images=[BIG])
    assert load(data).size == PLAIN.size


@pytest.mark.parametrize(
    ("begins", "word"),
    [
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z"), (b"Rar!\x1a\7\1\0", "rar"), (b"\x28\xb5\x2f\xfd\0", "zstd"),
        (b"\x1f\x8b\x08\0", "gzip"), (b"BZh91AY&SY", "bzip2"), (b"\xfd7zXZ\0\0", "xz"), (b"PK\x03\x04\x14\0", "zip"),
    ],
)  # fmt: skip
def test_what_is_packed_is_told_to_be_unpacked(begins: bytes, word: str) -> None:
    with pytest.raises(PictureError, match=f"packed with {word}.*unpack it") as caught:
        load(begins + bytes(100))
    assert caught.value.reason == "unsupported"


def test_the_pngs_of_an_iphones_apps_are_named_and_not_called_damaged() -> None:
    data = png(8, 8, 8, 2, (b"\0" + b"\x7f" * 24) * 8)
    with pytest.raises(PictureError, match="CgBI") as caught:
        load(data[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + data[8:])
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize(("form", "module", "extra"), [("HEIF", "pillow_heif", "heic"), ("JXL", "pillow_jxl", "jxl")])
def test_plugins_are_used_when_there_and_named_when_not(
    form: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = pytest.importorskip(module)
    getattr(plugin, "register_heif_opener", lambda: None)()
    data = encoded(PLAIN, form)
    assert np.abs(pixels(load(data)).astype(int) - np.asarray(PLAIN)).mean() < 6
    assert reason(data[: len(data) // 2]) == "truncated"
    assert reason(data, max_pixels=100) == "too_large"
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(PictureError, match=rf"vitcli\[{extra}\]") as caught:
        load(data)
    assert caught.value.reason == "unsupported"


def test_pictures_in_memory_follow_the_same_policy() -> None:
    assert upright(PLAIN.convert("RGBA")).notes == ()
    assert upright(Image.new("RGBA", (4, 4))).notes == ("alpha on white",)
    assert upright(Image.fromarray(RAMP.astype(np.uint16))).notes == ("16-bit scaled",)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(encoded(PLAIN, "JPEG", exif=exif))) as opened:
        picture = upright(opened)
        np.testing.assert_array_equal(pixels(picture), np.asarray(ImageOps.exif_transpose(opened)))


def test_many_threads_get_what_one_gets() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    files = [encoded(PLAIN, form) for form in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "AVIF")]
    files += [encoded(PLAIN, "JPEG", exif=exif), encoded(PLAIN.convert("RGBA"), "PNG"), encoded(BIG, "JPEG")]
    alone = [pixels(load(data)) for data in files]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda data: pixels(load(data)), files * 20))
    for i, made in enumerate(together):
        np.testing.assert_array_equal(made, alone[i % len(files)])


def test_only_the_decoder_that_is_needed_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(PLAIN, "JPEG"))
    program = (
        "import sys; from pathlib import Path; from vitcli.pictures.images import load; load(Path(sys.argv[1]));"
        "print(*(name for name in sys.modules if name.endswith('ImagePlugin') or name == 'torch'))"
    )
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["PIL.JpegImagePlugin"]
    assert run.stderr == ""


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "TIFF deflated", "TIFF lzw", "BMP", "PPM"])
def test_mutated_files_give_a_picture_or_an_error_and_print_nothing(
    form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    compression = {"TIFF deflated": "tiff_deflate", "TIFF lzw": "tiff_lzw"}.get(form)
    whole = encoded(NOISY.resize((24, 16)), form.split()[0], **{"compression": compression} if compression else {})
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(0, len(data), random.integers(1, 8)):
            data[place] = random.integers(0, 256)
        try:
            picture = load(bytes(data), max_pixels=10**6)
        except PictureError:
            continue
        assert picture.image.mode == "RGB"
        assert picture.image.size == picture.size
    assert capfd.readouterr() == ("", "")


# Formats that the corpus calls readable and the list of formats leaves out.
LEFT_OUT = {"tga", "pcx", "jp2", "ico", "icns", "dds", "sgi", "qoi", "eps"}
POLICY_FAILS = {
    "f32_nan.tif": "not_finite",
    **{f"trunc_last16.{ending}": "truncated" for ending in ("jpg", "gif", "webp")},
    "trunc_last16.tif": "corrupt",
}


def test_the_awkward_corpus_is_answered_as_its_manifest_says() -> None:
    folder = os.environ.get("VIT_TEST_EDGE")
    if not folder:
        pytest.skip("VIT_TEST_EDGE names no folder of awkward pictures with a manifest.json")
    manifest = json.loads((Path(folder) / "manifest.json").read_text())
    wrong = []
    for name, entry in manifest.items():
        expected = entry["expect"]
        if name.rpartition(".")[2] in LEFT_OUT:
            expected = "error"
        elif expected == "policy":
            expected = POLICY_FAILS.get(name, "ok")
        try:
            load(Path(folder) / "files" / name)
            got = "ok"
        except PictureError as error:
            got = error.reason if expected not in ("error", "ok") else "error"
        if got != expected:
            wrong.append((name, expected, got))
    assert not wrong
