"""Servers that never end, lie or lead astray, and addresses that cannot be meant: each is one row, in bounded time."""

from __future__ import annotations

import gzip
import socket
import socketserver
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitcli.sources import Input, fetched, web
from vitcli.sources import inputs as named

PICTURE = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8
OK = b"HTTP/1.1 200 OK\r\n"


class Raw(socketserver.ThreadingTCPServer):
    """Sends what it is told as it stands: `answers[path]` gives the bytes; what was asked is kept."""

    daemon_threads = True
    block_on_close = False
    answers: dict[str, Callable[[], Iterable[bytes]]]
    asked: list[bytes]
    sent: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Connection(socketserver.BaseRequestHandler):
    server: Raw

    def handle(self) -> None:
        self.request.settimeout(10)
        asked = b""
        while b"\r\n\r\n" not in asked and (piece := self.request.recv(65536)):
            asked += piece
        if not asked:
            return
        self.server.asked.append(asked)
        try:
            for piece in self.server.answers[asked.split()[1].decode("latin-1").split("?")[0]]():
                self.request.sendall(piece)
                self.server.sent += len(piece)
        except OSError:  # the client went away
            pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Raw]:
    monkeypatch.setattr(web, "PAUSE", 0)
    monkeypatch.setenv("no_proxy", "*")
    raw = Raw(("127.0.0.1", 0), Connection)
    raw.answers, raw.asked, raw.sent = {"/cat.jpg": lambda: [OK, b"\r\n", PICTURE]}, [], 0
    thread = threading.Thread(target=raw.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield raw
    raw.shutdown()
    raw.server_close()
    thread.join()


def inputs(urls: list[str], **how: Any) -> list[Input]:
    """The inputs of addresses, with what came of them."""
    return [fetched(item) for item in named(urls, **how)]


def row(url: str, **how: Any) -> tuple[str, str]:
    """The one row of an address: its reason or "ok", and what is said."""
    (item,) = inputs([url], **how)
    return (item.failure.error, item.failure.message) if item.failure else ("ok", "")


def slowly(start: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        yield start
        while True:
            yield piece
            time.sleep(0.02)

    return pieces


def much(start: bytes) -> Callable[[], Iterator[bytes]]:
    """A body that a client must not read to its end: 400 MiB."""

    def pieces() -> Iterator[bytes]:
        yield start
        for _ in range(400):
            yield bytes(1 << 20)

    return pieces


DRIPS = {
    "headers": (OK + b"X-A: ", b"a"),
    "status": (b"", b"H"),
    "chunk-size": (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (OK + b"Content-Length: 1000000\r\n\r\n", b"a"),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: a\r\n"),
    "redirect": (b"HTTP/1.1 302 Found\r\nX-A: ", b"a"),
}


@pytest.mark.parametrize("what", DRIPS)
def test_what_drips_ends_at_the_deadline(server: Raw, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PATIENCE", 0.5)
    server.answers["/drip.jpg"] = slowly(*DRIPS[what])
    assert row(f"{server.url}/drip.jpg")[0] in ("unreachable", "ok")
    assert what == "trailers" or row(f"{server.url}/drip.jpg")[0] == "unreachable"


def test_redirects_and_second_tries_have_one_deadline_together(server: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PATIENCE", 0.5)

    def moved() -> Iterator[bytes]:
        time.sleep(0.2)
        yield f"HTTP/1.1 302 Found\r\nLocation: /{len(server.asked)}.jpg\r\n\r\n".encode()

    class Everywhere(dict[str, Any]):
        def __missing__(self, path: str) -> Any:
            return moved

    server.answers = Everywhere()
    reason, said = row(f"{server.url}/start.jpg")
    assert (reason, "did not arrive" in said or "silent" in said) == ("unreachable", True)
    assert len(server.asked) < 6


def test_the_body_of_a_redirect_is_not_read(server: Raw) -> None:
    server.answers["/moved.jpg"] = much(b"HTTP/1.1 302 Found\r\nLocation: /cat.jpg\r\n\r\n")
    assert row(f"{server.url}/moved.jpg") == ("ok", "")
    assert server.sent < 50 << 20


@pytest.mark.parametrize("status", ["404 No", "500 Trouble", "200 OK", "206 Part"])
def test_no_body_is_read_beyond_its_bound(server: Raw, status: str) -> None:
    server.answers["/much.jpg"] = much(f"HTTP/1.1 {status}\r\n\r\n".encode())
    assert row(f"{server.url}/much.jpg", max_bytes=1 << 20)[0] in ("missing", "unreachable", "too_large")
    assert server.sent < 50 << 20


def test_headers_count_against_the_bytes_of_a_picture(server: Raw) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(400):
            yield b"HTTP/1.1 100 Continue\r\n" + (b"X-A: " + b"a" * 60_000 + b"\r\n") * 17 + b"\r\n"

    server.answers["/headers.jpg"] = endless
    assert row(f"{server.url}/headers.jpg", max_bytes=1 << 20)[0] == "too_large"
    assert server.sent < 50 << 20


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "identity"])
def test_an_encoding_that_was_not_asked_for_is_undone(server: Raw, encoding: str) -> None:
    data = {"identity": PICTURE, "deflate": zlib.compress(PICTURE)}.get(encoding, gzip.compress(PICTURE))
    head = OK + f"Content-Encoding: {encoding}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    server.answers["/packed.jpg"] = lambda: [head, data]
    (item,) = inputs([f"{server.url}/packed.jpg"])
    assert item.data == PICTURE


def test_what_swells_when_it_is_decoded_is_bounded(server: Raw) -> None:
    bomb = gzip.compress(bytes(200 << 20), 6)
    server.answers["/bomb.jpg"] = lambda: [OK, b"Content-Encoding: gzip\r\n\r\n", bomb]
    assert row(f"{server.url}/bomb.jpg", max_bytes=1 << 20)[0] == "too_large"
    for encoding in ("br", "zstd", "gzip, gzip"):
        server.answers["/bomb.jpg"] = lambda e=encoding: [OK, f"Content-Encoding: {e}\r\n\r\n".encode(), bomb]  # type: ignore[misc]
        assert row(f"{server.url}/bomb.jpg")[0] == "unreachable"


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.1:99999999999999999999999/a.jpg", "http://127.0.0.1:99999/", "http://127.0.0.1:-5/",
        "http://\x1b[31mx/", "http://[::bad/a", "http://127.0.0.1\x00/a", "FILE:///etc/passwd",
        "data:image/png;base64,aa", "//[/", "http://", "ftp://127.0.0.1/a.jpg",
        "http://user:secret@[/", "http://" + "a" * 70 + ".example/",
    ],
)  # fmt: skip
def test_a_redirect_to_nowhere_is_a_row_and_the_run_goes_on(server: Raw, place: str) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: " + place.encode() + b"\r\nContent-Length: 0\r\n\r\n"
    server.answers["/astray.jpg"] = lambda: [head]
    first, last = inputs([f"{server.url}/astray.jpg", f"{server.url}/cat.jpg"])
    assert first.failure
    assert first.failure.error == "unreachable"
    assert first.failure.message.isprintable()
    assert last.data == PICTURE


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:99999999999999999999999/a.jpg", "http://127.0.0.1:99999/", "http://127.0.0.1:-1/",
        "http://127.0.0.1:0/", "http://127.0.0.1:１/", "http://[]/", "http://[1::2::3]/", "http://%31/", "http://?x",
        "http://#", "https://", "http://\ud800/", "http://a b/", "http://" + "a" * 70 + ".example/", "http://[::1%lo]/",
        "http://127.0.0.1:8_0/", "http://a..b/", "http://.../", "http://stra\u00dfe.example/", "http://a\u200db.example/",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_meant_is_a_row(url: str) -> None:
    reason, said = row(url)
    assert (reason, "codec" in said) == ("unreachable", False)


@given(st.text(max_size=40))
def test_no_address_ends_a_run(rest: str) -> None:
    """Nothing is asked for: only what an address is taken to mean is tried."""
    try:
        place, _ = web.address("http://" + rest)
    except ValueError:
        return
    assert place.isascii()
    assert place.isprintable()
    assert " " not in place


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/a b.jpg", "/a%20b.jpg"), ("/ü.jpg", "/%C3%BC.jpg"), ("/\udce9.jpg", "/%E9.jpg"),
        ("/a%20b%zz.jpg", "/a%20b%zz.jpg"),
        ("/\x1b[31m.jpg", "/%1B[31m.jpg"), ("/a\nb.jpg", "/ab.jpg"), ("\\a\\b.jpg", "/a/b.jpg"),
        ("/a.jpg#part", "/a.jpg"),
        ("/a.jpg?q=ü \"'<>", "/a.jpg?q=%C3%BC%20%22%27%3C%3E"), ("/a.jpg?b\\c", "/a.jpg?b\\c"), ("", "/"),
        ("?q", "/?q"),
        ("/a/../b.jpg", "/b.jpg"), ("/../a/./b/..", "/a/"), ("/a/%2E%2e/.%2e?../b", "/?../b"),
        ("/a//b/...", "/a//b/..."),
        ("/a{b}`\"<>^|'.jpg", "/a%7Bb%7D%60%22%3C%3E^|'.jpg"),
    ],
)  # fmt: skip
def test_addresses_are_percent_encoded_as_browsers_do(server: Raw, path: str, asked: str) -> None:
    row(server.url + path)
    assert server.asked[0].split(b"\r\n")[0] == f"GET {asked} HTTP/1.1".encode()


