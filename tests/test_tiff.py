"""TIFFs of every arrangement, written and read back by `tifffile`: our pixels are its pixels, or the row fails."""

from __future__ import annotations

import io
import itertools
import lzma
import random
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from test_images import pixels, reason

from vitcli.errors import PictureError
from vitcli.pictures import bounded, colour
from vitcli.pictures.images import Picture, load
from vitcli.results import REASONS

tifffile = pytest.importorskip("tifffile")

HEIGHT, WIDTH = 37, 45
Array = np.ndarray[Any, np.dtype[Any]]


class Kind(NamedTuple):
    """What the samples of a pixel mean."""

    photometric: str
    colours: int
    samples: int
    extra: tuple[str, ...] = ()


KINDS = (
    Kind("minisblack", 1, 1),
    Kind("miniswhite", 1, 1),
    Kind("minisblack", 1, 2, ("unspecified",)),
    Kind("minisblack", 1, 2, ("unassalpha",)),
    Kind("rgb", 3, 3),
    Kind("rgb", 3, 4, ("unassalpha",)),
    Kind("rgb", 3, 4, ("assocalpha",)),
    Kind("rgb", 3, 5, ("unspecified", "unspecified")),
    Kind("separated", 4, 4),
    Kind("palette", 1, 1),
    Kind("cielab", 3, 3),
    Kind("icclab", 3, 3),
    Kind("ycbcr", 3, 3),
)
DEPTHS = [(bits, "u") for bits in (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 24, 32, 64)]
DEPTHS += [(bits, "i") for bits in (8, 16, 32, 64)] + [(bits, "f") for bits in (16, 32, 64)]
ORDERS, TILES, COMPRESSIONS = "<>", (None, (16, 32)), (None, "zlib", "lzw", "packbits", "lzma")


