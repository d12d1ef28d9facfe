"""TIFFs: which of a file's pictures is meant, and those arrangements of pixels that Pillow refuses, or reads wrongly.

A TIFF may have a thumbnail first, and its picture in a directory that only another one names. Its samples may have any
number of bits, be signed or floats, and lie in planes. Pillow reads most of what is 8-bit. The rest is unpacked here,
with numpy; libtiff, through Pillow, only undoes the compression. Specification: TIFF 6.0; BigTIFF; Adobe's technical
notes on TIFF trees and on floats.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import takewhile
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, TiffImagePlugin

from vitcli.errors import PictureError
from vitcli.pictures import colour
from vitcli.pictures.bounded import SMALL, Sized, bounded

Array: TypeAlias = npt.NDArray[Any]
Order: TypeAlias = Literal["<", ">"]

# Directories that are looked at, and entries in all of them: a scan may have thousands of pages, and any of them lie.
MAX_PAGES, MAX_ENTRIES = 1000, 1 << 17
MAX_SAMPLE = 64  # bytes of all the samples of a pixel
GROUP = 1 << 24  # bytes that are unpacked at a time

# The tags that are read, by their names in the specification.
SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL = 254, 255, 256, 257, 258, 259, 262, 266
OFFSETS, ORIENTATION, SAMPLES, ROWS, COUNTS, PLANAR, PREDICTOR, PALETTE = 273, 274, 277, 278, 279, 284, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, SUBS, EXTRA, FORMAT, SUBSAMPLING = (
    322, 323, 324, 325, 330, 338, 339, 530,
)  # fmt: skip

# Bytes of one value of a tag, by its kind, and how integers among them are read.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}

# PhotometricInterpretation
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTED, MASK, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 4, 5, 6, 8, 9
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTED: 1, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
RAW = (32803, 34892)  # a colour filter's array, and the same made linear: what a sensor saw

# Compressions that give back bytes, whatever these mean; all others know what a pixel is, and are left to Pillow.
PLAIN, JPEG = 1, (6, 7)
BYTEWISE = {PLAIN, 5, 8, 32773, 32946, 34925, 50000}
PACKED = {
    33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34713: "NEF", 34715: "JBIG",
    2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "JPEG", 7: "JPEG", 34676: "LogLuv", 34677: "LogLuv", 50001: "WebP",
    34887: "LERC", 34933: "PNG", 34934: "JPEG XR", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
FLOATS = {16: np.float16, 32: np.float32, 64: np.float64}
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WORDS = {UNSIGNED: "unsigned", SIGNED: "signed", FLOAT: "float"}
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Entry(NamedTuple):
    """A tag's value: of what kind, how many, and where in the file."""

    kind: int
    number: int
    at: int


class Page(NamedTuple):
    """A directory: a picture, or a smaller version of one, or a mask. `below` another one, which names it, or not."""

    file: Sized
    order: Order
    big: bool
    at: int
    entries: dict[int, Entry]
    claimed: int  # bytes of values that stand elsewhere
    next: int
    below: bool

    def values(self, tag: int) -> tuple[int, ...]:
        """Its integers, none if they are no integers, not there, or past the end of the file."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in INTEGERS:
            return ()
        size = entry.number * SIZES[entry.kind]
        if entry.at + size > self.file.size:
            return ()
        self.file.seek(entry.at)
        return struct.unpack(f"{self.order}{entry.number}{INTEGERS[entry.kind]}", self.file.read(size))

    def value(self, tag: int, otherwise: int = 0) -> int:
        """The first of them."""
        return next(iter(self.values(tag)), otherwise)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, before it is turned."""
        return self.value(WIDTH), self.value(HEIGHT)

    @property
    def pixels(self) -> int:
        """How many."""
        return self.size[0] * self.size[1]

    @property
    def is_part(self) -> bool:
        """Whether it says of itself that it is a smaller version of another, or the mask of one."""
        return bool(self.value(SUBFILE) & 5) or self.value(OLD_SUBFILE) == 2


def pages(file: Sized) -> list[Page]:
    """The directories of a file as they follow each other, each with those that it names; none if it is damaged."""
    file.seek(0)
    head = file.read(16).ljust(16, b"\0")
    order: Order = "<" if head[:2] == b"II" else ">"
    big = b"+" in head[2:4]
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    found: list[Page] = []
    seen = set()
    while at not in seen and len(found) < MAX_PAGES and sum(len(page.entries) for page in found) < MAX_ENTRIES:
        seen.add(at)
        page = _page(file, order, big, at, below=False)
        if page is None:
            break
        found.append(page)
        at = page.next
        subs = [_page(file, order, big, where, below=True) for where in page.values(SUBS)[:MAX_PAGES]]
        found += [sub for sub in subs if sub and WIDTH in sub.entries]
    return found


