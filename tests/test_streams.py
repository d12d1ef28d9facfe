"""Stdin, stdout and stderr that are closed, full, left by their reader or ASCII only: a sentence, the right status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import noise

VIT = (sys.executable, "-m", "vitcli")
FULL = Path("/dev/full")
COMMANDS = [
    ("--help",), ("--version",), ("models",), ("models", "--format", "json"), ("classify", "--help"),
    ("inspect", "MODEL"), ("inspect", "MODEL", "--format", "json"), ("--show-completion", "bash"),
    *((name, "--help") for name in ("bench", "convert", "download-weights", "inspect", "models", "verify")),
]  # fmt: skip
FORMATS = ("table", "json", "jsonl", "csv")
ROWS = [("classify", "PICTURE", "--quiet", "--model", "MODEL", "--format", form) for form in FORMATS]


def run(redirected: str, *arguments: object, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """`vit` under a shell that redirects its streams."""
    command = ["sh", "-c", f'exec "$0" "$@" {redirected}', *VIT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, env=os.environ | environ, stdin=subprocess.DEVNULL, timeout=60)
    assert b"Traceback" not in done.stderr + done.stdout
    assert b"Exception ignored" not in done.stderr
    return done


def filled(command: tuple[str, ...], tiny: Path, picture: Path) -> list[str]:
    return [str({"MODEL": tiny, "PICTURE": picture}.get(word, word)) for word in command]


@pytest.mark.parametrize("command", [*COMMANDS, *ROWS], ids=" ".join)
def test_a_stdout_that_takes_nothing_is_said_in_a_sentence(command: tuple[str, ...], tiny: Path, picture: Path) -> None:
    refusals = {">&-": "it is closed"} | ({f">{FULL}": "No space left on device"} if FULL.exists() else {})
    for redirected, why in refusals.items():
        done = run(redirected, *filled(command, tiny, picture))
        assert (done.returncode, done.stderr.decode()) == (1, f"error: stdout cannot be written ({why}).\n")


@pytest.mark.parametrize("command", [*COMMANDS, *ROWS], ids=" ".join)
def test_a_reader_that_leaves_is_no_error(command: tuple[str, ...], tiny: Path, picture: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run([*VIT, *filled(command, tiny, picture)], stdout=theirs, stderr=subprocess.PIPE, timeout=60)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, b"")


def test_with_stdout_closed_rows_go_to_their_file(tiny: Path, picture: Path, tmp_path: Path) -> None:
    done = run(">&-", "classify", picture, "--model", tiny, "-q", "-o", tmp_path / "out.jsonl")
    assert (done.returncode, done.stderr) == (0, b"")
    (row,) = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(row)["path"] == str(picture)


@pytest.mark.parametrize("form", FORMATS)
def test_a_stdout_that_is_closed_is_no_file_of_rows_either(form: str, tiny: Path, picture: Path) -> None:
    done = run(">&-", "classify", picture, "--model", tiny, "-q", "-f", form, "-o", "/dev/stdout")
    assert (done.returncode, done.stderr.count(b"\n"), b"cannot be written" in done.stderr) == (1, 1, True)


def test_a_conversion_that_cannot_be_told_of_is_whole(tiny: Path, tmp_path: Path) -> None:
    assert run(">&-", "convert", tiny, tmp_path / "out").returncode == 1
    assert run("", "inspect", tmp_path / "out").returncode == 0


@pytest.mark.parametrize("command", [("bench", "--repeats", "1000"), ("verify", "nothere")], ids=" ".join)
def test_a_closed_stdout_is_said_before_long_work(command: tuple[str, ...]) -> None:
    done = run(">&-", *command, VIT_MODEL="nothere")
    assert (done.returncode, done.stderr) == (1, b"error: stdout cannot be written (it is closed).\n")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("form", ["table", "json"])
def test_reports_that_find_no_room_are_one_sentence(form: str, tiny: Path, picture: Path, tmp_path: Path) -> None:
    commands: list[tuple[object, ...]] = [
        ("bench", picture, "--model", tiny, "--repeats", "1", "--batch", "1", "--engines", "numpy", "-q", "-f", form),
        ("verify", tiny, picture, "--engine", "numpy", "-q", "-f", form),
        ("convert", tiny, tmp_path / "out", "-q"),
    ]
    for command in commands:
        done = run(f">{FULL}", *command)
        assert done.returncode == 1, command
        assert done.stderr.decode().endswith("error: stdout cannot be written (No space left on device).\n"), command


@pytest.mark.parametrize("redirected", ["2>&-", *([f"2>{FULL}"] if FULL.exists() else [])])
def test_what_nobody_can_be_told_stops_nothing(redirected: str, tiny: Path, picture: Path) -> None:
    done = run(redirected, "classify", picture, "nothere", "--model", tiny, "-f", "jsonl")
    assert (done.returncode, len(done.stdout.splitlines())) == (3, 2)
    assert run(redirected, "nothere").returncode == 2
    assert run(redirected, "inspect", "nothere").returncode == 2


@pytest.mark.parametrize("source", ["-", "--stdin-image"])
def test_a_stdin_that_is_closed_is_one_failed_input(source: str, tiny: Path) -> None:
    done = run("<&-", "classify", source, "--model", tiny, "-f", "jsonl")
    row = json.loads(done.stdout)
    assert (done.returncode, row["path"], row["error"]) == (3, "-", "unreadable")
    assert "stdin cannot be read" in row["message"]


def test_without_stdin_weights_that_are_not_here_are_asked_for_in_words() -> None:
    done = run("<&-", "classify", "x.jpg")
    assert done.returncode == 1
    assert b"vit download-weights" in done.stderr


@pytest.mark.parametrize("command", [*COMMANDS, *ROWS], ids=" ".join)
def test_what_an_encoding_does_not_have_is_escaped(command: tuple[str, ...], tiny: Path, tmp_path: Path) -> None:
    picture = tmp_path / "写真é.png"
    noise(0).save(picture)
    done = run("", *filled(command, tiny, picture), PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0, done.stderr
    if command[-1] in ("json", "jsonl"):
        assert json.loads(done.stdout.decode("ascii"))
    elif "PICTURE" in command and command[-1] == "table":
        assert "\\u5199" in done.stdout.decode("ascii")


def test_a_pipe_that_does_not_block_is_waited_for(tiny: Path, picture: Path) -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    many = [*VIT, "classify", *[picture] * 600, "--model", tiny, "-f", "jsonl", "-q", "-k", "10"]
    process = subprocess.Popen([*map(str, many)], stdout=theirs, stderr=subprocess.PIPE)
    with process, os.fdopen(ours, "rb") as end:
        os.close(theirs)
        time.sleep(2)  # until the pipe's 64 kB are full
        rows = end.read().splitlines()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert (process.returncode, len(rows)) == (0, 600)


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-this-name/x", "x/" + "y" * 5000, "/" + "x/" * 3000])
def test_a_model_that_no_file_can_be_called_is_said_in_a_sentence(name: str) -> None:
    for command in (("classify", "x.jpg", "-m"), ("inspect",)):
        done = run("", *command, name)
        assert (done.returncode, len(done.stderr) < 400) == (2, True)
        assert b"no such file or folder" in done.stderr


def test_the_folder_one_is_in_can_be_the_model(tiny: Path) -> None:
    done = subprocess.run([*VIT, "inspect", "."], capture_output=True, cwd=tiny, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    done = run("", "inspect", "/")
    assert (done.returncode, b"holds no weights" in done.stderr) == (1, True)


def test_ctrl_c_at_the_very_beginning_needs_no_words(tiny: Path, picture: Path) -> None:
    # Python's own start, the first hundredths of a second, is nobody's to handle: `import vitcli` is waited for
    code = "import vitcli.__main__ as it; print(flush=True); it.main()"
    for delay in (0.005, 0.02, 0.04, 0.06, 0.1):
        command = [sys.executable, "-c", code, "classify", str(picture), "-m", str(tiny)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            assert process.stderr.read() in (b"", b"Interrupted.\n")
        assert process.returncode in (130, -signal.SIGINT)


def test_ctrl_c_within_an_import_ends_the_run_and_leaves_no_lock_behind(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import os, signal, vitcli.__main__ as it\n"
                                      "signal.signal(signal.SIGINT, it.interrupt)\n"
                                      "os.kill(os.getpid(), signal.SIGINT)\n")  # fmt: skip
    for code, status in (("import slow", 130), ("exec(open('slow.py').read())", -signal.SIGINT)):
        code = f"import sys; sys.path[0] = '.'\ntry:\n {code}\nexcept KeyboardInterrupt: raise\nprint('went on')"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (status, ""), done.stderr
