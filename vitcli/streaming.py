"""`stream`: inputs -> results, one for one and in order, decoding ahead of the network.

    inputs -> decode and resize (worker threads, a bounded number ahead) -> batches -> network -> results
           -> fetch, what is on a server (threads of its own) ->

Memory is bounded by the look-ahead, not by the number of inputs. A bad input becomes a `Failure` in its place.

A model is whatever has a network and makes an answer of a row of it: `Model` is all that is known of it here.

Inputs are read by a thread of their own, so that what has come is answered while the next one is slow, and they need
not end. The workers are threads: decoders and resizers let go of Python's lock. Processes, measured on two cores, were
slower on small pictures, which have to be sent back, and no faster on large ones.

Order does not depend on the number of workers, and neither do rows: any number gives the same results to the bit. The
last digits of a row do depend on how many pictures are in its batch, unless `pad` is set: then a picture gets the same
row whatever else is in the run, and a batch may close early. Only inputs that are all here go without.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, cast

import numpy as np

from vitcli.errors import OutOfMemory, PictureError, TooManyFiles
from vitcli.network.backend import Pixels
from vitcli.network.blas import one_blas_thread
from vitcli.pictures import images
from vitcli.pictures.budget import BUDGET, Share
from vitcli.pictures.images import MAX_PIXELS
from vitcli.pictures.preprocess import Preprocess
from vitcli.results import Failure
from vitcli.sources import Given, Input, fetched, taken

if TYPE_CHECKING:
    from vitcli.sources.fetchers import Fetchers

T = TypeVar("T")
R = TypeVar("R")
Answer = TypeVar("Answer", covariant=True)

# Pictures at once. On a CPU a batch of 32 leaves enough parts for its threads to share evenly while others decode; more
# would only delay the first row. Cards want more to do.
BATCH_ON_CPU, BATCH_ON_CARD = 32, 128
LARGEST_BATCH = 4096  # three times as many pictures are held, and no machine gains by it
IN_HAND = 2 << 30  # bytes that those may take: of pictures of 4096 x 4096, a checkpoint's choice, fewer go at once

SOON = 0.05  # seconds: what has not come by then is waited for no longer before the rest is answered
LATE = 1.0  # the same for a server: a batch that closes early takes as long as a whole one, and most answer by then
ROOM = 8  # inputs that are read ahead of the decoders
HELD = (
    128 << 20
)  # bytes that inputs may bring along (members of archives do), before the decoders and waiting for them,
# and as many more that were fetched
POLL = 0.1  # seconds between two looks at whether the run was stopped, while nothing comes


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture ready for the network: uint8 [s s 3], with what its row will say about it."""

    path: str
    pixels: Pixels
    size: tuple[int, int]
    notes: tuple[str, ...]


Item = Prepared | Failure


class Model(Protocol[Answer]):
    """What a stream needs of a classifier, an embedder or anything else that makes an answer of a picture."""

    @property
    def device(self) -> str:
        """Where the network runs: "cpu", "cuda", ..."""

    @property
    def preprocess(self) -> Preprocess:
        """How pictures become the network's input."""

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Iterable[Any]]:
        """uint8 [b s s 3] -> what waits for each picture's row: its logits [k], as `backend.Backend.submit`, or more.

        Rows of what pads a batch come last.
        """

    def answer(self, picture: Prepared, row: Any) -> Answer:
        """One picture, as the network saw it, and its row. A PictureError becomes its Failure."""


class Shown(Generic[Answer]):
    """A model that shows each picture that it answers to whoever takes the answers, just before the answer comes.

    `show` gets it as the network saw it, uint8 [s s 3], and which part of the picture that is (`Preprocess.seen`).
    """

    def __init__(self, model: Model[Answer], *show: Callable[[Pixels, tuple[float, float, float, float]], object]):
        self.model, self.show = model, show

    @property
    def device(self) -> str:
        """The model's."""
        return self.model.device

    @property
    def preprocess(self) -> Preprocess:
        """The model's."""
        return self.model.preprocess

    def submit(self, pixels: Pixels, pad_to: int | None = None) -> Callable[[], Iterable[Any]]:
        """The model's."""
        return self.model.submit(pixels, pad_to)

    def answer(self, picture: Prepared, row: Any) -> Answer:
        """The model's."""
        answer = self.model.answer(picture, row)
        for show in self.show:
            show(picture.pixels, self.preprocess.seen(picture.size))
        return answer


@dataclass(slots=True)
class Meter:
    """Where the time of a run goes, in seconds, and the batch that fits. Filled in while the run goes on."""

    decode: float = 0.0  # the workers', added up
    waited: float = 0.0  # of the reader for the workers: decoding was not fast enough
    listing: float = 0.0  # for the next input, and for what it is on a server: a slow disk, server or list
    forward: float = 0.0
    batch: int = 0
    workers: int = 0


