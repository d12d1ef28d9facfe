"""`stream`: inputs -> results, one for one and in order, decoding ahead of the network.

    inputs -> decode and resize (worker threads, a bounded number ahead) -> batches -> network -> results

Memory is bounded by the look-ahead, not by the number of inputs. A bad input becomes a `Failure` in its place.

The workers are threads: decoders and resizers let go of Python's lock. Processes, measured on two cores, were slower on
small pictures, which have to be sent back, and no faster on large ones.

Order, and how inputs fall into batches, do not depend on the number of workers: any number gives the same results to
the bit. The last digits of a row depend on how many are in its batch: with `pad` every batch has the same size, and a
picture gets the same scores whatever else is in the run. A `repeatable` backend sees to that by itself, at less cost.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from vitcli.classifier import Classifier
from vitcli.errors import OutOfMemory, PictureError
from vitcli.network.backend import Logits, Pixels
from vitcli.network.blas import one_blas_thread
from vitcli.pictures import images
from vitcli.pictures.images import MAX_PIXELS
from vitcli.results import Failure, Prediction, Result
from vitcli.sources import Input

T = TypeVar("T")
R = TypeVar("R")

# Pictures at once. On a CPU a batch of 32 leaves enough parts for its threads to share evenly while others decode; more
# would only delay the first row. Cards want more to do.
BATCH_ON_CPU, BATCH_ON_CARD = 32, 128


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture ready for the network: uint8 [s s 3], with what its row will say about it."""

    path: str
    pixels: Pixels
    size: tuple[int, int]
    notes: tuple[str, ...]


Item = Prepared | Failure


@dataclass(slots=True)
class Meter:
    """Where the time of a run goes, in seconds, and the batch that fits. Filled in while the run goes on."""

    decode: float = 0.0  # the workers', added up
    waited: float = 0.0  # of the reader for the workers: decoding was not fast enough
    listing: float = 0.0  # for the next input: a slow disk, server or list
    forward: float = 0.0
    batch: int = 0
    workers: int = 0


