"""ILSVRC2012_ID -> WordNet id, from the development kit: its meta.mat, or lines that have both, in either order.

    n02119789 1 kit_fox

meta.mat is a MATLAB level 5 file ("MAT-File Format", The MathWorks), of which only the structure `synsets` is read:
its fields ILSVRC2012_ID and WNID.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from vitcli.errors import UsageError

LARGEST = 16 << 20  # bytes of the file, and of what is packed in it; meta.mat has 1.4 million
CLASSES = 1000  # larger numbers are of WordNet's inner nodes, which no picture is

# Types of data elements, and the numbers that they hold (table 1-1); 14 is an array and 15 a packed element.
NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q", 16: "B", 17: "H"}
MATRIX, PACKED = 14, 15
STRUCTURE = 2  # class of an array (table 1-3)


def wnids(path: Path) -> dict[int, str]:
    """ILSVRC2012_ID -> WordNet id. Raises UsageError when a file does not say."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("it is too large")
        pairs = list(of_mat(path.read_bytes()) if path.suffix.lower() == ".mat" else of_text(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (ValueError, LookupError, struct.error, zlib.error, OverflowError) as error:
        raise UsageError(f"{path} does not say which class has which of ILSVRC's numbers ({error}).") from error
    known: dict[int, str] = {}
    for number, wnid in pairs:
        if known.setdefault(number, wnid) != wnid:
            raise UsageError(f"{path}: {known[number]} and {wnid} have the same number, {number}.")
    known = {number: wnid for number, wnid in known.items() if 1 <= number <= CLASSES}
    if not known or len(set(known.values())) != len(known):
        raise UsageError(f"{path} does not say which class has which of ILSVRC's numbers.")
    return known


def of_text(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with a WordNet id and a number."""
    for i, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        wnid, number = re.search(r"\bn\d{8}\b", line, re.ASCII), re.search(r"(?<!\w)\d{1,4}(?!\w)", line, re.ASCII)
        if wnid and number:
            yield int(number[0]), wnid[0]
        elif line.strip():
            raise ValueError(f"line {i} has not a WordNet id and a number")


def of_mat(data: bytes) -> Iterator[tuple[int, str]]:
    """The synsets of meta.mat."""
    if data[126:128] != b"IM":
        raise ValueError("it is no little-endian MATLAB file of level 5")
    for kind, body in elements(data[128:]):
        if kind == PACKED:
            unpack = zlib.decompressobj()
            kind, body = next(elements(unpack.decompress(body, LARGEST)))
        if kind != MATRIX:
            continue
        flags, _, name, *rest = [part for _, part in elements(body)]
        if flags[0] == STRUCTURE and name == b"synsets":
            yield from synsets(rest)


def synsets(parts: list[bytes]) -> Iterator[tuple[int, str]]:
    """The parts of a structure after its name: the length of a field's name, the names, the values of each record."""
    length = struct.unpack("<i", parts[0][:4])[0]
    if not 1 <= length <= 64:
        raise ValueError("its fields have no names")
    fields = [parts[1][i : i + length].rstrip(b"\0") for i in range(0, len(parts[1]), length)]
    values = parts[2:]
    number, wnid = fields.index(b"ILSVRC2012_ID"), fields.index(b"WNID")
    for i in range(0, len(values) - len(fields) + 1, len(fields)):
        found = "".join(chr(int(code)) for code in numbers(values[i + wnid]))
        if not re.fullmatch(r"n\d{8}", found, re.ASCII):
            raise ValueError(f"{found[:20]!r} is no WordNet id")
        yield int(numbers(values[i + number])[0]), found


def numbers(array: bytes) -> list[float]:
    """The numbers, or the codes of the characters, of an array: the element after its flags, shape and name."""
    kind, body = list(elements(array))[3]
    size = struct.calcsize(NUMBERS[kind])
    return list(struct.unpack(f"<{len(body) // size}{NUMBERS[kind]}", body[: len(body) // size * size]))


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, bytes) of each data element: an eight-byte tag, or a small element of four bytes in its own tag."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if kind >> 16:
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start, after = at + 8, at + 8 + size + (0 if kind == PACKED else -size % 8)
        if size > len(data) - start:
            raise ValueError("it ends too early")
        yield kind, data[start : start + size]
        at = after
