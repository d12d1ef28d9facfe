"""`vit classify`: pictures in, rows out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitcli.cli import console, options
from vitcli.cli.stopping import stopping

if TYPE_CHECKING:
    from vitcli.classifier import Classifier
    from vitcli.report import Report
    from vitcli.sources import Input

FEW = 8  # pictures that need no progress bar
COUNTED = 32  # pictures that are counted first: numpy may be done with so many before torch could begin


def classify(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Pictures, folders, archives, patterns, URLs; @FILE for a list of them, - for one on stdin.",
        ),
    ] = None,
    model: options.Model = options.DEFAULT_MODEL,
    batch: options.AutoBatch = None,
    workers: options.Workers = "auto",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    engine: options.Engine = "auto",
    compile: options.Compile = "auto",
    output: options.Output = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the weights first if they are not here.")] = False,
    preprocess: options.Preprocess = None,
    image_size: options.ImageSize = None,
    heads: options.Heads = None,
    pooling: options.Pooling = None,
    labels: options.Labels = None,
    quiet: options.Quiet = False,
    recursive: options.Recursive = True,
    hidden: options.Hidden = False,
    follow_links: options.FollowLinks = False,
    null: options.Null = False,
    stdin_image: options.StdinImage = False,
    decode: options.Decode = "exact",
    max_pixels: options.MaxPixels = None,
    format: options.RowFormat = None,
    topk: options.Topk = 5,
    threshold: options.Threshold = None,
    fields: options.Fields = None,
    long: options.Long = False,
    resume: options.Resume = False,
    retry_failed: options.RetryFailed = False,
    by_content: options.ByContent = False,
    force: options.Force = False,
    failures: options.Failures = None,
    summary_json: options.SummaryJson = None,
) -> None:
    """Label pictures: the best classes for each, with their scores.

    \b
    vit classify cat.jpg --topk 3
    vit classify photos/ -o labels.jsonl
    vit classify photos/ -o labels.jsonl --resume
    vit classify photos/ --format json | jq '.results[].top[0].label'
    """
    from vitcli import sources, writers
    from vitcli.errors import UsageError
    from vitcli.network import backend, hardware
    from vitcli.pictures.images import MAX_PIXELS
    from vitcli.report import FailureLog, Report
    from vitcli.sources.counting import count, countable
    from vitcli.streaming import stream
    from vitcli.writers.table import Table

    kind = writers.writer_for(format, output)  # a wrong setting is said before any weights are read
    names = paths or []
    if not names and not stdin_image:
        raise UsageError("Name at least one picture or folder, or - to read names from stdin.")
    threads, largest = options.workers(workers), max_pixels or MAX_PIXELS
    settings = writers.Options(
        topk=topk, threshold=threshold, fields=tuple(fields.split(",")) if fields else (), long=long, force=force,
        resume=resume or retry_failed, retry_failed=retry_failed, by_content=by_content,
    )  # fmt: skip
    chosen = options.checkpoint(
        preprocess=preprocess, image_size=image_size, heads=heads, pooling=pooling, labels=labels
    ) | {"compile": compile, "batch": batch, "repeatable": output is not None}

    def inputs() -> Iterator[Input]:
        return sources.inputs(
            names, recursive=recursive, hidden=hidden, follow_links=follow_links, nul=null, stdin_image=stdin_image
        )

    given = inputs()
    card = device != "cpu" and hardware.accelerator_likely()  # compiling pays for a long run only
    counted = (backend.WORTH_COMPILING if card else COUNTED) if countable(names) else FEW  # stdin may be slow
    first = list(islice(given, counted + 1))
    known = len(first) if len(first) <= counted else None
    few = known if known is not None and known <= FEW else None
    if not first:
        console.note(f"No pictures in {', '.join(names)}.")
    classifier = load(model, device, dtype, engine, known, download, **chosen)
    for warning in (*classifier.checkpoint.warnings, *classifier.backend.warnings) if not quiet else ():
        console.note(f"{warning}.")
    # bare records on stdout have no header, and hashing the weights for it would cost more than a picture does
    header = classifier.header() if output or kind is writers.WRITERS["json"] else {}
    report = Report(classifier)
    with (
        telling(report, quiet, summary_json),
        stopping() as stop,
        writers.open_output(output, format, header, settings) as rows,
        FailureLog(failures, force=force, append=settings.resume) as log,
    ):
        where = rows.console if isinstance(rows, Table) and rows.console.is_terminal else console.err()
        total = (lambda: count(inputs())) if not stdin_image and countable(names) else None
        with console.progress(few is None and not quiet, where, total) as advance:
            for result in stream(
                classifier,
                rows.todo(stop.inputs(chain(first, given))),
                batch=batch or (None if output else few),  # what can be resumed must not go by how many there are
                topk=topk,
                workers=threads,
                max_pixels=largest,
                decode=decode,
                # a run that can be resumed gives every picture the same scores, whatever was done before
                pad=output is not None,
                meter=report.meter,
                smaller=lambda size: console.note(f"Out of memory: going on with {size} pictures at once."),
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


def load(
    model: str, device: str, dtype: str, engine: options.Engine, pictures: int | None, download: bool, **chosen: Any
) -> Classifier:
    """The classifier; weights that are not here are fetched when that was asked for, or agreed to at a terminal.

    `chosen` goes to `classifier.load`.
    """
    import sys

    from vitcli import classifier, hub
    from vitcli.errors import NotDownloaded

    def loaded() -> Classifier:
        return classifier.load(model, device=device, dtype=dtype, engine=engine, pictures=pictures, **chosen)

    try:
        return loaded()
    except NotDownloaded:
        at_terminal = sys.stdin.isatty() and sys.stderr.isatty()
        if not download and not (at_terminal and typer.confirm(f"{model} is not here. Download it now?", err=True)):
            raise
    hub.download(model)
    return loaded()
