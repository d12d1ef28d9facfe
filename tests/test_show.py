"""`--show`: pictures in a terminal that can, nothing of them anywhere else."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from vitcli.results import Failure, Label, Prediction
from vitcli.writers import sketch
from vitcli.writers.base import Options
from vitcli.writers.table import Table

Vit = Callable[..., Any]
COLOURS = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, columns: int, show: bool = True) -> str:
    """A table of one picture, upper half red and lower half blue, and of one failure."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :, 0] = pixels[16:, :, 2] = 255
    terminal = Terminal()
    with Table(None, Options(show=show), terminal) as table:
        table.show(pixels, (0, 0, 300, 200))
        table.write(Prediction("cat.jpg", (Label(1, None, "Egyptian cat", 0.7),), (300, 200)))
        table.write(Failure("bad.jpg", "truncated", "It ends too early."))
    return terminal.getvalue()


def test_a_cell_shows_two_pixels() -> None:
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 2, 3))
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=20)
    console.print(sketch.HalfBlocks(picture))
    found = [tuple(map(int, cell)) for cell in COLOURS.findall(console.file.getvalue())]  # type: ignore[attr-defined]
    assert found == [(0, 1, 2, 6, 7, 8), (3, 4, 5, 9, 10, 11), (12, 13, 14, 18, 19, 20), (15, 16, 17, 21, 22, 23)]


def test_a_picture_stands_beside_its_row_in_its_proportions(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 100).splitlines()
    drawn = [line for line in lines if "▀" in line]
    assert [line.count("▀") for line in drawn] == [20] * len(drawn)
    assert len(drawn) == 7  # 20 by 13 1/3 pixels, two of them a line
    assert COLOURS.search(drawn[0])[0].startswith("\x1b[38;2;255;0;0;48;2;255;0;0m")  # type: ignore[index]
    assert "Egyptian cat" in drawn[0]
    assert not any("▀" in line for line in lines if "bad.jpg" in line)


@pytest.mark.parametrize("columns", [30, 60])
def test_a_narrow_terminal_keeps_its_room_for_the_words(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    assert printed(monkeypatch, columns) == printed(monkeypatch, columns, show=False)


def test_a_pipe_stays_clean(vit: Vit, tiny: Path, picture: Path) -> None:
    plain = vit("classify", picture, "-m", tiny)
    shown = vit("classify", picture, "-m", tiny, "--show", env={"FORCE_COLOR": ""})
    assert shown.stdout == plain.stdout
    assert "\x1b" not in shown.stdout


def test_other_formats_show_nothing(vit: Vit, tiny: Path, picture: Path, tmp_path: Path) -> None:
    for more in (["-f", "jsonl"], ["-o", tmp_path / "r.csv"], ["-o", tmp_path / "r.sqlite"]):
        done = vit("classify", picture, "-m", tiny, "--show", *more)
        assert done.returncode == 2
        assert "--show means nothing" in done.stderr


def test_where_stdin_holds_names_the_terminal_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("cat.jpg\n"))
    sketch.protocol.cache_clear()
    assert sketch.protocol() is None
    sketch.protocol.cache_clear()
