"""Messages for a person: consoles, progress and errors on stderr. Rows never go through here."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
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

    console = Console(stderr=True, highlight=False, emoji=False, markup=False)
    console.soft_wrap = (
        not console.file.isatty()
    )  # a terminal gets its lines broken between words, a file gets them whole
    return console


def error(message: str) -> None:
    """One error, in one or two sentences, harmless whatever file names it holds."""
    _say("error: ", "bold red", message)


def note(message: str) -> None:
    """Something worth knowing that stops nothing."""
    _say("note: ", "bold yellow", message)


def _say(kind: str, style: str, message: str) -> None:
    message = escaping.printable(message)
    try:
        from rich.text import Text

        err().print(Text.assemble((kind, style), message))
    except Exception:  # rich may be what there is no memory for: what cannot be said in colour is said without
        sys.stderr.write(f"{kind}{message}\n")


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
    work; until it is done the bar has no end. Nothing is drawn where `console` is no terminal, whatever FORCE_COLOR is,
    nor on a terminal that cannot go back (TERM=dumb).
    """
    if not shown or not console.file.isatty() or console.is_dumb_terminal:
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
    from rich.text import Text

    pace = Pace()

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            left = f"  {pace.left(int(task.total))} left" if task.total and pace.rate else ""
            return Text(f"{pace.rate:,.3g}/s{left}" if pace.rate else "starting", "dim")

    with Progress(BarColumn(), MofNCompleteColumn(), Speed(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        if count is not None:
            threading.Thread(target=lambda: bar.update(task, total=count()), daemon=True).start()

        def advance(done: int) -> None:
            pace.update(done)
            bar.update(task, completed=done)

        yield advance


class Pace:
    """How fast pictures get done, told from those that were done lately.

    The rate is that between the first and the last point of WINDOW; where batches take longer, between the ends of two.
    What comes within MOMENT is one point, so that there are never many.
    """

    MOMENT, WINDOW = 0.1, 15.0  # seconds

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        now = clock()
        self.points = deque([(now, now, 0)])  # when a point began and ended, and how many were done then

    def update(self, done: int) -> None:
        """So many are done now."""
        now = self.clock()
        began = self.points[-1][0]
        if len(self.points) > 1 and now - began < self.MOMENT:
            self.points.pop()
        else:
            began = now
        self.points.append((began, now, done))
        while len(self.points) > 2 and now - self.points[1][1] > self.WINDOW:
            self.points.popleft()

    @property
    def rate(self) -> float:
        """Pictures a second; 0 before the first is done."""
        (_, first, before), (_, last, done) = self.points[0], self.points[-1]
        return (done - before) / (last - first) if last > first else 0.0

    def left(self, total: int) -> str:
        """The time that the rest of `total` will take: 0:06, 1:02:03."""
        seconds = round(max(0, total - self.points[-1][2]) / self.rate)
        minutes, hours = seconds // 60, seconds // 3600
        return f"{hours}:{minutes % 60:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


@contextlib.contextmanager
def doing(what: str, shown: bool = True) -> Iterator[None]:
    """A line on the terminal while something takes its time; it is gone afterwards. It waits for no import of rich."""
    if not shown or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    sys.stderr.write(f"\r{escaping.printable(what)} ...")
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
