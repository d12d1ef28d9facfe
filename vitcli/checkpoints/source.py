"""`Source`: an open file of weights, of which nothing is read that was not there when it was opened.

A map would be the shorter way, but a mapped file changes under whoever reads it, and one that is cut short ends the
process (SIGBUS) without a word. So bytes are copied, and after each copy the file must still be as it was.
"""

from __future__ import annotations

import io
import math
import os
import threading
import weakref
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from vitcli.errors import CheckpointError

Array: TypeAlias = npt.NDArray[np.float32]

PIECE = 1 << 20  # bytes that are hashed at a time


class Source:
    """A file that is open for reading, whatever its path leads to later. Raises CheckpointError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()  # where a position is shared by all who read
        try:
            self._file = path.open("rb", buffering=0)
            weakref.finalize(self, self._file.close)
            self._state = _state(os.fstat(self._file.fileno()))
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}).") from error
        self.size = self._state[2]
        self._sha256: str | None = None  # once it is known: a file that changes is refused whenever it is read

    def read_ahead(self) -> None:
        """Have the system fetch the file from the disk while this process does other things."""
        if hasattr(os, "posix_fadvise"):  # not on Windows and macOS
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def fill(self, room: memoryview, offset: int) -> int:
        """Read from `offset` until the room is full or the file ends; says how many bytes that were."""
        done = 0
        try:
            while done < len(room) and (count := self._read(room[done:], offset + done)):
                done += count
            state = _state(os.fstat(self._file.fileno()))
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read ({error.strerror or error}).") from error
        if state != self._state or (done < len(room) and offset + done < self.size):
            raise self.changed()
        return done

    def _read(self, room: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [room], offset)
        with self._lock:  # Windows
            self._file.seek(offset)
            return self._file.readinto(room)

    def read(self, offset: int, size: int) -> bytes:
        """At most so many bytes, fewer at the end of the file."""
        room = bytearray(max(0, min(size, self.size - offset)))
        self.fill(memoryview(room), offset)
        return bytes(room)

    def numbers(self, offset: int, shape: tuple[int, ...], kind: str, into: npt.NDArray[Any] | None = None) -> Any:
        """An array of numbers as they lie in the file, in memory of its own or in the first part of `into`."""
        count = math.prod(shape)
        array = np.empty(count, kind) if into is None else into[:count]
        if count:
            self.fill(memoryview(array.data).cast("B"), offset)
        return array.reshape(shape)

    def stream(self, offset: int = 0) -> IO[bytes]:
        """The file from there on, for whoever wants to read it in order."""
        return io.BufferedReader(_Stream(self, offset))

    def sha256(self) -> str:
        """Of the whole file; it is read once."""
        if self._sha256 is None:
            import hashlib  # here, because a cold start does without it

            found = hashlib.sha256()
            for offset in range(0, self.size, PIECE):
                found.update(self.read(offset, PIECE))
            self._sha256 = found.hexdigest()
        return self._sha256

    def still_there(self) -> None:
        """Raise CheckpointError if another file has taken the place: shards could be of two networks."""
        try:
            same = _state(self.path.stat()) == self._state
        except OSError:
            same = False
        if not same:
            raise self.changed()

    def changed(self) -> CheckpointError:
        return CheckpointError(f"{self.path}: the file has changed while it was in use, so nothing more was computed "
                               "with it. Start again when whatever writes it has finished.")  # fmt: skip


class _Stream(io.RawIOBase):
    def __init__(self, source: Source, offset: int) -> None:
        self.source, self.offset = source, offset

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.offset = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.offset, io.SEEK_END: self.source.size}[whence])
        return self.offset

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")
        count = self.source.fill(room[: max(0, min(len(room), self.source.size - self.offset))], self.offset)
        self.offset += count
        return count


class Place(NamedTuple):
    """Where float32 numbers lie in a file just as they are needed."""

    source: Source
    offset: int
    shape: tuple[int, ...]

    def read(self, into: Array | None = None) -> Array:
        """The numbers, in memory of their own or in the first part of `into`."""
        array: Array = self.source.numbers(self.offset, self.shape, "<f4", into)
        return array

    def rows(self, start: int, stop: int) -> Place:
        """Some of the rows of a matrix."""
        width = self.shape[1]
        return Place(self.source, self.offset + 4 * start * width, (stop - start, width))

    def part(self, index: int, shape: tuple[int, ...]) -> Place:
        """The part of that `shape` that is the `index`-th of equal ones that lie one after another."""
        return Place(self.source, self.offset + 4 * index * math.prod(shape), shape)


def _state(stat: os.stat_result) -> tuple[int, int, int, int]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
