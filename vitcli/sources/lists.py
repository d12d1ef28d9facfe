"""Names from lists (`@list.txt`, stdin) and from patterns for shells that expand none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import BinaryIO

from vitcli.errors import UsageError, stop_without_files
from vitcli.pictures.formats import HEAD, recognised
from vitcli.sources.folders import Walk, entries, is_folder

PIECE = 1 << 16  # bytes read at a time
LONGEST = 1 << 16  # characters of a name; paths have 4096 on Linux, addresses a few thousand
CUT = 4 * (LONGEST + 1)  # bytes that are more characters than that, in UTF-8


def names_in(stream: BinaryIO, separator: bytes = b"\n") -> Iterator[str]:
    """The names in a list, exactly, as soon as they arrive. Empty ones are left out.

    One that is longer than LONGEST comes cut, but not to less: what never ends a line must not fill the memory.

    In a list of lines, the carriage return that ends every line of a Windows editor is no part of the name, unless a
    file of that very name exists. Raises UsageError for a picture, whose bytes are no names.
    """
    rest, cut, begun = b"", False, False
    # one call to the system a piece: nothing waits for a full one, nor, at the end of the process, for the lock of a
    # buffer that a thread is still reading into
    stream = getattr(stream, "raw", stream)
    read = getattr(stream, "read1", stream.read)
    while piece := read(PIECE):
        if not begun:
            refuse_picture(piece, separator)
            begun = True
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


def refuse_picture(head: bytes, separator: bytes) -> None:
    """Raise UsageError for a list that begins as a picture does: somebody piped one in."""
    form = recognised(head[:HEAD]) if separator == b"\n" and b"\0" in head[:HEAD] else None
    if form:
        raise UsageError(
            f"This list of names is a {form.name} picture: pipe one into --stdin-image instead of -, and name a file "
            "without the @."
        )


def as_name(name: bytes, separator: bytes) -> str:
    """The bytes of a name as Python and the rows know it."""
    if separator == b"\n" and name.endswith(b"\r") and not os.path.lexists(name):
        name = name[:-1]
    return os.fsdecode(name)


def is_pattern(name: str) -> bool:
    """Whether a name is to be expanded: it has `*`, `?` or `[`, and nothing of that exact name exists."""
    return any(mark in name for mark in "*?[") and not os.path.lexists(name)


def matching(pattern: str, how: Walk) -> Iterator[str]:
    """What a pattern stands for, in natural order: `*`, `?`, `[a-z]`, and `**` for any depth of folders.

    Hidden names match only a part that begins with a dot, or with `--hidden`. A folder that cannot be read has none.
    """
    root = os.path.join(os.path.splitdrive(pattern)[0], os.sep) if os.path.isabs(pattern) else ""
    parts = [part for part in pattern.removeprefix(root).split(os.sep) if part]
    yield from below(root, parts, how)


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
    try:
        for entry in entries(base or os.curdir):
            if entry.name.startswith(".") and not how.hidden and not part.startswith("."):
                continue
            name = os.path.join(base, entry.name)
            if part == "**":
                if is_folder(entry) and (how.follow_links or not entry.is_symlink()):
                    yield from below(name, parts, how)
            elif fnmatchcase(entry.name, part) and (not rest or is_folder(entry)):
                yield from below(name, rest, how)
    except OSError as error:
        stop_without_files(error)
