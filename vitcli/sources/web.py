"""A picture behind an http(s) URL: one deadline and one budget of bytes for all of it, led nowhere but to http(s).

Addresses are read as browsers read them: percent-encoded where they need it, fragments dropped, a user and password
sent to their own server only. The row has the address without the password. A server that is busy is asked again when
it says so, or ever more rarely, within the same deadline.
"""

from __future__ import annotations

import base64
import http.client
import io
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from email.message import Message
from email.utils import parsedate_to_datetime
from itertools import count
from typing import IO, Any
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

from vitcli.errors import stop_without_files
from vitcli.escaping import exact, short
from vitcli.sources.input import Input, failed, is_url
from vitcli.version import __version__

SILENCE = 20.0  # seconds without an answer or a byte
PATIENCE = 120.0  # seconds for the whole of a picture: connections, headers, redirects, body, second try
OVERHEAD = 1 << 20  # bytes that headers and the like may take beside the picture
PIECE = 1 << 16  # bytes read at a time
PAUSE = 1.0  # seconds before the second try; twice as many before each further one
TRIES = 2
BUSY, BUSY_TRIES = (429, 503), 6  # a server that asks for time gets it
REDIRECTS = 10

PATH = "!$%&'()*+,-./:;=@[\\]^_|~"  # what browsers leave as it is, besides letters and digits
QUERY = "!$%&()*+,-./:;=?@[\\]^_`{|}~"

BLANK = "".join(map(chr, range(33)))  # what browsers take off the ends of an address

# Letters of a server's name that Python encodes in another way (IDNA 2003) than browsers: they would lead elsewhere.
AMBIGUOUS = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")


# What to do with the addresses that are not opened. Most are a matter of a login, which other programs have.
ELSEWHERE = {
    "s3": "copy it with `aws s3 cp`, or make an https address of it with `aws s3 presign`",
    "gs": "copy it with `gcloud storage cp`, or make an https address of it with `gcloud storage sign-url`",
    "hf": "fetch it with `hf download`, or name it by its https address",
    "data": "the picture itself is in it, so decode it and pipe it into --stdin-image",
    "blob": "only the browser that made it knows what it stands for, so save the picture there",
}
DOWNLOAD = "download it, and name the file"

# Of a Content-Encoding, what says that bytes are packed in a way that is not undone. Other words, which servers send
# by mistake (none, utf-8, aws-chunked), are ignored, as browsers do.
PACKED = {"br", "zstd", "compress", "x-compress", "dcb", "dcz", "gzip", "x-gzip", "deflate"}


class Refused(Exception):
    """A picture that will not come, however often it is asked for: `reason` is the word of its row."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Allowance:
    """The time and bytes that are left for one picture, whatever the server does with them."""

    def __init__(self, most: int) -> None:
        self.until = time.monotonic() + PATIENCE
        self.most = self.bytes = most

    def seconds(self) -> float:
        """How long to wait for the next byte. Raises Refused when the time is over."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise Refused("unreachable", f"The picture did not arrive within {PATIENCE:.0f} seconds.")
        return min(SILENCE, left)

    def take(self, count: int) -> None:
        """Count bytes that arrived. Raises Refused when they were too many."""
        self.bytes -= count
        if self.bytes < 0:
            raise Refused("too_large", f"The server sends more than {self.most >> 20} MiB.")