def test_a_password_goes_to_its_server_and_is_never_shown(server: Raw) -> None:
    with_login = server.url.replace("http://", "http://me:s%65cret@")
    (item,) = inputs([f"{with_login}/cat.jpg"])
    assert item.data == PICTURE
    assert item.name == server.url.replace("http://", "http://***@") + "/cat.jpg"
    assert b"Authorization: Basic bWU6c2VjcmV0\r\n" in server.asked[0]

    server.answers["/moved.jpg"] = lambda: [b"HTTP/1.1 302 Found\r\nLocation: /cat.jpg\r\n\r\n"]
    assert inputs([f"{with_login}/moved.jpg"])[0].data == PICTURE
    assert b"Authorization" not in server.asked[-1], "a redirect may lead elsewhere"


@pytest.mark.parametrize(
    "url",
    [
        "http://me:secret@127.0.0.1:1/a.jpg", "http://me:secret@/", "http://me:secret@[/", "http://me:secret@h:99999/",
        "http://secret:secret@secret@:x/", "http://me:secret@a b/", "http://me:secret@\\x", "http://secret@?a",
    ],
)  # fmt: skip
def test_no_failure_shows_a_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PAUSE", 0)
    monkeypatch.setenv("no_proxy", "*")
    (item,) = inputs([url])
    assert item.failure
    assert "secret" not in repr(item)