def scene(samples: int, bits: int, kind: str) -> Array:
    """Slopes and noise up to both ends of the range: [h w samples]."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [x / WIDTH, y / HEIGHT, (x * 3 + y * 5) % 40 / 40, (x + y) / 90, x % 7 / 7][:samples]
    values = np.clip(np.stack(planes, -1) + np.random.default_rng(0).normal(0, 0.02, (HEIGHT, WIDTH, samples)), 0, 1)
    if kind == "f":
        return values.astype(f"f{bits // 8}")
    size = 1 if bits <= 8 else 2 if bits <= 16 else 4 if bits <= 32 else 8
    if kind == "i":
        return ((values - 0.5) * (2.0**bits - 2 ** max(1, bits - 50))).astype(f"i{size}")
    return (values * (2.0**bits - (1 if bits < 50 else 2 ** (bits - 50)))).astype(f"u{size}")


def packed(block: bytes, compression: str | None, width: int) -> bytes:
    """A block as libtiff packs it: the one strip of a grey picture."""
    if compression not in ("lzw", "packbits"):
        return {"zlib": zlib.compress, "lzma": lzma.compress}.get(compression or "", bytes)(block)
    file = io.BytesIO()
    grey = Image.frombytes("L", (width, len(block) // width), block)
    grey.save(file, "TIFF", compression={"lzw": "tiff_lzw"}.get(compression, compression), strip_size=1 << 30)
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        (place,), (length,) = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
        return file.getvalue()[place : place + length]


def blocks(values: Array, bits: int, tile: tuple[int, int] | None, planar: bool, compression: str | None,
           predictor: int, order: str) -> Iterator[bytes]:  # fmt: skip
    """The strips of ten rows, or the tiles, of [h w s], as bytes: differences, packed bits and compression are ours."""
    high, wide = tile or (10, WIDTH)
    for plane in np.split(values, values.shape[2], axis=2) if planar else [values]:
        for top, left in itertools.product(range(0, HEIGHT, high), range(0, WIDTH, wide)):
            part = plane[top : top + high, left : left + wide]
            if tile:
                part = np.pad(part, ((0, high - len(part)), (0, wide - part.shape[1]), (0, 0)))
            rows = part.reshape(len(part), -1)
            if predictor == 3:
                split = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder(">"))).view(np.uint8)
                split = split.reshape(len(rows), rows.shape[1], -1).transpose(0, 2, 1).reshape(len(rows), -1)
                split = split.reshape(len(rows), -1, part.shape[2])
                data = np.diff(split, axis=1, prepend=np.zeros_like(split[:, :1])).reshape(len(rows), -1)
            elif predictor == 2:
                whole = part.view(f"u{part.dtype.itemsize}")
                less = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1]))
                data = np.ascontiguousarray(less.astype(less.dtype.newbyteorder(order)).reshape(len(rows), -1))
            elif bits in (8, 16, 32, 64):
                data = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder(order)))
            else:  # the uppermost bit first, in either byte order
                ones = rows[..., None].astype(np.uint64) >> np.arange(bits, dtype=np.uint64)[::-1] & np.uint64(1)
                data = np.packbits(ones.reshape(len(rows), -1).astype(np.uint8), axis=1)
            data = data.view(np.uint8)
            yield packed(data.tobytes(), compression, data.shape[1])


PALETTE = np.random.default_rng(1).integers(0, 65536, (3, 65536), dtype=np.uint16)


def written(kind: Kind, bits: int, form: str, planar: bool = False, order: str = "<", tile: Any = None,
            compression: str | None = None, predictor: int = 1, big: bool = False, **more: Any) -> bytes:  # fmt: skip
    """A TIFF by tifffile."""
    values = scene(kind.samples, bits, form)
    encoded = blocks(values, bits, tile, planar, compression, predictor, order)
    changed: dict[int, Any] = {}  # tags that tifffile writes only with a package of codecs, though the blocks are ours
    if compression in ("lzw", "packbits"):
        changed[259], compression = {"lzw": 5, "packbits": 32773}[compression], "zlib"
    dtype = values.dtype
    if predictor == 3:
        changed[317], changed[339] = 3, (3,) * kind.samples
        dtype = np.dtype(f"i{dtype.itemsize}")
    how = dict(photometric=kind.photometric, metadata=None, compression=compression, **more)
    if predictor > 1:
        how["predictor"] = 2
    if kind.samples > 1:
        how |= {"planarconfig": "separate" if planar else "contig", "extrasamples": kind.extra}
    if kind.photometric == "palette":
        how["colormap"] = PALETTE[:, : 2**bits]
    if kind.photometric == "ycbcr":
        how["subsampling"] = (1, 1)
    how |= {"tile": tile} if tile else {"rowsperstrip": 10}
    if bits not in (8, 16, 32, 64):
        how["bitspersample"] = bits
    shape = (HEIGHT, WIDTH) if kind.samples == 1 else (kind.samples, HEIGHT, WIDTH) if planar else values.shape
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=order, bigtiff=big) as tiff:
        tiff.write(encoded, shape=shape, dtype=dtype, **how)
    file.seek(0)
    with tifffile.TiffFile(file, mode="r+b") as tiff:
        for tag, value in changed.items():
            tiff.pages[0].tags[tag].overwrite(value if tag != 339 or kind.samples > 1 else 3)
    return file.getvalue()


def outcome(data: bytes, **options: Any) -> Picture | str:
    """The picture, or the word for why there is none."""
    try:
        return load(data, **options)
    except PictureError as error:
        return error.reason


def read_back(data: bytes, known: Array) -> Array:
    """Its samples by tifffile [h w s]. Where that needs a package of codecs (LZW, bits that fill no bytes): `known`."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages[0]
        try:
            values = np.asarray(page.asarray())
        except (NotImplementedError, KeyError, ValueError) as error:
            if "imagecodecs" not in str(error):
                raise
            return known
        values = values.astype(np.uint8) if values.dtype == bool else values
        return np.moveaxis(values, 0, -1) if page.planarconfig == 2 and values.ndim == 3 else np.atleast_3d(values)


