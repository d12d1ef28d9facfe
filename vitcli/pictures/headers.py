"""What a picture's header says, read without its decoder: its size, what decoding takes, and whether the file is whole.

A decoder that claims memory for the whole picture as soon as it sees the file needs the size first; one that takes
minutes over a small file must not be asked at all; and when one fails, its message rarely tells a file that was cut
short from one that is damaged.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Literal

from vitcli.errors import PictureError
from vitcli.pictures.bounded import SMALL, Sized

# Segments of EXIF before a JPEG's pixels, and of Photoshop's data. The standard has one of each, and Photoshop some;
# Pillow joins those of EXIF, each time copying all so far, and makes an object of every 12 bytes of the others.
MAX_EXIF = 64
PARSED = {0xE1: b"Exif\0\0", 0xED: b"Photoshop 3.0\0"}  # marker: how such a segment begins

# Bytes of a PPM, PGM or PBM whose pixels are written as digits: Pillow takes a second or more for so many millions.
MAX_DIGITS = 16 << 20

# How often a JPEG may go over all its pixels, on one of the largest size; smaller ones may do so more often. libjpeg
# writes 10 scans, 18 for four colours (`jpeg_simple_progression`), and one that holds nothing takes a few bytes.
MAX_PASSES = 50

# A canvas that is larger than this, in pixels, must be filled by its frames to at least one part in so many: decoders
# make all of it of a frame of any size.
LARGE_CANVAS, FILLED = 1 << 24, 16

SCAN = 10  # bytes of the smallest header of a scan
MANY = 1 << 18  # markers within the pixels of a JPEG that are looked at
PIECE = 1 << 20  # bytes read at a time
_MARKER = rb"\xff[^\x00\xff\xd0-\xd7]"  # within pixels, other bytes follow FF only in markers
_SEQUENCE = rb"\x0a[\x05-\x7f]"  # an AV1 sequence header and its length
_BEGUN = rb"\x12\0\x0a[\x05-\x7f]"  # the same after a temporal delimiter, as most encoders begin
_BARE = frozenset(b"\x00\x01\xc8" + bytes(range(0xD0, 0xDA)) + bytes(range(0xF0, 0xFE)))  # nothing belongs to them
_UNNEEDED = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")  # chunks of a PNG that say nothing of its pixels
_TURNING = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")  # but for these
_PROGRESSIVE = b"\xc2\xc6\xca\xce"
_FRAMES = bytes(range(0xC0, 0xC4)) + bytes(range(0xC5, 0xC8)) + bytes(range(0xC9, 0xCC)) + bytes(range(0xCD, 0xD0))


def claimed_size(name: str, file: IO[bytes]) -> tuple[int, int] | None:
    """Width and height that the header claims, for formats whose decoders would not wait for it to be checked."""
    read = {"WEBP": webp_size, "JXL": jxl_size}.get(name)
    return read(file) if read else None


def cut_short(name: str, file: IO[bytes]) -> bool:
    """Whether a file that failed to decode is shorter than it says: not every decoder tells."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 4096))
    tail = file.read().rstrip(b"\0")
    file.seek(0)
    head = file.read(16).ljust(16, b"\0")
    if name == "PNG":
        return not tail.endswith(b"IEND\xaeB`\x82")
    if name == "GIF":
        return not tail.endswith(b";")
    if name == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 > size
    if name == "TIFF":  # the directory, often at the end: where it begins, and how many entries of 12 bytes it has
        order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        if b"+" in head[2:4]:  # BigTIFF
            return int.from_bytes(head[8:16], order) + 8 > size
        start = int.from_bytes(head[4:8], order)
        file.seek(start)
        return start + 2 + 12 * int.from_bytes(file.read(2), order) + 4 > size
    if name == "RAW" and head.startswith(b"FUJIFILM"):  # a table of where a JPEG, metadata and the sensor's data are
        file.seek(84)
        places = struct.unpack(">6I", file.read(24).ljust(24, b"\0"))
        return any(at + length > size for at, length in zip(places[::2], places[1::2], strict=True))
    if name in ("AVIF", "HEIF", "JXL") or (name == "RAW" and head[4:8] == b"ftyp"):
        return any(end > size for _, _, end in boxes(file, size))
    return False


def check_claims(name: str, file: Sized, size: tuple[int, int], max_pixels: int) -> None:
    """Raise PictureError if a picture of that width and height, opened but not decoded, would take too long or much."""
    if name == "JPEG":
        check_scans(file, size, max_pixels)
    elif name == "AVIF":
        check_avif(file, size)
    elif name == "PPM":
        check_digits(file)


