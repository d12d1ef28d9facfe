"""What a hub's server sends, checked before the client acts on it: a server is not trusted with paths, sizes or time.

The client names files after headers (ETag, X-Repo-Commit, X-Xet-Hash), writes a body for as long as it comes, and waits
for as long as something comes. Here every response is seen first, by hooks of its HTTP client: a name must be the one
that was asked for, a body may be as long as was announced, and each step has a deadline. Of storage that the client
reaches in another way (Xet) only the headers that lead there are seen.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from vitcli.errors import Corrupt, HubError, Unreachable

COMMIT = SHA1 = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
SMALL = 1 << 20  # bytes of a body that is not what was asked for: an error, a redirect
ENCODINGS = ("", "identity", "gzip", "deflate")  # others, or several at once, can grow without measure in one piece

T = TypeVar("T")
_current = threading.local()  # `.guard` of the thread that fetches; other threads of the program are left alone


@dataclass
class Guard:
    """What one exchange may bring. Every violation raises a HubError, which the client lets through."""

    what: str  # for the sentence
    most: int  # bytes of the body, decompressed, over all tries
    seconds: float  # until it must be over
    pace: float | None = None  # bytes a second that earn more time: a large file may take as long as it keeps coming
    commit: str | None = None  # the commit that was asked for
    digest: str | None = None  # the hash that the listing gives for this file
    size: int | None = None  # and its size
    stopped: bool = False

    def __post_init__(self) -> None:
        self.until = time.monotonic() + self.seconds
        self.got = 0

    def in_time(self) -> None:
        """Raise Unreachable when the deadline has passed."""
        if self.stopped or time.monotonic() > self.until:
            raise Unreachable(f"{self.what} did not come in time: the server is too slow, or never ends. Try again.")

    def asked(self, request: Any) -> None:
        """The hook for a request, which may be a retry."""
        self.in_time()

    def answered(self, response: Any) -> None:
        """The hook for a response, of which only the headers are here."""
        self.in_time()
        self._check_names(response)
        headers, request = response.headers, response.request
        if request.url.scheme == "https" and headers.get("Location", "").strip().lower().startswith("http:"):
            raise Unreachable(f"{self.what}: the server leads from https to http, which is not followed.")
        if headers.get("Content-Encoding", "").strip().lower() not in ENCODINGS:
            raise Unreachable(f"{self.what} comes in an encoding that was not asked for.")
        if not headers.get("Content-Disposition", "").isascii():  # the progress bar would show the name in it
            del headers["Content-Disposition"]
        self._bound(response)

    def _check_names(self, response: Any) -> None:
        """Headers that the client makes paths and sizes of."""
        headers = response.headers
        commit, xet = headers.get("X-Repo-Commit"), headers.get("X-Xet-Hash")
        if self.commit is not None and commit not in (None, self.commit):
            raise Corrupt(f"{self.what}: the server answers with another commit than was asked for.")
        if xet is not None and not SHA256.fullmatch(xet):
            raise Corrupt(f"{self.what}: the server gives a hash that is none.")
        if response.request.method != "HEAD" or response.status_code >= 400:
            return
        etag = headers.get("X-Linked-Etag") or headers.get("ETag")
        if etag is not None:
            name = etag.lstrip("W/").strip('"')  # as the client reads it
            if name != self.digest if self.digest else not (SHA1.fullmatch(name) or SHA256.fullmatch(name)):
                raise Corrupt(f"{self.what}: the server gives another hash (ETag) than it lists. It was not fetched.")
        size = headers.get("X-Linked-Size")
        if None not in (size, self.size) and size != str(self.size):
            raise Corrupt(f"{self.what}: the server gives another size than it lists. It was not fetched.")

    def _bound(self, response: Any) -> None:
        """Let the body be read only as far, and for as long, as it may come."""
        wanted = response.request.method == "GET" and 200 <= response.status_code < 300
        # a body that continues an earlier one counts from where we asked it to begin
        start = re.fullmatch(r"bytes=(\d+)-", response.request.headers.get("Range", ""))
        self.got = int(start[1]) if start and response.status_code == 206 else 0
        most = self.most if wanted else SMALL
        raw, decoded = response.iter_raw, response.iter_bytes

        def iter_raw(chunk_size: int | None = None) -> Iterator[bytes]:
            for piece in raw(chunk_size):
                if wanted and self.pace:
                    self.until += len(piece) / self.pace
                self.in_time()
                yield piece

        def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
            for piece in decoded(chunk_size):
                self.got += len(piece)
                if self.got > most:
                    raise Corrupt(
                        f"{self.what} goes on after the {most:,} bytes that it may have; it was not kept. "
                        "Try again; if it comes back, the server or a proxy changes files."
                    )
                yield piece

        response.iter_raw, response.iter_bytes = iter_raw, iter_bytes

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, or Unreachable at the deadline.

        It works in a thread of its own, because a server that sends its headers a byte at a time keeps the client from
        coming back at all. Such a thread is left behind: it holds one connection, and ends with the process.
        """
        outcome: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()  # waited for instead of the thread: an interrupted join takes it for finished

        def body() -> None:
            _current.guard = self
            try:
                outcome.append(work())
            except BaseException as error:  # raised again below, in the thread that waits
                errors.append(error)
            finally:
                done.set()

        threading.Thread(target=body, daemon=True, name="vit-hub").start()
        try:
            while not done.wait(max(0.01, min(1.0, self.until - time.monotonic()))):
                self.in_time()
        except BaseException as error:
            self.stopped = True
            if not isinstance(error, HubError):  # Ctrl-C: let the client remove what is unfinished
                done.wait(2)
            raise
        if errors:
            raise errors[0]
        return outcome[0]


@contextmanager
def installed() -> Iterator[None]:
    """While this lasts, every HTTP client that `huggingface_hub` makes has the hooks, after a failure too."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http  # the factory in use can be set, but not asked for

    usual = _http._GLOBAL_CLIENT_FACTORY

    def asked(request: Any) -> None:
        if guard := getattr(_current, "guard", None):
            guard.asked(request)

    def answered(response: Any) -> None:
        if guard := getattr(_current, "guard", None):
            guard.answered(response)

    def factory() -> Any:
        client = usual()
        hooks = client.event_hooks
        client.event_hooks = {
            "request": [*hooks.get("request", []), asked],
            "response": [answered, *hooks.get("response", [])],
        }
        return client

    set_client_factory(factory)
    try:
        yield
    finally:
        set_client_factory(usual)