def _page(file: Sized, order: Order, big: bool, at: int, below: bool) -> Page | None:
    count, entry, here = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)  # an entry ends with its value, or where that is
    width = struct.calcsize(order + count)
    length = struct.calcsize(order + entry) + here
    if not 8 <= at < file.size - width:
        return None
    file.seek(at)
    (number,) = struct.unpack(order + count, file.read(width))
    number = min(number, 0xFFFF)
    table = file.read(number * length + here)
    entries, claimed = {}, 0
    for place in range(0, min(number * length, len(table) - length + 1), length):
        tag, kind, many = struct.unpack_from(order + entry, table, place)
        size = many * SIZES.get(kind, 0)
        where = at + width + place + length - here
        if size > here:
            claimed += size
            (where,) = struct.unpack_from(order + ("Q" if big else "I"), table, place + length - here)
        entries[tag] = Entry(kind, many, where)
    rest = table[number * length :]
    after = struct.unpack(order + ("Q" if big else "I"), rest)[0] if len(rest) == here else 0
    return Page(file, order, big, at, entries, claimed, after, below)


def is_raw(file: Sized) -> bool:
    """Whether it is a raw photograph, whatever else it has: what a sensor saw stands in one of its directories."""
    return any(page.value(PHOTOMETRIC) in RAW for page in pages(file))


def cut_short(file: Sized) -> bool:
    """Whether a raw photograph is shorter than the directory says that has what its sensor saw."""
    return any(
        at + length > file.size
        for page in pages(file)
        if page.value(PHOTOMETRIC) in RAW
        for where, lengths in ((OFFSETS, COUNTS), (TILE_OFFSETS, TILE_COUNTS))
        for at, length in zip(page.values(where), page.values(lengths), strict=False)
    )


def main_page(found: list[Page]) -> Page:
    """The picture that is meant: the first, unless that is a thumbnail.

    It is one if it says so, if it names a larger one, or if a later page has the same shape and at least twice its
    width. Then it is the largest of those that do not call themselves smaller versions or masks.
    """
    first, *others = found
    if not first.is_part:
        own = list(takewhile(lambda page: page.below, others))
        others = own + [page for page in others if _enlarges(first, page)]
    whole = [page for page in (first, *others) if not page.is_part]
    return max(whole or found, key=lambda page: page.pixels)


def _enlarges(small: Page, large: Page) -> bool:
    (width, height), (wide, high) = small.size, large.size
    return not large.below and wide >= 2 * width and abs(wide * height - high * width) <= max(wide, high)


