"""`Judged`: everything that is measured on labelled pictures, and how it is gathered while they are classified.

n pictures with a truth, k classes. Their logits [n k] go to a file, so that memory does not grow with them: beside the
rows of a run that may be resumed (`.labels.csv.vit-logits`), else in a file that is gone with the run.

    kept     of each input, in the order of the inputs: also after a run that was resumed, whose logits of pictures that
             were done before come from that file. So figures are those of a run that never stopped, to the bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Protocol, overload

import numpy as np
import numpy.typing as npt

from vitcli.errors import OutputError
from vitcli.labels import Labels
from vitcli.truth import Counts, Right
from vitcli.writers.base import explained, regular
from vitcli.writers.journal import decisive
from vitcli.writers.outputs import LOGITS, beside

MAGIC = b"vit-logits 1\n\0\0\0"  # 16 bytes, before 32 that say how they were made
BEST = 5  # classes that are kept of each picture
BLOCK = 1024  # rows of logits that are held at once
KEY = 16  # bytes that an input is known by


class Logits(Protocol):
    """[n k] float32, read by contiguous slices of rows: an array, or a file that is larger than the memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, k)."""

    def __getitem__(self, rows: slice, /) -> npt.NDArray[np.float32]:
        """Some rows [m k]."""


@dataclass(frozen=True)
class Judged:
    """n pictures with a truth, in the order of the inputs, among the k classes that were ranked."""

    labels: Labels  # of the k classes
    classes: tuple[int, ...]  # their rows in the whole network
    paths: Sequence[str]  # [n] as in the rows
    logits: Logits  # [n k], which may be a file's: read it by slices
    truth: npt.NDArray[np.int32]  # [n] the right class; -1 where only ReaL says it, and says several
    best: npt.NDArray[np.int32]  # [n m] the m = min(5, k) best classes, best first
    score: npt.NDArray[np.float64]  # [n] of the best
    right: npt.NDArray[np.bool_]  # [n] whether the best is right
    right5: npt.NDArray[np.bool_]  # [n] whether one of the m is
    real: npt.NDArray[np.int8] | None = None  # [n] by ReaL too: 1 right, 0 wrong, -1 not labelled
    counts: Counts = field(default_factory=Counts)

    def __len__(self) -> int:
        return len(self.truth)


def judged(
    labels: Labels, logits: npt.NDArray[np.float32], truth: Sequence[int], paths: Sequence[str] | None = None
) -> Judged:
    """The same of arrays: logits [n k] and the right class of each."""
    right = np.asarray(truth, np.int32)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :BEST].astype(np.int32)
    score = np.array([labels.scores(row)[top[0]] for row, top in zip(logits, best, strict=True)])
    hit = best == right[:, None]
    names = [str(i) for i in range(len(right))] if paths is None else paths
    return Judged(labels, tuple(range(len(labels))), names, logits, right, best, score, hit[:, 0], hit.any(axis=1))


class Names(Sequence[str]):
    """Names, in a tenth of the memory that a list of them takes."""

    def __init__(self) -> None:
        self.text, self.ends = bytearray(), array("q")

    def append(self, name: str) -> None:
        """One more."""
        self.text += name.encode("utf-8", "surrogatepass")
        self.ends.append(len(self.text))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, i: int) -> str: ...

    @overload
    def __getitem__(self, i: slice) -> list[str]: ...

    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        i = range(len(self))[i]  # from the end too
        start = self.ends[i - 1] if i else 0
        return self.text[start : self.ends[i]].decode("utf-8", "surrogatepass")


class Chosen(Sequence[str]):
    """Some of a sequence, in this order."""

    def __init__(self, whole: Sequence[str], order: npt.NDArray[np.int64]) -> None:
        self.whole, self.order = whole, order

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, i: int) -> str: ...

    @overload
    def __getitem__(self, i: slice) -> list[str]: ...

    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self.whole[j] for j in self.order[i]]
        return self.whole[int(self.order[i])]


class Spool:
    """Rows of logits [k] in a file, each after what its input is known by and a checksum.

    At `path` beside an output, so that a run that is resumed finds them again; without one in a file without a name.
    `made` says how they were made. Rows are on the disk, as far as the system is concerned, when `add` returns.
    Raises OutputError.
    """

    def __init__(self, path: Path | None, classes: int, made: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        self.row = np.dtype([("key", f"V{KEY}"), ("sum", "<u4"), ("logits", "<f4", (classes,))])
        self.head = MAGIC + hashlib.sha256(json.dumps([classes, decisive(made)]).encode()).digest()
        self.known: dict[bytes, int] = {}
        self.count = 0
        self.read = resume
        with explained(path):
            if path is None:
                self.file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (closed with the spool)
            else:
                self.file = path.open("r+b" if resume and path.exists() else "w+b", buffering=0)
                if resume:
                    self.recall()
            if not self.count:
                self.file.seek(0)
                self.file.truncate()
                self.file.write(self.head)

    def recall(self) -> None:
        """Where the row of each input is, in a file that is there; a row that was torn off is left."""
        size = os.fstat(self.file.fileno()).st_size
        if size < len(self.head):
            return
        if self.file.read(len(self.head)) != self.head:
            raise OutputError(
                f"{self.path} holds the outputs of another run: it cannot be resumed. Choose another output, or "
                "--force to overwrite it."
            )
        self.count = (size - len(self.head)) // self.row.itemsize
        for number in range(self.count):
            self.file.seek(self.at(number))
            self.known[self.file.read(KEY)] = number  # the last one counts: its file may have changed
        self.file.truncate(self.at(self.count))

    def at(self, number: int) -> int:
        """Where a row begins."""
        return len(self.head) + number * self.row.itemsize

    def add(self, key: bytes, logits: npt.NDArray[np.float32]) -> int:
        """One more row; its number."""
        data = np.ascontiguousarray(logits, "<f4").tobytes()
        with explained(self.path):
            self.file.seek(self.at(self.count))
            rest = memoryview(key + zlib.crc32(data).to_bytes(4, "little") + data)
            while rest:
                rest = rest[self.file.write(rest) :]
        self.count += 1
        return self.count - 1

    def of(self, key: bytes) -> tuple[int, npt.NDArray[np.float32]] | None:
        """The number and the logits of an input of an earlier run; None if it has none here."""
        number = self.known.get(key)
        if number is None:
            return None
        (row,) = self.rows(number, 1)
        logits: npt.NDArray[np.float32] = row["logits"]
        if zlib.crc32(logits.tobytes()) != row["sum"]:
            raise OutputError(f"{self.path} is damaged: it cannot be resumed. Choose another output, or use --force.")
        return number, logits

    def rows(self, number: int, count: int) -> npt.NDArray[Any]:
        """So many rows, from this one on."""
        with explained(self.path):
            self.file.seek(self.at(number))
            data = bytearray(count * self.row.itemsize)
            view = memoryview(data)
            while view and (got := self.file.readinto(view)):  # type: ignore[attr-defined]
                view = view[got:]
        if view:
            raise OutputError(f"{self.path or 'A temporary file'} ends too early: somebody cut it.")
        return np.frombuffer(data, self.row)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class SpooledLogits:
    """[n k] float32: rows of a spool in another order, and some of their columns."""

    def __init__(self, spool: Spool, numbers: npt.NDArray[np.int64], classes: Sequence[int] | None) -> None:
        self.spool, self.numbers = spool, numbers
        self.columns = None if classes is None else np.asarray(classes)
        self.shape = (len(numbers), spool.row["logits"].shape[0] if classes is None else len(classes))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice, /) -> npt.NDArray[np.float32]:
        wanted = self.numbers[rows]
        out = np.empty((len(wanted), self.shape[1]), np.float32)
        edges = [0, *(np.flatnonzero(np.diff(wanted) != 1) + 1), len(wanted)]
        for start, end in pairwise(edges):  # rows that follow one another come in one go
            for at in range(start, end, BLOCK):
                count = min(BLOCK, end - at)
                found = self.spool.rows(int(wanted[at]), count)["logits"]
                out[at : at + count] = found if self.columns is None else found[:, self.columns]
        return out


def blocks(logits: Logits, rows: int = BLOCK) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """All of the rows, so many at a time, with which they are."""
    for start in range(0, logits.shape[0], rows):
        part = slice(start, min(start + rows, logits.shape[0]))
        yield part, logits[part]


class Gathered:
    """What becomes a `Judged`: a few numbers of each picture, as they come."""

    def __init__(self, labels: Labels, among: Sequence[int] = ()) -> None:
        self.all = labels
        self.among = tuple(among) or None
        self.place = {index: i for i, index in enumerate(self.among or range(len(labels)))}
        self.width = min(BEST, len(self.place))
        self.paths = Names()
        self.order, self.numbers = array("q"), array("q")
        self.truth, self.best, self.score = array("i"), array("i"), array("d")
        self.right, self.right5, self.real = array("b"), array("b"), array("b")

    def add(self, order: int, number: int, path: str, truth: Right, best: Sequence[int], score: float) -> None:
        """A picture that has a truth. `order` is its place among the inputs, `number` the row of its logits.

        `best` are its best classes, by their rows in the network.
        """
        self.order.append(order)
        self.numbers.append(number)
        self.paths.append(path)
        only = truth.classes[0] if len(truth.classes) == 1 else None
        self.truth.append(-1 if only is None else self.place[only])
        self.best.extend(self.place[index] for index in best[: self.width])
        self.score.append(score)
        self.right.append(best[0] in truth.classes)
        self.right5.append(any(index in truth.classes for index in best[: self.width]))
        self.real.append(-1 if truth.real is None else best[0] in truth.real)

    def judged(self, spool: Spool, counts: Counts) -> Judged:
        """All of them, in the order of the inputs, with their logits in this spool."""
        order = np.argsort(np.array(self.order), kind="stable")
        real = np.array(self.real, np.int8)[order]
        truth = np.array(self.truth, np.int32)[order]
        chosen = self.among or tuple(range(len(self.all)))
        names, wnids = (tuple(part[i] for i in chosen) for part in (self.all.names, self.all.wnids))
        return Judged(
            labels=Labels(names, wnids, self.all.activation),  # type: ignore[arg-type]
            classes=chosen,
            paths=Chosen(self.paths, order),
            logits=SpooledLogits(spool, np.array(self.numbers, np.int64)[order], self.among),
            truth=truth,
            best=np.array(self.best, np.int32).reshape(-1, self.width)[order],
            score=np.array(self.score)[order],
            right=np.array(self.right, np.bool_)[order],
            right5=np.array(self.right5, np.bool_)[order],
            real=real if (real >= 0).any() else None,
            counts=counts,
        )


def logits_beside(output: Path | None) -> Path | None:
    """Where the logits of a run are kept whose rows go to this file."""
    target = regular(output) if output is not None else None
    return beside(target, LOGITS) if target is not None else None
