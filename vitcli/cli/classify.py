"""`vit classify`: pictures in, rows out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitcli.cli import console, options

if TYPE_CHECKING:
    from vitcli.classifier import Classifier

FEW = 8  # pictures that need no progress bar


def classify(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Pictures, and folders of pictures.")],
    model: options.Model = options.DEFAULT_MODEL,
    topk: Annotated[int, typer.Option("--topk", "-k", min=1, help="How many labels for each picture.")] = 5,
    batch: options.Batch = 32,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    engine: options.Engine = "auto",
    format: Annotated[
        str | None, typer.Option("--format", "-f", metavar="table|json|jsonl", help="Default: by the ending of -o.")
    ] = None,
    output: options.Output = None,
    recursive: Annotated[bool, typer.Option(help="Go into the folders of a folder.")] = True,
    hidden: Annotated[bool, typer.Option("--hidden", help="Also names that begin with a dot.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that decode; default: one a processor.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing output file.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Fetch the weights first if they are not here.")] = False,
    preprocess: options.Preprocess = None,
    image_size: options.ImageSize = None,
    heads: options.Heads = None,
    pooling: options.Pooling = None,
    labels: options.Labels = None,
    quiet: options.Quiet = False,
) -> None:
    """Label pictures: the best classes for each, with their scores.

    \b
    vit classify cat.jpg --topk 3
    vit classify photos/ -o labels.jsonl
    vit classify photos/ --format json | jq '.results[].top[0].label'
    """
    from vitcli import sources, writers
    from vitcli.engine import stream
    from vitcli.results import Failure

    kind = writers.writer_for(format, output)  # a wrong format is said before any weights are read
    chosen = options.checkpoint(
        preprocess=preprocess, image_size=image_size, heads=heads, pooling=pooling, labels=labels
    )

    def inputs() -> Iterator[sources.Input]:
        return sources.inputs(paths, recursive=recursive, hidden=hidden)

    given = inputs()
    first = list(islice(given, FEW + 1))
    few = len(first) if len(first) <= FEW else None
    if not first:
        console.note(f"No pictures in {', '.join(paths)}.")
    classifier = load(model, device, dtype, engine, few, download, **chosen)
    failed = done = 0
    settings = writers.Options(topk=topk, force=force)
    # bare records on stdout have no header, and hashing the weights for it would cost more than a picture does
    header = classifier.header() if output or kind is writers.WRITERS["json"] else {}
    with writers.open_output(output, format, header, settings) as rows:
        where = rows.console if isinstance(rows, writers.Table) and rows.console.is_terminal else console.err()
        with console.progress(few is None and not quiet, where, lambda: sum(1 for _ in inputs())) as advance:
            for result in stream(classifier, rows.todo(chain(first, given)), batch=batch, topk=topk, workers=workers):
                rows.write(result)
                done, failed = done + 1, failed + isinstance(result, Failure)
                advance()
    if failed:
        if not quiet:
            console.note(f"{failed} of {done} inputs failed.")
        raise typer.Exit(3)


def load(
    model: str, device: str, dtype: str, engine: str, pictures: int | None, download: bool, **chosen: Any
) -> Classifier:
    """The classifier; weights that are not here are fetched when that was asked for, or agreed to at a terminal.

    `chosen` goes to `checkpoints.load`.
    """
    import sys

    from vitcli import classifier, hub
    from vitcli.errors import NotDownloaded

    def loaded() -> Classifier:
        return classifier.load(
            model, device=device, dtype=dtype, engine=options.engine(engine), pictures=pictures, **chosen
        )

    try:
        return loaded()
    except NotDownloaded:
        at_terminal = sys.stdin.isatty() and sys.stderr.isatty()
        if not download and not (at_terminal and typer.confirm(f"{model} is not here. Download it now?", err=True)):
            raise
    hub.download(model)
    return loaded()
