"""Fetching, verifying and finding weights, by the real client against a real server that can misbehave.

The client reads its environment when it is imported, so what fetches runs in a process of its own.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import Hub, git_sha1, sha256
from vitcli import hub as vit_hub
from vitcli.errors import HubError, NotDownloaded, NotFound
from vitcli.hub import catalog, client

WEIGHTS = bytes(range(256)) * 4096  # 1 MiB; nothing here reads them as tensors
FILES = {
    "config.json": b'{"model_type": "vit"}',
    "preprocessor_config.json": b'{"size": 224}',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"a second copy of the same",
    "README.md": b"# not needed",
    "tf_model.h5": b"neither",
}
NEEDED = ("config.json", "preprocessor_config.json", "model.safetensors")

DRIVER = """
import json, sys
from dataclasses import asdict
from vitcli import hub
from vitcli.errors import VitError
for names, options in json.loads(sys.argv[1]):
    try:
        print(json.dumps(asdict(hub.download(*names, **options)), default=str))
    except VitError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


def downloads(hub: Hub, *names: str, env: dict[str, str] | None = None, before: str = "") -> list[dict[str, Any]]:
    """What `hub.download` returns or raises for each name, in one process of its own; nothing else may be said."""
    return run(hub, [((name,), {}) for name in names], env or {}, before)


def download(
    hub: Hub, *names: str, env: dict[str, str] | None = None, before: str = "", **options: bool
) -> dict[str, Any]:
    """The same for one model. `before` is Python to run first."""
    return run(hub, [(names, options)], env or {}, before)[0]


