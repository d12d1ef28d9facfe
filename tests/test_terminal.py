"""What a person sees: the table and the progress bar on a real terminal (a pty), in any width."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from conftest import noise
from rich.cells import cell_len

from vitcli.cli.console import Pace

VIT = Path(sys.executable).with_name("vit")


def on_terminal(
    columns: int, *arguments: object, encoding: str = "utf-8", typed: str = "", term: str = "xterm-256color"
) -> tuple[str, int]:
    """Everything `vit` puts on a terminal of that many columns where somebody typed, and its exit status."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    env |= {"TERM": term, "PYTHONIOENCODING": encoding}
    process = subprocess.Popen(
        [VIT, *map(str, arguments)], stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    with contextlib.suppress(OSError):  # EIO when the other end is closed
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    return shown.decode(encoding), process.wait()


def lines(shown: str) -> list[str]:
    """The lines of an output without colours and movements."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r", "").split("\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(12):
        noise(i).save(folder / f"a-picture-with-quite-a-long-name-{i}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_table_fits_any_width(tiny: Path, folder: Path, columns: int) -> None:
    shown, status = on_terminal(columns, "classify", folder, "--model", tiny, "--topk", 2, "--quiet")
    table = [line for line in lines(shown) if line.strip()]
    assert max(cell_len(line) for line in table) <= columns
    assert "\x1b[" in shown  # colour
    assert ("━" in shown) == (columns >= 60)  # bars
    assert sum("class " in line or "LABEL_" in line for line in table) >= 24
    assert status == 3


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_with_one_label_a_picture_is_one_line_and_keeps_its_ending(tiny: Path, folder: Path, columns: int) -> None:
    shown, _ = on_terminal(columns, "classify", folder, "--model", tiny, "--topk", 1, "--quiet")
    table = [line for line in lines(shown) if line.strip()]
    assert max(cell_len(line) for line in table) <= columns
    for i in range(12):
        assert sum(f"{i}.png " in line and "LABEL_" in line for line in table) >= 1
    assert len([line for line in table if "LABEL_" in line]) == 12
    assert table[0].split() == ["Picture", "Label", "Score"]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_no_message_is_broken_inside_a_word(tiny: Path, folder: Path, columns: int) -> None:
    options = ("--model", tiny, "-k", 1, "--verbose")
    shown, _ = on_terminal(columns, "classify", folder, *options)
    words = set(re.findall(r"[a-z]{4,}", " ".join(lines(shown))))
    for word in ("classified", "failed", "truncated", "forward", "decoding", "limit", "early", "download"):
        assert word in words, shown
    shown, _ = on_terminal(columns, "classify", folder, "--model", tiny, "--engine", "nump")
    assert {"auto", "torch", "numpy", "mean"} <= set(re.findall(r"[a-z]{4,}", " ".join(lines(shown))))


@pytest.mark.parametrize("variables", [{"FORCE_COLOR": "1"}, {"CLICOLOR_FORCE": "1"}, {"TTY_COMPATIBLE": "1"}])
def test_nothing_is_drawn_on_a_pipe_whatever_the_colours(tiny: Path, folder: Path, variables: dict[str, str]) -> None:
    command = [VIT, "classify", folder, folder, "--model", tiny, "-f", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, check=False)
    assert done.returncode == 3
    assert "━" not in done.stderr + done.stdout
    assert "\r" not in done.stderr


@pytest.mark.parametrize(("size", "seconds"), [(1, 0.02), (1, 0.5), (32, 2.0), (128, 20.0)])
def test_the_rate_is_that_of_finished_pictures_from_the_second_update_on(size: int, seconds: float) -> None:
    """Batches of `size` pictures that come every so many seconds, their pictures a millisecond apart."""
    now = 0.0
    pace = Pace(lambda: now)
    done = 0
    for batch in range(1, 60):
        now = batch * seconds
        for _ in range(size):
            done += 1
            now += 0.00001
            pace.update(done)
        if batch >= 2:
            assert pace.rate == pytest.approx(size / seconds, rel=0.1)


def test_however_fast_pictures_come_little_is_remembered() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    for done in range(1, 100_001):
        now += 0.0005
        pace.update(done)
    assert len(pace.points) < 200
    assert pace.rate == pytest.approx(2000, rel=0.01)


def test_the_rate_follows_a_change_within_the_window() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    for done in range(1, 2001):
        now += 0.01 if done < 1000 else 0.1
        pace.update(done)
    assert pace.rate == pytest.approx(10, rel=0.1)
    assert (pace.left(2000), pace.left(2620), pace.left(42_000)) == ("0:00", "1:02", "1:06:40")


def test_a_longer_run_shows_a_bar_with_its_rate_and_leaves_nothing_behind(tiny: Path, folder: Path) -> None:
    options = ("--model", tiny, "-o", folder / "x.jsonl", "--batch", 4, "--engine", "torch")
    shown, status = on_terminal(100, "classify", folder, folder, *options)
    assert "Traceback" not in shown
    assert re.search(r"\d+/(26|\?)", shown), shown  # the folder may not be counted before the run is over
    assert status == 3


def test_names_cannot_write_to_the_terminal(tiny: Path, tmp_path: Path) -> None:
    for name in [
        "esc\x1b[31mred.png",
        "osc\x1b]0;title\x07.png",
        "[red]markup[bold.png",
        "rlo\u202egnp.png",
        "a\nb.png",
    ]:
        noise(0).save(tmp_path / name)
    shown, status = on_terminal(120, "classify", tmp_path, "--model", tiny, "-k", 1, "--quiet")
    assert status == 0
    assert "\x1b]0;" not in shown
    assert "\x1b[31mred" not in shown
    assert "\u202e" not in shown
    assert "[red]markup[bold.png" in "".join(lines(shown))


def test_a_terminal_without_unicode_gets_a_table_too(tiny: Path, folder: Path) -> None:
    shown, status = on_terminal(80, "classify", folder, "--model", tiny, "-k", 2, "--quiet", encoding="ascii")
    assert status == 3
    assert "Traceback" not in shown
    assert "broken.png" in shown


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "latin-1", "ascii", "cp932"])
def test_an_encoding_without_our_signs_gets_plainer_ones(tiny: Path, folder: Path, encoding: str) -> None:
    """Pipes on Windows, and LC_ALL=C."""
    command = [VIT, "classify", ".", "--model", tiny, "-k", "2", "--min-score", "0.5", "--quiet"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=environment, cwd=folder, check=False)
    shown = done.stdout.decode(encoding)
    assert done.returncode == 3
    assert "\\u" not in shown
    assert max(len(line) for line in shown.splitlines()) <= 101
    rules = [line for line in shown.splitlines() if set(line) in ({"-"}, {"─"})]
    assert len(rules) == 13
    assert re.search(r"broken\.png +x ", shown), shown


def test_names_that_an_encoding_does_not_have_are_escapes(tiny: Path, tmp_path: Path) -> None:
    noise(0).save(tmp_path / "写真é.png")
    command = [VIT, "classify", tmp_path, "--model", tiny, "-k", "1", "--quiet"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert "\\u5199\\u771fé.png" in done.stdout.decode("cp1252")


def test_a_terminal_that_cannot_go_back_gets_lines_alone(tiny: Path, folder: Path) -> None:
    shown, status = on_terminal(80, "classify", folder, folder, "--model", tiny, "-k", 1, "--batch", 4, term="dumb")
    assert status == 3
    assert "\x1b" not in shown
    assert "\r" not in shown.replace("\r\n", "\n")
    assert max(cell_len(line) for line in lines(shown)) <= 80
