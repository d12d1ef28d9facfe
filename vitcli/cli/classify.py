"""`vit classify`: pictures in, rows out."""

from __future__ import annotations

from typing import Annotated

import typer

from vitcli.cli import deciding, options, run


@options.grouped
def classify(
    network: options.Network,
    weights: options.LabelledWeights,
    inputs: options.Inputs,
    decoding: options.Decoding,
    answers: options.Answers,
    rows: options.Rows,
    pages: options.Pages,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Pictures, folders, archives, patterns, URLs; @FILE for a list of them, - for one on stdin.",
        ),
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Label pictures: the best classes for each, with their scores.

    \b
    vit classify cat.jpg --topk 3
    vit classify photos/ -o labels.jsonl
    vit classify photos/ -o labels.jsonl --resume
    vit classify photos/ -o labels.csv --html labels.html
    vit classify photos/ --format json | jq '.results[].top[0].label'
    vit classify photos/ --min-score 0.8 --rollup
    vit classify photos/ --only dog
    """
    from dataclasses import replace

    from vitcli import writers
    from vitcli.errors import UsageError

    kind = writers.writer_for(rows.format, rows.output)
    settings = replace(rows.options(), extra=answers.extra, show=pages.show)
    if not paths and not inputs.stdin_image:
        raise UsageError("Name at least one picture or folder, or - to read names from stdin.")
    if pages.html and settings.resume:
        raise UsageError("--html shows one whole run, and cannot be made of a part: leave out --resume, or --html.")
    calibration = [("the calibration", answers.calibration)] if answers.calibration else []
    run.apart(rows, (*run.named(paths or [], weights), *calibration), {"--html": pages.html})
    given = run.Given.of(paths or [], network.device, inputs)
    classifier = deciding.applied(answers, run.load(network, weights, rows, given, quiet), quiet)
    # bare records on stdout have no header, and hashing the weights for it would cost more than a picture does
    headed = rows.output or kind is writers.WRITERS["json"]
    header = {**classifier.header(), "decode": decoding.decode} if headed else {}
    classes = len(classifier.only.classes) if classifier.only else len(classifier.labels)
    settings = replace(settings, topk=min(settings.topk, classes))  # csv has columns for each
    page = None
    if pages.html:
        from vitcli.gallery import Gallery, titled

        page = Gallery(pages.html, titled(paths or ["stdin"], classifier.name), force=rows.force)
    run.run(
        classifier,
        given,
        lambda: writers.open_output(rows.output, rows.format, header, settings),
        network=network,
        decoding=decoding,
        rows=rows,
        quiet=quiet,
        verbose=verbose,
        page=page,
    )
