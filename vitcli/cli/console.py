"""Messages for a person: consoles, progress and errors on stderr. Rows never go through here."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from vitcli import escaping

if TYPE_CHECKING:
    from rich.console import Console


def out() -> Console:
    """For results that are a table: stdout, with colour only on a terminal."""
    from rich.console import Console

    return Console(highlight=False, emoji=False, markup=False)


def document(found: Any) -> None:
    """JSON-ready values on stdout, as one document in ASCII."""
    import json

    import typer

    typer.echo(json.dumps(escaping.strict(found), indent=2))


def err() -> Console:
    """For messages: stderr, with colour only on a terminal."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False, markup=False, soft_wrap=True)


def error(message: str) -> None:
    """One error, in one or two sentences, harmless whatever file names it holds."""
    from rich.text import Text

    err().print(Text.assemble(("error: ", "bold red"), escaping.printable(message)))


def note(message: str) -> None:
    """Something worth knowing that stops nothing."""
    from rich.text import Text

    err().print(Text.assemble(("note: ", "bold yellow"), escaping.printable(message)))


def say(message: str) -> None:
    """A plain line."""
    from rich.text import Text

    err().print(Text(escaping.printable(message)))


def debugging() -> bool:
    """Whether tracebacks were asked for, with --debug or VIT_DEBUG=1."""
    options = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    return "--debug" in options or os.environ.get("VIT_DEBUG", "") not in ("", "0")


@contextlib.contextmanager
def progress(shown: bool, console: Console, count: Callable[[], int] | None = None) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left on `console`; yields what to call with how many are done.

    `count` says how many there are. It may take its time (a folder has to be walked for it), so it runs beside the
    work; until it is done the bar has no end.
    """
    if not shown or not console.is_terminal:
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f} pictures/s" if task.speed else "starting", "dim")

    with Progress(
        BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        if count is not None:
            threading.Thread(target=lambda: bar.update(task, total=count()), daemon=True).start()
        yield lambda done: bar.update(task, completed=done)