def check_exif(file: Sized) -> None:
    """Raise PictureError for a JPEG whose EXIF data would take Pillow minutes to join, or Photoshop's to take apart."""
    found = dict.fromkeys(PARSED, 0)
    for kind, contents in segments(file) if file.size > SMALL else ():
        if kind in PARSED and contents.startswith(PARSED[kind]):
            found[kind] += 1
            if found[kind] > MAX_EXIF:
                what = "EXIF" if kind == 0xE1 else "Photoshop"
                raise PictureError("too_large", f"It has {what} data without end: save it again without.")


def check_digits(file: Sized) -> None:
    """Raise PictureError for a PPM, PGM or PBM as digits that is large: it takes a hundred times as long as bytes."""
    if file.size > MAX_DIGITS:
        file.seek(0)
        if file.read(2) in (b"P1", b"P2", b"P3"):
            raise PictureError(
                "too_large", f"Its pixels are more than {MAX_DIGITS >> 20} MiB of digits: save it as bytes (P4 to P6)."
            )


def check_scans(file: Sized, size: tuple[int, int], max_pixels: int) -> None:
    """Raise PictureError for a JPEG of that width and height that goes over its pixels again and again."""
    width, height = size
    most = MAX_PASSES * max_pixels // (width * height)
    if file.size // SCAN <= most:
        return
    progressive, frame = False, b""
    for kind, contents in segments(file):
        if kind in _FRAMES:
            progressive, frame = kind in _PROGRESSIVE, contents
    # in all others the first scan has all the colours, and is the last
    several = len(frame) > 5 and (progressive or contents[0] < frame[5])
    if several and scans(file, most) > most:
        raise PictureError(
            "too_large", f"It goes over its {width} x {height} pixels more than {most} times: save it again."
        )


