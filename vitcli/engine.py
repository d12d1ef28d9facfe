"""`stream`: inputs -> results, one for one and in order, decoding ahead of the network.

    inputs -> decode and resize (worker threads, a bounded number ahead) -> batches -> network -> results

Memory is bounded by the look-ahead, not by the number of inputs. A bad input becomes a `Failure` in its place.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from vitcli import images
from vitcli.backend import Logits, Pixels
from vitcli.classifier import Classifier
from vitcli.errors import OutOfMemory, PictureError
from vitcli.images import MAX_PIXELS
from vitcli.results import Failure, Prediction, Result
from vitcli.sources import Input

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture ready for the network: uint8 [s s 3], with what its row will say about it."""

    path: str
    pixels: Pixels
    size: tuple[int, int]
    notes: tuple[str, ...]


def stream(
    classifier: Classifier,
    inputs: Iterable[Input],
    *,
    batch: int = 32,
    topk: int = 5,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Result]:
    """Classify inputs: exactly one result for each, in their order.

    `batch` pictures go through the network at once; when they do not fit in memory the batch is halved and the run
    goes on. `workers` threads decode (None: one for each processor). Raises OutOfMemory when one picture does not fit.
    """

    def prepared(given: Input) -> Prepared | Failure:
        return prepare(classifier, given, max_pixels)

    ahead = look_ahead(prepared, inputs, workers or os.cpu_count() or 1, 2 * batch)
    while group := list(islice(ahead, batch)):
        yield from classify(classifier, group, topk)


def look_ahead(work: Callable[[T], R], items: Iterable[T], workers: int, depth: int) -> Iterator[R]:
    """`map(work, items)` in order, done by threads that are at most `depth` items ahead of the reader."""
    items = iter(items)
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:  # also when the reader stops early: what has not begun is dropped
        pool.shutdown(wait=True, cancel_futures=True)


def prepare(classifier: Classifier, given: Input, max_pixels: int = MAX_PIXELS) -> Prepared | Failure:
    """Decode and resize one input; whatever is wrong with it becomes its Failure."""
    if given.failure is not None:
        return given.failure
    try:
        source = given.file if given.file is not None else given.data or b""
        picture = images.load(source, max_pixels=max_pixels)
        return Prepared(given.name, classifier.prepare(picture.image), picture.size, picture.notes)
    except PictureError as error:
        return Failure(given.name, error.reason, str(error))
    except MemoryError:
        return Failure(given.name, "out_of_memory", "There is not enough memory to decode this picture.")


def classify(classifier: Classifier, group: list[Prepared | Failure], topk: int) -> Iterator[Result]:
    """One batch, failures among it left in their places."""
    pictures = [item for item in group if isinstance(item, Prepared)]
    rows = iter(logits_of(classifier, pictures))
    for item in group:
        if isinstance(item, Failure):
            yield item
            continue
        try:
            yield Prediction(item.path, classifier.top(next(rows), topk), item.size, item.notes)
        except PictureError as error:
            yield Failure(item.path, error.reason, str(error))


def logits_of(classifier: Classifier, pictures: list[Prepared]) -> Iterator[Logits]:
    """Logits [k] of each picture, in batches halved until they fit. Raises OutOfMemory when one does not."""
    size = len(pictures)
    while pictures:
        try:
            yield from classifier.logits(np.stack([p.pixels for p in pictures[:size]]))
            pictures = pictures[size:]
        except OutOfMemory:
            if size == 1:
                raise
            size //= 2
