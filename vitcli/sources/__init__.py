"""What the user named -> a lazy stream of inputs, in the order named, one for each time it was named.

    cat.jpg            a file: an input whatever its ending
    photos/            a folder: the pictures in it, in natural order (`folders` says which)
    'photos/**/*.jpg'  a pattern, for shells that expand none, unless a file has that very name (`lists`)
    shard.tar, a.zip   an archive: the pictures in it, named `shard.tar!/dir/a.jpg`; that name alone is one (`archives`)
    https://...        a picture on a server (`web`), fetched when it is needed: `fetched`, or ahead by `fetchers`
    file:///...        the file or folder of this machine; addresses of other schemes are rows that say what to do
    @list.txt          the names in a file, one a line, taken as above but neither patterns nor lists
                       (a file that is really called @list.txt is ./@list.txt)
    -                  the same from stdin

A name that stands for nothing readable becomes an `Input` with its `failure`, so that it has its row: missing,
unreadable, a FIFO, socket or device (never opened, as that can block for ever), a broken archive, a silent server.
Only an empty folder or pattern of folders gives no input at all.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from vitcli.errors import UsageError
from vitcli.sources.excluding import USUAL_ONLY, Exclude
from vitcli.sources.folders import Walk, walk
from vitcli.sources.input import (
    MAX_BYTES,
    Input,
    failed,
    is_address,
    is_archive,
    is_url,
    refused,
    regular,
    split_member,
)
from vitcli.sources.kinds import Passed
from vitcli.sources.lists import LONGEST, is_pattern, matching, names_in

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

__all__ = ["Input", "fetched", "inputs", "Exclude", "Passed", "MAX_BYTES"]


def inputs(
    names: Iterable[str],
    *,
    recursive: bool = True,
    hidden: bool = False,
    follow_links: bool = False,
    exclude: Exclude = USUAL_ONLY,
    passed: Passed | None = None,
    nul: bool = False,
    stdin_image: bool = False,
    stdin: BinaryIO | None = None,
    max_bytes: int = MAX_BYTES,
) -> Iterator[Input]:
    """Every input that `names` stand for, one at a time.

    `exclude` leaves files out of folders, patterns and archives, and `passed` counts what is passed over there.
    `nul`: names on stdin end with NUL (`find -print0`) instead of a newline. `stdin_image`: the bytes of one picture
    are on stdin; it comes first and is named "-". `stdin` replaces the standard one. `max_bytes` bounds a picture that
    is held in memory. Raises UsageError when stdin is named twice.
    """
    names = list(names)
    if names.count("-") + stdin_image > 1:
        raise UsageError("Stdin can be read once: name '-' once, and not together with --stdin-image.")
    how = Walk(recursive, hidden, follow_links, exclude, passed)
    separator = b"\0" if nul else b"\n"

    def expanded() -> Iterator[Input]:
        if stdin_image:
            yield from_stdin(stdin or sys.stdin.buffer, max_bytes)
        for name in names:
            if name == "-":
                yield from from_stream(stdin or sys.stdin.buffer, separator, how, max_bytes)
            elif name.startswith("@") and len(name) > 1:
                yield from from_list(name, how, max_bytes)
            elif is_pattern(name) and not is_address(name):
                yield from from_pattern(name, how, max_bytes)
            else:
                yield from named(name, how, max_bytes)

    return expanded()


# What Python code may give for a picture.
Given: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8] | Input"


def taken(given: Given, name: str = "") -> Iterator[Input]:
    """The inputs that are meant; `name` is for those without one.

    A path or a name stands for a picture, or for all that a folder, an archive or a URL holds. Else it is bytes, an
    array uint8 [h w 3] or [h w], a PIL image, or an `Input`. Raises TypeError for anything else.
    """
    if isinstance(given, Input):
        yield given
    elif isinstance(given, (str, os.PathLike)):
        yield from named(os.fspath(given), Walk(), MAX_BYTES)
    elif isinstance(given, (bytes, bytearray, memoryview)):
        yield Input(name, data=bytes(given), size=len(given))
    else:
        from PIL import Image

        if hasattr(given, "__array_interface__") and not isinstance(given, Image.Image):
            shape, kind = given.__array_interface__["shape"], given.__array_interface__["typestr"]
            if kind != "|u1" or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
                raise TypeError(f"An array of pixels is uint8 [h w 3] or [h w], not {kind} {list(shape)}.")
            given = Image.fromarray(given)
        if not isinstance(given, Image.Image):
            raise TypeError(
                "A picture is given as a path or a name, bytes, an array uint8 [h w 3], a PIL image or a vitcli.Input, "
                f"not as {type(given).__name__}."
            )
        yield Input(getattr(given, "filename", "") or name, picture=given)


def named(name: str, how: Walk, max_bytes: int) -> Iterator[Input]:
    """The inputs that one name stands for, once patterns and lists are expanded."""
    if len(name) > LONGEST:
        yield failed(name[:LONGEST], "bad_name", "This is longer than any name: is it a list, one name a line?")
    elif is_url(name):
        from vitcli.sources import web  # imported when needed, like archives: a few pictures should not wait for it

        yield Input(web.without_password(name), url=name, max_bytes=max_bytes)
    elif is_address(name):
        from vitcli.sources import web

        path = web.local(name)
        yield from named(path, how, max_bytes) if isinstance(path, str) else [path]
    elif os.path.isdir(name):
        yield from walk(name, how)
    elif is_archive(name) or split_member(name):
        from vitcli.sources import archives

        pack, member = split_member(name) or (name, None)
        file = regular(pack)
        yield from [file] if file.failure else archives.members(file, how, max_bytes, only=member)
    else:
        yield regular(name)


def fetched(given: Input) -> Input:
    """The same input with its bytes, or its failure, where it is on a server; any other as it is. Takes its time."""
    if given.url is None:
        return given
    from vitcli.sources import web

    return web.fetch(given)


def from_list(name: str, how: Walk, max_bytes: int) -> Iterator[Input]:
    """The inputs named in the file behind the `@`.

    A FIFO is waited for, as a shell makes one of `@<(...)`; a device is not opened.
    """
    try:
        if stat.S_IFMT(os.stat(name[1:]).st_mode) in (stat.S_IFCHR, stat.S_IFBLK):
            yield failed(name, "not_a_file", "The list is a device, which is never opened: pipe names into `-`.")
            return
        with open(name[1:], "rb") as stream:
            for listed in names_in(stream):
                yield from named(listed, how, max_bytes)
    except OSError as error:
        why = refused(name[1:], error).failure
        yield failed(name, why.error if why else "unreadable", f"The list cannot be read: {error.strerror}.")


def from_stream(stream: BinaryIO, separator: bytes, how: Walk, max_bytes: int) -> Iterator[Input]:
    """The inputs named on stdin."""
    names = names_in(stream, separator)
    while True:
        try:
            listed = next(names, None)
        except OSError as error:
            yield failed("-", "unreadable", f"The names on stdin cannot be read: {error.strerror}.")
            return
        if listed is None:
            return
        yield from named(listed, how, max_bytes)


def from_pattern(pattern: str, how: Walk, max_bytes: int) -> Iterator[Input]:
    """The inputs that match a pattern."""
    found = False
    for name in matching(pattern, how):
        found = True
        yield from named(name, how, max_bytes)
    if not found:
        yield failed(pattern, "missing", "No file has this name or matches this pattern.")


def from_stdin(stream: BinaryIO, max_bytes: int) -> Input:
    """One picture's bytes from stdin."""
    try:
        data = stream.read(max_bytes + 1)
    except OSError as error:
        return failed("-", "unreadable", f"The picture on stdin cannot be read: {error.strerror}.")
    if len(data) > max_bytes:
        return failed("-", "too_large", f"The picture on stdin is larger than {max_bytes >> 20} MiB.")
    return Input("-", data=data, size=len(data))
