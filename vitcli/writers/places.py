"""The files that a run writes: none is another's, an input, the weights, or what `vit` keeps beside an output.

check({"-o": rows, "--failures": failures}, [Read("the input cat.jpg", "cat.jpg")])
"""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from vitcli.errors import OutputError, UsageError
from vitcli.pictures import formats
from vitcli.sources.input import is_archive
from vitcli.writers.base import explained, regular
from vitcli.writers.lock import ENDING
from vitcli.writers.outputs import JOURNAL, KEPT, LOGITS, NEW, beside

OWN = re.compile(rf"({'|'.join(map(re.escape, (JOURNAL, NEW, LOGITS, ENDING)))})(-wal|-shm|-journal)?", re.IGNORECASE)


class Read(NamedTuple):
    """A file that a run reads, or has for something else; an open one is known by its number."""

    what: str
    file: str | os.PathLike[str] | int
    use: str = "reads"


def check(written: Mapping[str, Path | None], read: Iterable[Read] = (), *, there: Collection[str] = ()) -> None:
    """Before anything is opened: `written` has a path for each option, `there` says which may be there already.

    Raises UsageError when two of them, or one and a file that is read, are the same file, by whatever name, when one is
    the name of a file that vit keeps, `-`, or a picture; OutputError for a place where nothing can be written.
    """
    files: dict[str, set[object]] = {}
    for option, path in written.items():
        if path is None:
            continue
        if path == Path("-"):
            raise UsageError(f"{option} - would be a file of that name: for stdout write {option} /dev/stdout.")
        with explained(path):
            if (target := regular(path)) is None:
                continue  # a pipe or a device
            with contextlib.suppress(FileNotFoundError):  # a name that is too long for the longest is said here
                os.lstat(beside(target, max(KEPT, key=len)))
        if OWN.search(path.name) or OWN.search(target.name):
            raise UsageError(f"{option} {path} is the name of a file that vit keeps beside an output: choose another.")
        for what, file, use in read:
            with contextlib.suppress(OSError, ValueError):
                if os.path.samestat(os.stat(file), target.stat()):  # noqa: PTH116  (it may be a number)
                    raise UsageError(f"{option} {path} is {what}, which this run {use}: choose another file.")
        if (size := sized(target)) and a_picture(target):
            raise UsageError(f"{option} {path} is a picture or an archive, which is never overwritten: choose another.")
        if size and option not in there:
            raise OutputError(f"{path} exists already: add --force to overwrite it, or choose another output.")
        if not os.access(target if target.exists() else target.parent, os.W_OK):
            raise OutputError(f"{path} cannot be written: you are not allowed to.")
        files[option] = set().union(*map(known_by, (target, *(beside(target, ending) for ending in KEPT))))
    for one, other in combinations(files, 2):
        if files[one] & files[other]:
            raise UsageError(f"{one} and {other} name one file, or one that is kept beside the other: choose another.")


def known_by(path: Path) -> Iterator[object]:
    """What two paths have in common if they are one file, or will be: links, names that differ in case alone."""
    yield unicodedata.normalize("NFC", str(path)).casefold()
    with contextlib.suppress(OSError):
        found = path.stat()
        yield found.st_dev, found.st_ino


def sized(path: Path) -> int:
    """How many bytes are there; 0 for no file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def a_picture(path: Path) -> bool:
    """Whether a file is something that people classify, by its name or by how it begins."""
    if formats.is_picture(path.name) or is_archive(path.name):
        return True
    try:
        with path.open("rb") as file:
            return formats.recognised(file.read(formats.HEAD)) is not None
    except OSError:
        return False