class Layout(NamedTuple):
    """How the pixels of a page are stored: `samples` a pixel, each of so many `bits`, of which the first are `kept`.

    A block is a strip or a tile, of `block` (width, height); they lie `across` and `down` the picture, in `planes`.
    """

    width: int
    height: int
    bits: int
    form: int
    samples: int
    photometric: int
    extra: tuple[int, ...]
    compression: int
    planar: bool
    block: tuple[int, int]
    tiled: bool

    @property
    def alpha(self) -> int:
        """1 where colours are multiplied by it, 2 where they are not, 0 where there is none."""
        colours = COLOURS[self.photometric]
        if not self.extra and self.photometric == RGB and self.samples == 4:
            return 2  # said by some to be so without a word
        return self.extra[0] if self.samples > colours and self.extra and self.extra[0] in (1, 2) else 0

    @property
    def kept(self) -> int:
        """Samples of a pixel that are looked at: the colours, and alpha."""
        has_alpha = self.alpha and self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
        return COLOURS[self.photometric] + bool(has_alpha)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a sample, once it is unpacked."""
        if self.form == FLOAT:
            return np.dtype(FLOATS[self.bits])
        size = next(size for size in (1, 2, 4, 8) if size * 8 >= self.bits)
        return np.dtype(f"{'i' if self.form == SIGNED else 'u'}{size}")

    @property
    def memory(self) -> int:
        """Bytes for each pixel, at most, until it is 8-bit: the samples twice, and what is made of them."""
        return 2 * self.kept * self.dtype.itemsize + 16


def layout(page: Page) -> Layout:
    """How a page's pixels are stored. Raises PictureError for arrangements that nothing here unpacks."""
    width, height = page.size
    bits = page.values(BITS) or (1,)
    forms = page.values(FORMAT) or (UNSIGNED,)
    samples = page.value(SAMPLES, 1)
    photometric = page.value(PHOTOMETRIC)
    compression = page.value(COMPRESSION, PLAIN)
    form = UNSIGNED if forms[0] == 4 else forms[0]  # 4: nobody said
    if photometric not in COLOURS:
        raise unsupported("a mask" if photometric == MASK else f"its colours are of kind {photometric}")
    if samples < COLOURS[photometric]:
        raise PictureError("corrupt", f"The TIFF data is damaged ({samples} samples for each pixel).")
    if len(set(bits)) > 1 or len(set(forms)) > 1:
        raise unsupported("samples that differ in their bits")
    what = f"{samples} x {bits[0]}-bit {WORDS.get(form, 'complex')}"
    if compression not in BYTEWISE:
        raise unsupported(f"{what}, packed as {PACKED.get(compression, f'number {compression}')}")
    allowed = {UNSIGNED: (*range(1, 17), 32, 64), SIGNED: (8, 16, 32, 64), FLOAT: tuple(FLOATS)}.get(form, ())
    if bits[0] not in allowed or samples * bits[0] > MAX_SAMPLE * 8:
        raise unsupported(what)
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB) and (form != UNSIGNED or bits[0] not in (8, 16)):
        raise unsupported(what)
    tiled = TILE_WIDTH in page.entries
    block = (
        (page.value(TILE_WIDTH), page.value(TILE_HEIGHT))
        if tiled
        else (width, max(1, min(height, page.value(ROWS, height))))
    )
    if min(block) < 1 or block[0] * block[1] > 4 * width * height + SMALL:
        raise PictureError("corrupt", f"It claims tiles of {block[0]} x {block[1]} pixels: it is damaged.")
    return Layout(
        width, height, bits[0], form, samples, photometric, page.values(EXTRA), compression,
        page.value(PLANAR, 1) == 2 and samples > 1, block, tiled,
    )  # fmt: skip


def unsupported(what: str) -> PictureError:
    """That a TIFF is whole, and of a kind that is not read."""
    return PictureError("unsupported", f"It is a TIFF of a kind that vit does not open ({what}): convert it to PNG.")


def misread(page: Page) -> bool:
    """Whether Pillow might read it wrongly, all of which was seen: see `tests/test_tiff.py`."""
    form, bits, photometric = page.value(FORMAT, UNSIGNED), page.value(BITS, 1), page.value(PHOTOMETRIC)
    plain, planar = page.value(COMPRESSION, PLAIN) == PLAIN, page.value(PLANAR, 1) == 2
    return page.value(COMPRESSION, PLAIN) in BYTEWISE and (
        form in (SIGNED, FLOAT)  # in the other byte order, or below zero
        or bits > 16
        or (bits < 8 and page.value(PREDICTOR, 1) != 1)  # libtiff refuses it
        or (planar and (plain or photometric not in (RGB, CMYK, YCBCR)))
        or (plain and photometric == YCBCR)  # colours that pixels share
        or (plain and page.value(FILL, 1) == 2)
        or (page.big and page.order == ">")  # taken for a classic TIFF
    )


@cache
def _libtiff() -> ctypes.CDLL | None:
    """The library that Pillow decodes with, stopped from printing to stderr what is wrong with a file; Pillow raises an
    exception for it anyway.

    Its handlers can be taken off in C only. Where it is not to be reached, its lines merely stay.
    """
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(
            importlib.import_module("PIL._imaging").__file__
        )  # finds the libraries that Pillow was linked with
        for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(library, handler)
            setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
            setter(None)
        return library
    return None


def _unpacks(compression: int) -> bool:
    """Whether this build of libtiff undoes a compression that it knows."""
    library = _libtiff()
    return library is None or bool(library.TIFFIsCODECConfigured(ctypes.c_uint16(compression)))