def stream(
    classifier: Classifier,
    inputs: Iterable[Input],
    *,
    batch: int | None = None,
    topk: int = 5,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    decode: Literal["exact", "fast"] = "exact",
    pad: bool = False,
    meter: Meter | None = None,
    smaller: Callable[[int], None] = lambda size: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
    """Classify inputs: exactly one result for each, in their order.

    `batch` pictures go through the network at once (None: what suits the device); when they do not fit in memory the
    batch is halved for the rest of the run, and `smaller` is told. `workers` threads decode (None: one for each
    processor). `decode` and `max_pixels` are those of `images.load`; `pad` is explained above. Once `stop()` is true,
    no further batch is begun. Raises OutOfMemory when one picture does not fit.
    """
    meter = meter or Meter()
    on_cpu = classifier.backend.device == "cpu"
    meter.batch = batch or (BATCH_ON_CPU if on_cpu else BATCH_ON_CARD)
    meter.workers = workers or os.cpu_count() or 1
    in_flight = 1 if on_cpu else 2  # a card computes while the next batch is put together

    def prepared(given: Input) -> tuple[Item, float]:
        start = time.perf_counter()
        return prepare(classifier, given, max_pixels, decode), time.perf_counter() - start

    network = Network(classifier, pad, meter, smaller)
    depth = 2 * meter.batch + meter.workers
    ahead = look_ahead(prepared, timed(inputs, meter), meter.workers, depth, give_way if on_cpu else None)
    begun: deque[tuple[list[Item], Callable[[], list[Logits]]]] = deque()
    # resizing a reduced picture is a matrix product; workers that each started threads for it would take twice as long
    with closing(ahead), one_blas_thread():
        for group in groups(decoded(ahead, meter), meter):
            if stop():
                break
            begun.append((group, network.begin([item for item in group if isinstance(item, Prepared)])))
            if len(begun) == in_flight:
                group, finish = begun.popleft()
                yield from results(classifier, group, finish(), topk)
        for group, finish in begun:
            yield from results(classifier, group, finish(), topk)


def look_ahead(
    work: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    depth: int,
    begin: Callable[[], object] | None = None,
) -> Generator[R, None, None]:
    """`map(work, items)` in order, by threads that are at most `depth` items ahead of the reader and `begin` first."""
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode", initializer=begin)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:  # also when the reader stops early: what has not begun is dropped
        pool.shutdown(wait=True, cancel_futures=True)


def give_way() -> None:
    """Let a worker run where the network leaves a core idle: a batch waits for the last of the network's threads."""
    if sys.platform == "linux":  # elsewhere this would be the whole process's niceness
        with suppress(OSError):
            os.nice(10)


def prepare(
    classifier: Classifier, given: Input, max_pixels: int = MAX_PIXELS, decode: Literal["exact", "fast"] = "exact"
) -> Item:
    """Decode and resize one input; whatever is wrong with it becomes its Failure."""
    if given.failure is not None:
        return given.failure
    try:
        source = given.file if given.file is not None else given.data or b""
        at_least = classifier.preprocess.at_least
        picture = images.load(source, max_pixels=max_pixels, decode=decode, at_least=at_least)
        return Prepared(given.name, classifier.prepare(picture.image, picture.reduced), picture.size, picture.notes)
    except PictureError as error:
        return Failure(given.name, error.reason, str(error))
    except MemoryError:
        return Failure(given.name, "out_of_memory", "There is not enough memory to decode this picture.")
    except BaseException as error:  # nothing that a picture does may end the run, nor the thread
        return Failure(given.name, "crashed", f"Decoding it broke down ({type(error).__name__}: {error}).")


def groups(items: Iterable[Item], meter: Meter) -> Iterator[list[Item]]:
    """Items in batches of `meter.batch` pictures, which may shrink on the way; the failures among them do not count."""
    group: list[Item] = []
    pictures = 0
    for item in items:
        group.append(item)
        pictures += isinstance(item, Prepared)
        # a long row of failures must not pile up, nor wait for a picture to come
        if pictures >= meter.batch or len(group) >= 4 * meter.batch:
            yield group
            group, pictures = [], 0
    if group:
        yield group


def results(classifier: Classifier, group: list[Item], logits: list[Logits], topk: int) -> Iterator[Result]:
    """A batch's rows, its failures left in their places."""
    rows = iter(logits)
    for item in group:
        if isinstance(item, Failure):
            yield item
            continue
        try:
            yield Prediction(item.path, classifier.top(next(rows), topk), item.size, item.notes)
        except PictureError as error:
            yield Failure(item.path, error.reason, str(error))


def timed(inputs: Iterable[Input], meter: Meter) -> Iterator[Input]:
    """The inputs, and on the meter how long they were in coming."""
    start = time.perf_counter()
    for given in inputs:
        meter.listing += time.perf_counter() - start
        yield given
        start = time.perf_counter()


def decoded(ahead: Iterable[tuple[Item, float]], meter: Meter) -> Iterator[Item]:
    """What the workers made, and on the meter what it took them and how long they were waited for."""
    start, listed = time.perf_counter(), meter.listing
    for item, seconds in ahead:
        meter.decode += seconds
        meter.waited += time.perf_counter() - start - (meter.listing - listed)
        yield item
        start, listed = time.perf_counter(), meter.listing


@contextmanager
def forward(meter: Meter) -> Iterator[None]:
    """Time in the network."""
    start = time.perf_counter()
    try:
        yield
    finally:
        meter.forward += time.perf_counter() - start


@dataclass(slots=True)
class Network:
    """A classifier's network, fed with batches that fit."""

    classifier: Classifier
    pad: bool
    meter: Meter
    smaller: Callable[[int], None]

    def begin(self, pictures: list[Prepared]) -> Callable[[], list[Logits]]:
        """Start on a batch, and return what waits for the logits [k] of each picture."""
        size = self.meter.batch
        try:
            with forward(self.meter):
                waits = [self.submit(pictures[i : i + size], size) for i in range(0, len(pictures), size)]
        except OutOfMemory as error:
            reason = error
            return lambda: self.again(pictures, size, reason)

        def finish() -> list[Logits]:
            try:
                with forward(self.meter):
                    return [row for wait in waits for row in wait()][: len(pictures)]
            except OutOfMemory as error:
                return self.again(pictures, size, error)

        return finish

    def again(self, pictures: list[Prepared], size: int, error: OutOfMemory) -> list[Logits]:
        """The same with half the batch. Raises OutOfMemory when that would be less than one picture."""
        if size == 1:
            raise error
        if self.meter.batch >= size:  # else an earlier batch has halved it already
            self.meter.batch = size // 2
            self.smaller(size // 2)
        return self.begin(pictures)()

    def submit(self, pictures: list[Prepared], size: int) -> Callable[[], Logits]:
        """At most `size` pictures to the network; the logits of what pads them come last."""
        pixels = np.stack([picture.pixels for picture in pictures])
        if self.pad and len(pixels) < size and not self.classifier.backend.repeatable:
            pixels = np.concatenate([pixels, np.zeros((size - len(pixels), *pixels.shape[1:]), np.uint8)])
        return self.classifier.backend.submit(pixels)
