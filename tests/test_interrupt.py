"""Ctrl-C and SIGTERM: the rows so far are whole, the summary is told, the status is 130."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from awkward import noise, rows

COMMAND = Path(sys.executable).with_name("vit")
COUNT = 60

# The command, with a decoder that says when it comes to `30slow.png` and then takes as long as it is told to.
SLOW = """
import os, sys, time
from vitcli.pictures import images
from vitcli.cli import main
load = images.load
def slowly(source, **options):
    if "slow" in str(source):
        print("decoding", file=sys.stderr, flush=True)
        time.sleep(float(os.environ["SECONDS"]))
    return load(source, **options)
images.load = slowly
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures; `30slow.png` is in their middle."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(COUNT):
        noise(i).save(folder / f"{i}.png")
    noise(0).save(folder / "30slow.png")
    return folder


def arguments(folder: Path, tiny: Path, *more: object) -> list[str]:
    return ["classify", *map(str, (folder, "--model", tiny, "--engine", "numpy", "--batch", 4, *more))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_the_output_is_whole_and_can_be_gone_on_with(
    tiny: Path, folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out.jsonl"
    slow = [sys.executable, "-c", SLOW, *arguments(folder, tiny, "-o", out)]
    run = subprocess.Popen(slow, env={**os.environ, "SECONDS": "1"}, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    while run.stderr.readline() != "decoding\n":
        pass
    run.send_signal(number)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130, said
    assert "Interrupted after" in said
    assert "Traceback" not in said
    part = rows(out)
    assert 0 < len(part) <= 32
    done = subprocess.run([COMMAND, *arguments(folder, tiny, "-o", out, "--resume")], capture_output=True, text=True)
    assert done.returncode == 0
    assert f"{len(part)} were done before" in done.stderr
    assert len(rows(out)) == COUNT + 1
    assert set(part) <= set(rows(out))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_it_waits_for_names_it_ends_at_once(tiny: Path, folder: Path, number: signal.Signals) -> None:
    run = subprocess.Popen(
        [COMMAND, *arguments(Path("-"), tiny, "-f", "jsonl")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert run.stdin is not None
    assert run.stdout is not None
    run.stdin.write(b"".join(os.fsencode(folder / f"{i}.png") + b"\n" for i in range(COUNT)))
    run.stdin.flush()
    json.loads(run.stdout.readline())
    run.send_signal(number)
    rest, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert b"Interrupted after" in said
    assert b"Traceback" not in said
    assert all(json.loads(line)["status"] == "ok" for line in rest.splitlines())


def test_the_second_ctrl_c_stops_at_once(tiny: Path, folder: Path) -> None:
    slow = [sys.executable, "-c", SLOW, *arguments(folder, tiny, "-f", "jsonl")]
    run = subprocess.Popen(
        slow, env={**os.environ, "SECONDS": "600"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert run.stderr is not None
    while run.stderr.readline() != "decoding\n":
        pass
    run.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(1)
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == -signal.SIGINT
    run.stderr.close()


def test_a_signal_that_is_ignored_stays_so(tiny: Path, folder: Path) -> None:
    slow = [sys.executable, "-c", SLOW, *arguments(folder, tiny, "-f", "jsonl")]
    run = subprocess.Popen(
        slow, env={**os.environ, "SECONDS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert run.stderr is not None
    while run.stderr.readline() != "decoding\n":
        pass
    run.send_signal(signal.SIGINT)
    found, said = run.communicate(timeout=60)
    assert run.returncode == 0, said
    assert len(found.splitlines()) == COUNT + 1


def test_names_in_a_pipe_are_answered_as_they_come(tiny: Path, folder: Path) -> None:
    run = subprocess.Popen(
        [COMMAND, *arguments(Path("-"), tiny, "-f", "jsonl", "--quiet")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert run.stdin is not None
    assert run.stdout is not None
    for i in range(3):
        run.stdin.write(os.fsencode(folder / f"{i}.png") + b"\n")
        run.stdin.flush()
        assert json.loads(run.stdout.readline())["path"] == str(folder / f"{i}.png")
    assert run.communicate(timeout=60)[0] == b""
    assert run.returncode == 0
