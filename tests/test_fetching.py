"""Lists of addresses: many at once, a few of each server, in order, in bounded memory, and never twice."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from awkward import rows
from conftest import noise

import vitcli
from vitcli import streaming
from vitcli.classifier import Classifier
from vitcli.errors import TooManyFiles
from vitcli.results import Failure, Prediction
from vitcli.sources import Input, fetched, fetchers, inputs, web
from vitcli.sources.fetchers import Fetchers, Room
from vitcli.streaming import stream

WAIT = 30  # seconds after which something that should have happened has not


def encoded(seed: int = 0) -> bytes:
    file = io.BytesIO()
    noise(seed).save(file, "PNG")
    return file.getvalue()


PICTURE = encoded()


class Server(ThreadingHTTPServer):
    """Answers with a picture, or as `answers[path]` does; counts who asks, and how many at once."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Callable[[Handler], object]] = {}
        self.every: Callable[[], object] = lambda: None  # done before each answer
        self.asked: list[str] = []
        self.now = self.most = 0
        self.changed = threading.Condition()

    def url(self, path: str = "", login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.server_port}/{path}"

    def wait_for(self, what: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, WAIT)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        with server.changed:
            server.asked.append(self.path)
            server.now += 1
            server.most = max(server.most, server.now)
            server.changed.notify_all()
        try:
            server.every()
            server.answers.get(self.path, lambda handler: handler.send(200, PICTURE))(self)
        finally:
            with server.changed:
                server.now -= 1
                server.changed.notify_all()

    def send(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(web, "PAUSE", 0)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


@pytest.fixture(scope="module")
def classifier(tiny: Path) -> Classifier:
    return vitcli.load(tiny, device="cpu", engine="numpy")


def gathered(server: Server, count: int) -> Callable[[], None]:
    """Answers nobody before `count` have asked, and gives others the time to do so too."""

    def wait() -> None:
        server.wait_for(lambda: len(server.asked) >= count)
        threading.Event().wait(0.2)

    return wait


def test_addresses_are_fetched_at_once_but_only_so_many_of_one_server(server: Server, classifier: Classifier) -> None:
    server.every = gathered(server, fetchers.OF_ONE_SERVER)
    urls = [server.url(f"{i}.png") for i in range(25)]
    results = list(stream(classifier, urls))
    assert [result.path for result in results] == urls
    assert all(isinstance(result, Prediction) for result in results), results
    assert server.most == fetchers.OF_ONE_SERVER
    assert sorted(server.asked) == sorted(f"/{i}.png" for i in range(25))


def test_there_is_a_limit_for_all_servers_together(
    server: Server, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetchers, "AT_ONCE", 3)
    server.every = gathered(server, 3)
    assert len(list(stream(classifier, [server.url(f"{i}.png") for i in range(9)]))) == 9
    assert server.most == 3


def test_a_server_that_does_not_answer_holds_up_its_own_pictures_alone(server: Server, classifier: Classifier) -> None:
    """The slow one answers when all of the other's have been fetched, though its own stand first in the list."""
    with serving() as slow:
        slow.every = lambda: server.wait_for(lambda: len(server.asked) == 15)
        urls = [slow.url(f"{i}.png") for i in range(20)] + [server.url(f"{i}.png") for i in range(15)]
        results = list(stream(classifier, urls))
    assert [result.path for result in results] == urls
    assert all(isinstance(result, Prediction) for result in results), results


def test_rows_come_in_the_order_of_the_list_whoever_answers_first(server: Server, classifier: Classifier) -> None:
    urls = [server.url(f"{i}.png") for i in range(8)]
    for i in range(7):  # each waits for the next to be answered
        server.answers[f"/{i}.png"] = lambda handler, i=i: (  # type: ignore[misc]
            server.wait_for(lambda: f"done {i + 1}" in server.asked),
            handler.send(200, encoded(i)),
            server.asked.append(f"done {i}"),
        )
    server.answers["/7.png"] = lambda handler: (handler.send(200, encoded(7)), server.asked.append("done 7"))
    answers = list(stream(classifier, urls, batch=4, pad=True))
    given = [Input(url, data=encoded(i)) for i, url in enumerate(urls)]
    assert answers == list(stream(classifier, given, batch=4, pad=True))


def test_what_has_come_is_answered_while_a_server_is_slow(server: Server, classifier: Classifier) -> None:
    answered = threading.Event()
    server.answers["/slow.png"] = lambda handler: (answered.wait(WAIT), handler.send(200, PICTURE))
    urls = [server.url("fast.png"), server.url("slow.png")]
    for given in (iter(urls), list(inputs(urls))):
        answered.clear()
        server.asked.clear()
        results = stream(classifier, given)
        assert next(results).path == urls[0]
        assert server.now == server.asked.count("/slow.png") == 1, "the first was not answered before the second came"
        answered.set()
        assert [result.path for result in results] == urls[1:]


def test_whatever_a_server_does_is_one_row_in_its_place(
    server: Server, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PATIENCE", 2)
    monkeypatch.setattr(web, "SILENCE", 0.3)

    def chunks(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"ff\r\n only a part of it")

    packed = zlib.compress(PICTURE)
    server.answers |= {
        "/closed.png": lambda handler: handler.connection.close(),
        "/cut.png": lambda handler: handler.send(200, PICTURE[:50], Content_Length=str(len(PICTURE))),
        "/chunks.png": chunks,
        "/silent.png": lambda handler: threading.Event().wait(1),
        "/packed.png": lambda handler: handler.send(200, packed[:-9], Content_Encoding="deflate"),
        "/gone.png": lambda handler: handler.send(410),
        "/secret.png": lambda handler: handler.send(401, b"no"),
    }
    paths = [path for bad in server.answers for path in (bad[1:], "good.png")]
    results = list(stream(classifier, [server.url(path) for path in paths]))
    assert [result.path for result in results] == [server.url(path) for path in paths]
    assert all(isinstance(result, Prediction) for result in results[1::2]), results
    bad = [result for result in results[::2] if isinstance(result, Failure)]
    assert Counter(result.error for result in bad) == {"unreachable": 6, "missing": 1}
    cut = [result.message for result in bad if "the connection was cut" in result.message]
    assert len(cut) == 3, bad


def test_what_is_fetched_waits_in_bounded_memory(server: Server) -> None:
    """Decoders that take nothing stop those who fetch; what they let go is room for others, and all come in the end."""
    size, most, seen = 300_000, 1_000_000, []
    for i in range(12):
        server.answers[f"/{i}.png"] = lambda handler: handler.send(200, bytes(size))
    ahead = Fetchers(most)

    def then(given: Input) -> Future[int]:
        with ahead.room.changed:
            seen.append(ahead.room.come + sum(ahead.room.coming.values()))
        return Future()

    given = list(inputs([server.url(f"{i}.png") for i in range(12)]))
    waiting = {ahead.submit(item, then) for item in given}
    while waiting:
        come, waiting = wait(waiting, WAIT, FIRST_COMPLETED)
        assert 0 < len(come) <= (most + size) // size
        for taken in come:
            taken.result().set_result(0)
    assert max(seen) <= most + size
    assert (ahead.room.come, ahead.room.coming) == (0, {})
    ahead.close()


def test_pictures_that_fill_the_room_together_still_come_one_by_one(server: Server) -> None:
    """None of them is whole when there is no room left for any."""
    for i in range(4):
        server.answers[f"/{i}.png"] = lambda handler: handler.send(200, bytes(1_000_000))
    ahead = Fetchers(300_000)
    done: Future[int] = Future()
    done.set_result(0)
    given = inputs([server.url(f"{i}.png") for i in range(4)])
    for taken in [ahead.submit(item, lambda come: done if come.data else Future()) for item in given]:
        assert taken.result(WAIT) is done
    ahead.close()


def test_one_goes_beyond_the_room_only_while_no_decoder_has_anything_to_let_go() -> None:
    room, (a, b) = Room(10), (object(), object())
    for who in (a, b):
        room.begin(who)
        room.keep(who, 5)
    assert (room.admits(b, 1), room.admits(a, 1), room.admits(b, 1)) == (True, False, True)
    room.keep(b, -5)
    assert room.admits(a, 5), "begun anew, b has let go"
    room.keep(b, 5)
    assert (room.admits(a, 1), room.admits(b, 1)) == (True, False)
    room.end(b)
    assert not room.admits(a, 1), "what has come will be let go"
    room.let_go(5)
    assert room.admits(a, 100), "alone, it is as large as it is"


def test_a_run_that_is_stopped_or_closed_waits_for_no_server(server: Server, classifier: Classifier) -> None:
    over, stopped = threading.Event(), threading.Event()
    server.answers["/0.png"] = lambda handler: handler.send(200, PICTURE)
    server.every = lambda: None if server.asked[:1] == ["/0.png"] and len(server.asked) == 1 else over.wait(WAIT)
    urls = [server.url(f"{i}.png") for i in range(40)]

    def coming() -> Iterator[str]:
        yield urls[0]
        server.wait_for(lambda: server.asked == ["/0.png"] and server.now == 0)
        yield from urls[1:]

    for stop in (True, False):
        server.asked.clear()
        stopped.clear()
        results = stream(classifier, coming(), stop=stopped.is_set)
        assert next(results).path == urls[0]
        server.wait_for(lambda: len(server.asked) > 3)
        if stop:
            stopped.set()
            assert list(results) == []
        else:
            results.close()  # type: ignore[attr-defined]
        assert not over.is_set()
        assert len(server.asked) <= 1 + fetchers.OF_ONE_SERVER, "those that waited for their turn are not asked for"
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
        over.set()
        server.wait_for(lambda: server.now == 0)
        over.clear()


# The command, with servers waited for as good as for ever.
PATIENT = """
from vitcli.sources import web
web.SILENCE = web.PATIENCE = 3600
from vitcli.cli import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_servers_are_silent_the_command_ends(
    server: Server, tiny: Path, tmp_path: Path, number: signal.Signals
) -> None:
    over = threading.Event()
    for i in range(5, 30):
        server.answers[f"/{i}.png"] = lambda handler: over.wait(2 * WAIT)
    (tmp_path / "list.txt").write_text("".join(server.url(f"{i}.png") + "\n" for i in range(30)))
    out = tmp_path / "out.jsonl"
    told = ["classify", f"@{tmp_path / 'list.txt'}", "--model", str(tiny), "--engine", "numpy", "-o", str(out)]
    run = subprocess.Popen([sys.executable, "-c", PATIENT, *told], stderr=subprocess.PIPE, text=True)
    try:
        server.wait_for(lambda: len(server.asked) == 5 + fetchers.OF_ONE_SERVER)
        while not out.exists() or out.read_bytes().count(b"\n") < 5:  # what has come is written meanwhile
            assert run.poll() is None
            threading.Event().wait(0.05)
        run.send_signal(number)
        said = run.communicate(timeout=WAIT)[1]
    finally:
        run.kill()
    assert run.returncode == 130, said
    assert "Interrupted after" in said
    assert "Traceback" not in said
    assert len(rows(out)) == 5
    over.set()
    for i in range(5, 30):
        del server.answers[f"/{i}.png"]
    asked = len(server.asked)
    done = subprocess.run([sys.executable, "-c", PATIENT, *told, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(rows(out)) == 30
    assert len(server.asked) - asked >= 25


def test_resumed_nothing_is_asked_for_that_is_answered(
    server: Server, tiny: Path, tmp_path: Path, vit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    server.answers["/gone.png"] = lambda handler: handler.send(404)
    urls = [server.url(f"{i}.png") for i in range(20)] + [server.url("gone.png"), server.url("a b?q=ä#x")]
    names = tmp_path / "list.txt"
    told = ["classify", f"@{names}", "--model", tiny, "--engine", "numpy", "-o", tmp_path / "out.csv"]
    names.write_text("".join(f"{url}\n" for url in urls))
    assert vit(*told).returncode == 3
    first = list(server.asked)
    assert len(first) == 22
    again = vit(*told, "--resume")
    assert "22 were done before" in again.stderr
    assert server.asked == first
    vit(*told, "--resume", "--by-content")
    assert server.asked == first, "the address is what a picture on a server is known by"
    names.write_text("".join(f"{url}\n" for url in [*urls, server.url("new.png")]))
    assert vit(*told, "--resume").returncode == 0
    assert server.asked[22:] == ["/new.png"]
    vit(*told, "--retry-failed")
    assert server.asked[23:] == ["/gone.png"]


def test_a_password_is_sent_and_stands_nowhere(
    server: Server, tiny: Path, tmp_path: Path, vit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    logins = []
    for path in ("/a.png", "/b.png"):
        server.answers[path] = lambda handler: (
            logins.append(handler.headers["Authorization"]),
            handler.send(200 if handler.path == "/a.png" else 403, PICTURE),
        )
    urls = [server.url(path, login) for path in ("a.png", "b.png") for login in ("me:hunter2@", "you:hunter2@")]
    (tmp_path / "list").write_text("\n".join([*urls, "ftp://me:hunter2@127.0.0.1/x", "https:/me:hunter2@127.0.0.1/y"]))
    shown = ""
    for form in ("jsonl", "sqlite"):
        told = [
            "classify", f"@{tmp_path / 'list'}", "--model", tiny, "--engine", "numpy", "--verbose",
            "-o", tmp_path / f"out.{form}", "--failures", tmp_path / f"failed-{form}.jsonl",
            "--summary-json", tmp_path / f"sum-{form}.json",
        ]  # fmt: skip
        done = vit(*told)
        asked = len(server.asked)
        again = vit(*told, "--resume")
        shown += done.stdout + done.stderr + again.stdout + again.stderr
        assert "6 were done before" in again.stderr
        assert len(server.asked) == asked
    assert sorted(set(logins)) == ["Basic bWU6aHVudGVyMg==", "Basic eW91Omh1bnRlcjI="]
    for file in tmp_path.iterdir():
        data = file.read_bytes() if file.name != "list" else shown.encode()
        assert b"hunter2" not in data, file
        assert b"aHVudGVyMg" not in data, file
    assert {name for name, *_ in rows(tmp_path / "out.jsonl")} == {
        server.url("a.png", "***@").encode(), server.url("b.png", "***@").encode(),
        b"ftp://***@127.0.0.1/x", b"https:/***@127.0.0.1/y",
    }  # fmt: skip


def paused(server: Server, *answers: tuple[int, dict[str, str]]) -> tuple[Input, list[float]]:
    """What comes of an address whose server answers so before it gives the picture, and the pauses made."""
    left, pauses = list(answers), []
    server.answers["/busy.png"] = lambda handler: (
        handler.send(left[0][0], b"", **left.pop(0)[1]) if left else handler.send(200, PICTURE)
    )
    (given,) = inputs([server.url("busy.png")])
    return web.fetch(given, pause=pauses.append), pauses


def test_a_server_that_asks_for_time_gets_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PAUSE", 1)
    date = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry_After": "Wed, 21 Oct 2015 07:28:30 GMT"}
    monkeypatch.setattr(Handler, "date_time_string", lambda *_: date["Date"])
    for status, headers, seconds in [
        (429, {"Retry_After": "7"}, 7), (503, {"Retry_After": " 90 "}, 90), (503, {"Retry_After": "0"}, 1),
        (429, date, 30), (503, {"Retry_After": "soon"}, 1), (429, {"Retry_After": "-5"}, 1), (500, {}, 1),
    ]:  # fmt: skip
        found, pauses = paused(server, (status, headers))
        assert (found.data, pauses) == (PICTURE, [seconds]), (status, headers)


def test_a_busy_server_is_asked_ever_more_rarely_and_not_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PAUSE", 1)
    assert paused(server, *[(429, {})] * 5)[1] == [1, 2, 4, 8, 16]
    found, pauses = paused(server, *[(503, {})] * 99)
    assert found.failure
    assert found.failure.error == "unreachable"
    assert pauses == [1, 2, 4, 8, 16]


def test_a_server_that_asks_for_more_time_than_there_is_is_a_row_at_once(server: Server) -> None:
    for asked in ("86400", "9" * 50, "Fri, 31 Dec 9999 23:59:59 GMT"):
        server.asked.clear()
        found, pauses = paused(server, (429, {"Retry_After": asked}))
        assert found.failure
        assert "--retry-failed" in found.failure.message
        assert (pauses, server.asked) == ([], ["/busy.png"])


@pytest.mark.parametrize("encoding", ["deflate", "none", "aws-chunked", "utf-8", "GZIP ", "aws-chunked, gzip"])
def test_bytes_are_unpacked_as_browsers_do(server: Server, encoding: str) -> None:
    """Bare deflate, without zlib's header too; words that are no encoding mean nothing."""
    pack = zlib.compressobj(wbits={"deflate": -15}.get(encoding, 31))
    data = pack.compress(PICTURE) + pack.flush() if "gzip" in encoding.lower() or encoding == "deflate" else PICTURE
    server.answers["/a.png"] = lambda handler: handler.send(200, data, Content_Encoding=encoding)
    assert fetched(*inputs([server.url("a.png")])).data == PICTURE


@pytest.mark.parametrize(
    ("written", "asked"),
    [("a.png ", "/a.png"), ("a.png\r", "/a.png"), ("café/my cat.png", "/caf%C3%A9/my%20cat.png"), ("a%20b", "/a%20b")],
)
def test_an_address_is_asked_for_as_a_browser_would(server: Server, written: str, asked: str) -> None:
    (given,) = inputs([server.url(written)])
    assert given.name == server.url(written), "the row has it as it was written"
    assert fetched(given).data == PICTURE
    assert server.asked == [asked]


def test_the_name_of_a_server_is_encoded_as_browsers_do() -> None:
    for name, host in [("Bücher.example", "xn--bcher-kva.example"), ("日本。example", "xn--wgv71a.example")]:
        assert web.address(f"http://{name}:8080/ä")[0] == f"http://{host}:8080/%C3%A4"


def test_a_file_address_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"caf\xe9 100%#1?.png")
    for name in ("a b.png", "ä.png", odd):
        (tmp_path / name).write_bytes(PICTURE)
    for address, name in {
        f"file://{tmp_path}/a%20b.png": "a b.png", f"file://localhost{tmp_path}/%C3%A4.png": "ä.png",
        f"FILE:{tmp_path}/a b.png": "a b.png", f"file://{tmp_path}/{odd}": odd,
        f"file://{tmp_path}/caf%E9%20100%25%231%3F.png": odd, f"file://{tmp_path}/a%20b.png?v=1#x": "a b.png",
    }.items():  # fmt: skip
        (given,) = inputs([address])
        assert given.file == tmp_path / name, address
        assert given.name == str(tmp_path / name)
    assert len(list(inputs([f"file://{tmp_path}"]))) == 3, "a folder is one too"
    for address, reason in {
        f"file://{tmp_path}/none.png": "missing", "file://nas/share/a.png": "unsupported", "file://": "missing",
        "file:///a\0b": "bad_name",
    }.items():  # fmt: skip
        (given,) = inputs([address])
        assert given.failure
        assert given.failure.error == reason, address


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("s3://bucket/a.jpg", "aws s3 cp"), ("gs://bucket/*.jpg", "gcloud storage cp"), ("ftp://h/a.jpg", "download"),
        ("data:image/png;base64,iVBORw0KGgo=", "--stdin-image"), ("blob:https://x/1-2", "browser"),
        ("s3://bucket/shard.tar", "aws s3 cp"), ("hf://datasets/a/b.jpg", "hf download"), ("FTP://h/[a]", "download"),
        ("https:/example.org/a.jpg", "https://"), ("smb://nas/a.jpg?x", "download"),
    ],
)  # fmt: skip
def test_an_address_of_another_kind_says_what_to_do(
    address: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (given,) = inputs([address])
    assert given.name == address
    assert given.failure
    assert given.failure.error in ("unsupported", "bad_name")
    assert advice in given.failure.message
    scheme, _, rest = address.partition("://")
    if rest and "*" not in rest:  # it may be the name of a file
        path = tmp_path / f"{scheme}:" / rest
        path.parent.mkdir(parents=True)
        path.write_bytes(PICTURE)
        assert not next(iter(inputs([address]))).failure or address.endswith(".tar")


@pytest.mark.parametrize(
    "url",
    [
        "http://me:pa/secret@h/a", "http://me:pa#secret@h/a", "http:///me:secret@h/a", "https:/me:secret@h/a",
        " https://me:secret@h/a", "sftp://me:secret@h/a", "s3://key:secret@bucket/a", "file://me:secret@h/a",
        "HTTP:\\\\me:secret@h/a",
    ],
)  # fmt: skip
def test_a_password_is_hidden_also_where_an_address_cannot_be_meant(url: str) -> None:
    assert "secret" not in web.without_password(url)


def test_an_address_without_a_password_is_shown_as_it_is() -> None:
    for url in ("http://h/@me/a:b@c", "https://h:80/@a", "http://[::1]:8/a@b", "http://h?a@b:c@d", "https://@h/"):
        assert web.without_password(url) == url


def test_when_no_more_files_can_be_opened_the_run_stops(
    server: Server, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(web, "look_up", none)
    with pytest.raises(TooManyFiles):
        list(stream(classifier, [server.url("a.png")]))


def test_whatever_breaks_down_while_fetching_is_a_row_without_a_password(
    server: Server, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("http://me:secret@h/")

    monkeypatch.setattr(web, "address", broken)
    (result,) = stream(classifier, [server.url("a.png")])
    assert isinstance(result, Failure)
    assert (result.error, "secret" in result.message) == ("crashed", False)


def test_without_threads_there_is_a_row(
    server: Server, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuses(thread: threading.Thread) -> None:
        if thread.name == "fetch":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuses)
    results = list(stream(classifier, [server.url("a.png"), server.url("b.png")]))
    assert [result.error for result in results if isinstance(result, Failure)] == ["out_of_memory"] * 2


def test_one_picture_is_fetched_where_it_is_asked_for(server: Server, classifier: Classifier) -> None:
    assert classifier(server.url("a.png")).path == server.url("a.png")
    assert isinstance(streaming.prepare(classifier.preprocess, Input("x", url=server.url("b.png"))), streaming.Prepared)
    assert server.asked == ["/a.png", "/b.png"]
    assert "secret" not in repr(Input("x", url="http://me:secret@h/"))