def test_what_a_server_says_is_short_and_harmless(server: Raw) -> None:
    server.answers["/said.jpg"] = lambda: [b"HTTP/1.1 418 \x1b[31m" + b"x" * 60_000 + b"\r\n\r\n"]
    server.answers["/noise.jpg"] = lambda: [b"\x1b]0;\x07\x9b" * 5000 + b"\r\n"]
    for path in ("/said.jpg", "/noise.jpg"):
        reason, said = row(server.url + path)
        assert reason == "unreachable"
        assert said.isprintable()
        assert len(said) < 250


def test_every_address_of_a_name_is_tried_within_the_deadline(server: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    port = server.server_address[1]
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: places)
    assert row(f"http://two.example:{port}/cat.jpg") == ("ok", "")


@pytest.fixture
def silence() -> Iterator[Callable[..., Any]]:
    """A look-up that answers nobody until the test is over."""
    over = threading.Event()

    def waits(*_: object) -> Any:
        over.wait()
        raise OSError("nobody is there")

    yield waits
    over.set()


def test_a_look_up_that_nobody_answers_is_a_row_at_the_deadline(
    silence: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PATIENCE", 0.5)
    monkeypatch.setattr(socket, "getaddrinfo", silence)
    urls = [f"http://silent.example/{i}.jpg" for i in range(5)]
    items = inputs(urls)
    assert [item.failure.error for item in items if item.failure] == ["unreachable"] * 5
    assert sum(thread.name == "vit-name" for thread in threading.enumerate()) == 1, "one for all of a server's pictures"


def test_a_look_up_is_not_waited_for_longer_than_a_server(
    silence: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SILENCE", 0.2)
    monkeypatch.setattr(web, "PAUSE", 0)
    monkeypatch.setattr(socket, "getaddrinfo", silence)
    assert row("http://other.example/") == (
        "unreachable", "The picture cannot be fetched: nothing says where that server is."
    )  # fmt: skip


@contextmanager
def dripping(start: bytes, piece: bytes) -> Iterator[int]:
    """The port of a server that waits for no request, and sends a piece again and again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(start)
                        while not over.wait(0.02):
                            connection.sendall(piece)
                except OSError:  # the client went away
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        over.set()
        with socket.create_connection(listener.getsockname()):  # so that it waits for nobody
            thread.join()


def test_a_handshake_that_drips_has_the_same_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PATIENCE", 0.5)
    monkeypatch.setenv("no_proxy", "*")
    with dripping(b"\x16\x03\x03\x3f\xff", b"\x02") as port:
        assert row(f"https://127.0.0.1:{port}/")[0] == "unreachable"


def test_a_proxy_that_drips_has_the_same_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PATIENCE", 0.5)
    with dripping(b"HTTP/1.1 200 OK\r\nX-A: ", b"a") as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        assert row("https://pictures.example/") == ("unreachable", "The picture did not arrive within 0 seconds.")