def stream(
    model: Model[Answer],
    inputs: Iterable[Given] | ReadAhead[Input],
    *,
    batch: int | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    decode: Literal["exact", "fast"] = "exact",
    pad: bool = False,
    meter: Meter | None = None,
    wanted: Callable[[Input], bool] = lambda given: True,
    on_shrink: Callable[[int], None] = lambda size: None,
    on_idle: Callable[[], object] = lambda: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Answer | Failure]:
    """Answer inputs: exactly one result for each that is `wanted`, in their order.

    `inputs` are paths or names (of pictures, folders, archives, URLs), bytes, arrays uint8 [h w 3], PIL images, Inputs.
    `batch` pictures go through the network at once (None: what suits the device; never more than `at_once` says); when
    they do not fit in memory the batch is halved for the rest of the run, and `on_shrink` is told. `workers` threads
    decode (None: one for each processor). `decode` and `max_pixels` are those of `images.load`. `pad` is explained
    above; inputs that come from anything but a list or the like may be slow, or never end, and imply it. `inputs`
    are read in a thread of their own then, `wanted` is asked in the caller's, and `on_idle` is called when all that
    came is answered and the next one is slow. Once `stop()` is true, no further batch is begun.
    Raises OutOfMemory when one picture does not fit, and what `inputs` raise.
    """
    meter = meter or Meter()
    on_cpu = model.device == "cpu"
    meter.batch = at_once(batch or (BATCH_ON_CPU if on_cpu else BATCH_ON_CARD), model.preprocess.size)
    meter.workers = workers or os.cpu_count() or 1
    in_flight = 1 if on_cpu else 2  # a card computes while the next batch is put together

    def prepared(given: Input) -> tuple[Item, float]:
        start = time.perf_counter()
        # Resizing a reduced picture is a matrix product, and workers that each started threads for it would be slower.
        # Not around the whole stream: whoever reads it may multiply matrices too.
        with one_blas_thread():
            item = prepare(model.preprocess, given, max_pixels, decode)
        return item, time.perf_counter() - start

    known = isinstance(inputs, Collection) and all(isinstance(given, Input) and not given.url for given in inputs)
    network = Network(model, pad or not known, meter, on_shrink)
    depth = 2 * meter.batch + meter.workers
    arriving: Iterable[Input | None]
    with ExitStack() as stack:
        if known:
            arriving = cast("Collection[Input]", inputs)
        else:
            reader = inputs if isinstance(inputs, ReadAhead) else ReadAhead(each(inputs))
            arriving = stack.enter_context(closing(reader)).arriving(stop)
        needed = (given for given in arriving if given is None or wanted(given))
        begin = give_way if on_cpu else None
        looking = look_ahead(prepared, timed(needed, meter), meter.workers, depth, begin, meter, stop)
        ahead = stack.enter_context(closing(looking))
        begun: deque[tuple[list[Item], Callable[[], list[Any]]]] = deque()
        for group in groups(decoded(ahead, meter), meter):
            if stop():
                break
            if group:
                begun.append((group, network.begin([item for item in group if isinstance(item, Prepared)])))
            while begun and (not group or len(begun) == in_flight):
                answered, finish = begun.popleft()
                yield from results(model, answered, finish())
            if not group:
                on_idle()
        for answered, finish in begun:
            yield from results(model, answered, finish())


