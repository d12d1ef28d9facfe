"""What commands that stream pictures share: counting, loading, signals, progress, the report, the exit status."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from vitcli.cli import console, options
from vitcli.cli.stopping import stopping

if TYPE_CHECKING:
    from vitcli.classifier import Classifier
    from vitcli.gallery import Gallery
    from vitcli.report import Report, Summary
    from vitcli.results import Result
    from vitcli.sources import Input, Passed
    from vitcli.streaming import Model, ReadAhead
    from vitcli.writers.base import Output

FEW = 8  # pictures that need no progress bar
SOON = 0.2  # seconds in which so few names have to be on stdin, and no more, to be counted
COUNTED = 32  # pictures that are counted first: numpy may be done with so many before torch could begin


class Receiver(Protocol):
    """What a run needs of where its rows go: an `Output`, or what stands before one."""

    @property
    def skipped(self) -> int:
        """Inputs that an earlier run answered."""

    def wanted(self, item: Input) -> bool:
        """Whether an input's answer is not there yet."""

    def write(self, result: Result) -> None:
        """Take one result."""

    def flush(self) -> None:
        """Bring every result taken so far to where a killed run leaves it."""

    def failures(self) -> Iterator[dict[str, Any]]:
        """The records of everything that is failed."""

    def __enter__(self) -> Receiver: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None: ...


@dataclass(frozen=True)
class Given:
    """What the user named, as far as it is known before any weights are read; `known` is how many, None for many."""

    inputs: list[Input] | ReadAhead[Input]
    known: int | None
    likely: int | None  # how many there are, as far as that decides what computes
    again: Callable[[], Iterator[Input]] | None  # lists them once more, to be counted; None where that cannot be
    passed: Passed  # what folders and archives hold besides, as far as they are listed

    @classmethod
    def of(cls, names: list[str], device: str, options: options.Inputs) -> Given:
        """The inputs of these names, for a network on `device`. Raises VitError where there is not one."""
        from vitcli import sources
        from vitcli.errors import VitError
        from vitcli.network import backend, hardware
        from vitcli.sources.counting import countable
        from vitcli.streaming import ReadAhead

        passed = sources.Passed()

        def inputs(passed: Passed | None = None) -> Iterator[Input]:
            return sources.inputs(
                names,
                recursive=options.recursive,
                hidden=options.hidden,
                follow_links=options.follow_links,
                exclude=options.excluding(),
                passed=passed,
                nul=options.null,
                stdin_image=options.stdin_image,
            )

        coming, here = ReadAhead(inputs(passed)), countable(names)
        card = device != "cpu" and hardware.accelerator_likely()  # compiling pays for a long run only
        counted = backend.WORTH_COMPILING if card and here else COUNTED
        likely = coming.count(counted, None if here else SOON)
        # of what may be slow to come (lists, servers) some is answered before the rest is there, unless there is little
        known = likely if here or (likely is not None and likely <= FEW) else None
        if known == 0:
            where = ", ".join("the list on stdin" if name == "-" else name for name in names)
            raise VitError(f"There are no pictures in {where}. {passed.sentence()}".rstrip())
        again = inputs if here and not options.stdin_image else None
        return cls(coming if known is None else list(coming.items), known, likely, again, passed)

    @property
    def few(self) -> int | None:
        """How many there are, where they are few."""
        return self.known if self.known is not None and self.known <= FEW else None


def apart(
    rows: options.Rows, read: Iterable[tuple[str, str | Path | int]], more: Mapping[str, Path | None] | None = None
) -> None:
    """See that what is written is not what is read, nor one file under two options. Raises as `places.check`.

    `more` are files that a command writes besides.
    """
    written = {"-o": rows.output, "--failures": rows.failures, "--summary-json": rows.summary_json, **(more or {})}
    if any(written.values()):  # else nothing has to be imported for it
        from vitcli.writers.places import Read, check

        used = [Read("the file behind stderr", 2, "writes messages to")]
        if rows.output is None:
            used.append(Read("the file behind stdout", 1, "writes rows to"))
        check(
            written,
            [*used, *(Read(*one) for one in read)],
            there=written if rows.force or rows.options().resume else ["-o"],
        )


def named(names: list[str], weights: options.LabelledWeights) -> Iterator[tuple[str, str | Path | int]]:
    """The files that a command reads, as far as they can be told from what the user named."""
    for name in names:
        if name == "-":
            yield "the list on stdin", 0
        else:
            yield f"the input {name}", name.removeprefix("@").split("!/")[0]
    if weights.labels:
        yield "the names of the classes", weights.labels


def run(
    classifier: Classifier,
    given: Given,
    open_rows: Callable[[], Output],
    *,
    network: options.Network,
    decoding: options.Decoding,
    rows: options.Rows,
    quiet: bool,
    verbose: bool,
    page: Gallery | None = None,
) -> None:
    """Answer every input, write the rows, say what was done. Exits with 130 when interrupted, 3 when an input failed.

    Raises VitError when there was none.
    """
    settle(
        answer(
            classifier, classifier, given, open_rows,
            network=network, decoding=decoding, rows=rows, quiet=quiet, verbose=verbose, page=page,
        )
    )  # fmt: skip


