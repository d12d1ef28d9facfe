"""What a hub's server sends, checked before the client acts on it: a server is not trusted with paths, sizes or time.

The client names files after headers (ETag, X-Repo-Commit), writes a body for as long as it comes, and waits for as long
as something comes. Here every response is seen first, by hooks of its HTTP client: a name must be the one that was
asked for, a body may be as long as was announced, and each step has a deadline. Storage that the client would reach in
another way than HTTP (Xet) is not used: nobody could say how much arrives from there, nor stop it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
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
        for name in list(headers):  # the client shows some, such as X-HF-Warning and the name for its progress bar
            shown = headers[name].replace("\t", " ")
            if not shown.isprintable() or (name == "content-disposition" and not shown.isascii()):
                del headers[name]
        self._bound(response)

    def _check_names(self, response: Any) -> None:
        """Headers that the client makes paths and sizes of."""
        headers = response.headers
        if self.commit is not None and headers.get("X-Repo-Commit") not in (None, self.commit):
            raise Corrupt(f"{self.what}: the server answers with another commit than was asked for.")
        headers.pop("X-Xet-Hash", None)  # without it the client fetches the file from where it is redirected to
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
        coming back at all, and so does a look-up of a name that nobody answers. Such a thread is left behind: it holds
        one connection, gets no further, and ends with the process.
        """
        outcome: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()  # waited for instead of the thread: an interrupted join takes it for finished

        def body() -> None:
            _current.guard = self
            try:
                with installed():  # for as long as the thread goes on, which may be longer than it is waited for
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


def _asked(request: Any) -> None:
    """The hook of a client that may serve several threads."""
    if guard := getattr(_current, "guard", None):
        guard.asked(request)


def _answered(response: Any) -> None:
    """The same, for a response."""
    if guard := getattr(_current, "guard", None):
        guard.answered(response)


class Installation:
    """The hooks on every HTTP client that a guarded thread sends with, for as long as anybody fetches.

    `huggingface_hub` shares one client, which it makes anew after a connection error, by a factory that may be the
    program's own and that cannot be asked for. So the class of the clients sees to it whenever one sends: clients,
    their connections and the factory stay what they are, and threads without a guard send as ever.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.undo = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Install them, and take them away after the last of those that fetch, after a failure too."""
        with self.lock:
            if not self.users:
                self._begin()
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    self.undo.close()

    def _begin(self) -> None:
        from huggingface_hub import constants, get_session

        kind: Any = next(base for base in type(get_session()).__mro__ if "send" in vars(base))
        usual = kind.send

        @wraps(usual)
        def send(client: Any, *args: Any, **how: Any) -> Any:
            if hasattr(_current, "guard"):
                self._hook(client)
            return usual(client, *args, **how)

        self.undo.callback(setattr, kind, "send", usual)
        kind.send = send
        # Xet would also be reached without a request: by a listing that another program left in the cache
        self.undo.callback(setattr, constants, "HF_HUB_DISABLE_XET", constants.HF_HUB_DISABLE_XET)
        constants.HF_HUB_DISABLE_XET = True

    def _hook(self, client: Any) -> None:
        with self.lock:
            hooks = client.event_hooks
            if self.users and _answered not in hooks["response"]:
                self.undo.callback(setattr, client, "event_hooks", hooks)
                client.event_hooks = {
                    "request": [*hooks["request"], _asked],
                    "response": [_answered, *hooks["response"]],
                }


installed = Installation()
