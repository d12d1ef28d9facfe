"""A server in the place of the hub that lies, never ends or aims at other files: by the real client, as in test_hub."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from tests.hub_server import Hub, git_sha1, sha256
from tests.test_hub import FILES, WEIGHTS, download, downloads, files, kept
from vitcli import hub as vit_hub
from vitcli.errors import Corrupt, Unreachable
from vitcli.hub import guard

EVIL = b"the bytes of somebody else"
# deadlines that a test can wait for
SOON = "from vitcli.hub import client; client.LISTING_TIME = client.FILE_TIME = 1.0\n"


def victim(hub: Hub) -> Path:
    return hub.home.parent / "victim"


def escape(hub: Hub) -> str:
    """What leads from a blob's folder to the victim."""
    return "../" * 12 + str(victim(hub)).lstrip("/")


def outside(hub: Hub) -> set[str]:
    """What lies beside the client's home, where nothing of the hub's may be made."""
    return {p.name for p in hub.home.parent.iterdir()} - {hub.home.name}


def slowly(start: bytes, piece: bytes) -> Iterator[bytes]:
    yield start
    while True:
        yield piece
        time.sleep(0.02)


@pytest.mark.parametrize("there", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag"])
@pytest.mark.parametrize("weak", ["", "W/"])
def test_an_etag_is_no_path(hub: Hub, header: str, weak: str, there: bool) -> None:
    hub.add("acme/tiny", {**FILES, "config.json": EVIL})
    before = {"victim"} if there else set()
    if there:
        victim(hub).write_text("precious")
    hub.fault("/config.json", times=-1, method="HEAD", headers={header: f'{weak}"{escape(hub)}"'})
    result = download(hub, "acme/tiny", force=there)
    assert result["error"] == "Corrupt"
    assert outside(hub) == before, "neither a file nor its lock"
    assert not there or victim(hub).read_text() == "precious"
    assert hub.downloads() == [], "nothing was asked for under that name"


@pytest.mark.parametrize("etag", [".", "..", "", "x" * 5000, "%2e%2e%2fx", sha256(WEIGHTS), "A" * 40])
def test_an_etag_is_the_hash_that_was_listed(hub: Hub, etag: str) -> None:
    hub.add("acme/tiny", FILES)
    hub.fault("/config.json", times=-1, method="HEAD", headers={"ETag": f'"{etag}"'})
    assert download(hub, "acme/tiny")["error"] == "Corrupt"
    assert kept(hub) == set()


def test_a_file_of_the_cache_is_not_replaced_under_the_name_of_another(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    assert "files" in download(hub, "acme/tiny")
    hub.fault("/config.json", times=-1, method="HEAD", headers={"ETag": f'"{sha256(WEIGHTS)}"'})
    assert download(hub, "acme/tiny", force=True)["error"] == "Corrupt"
    assert files(download(hub, "acme/tiny", check=True))["model.safetensors"]["verified"]


@pytest.mark.parametrize("missing", [False, True], ids=["found", "not-found"])
def test_a_commit_in_a_header_is_no_path(hub: Hub, missing: bool) -> None:
    hub.add("acme/tiny", FILES)
    headers = {"X-Repo-Commit": escape(hub)}
    if missing:  # the client notes that a file does not exist, in a folder that is named after the commit
        content = f"HTTP/1.1 404 No\r\nX-Repo-Commit: {escape(hub)}\r\nX-Error-Code: EntryNotFound\r\n"
        hub.fault("/config.json", times=-1, method="HEAD", raw=[f"{content}Content-Length: 0\r\n\r\n".encode()])
    else:
        hub.fault("/config.json", times=-1, method="HEAD", headers=headers)
    assert download(hub, "acme/tiny")["error"] == "Corrupt"
    assert outside(hub) == set()


def test_a_pinned_commit_is_not_answered_with_another(hub: Hub) -> None:
    commit = hub.add("acme/tiny", FILES)
    hub.fault(f"/revision/{commit}", body=lambda data: data.replace(commit.encode(), b"b" * 40))
    assert download(hub, "acme/tiny", commit)["error"] == "Corrupt"
    assert kept(hub) == set()


@pytest.mark.parametrize("hash_", ["", sha256(WEIGHTS)], ids=["path", "hash"])
def test_no_header_leads_to_storage_that_is_not_bounded(hub: Hub, hash_: str) -> None:
    hub.add("acme/tiny", FILES)
    elsewhere = {
        "X-Xet-Hash": hash_ or escape(hub), "X-Xet-Refresh-Route": f"{hub.url}/xet-read-token",
        "X-Xet-Cas-Url": hub.url, "Link": f'<{hub.url}/xet-read-token>; rel="xet-auth"',
    }  # fmt: skip
    for method in ("HEAD", "GET"):
        hub.fault("/model.safetensors", times=-1, method=method, headers=elsewhere)
    assert files(download(hub, "acme/tiny"))["model.safetensors"]["verified"]
    assert not any("xet" in r.path for r in hub.requests)
    assert outside(hub) == set()


def test_a_listing_that_another_program_kept_does_not_lead_there_either(hub: Hub) -> None:
    hub.add("acme/tiny", FILES, xet=True)
    other = """
import os
from huggingface_hub import snapshot_download
snapshot_download("acme/tiny", allow_patterns="config.json", cache_dir=os.environ["HF_HOME"] + "/hub")
"""
    result = download(hub, "acme/tiny", before=other, env={"HF_HUB_DISABLE_PROGRESS_BARS": "1"})
    assert files(result)["model.safetensors"]["verified"]
    assert list(hub.cache.rglob("trees/*.json")), "that is where the client would have learnt of it"
    assert not any("xet" in r.path for r in hub.requests)


def listing(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    """A listing in which one file is other than it is."""

    def changed(data: bytes) -> bytes:
        info = json.loads(data)
        change(next(s for s in info["siblings"] if s["rfilename"] == "model.safetensors"))
        return json.dumps(info).encode()

    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.update(lfs={"size": -5, "sha256": sha256(WEIGHTS), "pointerSize": 1}),
        lambda file: file.update(lfs={"size": "x", "sha256": sha256(WEIGHTS), "pointerSize": 1}),
        lambda file: file.update(lfs={"size": 1.5, "sha256": sha256(WEIGHTS), "pointerSize": 1}),
        lambda file: file.update(lfs={"size": 5, "sha256": "../../x", "pointerSize": 1}),
        lambda file: file.update(lfs={}, size=5, blobId="../../../x"),
        lambda file: file.update(lfs={"size": 5}),
        lambda file: file.update(rfilename=["x"]),
    ],
    ids=["negative", "text", "fraction", "hash", "blob", "no-hash", "name"],
)
def test_sizes_names_and_hashes_of_a_listing_are_checked(hub: Hub, change: Callable[[dict[str, Any]], None]) -> None:
    hub.add("acme/tiny", FILES)
    hub.fault("/revision/main", times=-1, body=listing(change))
    assert download(hub, "acme/tiny")["error"] in ("Unreachable", "HubError")
    assert kept(hub) == set()


@pytest.mark.parametrize(
    "said",
    [
        b"[" * 5_000_000,
        b'{"id": "x", "sha": "%s", "siblings": [{"rfilename": "a", "size": %s}]}' % (b"a" * 40, b"9" * 5000),
        b'{"id": "x", "sha": "%s", "lastModified": "99999-99-99", "siblings": []}' % (b"a" * 40),
        b'{"id": "\xe9"}', b'{"id": "x", "sha": "%s\\n", "siblings": []}' % (b"a" * 40), b"[1]", b"null",
    ],
    ids=["nested", "digits", "date", "encoding", "commit", "list", "null"],
)  # fmt: skip
def test_a_listing_that_no_hub_sends_is_refused_in_our_words(hub: Hub, said: bytes) -> None:
    hub.add("acme/tiny", FILES)
    hub.fault("/revision/main", body=lambda data: said)
    result = download(hub, "acme/tiny")
    assert (result["error"], "does not answer as a hub does" in result["message"]) == ("Unreachable", True)


@pytest.mark.parametrize("revision", ["../../../x", "..", "a/../../b", "main/.."])
def test_a_revision_is_no_path(hub: Hub, revision: str) -> None:
    hub.add("acme/tiny", FILES)
    result = download(hub, "acme/tiny", revision)
    assert (result["error"], revision in result["message"]) == ("NotFound", True)
    assert (hub.requests, outside(hub)) == ([], set())


def test_of_two_etags_neither_is_a_path(hub: Hub) -> None:
    commit = hub.add("acme/tiny", FILES)
    head = f'HTTP/1.1 200 OK\r\nX-Repo-Commit: {commit}\r\nETag: "{git_sha1(FILES["config.json"])}"\r\n'
    hub.fault("/config.json", times=-1, method="HEAD", raw=[head.encode(), f'ETag: "{escape(hub)}"\r\n\r\n'.encode()])
    assert download(hub, "acme/tiny")["error"] == "Corrupt"
    assert outside(hub) == set()


def test_a_size_that_differs_from_the_listing_is_refused_before_the_file_is_fetched(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    hub.fault("/model.safetensors", times=-1, method="HEAD", headers={"X-Linked-Size": str(10**15)})
    assert download(hub, "acme/tiny")["error"] == "Corrupt"
    assert not any(r.path.endswith("model.safetensors") for r in hub.downloads())


def test_settings_are_not_fetched_when_they_are_announced_as_enormous(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    enormous = f'"size": {1 << 40}'.encode()
    size = f'"size": {len(FILES["config.json"])}'.encode()
    hub.fault("/revision/main", body=lambda data: data.replace(size, enormous, 1))
    result = download(hub, "acme/tiny")
    assert result["error"] in ("Corrupt", "HubError")
    assert hub.downloads() == []


LARGEST = """
import pathlib
sizes = []
real_open = pathlib.Path.open
def opened(self, *a, **k):
    file = real_open(self, *a, **k)
    if self.name.endswith(".incomplete"):
        write = file.write
        class Counted:
            def __getattr__(self, name): return getattr(file, name)
            def __enter__(self): return self
            def __exit__(self, *a): file.close()
            def write(self, data):
                sizes.append(len(data))
                assert sum(sizes) <= LIMIT, "more was written than was announced"
                return write(data)
        return Counted()
    return file
pathlib.Path.open = opened
"""


def test_a_file_that_never_ends_is_stopped_at_the_size_that_was_announced(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    sent = [0]

    def endless() -> Iterator[bytes]:
        yield head
        while sent[0] < 400:
            sent[0] += 1
            yield bytes(1 << 20)

    hub.fault(f"{sha256(WEIGHTS)}/model.safetensors", raw=endless())
    result = download(hub, "acme/tiny", before=LARGEST.replace("LIMIT", "(1 << 20) + 1000"))
    assert result["error"] == "Corrupt", result
    assert "goes on after" in result["message"]
    assert sent[0] < 100, "the connection was closed soon"
    assert not list(hub.cache.rglob("*.incomplete"))


def test_a_file_is_bounded_over_all_tries_together(hub: Hub) -> None:
    weights = WEIGHTS * 12  # the client continues at pieces of 10 MiB
    hub.add("acme/tiny", {**FILES, "model.safetensors": weights})
    path = f"{sha256(weights)}/model.safetensors"
    hub.fault(path, cut=(10 << 20) + 5)
    again = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 10485760-13631487/13631488\r\n\r\n" + bytes(3 << 20)
    hub.fault(path, times=-1, raw=[again])
    result = download(hub, "acme/tiny", before=LARGEST.replace("LIMIT", "(12 << 20) + 1000"))
    assert result["error"] == "Corrupt", result
    assert not list(hub.cache.rglob("*.incomplete"))


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br", "zstd"])
def test_a_body_that_swells_when_it_is_decoded_is_bounded(hub: Hub, encoding: str) -> None:
    hub.add("acme/tiny", FILES)
    swollen = gzip.compress(bytes(300 << 20), 6)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(swollen)}\r\n\r\n"
    hub.fault("/revision/main", times=-1, raw=[head.encode(), swollen])
    said = download(hub, "acme/tiny")["message"]
    assert "goes on after" in said if encoding == "gzip" else "encoding that was not asked for" in said


def test_a_listing_without_end_is_bounded(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    sent = [0]

    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        while sent[0] < 500:
            sent[0] += 1
            yield b" " * (1 << 20)

    hub.fault("/revision/main", raw=endless())
    assert download(hub, "acme/tiny")["error"] == "Corrupt"
    assert sent[0] < 100


@pytest.mark.parametrize("status", ["302 Found\r\nLocation: /elsewhere", "500 Trouble", "404 No"])
def test_bodies_nobody_asked_for_are_bounded(hub: Hub, status: str) -> None:
    hub.add("acme/tiny", FILES)
    sent = [0]

    def endless() -> Iterator[bytes]:
        yield f"HTTP/1.1 {status}\r\n\r\n".encode()
        while sent[0] < 500:
            sent[0] += 1
            yield b" " * (1 << 20)

    hub.fault("/revision/main", times=1, raw=endless())
    assert "error" in download(hub, "acme/tiny")
    assert sent[0] < 50


@pytest.mark.parametrize(
    ("path", "method", "start", "piece"),
    [
        ("/revision/main", "GET", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b" "),
        ("/revision/main", "GET", b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
        ("/revision/main", "GET", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("/config.json", "HEAD", b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
        ("/config.json", "HEAD", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        ("/model.safetensors", "GET", b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
    ],
    ids=["listing", "listing-headers", "continue", "headers", "hints", "file"],
)
def test_what_drips_has_a_deadline(hub: Hub, path: str, method: str, start: bytes, piece: bytes) -> None:
    hub.add("acme/tiny", FILES)
    for _ in range(20):
        hub.fault(path, method=method, raw=slowly(start, piece))
    result = download(hub, "acme/tiny", before=SOON)
    assert (result["error"], "in time" in result["message"]) == ("Unreachable", True)


def test_a_server_that_asks_us_to_wait_for_days_is_not_obeyed(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    wait = b"HTTP/1.1 429 Slow\r\nRetry-After: 900000\r\nContent-Length: 0\r\n\r\n"
    hub.fault("/config.json", times=-1, method="HEAD", raw=[wait])
    assert download(hub, "acme/tiny", before=SOON)["error"] == "Unreachable"


@pytest.mark.parametrize(
    "name", ["m\x1b[31mRED\x1b]0;pwned\x07.bin", "a\u202egnp.bin", "a\nb.bin", "x" * 300, "é" * 128]
)
def test_the_name_of_a_shard_is_a_file_name_that_can_be_shown(tmp_path: Path, name: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(Corrupt) as caught:
        vit_hub._shards(index)
    assert str(caught.value).isprintable()


def test_what_a_server_says_of_an_error_is_short_and_harmless(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    said = "x" * 20_000 + "\x9b31m"
    head = f"HTTP/1.1 400 No\r\nX-Error-Message: {said}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    hub.fault("/revision/main", times=-1, raw=[head])
    result = download(hub, "acme/tiny")
    assert len(result["message"]) < 1000
    assert result["message"].isprintable()


OWN_CLIENT = """
import atexit, huggingface_hub
kind = type(huggingface_hub.get_session())
usual, made = kind.send, []
def own():
    made.append(kind(follow_redirects=True))
    return made[-1]
huggingface_hub.set_client_factory(own)
session = huggingface_hub.get_session()
"""


def test_what_the_client_shows_of_a_header_is_harmless(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    hub.fault("/config.json", times=-1, method="HEAD", headers={"X-HF-Warning": "a; \x9b31mRED"})
    result = download(hub, "acme/tiny", env={"HF_HUB_VERBOSITY": "warning"})  # in which nothing must be shown, too
    assert files(result)["config.json"]["verified"]


@pytest.mark.parametrize("well", [True, False], ids=["success", "failure"])
def test_the_program_keeps_its_client_and_its_factory(hub: Hub, well: bool) -> None:
    hub.add("acme/tiny", FILES)
    if not well:
        hub.fault("/config.json", times=-1, method="HEAD", headers={"ETag": f'"{escape(hub)}"'})
    check = """
def check():
    assert (kind.send, session.is_closed, session.event_hooks["response"]) == (usual, False, [])
    assert not huggingface_hub.constants.HF_HUB_DISABLE_XET
    assert huggingface_hub.get_session() is session
    huggingface_hub.close_session()
    assert huggingface_hub.get_session() is made[1]
    print('{"as": "it was"}')
atexit.register(check)
"""
    result, after = downloads(hub, "acme/tiny", before=OWN_CLIENT + check)
    assert ("files" in result, after) == (well, {"as": "it was"})


def test_a_client_that_is_made_anew_after_a_broken_connection_is_guarded_too(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    hub.fault("/config.json", times=-1, method="HEAD", headers={"ETag": f'"{escape(hub)}"'})
    broken = """
http = __import__(kind.__module__.split(".")[0])
refused = iter([True] * 2)
connect = http.HTTPTransport.handle_request
def handle_request(self, request):
    if request.method == "HEAD" and next(refused, False):
        raise http.ConnectError("refused", request=request)
    return connect(self, request)
http.HTTPTransport.handle_request = handle_request
atexit.register(lambda: print(len(made)))
"""
    result, clients = downloads(hub, "acme/tiny", before=OWN_CLIENT + broken)
    assert (result["error"], clients > 1) == ("Corrupt", True)
    assert outside(hub) == set()


def test_what_is_left_behind_at_a_deadline_stays_guarded(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)

    late = {"sleep": 2.0, "headers": {"ETag": f'"{escape(hub)}"'}}  # the deadline is at one second
    hub.fault("/config.json", times=-1, method="HEAD", **late)
    # after the client registered that it is closed at exit, so before that happens
    wait = "import atexit, time, huggingface_hub; huggingface_hub.get_session(); atexit.register(time.sleep, 3)\n"
    assert download(hub, "acme/tiny", before=SOON + wait)["error"] == "Unreachable"
    assert outside(hub) == set()


def test_a_look_up_that_nobody_answers_has_the_same_deadline(hub: Hub) -> None:
    before = SOON + "import socket, time; socket.getaddrinfo = lambda *a, **k: time.sleep(3600)\n"
    result = download(hub, "acme/tiny", env={"HF_ENDPOINT": "http://hub.example"}, before=before)
    assert (result["error"], "in time" in result["message"]) == ("Unreachable", True)


def test_an_honest_server_is_let_through_with_headers_that_the_hub_sends(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    hub.fault("/config.json", method="HEAD", headers={"ETag": f'W/"{git_sha1(FILES["config.json"])}"'})
    hub.fault("model.safetensors", headers={"Content-Disposition": "inline; filename=m\u00e9.bin"})
    assert all(file["verified"] for file in files(download(hub, "acme/tiny")).values())


def httpx() -> Any:
    """The HTTP client under `huggingface_hub`."""
    return importlib.import_module(type(huggingface_hub.get_session()).__module__.split(".")[0])


def test_the_client_is_not_told_of_storage_that_is_not_bounded() -> None:
    asked = httpx().Request("HEAD", "https://hub.example/acme/tiny")
    response = httpx().Response(200, headers={"x-xet-hash": sha256(WEIGHTS)}, request=asked)
    guard.Guard("A file", 10, 10.0).answered(response)
    assert "X-Xet-Hash" not in response.headers


@pytest.mark.parametrize("place", ["http://127.0.0.1/x", " HTTP://127.0.0.1/x"])
def test_https_does_not_lead_to_http(place: str) -> None:
    asked = httpx().Request("GET", "https://hub.example/acme/tiny")
    watch = guard.Guard("A file", 10, 10.0)
    with pytest.raises(Unreachable, match="https to http"):
        watch.answered(httpx().Response(302, headers={"Location": place}, request=asked))
    watch.answered(httpx().Response(302, headers={"Location": "https://elsewhere.example/"}, request=asked))


def test_an_interrupt_ends_a_download_and_leaves_nothing_unfinished(hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    begun = threading.Event()

    def dripping() -> Iterator[bytes]:
        begun.set()
        yield from slowly(b"HTTP/1.1 200 OK\r\n\r\n", b"a")

    hub.fault(f"{sha256(WEIGHTS)}/model.safetensors", raw=dripping())
    code = "from vitcli import hub; hub.download('acme/tiny')"
    running = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **hub.env}, stderr=subprocess.PIPE)
    assert begun.wait(30)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert b"KeyboardInterrupt" in said
    assert not list(hub.cache.rglob("*.incomplete"))
