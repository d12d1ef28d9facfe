"""Stdin, stdout and stderr as the commands need them, whatever they were given: closed, full, ASCII only, not blocking.

What stdout does not take is an OutputError, in whatever command and whoever printed it. What stderr does not take is
lost: there is nobody to tell. What an encoding does not have is shown as plainer signs and as escapes.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from vitcli import escaping  # noqa: F401  (it brings errors="plainer")
from vitcli.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Results(io.FileIO):
    """Stdout."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Raises OutputError. When the reader left, as `head` does, the process ends, and that is no error: rich and
        typer would make one of BrokenPipeError.
        """
        try:
            while (written := super().write(data)) is None:  # it is full, and somebody asked it not to block
                import select

                select.select([], [self], [])
            return written
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # for what is flushed later
            if isinstance(error, BrokenPipeError):
                raise SystemExit(0) from None
            raise OutputError(refused(error)) from None


class Messages(io.FileIO):
    """Stderr."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Never raises OSError."""
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def settle() -> None:
    """Put them in the place of Python's own."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # the next file to be opened would get its number, and with it what is printed; this one refuses everything,
            # /dev/full also when it is opened again, as /dev/stdout
            place = "/dev/full" if number and os.path.exists("/dev/full") else os.devnull  # noqa: PTH110
            os.open(place, os.O_RDONLY if number else os.O_WRONLY)
    sys.stdin = sys.stdin or os.fdopen(0, "r", closefd=False)
    sys.stdout = over(Results, 1, sys.stdout)
    sys.stderr = over(Messages, 2, sys.stderr)


def check_stdout() -> None:
    """For commands that work long before they say anything. Raises OutputError where stdout is closed."""
    try:
        os.write(1, b"")
    except OSError as error:
        raise OutputError(refused(error)) from None


def refused(error: OSError) -> str:
    """What is wrong with stdout."""
    return f"stdout cannot be written ({'it is closed' if error.errno == errno.EBADF else error.strerror})."


def over(kind: type[io.FileIO], number: int, given: TextIO | None) -> TextIO:
    """A stream of a kind in place of the one that Python made; a Windows console's stays as it is."""
    buffer = getattr(given, "buffer", None)
    if given is not None and not isinstance(getattr(buffer, "raw", buffer), io.FileIO):
        return given
    raw = kind(number, "w", closefd=False)
    at_once = number == 2 or raw.isatty()
    encoding = "utf-8" if given is None else given.encoding
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="plainer", line_buffering=at_once)
