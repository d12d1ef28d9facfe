"""Draws `demo.svg` and writes `demo.txt`: what `vit classify` prints, as a picture and as text.

VIT_MODEL=DIR python docs/demo.py        (from the top folder)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COMMAND = "vit classify sample_images --topk 3"
COLUMNS = 80


def output(**environment: str) -> str:
    """What the command prints."""
    vit = Path(sys.executable).with_name("vit")
    arguments = [vit, *COMMAND.split()[1:]]
    return subprocess.run(
        arguments, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **environment}
    ).stdout


def main() -> None:
    """Run the command twice: as on a pipe for the text, as in a terminal for the picture."""
    (HERE / "demo.txt").write_text(f"$ {COMMAND}\n{output()}", encoding="utf-8")
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, force_terminal=True, file=nowhere)
        console.print(Text.assemble(("$ ", "bold green"), COMMAND, "\n"))
        console.print(Text.from_ansi(output(FORCE_COLOR="1", COLUMNS=str(COLUMNS))))
    console.save_svg(str(HERE / "demo.svg"), title="vit", unique_id="vit")


if __name__ == "__main__":
    main()
