"""A small hub on 127.0.0.1 that speaks what the real client needs, and that can be told to misbehave.

    def test_something(hub, vit):
        hub.add("acme/tiny", folder)                      # every file of a folder, or {name: bytes}
        hub.fault("model.safetensors", cut=1000)          # once; times=-1 for ever
        vit("download-weights", "acme/tiny", env=hub.env)
        assert hub.requests ...

Large files (`.safetensors`, `.bin`) are served as the hub serves LFS files: the answer to `resolve` names size and
SHA-256 and redirects to another origin, which here is a second port. `env` leads the client here, with its own empty
cache; it is for subprocesses, because the client reads its environment once, when it is imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

LFS = (".safetensors", ".bin", ".npz")


@dataclass
class Repository:
    """Files and commits of one repository. Every commit holds the same files."""

    files: dict[str, bytes]
    commits: dict[str, str]  # branch, tag or commit -> commit
    token: str | None = None  # who has it may read
    gated: bool = False
    xet: bool = False  # say that large files are in Xet storage too, which is not there


@dataclass
class Fault:
    """What goes wrong with a request whose path ends so. Of several, the first that has `times` left."""

    path: str
    times: int
    cut: int | None = None  # close the connection after so many bytes of the body
    body: Callable[[bytes], bytes] | None = None  # change what is sent, not what is promised
    status: int | None = None
    sleep: float = 0.0  # seconds before the answer
    pace: float = 0.0  # seconds between pieces of the body
    headers: Mapping[str, str] = field(default_factory=dict)  # in place of the true ones, or besides
    raw: Iterable[bytes] | None = None  # what is sent as it stands instead of an answer, then the connection is closed
    method: str = "GET"


@dataclass(frozen=True)
class Request:
    """What the client asked for."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    cdn: bool
    absolute: bool  # asked as one asks a proxy
    agent: str


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Hub:
    """The server, as tests see it."""

    url: str
    cdn_url: str
    home: Path
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def add(
        self, name: str, files: Path | Mapping[str, bytes], *, revision: str | None = None,
        token: str | None = None, gated: bool = False, xet: bool = False,
    ) -> str:  # fmt: skip
        """Put a repository on the hub; returns its commit, which `revision` (40 hex digits) can choose."""
        if isinstance(files, Path):
            files = {p.relative_to(files).as_posix(): p.read_bytes() for p in files.rglob("*") if p.is_file()}
        content = "".join(f"{n} {sha256(d)}\n" for n, d in sorted(files.items())).encode()
        commit = revision or hashlib.sha1(name.encode() + content).hexdigest()
        self.repositories[name] = Repository(dict(files), {"main": commit, commit: commit}, token, gated, xet)
        return commit

    def fault(self, path: str, *, times: int = 1, **how: object) -> None:
        """Let the next requests whose path ends with `path` go wrong: see `Fault`."""
        self.faults.append(Fault(path, times, **how))  # type: ignore[arg-type]

    @property
    def env(self) -> dict[str, str]:
        """The variables that lead the client here; give them to a subprocess."""
        return {
            "HF_ENDPOINT": self.url, "HF_HOME": str(self.home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": "",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_ETAG_TIMEOUT": "3", "HF_HUB_DOWNLOAD_TIMEOUT": "3",
            "NO_PROXY": "127.0.0.1,localhost", "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        }  # fmt: skip

    @property
    def cache(self) -> Path:
        return self.home / "hub"

    def downloads(self) -> list[Request]:
        """The requests that fetched files."""
        return [r for r in self.requests if r.method == "GET" and (r.cdn or "/resolve/" in r.path)]


def handler(hub: Hub, cdn: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            split = urlsplit(self.path)
            path, get = unquote(split.path), self.headers.get
            hub.requests.append(Request(
                self.command, path, get("Range"), get("Authorization"), cdn, bool(split.netloc), get("User-Agent", "")
            ))  # fmt: skip
            fault = next(
                (f for f in hub.faults if f.times and path.endswith(f.path) and f.method == self.command), None
            )
            if fault is not None:
                fault.times -= 1
                time.sleep(fault.sleep)
                if fault.raw is not None:
                    self.close_connection = True
                    with contextlib.suppress(OSError):  # the client went away
                        for piece in fault.raw:
                            self.connection.sendall(piece)
                    return
                if fault.status is not None:
                    self.send(fault.status, b"trouble", {})
                    return
            if cdn:
                name = path.removeprefix("/blob/")
                data = next(
                    d for r in hub.repositories.values() for n, d in r.files.items() if name == f"{sha256(d)}/{n}"
                )
                self.send(200, data, {"ETag": f'"{sha256(data)}"'}, fault)
            elif "/tree/" in path:
                self.tree(*path.removeprefix("/api/models/").split("/tree/"))
            elif path.startswith("/api/models/"):
                self.api(*path.removeprefix("/api/models/").split("/revision/"), query=split.query, fault=fault)
            elif "/resolve/" in path:
                self.resolve(*path[1:].split("/resolve/"), fault=fault)
            else:
                self.send(404, b"Not Found", {})

        def repository(self, name: str, revision: str) -> tuple[Repository, str] | None:
            """The repository and the commit; None when a refusal has been sent."""
            found = hub.repositories.get(name)
            given = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            if found is None or (found.token and not found.gated and given != found.token):
                self.send(404 if given else 401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            elif found.token and given != found.token:
                self.send(403 if given else 401, b'{"error": "Access is restricted"}', {"X-Error-Code": "GatedRepo"})
            elif revision not in found.commits:
                self.send(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
            else:
                return found, found.commits[revision]
            return None

        def api(self, name: str, revision: str = "main", *, query: str, fault: Fault | None) -> None:
            if (found := self.repository(name, revision)) is None:
                return
            repository, commit = found
            siblings: list[dict[str, object]] = []
            for file, data in repository.files.items():
                entry: dict[str, object] = {"rfilename": file}
                if "blobs" in parse_qs(query):
                    entry |= {"size": len(data), "blobId": git_sha1(data)}
                    if file.endswith(LFS):
                        entry["lfs"] = {"size": len(data), "sha256": sha256(data), "pointerSize": 134}
                siblings.append(entry)
            info = {"id": name, "sha": commit, "private": False, "gated": False, "tags": [], "siblings": siblings}
            self.send(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, fault)

        def tree(self, name: str, revision: str) -> None:
            """The files of a repository as `snapshot_download` asks for them."""
            if (found := self.repository(name, revision)) is None:
                return
            entries: list[dict[str, object]] = []
            for file, data in found[0].files.items():
                entry: dict[str, object] = {"type": "file", "path": file, "size": len(data), "oid": git_sha1(data)}
                if file.endswith(LFS):
                    entry["lfs"] = {"size": len(data), "oid": sha256(data), "pointerSize": 134}
                    entry |= {"xetHash": sha256(data)} if found[0].xet else {}
                entries.append(entry)
            self.send(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

        def resolve(self, name: str, rest: str, *, fault: Fault | None) -> None:
            revision, _, file = rest.partition("/")
            if (found := self.repository(name, revision)) is None:
                return
            repository, commit = found
            headers = {"X-Repo-Commit": commit}
            data = repository.files.get(file)
            if data is None:
                self.send(404, b"Entry not found", {**headers, "X-Error-Code": "EntryNotFound"}, fault)
            elif file.endswith(LFS):
                headers |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{sha256(data)}"'}
                if repository.xet:
                    route = f"{hub.url}/api/models/{name}/xet-read-token/{commit}"
                    headers |= {"X-Xet-Hash": sha256(data), "X-Xet-Refresh-Route": route}
                self.send(302, b"", {**headers, "Location": f"{hub.cdn_url}/blob/{sha256(data)}/{file}"}, fault)
            else:
                self.send(200, data, {**headers, "ETag": f'"{git_sha1(data)}"'}, fault)

        def send(self, status: int, data: bytes, headers: Mapping[str, str], fault: Fault | None = None) -> None:
            body = fault.body(data) if fault and fault.body else data
            start = 0
            if status == 200 and (asked := self.headers.get("Range")):
                start = int(asked.removeprefix("bytes=").split("-")[0])
                status, headers = 206, {**headers, "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            headers = {**headers, **(fault.headers if fault else {})}
            self.send_response(status)
            for key, value in {"Accept-Ranges": "bytes", **headers, "Content-Length": str(len(body) - start)}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            end = len(body) if fault is None or fault.cut is None else min(start + fault.cut, len(body))
            step = 64 * 1024 if fault is None or not fault.pace else max(1, len(body) // 20)
            for at in range(start, end, step):
                try:
                    self.wfile.write(body[at : min(at + step, end)])
                    self.wfile.flush()
                except OSError:  # the client went away
                    break
                time.sleep(fault.pace if fault else 0)
            if end < len(body):
                self.close_connection = True

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error of the server's."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with no repositories, and an empty cache for its clients."""
    hub = Hub("", "", tmp_path / "hub-home")
    servers = [Server(("127.0.0.1", 0), handler(hub, cdn)) for cdn in (False, True)]
    # another name for the same machine, because some versions of the client tell origins apart by name only
    hub.url, hub.cdn_url = (
        f"http://{name}:{server.server_address[1]}"
        for name, server in zip(("127.0.0.1", "localhost"), servers, strict=True)
    )
    threads = [threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True) for s in servers]
    for thread in threads:
        thread.start()
    yield hub
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()
