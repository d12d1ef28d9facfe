"""One input -> an upright 8-bit RGB picture, or a `PictureError` that says why not.

The policy, which bites only where a picture needs it and then leaves a note: EXIF orientation is applied; alpha is laid
over white; 16-bit, 32-bit and float grey are scaled to 8 bits, never clipped; CMYK, YCbCr and LAB become RGB; ICC
profiles are ignored, as the reference ignores them; of several frames the first is taken. Truncated and damaged
pictures are errors, never filled up with grey.

What a file is, is read off its first bytes, not its name: only formats on the list below are ever handed to a decoder,
and only that one decoder is imported. `load` may be called from many threads at once.
"""

from __future__ import annotations

import importlib
import io
import logging
import math
import os
import re
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple

from PIL import Image

from vitcli.errors import PictureError, VitError, unopened
from vitcli.impostors import impostor
from vitcli.pictures import colour, headers
from vitcli.pictures.bounded import Sized, bounded
from vitcli.pictures.budget import BUDGET, Share
from vitcli.pictures.colour import UPRIGHT
from vitcli.pictures.formats import HEAD, OTHERS, PACKED, RAW, Format, recognised
from vitcli.pictures.reduced import Box, Reduced

# The largest pictures that cameras make: 200-megapixel phones store 16384 x 12288. A file of a few kilobytes can claim
# any size, so what is larger is refused before a pixel is decoded. Decoded they take 4 bytes a pixel, 0.8 GB, and on
# the way there up to what `formats` says, for which they wait in `budget`.
MAX_PIXELS = 16384 * 12288

# `decode="fast"` leaves the shorter side at least this many times as large as resizing needs: photographs of 12 million
# pixels are then decoded at 1/8 for a network of 224 x 224. What that moves is in docs/decoding.md.
FAST_MARGIN = 1.6

BLOCKS = 4096  # more bytes than the ten blocks have that a JPEG's colours share, some of them outside the picture
LARGEST_MENDED = 256 << 20  # bytes of a file that is tried once more, from memory

_ORIENTATION = 0x0112  # EXIF tag


class TooManyPixels(PictureError):
    """More than the limit, whatever else is wrong."""


class Picture(NamedTuple):
    """An upright RGB picture; `size` is (width, height) of the whole picture, also where it was decoded smaller.

    `reduced` says how it was decoded smaller, for `Preprocess.resized`.
    """

    image: Image.Image
    size: tuple[int, int]
    notes: tuple[str, ...] = ()
    reduced: Reduced | None = None


def load(
    source: Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    decode: Literal["exact", "fast"] = "exact",
    at_least: int | None = None,
    share: Share | None = None,
) -> Picture:
    """A file, or the bytes of one, -> its picture.

    `decode="fast"` lets large JPEGs be decoded at 1/2, 1/4 or 1/8 of their size, as long as the shorter side keeps
    `FAST_MARGIN` times `at_least` pixels (`Preprocess.at_least`). The `share` takes, and so may wait for, the memory
    that this needs; it is held for as long as the picture should be. Raises PictureError for whatever is wrong with the
    input, and nothing else; its reason is one of `results.REASONS`.
    """
    if share is None:
        with BUDGET.share() as own:
            return load(source, max_pixels=max_pixels, decode=decode, at_least=at_least, share=own)
    with _explained(), _opened(source) as file:
        form = _recognised(file)
        decoded = partial(
            _decoded, form, max_pixels=max_pixels, at_least=at_least if decode == "fast" else None, share=share
        )
        try:
            return decoded(file)
        except TooManyPixels:
            raise
        except PictureError as error:
            mended = _mended(form, error, file)
            if mended is None:
                raise
            return mended(decoded, error)


def _decoded(form: Format, file: Sized, max_pixels: int, at_least: int | None, share: Share) -> Picture:
    """A file of this format -> its picture."""
    image, notes = _opened_by(form, file, max_pixels, share)
    _check_pixels(image.size, max_pixels)
    share.take(_needed(form, image.size, file, getattr(image, "memory", 0)))
    file.allow_pixels(form, image.size)
    headers.check_claims(form.name, file, image.size, max_pixels)
    file.allow_pixels(form, image.size)  # which may have been read once
    with _explained(form.name, file):
        return _upright(image, at_least, notes)


def upright(image: Image.Image) -> Picture:
    """A PIL image in any mode -> its picture, by the same policy. Raises PictureError."""
    with _explained(image.format or "picture"):
        return _upright(image, None, [])


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Sized]:
    """A regular file, opened so that nothing else can be: a FIFO would block for ever, a device may act."""
    if isinstance(source, bytes):
        if not source:
            raise PictureError("empty", "It holds no bytes.")
        yield _in_memory(source)
        return
    try:
        _check_regular(source.stat())  # first, because opening a FIFO already wakes up its writer
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(source, flags)
    except (OSError, ValueError) as error:
        raise unopened(error) from None
    with io.FileIO(descriptor) as file:
        info = os.fstat(descriptor)
        _check_regular(info)  # again, because the name may mean something else by now
        if info.st_size == 0:
            raise PictureError("empty", "It is empty (0 bytes): copy or download it again.")
        yield bounded(file, info.st_size)


