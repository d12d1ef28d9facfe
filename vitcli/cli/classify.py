"""`vit classify`: pictures in, rows out."""

from __future__ import annotations

from typing import Annotated

import typer

from vitcli.cli import options, run


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
    from vitcli import writers
    from vitcli.errors import UsageError
    from vitcli.pictures.images import MAX_PIXELS
    from vitcli.report import FailureLog

    kind = writers.writer_for(format, output)  # a wrong setting is said before any weights are read
    if not paths and not stdin_image:
        raise UsageError("Name at least one picture or folder, or - to read names from stdin.")
    settings = writers.Options(
        topk=topk, threshold=threshold, fields=tuple(fields.split(",")) if fields else (), long=long, force=force,
        resume=resume or retry_failed, retry_failed=retry_failed, by_content=by_content,
    )  # fmt: skip
    threads, largest = options.workers(workers), max_pixels or MAX_PIXELS
    chosen = options.checkpoint(
        preprocess=preprocess, image_size=image_size, heads=heads, pooling=pooling, labels=labels
    )
    given = run.Given.of(
        paths or [], device, recursive=recursive, hidden=hidden, follow_links=follow_links, nul=null,
        stdin_image=stdin_image,
    )  # fmt: skip
    known, few = given.known, given.few
    # what can be resumed must not go by how many there are: last digits depend on the engine and the kernels
    if output:
        known, few, compile = None, None, "off" if compile == "auto" else compile
    classifier = run.load(
        model, download, quiet, device=device, dtype=dtype, engine=engine, pictures=known, batch=batch, topk=topk,
        compile=compile, **chosen,
    )  # fmt: skip
    # bare records on stdout have no header, and hashing the weights for it would cost more than a picture does
    header = classifier.header() if output or kind is writers.WRITERS["json"] else {}
    run.run(
        classifier, given,
        lambda: writers.open_output(output, format, header, settings),
        lambda: FailureLog(failures, force=force, append=settings.resume),
        batch=batch or few, workers=threads, max_pixels=largest, decode=decode, pad=known is None, quiet=quiet,
        summary_json=summary_json,
    )  # fmt: skip
