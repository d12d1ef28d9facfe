"""`vit download-weights`, as a user runs it: what goes where, which status, and what an interruption leaves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub_server import Hub, sha256
from vitcli import hub as vit_hub
from vitcli.errors import NotDownloaded

Vit = Callable[..., subprocess.CompletedProcess[str]]

WEIGHTS = bytes(range(256)) * 4096
FILES = {"config.json": b"{}", "preprocessor_config.json": b'{"size": 224}', "model.safetensors": WEIGHTS}
VIT = Path(sys.executable).with_name("vit")


def test_the_path_is_data_and_the_rest_is_said_to_the_person(vit: Vit, hub: Hub) -> None:
    commit = hub.add("acme/tiny", FILES)
    done = vit("download-weights", "acme/tiny", env=hub.env)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.removesuffix("\n"))
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert f"commit {commit}" in done.stderr
    row = next(line for line in done.stderr.splitlines() if line.startswith("model.safetensors"))
    assert "1.0 MB" in row
    assert sha256(WEIGHTS)[:12] in row
    assert row.endswith("fetched, verified")
    assert "\x1b" not in done.stderr
    assert "%" not in done.stderr, "no progress bar on a pipe"


def test_a_second_time_it_verifies_and_says_so(vit: Vit, hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    first = vit("download-weights", "acme/tiny", env=hub.env)
    hub.requests.clear()
    again = vit("download-weights", "acme/tiny", env=hub.env | {"HF_HUB_OFFLINE": "1"})
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert again.stderr.count("already there, verified") == 3
    assert hub.requests == []


def test_quiet_leaves_only_the_path(vit: Vit, hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    done = vit("download-weights", "acme/tiny", "--quiet", env=hub.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).is_dir()


def test_check_exits_with_1_when_something_is_missing_or_wrong(vit: Vit, hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    missing = vit("download-weights", "acme/tiny", "--check", env=hub.env)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "vit download-weights acme/tiny" in missing.stderr
    path = Path(vit("download-weights", "acme/tiny", env=hub.env).stdout.strip())
    assert vit("download-weights", "acme/tiny", "--check", env=hub.env).returncode == 0
    (path / "model.safetensors").resolve().write_bytes(WEIGHTS[:-1])
    wrong = vit("download-weights", "acme/tiny", "--check", env=hub.env)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "model.safetensors" in wrong.stderr
    repaired = vit("download-weights", "acme/tiny", env=hub.env)
    assert "replaced a wrong file, verified" in repaired.stderr


def test_force_and_check_cannot_both_be_meant(vit: Vit, hub: Hub) -> None:
    assert vit("download-weights", "--force", "--check", env=hub.env).returncode == 2


@pytest.mark.parametrize("name", ["vit-bse-patch16-224", "[red]no[/red]", "\x1b[31mx"])
def test_a_name_that_is_none_is_one_harmless_sentence(vit: Vit, hub: Hub, name: str) -> None:
    done = vit("download-weights", name, env=hub.env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: No model is called ")
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr


def test_an_error_is_one_sentence_and_debug_shows_the_cause(vit: Vit, hub: Hub) -> None:
    hub.add("acme/tiny", FILES)
    hub.fault("/revision/main", times=2, status=503)
    done = vit("download-weights", "acme/tiny", env=hub.env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "503" in done.stderr
    debug = vit("download-weights", "acme/tiny", "--debug", env=hub.env)
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr


def test_weights_in_the_cache_classify_without_the_network(vit: Vit, hub: Hub, tiny: Path, picture: Path) -> None:
    hub.add("acme/tiny", tiny)
    classify = ("classify", picture, "--model", "acme/tiny", "--format", "jsonl")
    missing = vit(*classify, env=hub.env)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.endswith("vit download-weights acme/tiny\n")
    assert hub.requests == [], "asking is not fetching"
    assert vit("download-weights", "acme/tiny", env=hub.env).returncode == 0
    hub.requests.clear()
    for env in (hub.env, hub.env | {"HF_HUB_OFFLINE": "1"}, hub.env | {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        done = vit(*classify, env=env)
        assert done.returncode == 0, done.stderr
        assert '"status": "ok"' in done.stdout
    assert hub.requests == []


def start(hub: Hub) -> subprocess.Popen[str]:
    """A download that is in the middle of the weights, and slow."""
    hub.add("acme/tiny", FILES)
    hub.fault("model.safetensors", pace=0.5)
    run = subprocess.Popen(
        [VIT, "download-weights", "acme/tiny"], env={**os.environ, **hub.env}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until = time.monotonic() + 30
    while not any(r.path.endswith("model.safetensors") and r.cdn for r in hub.requests):
        assert time.monotonic() < until
        time.sleep(0.02)
    return run


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_download_leaves_nothing_that_is_trusted(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, vit: Vit, how: signal.Signals, status: int
) -> None:
    run = start(hub)
    run.send_signal(how)
    out, err = run.communicate(timeout=30)
    assert (run.returncode, out) == (status, "")
    assert "Traceback" not in err
    monkeypatch.setenv("HF_HOME", str(hub.home))
    with pytest.raises(NotDownloaded):
        vit_hub.locate("acme/tiny")
    again = vit("download-weights", "acme/tiny", env=hub.env)
    assert again.returncode == 0
    assert re.search(r"model\.safetensors .* fetched, verified", again.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_a_terminal_gets_the_clients_progress_bar(hub: Hub) -> None:
    import fcntl
    import pty
    import struct
    import termios

    hub.add("acme/tiny", FILES)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    done = subprocess.run(
        [VIT, "download-weights", "acme/tiny"], env={**os.environ, **hub.env, "TERM": "xterm"}, stdout=subprocess.PIPE,
        stderr=slave, timeout=60, check=True,
    )  # fmt: skip
    os.close(slave)
    said = os.read(master, 1 << 16).decode()
    os.close(master)
    assert "model.safetensors: 100%" in said
    assert "%" not in done.stdout.decode()
