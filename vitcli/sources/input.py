"""`Input`: one thing to classify, and how a file of the disk becomes one."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from vitcli.errors import unopened
from vitcli.results import Failure

if TYPE_CHECKING:
    from PIL import Image

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MARK = "!/"  # between the name of an archive and that of a member
MAX_BYTES = 64 << 20  # of one picture that is held in memory: from stdin, an archive or a server
SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://|https?:/|file:/|data:|blob:", re.IGNORECASE)  # one letter: a drive


@dataclass(frozen=True, slots=True)
class Input:
    """One thing to classify: a `file`, bytes (`data`), a `url`, a PIL `picture`, or a `failure` known beforehand.

    What is behind a `url` is fetched when it is needed (`sources.fetched`), and bounded by `max_bytes`.
    `name` is its name exactly as the row will give it (bytes that are not UTF-8 as surrogate escapes).
    `size` (bytes) and `mtime_ns` are filled where they are known without asking the disk once more.
    """

    name: str
    file: Path | None = None
    data: bytes | None = None
    failure: Failure | None = None
    size: int | None = None
    mtime_ns: int | None = None
    picture: Image.Image | None = None
    url: str | None = field(default=None, repr=False)  # it may hold a password, which `name` does not
    max_bytes: int = MAX_BYTES


def is_archive(name: str) -> bool:
    """Whether a file of this name is opened as an archive."""
    return name.lower().endswith(ARCHIVES)


def is_url(name: str) -> bool:
    """Whether a name is fetched instead of opened."""
    return name.lstrip(" \t")[:8].lower().startswith(("http://", "https://"))


def is_address(name: str) -> bool:
    """Whether a name is the address of anything, of whatever scheme, and not the name of a file."""
    return is_url(name) or (SCHEME.match(name) is not None and not os.path.lexists(name))


def split_member(name: str) -> tuple[str, str] | None:
    """`"shard.tar!/dir/a.jpg"` -> `("shard.tar", "dir/a.jpg")` if there is such an archive and no such file."""
    at = -1
    while (at := name.find(MARK, at + 1)) >= 0:  # a folder's name may end with the first half of the mark
        archive, member = name[:at], name[at + len(MARK) :]
        if member and is_archive(archive) and os.path.isfile(archive) and not os.path.lexists(name):
            return archive, member
    return None


def place(item: Input) -> str | None:
    """Where an input's file is, or its archive with the member in that; None for what is no file.

    `photos/a.jpg`, `./photos//a.jpg` and `/home/me/photos/a.jpg` are one place. Links to folders are followed, as those
    are two names of one folder; a link to a file is a file of its own.
    """
    if is_url(item.name) or item.picture is not None or (item.data is not None and MARK not in item.name):
        return None
    file, mark, member = item.name.partition(MARK)
    folder, base = os.path.split(file)
    try:
        return os.path.join(real(os.path.join(os.getcwd(), folder)), base) + mark + member
    except (OSError, ValueError):  # no file can be called so, or the folder that one is in is gone
        return None


real = lru_cache(1024)(os.path.realpath)


def failed(name: str, error: str, message: str) -> Input:
    """An input that is known to be bad before it is opened."""
    return Input(name, failure=Failure(name, error, message))


def refused(name: str, error: OSError | ValueError) -> Input:
    """What the operating system said, as a row."""
    why = unopened(error)
    if why.reason == "missing" and os.path.islink(name):
        return failed(name, "missing", "The link leads to a file that does not exist.")
    return failed(name, why.reason, str(why))


def not_a_file(name: str, mode: int) -> Input:
    """A FIFO, socket or device: opening one can block for ever, so none is ever opened."""
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    kind = kinds.get(stat.S_IFMT(mode), "no regular file")
    return failed(name, "not_a_file", f"This is {kind}, which is never opened: pipe a picture in with --stdin-image.")


def regular(name: str) -> Input:
    """The file called `name`, or the Failure that it is. Follows links; opens nothing."""
    try:
        found = os.stat(name)
    except (OSError, ValueError) as error:
        return refused(name, error)
    if not stat.S_ISREG(found.st_mode):
        return not_a_file(name, found.st_mode)
    return Input(name, Path(name), size=found.st_size, mtime_ns=found.st_mtime_ns)