class LookUps:
    """Names of servers -> their addresses, within a time: the look-up of the system takes no time-out.

    Each is made in a thread of its own, which is left behind where nothing comes; who asks for the same name meanwhile
    waits for the same one, so that a list of one server's pictures leaves one thread.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.under_way: dict[tuple[str, int], Future[list[Any]]] = {}

    def __call__(self, place: tuple[str, int], seconds: float) -> list[Any]:
        """What `getaddrinfo` gives for a host and a port. Raises OSError, which TimeoutError is."""
        with self.lock:
            found = self.under_way.get(place)
            if found is None:
                found = self.under_way[place] = Future()
                threading.Thread(target=self._look, args=(place, found), daemon=True, name="vit-name").start()
        try:
            return found.result(seconds)
        except TimeoutError:
            raise TimeoutError("nothing says where that server is") from None

    def _look(self, place: tuple[str, int], found: Future[list[Any]]) -> None:
        try:
            found.set_result(socket.getaddrinfo(*place, 0, socket.SOCK_STREAM))
        except BaseException as error:  # raised where it is waited for
            found.set_exception(error)
        finally:
            with self.lock:
                del self.under_way[place]


look_up = LookUps()


class Metered(io.RawIOBase):
    """What a socket receives, within an allowance: headers and chunk sizes too, which http.client reads unbounded."""

    def __init__(self, sock: socket.socket, allowance: Allowance) -> None:
        self.sock, self.allowance = sock, allowance
        self.raw = sock.makefile("rb", buffering=0)  # which keeps the socket open for as long as it is

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.sock.settimeout(self.allowance.seconds())
        count = self.raw.readinto(buffer)
        self.allowance.take(count or 0)
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


def metered(kind: type[http.client.HTTPConnection], allowance: Allowance) -> type[http.client.HTTPConnection]:
    """Connections of this kind that live within the allowance."""

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **how: Any) -> None:
            super().__init__(sock, *args, **how)
            self.fp.close()
            self.fp = io.BufferedReader(Metered(sock, allowance))

    def connect(address: tuple[str, int], *_: object) -> socket.socket:
        failure: OSError = OSError("the name leads nowhere")
        for family, form, protocol, _name, place in look_up(address, allowance.seconds()):
            sock = socket.socket(family, form, protocol)
            try:
                sock.settimeout(allowance.seconds())
                sock.connect(place)
                return sock
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
        raise failure

    class Connection(kind):  # type: ignore[misc, valid-type]
        response_class = Response

        def __init__(self, *args: Any, **how: Any) -> None:
            super().__init__(*args, **how)
            self._create_connection = connect

    return Connection


class Http(urllib.request.HTTPHandler):
    """Opens http: within an allowance."""

    def __init__(self, allowance: Allowance) -> None:
        super().__init__()
        self.kind = metered(http.client.HTTPConnection, allowance)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self.kind, req)


class Https(urllib.request.HTTPSHandler):
    """Opens https: within an allowance."""

    def __init__(self, allowance: Allowance) -> None:
        super().__init__()
        self.kind = metered(http.client.HTTPSConnection, allowance)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self.kind, req, context=self._context)  # type: ignore[attr-defined]


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not to ftp:, which urllib's own handler allows; their bodies are not read."""

    max_redirections = REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        fp.close()  # before urllib reads to its end, which need not come
        if not is_url(newurl):
            raise Refused("unreachable", "The server sends us to an address that is not http.")
        return super().redirect_request(req, fp, code, msg, headers, address(newurl)[0])


def fetch(
    given: Input,
    keep: Callable[[int], object] = lambda size: None,
    pause: Callable[[float], object] = lambda seconds: time.sleep(seconds),
) -> Input:
    """The same input with its picture's bytes, or the Failure that it is. Proxies of the environment are honoured.

    `keep` is told of bytes that are about to be held (or, negative, were let go) and may wait, which is not counted
    against the deadline; `pause` is how to wait so many seconds.
    """
    assert given.url is not None
    allowance = Allowance(2 * given.max_bytes + OVERHEAD)  # two tries; what a busy server answers is not read
    opener = urllib.request.build_opener(Http(allowance), Https(allowance), Redirects)
    name = given.name
    try:
        data = tried(lambda: download(opener, given, allowance, keep), allowance, pause)
    except Refused as refusal:
        return failed(name, refusal.reason, str(refusal))
    except urllib.error.HTTPError as error:
        word = "missing" if error.code in (404, 410) else "unreachable"
        return failed(name, word, f"The server answers {answered(error)}.")
    except TimeoutError:
        return failed(name, "unreachable", f"The server was silent for {SILENCE:.0f} seconds.")
    except http.client.IncompleteRead:
        return failed(name, "unreachable", "The picture cannot be fetched: the connection was cut.")
    except MemoryError:
        return failed(name, "out_of_memory", "There is not enough memory to fetch this picture.")
    except (OSError, http.client.HTTPException, ValueError, OverflowError, zlib.error) as error:
        reason = getattr(error, "reason", None)
        stop_without_files(reason if isinstance(reason, OSError) else error)
        said = reason or str(error) or type(error).__name__
        if isinstance(error, UnicodeError):  # of a name with a label that is empty or too long, in a codec's words
            said = "the address names no server"
        return failed(name, "unreachable", f"The picture cannot be fetched: {short(str(said))}.")
    return replace(given, data=data, size=len(data), url=None)