def answer(
    model: Model[Result],
    classifier: Classifier,
    given: Given,
    open_rows: Callable[[], Receiver],
    *,
    network: options.Network,
    decoding: options.Decoding,
    rows: options.Rows,
    quiet: bool,
    verbose: bool,
    page: Gallery | None = None,
) -> Report:
    """The same, without an end: `model` answers with the network of `classifier`, and what was done is returned.

    The outputs are opened once signals are handled. Rows that may be resumed, as `load` says, come of padded batches.
    """
    from vitcli.pictures.images import MAX_PIXELS, settle_pillow
    from vitcli.report import FailureLog, Report, Summary
    from vitcli.sources.counting import count
    from vitcli.streaming import Shown, stream
    from vitcli.writers.table import Table

    max_pixels, resumable = decoding.max_pixels or MAX_PIXELS, rows.output is not None
    settle_pillow(max_pixels)
    report, resume = Report(classifier.name, classifier.backend, passed=given.passed), rows.options().resume
    apart(rows, (("a file of the model", file) for file in classifier.checkpoint.read))
    with (
        telling(report, rows, quiet, verbose, Summary(rows.summary_json, force=rows.force, resume=resume)),
        stopping() as stop,
        page or contextlib.nullcontext(),
        open_rows() as out,
        FailureLog(rows.failures, out.failures, force=rows.force, resume=resume) as log,
    ):
        shows = [page.show] if page else []
        if isinstance(out, Table) and out.options.show:
            shows.append(out.show)
        where = out.console if isinstance(out, Table) and out.console.file.isatty() else console.err()
        again = given.again
        total = (lambda: count(again())) if again else None
        with console.progress(given.few is None and not quiet, where, total) as advance:
            for result in stream(
                Shown(model, *shows) if shows else model,
                given.inputs,
                batch=network.batch or (None if resumable else given.few),
                workers=decoding.threads,
                max_pixels=max_pixels,
                decode=decoding.decode,
                pad=resumable or given.known is None,
                meter=report.meter,
                wanted=out.wanted,
                on_shrink=lambda size: console.note(f"Out of memory: going on with {size} pictures at once."),
                on_idle=out.flush,
                stop=stop,
            ):
                with report.writing():
                    out.write(result)
                    log.write(result)
                    if page:
                        page.add(result)
                report.add(result)
                advance(report.done + out.skipped)
        report.skipped, report.interrupted = out.skipped, stop()
    return report


def settle(report: Report) -> None:
    """End as a run ended: with 130 when interrupted, 3 when an input failed. Raises VitError when there was none."""
    from vitcli.errors import VitError

    if report.interrupted:
        raise typer.Exit(130)
    if report.failed:
        raise typer.Exit(3)
    if not report.done and not report.skipped:
        raise VitError("No pictures were named.")


@contextlib.contextmanager
def telling(report: Report, rows: options.Rows, quiet: bool, verbose: bool, summary: Summary) -> Iterator[None]:
    """Say what a run did when it is over, also when it broke off. One picture that went well needs no words."""
    try:
        yield
    except (BrokenPipeError, SystemExit):  # whoever read the rows has seen enough, and is no longer interested
        quiet = True
        raise
    finally:
        report.end()
        if not quiet and (report.done > 1 or report.skipped or report.failed or report.interrupted or report.passed):
            console.say(" ".join(report.sentences(rows.output, rows.failures)))
        if verbose and report.done:
            console.say(report.details())
        summary.save(report)


def load(
    network: options.Network, weights: options.LabelledWeights, rows: options.Rows, given: Given, quiet: bool
) -> Classifier:
    """The classifier; weights that are not here are fetched when that was asked for, or agreed to at a terminal.

    Says what there is to know of it, unless `quiet`. Rows in a file may be resumed: their last digits must not depend
    on how many pictures there are, and so neither may the engine and whether the network is compiled.
    """
    import sys

    from vitcli import classifier, hub
    from vitcli.errors import NotDownloaded

    name, chosen = network.model, weights.given()
    resumable = rows.output is not None

    def loaded() -> Classifier:
        return classifier.load(
            name,
            device=network.device,
            dtype=network.dtype,
            engine=network.engine,
            pictures=None if resumable else given.likely,
            batch=network.batch,
            compile="off" if resumable and network.compile == "auto" else network.compile,
            topk=rows.topk,
            **chosen,
        )

    try:
        with console.doing(f"Loading {name}", not quiet):
            found = loaded()
    except NotDownloaded:
        at_terminal = sys.stdin.isatty() and sys.stderr.isatty()
        if not (network.download or (at_terminal and typer.confirm(download_question(name), err=True))):
            raise
        hub.download(name)
        found = loaded()
    rows.check_threshold(found.labels.activation)
    for warning in (*found.checkpoint.warnings, *found.backend.warnings) if not quiet else ():
        console.note(f"{warning}.")
    return found


def download_question(name: str) -> str:
    """What a download costs, where it goes and how long it stays."""
    from vitcli.hub import catalog, client

    model = catalog.find(name)
    # float32, as all of them are published
    size = f"about {model.parameters * 4 / 1e6:,.0f} MB, " if model and model.parameters else ""
    place = str(client.cache())
    home = str(Path.home())
    place = place.replace(home, "~", 1) if place.startswith(home) else place
    return f"{name} is not here yet. Download it ({size}to {place}, where it stays)?"