def _check_regular(info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
        kind = kinds.get(stat.S_IFMT(info.st_mode), "device")
        raise PictureError("not_a_file", f"It is a {kind}, not a file.")


def _recognised(file: Sized) -> Format:
    head = file.read(HEAD)
    if form := recognised(head):
        if form.name == "TIFF":
            from vitcli.pictures import tiff

            return RAW if tiff.is_raw(file) else form
        return form
    if other := recognised(head, OTHERS):
        raise PictureError("unsupported", f"{other.name} files are not among those that vit opens: convert it to PNG.")
    if packed := recognised(head, PACKED):
        raise PictureError("unsupported", f"It is packed with {packed.name}, not a picture: unpack it.")
    what = impostor(head)
    if what == "a git-lfs pointer":
        raise PictureError("not_a_picture", f"It is {what}: fetch the picture itself with `git lfs pull`.")
    kind = what or "not a picture"
    raise PictureError("not_a_picture", f"Its contents are {kind}, whatever its name: look into it, or leave it out.")


def _opened_by(form: Format, file: Sized, max_pixels: int, share: Share) -> tuple[Image.Image, list[str]]:
    """The picture, its header read and its pixels not yet decoded, and notes on which of several it is."""
    try:
        plugin = importlib.import_module(form.plugin or "")
        if form.name == "HEIF":
            plugin.register_heif_opener()
    except ImportError:
        with suppress(FileNotFoundError), Path(os.devnull).open():
            pass  # without a file left, nothing can be imported either
        hint = f"install its plug-in with: pip install 'vitcli[{form.extra}]'" if form.extra else "reinstall Pillow"
        kind = "raw photograph" if form is RAW else f"{form.name} file"
        raise PictureError("unsupported", f"It is a {kind}: {hint}.") from None
    if not getattr(plugin, "SUPPORTED", True):
        raise PictureError("unsupported", f"It is a {form.name} file, which this build of Pillow cannot decode.")
    with _explained(form.name, file):
        file.allow(form)
        file.seek(0)
        if form.name == "JPEG":
            headers.check_exif(file)
        # Two decoders claim memory for the whole picture, or decode it, as soon as they are given the file.
        if size := headers.claimed_size(form.name, file):
            _check_pixels(size, max_pixels)
            share.take(_needed(form, size, file))
        file.seek(0)
        if opened := getattr(plugin, "opened", None):
            found: tuple[Image.Image, list[str]] = opened(file)
            return found
        # What Image.open does, without its importing five plug-ins first, and with ours as the only candidate.
        image = Image.OPEN[form.name][0](file, "")
        if form.name == "PPM":
            from vitcli.pictures import netpbm

            netpbm.quicken(image)
        return image, []


def _needed(form: Format, size: tuple[int, int], file: Sized, memory: int = 0) -> int:
    """Bytes of memory that decoding takes, where a pixel takes so many; a file that is taken whole is kept twice, by
    Pillow and by its decoder.
    """
    return size[0] * size[1] * max(form.memory, memory) + (2 * file.size if form.whole else 0)


def _mended(
    form: Format, error: PictureError, file: Sized
) -> Callable[[Callable[..., Picture], PictureError], Picture] | None:
    """How a file that failed is tried once more, where what is wrong with it may be no matter to its pixels."""
    if form.name == "PNG" and error.reason in ("too_large", "corrupt") and file.size <= LARGEST_MENDED:
        return partial(_without_texts, file)
    if form.name == "JPEG" and error.reason == "truncated" and file.size <= LARGEST_MENDED:
        return partial(_with_an_end, file)
    return None


def _without_texts(file: Sized, decoded: Callable[..., Picture], error: PictureError) -> Picture:
    """A PNG without its colour profile and those texts that say nothing of its pixels, however large or damaged."""
    data = headers.without_texts(_all_of(file))
    if len(data) == file.size:
        raise error
    return decoded(_in_memory(data))


def _with_an_end(file: Sized, decoded: Callable[..., Picture], error: PictureError) -> Picture:
    """A JPEG that lacks nothing but its end: whatever follows in its place, its pixels stay as they are."""
    from PIL import ImageChops

    data = _all_of(file).rstrip(b"\xff")
    scan = headers.only_scan(_in_memory(data))
    if scan is None:
        raise error
    # Decoders that wait for a restart pass over anything else: the next ones are there too.
    restarts = len(re.findall(rb"\xff[\xd0-\xd7]", data[scan:]))
    parts = (b"", *(bytes([0xFF, 0xD0 + (restarts + i) % 8]) for i in range(8)), b"\xff\xd9")
    first, *others = (_in_memory(data + (bytes([byte]) * BLOCKS).join(parts)) for byte in (0, 0x36, 0x55, 0xAA))
    picture = decoded(first, at_least=None).image
    for other in others:
        if ImageChops.difference(picture, decoded(other, at_least=None).image).getbbox():
            raise error
    mended = decoded(_in_memory(data + b"\xff\xd9"))
    return mended._replace(notes=(*mended.notes, "no end marker"))


def _all_of(file: Sized) -> bytes:
    """All its bytes, once more."""
    file.left = file.size
    file.seek(0)
    return file.read()


def _in_memory(data: bytes) -> Sized:
    return bounded(io.BytesIO(data), len(data))  # type: ignore[arg-type]  # not raw, but read so


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise TooManyPixels(
            "too_large",
            f"It has {width} x {height} pixels ({width * height / 1e6:,.0f} million), more than the limit of "
            f"{max_pixels / 1e6:,.0f} million: raise --max-pixels if you trust it.",
        )
    if width < 1 or height < 1:
        raise PictureError("corrupt", f"It claims to have {width} x {height} pixels.")


def settle_pillow(max_pixels: int = MAX_PIXELS) -> None:
    """For a command, whose process is its own: Pillow warns nobody, and refuses nothing up to `max_pixels`.

    Its warnings and log speak of metadata, and what matters comes as an exception. `warnings.catch_warnings` would be
    the tidy way, but it is not safe with threads before Python 3.14. As a library, vit leaves all this alone: pictures
    beyond `PIL.Image.MAX_IMAGE_PIXELS` may then be refused by Pillow.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else it prints to stderr
    # Pillow has a limit of its own, half of which only warns; ours takes its place, and may be the larger one.
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS * 2:
        Image.MAX_IMAGE_PIXELS = math.ceil(max_pixels / 2)
    rule = ("ignore", None, Warning, _PILLOW, 0)
    if not warnings.filters or warnings.filters[0] != rule:
        warnings.filterwarnings("ignore", module=_PILLOW.pattern)


_PILLOW = re.compile(r"(PIL|pillow_heif|pillow_jxl)\b")


def _upright(image: Image.Image, at_least: int | None, notes: list[str]) -> Picture:
    if (
        not notes and getattr(image, "is_animated", False) and image.format != "MPO"
    ):  # an MPO's first picture is the photograph
        notes.append("first frame")
    size = image.size
    reduced: Reduced | None = None
    if at_least and image.format in ("JPEG", "MPO"):
        needed = math.ceil(at_least * FAST_MARGIN)
        if min(size) >= 2 * needed and (drafted := image.draft(None, (needed, needed))):
            notes.append("fast decode")
            reduced = Reduced(round(size[0] / drafted[1][2]), drafted[1])
    turned = getattr(image, "tag_v2", {}).get(_ORIENTATION, 1)  # Pillow turns TIFFs itself, and forgets it did
    image.load()
    notes += getattr(image, "notes", ())
    if image.format == "HEIF":
        turned = image.info.get("original_orientation") or 1  # turned by libheif
    elif image.format in ("TIFF", "RAW"):
        size = image.size
    else:
        turned = _orientation(image)
    rgb = colour.rgb(image, notes)
    if turned in UPRIGHT:
        notes.append("rotated")
        if image.format not in ("TIFF", "HEIF"):
            reduced = reduced and reduced._replace(box=_turned(reduced.box, rgb.size, turned))
            rgb = rgb.transpose(UPRIGHT[turned])
            size = size if turned < 5 else size[::-1]
    return Picture(rgb, size, tuple(notes), reduced)


def _turned(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Where a box in an image of (width, height) lies when the image has been turned upright."""
    (left, top, right, bottom), (width, height) = box, size
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return (left, top, right, bottom) if orientation < 5 else (top, left, bottom, right)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8, also where XMP says it; 1 where it is absent, damaged or out of range."""
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1  # the JPEG XL standard: decoders have turned it already, EXIF does not count
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata raises all sorts of things, and is no reason to refuse a picture
        return 1
    return orientation if orientation in UPRIGHT else 1


@contextmanager
def _explained(name: str = "picture", file: IO[bytes] | None = None) -> Iterator[None]:
    """Whatever a decoder raises -> PictureError. They raise nearly everything, as damaged files take them anywhere."""
    try:
        yield
    except (VitError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except MemoryError:
        raise PictureError("out_of_memory", "There is not enough memory to decode it.") from None
    except Image.DecompressionBombError:
        raise PictureError("too_large", "It has more pixels than Pillow decodes.") from None
    except OSError as error:
        if error.errno is not None:
            raise unopened(error) from error
        raise _damaged(error, name, file) from error
    except BaseException as error:  # plug-ins written in Rust panic past Exception
        raise _damaged(error, name, file) from error


def _damaged(error: BaseException, name: str, file: IO[bytes] | None) -> PictureError:
    said = " ".join(str(error).split())[:100]
    ends = isinstance(error, (EOFError, struct.error)) or "truncated" in said.lower()
    if isinstance(error, ValueError) and ("MAX_TEXT" in said or "too large" in said.lower()):
        return PictureError("too_large", "It holds a text or colour profile that inflates past Pillow's limit.")
    if ends or (file and headers.cut_short(name, file)):
        return PictureError("truncated", f"The {name} data ends too early: copy or download it again.")
    what = type(error).__name__ + (f": {said}" if said else "")
    return PictureError("corrupt", f"The {name} data is damaged ({what}).")