def in_bytes(values: Array, bits: int, form: str, colours: int) -> Array:
    """The documented scaling."""
    if form == "u" and bits <= 16:
        if bits > 8 and colours > 1:
            return (values >> (bits - 8)).astype(np.uint8)
        return np.rint(values.astype(np.float64) * 255 / (2**bits - 1)).astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    for top in (1.0, 255.0, 65535.0) if form == "f" else (255.0, 65535.0):
        if low >= 0 and high <= top:
            low, high = 0.0, top
            break
    return np.rint((values.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)


def expected(values: Array, kind: Kind, bits: int, form: str) -> Array:
    """Samples -> [h w 3], by the documents."""
    base = values[..., : kind.colours]
    if kind.photometric == "palette":
        return (PALETTE[:, base[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0)
    base = in_bytes(base, bits, form, kind.colours)
    if kind.photometric == "miniswhite":
        base = 255 - base
    modes = {"separated": "CMYK", "ycbcr": "YCbCr", "cielab": "LAB", "icclab": "LAB"}
    if mode := modes.get(kind.photometric):
        if kind.photometric == "icclab":  # from unsigned to signed, as Pillow takes them
            base = base ^ np.array([0, 128, 128], np.uint8)
        image = Image.frombytes(mode, (WIDTH, HEIGHT), np.ascontiguousarray(base).tobytes())
        return np.asarray(colour.rgb(image, []))
    base = base if kind.colours == 3 else base.repeat(3, axis=2)
    if not kind.extra or kind.extra[0] == "unspecified":
        return base
    alpha = values[..., kind.colours : kind.colours + 1]
    most = 1 if form == "f" else 2 ** (bits - (form == "i")) - 1
    if form == "u" and 8 < bits <= 16 and kind.colours == 3:
        alpha = (alpha >> (bits - 8)).astype(np.uint8)
    else:
        alpha = np.rint(np.clip(alpha.astype(np.float64) / most, 0, 1) * 255).astype(np.uint8)
    raw = ("raw", "RGBa") if kind.extra[0] == "assocalpha" else ()
    image = Image.frombytes("RGBA", (WIDTH, HEIGHT), np.concatenate([base, alpha], axis=2).tobytes(), *raw)
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return np.asarray(white)


def arrangements() -> Iterator[tuple[Kind, int, str, dict[str, Any]]]:
    """Every kind, depth and number of planes in two arrangements: the plainest, and one by chance."""
    others = list(itertools.product(ORDERS, TILES, COMPRESSIONS, (1, 2), (False, True)))
    chance = random.Random(0)
    for kind, (bits, form), planar in itertools.product(KINDS, DEPTHS, (False, True)):
        if (planar and kind.samples == 1) or (
            kind.photometric == "palette" and (bits, form) not in ((8, "u"), (16, "u"))
        ):
            continue
        for order, tile, compression, predictor, big in (("<", None, None, 1, False), chance.choice(others)):
            if bits not in (8, 16, 32, 64):  # tifffile packs no others
                compression = None
            if compression in (None, "packbits"):
                predictor = 1
            if predictor > 1:  # each has one of its own
                predictor = 3 if form == "f" else 2
            how = dict(planar=planar, order=order, tile=tile, compression=compression, predictor=predictor, big=big)
            yield kind, bits, form, how


def test_the_pixels_of_every_arrangement_are_those_of_an_independent_reader_or_the_row_fails() -> None:
    seen: Counter[str] = Counter()
    for kind, bits, form, how in arrangements():
        data = written(kind, bits, form, **how)
        values = read_back(data, scene(kind.samples, bits, form))
        np.testing.assert_array_equal(values, scene(kind.samples, bits, form), err_msg=f"{kind} {bits} {form} {how}")
        picture = outcome(data)
        if isinstance(picture, str):
            assert picture == "unsupported", (kind, bits, form, how, picture)
            assert bits == 24 or kind.photometric in ("separated", "cielab", "icclab", "ycbcr"), (kind, bits, form, how)
            seen["unsupported"] += 1
            continue
        # libtiff converts compressed YCbCr itself, and rounds otherwise than Pillow does
        most = 1 if kind.photometric == "ycbcr" and how["compression"] else 0
        difference = np.abs(pixels(picture).astype(int) - expected(values, kind, bits, form)).max()
        assert difference <= most, (kind, bits, form, how, difference)
        seen["equal"] += 1
    assert seen["equal"] >= 300, seen


RGB, GREY = KINDS[4], KINDS[0]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [RGB, KINDS[5], KINDS[8]], ids=["RGB", "RGBA", "CMYK"])
def test_16_bit_planes_are_the_same_picture_however_they_are_packed(kind: Kind, order: str) -> None:
    """Uncompressed ones were stretched to twice their size, with every other line black."""
    pictures = [
        pixels(load(written(kind, 16, "u", planar, order, tile, compression)))
        for planar, tile, compression in itertools.product((False, True), TILES, (None, "zlib"))
    ]
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, pictures[0])


def plain(values: Array, **more: Any) -> bytes:
    """A TIFF of one picture by tifffile."""
    file = io.BytesIO()
    tifffile.imwrite(file, values, **({"photometric": "minisblack", "metadata": None} | more))
    return file.getvalue()


def test_bright_32_bit_integers_are_not_dark() -> None:
    ramp = np.linspace(0, 2**32 - 1, 256).astype(np.uint32).reshape(1, 256).repeat(4, axis=0)
    grey = pixels(load(plain(ramp)))[0, :, 0]
    assert (np.diff(grey.astype(int)) >= 0).all()
    assert (grey[0], grey[-1]) == (0, 255)


def test_what_lies_below_zero_is_darker_in_any_byte_order_and_packed_or_not() -> None:
    for dtype, order, compression in itertools.product(("i1", "i2", "i4", "f4"), ORDERS, (None, "zlib")):
        ramp = np.linspace(-100, 100, 256).astype(dtype).reshape(1, 256).repeat(4, axis=0)
        grey = pixels(load(plain(ramp, byteorder=order, compression=compression)))[0, :, 0]
        assert (np.diff(grey.astype(int)) >= 0).all(), (dtype, order, compression)
        assert (grey[0], grey[-1]) == (0, 255)


def test_samples_of_any_kind_that_are_no_numbers_are_named() -> None:
    for dtype in ("f2", "f8"):
        values = np.zeros((4, 4), dtype)
        values[1, 1] = np.nan
        assert reason(plain(values)) == "not_finite"


def edited(data: bytes, **tags: Any) -> bytes:
    """A TIFF with other values in the tags of its first directory, by name."""
    file = io.BytesIO(data)
    with tifffile.TiffFile(file, mode="r+b") as tiff:
        for tag, value in tags.items():
            tiff.pages[0].tags[tag].overwrite(value)
    return file.getvalue()


def made(order: str, bits: int, kind: Kind, compression: int, fill: int, planar: bool) -> tuple[bytes, Array]:
    """A TIFF byte by byte, with what tifffile does not write: packed bits compressed, and in the other order."""
    high, wide = 13, 21
    values = np.random.default_rng(bits).integers(0, 2**bits, (high, wide, kind.samples), dtype=np.uint64)
    stored = values.astype(f"u{max(8, bits) // 8}") if bits % 8 == 0 else values
    data = []
    for plane in np.split(stored, kind.samples, axis=2) if planar else [stored]:
        for rows in (plane[top : top + 5].reshape(len(plane[top : top + 5]), -1) for top in range(0, high, 5)):
            if bits % 8 == 0:
                block = rows.astype(rows.dtype.newbyteorder(order)).tobytes()
            else:
                ones = rows[..., None] >> np.arange(bits, dtype=np.uint64)[::-1] & np.uint64(1)
                block = np.packbits(ones.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()
            block = zlib.compress(block) if compression == 8 else block
            data.append(block.translate(bytes(int(f"{n:08b}"[::-1], 2) for n in range(256))) if fill == 2 else block)
    starts, lengths = np.cumsum([8, *map(len, data)]).tolist(), list(map(len, data))
    end = starts.pop()
    lists = struct.pack(f"{order}{2 * len(data)}I", *starts, *lengths)
    lists += struct.pack(f"{order}{kind.samples}H", *[bits] * kind.samples)
    tags = {
        256: wide, 257: high, 259: compression, 262: ("miniswhite", "minisblack", "rgb").index(kind.photometric),
        266: fill, 273: end, 277: kind.samples, 278: 5, 279: end + 4 * len(data), 284: 2 if planar else 1,
    }  # fmt: skip
    if kind.extra:
        tags[338] = 0
    many = {273: len(data), 279: len(data)}
    entries = {tag: struct.pack(order + "HHII", tag, 4, many.get(tag, 1), value) for tag, value in tags.items()}
    place = struct.pack(order + "I", end + 8 * len(data))
    few = struct.pack(f"{order}{kind.samples}H", *[bits] * kind.samples).ljust(4, b"\0")
    entries[258] = struct.pack(order + "HHI", 258, 3, kind.samples) + (place if kind.samples > 2 else few)
    table = struct.pack(order + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", end + len(lists))
    return head + b"".join(data) + lists + table, values


@pytest.mark.parametrize("kind", [*KINDS[:3], RGB, Kind("rgb", 3, 4, ("unspecified",))], ids=str)
def test_bits_are_read_in_either_order_packed_and_compressed(kind: Kind) -> None:
    for order, bits, compression, fill, planar in itertools.product(
        ORDERS, (1, 2, 4, 7, 8, 12, 16), (1, 8), (1, 2), (False, True)
    ):
        data, values = made(order, bits, kind, compression, fill, planar)
        want = in_bytes(values[..., : kind.colours], bits, "u", kind.colours)
        want = 255 - want if kind.photometric == "miniswhite" else want
        got = pixels(load(data))
        np.testing.assert_array_equal(got, np.broadcast_to(want, got.shape), err_msg=f"{order} {bits} {fill} {planar}")


@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_colours_that_pixels_share_are_spread_over_them(across: int, down: int) -> None:
    """Blocks of brightnesses, and a colour for each: read as full pixels, they were garbage."""
    wide, high = 12, 8
    grey = np.arange(wide * high).reshape(high, wide).astype(np.uint8)
    tint = np.random.default_rng(0).integers(90, 160, (high // down, wide // across, 2), dtype=np.uint8)
    units = grey.reshape(high // down, down, wide // across, across).transpose(0, 2, 1, 3)
    data = np.concatenate([units.reshape(high // down, wide // across, -1), tint], axis=2).tobytes()
    tags = {256: wide, 257: high, 258: 8, 259: 1, 262: 6, 273: 8, 277: 3, 278: high, 279: len(data)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    entries.append(struct.pack("<HHIHH", 530, 3, 2, across, down))
    whole = (
        b"II*\0"
        + struct.pack("<I", 8 + len(data))
        + data
        + struct.pack("<H", len(entries))
        + b"".join(entries)
        + bytes(4)
    )
    full = np.dstack([grey, tint.repeat(down, axis=0).repeat(across, axis=1)])
    want = Image.frombytes("YCbCr", (wide, high), full.tobytes()).convert("RGB")
    np.testing.assert_array_equal(pixels(load(whole)), np.asarray(want))


def encoded_jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene(1, 8, "u")[..., 0]).save(file, "TIFF", compression="jpeg")
    return file.getvalue()


def test_what_nothing_opens_is_not_called_damaged() -> None:
    colours = scene(3, 8, "u")
    complex_numbers = plain(np.zeros((8, 8), np.complex64))
    for data, word in (
        (complex_numbers, "complex"),
        (edited(plain(colours, photometric="rgb"), Compression=34712), "JPEG 2000"),
        (edited(plain(colours, photometric="rgb"), Compression=34887), "LERC"),
        (edited(plain(colours, photometric="rgb"), Compression=12345), "12345"),
        (edited(plain(colours, photometric="rgb"), BitsPerSample=(5, 6, 5)), "bits"),
        (edited(plain(colours[..., 0]), PhotometricInterpretation=4), "mask"),
        (plain(np.zeros((8, 8, 40), np.float64), planarconfig="contig"), "40 x 64-bit float"),
        (edited(encoded_jpeg(), BitsPerSample=12), "12-bit samples, packed as JPEG"),
        (edited(encoded_jpeg(), Compression=50001), "WebP"),
    ):
        with pytest.raises(PictureError, match=word) as caught:
            load(data)
        assert caught.value.reason == "unsupported"


def test_what_is_cut_short_or_points_nowhere_is_an_error() -> None:
    for how in (dict(planar=True), dict(tile=(16, 32)), dict(compression="zlib"), dict(compression="lzw", planar=True)):
        data = written(RGB, 32, "f", **how)
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            last = max(np.add(tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts))
        assert reason(data[: int(last) - 5]) in ("truncated", "corrupt")
    few = written(RGB, 32, "f", planar=True)
    assert reason(edited(few, ImageLength=1000)) in ("corrupt", "truncated")
    tiles = written(GREY, 64, "f", tile=(16, 32))
    assert reason(edited(tiles, TileWidth=65520, TileLength=65520)) == "corrupt"


def test_a_mutated_file_gives_a_picture_or_an_error_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(0)
    for how in (dict(planar=True), dict(tile=(16, 32)), dict(compression="lzw", order=">"), dict(big=True)):
        for kind, bits, form in ((RGB, 16, "u"), (KINDS[3], 64, "f"), (KINDS[9], 16, "u")):
            whole = written(kind, bits, form, **(how if kind.samples > 1 else how | {"planar": False}))
            for _ in range(30):
                data = bytearray(whole)
                for _ in range(chance.randrange(1, 4)):
                    at = chance.randrange(8, 400) if chance.random() < 0.7 else chance.randrange(8, len(data))
                    data[at] = chance.randrange(256)
                picture = outcome(bytes(data), max_pixels=1 << 20)
                assert picture in REASONS if isinstance(picture, str) else picture.image.mode == "RGB"
    assert capfd.readouterr() == ("", "")


def test_files_that_are_counted_come_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = [written(RGB, 16, "u", planar=True), written(RGB, 32, "f", compression="lzw", tile=(16, 32)), pyramid()]
    before = [pixels(load(one)) for one in data]
    monkeypatch.setattr(bounded, "SMALL", 0)
    for one, want in zip(data, before, strict=True):
        np.testing.assert_array_equal(pixels(load(one)), want)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_is_unpacked_here_is_turned_upright(orientation: int, tmp_path: Path) -> None:
    values = scene(3, 8, "u")
    eight = plain(values, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    sixteen = plain(np.moveaxis(values.astype(np.uint16) * 257, 2, 0), photometric="rgb", planarconfig="separate",
                    extratags=[(274, "H", 1, orientation, True)])  # fmt: skip
    (tmp_path / "x.tif").write_bytes(sixteen)
    one, two = load(eight), load(tmp_path / "x.tif")
    assert (one.notes, one.size) == (two.notes, two.size)
    np.testing.assert_array_equal(pixels(one), pixels(two))


def page(width: int, height: int, colour: int) -> Array:
    return np.full((height, width, 3), colour, np.uint8)


def several(*pages_: tuple[Array, dict[str, Any]], big: bool = False, order: str = "<") -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=big, byteorder=order) as tiff:
        for values, how in pages_:
            tiff.write(values, **({"photometric": "rgb", "metadata": None} | how))
    return file.getvalue()


def pyramid(**more: Any) -> bytes:
    """A thumbnail first, that names the picture."""
    return several((page(16, 12, 10), {"subifds": 1, "subfiletype": 1}), (page(320, 240, 200), {}), **more)


SMALLER = {"subfiletype": 1}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_the_picture_is_taken_and_not_its_thumbnail(
    big: bool, order: str, compression: str | None, tmp_path: Path
) -> None:
    how = {"compression": compression}
    for data in (
        several((page(16, 12, 10), how | {"subifds": 1} | SMALLER), (page(320, 240, 200), how), big=big, order=order),
        several((page(16, 12, 10), how | {"subifds": 1}), (page(320, 240, 200), how), big=big, order=order),
        several((page(16, 12, 10), how | SMALLER), (page(320, 240, 200), how), big=big, order=order),
        several((page(16, 12, 10), how), (page(320, 240, 200), how), big=big, order=order),
    ):
        (tmp_path / "x.tif").write_bytes(data)
        for source in (data, tmp_path / "x.tif"):
            picture = load(source)
            assert picture.size == (320, 240)
            assert (pixels(picture) == 200).all()
            assert picture.notes == ("largest of 2 pictures",)


def test_the_first_page_is_taken_where_it_is_the_picture() -> None:
    for others in (
        [(page(16, 12, 10), SMALLER)],  # a thumbnail behind it
        [(page(160, 120, 10), {}), (page(80, 60, 10), {})],  # a pyramid
        [(page(320, 240, 10), {})],  # pages
        [(page(320, 250, 10), {}), (page(300, 900, 10), {})],  # of other shapes
        [(page(640, 480, 10), SMALLER)],  # whatever that is, it says it is not the picture
        [(np.ones((480, 640), bool), {"subfiletype": 4, "photometric": "minisblack"})],  # a mask
    ):
        picture = load(several((page(320, 240, 200), {}), *others))
        assert picture.size == (320, 240)
        assert picture.notes == ("first frame",)
    below = several((page(320, 240, 200), {"subifds": 2}), (page(160, 120, 10), SMALLER), (page(80, 60, 10), SMALLER))
    assert load(below).size == (320, 240)


def test_a_file_that_has_a_thumbnail_and_no_picture_says_so() -> None:
    assert load(several((page(16, 12, 10), SMALLER))).notes == ("only a smaller version",)


def test_directories_that_lead_in_circles_or_are_without_number_end(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(several((page(16, 12, 10), {}), (page(16, 12, 10), {})))
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        second, (count,) = tiff.pages[1].offset, struct.unpack_from("<H", data, tiff.pages[1].offset)
        struct.pack_into("<I", data, second + 2 + 12 * count, tiff.pages[0].offset)
    assert load(bytes(data)).size == (16, 12)
    many = several(*[(page(2, 2, 10), {})] * 1200)
    assert load(many).notes == ("first frame",)
