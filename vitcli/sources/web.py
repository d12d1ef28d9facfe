"""A picture behind an http(s) URL: one deadline and one budget of bytes for all of it, led nowhere but to http(s).

Addresses are read as browsers read them: percent-encoded where they need it, fragments dropped, a user and password
sent to their own server only. The row has the address without the password.
"""

from __future__ import annotations

import base64
import http.client
import io
import re
import socket
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from concurrent.futures import Future
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
PAUSE = 1.0  # seconds before the second try
REDIRECTS = 10

PATH = "!$%&'()*+,-./:;=@[\\]^_|~"  # what browsers leave as it is, besides letters and digits
QUERY = "!$%&()*+,-./:;=?@[\\]^_`{|}~"

# Letters of a server's name that Python encodes in another way (IDNA 2003) than browsers: they would lead elsewhere.
AMBIGUOUS = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")


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


def fetch(url: str, max_bytes: int) -> Input:
    """The picture at an address, or the Failure that it is. Proxies of the environment are honoured."""
    name = without_password(url)
    allowance = Allowance(2 * max_bytes + OVERHEAD)  # two tries
    opener = urllib.request.build_opener(Http(allowance), Https(allowance), Redirects)
    try:
        try:
            data = download(opener, url, max_bytes, allowance)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if error.code < 500 and error.code != 429:
                    raise
            time.sleep(min(PAUSE, allowance.seconds()))
            data = download(opener, url, max_bytes, allowance)
    except Refused as refusal:
        return failed(name, refusal.reason, str(refusal))
    except urllib.error.HTTPError as error:
        error.close()
        word = "missing" if error.code in (404, 410) else "unreachable"
        return failed(name, word, f"The server answers {error.code} {short(str(error.reason))}.")
    except TimeoutError:
        return failed(name, "unreachable", f"The server was silent for {SILENCE:.0f} seconds.")
    except (OSError, http.client.HTTPException, ValueError, OverflowError, zlib.error) as error:
        reason = getattr(error, "reason", None)
        stop_without_files(reason if isinstance(reason, OSError) else error)
        said = reason or str(error) or type(error).__name__
        if isinstance(error, UnicodeError):  # of a name with a label that is empty or too long, in a codec's words
            said = "the address names no server"
        return failed(name, "unreachable", f"The picture cannot be fetched: {short(str(said))}.")
    return Input(name, data=data, size=len(data))


def download(opener: urllib.request.OpenerDirector, url: str, max_bytes: int, allowance: Allowance) -> bytes:
    """The bytes at an address, in one try. Raises Refused and what `fetch` turns into rows."""
    place, login = address(url)
    asked = urllib.request.Request(place, headers={"User-Agent": f"vit/{__version__}", "Accept": "image/*,*/*;q=0.5"})
    if login is not None:  # for this server, not for those it sends us to
        asked.add_unredirected_header("Authorization", "Basic " + base64.b64encode(login).decode())
    pieces, total, received = [], 0, 0
    with opener.open(asked, timeout=allowance.seconds()) as answer:
        decoded = decoder(answer.headers.get("Content-Encoding", ""))
        while piece := answer.read1(PIECE):
            received += len(piece)
            piece = decoded(piece, max_bytes + 1 - total)
            pieces.append(piece)
            total += len(piece)
            if total > max_bytes:
                raise Refused("too_large", f"The picture is larger than {max_bytes >> 20} MiB.")
            allowance.seconds()
        length = answer.headers.get("Content-Length", "")
    if length.isdecimal() and received < int(length):
        raise ConnectionError("the connection was cut")
    return b"".join(pieces)


def decoder(encoding: str) -> Callable[[bytes, int], bytes]:
    """What undoes a Content-Encoding, which some servers use unasked, giving at most so many bytes for a piece."""
    match encoding.strip().lower():
        case "" | "identity":
            return lambda piece, most: piece
        case "gzip" | "x-gzip" | "deflate":
            return zlib.decompressobj(32 + zlib.MAX_WBITS).decompress
        case _:
            raise Refused("unreachable", "The server sends an encoding that was not asked for.")


def address(url: str) -> tuple[str, bytes | None]:
    """What to ask for and the user and password in it. Raises ValueError for an address that cannot be meant."""
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
    start = url.find("://") + 3
    end = min((at for mark in "/?#\\" if (at := url.find(mark, start)) >= 0), default=len(url))
    login, mark, host = url[start:end].rpartition("@")
    return f"{url[:start]}***@{host}{url[end:]}" if mark and login else url
