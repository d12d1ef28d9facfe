"""Folders, walked lazily: entries in natural order ("img2" before "img10"), memory bounded by CHUNK names a level.

Which files of a folder are inputs: those whose ending is a picture's, and those whose ending says nothing (`kinds` has
those that do) and whose first bytes are a picture's. Everything else is passed over and counted, archives too, and so
is what is excluded. A link to a file is an input like the file; a link to a folder is followed only on request, and
never into one of the folders it lies in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vitcli.errors import stop_without_files
from vitcli.pictures.formats import HEAD, recognised
from vitcli.sources.excluding import USUAL_ONLY, Exclude
from vitcli.sources.input import Input, not_a_file, refused
from vitcli.sources.kinds import Passed, could_be_picture

# A folder is read this many names at a time, and each such part is sorted: so up to 10,000 entries come out in natural
# order as a whole, and a folder of ten million gives its first rows at once and never is a list. The order of the
# parts is the file system's, which is the same every time while the folder does not change.
CHUNK = 10_000


class Walk(NamedTuple):
    """How folders are walked, and the count of what is passed over there."""

    recursive: bool = True
    hidden: bool = False
    follow_links: bool = False
    exclude: Exclude = USUAL_ONLY
    passed: Passed | None = None

    def leaves_out(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry is hidden or excluded; it is counted then."""
        if entry.name.startswith(".") and not self.hidden:
            if self.passed is not None and could_be_picture(entry.name) and not entry.name.startswith("._"):
                self.passed["hidden picture"] += 1
            return True
        why = self.exclude.why(entry.path, entry.name, folder=is_folder(entry))
        if why and self.passed is not None:
            self.passed[why] += 1
        return why is not None


def natural(name: str) -> tuple[list[str | int], str]:
    """Sort key that counts numbers as numbers, and settles what is left by the exact name."""
    # split at digits gives text, number, text, number ...: a number is never compared with a text
    return [int(part) if i % 2 else part.casefold() for i, part in enumerate(re.split("([0-9]+)", name))], name


def entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """What a folder holds, sorted naturally CHUNK by CHUNK. Raises OSError."""
    with os.scandir(folder) as scan:
        while chunk := sorted(islice(scan, CHUNK), key=lambda entry: natural(entry.name), reverse=True):
            while chunk:
                yield chunk.pop()  # an entry remembers what it asks of the disk: none is kept longer than it is used


def walk(folder: str, how: Walk) -> Iterator[Input]:
    """The pictures in a folder, as inputs named `os.path.join(folder, ...)`.

    A folder that cannot be read is one Failure.
    """
    try:
        ancestors = [identity(os.stat(folder))]
    except OSError as error:
        yield refused(folder, error)
        return
    open_folders = [(folder, entries(folder))]  # a stack of our own: nesting deeper than Python's recursion is no error
    while open_folders:
        path, listing = open_folders[-1]
        try:
            entry = next(listing, None)
        except OSError as error:
            yield refused(path, error)
            entry = None
        if entry is None:
            open_folders.pop()
            ancestors.pop()
        elif how.leaves_out(entry):
            continue
        elif is_folder(entry):
            if not how.recursive:
                continue
            if entry.is_symlink() and not how.follow_links:
                if how.passed is not None:
                    how.passed["link"] += 1
                continue
            try:
                own = identity(entry.stat())
            except OSError as error:
                yield refused(entry.path, error)
                continue
            if own not in ancestors:
                ancestors.append(own)
                open_folders.append((entry.path, entries(entry.path)))
        elif is_input(entry):
            yield found(entry)
        elif how.passed is not None:
            how.passed.file(entry.name)


def found(entry: os.DirEntry[str]) -> Input:
    """A file of a folder. Only a link, or what is no regular file, costs a question to the disk."""
    try:
        if entry.is_file():
            return Input(entry.path, Path(entry.path))
        return not_a_file(entry.path, entry.stat().st_mode)
    except OSError as error:
        return refused(entry.path, error)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; what cannot be told is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def identity(found: os.stat_result) -> tuple[int, int]:
    """What makes a folder the same folder, whatever the way that leads to it."""
    return found.st_dev, found.st_ino


def is_input(entry: os.DirEntry[str]) -> bool:
    """Whether a file is taken for a picture: by its name, or where that says nothing by its first bytes."""
    by_name = could_be_picture(entry.name)
    return has_picture_bytes(entry) if by_name is None else by_name


def has_picture_bytes(entry: os.DirEntry[str]) -> bool:
    """Whether a regular file begins as a picture does."""
    try:
        if not entry.is_file():
            return False
        # should the file have become a FIFO since it was listed, opening it must not wait for a writer
        with open(
            os.open(entry.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
        ) as f:
            return recognised(f.read(HEAD)) is not None
    except OSError as error:
        stop_without_files(error)
        return False
