"""Names from lists (`@list.txt`, stdin) and from patterns for shells that expand none."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from types import ModuleType
from typing import BinaryIO

from vitcli.errors import UsageError, stop_without_files
from vitcli.pictures.formats import HEAD, recognised
from vitcli.sources.folders import Walk, entries, is_folder
from vitcli.sources.input import split_member

PIECE = 1 << 16  # bytes read at a time
LONGEST = 1 << 16  # characters of a name; paths have 4096 on Linux, addresses a few thousand
AROUND = (b"\r", b'"', b"'", b" ", b"\t", codecs.BOM_UTF8[:1])  # where a line is more than a name
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
PACKED = {b"PK\3\4": "a zip archive", b"\x1f\x8b": "a gzip file", b"7z\xbc\xaf": "a 7z archive", b"BZh": "a bzip2 file",
          b"\xfd7zXZ": "an xz file", b"Rar!": "a rar archive", b"\x28\xb5\x2f\xfd": "a zstd file"}  # fmt: skip
CUT = 4 * (LONGEST + 1)  # bytes that are more characters than that, in UTF-8


def names_in(stream: BinaryIO, separator: bytes = b"\n") -> Iterator[str]:
    """The names in a list, exactly, as soon as they arrive. Empty ones are left out.

    One that is longer than LONGEST comes cut, but not to less: what never ends a line must not fill the memory.

    A list of lines may be UTF-16, or begin with a mark of its encoding, and what programs put around a name is no part
    of it (see `meant`). Raises UsageError for a picture or an archive, whose bytes are no names.
    """
    rest, cut, undo = b"", False, None
    # one call to the system a piece: nothing waits for a full one, nor, at the end of the process, for the lock of a
    # buffer that a thread is still reading into
    stream = getattr(stream, "raw", stream)
    read = getattr(stream, "read1", stream.read)
    while piece := read(PIECE):
        if separator == b"\n":
            if undo is None:
                while len(piece) < 4 and (more := read(PIECE)):  # a mark of the encoding comes whole
                    piece += more
                refuse_file(piece)
                undo = decoding(piece)
            piece = undo(piece)
        *whole, rest = (rest + piece).split(separator)
        if cut and whole:
            whole, cut = whole[1:], False  # the end of what came already
        yield from (as_name(name, separator) for name in whole if name)
        if cut or len(rest) > CUT:
            if not cut:
                yield os.fsdecode(rest[:CUT])
            rest, cut = b"", True
    if rest:
        yield as_name(rest, separator)


def refuse_file(head: bytes) -> None:
    """Raise UsageError for a list that begins as a picture or an archive does: somebody piped one in."""
    if b"\0" not in head[:HEAD]:
        return
    if form := recognised(head[:HEAD]):
        raise UsageError(
            f"This list of names is a {form.name} picture: pipe one into --stdin-image instead of -, and name a file "
            "without the @."
        )
    if kind := next((kind for magic, kind in PACKED.items() if head.startswith(magic)), None):
        raise UsageError(f"This list of names is {kind}: name that file itself, without the @ and not through a pipe.")


def decoding(head: bytes) -> Callable[[bytes], bytes]:
    """What makes UTF-8 of a list that begins so; a list that is neither UTF-16 nor UTF-32 is taken at its bytes."""
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    if encoding is None and b"\0\0" in (head[1:4:2], head[:4:2]):  # no name has a NUL: each is half a letter
        encoding = "utf-16-le" if head[0] else "utf-16-be"
    if encoding is None:
        return bytes
    # half a surrogate pair may stand in a name on Windows; half a character at the end is nobody's
    decode = codecs.getincrementaldecoder(encoding)("surrogatepass").decode
    return lambda piece: decode(piece).encode("utf-8", "surrogatepass")


def as_name(name: bytes, separator: bytes) -> str:
    """The bytes of a name as Python and the rows know it."""
    return os.fsdecode(meant(name) if separator == b"\n" else name)


def meant(line: bytes) -> bytes:
    """The name that a line stands for: what programs put around names is taken away, unless there is such a file.

    That is a mark of the encoding (Notepad, Excel), a carriage return (Windows), quotes (Explorer, `ls`, spreadsheets,
    which double those within) and, where only that leads to a file, spaces at the end (`echo a.jpg >> l` in cmd.exe).
    """
    if line[:1] not in AROUND and line[-1:] not in AROUND:
        return line
    name = line
    for take in (unmarked, unended, unquoted):
        if (inner := take(name)) != name:
            if os.path.lexists(name):
                return name
            name = inner
    inner = unquoted(name.rstrip(b" \t"))
    return inner if inner != name and not os.path.lexists(name) and os.path.lexists(inner) else name


def unmarked(name: bytes) -> bytes:
    return name.removeprefix(codecs.BOM_UTF8)


def unended(name: bytes) -> bytes:
    return name.removesuffix(b"\r")


def unquoted(name: bytes) -> bytes:
    quote = name[:1]
    if len(name) < 3 or quote not in (b'"', b"'") or not name.endswith(quote):
        return name
    return name[1:-1].replace(b'""', b'"') if quote == b'"' else name[1:-1]


def is_pattern(name: str) -> bool:
    """Whether a name is to be expanded: it has `*`, `?` or `[`, and there is no file or member of that exact name."""
    return any(mark in name for mark in "*?[") and not os.path.lexists(name) and split_member(name) is None


def matching(pattern: str, how: Walk) -> Iterator[str]:
    """What a pattern stands for, in natural order: `*`, `?`, `[a-z]`, and `**` for any depth of folders.

    Hidden names match only a part that begins with a dot, or with `--hidden`. A folder that cannot be read has none.
    On Windows either slash parts it, and capitals are small letters.
    """
    root, parts = parted(pattern)
    yield from below(root, parts, how)


def parted(pattern: str, path: ModuleType = os.path) -> tuple[str, list[str]]:
    """Where a pattern begins, and its parts; `path` is the path library of the system it was typed on.

    `C:/photos/*.jpg` -> `C:\\`, `photos`, `*.jpg` on Windows.
    """
    drive, rest = path.splitdrive(pattern)
    rest = rest.replace(path.altsep, path.sep) if path.altsep else rest
    return drive + path.sep * rest.startswith(path.sep), [part for part in rest.split(path.sep) if part]


def fits(name: str, part: str, path: ModuleType = os.path) -> bool:
    """Whether a file's name matches a part of a pattern, as names are compared on the system of `path`."""
    return fnmatchcase(path.normcase(name), path.normcase(part))


def below(base: str, parts: list[str], how: Walk) -> Iterator[str]:
    """The names under `base` that match the parts of a pattern."""
    if not parts:
        if base:
            yield base
        return
    part, *rest = parts
    if part == "**":
        while rest[:1] == ["**"]:
            rest = rest[1:]
        yield from below(base, rest, how)
        if not rest:
            return  # `folder/**` is the folder, which is walked
    elif not any(mark in part for mark in "*?["):
        if os.path.lexists(os.path.join(base, part)):
            yield from below(os.path.join(base, part), rest, how)
        return
    open_how = how._replace(hidden=True) if part.startswith(".") else how
    try:
        for entry in entries(base or os.curdir):
            name = os.path.join(base, entry.name)
            if part == "**":
                # what matches the next part too was counted there
                counting = how._replace(passed=None) if fits(entry.name, rest[0]) else how
                if is_folder(entry) and (how.follow_links or not entry.is_symlink()) and not counting.leaves_out(entry):
                    yield from below(name, parts, how)
            elif fits(entry.name, part) and (not rest or is_folder(entry)) and not open_how.leaves_out(entry):
                yield from below(name, rest, how)
    except OSError as error:
        stop_without_files(error)
