"""What is said to a person: consoles, progress and the shape of an error on stderr. Data never goes through here."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def out() -> Console:
    """For data that is a table: stdout, with colour only on a terminal."""
    from rich.console import Console

    return Console(highlight=False, emoji=False, markup=False)


def err() -> Console:
    """For everything said to a person: stderr, with colour only on a terminal."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)


def error(message: str) -> None:
    """One error, in one or two sentences, harmless whatever file names it holds."""
    from rich.text import Text

    err().print(Text.assemble(("error: ", "bold red"), printable(message)))


def note(message: str) -> None:
    """Something worth knowing that stops nothing."""
    from rich.text import Text

    err().print(Text.assemble(("note: ", "bold yellow"), printable(message)))


def printable(text: str) -> str:
    """File names are data: control and direction-changing characters are shown as escapes, never obeyed."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def debugging() -> bool:
    """Whether tracebacks were asked for, with --debug or VIT_DEBUG=1."""
    return "--debug" in sys.argv or os.environ.get("VIT_DEBUG", "") not in ("", "0")