def segments(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Marker and first bytes of each segment of a JPEG, as Pillow finds them, up to the first scan."""
    file.seek(2)
    byte = file.read(1)
    while byte:
        if byte != b"\xff":  # between segments anything may stand
            byte = file.read(1)
            continue
        byte = file.read(1)
        if byte == b"\xff" or not byte:
            continue
        kind = byte[0]
        if kind not in _BARE:
            start = file.tell()
            head = file.read(16)
            yield kind, head[2:]
            if kind == 0xDA:
                return
            file.seek(start + max(2, int.from_bytes(head[:2], "big")))
        byte = file.read(1)


def only_scan(file: IO[bytes]) -> int | None:
    """Where the first scan of a JPEG begins, if it has all that is shown: all colours, for good; else None."""
    frame, last = b"", (0, b"")
    for kind, contents in segments(file):
        if kind in _FRAMES:
            frame, sequential = contents, kind not in _PROGRESSIVE
        last = kind, contents
    whole = last[0] == 0xDA and len(frame) > 5 and sequential and last[1][:1] == frame[5:6]
    return file.tell() if whole else None


def without_texts(data: bytes) -> bytes:
    """A PNG without its colour profile and its texts, but for those small ones that may say how it is to be turned."""
    kept, at = [data[:8]], 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind not in _UNNEEDED or (data.startswith(_TURNING, at + 8) and _fits(data[at:end], kind)):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _fits(chunk: bytes, kind: bytes) -> bool:
    """Whether a chunk of text is whole and stays small when it is unpacked."""
    if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        return False
    packed = chunk[8:-4].partition(b"\0")[2]
    if kind == b"tEXt" or (kind == b"iTXt" and packed[:1] == b"\0"):
        return len(chunk) < PIECE
    text = packed[1:] if kind == b"zTXt" else packed[2:].partition(b"\0")[2].partition(b"\0")[2]
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(text, PIECE)
    except zlib.error:
        return False
    return unpacking.eof


def scans(file: IO[bytes], most: int) -> int:
    """How many scans a JPEG has from here on, counted until they are more than `most`."""
    at, found, markers = file.tell(), 1, 0
    search = re.compile(_MARKER).search  # when first needed, and kept
    while found <= most:
        file.seek(at)
        piece, place = file.read(PIECE), 0
        if len(piece) < 4:
            break
        while marker := search(piece, place):
            place = marker.start()
            if place + 4 > len(piece):  # the rest of it is in the next piece
                break
            kind = piece[place + 1]
            if kind == 0xD9:
                return found
            found += kind == 0xDA
            markers += 1
            if markers > MANY:
                return most + 1
            place += 2 if kind in _BARE else 2 + max(2, int.from_bytes(piece[place + 2 : place + 4], "big"))
        else:
            place = max(place, len(piece) - 1)
        at += place
    return found


def boxes(file: IO[bytes], size: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start of the contents and end of each box of an ISO media file of `size` bytes."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        head = file.read(16).ljust(16, b"\0")
        length, contents = int.from_bytes(head[:4], "big"), 8
        if length == 1:  # a 64-bit length follows
            length, contents = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:  # up to the end of the file
            length = size - start
        if length < contents:
            return
        yield head[4:8], start + contents, start + length
        start += length


def webp_size(file: IO[bytes]) -> tuple[int, int] | None:
    """Width and height that a WebP's header claims (RFC 9649), None where it has none.

    Raises PictureError for an animation whose canvas is out of all proportion to its first frame.
    """
    file.seek(0)
    head = file.read(30)
    if len(head) < 30:
        return None
    if head[12:16] == b"VP8X":
        width, height = size = _sides(head[24:30])
        if head[20] & 2 and width * height > LARGE_CANVAS:
            check_filled(size, webp_frame(file))
        return size
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def webp_frame(file: IO[bytes]) -> int:
    """Pixels of the first frame of an animated WebP, 0 if it is not found."""
    at = 12
    while True:
        file.seek(at)
        head = file.read(20)
        if len(head) < 20:
            return 0
        if head[:4] == b"ANMF":
            width, height = _sides(head[14:20])
            return width * height
        at += 8 + (int.from_bytes(head[4:8], "little") + 1 & ~1)


def check_avif(file: Sized, size: tuple[int, int]) -> None:
    """Raise PictureError for an AVIF of that width and height whose frames are far smaller: libavif enlarges them."""
    if size[0] * size[1] > LARGE_CANVAS and file.size < PIECE:
        file.seek(0)
        check_filled(size, avif_frames(file.read(PIECE)))


def avif_frames(data: bytes) -> int:
    """Pixels of all the frames that an AVIF has headers of (AV1 specification, 5.5.1), 0 if none is found.

    They are looked for everywhere. What only looks like one does not matter: then the canvas is believed.
    """
    found = 0
    for header in list(re.finditer(_BEGUN, data)) or re.finditer(_SEQUENCE, data):
        left, rest = 1024, int.from_bytes(data[header.end() : header.end() + 128].ljust(128, b"\0"), "big")

        def take(count: int) -> int:
            nonlocal left
            left -= count
            return rest >> left & (1 << count) - 1  # noqa: B023  (called before the next)

        take(4)
        if take(1):  # of a still picture
            take(5)
        else:
            if take(1):  # times of frames, in as many bits as they say
                continue
            delays = take(1)
            for _ in range(take(5) + 1):
                take(12)
                if take(5) > 7:
                    take(1)
                if delays and take(1):
                    take(4)
        across, down = take(4) + 1, take(4) + 1
        found += (take(across) + 1) * (take(down) + 1)
    return found


def check_filled(size: tuple[int, int], pixels: int) -> None:
    """Raise PictureError for a canvas that frames of so many pixels do not fill."""
    if 0 < pixels * FILLED < size[0] * size[1]:
        raise PictureError(
            "corrupt", f"It claims {size[0]} x {size[1]} pixels, and holds {pixels:,}: it is damaged, or made to harm."
        )


def _sides(data: bytes) -> tuple[int, int]:
    """Width and height in 24 bits each, less one."""
    return int.from_bytes(data[:3], "little") + 1, int.from_bytes(data[3:], "little") + 1


def jxl_size(file: IO[bytes]) -> tuple[int, int] | None:
    """Width and height that a JPEG XL's header claims (ISO 18181-1, SizeHeader), None where it has none."""
    start = 0
    file.seek(0)
    if file.read(2) != b"\xff\x0a":
        parts = {kind: where for kind, where, _ in boxes(file, file.seek(0, os.SEEK_END)) if kind in (b"jxlc", b"jxlp")}
        if not parts:
            return None
        start = parts.get(b"jxlc") or parts[b"jxlp"] + 4  # a partial stream counts its parts first
    file.seek(start + 2)
    bits = int.from_bytes(file.read(16), "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & (1 << count) - 1, bits >> count
        return value

    small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    across, down = ((0, 0), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[take(3)]
    return (height * across // down if down else side()), height