def tried(download: Callable[[], bytes], allowance: Allowance, pause: Callable[[float], object]) -> bytes:
    """What comes of a download, which is begun anew where that may help. Raises what the last try did."""
    for attempt in count(1):
        seconds = PAUSE * 2 ** (attempt - 1)
        try:
            return download()
        except urllib.error.HTTPError as error:
            error.close()
            if attempt >= (BUSY_TRIES if error.code in BUSY else TRIES) or (error.code < 500 and error.code != 429):
                raise
            asked, left = retry_after(error.headers), allowance.until - time.monotonic()
            if asked is not None and asked > left:
                raise Refused(
                    "unreachable",
                    f"The server answers {answered(error)} and asks to wait {asked:,.0f} seconds: "
                    "try later, with --retry-failed.",
                ) from None
            seconds = seconds if asked is None else max(asked, PAUSE)
            if seconds > left:
                raise
        except (OSError, http.client.HTTPException):
            if attempt >= TRIES:
                raise
        pause(min(seconds, max(0.0, allowance.until - time.monotonic())))
    raise AssertionError


def answered(error: urllib.error.HTTPError) -> str:
    """A status as it may stand in a sentence."""
    return f"{error.code} {short(str(error.reason))}".strip()


def retry_after(headers: Message) -> float | None:
    """The seconds that a server asks to wait, in number or until a date by its own clock; None where it does not."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdecimal():
        return float(asked[:12])
    try:
        now = parsedate_to_datetime(headers["Date"]).timestamp() if headers["Date"] else time.time()
        return max(0.0, parsedate_to_datetime(asked).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):  # no date either
        return None


def download(
    opener: urllib.request.OpenerDirector, given: Input, allowance: Allowance, keep: Callable[[int], object]
) -> bytes:
    """The bytes at an address, in one try. Raises Refused and what `fetch` turns into rows."""
    assert given.url is not None
    keep(0)
    place, login = address(given.url)
    asked = urllib.request.Request(place, headers={"User-Agent": f"vit/{__version__}", "Accept": "image/*,*/*;q=0.5"})
    if login is not None:  # for this server, not for those it sends us to
        asked.add_unredirected_header("Authorization", "Basic " + base64.b64encode(login).decode())
    data, received = io.BytesIO(), 0  # which gives its bytes without a copy
    try:
        with opener.open(asked, timeout=allowance.seconds()) as answer:
            unpacked = Unpacked(answer.headers.get("Content-Encoding", ""))
            while piece := answer.read1(PIECE):
                received += len(piece)
                piece = unpacked(piece, given.max_bytes + 1 - data.tell())
                if data.tell() + len(piece) > given.max_bytes:
                    raise Refused("too_large", f"The picture is larger than {given.max_bytes >> 20} MiB.")
                waited = time.monotonic()
                keep(len(piece))
                allowance.until += time.monotonic() - waited
                data.write(piece)
                allowance.seconds()
            length = answer.headers.get("Content-Length", "")
        if (length.isdecimal() and received < int(length)) or not unpacked.whole:
            raise ConnectionError("the connection was cut")
    except BaseException:
        keep(-data.tell())
        raise
    return data.getvalue()


class Unpacked:
    """What undoes a Content-Encoding, which some servers use unasked, giving at most so many bytes for a piece."""

    def __init__(self, encoding: str) -> None:
        packed = [word for part in encoding.lower().split(",") if (word := part.strip()) in PACKED]
        if packed not in ([], ["gzip"], ["x-gzip"], ["deflate"]):
            raise Refused("unreachable", "The server sends an encoding that was not asked for.")
        self.packed = packed
        self.undo: Any = None

    def __call__(self, piece: bytes, most: int) -> bytes:
        if not self.packed:
            return piece
        if self.undo is None:
            # deflate is zlib's format by the standard, and without its header by some servers
            bare = self.packed == ["deflate"] and piece[0] & 15 != 8 and piece[0] != 0x1F
            self.undo = zlib.decompressobj(-zlib.MAX_WBITS if bare else 32 + zlib.MAX_WBITS)
        found: bytes = b"" if self.undo.eof else self.undo.decompress(piece, most)
        return found

    @property
    def whole(self) -> bool:
        """Whether it came to its end."""
        return self.undo is None or self.undo.eof


def local(name: str) -> str | Input:
    """The path that a `file:` address means, or the Failure that an address is which is neither that nor http."""
    scheme, _, rest = name.partition(":")
    if scheme.lower() != "file":
        return elsewhere(name, scheme.lower())
    host, path = "", rest
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        path = slash + path
    if host.lower() not in ("", "localhost"):
        return failed(
            without_password(name),
            "unsupported",
            "It is a file of another machine: mount its folder here, and name the file in it.",
        )
    if os.name == "nt":
        from urllib.request import url2pathname

        return url2pathname(re.split("[?#]", path)[0])
    if os.path.lexists(path):  # written without the escapes, as file://$PWD/a.jpg is
        return path
    return os.fsdecode(unquote_to_bytes(exact(re.split("[?#]", path)[0])))


def elsewhere(name: str, scheme: str) -> Input:
    """The row of an address that is not opened: what it is, and what to do."""
    if scheme in ("http", "https"):
        return failed(without_password(name), "bad_name", f"The address has one slash too few: write {scheme}://.")
    said = f"Addresses with {short(scheme, 20)}: are not opened, only http, https and file: "
    return failed(without_password(name), "unsupported", f"{said}{ELSEWHERE.get(scheme, DOWNLOAD)}.")


def address(url: str) -> tuple[str, bytes | None]:
    """What to ask for and the user and password in it. Raises ValueError for an address that cannot be meant."""
    url = url.strip(BLANK)
    mark = re.search("[?#]", url)
    end = mark.start() if mark else len(url)
    parts = urlsplit(url[:end].replace("\\", "/") + url[end:])
    login, _, host = parts.netloc.rpartition("@")
    if not parts.hostname:
        raise ValueError("the address names no server")
    try:
        if parts.port == 0:
            raise ValueError
    except ValueError:  # not in Python's words, which may hold a part of the password
        raise ValueError("the address has a port that cannot be") from None
    if AMBIGUOUS.search(host):
        raise ValueError("the server's name has a letter that is not read alike everywhere; write it as xn--")
    if not host.isascii():
        port = f":{parts.port}" if parts.port else ""
        host = parts.hostname.encode("idna").decode() + port
    if any(not c.isprintable() or c in ' %<>"^`{|}/?#@\\' for c in host):  # idna may bring some of these back
        raise ValueError("the address names no server")
    path, query = quote(exact(settled(parts.path)), safe=PATH), quote(exact(parts.query), safe=QUERY)
    return urlunsplit((parts.scheme, host, path, query, "")), unquote_to_bytes(login) if login else None


def settled(path: str) -> str:
    """A path without . and .., which browsers follow before they ask, also where they are written %2e."""
    kept: list[str] = []
    for segment in path.split("/")[1:]:
        dots = segment.lower().replace("%2e", ".")
        if dots == "..":
            kept = kept[:-1]
        elif dots != ".":
            kept.append(segment)
    return "/".join(["", *kept, *([""] if not kept or dots in (".", "..") else [])])


def without_password(url: str) -> str:
    """An address as it may be shown: a user and password in it are not."""
    begins = re.match(r"\s*[a-z][a-z0-9+.-]*:[/\\]*", url, re.IGNORECASE)
    start = begins.end() if begins else 0
    end = min((at for mark in "/?#\\" if (at := url.find(mark, start)) >= 0), default=len(url))
    login, mark, host = url[start:end].rpartition("@")
    if not mark and re.match(r"[^:\[]*:.*\D", url[start:end]):  # no port, so a password with one of the marks in it
        end = len(url)
        login, mark, host = url[start:].rpartition("@")
    return f"{url[:start]}***@{host}{url[end:]}" if mark and login else url
