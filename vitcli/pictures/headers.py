"""What a picture's header says, read without its decoder: its size, and whether the file is as long as it claims.

A decoder that claims memory for the whole picture as soon as it sees the file needs the size first; and when one fails,
its message rarely tells a file that was cut short from one that is damaged.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import IO, Literal


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
    if name in ("AVIF", "HEIF", "JXL"):
        return any(end > size for _, _, end in boxes(file, size))
    return False


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
    """Width and height that a WebP's header claims (RFC 9649), None where it has none."""
    file.seek(0)
    head = file.read(30)
    if len(head) == 30 and head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if len(head) == 30 and head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(head) == 30 and head[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


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
