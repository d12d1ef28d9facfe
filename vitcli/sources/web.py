"""A picture behind an http(s) URL: bounded in time and size, tried twice, led nowhere but to http(s)."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from email.message import Message
from typing import IO

from vitcli.sources.input import Input, failed, is_url
from vitcli.version import __version__

SILENCE = 20.0  # seconds without an answer or a byte
PATIENCE = 120.0  # seconds for the whole of a picture
PIECE = 1 << 16  # bytes read at a time
PAUSE = 1.0  # seconds before the second try


class Refused(Exception):
    """A picture that will not come, however often it is asked for: `reason` is the word of its row."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class HttpOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not to ftp:, which urllib's own handler allows."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not is_url(newurl):
            raise Refused("unreachable", "The server sends us to an address that is not http.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, max_bytes: int) -> Input:
    """The picture at an address, or the Failure that it is. Proxies of the environment are honoured."""
    opener = urllib.request.build_opener(HttpOnly)
    try:
        try:
            data = download(opener, url, max_bytes)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429:
                raise
            time.sleep(PAUSE)
            data = download(opener, url, max_bytes)
    except Refused as refusal:
        return failed(url, refusal.reason, str(refusal))
    except urllib.error.HTTPError as error:
        error.close()
        word = "missing" if error.code in (404, 410) else "unreachable"
        return failed(url, word, f"The server answers {error.code} {error.reason}.")
    except TimeoutError:
        return failed(url, "unreachable", f"The server was silent for {SILENCE:.0f} seconds.")
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = getattr(error, "reason", None) or str(error) or type(error).__name__
        return failed(url, "unreachable", f"The picture cannot be fetched: {said}.")
    return Input(url, data=data, size=len(data))


def download(opener: urllib.request.OpenerDirector, url: str, max_bytes: int) -> bytes:
    """The bytes at an address, in one try. Raises Refused, OSError, HTTPException, ValueError."""
    asked = urllib.request.Request(url, headers={"User-Agent": f"vit/{__version__}", "Accept": "image/*,*/*;q=0.5"})
    until = time.monotonic() + PATIENCE
    pieces, total = [], 0
    with opener.open(asked, timeout=SILENCE) as answer:
        headers: Message = answer.headers
        while piece := answer.read1(PIECE):
            pieces.append(piece)
            total += len(piece)
            if total > max_bytes:
                raise Refused("too_large", f"The picture is larger than {max_bytes >> 20} MiB.")
            if time.monotonic() > until:
                raise Refused("unreachable", f"The picture did not arrive within {PATIENCE:.0f} seconds.")
    length = headers.get("Content-Length", "")
    if length.isdigit() and total < int(length):
        raise ConnectionError("the connection was cut")
    return b"".join(pieces)