def opened(file: Sized) -> tuple[Image.Image, list[str]]:
    """The picture that is meant, its pixels not yet decoded, and notes on what was chosen.

    Raises PictureError for one that nothing reads, and for tags that claim more data than the file holds: libtiff reads
    the same bytes for each of them, past every limit of ours, as it reads the file itself.
    """
    found = pages(file)
    if not found:
        file.seek(0)
        return TiffImagePlugin.TiffImageFile(file, ""), []  # which says what is wrong
    page, notes = main_page(found), []
    if page.claimed > file.size + SMALL:
        raise PictureError("corrupt", "Its tags claim more data than the file holds: it is damaged, or made to harm.")
    if page is not found[0]:
        notes.append(f"largest of {len(found)} pictures")
        file = _beginning_at(page)
    elif page.is_part:
        notes.append("only a smaller version")
    compression, bits = page.value(COMPRESSION, PLAIN), page.value(BITS, 1)
    if not _unpacks(compression) or (compression in JPEG and bits != 8):  # of 12, Pillow makes something else
        raise unsupported(f"{bits}-bit samples, packed as {PACKED.get(compression, f'number {compression}')}")
    if not misread(page):
        try:
            file.seek(0)
            return TiffImagePlugin.TiffImageFile(file, ""), notes
        except (SyntaxError, KeyError):  # what it has no name for
            if page.pixels == 0:
                raise
    return Unpacked(page, layout(page)), notes


def _beginning_at(page: Page) -> Sized:
    """The same file, its header changed so that decoders find this page first."""
    page.file.seek(0)
    data = bytearray(page.file.read())
    struct.pack_into(page.order + ("Q" if page.big else "I"), data, 8 if page.big else 4, page.at)
    changed = bounded(io.BytesIO(data), len(data))  # type: ignore[arg-type]  # not raw, but read so
    changed.left = page.file.left
    return changed


class Unpacked(ImageFile.ImageFile):
    """A page that is unpacked here, when its pixels are asked for."""

    format = "TIFF"

    def __init__(self, page: Page, stored: Layout) -> None:
        self.page, self.stored, self.notes = page, stored, list[str]()
        self.memory = stored.memory
        self.is_animated = bool(page.next)
        self.tag_v2 = {ORIENTATION: page.value(ORIENTATION, 1)}
        super().__init__(page.file, "")

    def _open(self) -> None:
        self._mode, self._size = "RGB", (self.stored.width, self.stored.height)

    def load(self) -> Any:
        """Decode it."""
        if self._im is None:
            image = picture(unpack(self.page, self.stored), self.stored, self.page, self.notes)
            upright = colour.UPRIGHT.get(self.tag_v2[ORIENTATION])
            image = image if upright is None else image.transpose(upright)
            self._mode, self._size, self.im = image.mode, image.size, image.im
        return Image.Image.load(self)