def at_once(batch: int, side: int) -> int:
    """How many pictures of side x side pixels go through the network together where `batch` were asked for."""
    return max(1, min(batch, LARGEST_BATCH, IN_HAND // (3 * 3 * side * side)))


def each(inputs: Iterable[Given]) -> Iterator[Input]:
    """Everything that was given, as Inputs; what has no name is called by its number, from 0."""
    if isinstance(inputs, (str, bytes, os.PathLike)):
        raise TypeError("A stream takes an iterable of pictures: put a single one in a list.")
    for number, given in enumerate(inputs):
        yield from taken(given, f"#{number}")


class ReadAhead(Generic[T]):
    """Items of an iterable, taken by a thread of its own that is at most `room` ahead, and not much more than HELD."""

    def __init__(self, items: Iterable[T], room: int = ROOM) -> None:
        self.room = room
        self.items: deque[T] = deque()
        self.changed = threading.Condition()
        self.ended = self.closed = False
        self.error: BaseException | None = None
        # a daemon: it may wait for ever for a pipe in which nothing comes
        threading.Thread(target=self._read, args=(items,), name="read ahead", daemon=True).start()

    def _read(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                with self.changed:
                    self.changed.wait_for(lambda: self.closed or (len(self.items) < self.room and not self.full()))
                    if self.closed:
                        break
                    self.items.append(item)
                    self.changed.notify_all()
        except BaseException as error:  # it is the reader's
            self.error = error
        finally:
            with self.changed:
                self.ended = True
                self.changed.notify_all()

    def full(self) -> bool:
        """Whether those that wait hold as much as they may."""
        return sum(map(held, self.items)) >= HELD

    def count(self, most: int, seconds: float | None) -> int | None:
        """How many there are if that turns out within `seconds` (None: however long it takes) and is `most` or less.

        Raises what reading them raised.
        """
        with self.changed:
            self.room = most + 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.ended or self.full() or len(self.items) > most, seconds)
            self.room = ROOM
            if self.error is not None:
                raise self.error
            return len(self.items) if self.ended and len(self.items) <= most else None

    def arriving(self, stop: Callable[[], bool] = lambda: False) -> Iterator[T | None]:
        """The items, and a None where the next one is slow; nothing more once `stop()` is true."""
        slow = False
        while not stop():
            with self.changed:
                self.changed.wait_for(lambda: self.items or self.ended, POLL if slow else SOON)
                item = self.items.popleft() if self.items else None
                self.changed.notify_all()
                if item is None and self.ended:
                    break
            if item is not None or not slow:
                yield item
            slow = item is None
        if self.error is not None and not stop():
            yield None  # what came before is answered
            raise self.error

    def close(self) -> None:
        """Take no more."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()


def held(item: object) -> int:
    """Bytes that an input brings along."""
    return len(getattr(item, "data", None) or b"")


def look_ahead(
    work: Callable[[T], R],
    items: Iterable[T | None],
    workers: int,
    depth: int,
    begin: Callable[[], object] | None = None,
    meter: Meter | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[R | None, None, None]:
    """`map(work, items)` in order, by threads that are at most `depth` items ahead of the reader and `begin` first.

    Nor are they more than HELD bytes ahead, where items bring those along. Inputs with a `url` are fetched by threads
    of their own, and by the worker's turn have come. A None among the items says that the next one is slow: it is
    handed on after all that came before it. So is one while a server is waited for, which ends once `stop()` is true.
    """
    pending: deque[tuple[Future[R] | Arriving[R], int]] = deque()
    waiting = 0
    fetchers: Fetchers | None = None
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode", initializer=begin)

    def begun(item: T) -> Future[R] | Arriving[R]:
        nonlocal fetchers
        if not isinstance(item, Input) or item.url is None:
            return pool.submit(work, item)
        if fetchers is None:
            from vitcli.sources.fetchers import Fetchers  # here: few runs need it, and one picture should not wait

            fetchers = Fetchers(HELD)
        return Arriving(fetchers.submit(item, lambda come: pool.submit(work, cast("T", come))))

    def first() -> Iterator[R | None]:
        nonlocal waiting
        done, size = pending.popleft()
        waiting -= size
        if isinstance(done, Arriving):
            yield from done.slow(meter or Meter(), stop)
            if stop() and not done.taken.done():
                pending.clear()  # nobody waits for these either
                return
            done = done.taken.result()
        yield done.result()

    try:
        for item in items:
            if item is not None:
                size = held(item)
                pending.append((begun(item), size))
                waiting += size
            while pending and (item is None or len(pending) >= depth or waiting >= HELD):
                yield from first()
            if item is None:
                yield None
        while pending:
            yield from first()
    finally:  # also when the reader stops early: what has not begun is dropped
        if fetchers is not None:
            fetchers.close()
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Arriving(Generic[R]):
    """What is being fetched: once it has come, the future of what is made of it."""

    taken: Future[Future[R]]

    def slow(self, meter: Meter, stop: Callable[[], bool]) -> Iterator[None]:
        """Wait until it has come, with a None if that takes a while, but no longer than until `stop()` is true."""
        start = since = time.perf_counter()
        told = False
        while not self.taken.done() and not stop():
            wait([self.taken], POLL)
            now = time.perf_counter()
            meter.listing += now - since
            since = now
            if not told and not self.taken.done() and now - start >= LATE:
                told = True
                yield None
                since = time.perf_counter()


def give_way() -> None:
    """Let a worker run where the network leaves a core idle: a batch waits for the last of the network's threads."""
    if sys.platform == "linux":  # elsewhere this would be the whole process's niceness
        with suppress(OSError):
            os.nice(10)


def prepare(
    preprocess: Preprocess, given: Input, max_pixels: int = MAX_PIXELS, decode: Literal["exact", "fast"] = "exact"
) -> Item:
    """Decode and resize one input; whatever is wrong with it becomes its Failure. Raises TooManyFiles."""
    if given.failure is not None:
        return given.failure
    try:
        return opened(preprocess, given, max_pixels, decode)
    except PictureError as error:
        return Failure(given.name, error.reason, str(error))
    except MemoryError:
        return Failure(given.name, "out_of_memory", "There is not enough memory to decode this picture.")
    except TooManyFiles:
        raise
    except BaseException as error:  # nothing that a picture does may end the run, nor the thread
        return Failure(given.name, "crashed", f"Decoding it broke down ({type(error).__name__}: {error}).")


def opened(
    preprocess: Preprocess, given: Input, max_pixels: int = MAX_PIXELS, decode: Literal["exact", "fast"] = "exact"
) -> Prepared:
    """Decode and resize one input, fetched where it is on a server. Raises PictureError.

    What does not fit in memory beside other pictures is tried again when it is alone.
    """
    given = fetched(given)
    if given.failure is not None:
        raise PictureError(given.failure.error, given.failure.message)

    def attempt(share: Share) -> Prepared:
        if given.picture is not None:
            picture = images.upright(given.picture)
        else:
            source = given.file if given.file is not None else given.data or b""
            picture = images.load(
                source, max_pixels=max_pixels, decode=decode, at_least=preprocess.at_least, share=share
            )
        return Prepared(given.name, preprocess.resized(picture.image, picture.reduced), picture.size, picture.notes)

    try:
        with BUDGET.share() as share:
            return attempt(share)
    except (PictureError, MemoryError) as error:
        if isinstance(error, PictureError) and error.reason != "out_of_memory":
            raise
    with BUDGET.share() as share:
        share.take_all()
        return attempt(share)


def groups(items: Iterable[Item | None], meter: Meter) -> Iterator[list[Item]]:
    """Items in batches of `meter.batch` pictures, which may shrink on the way; the failures among them do not count.

    A batch closes early, and an empty one follows, where the next input is slow.
    """
    group: list[Item] = []
    pictures = 0
    for item in items:
        if item is not None:
            group.append(item)
            pictures += isinstance(item, Prepared)
        # a long row of failures must not pile up, nor wait for a picture to come
        if group and (item is None or pictures >= meter.batch or len(group) >= 4 * meter.batch):
            yield group
            group, pictures = [], 0
        if item is None:
            yield []
    if group:
        yield group


def results(model: Model[Answer], group: list[Item], rows: Iterable[Any]) -> Iterator[Answer | Failure]:
    """A batch's answers, its failures left in their places."""
    rows = iter(rows)
    for item in group:
        if isinstance(item, Failure):
            yield item
            continue
        try:
            yield model.answer(item, next(rows))
        except PictureError as error:
            yield Failure(item.path, error.reason, str(error))


def timed(inputs: Iterable[T], meter: Meter) -> Iterator[T]:
    """The inputs, and on the meter how long they were in coming."""
    start = time.perf_counter()
    for given in inputs:
        meter.listing += time.perf_counter() - start
        yield given
        start = time.perf_counter()


def decoded(ahead: Iterable[tuple[Item, float] | None], meter: Meter) -> Iterator[Item | None]:
    """What the workers made, and on the meter what it took them and how long they were waited for."""
    start, listed = time.perf_counter(), meter.listing
    for made in ahead:
        item, seconds = made or (None, 0.0)
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
    """A model's network, fed with batches that fit."""

    model: Model[object]
    pad: bool
    meter: Meter
    on_shrink: Callable[[int], None]

    def begin(self, pictures: list[Prepared]) -> Callable[[], list[Any]]:
        """Start on a batch, and return what waits for the row of each picture."""
        size = self.meter.batch
        try:
            with forward(self.meter):
                waits = [self.submit(pictures[i : i + size], size) for i in range(0, len(pictures), size)]
        except OutOfMemory as error:
            reason = error
            return lambda: self.again(pictures, size, reason)

        def finish() -> list[Any]:
            try:
                with forward(self.meter):
                    return [row for wait in waits for row in wait()][: len(pictures)]
            except OutOfMemory as error:
                return self.again(pictures, size, error)

        return finish

    def again(self, pictures: list[Prepared], size: int, error: OutOfMemory) -> list[Any]:
        """The same with half the batch. Raises OutOfMemory when that would be less than one picture."""
        if size == 1:
            raise error
        if self.meter.batch >= size:  # else an earlier batch has halved it already
            self.meter.batch = size // 2
            self.on_shrink(size // 2)
        return self.begin(pictures)()

    def submit(self, pictures: list[Prepared], size: int) -> Callable[[], Iterable[Any]]:
        """At most `size` pictures to the network."""
        try:
            pixels = np.stack([picture.pixels for picture in pictures])
        except MemoryError as error:
            raise OutOfMemory(f"A batch of {len(pictures)} pictures does not fit in memory.") from error
        return self.model.submit(pixels, size if self.pad else None)
