"""`Fetchers`: many addresses at once, a few of each server, ahead of those who decode them.

Servers are slow and cost nothing while they are waited for, so there are more of these threads than of those that
decode. An address is begun in its turn unless its server is busy with others of ours: one that is slow or dead holds up
its own pictures. Together, what has come and is not decoded yet holds no more bytes than `Room` has.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from vitcli.errors import TooManyFiles
from vitcli.sources.input import Input, failed
from vitcli.sources.web import Refused, address, fetch

R = TypeVar("R")

AT_ONCE = 32  # addresses
OF_ONE_SERVER = 10


class Room:
    """Bytes that pictures may hold together, from when they arrive until they are let go.

    Where those that are on their way fill it, one of them goes on beyond it, or none could end; but not while another
    has come, whose bytes a decoder will let go.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.coming: dict[object, int] = {}
        self.come = 0
        self.beyond: object = None  # the one that may have more
        self.closed = False
        self.changed = threading.Condition()

    def begin(self, who: object) -> None:
        """One more is on its way."""
        with self.changed:
            self.coming[who] = 0

    def keep(self, who: object, size: int) -> None:
        """Wait until there is room for `size` bytes more of one that is coming; negative sizes let go.

        Raises Refused when nobody wants them any longer.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.closed or size <= 0 or self.admits(who, size))
            if self.closed:
                raise Refused("unreachable", "The run was stopped.")
            self.coming[who] += size
            if size < 0 and self.beyond is who:
                self.beyond = None
            self.changed.notify_all()

    def admits(self, who: object, size: int) -> bool:
        """Whether so much is left, or nothing else would go on; the lock is held."""
        if self.come + sum(self.coming.values()) + size <= self.most:
            return True
        if self.beyond is None and not self.come:
            self.beyond = who
        return self.beyond is who and not self.come

    def end(self, who: object) -> int:
        """One has come, and keeps its bytes, which are returned, until they are let go."""
        with self.changed:
            size = self.coming.pop(who)
            self.come += size
            if self.beyond is who:
                self.beyond = None
            self.changed.notify_all()
            return size

    def let_go(self, size: int) -> None:
        """Bytes of one that had come are no longer held."""
        with self.changed:
            self.come -= size
            self.changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()


@dataclass(slots=True, eq=False)
class Job(Generic[R]):
    """An address of a server, who takes what comes of it, and what they will make of that."""

    given: Input
    server: str
    then: Callable[[Input], Future[R]]
    taken: Future[Future[R]] = field(default_factory=Future)


class Fetchers:
    """Threads that fetch addresses, one for each, together with about `most` bytes in their hands."""

    def __init__(self, most: int) -> None:
        self.room = Room(most)
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.waiting: list[Job[Any]] = []
        self.busy: Counter[str] = Counter()  # addresses that are being fetched, by server

    def submit(self, given: Input, then: Callable[[Input], Future[R]]) -> Future[Future[R]]:
        """Fetch an address in its turn, and hand it, or its failure, to `then`, which is to be quick.

        The bytes are held until the future that `then` returns is done.
        """
        job = Job(given, server_of(given), then)
        with self.lock:
            self.waiting.append(job)
            self._begin()
        return job.taken

    def close(self) -> None:
        """Begin no more, and wait for none: one that waits for a silent server ends by itself."""
        self.over.set()
        self.room.close()
        with self.lock:
            self.waiting.clear()

    def _begin(self) -> None:
        """Begin what may be begun; the lock is held."""
        for job in list(self.waiting):
            if self.busy.total() >= AT_ONCE or self.over.is_set():
                break
            if self.busy[job.server] >= OF_ONE_SERVER:
                continue
            thread = threading.Thread(target=self._fetch, args=(job,), name="fetch", daemon=True)
            self.room.begin(job)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more threads
                self.room.end(job)
                if self.busy.total():
                    break  # fewer at once, then
                self.waiting.remove(job)
                hand_over(job, failed(job.given.name, "out_of_memory", "There is not enough memory to fetch it."))
            else:
                self.waiting.remove(job)
                self.busy[job.server] += 1

    def _fetch(self, job: Job[Any]) -> None:
        """What a thread does."""
        found: Input | TooManyFiles
        try:
            found = fetch(job.given, partial(self.room.keep, job), self.over.wait)
        except TooManyFiles as error:
            found = error
        except BaseException as error:  # nothing that a server does may end the run; the words may hold a password
            found = failed(job.given.name, "crashed", f"Fetching it broke down ({type(error).__name__}).")
        size = self.room.end(job)
        with self.lock:
            self.busy -= Counter([job.server])
            self._begin()
        hand_over(job, found, lambda: self.room.let_go(size))


def hand_over(job: Job[Any], found: Input | TooManyFiles, done: Callable[[], object] = lambda: None) -> None:
    """Give what came of a job to those who wait for it, and call `done` when they are done with it."""
    try:
        if isinstance(found, TooManyFiles):
            raise found
        making = job.then(found)
    except BaseException as error:  # the reader's, who may be gone
        job.taken.set_exception(error)
        done()
    else:
        job.taken.set_result(making)
        making.add_done_callback(lambda _: done())


def server_of(given: Input) -> str:
    """The host and port that an address asks; "" where it can ask nobody."""
    try:
        return urlsplit(address(given.url or "")[0]).netloc.lower()
    except ValueError:
        return ""
