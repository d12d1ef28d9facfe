"""Draws `demo.svg` and writes `demo.txt`: what `vit classify` prints, as a picture and as text.

VIT_MODEL=DIR python docs/demo.py        (from the top folder)

In the picture each of the pictures stands beside its rows.
"""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageOps
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COMMAND = "vit classify sample_images --topk 3"
COLUMNS = 80
LINE, TOP = 24.4, 41.0  # how rich draws a terminal: pixels a line, and above the first
SIDE, GAP = 66, 18  # a thumbnail, and the room around it


def output(**environment: str) -> str:
    """What the command prints."""
    vit = Path(sys.executable).with_name("vit")
    arguments = [vit, *COMMAND.split()[1:]]
    return subprocess.run(
        arguments, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **environment}
    ).stdout


def thumbnail(path: Path) -> str:
    """A picture as an address that holds its bytes."""
    small = io.BytesIO()
    with Image.open(path) as picture:
        ImageOps.fit(picture.convert("RGB"), (2 * SIDE, 2 * SIDE)).save(small, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(small.getvalue()).decode()


def with_pictures(svg: str, lines: list[str]) -> str:
    """The terminal, widened, with a thumbnail beside the first line of each picture's rows."""
    wider = SIDE + GAP
    box = re.search(r'viewBox="0 0 ([\d.]+)', svg)
    frame = re.search(r'<rect fill="#292929"[^>]* width="([\d.]+)"', svg)
    assert box is not None
    assert frame is not None
    width = float(box[1])
    for found in (box, frame):
        svg = svg.replace(found[0], found[0].replace(found[1], f"{float(found[1]) + wider:g}"))
    images = []
    for number, line in enumerate(lines):
        if found := re.match(r"(sample_images/\S*?) ", line + " "):
            name = found[1] if (HERE.parent / found[1]).is_file() else found[1] + lines[number + 1].split()[0]
            x, y = width - 2, TOP + LINE * number + 4
            images.append(
                f'<image x="{x:g}" y="{y:g}" width="{SIDE}" height="{SIDE}" href="{thumbnail(HERE.parent / name)}"/>'
            )
    return svg.replace("</svg>", "\n".join(images) + "\n</svg>")


def main() -> None:
    """Run the command twice: as on a pipe for the text, as in a terminal for the picture."""
    (HERE / "demo.txt").write_text(f"$ {COMMAND}\n{output()}", encoding="utf-8")
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, force_terminal=True, file=nowhere)
        console.print(Text.assemble(("$ ", "bold green"), COMMAND, "\n"))
        console.print(Text.from_ansi(output(FORCE_COLOR="1", COLUMNS=str(COLUMNS))))
    lines = console.export_text(clear=False).splitlines()
    svg = console.export_svg(title="vit", unique_id="vit")
    (HERE / "demo.svg").write_text(with_pictures(svg, lines), encoding="utf-8")


if __name__ == "__main__":
    main()