def picture(values: Array, stored: Layout, page: Page, notes: list[str]) -> Image.Image:
    """Samples [h w kept] -> a picture in one of Pillow's 8-bit modes."""
    kind = stored.photometric
    if kind == PALETTED:
        table = np.array(page.values(PALETTE), np.uint16).reshape(3, -1)
        if values.max() >= table.shape[1]:
            raise PictureError("corrupt", "The TIFF data is damaged (a colour that its palette does not have).")
        return Image.fromarray((table[:, values[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0))
    colours = COLOURS[kind]
    pixels = np.empty(values.shape, np.uint8)
    pixels[..., :colours] = _in_bytes(values[..., :colours], stored, notes)
    if kind == WHITE_IS_ZERO:
        np.subtract(255, pixels[..., :1], out=pixels[..., :1])
    if stored.kept > colours:
        pixels[..., colours:] = _alpha_in_bytes(values[..., colours:], stored)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[stored.kept] if kind in (0, 1, 2) else _MODES[kind]
    if stored.kept > colours and stored.alpha == 1:
        return Image.frombytes("RGBA", (stored.width, stored.height), _rgba(pixels).tobytes(), "raw", "RGBa")
    # the unpacker of LAB turns the signed a and b of CIELAB; ICCLAB's are unsigned already
    packed = pixels if kind != ICCLAB else pixels ^ np.array([0, 128, 128], np.uint8)
    size = (stored.width, stored.height)
    return Image.frombytes(mode, size, np.ascontiguousarray(packed).tobytes())


_MODES = {CMYK: "CMYK", YCBCR: "YCbCr", CIELAB: "LAB", ICCLAB: "LAB"}


def _rgba(pixels: Array) -> Array:
    """Grey and alpha [h w 2] -> [h w 4]; colours with alpha as they are."""
    return pixels if pixels.shape[2] == 4 else pixels[..., [0, 0, 0, 1]]


def _in_bytes(values: Array, stored: Layout, notes: list[str]) -> Array:
    """Samples -> bytes, by the policy for deep grey; 16-bit colours by their upper half, as Pillow takes them."""
    if stored.form == UNSIGNED and stored.bits <= 16:
        if stored.bits > 8 and stored.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO):
            return (values >> (stored.bits - 8)).astype(np.uint8)
        if stored.bits > 8:
            notes.append("16-bit scaled")
        return values if stored.bits == 8 else colour.scaled(values, 0.0, float(2**stored.bits - 1))
    black, white = colour.bounds(values, stored.form == FLOAT)
    if (black, white) != (0.0, 255.0) or stored.bits != 8:
        notes.append("float scaled" if stored.form == FLOAT else f"{stored.bits}-bit scaled")
    return colour.scaled(values, black, white)


def _alpha_in_bytes(values: Array, stored: Layout) -> Array:
    """Alpha -> bytes: floats from 0 to 1, integers up to their largest."""
    if stored.form == UNSIGNED and 8 < stored.bits <= 16 and stored.photometric == RGB:
        return (values >> (stored.bits - 8)).astype(np.uint8)  # as its colours
    most = 1.0 if stored.form == FLOAT else float(2 ** (stored.bits - (stored.form == SIGNED)) - 1)
    return np.rint(np.clip(values.astype(np.float64) / most, 0, 1) * 255).astype(np.uint8)


def unpack(page: Page, stored: Layout) -> Array:
    """The samples of a page: [h w kept]."""
    values = np.empty((stored.height, stored.width, stored.kept), stored.dtype)
    wide, high = stored.block
    across, down = -(-stored.width // wide), -(-stored.height // high)
    places = page.values(TILE_OFFSETS) or page.values(OFFSETS)
    counts = page.values(TILE_COUNTS) or page.values(COUNTS)
    planes = range(stored.kept) if stored.planar else range(1)
    if len(places) < across * down * len(planes):
        raise PictureError("corrupt", "The TIFF data is damaged (it names too few strips or tiles).")
    subsampled = _subsampling(page, stored, counts)
    for plane in planes:
        blocks = range(plane * across * down, (plane + 1) * across * down)
        rows = [high if stored.tiled else min(high, stored.height - at % down * high) for at in range(across * down)]
        width = _row_bytes(stored)
        if subsampled:
            width, rows = 1, [_subsampled_bytes(stored, row, subsampled) for row in rows]
        data = _blocks(
            page, stored, [(places[at], counts[at] if at < len(counts) else None) for at in blocks], rows, width
        )
        for at, block in enumerate(data):
            top, left = at // across * high, at % across * wide
            part = values[top : top + high, left : left + wide]
            if subsampled:
                part[:] = _ycbcr(block, stored, len(part), subsampled)
                continue
            samples = _samples(block, stored, page)
            if stored.planar:
                part[..., plane] = samples[: len(part), : part.shape[1], 0]
            else:
                part[:] = samples[: len(part), : part.shape[1], : stored.kept]
    return values


def _row_bytes(stored: Layout) -> int:
    return -(-stored.block[0] * (1 if stored.planar else stored.samples) * stored.bits // 8)


def _blocks(
    page: Page, stored: Layout, places: list[tuple[int, int | None]], rows: list[int], width: int
) -> Iterator[bytes]:
    """The bytes of each block, of so many rows of `width` bytes, unpacked."""
    fill = page.value(FILL, 1)
    group: list[tuple[bytes, int]] = []
    for (at, count), height in zip(places, rows, strict=True):
        wanted = height * width if stored.compression == PLAIN or count is None else count
        if at + wanted > page.file.size:
            raise PictureError("truncated", "The TIFF data ends too early: copy or download it again.")
        page.file.seek(at)
        data = page.file.read(wanted)
        if stored.compression == PLAIN:
            yield data.translate(REVERSED) if fill == 2 else data
            continue
        if group and (height > group[0][1] or group[-1][1] < group[0][1] or len(group) * group[0][1] * width > GROUP):
            yield from _unpacked(group, stored.compression, fill, width)
            group = []
        group.append((data, height))
    if group:
        yield from _unpacked(group, stored.compression, fill, width)


def _unpacked(group: list[tuple[bytes, int]], compression: int, fill: int, width: int) -> Iterator[bytes]:
    """Blocks of bytes, each with its rows, unpacked by libtiff. It is told that they are the strips of a grey picture,
    of which only the last may have fewer rows.
    """
    data = b"".join(block for block, _ in group)
    many = len(group)
    lengths = [len(block) for block, _ in group]
    starts = np.cumsum([8, *lengths[:-1]]).tolist()
    lists = struct.pack(f"<{2 * many}I", *starts, *lengths)
    after = 8 + len(data)
    tags = {
        WIDTH: width, HEIGHT: sum(rows for _, rows in group), BITS: 8, COMPRESSION: compression, PHOTOMETRIC: 1,
        FILL: fill, OFFSETS: after if many > 1 else 8, SAMPLES: 1, ROWS: group[0][1],
        COUNTS: after + 4 * many if many > 1 else len(data),
    }  # fmt: skip
    counted = (OFFSETS, COUNTS)
    directory = b"".join(
        struct.pack("<HHII", tag, 4, many if tag in counted else 1, value) for tag, value in tags.items()
    )
    head = b"II*\0" + struct.pack("<I", after + len(lists))
    whole = head + data + lists + struct.pack("<H", len(tags)) + directory + bytes(4)
    unpacked = np.asarray(TiffImagePlugin.TiffImageFile(io.BytesIO(whole)))
    top = 0
    for _, rows in group:
        yield unpacked[top : top + rows].tobytes()
        top += rows


def _samples(block: bytes, stored: Layout, page: Page) -> Array:
    """The bytes of a block -> its samples [rows columns samples]."""
    wide, many = stored.block[0], 1 if stored.planar else stored.samples
    predictor = page.value(PREDICTOR, 1) if stored.compression not in (PLAIN, 32773) else 1
    if stored.bits not in (8, 16, 32, 64):
        if predictor != 1:
            raise unsupported(f"differences of {stored.bits}-bit samples")
        return _bits(np.frombuffer(block, np.uint8).reshape(-1, _row_bytes(stored)), stored, many)
    size = stored.bits // 8
    if predictor == 3 and stored.form == FLOAT:
        rows = np.frombuffer(block, np.uint8).reshape(-1, wide * size, many)
        planes = np.cumsum(rows, axis=1, dtype=np.uint8).reshape(-1, size, wide * many)
        joined = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(stored.dtype.newbyteorder(">"))
        return joined.reshape(-1, wide, many).astype(stored.dtype)
    if predictor not in (1, 2):
        raise unsupported(f"predictor {predictor}")
    unsigned = np.dtype(f"u{size}")
    values = np.frombuffer(block, unsigned.newbyteorder(page.order)).astype(unsigned).reshape(-1, wide, many)
    if predictor == 2:
        values = np.cumsum(values, axis=1, dtype=unsigned)
    return values.view(stored.dtype)


def _bits(rows: Array, stored: Layout, many: int) -> Array:
    """Rows of bytes [h n] -> samples of any number of bits, the uppermost first, whatever the byte order."""
    wide, bits = stored.block[0], stored.bits
    values = np.empty((len(rows), wide, many), stored.dtype)
    weights = (1 << np.arange(bits, dtype=np.int32)[::-1]).astype(np.int32)
    step = max(1, colour.BAND // max(1, wide * many))
    for top in range(0, len(rows), step):
        ones = np.unpackbits(rows[top : top + step], axis=1)[:, : wide * many * bits]
        values[top : top + step] = (ones.reshape(-1, wide, many, bits) @ weights).astype(stored.dtype)
    return values


def _subsampling(page: Page, stored: Layout, counts: tuple[int, ...]) -> tuple[int, int] | None:
    """Pixels across and down that share their colours; None where each has its own, if only by a strip's length."""
    if stored.photometric != YCBCR:
        return None
    across, down = (*page.values(SUBSAMPLING), 2, 2)[:2]
    full = _row_bytes(stored) * stored.block[1]
    if (across, down) == (1, 1) or (SUBSAMPLING not in page.entries and counts and counts[0] >= full):
        return None
    if stored.planar or stored.tiled or stored.bits != 8 or across not in (1, 2, 4) or down not in (1, 2, 4):
        raise unsupported("colours for several pixels at once")
    return across, down


def _subsampled_bytes(stored: Layout, rows: int, shared: tuple[int, int]) -> int:
    across, down = shared
    return -(-stored.width // across) * -(-rows // down) * (across * down + 2)


def _ycbcr(block: bytes, stored: Layout, rows: int, shared: tuple[int, int]) -> Array:
    """Units of `across` x `down` brightnesses and two colours -> [rows width 3]."""
    across, down = shared
    wide = -(-stored.width // across)
    units = np.frombuffer(block, np.uint8).reshape(-1, wide, across * down + 2)
    grey = units[..., :-2].reshape(-1, wide, down, across).transpose(0, 2, 1, 3).reshape(-1, wide * across, 1)
    tint = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.concatenate([grey, tint], axis=2)[:rows, : stored.width]
