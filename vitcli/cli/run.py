"""What commands that stream pictures share: counting, loading, signals, progress, the report, the exit status."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from vitcli.cli import console
from vitcli.cli.stopping import stopping

if TYPE_CHECKING:
    from vitcli.classifier import Classifier
    from vitcli.report import FailureLog, Report
    from vitcli.sources import Input
    from vitcli.streaming import ReadAhead
    from vitcli.writers.base import Output

FEW = 8  # pictures that need no progress bar
SOON = 0.2  # seconds in which so few names have to be on stdin, and no more, to be counted
COUNTED = 32  # pictures that are counted first: numpy may be done with so many before torch could begin


@dataclass(frozen=True)
class Given:
    """What the user named, as far as it is known before any weights are read; `known` is how many, None for many."""

    inputs: list[Input] | ReadAhead[Input]
    known: int | None
    again: Callable[[], Iterator[Input]] | None  # lists them once more, to be counted; None where that cannot be

    @classmethod
    def of(cls, names: list[str], device: str, *, stdin_image: bool, **walk: Any) -> Given:
        """`walk` and `stdin_image` are those of `sources.inputs`."""
        from vitcli import sources
        from vitcli.network import backend, hardware
        from vitcli.sources.counting import countable
        from vitcli.streaming import ReadAhead

        def inputs() -> Iterator[Input]:
            return sources.inputs(names, stdin_image=stdin_image, **walk)

        coming, here = ReadAhead(inputs()), countable(names)
        card = device != "cpu" and hardware.accelerator_likely()  # compiling pays for a long run only
        counted = (backend.WORTH_COMPILING if card else COUNTED) if here else FEW
        known = coming.count(counted, None if here else SOON)
        if known == 0:
            console.note(f"No pictures in {', '.join(names)}.")
        return cls(coming if known is None else list(coming.items), known, inputs if here and not stdin_image else None)

    @property
    def few(self) -> int | None:
        """How many there are, where they are few."""
        return self.known if self.known is not None and self.known <= FEW else None


def run(
    classifier: Classifier,
    given: Given,
    open_rows: Callable[[], Output],
    open_log: Callable[[], FailureLog],
    *,
    batch: int | None,
    workers: int | None,
    max_pixels: int,
    decode: Literal["exact", "fast"],
    pad: bool,
    quiet: bool,
    summary_json: Path | None,
) -> None:
    """Answer every input, write the rows, say what was done. Exits with 130 when interrupted, 3 when an input failed.

    The outputs are opened once signals are handled; the rest goes to `stream`.
    """
    from vitcli.pictures.images import settle_pillow
    from vitcli.report import Report
    from vitcli.sources.counting import count
    from vitcli.streaming import stream
    from vitcli.writers.table import Table

    settle_pillow(max_pixels)
    report = Report(classifier.name, classifier.backend)
    with (
        telling(report, quiet, summary_json),
        stopping() as stop,
        open_rows() as rows,
        open_log() as log,
    ):
        where = rows.console if isinstance(rows, Table) and rows.console.is_terminal else console.err()
        again = given.again
        total = (lambda: count(again())) if again else None
        with console.progress(given.few is None and not quiet, where, total) as advance:
            for result in stream(
                classifier,
                given.inputs,
                batch=batch,
                workers=workers,
                max_pixels=max_pixels,
                decode=decode,
                pad=pad,
                meter=report.meter,
                wanted=rows.wanted,
                on_shrink=lambda size: console.note(f"Out of memory: going on with {size} pictures at once."),
                on_idle=rows.flush,
                stop=stop,
            ):
                with report.writing():
                    rows.write(result)
                    log.write(result)
                report.add(result)
                advance(report.done + rows.skipped)
        report.skipped, report.interrupted = rows.skipped, stop()
    if report.interrupted:
        raise typer.Exit(130)
    if report.failed:
        raise typer.Exit(3)


@contextlib.contextmanager
def telling(report: Report, quiet: bool, file: Path | None) -> Iterator[None]:
    """Say what a run did when it is over, also when it broke off. One picture that went well needs no words."""
    try:
        yield
    except BrokenPipeError:  # whoever read the rows has seen enough, and is no longer interested
        quiet = True
        raise
    finally:
        report.end()
        if not quiet and (report.done > 1 or report.skipped or report.failed or report.interrupted):
            for line in report.lines():
                console.say(line)
        if file is not None:
            report.save(file)


def load(model: str, download: bool, quiet: bool, **chosen: Any) -> Classifier:
    """The classifier; weights that are not here are fetched when that was asked for, or agreed to at a terminal.

    Says what there is to know of it, unless `quiet`. `chosen` goes to `classifier.load`.
    """
    import sys

    from vitcli import classifier, hub
    from vitcli.errors import NotDownloaded

    try:
        loaded = classifier.load(model, **chosen)
    except NotDownloaded:
        at_terminal = sys.stdin.isatty() and sys.stderr.isatty()
        if not download and not (at_terminal and typer.confirm(f"{model} is not here. Download it now?", err=True)):
            raise
        hub.download(model)
        loaded = classifier.load(model, **chosen)
    for warning in (*loaded.checkpoint.warnings, *loaded.backend.warnings) if not quiet else ():
        console.note(f"{warning}.")
    return loaded