def run(hub: Hub, calls: list[Any], env: dict[str, str], before: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", before + DRIVER, json.dumps(calls)],
        env={**os.environ, **hub.env, **env}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "the client's own logs and bars stay away from a pipe"
    return [json.loads(line) for line in done.stdout.splitlines()]


def files(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    assert "files" in result, result
    return {file["name"]: file for file in result["files"]}


def kept(hub: Hub) -> set[str]:
    """The names of all files in the cache that hold anything but notes of the client's."""
    return {
        p.name for p in hub.cache.rglob("*")
        if p.is_file() and not p.name.endswith(".lock") and p.name not in ("CACHEDIR.TAG", ".gitignore")
        and ".no_exist" not in p.parts and "refs" not in p.parts
    }  # fmt: skip


@pytest.fixture
def here(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The same hub, with `locate` in this process looking into its clients' cache."""
    monkeypatch.setenv("HF_HOME", str(hub.home))
    return hub


def test_only_what_is_needed_is_fetched_and_all_of_it_is_verified(here: Hub) -> None:
    commit = here.add("acme/tiny", FILES)
    result = download(here, "acme/tiny")
    assert result["revision"] == commit
    assert tuple(files(result)) == NEEDED
    for name, file in files(result).items():
        assert file["verified"]
        assert file["fetched"]
        assert (file["size"], file["sha256"]) == (len(FILES[name]), sha256(FILES[name]))
        assert Path(result["path"], name).read_bytes() == FILES[name]
    assert vit_hub.locate("acme/tiny") == Path(result["path"])
    assert not {r.path for r in here.requests if "README" in r.path or ".h5" in r.path}


def test_what_is_already_there_is_verified_without_one_request(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    download(here, "acme/tiny")
    here.requests.clear()
    for env in ({}, {"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        again = files(download(here, "acme/tiny", env=env))
        assert all(f["verified"] and not f["fetched"] for f in again.values())
        assert tuple(again) == NEEDED
    assert here.requests == []


def test_force_fetches_again(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    download(here, "acme/tiny")
    here.requests.clear()
    assert all(f["fetched"] and f["verified"] for f in files(download(here, "acme/tiny", force=True)).values())
    assert len(here.downloads()) == 3


def test_weights_without_safetensors_come_as_pytorch_model_bin(here: Hub) -> None:
    here.add("acme/old", {k: v for k, v in FILES.items() if k != "model.safetensors"})
    assert tuple(files(download(here, "acme/old"))) == ("config.json", "preprocessor_config.json", "pytorch_model.bin")
    assert vit_hub.locate("acme/old").is_dir()


def test_shards_come_with_their_index(here: Hub) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": WEIGHTS[: i * 1000] for i in (1, 2)}
    index = json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}).encode()
    here.add("acme/sharded", {"config.json": b"{}", "model.safetensors.index.json": index, **shards})
    result = download(here, "acme/sharded")
    assert set(files(result)) == {"config.json", "model.safetensors.index.json", *shards}
    assert all(f["verified"] for f in files(result).values())
    Path(result["path"], next(iter(shards))).unlink()
    with pytest.raises(NotDownloaded):
        vit_hub.locate("acme/sharded")


def test_an_index_cannot_name_files_outside_its_folder(here: Hub) -> None:
    evil = ["../../config.json", "/etc/passwd", "..", "sub\\..\\x", ""]
    for number, name in enumerate(evil):
        index = json.dumps({"weight_map": {"a": name}}).encode()
        here.add(f"acme/evil{number}", {"config.json": b"{}", "model.safetensors.index.json": index, name: b"evil"})
    for result in downloads(here, *(f"acme/evil{number}" for number in range(len(evil)))):
        assert result["error"] == "Corrupt"
        assert "outside its folder" in result["message"]
    assert {r.path.rsplit("/", 1)[1] for r in here.downloads()} == {"config.json", "model.safetensors.index.json"}


def test_a_shard_that_the_repository_lacks_is_named(here: Hub) -> None:
    index = json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}).encode()
    here.add("acme/lacking", {"config.json": b"{}", "model.safetensors.index.json": index})
    result = download(here, "acme/lacking")
    assert result["error"] == "NotFound"
    assert "model-00001-of-00001.safetensors" in result["message"]


def test_a_repository_without_preprocessing_is_complete_and_is_not_asked_about_again(here: Hub) -> None:
    here.add("acme/timm", {"config.json": b"{}", "model.safetensors": WEIGHTS})
    download(here, "acme/timm")
    here.requests.clear()
    assert tuple(files(download(here, "acme/timm"))) == ("config.json", "model.safetensors")
    assert here.requests == []


def test_a_cache_from_before_a_file_was_asked_for_is_complete(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    path = Path(download(here, "acme/tiny")["path"])
    shutil.rmtree(path.parent.parent / ".no_exist")
    here.requests.clear()
    assert tuple(files(download(here, "acme/tiny"))) == NEEDED
    assert here.requests == []


def test_nested_settings_of_a_processor_are_fetched_too(here: Hub) -> None:
    here.add("acme/nested", FILES | {"processor_config.json": b'{"image_processor": {"size": 224}}'})
    assert "processor_config.json" in files(download(here, "acme/nested"))


def test_what_another_program_left_half_there_is_completed(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    path = Path(download(here, "acme/tiny")["path"])
    (path / "preprocessor_config.json").unlink()
    again = files(download(here, "acme/tiny"))
    assert [n for n, f in again.items() if f["fetched"]] == []  # the blob is still there: only its link was missing
    (path / "preprocessor_config.json").resolve().unlink()
    (path / "preprocessor_config.json").unlink()
    assert [n for n, f in files(download(here, "acme/tiny")).items() if f["fetched"]] == ["preprocessor_config.json"]


def test_a_repository_without_weights_is_refused_by_name(here: Hub) -> None:
    here.add("acme/empty", {"config.json": b"{}", "tf_model.h5": b""})
    result = download(here, "acme/empty")
    assert result["error"] == "NotFound"
    assert "model.safetensors" in result["message"]


def test_branches_tags_and_commits_can_be_named(here: Hub) -> None:
    commit = here.add("acme/tiny", FILES)
    here.repositories["acme/tiny"].commits["v1.0"] = commit
    results = downloads(here, "acme/tiny@v1.0", f"acme/tiny@{commit}", "acme/tiny@main")
    assert [result["revision"] for result in results] == [commit] * 3
    assert [vit_hub.locate("acme/tiny", revision).name for revision in ("v1.0", commit, "main")] == [commit] * 3


def test_a_branch_that_moved_on_is_followed_with_force_only(here: Hub) -> None:
    old = here.add("acme/tiny", FILES)
    download(here, "acme/tiny")
    new = here.add("acme/tiny", {**FILES, "model.safetensors": b"trained for longer"})
    assert download(here, "acme/tiny")["revision"] == old
    assert download(here, "acme/tiny", force=True)["revision"] == new
    assert vit_hub.locate("acme/tiny").name == new
    assert vit_hub.locate("acme/tiny", old).name == old


def test_the_default_model_is_fetched_at_its_pinned_commit(here: Hub) -> None:
    pinned = catalog.find(catalog.DEFAULT)
    assert pinned is not None
    here.add(catalog.DEFAULT, FILES, revision=pinned.revision)
    assert download(here)["revision"] == pinned.revision
    assert any(r.path.endswith(f"/revision/{pinned.revision}") for r in here.requests)
    assert vit_hub.locate("vit-base-patch16-224").name == pinned.revision


def test_a_connection_that_is_cut_is_resumed_where_it_broke(here: Hub) -> None:
    piece = 10 << 20  # the client writes in pieces of 10 MiB; what it has of an unfinished one is lost
    here.add("acme/tiny", {**FILES, "model.safetensors": WEIGHTS * 12})
    here.fault("model.safetensors", cut=piece + 300_000)
    assert files(download(here, "acme/tiny"))["model.safetensors"]["verified"]
    asked = [r.range for r in here.downloads() if r.path.endswith("model.safetensors")]
    assert asked == [None, f"bytes={piece}-"]


def test_wrong_bytes_are_refused_and_not_kept(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    here.fault("model.safetensors", body=lambda data: data[:-1] + b"?")
    result = download(here, "acme/tiny")
    assert result["error"] == "Corrupt"
    assert sha256(WEIGHTS) in result["message"]
    assert kept(here) & {"model.safetensors", sha256(WEIGHTS)} == set()
    with pytest.raises(NotDownloaded):
        vit_hub.locate("acme/tiny")
    assert files(download(here, "acme/tiny"))["model.safetensors"]["verified"], "the next run starts clean"


def test_wrong_bytes_in_a_small_file_are_refused_too(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    here.fault("/config.json", body=lambda data: data.replace(b"vit", b"bit"))
    result = download(here, "acme/tiny")
    assert (result["error"], git_sha1(FILES["config.json"]) in result["message"]) == ("Corrupt", True)
    assert kept(here) & {"config.json"} == set()


def test_a_wrong_size_is_refused_and_not_kept(here: Hub) -> None:
    for name, change in {"short": lambda data: data[:-7], "long": lambda data: data + b"more"}.items():
        here.add(f"acme/{name}", {**FILES, "model.safetensors": name.encode() + WEIGHTS})
        here.fault(f"{sha256(name.encode() + WEIGHTS)}/model.safetensors", body=change)
    for result in downloads(here, "acme/short", "acme/long"):
        assert result["error"] == "Corrupt"
        assert "size" in result["message"] or "bytes" in result["message"]
    assert kept(here) == {"config.json", "preprocessor_config.json"} | {
        git_sha1(FILES[name]) for name in ("config.json", "preprocessor_config.json")
    }


def test_a_pointer_or_a_page_in_place_of_weights_is_recognised(here: Hub) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 346293852\n"
    here.add("acme/pointer", {**FILES, "model.safetensors": pointer})
    here.add("acme/page", {**FILES, "model.safetensors": b"\n<!DOCTYPE html>\n<html><body>Log in</body></html>"})
    results = downloads(here, "acme/pointer", "acme/page")
    assert [result["error"] for result in results] == ["Corrupt", "Corrupt"]
    assert "git-lfs pointer" in results[0]["message"]
    assert "web page" in results[1]["message"]
    for name in ("acme/pointer", "acme/page"):
        with pytest.raises(NotDownloaded):
            vit_hub.locate(name)


def test_a_file_that_went_bad_in_the_cache_is_replaced(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    path = Path(download(here, "acme/tiny")["path"], "model.safetensors")
    path.resolve().write_bytes(WEIGHTS[:-1] + b"?")
    again = files(download(here, "acme/tiny"))
    assert [n for n, f in again.items() if f["replaced"]] == ["model.safetensors"]
    assert path.read_bytes() == WEIGHTS


def test_a_bad_blob_is_replaced_when_another_commit_needs_it(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    path = Path(download(here, "acme/tiny")["path"], "model.safetensors")
    path.resolve().write_bytes(b"half")
    here.add("acme/tiny", {**FILES, "config.json": b'{"newer": true}'})
    (here.cache / "models--acme--tiny" / "refs" / "main").unlink()
    result = download(here, "acme/tiny")
    assert files(result)["model.safetensors"]["replaced"]
    assert Path(result["path"], "model.safetensors").read_bytes() == WEIGHTS


def test_a_bad_file_is_deleted_even_where_nothing_can_be_fetched(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    path = Path(download(here, "acme/tiny")["path"], "model.safetensors")
    path.resolve().write_bytes(b"half")
    result = download(here, "acme/tiny", env={"HF_HUB_OFFLINE": "1"})
    assert result["error"] == "NotDownloaded"
    assert "wrong" in result["message"]
    assert "HF_HUB_OFFLINE" in result["message"]
    with pytest.raises(NotDownloaded):
        vit_hub.locate("acme/tiny")


def test_check_only_looks(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    missing = download(here, "acme/tiny", check=True)
    assert missing["error"] == "NotDownloaded"
    assert missing["message"].endswith("vit download-weights acme/tiny")
    assert here.requests == []
    path = Path(download(here, "acme/tiny")["path"], "model.safetensors")
    here.requests.clear()
    assert all(f["verified"] for f in files(download(here, "acme/tiny", check=True)).values())
    path.resolve().write_bytes(b"half")
    wrong = download(here, "acme/tiny", check=True)
    assert wrong["error"] == "Corrupt"
    assert "model.safetensors" in wrong["message"]
    assert "vit download-weights acme/tiny" in wrong["message"]
    assert path.read_bytes() == b"half"
    assert here.requests == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everything")
def test_a_cache_that_cannot_be_repaired_is_said(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    path = Path(download(here, "acme/tiny")["path"])
    (path / "config.json").resolve().write_bytes(b"half")
    path.chmod(0o500)
    result = download(here, "acme/tiny")
    path.chmod(0o700)
    assert result["error"] == "HubError"
    assert "neither verified nor repaired" in result["message"]


def test_a_cache_of_copies_is_verified_by_asking_the_hub(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    copies = {"HF_HUB_DISABLE_SYMLINKS": "1"}
    path = Path(download(here, "acme/tiny", env=copies)["path"], "model.safetensors")
    assert not path.is_symlink()
    assert all(f["verified"] for f in files(download(here, "acme/tiny", env=copies)).values())
    offline = files(download(here, "acme/tiny", env={**copies, "HF_HUB_OFFLINE": "1"}))
    assert not any(f["verified"] for f in offline.values()), "nobody can say, so nobody may claim it"
    path.write_bytes(b"half")
    assert files(download(here, "acme/tiny", env=copies))["model.safetensors"]["replaced"]
    assert path.read_bytes() == WEIGHTS


TROUBLE: list[tuple[dict[str, Any], str, str]] = [
    ({"status": 503}, "Unreachable", "503"),
    ({"status": 500}, "Unreachable", "500"),
    ({"status": 429}, "Unreachable", "429"),
    ({"status": 401}, "Denied", "HF_TOKEN"),
    ({"status": 403}, "Denied", "HF_TOKEN"),
    ({"status": 404}, "NotFound", "HF_ENDPOINT"),
    ({"sleep": 2.0}, "Unreachable", "in time"),
    ({"cut": 10}, "Unreachable", "network"),
    ({"body": lambda data: b"<html>Welcome to the hotel</html>"}, "Unreachable", "HF_ENDPOINT"),
    ({"body": lambda data: b'{"id": "acme/tiny"}'}, "Unreachable", "HF_ENDPOINT"),
    ({"body": lambda data: b"[]"}, "Unreachable", "HF_ENDPOINT"),
]


def test_a_server_in_trouble_is_one_clear_sentence(here: Hub) -> None:
    names = [f"acme/trouble{number}" for number in range(len(TROUBLE))]
    for name, (fault, _, _) in zip(names, TROUBLE, strict=True):
        here.add(name, FILES)
        here.fault(f"{name}/revision/main", times=-1, **fault)
    results = downloads(here, *names, env={"HF_HUB_ETAG_TIMEOUT": "1"})
    for result, (fault, error, said) in zip(results, TROUBLE, strict=True):
        assert (result["error"], said in result["message"]) == (error, True), (fault, result)
        assert "\n" not in result["message"]
    assert kept(here) == set()


def test_a_fault_of_one_file_leaves_nothing_that_is_trusted(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    here.fault("model.safetensors", times=-1, status=403)
    result = download(here, "acme/tiny")
    assert result["error"] == "Denied"
    with pytest.raises(NotDownloaded):
        vit_hub.locate("acme/tiny")


def test_a_repository_that_does_not_exist_is_said_with_what_may_be_meant(here: Hub) -> None:
    result = download(here, "google/vit-bse-patch16-224")
    assert result["error"] == "NotFound"
    assert "Did you mean vit-base-patch16-224?" in result["message"]
    assert "HF_TOKEN" in result["message"]


def test_a_revision_that_does_not_exist_is_said(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    result = download(here, "acme/tiny@v9")
    assert (result["error"], "v9" in result["message"]) == ("NotFound", True)


def test_a_private_repository_opens_with_the_token_which_stays_on_the_hub(here: Hub) -> None:
    here.add("acme/secret", FILES, token="hf_right")
    assert download(here, "acme/secret")["error"] == "NotFound"  # a hub does not admit that it exists
    wrong = download(here, "acme/secret", env={"HF_TOKEN": "hf_wrong"})
    assert "the token in use does not open it" in wrong["message"]
    here.requests.clear()
    assert files(download(here, "acme/secret", env={"HF_TOKEN": "hf_right"}))["model.safetensors"]["verified"]
    assert {r.authorization for r in here.requests if not r.cdn} == {"Bearer hf_right"}
    assert {r.authorization for r in here.requests if r.cdn} == {None}


def test_a_gated_repository_says_where_to_ask(here: Hub) -> None:
    here.add("acme/gated", FILES, token="hf_right", gated=True)
    for env in ({}, {"HF_TOKEN": "hf_wrong"}):
        result = download(here, "acme/gated", env=env)
        assert result["error"] == "Denied"
        assert f"{here.url}/acme/gated" in result["message"]


def test_no_server_at_all_is_said_with_what_to_do(here: Hub) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = download(here, "acme/tiny", env={"HF_ENDPOINT": url})
    assert result["error"] == "Unreachable"
    for word in (url, "--model DIR", "HTTPS_PROXY"):
        assert word in result["message"]


def test_offline_means_offline(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    for env in (
        {"HF_HUB_OFFLINE": "1"},
        {"HF_HUB_OFFLINE": "yes"},
        {"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "1"},
    ):
        result = download(here, "acme/tiny", env=env)
        assert result["error"] == "NotDownloaded"
        assert result["message"].endswith("vit download-weights acme/tiny")
    assert here.requests == []


def test_a_proxy_is_used(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    env = {"HF_ENDPOINT": "http://hub.example", "HTTP_PROXY": here.url, "http_proxy": here.url}
    assert files(download(here, "acme/tiny", env=env))["model.safetensors"]["verified"]
    assert any(r.absolute for r in here.requests)


def test_what_is_in_xet_storage_too_comes_by_http(here: Hub) -> None:
    here.add("acme/tiny", FILES, xet=True)
    assert files(download(here, "acme/tiny"))["model.safetensors"]["verified"]
    assert not any("xet" in r.path for r in here.requests)


def test_the_client_says_who_asks(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    download(here, "acme/tiny")
    assert all("vitcli/" in r.agent for r in here.requests if not r.cdn)


def test_a_cache_that_cannot_be_written_is_said(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    here.home.write_text("a file where the folder should be")
    result = download(here, "acme/tiny")
    assert result["error"] == "HubError"
    assert "HF_HOME" in result["message"]


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no RLIMIT_FSIZE")
def test_a_full_disk_is_said_and_leaves_nothing(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    result = download(here, "acme/tiny", before=LIMITED)
    assert result["error"] == "HubError"
    assert "No room" in result["message"]
    assert "HF_HOME" in result["message"]
    assert kept(here) & {"model.safetensors", sha256(WEIGHTS)} == set()
    assert not list(here.cache.rglob("*.incomplete"))


def test_too_little_space_is_said_before_anything_is_fetched(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    full = "import shutil; shutil.disk_usage = lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000)\n"
    result = download(here, "acme/tiny", before=full)
    assert result["error"] == "HubError"
    assert "needs 1 MB" in result["message"]
    assert here.downloads() == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_every_way_of_a_full_disk_is_the_same_sentence(number: int) -> None:
    model = catalog.Model("acme/tiny")
    assert "No room" in str(client._explained(OSError(number, os.strerror(number)), model))


def test_an_error_nobody_thought_of_is_still_one_of_ours() -> None:
    error = client._explained(RuntimeError("gears\njammed"), catalog.Model("acme/tiny"))
    assert type(error) is HubError
    assert str(error) == "acme/tiny could not be fetched: gears"


@pytest.mark.parametrize(
    "env",
    [
        {}, {"HF_HOME": "/h"}, {"HF_HOME": "~/h"}, {"HF_HOME": "$HOME/h"}, {"XDG_CACHE_HOME": "/x"},
        {"HF_HUB_CACHE": "/c"}, {"HF_HUB_CACHE": "~/c", "HF_HOME": "/h"}, {"HUGGINGFACE_HUB_CACHE": "/d"},
        {"HF_HOME": "relative"},
        {"HUGGINGFACE_HUB_CACHE": "/d", "HF_HUB_CACHE": "/c"}, {"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"},
    ],
    ids=str,
)  # fmt: skip
def test_the_cache_is_where_the_client_has_it(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    constants = importlib.import_module("huggingface_hub.constants")
    for name in ("HF_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    source = Path(str(constants.__file__)).read_text()
    fresh: dict[str, Any] = {"__name__": "constants", "__file__": constants.__file__}
    exec(compile(source, "constants.py", "exec"), fresh)
    assert vit_hub.cache() == Path(fresh["HF_HUB_CACHE"])


def test_finding_weights_imports_nothing_that_costs(here: Hub) -> None:
    here.add("acme/tiny", FILES)
    path = download(here, "acme/tiny")["path"]
    code = (
        "import sys; from vitcli import hub; print(hub.locate('acme/tiny'));"
        "print([m for m in ('huggingface_hub', 'httpx', 'numpy', 'torch') if m in sys.modules])"
    )
    env = {**os.environ, **here.env}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [path, "[]"]


def test_weights_that_are_not_here_offer_the_command_that_fetches_them(here: Hub) -> None:
    with pytest.raises(NotDownloaded) as error:
        vit_hub.locate(catalog.DEFAULT)
    assert str(error.value).endswith("vit download-weights vit-base-patch16-224")
    with pytest.raises(NotDownloaded, match="vit download-weights acme/tiny@v2"):
        vit_hub.locate("acme/tiny", "v2")


@pytest.mark.parametrize("name", ["vit-bse-patch16-224", "", "a/b/c", "../x", "acme/../x", "acme/x@../y", "a--b/c"])
def test_a_name_that_can_be_no_model_is_refused_without_touching_anything(here: Hub, name: str) -> None:
    with pytest.raises(NotFound, match="vit models"):
        vit_hub.locate(name)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"../../elsewhere", b"main"])
def test_a_damaged_reference_is_not_followed(here: Hub, content: bytes) -> None:
    reference = here.cache / "models--acme--tiny" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_bytes(content)
    with pytest.raises(NotDownloaded):
        vit_hub.locate("acme/tiny")


def test_deleting_a_wrong_file_never_leaves_the_cache(here: Hub, tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"my own weights")
    folder = here.cache / "models--acme--tiny" / "snapshots" / "0" / "x"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").symlink_to(mine)
    vit_hub._remove(folder / "model.safetensors")
    assert not (folder / "model.safetensors").is_symlink()
    assert mine.read_bytes() == b"my own weights"
